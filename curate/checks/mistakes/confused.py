"""Which classes the labels confuse, by the findings of `curate mistakes`."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import FLAGGED, SETTLED

_PAIR: Final = ("given", "suggested")


def confused_classes(findings: pa.Table) -> list[dict[str, Any]]:
    """Pairs of classes by how many labels of the one are flagged, and expected, to be the other; the most first.

    A finding that is settled does not count: rejected, the label is right; fixed, it is right by now.

    Args:
        findings: Of any kind; columns kind, given, suggested, score and status.

    Returns:
        JSON-ready rows: given, probably, flagged, expected_wrong.
    """
    chosen = findings.select(["kind", "status", "score", *_PAIR]).filter(
        (pc.field("kind") == "mislabeled")
        & ~pc.field("status").isin(sorted(SETTLED))
        & pc.field("given").is_valid()
        & pc.field("suggested").is_valid()
    )
    flagged = pc.cast(pc.greater_equal(chosen["score"], FLAGGED), pa.int64())
    grouped = chosen.append_column("flagged", flagged).group_by(list(_PAIR))
    rows = [
        {
            "given": row["given"],
            "probably": row["suggested"],
            "flagged": row["flagged_sum"],
            "expected_wrong": round(row["score_sum"], 1),
        }
        for row in grouped.aggregate([("flagged", "sum"), ("score", "sum")]).to_pylist()
    ]
    return sorted(rows, key=lambda row: (-row["flagged"], -row["expected_wrong"], row["given"], row["probably"]))
