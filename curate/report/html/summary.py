"""The numbers of a dataset and of all its findings, as a page shows them: counted in columns, whatever their number."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import FLAGGED, STATUSES
from curate.dataset import Dataset
from curate.dataset.query import in_layer
from curate.names import GROUND_TRUTH

NO_CLASS: Final = "(none)"


def count_findings(findings: pa.Table) -> list[dict[str, Any]]:
    """One row for each check and kind: how many are flagged, expected to be right, and of which status.

    Args:
        findings: Columns kind, check, score and status.

    Returns:
        JSON-ready; first what most are expected to be right of.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    flagged = pc.greater_equal(findings["score"], FLAGGED)
    counted = findings.append_column("flagged", pc.cast(flagged, pa.int64()))
    grouped = counted.group_by(["check", "kind", "status"]).aggregate(
        [("score", "sum"), ("score", "max"), ("flagged", "sum"), ([], "count_all")]
    )
    for part in grouped.to_pylist():
        row = rows.setdefault(
            (part["check"], part["kind"]),
            {"check": part["check"], "kind": part["kind"], "all": 0, "flagged": 0, "expected": 0.0, "highest": 0.0}
            | dict.fromkeys(STATUSES, 0),
        )
        row["all"] += part["count_all"]
        row["flagged"] += part["flagged_sum"]
        row["expected"] += part["score_sum"]
        row["highest"] = max(row["highest"], part["score_max"])
        row[part["status"]] += part["count_all"]
    for row in rows.values():
        row["expected"], row["highest"] = round(row["expected"], 1), round(row["highest"], 4)
    return sorted(rows.values(), key=lambda row: (-row["expected"], row["kind"]))


def count_classes(dataset: Dataset, findings: pa.Table, splits: pa.Table) -> list[dict[str, Any]]:
    """One row for each class: objects in all and in each split, and findings on labels of that class.

    Args:
        dataset: The dataset.
        findings: Columns given, score and annotation_id.
        splits: Columns image_id and split of all images.

    Returns:
        JSON-ready; the class of most objects first.
    """
    split_of = splits["split"].combine_chunks()
    parts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    ids = splits["image_id"].combine_chunks()
    for batch in dataset.scan("annotations", columns=["image_id", "label"], where=in_layer(GROUND_TRUTH)):
        split = split_of.take(pc.index_in(batch["image_id"], value_set=ids))
        table = pa.table({"label": batch["label"], "split": split})
        for row in table.group_by(["label", "split"]).aggregate([([], "count_all")]).to_pylist():
            parts[row["label"] or NO_CLASS][row["split"] or NO_CLASS] += row["count_all"]
    listed = [info["name"] for info in dataset.commit.classes]
    on_labels = findings.filter(pc.is_valid(findings["annotation_id"]))
    expected = _sums(on_labels["given"], on_labels["score"])
    flagged = on_labels.filter(pc.greater_equal(on_labels["score"], FLAGGED))
    counts = _sums(flagged["given"], pc.cast(pc.is_valid(flagged["given"]), pa.float64()))
    rows = [
        {
            "class": name,
            "objects": sum(parts[name].values()),
            "splits": dict(parts[name]),
            "flagged": int(counts.get(name, 0)),
            "expected": round(expected.get(name, 0.0), 1),
        }
        for name in dict.fromkeys([*listed, *parts])
    ]
    return sorted(rows, key=lambda row: (-row["objects"], row["class"]))


def count_confusions(findings: pa.Table) -> list[dict[str, Any]]:
    """One row for each pair of classes that are taken for one another: given, probably, flagged, expected to be wrong.

    Args:
        findings: Columns kind, given, suggested and score.

    Returns:
        JSON-ready; first the pair of which most are expected to be wrong.
    """
    chosen = findings.filter(
        pc.and_(pc.equal(findings["kind"], "mislabeled"), pc.and_(*(pc.is_valid(findings[n]) for n in _PAIR)))
    )
    flagged = pc.cast(pc.greater_equal(chosen["score"], FLAGGED), pa.int64())
    grouped = chosen.append_column("flagged", flagged).group_by(list(_PAIR))
    rows = grouped.aggregate([("score", "sum"), ("flagged", "sum")]).to_pylist()
    return sorted(
        (
            {
                "given": row["given"],
                "probably": row["suggested"],
                "flagged": row["flagged_sum"],
                "expected": round(row["score_sum"], 1),
            }
            for row in rows
        ),
        key=lambda row: (-row["expected"], row["given"], row["probably"]),
    )


def count_splits(splits: pa.Table) -> dict[str, int]:
    """Images of each split, most first."""
    counts = pc.value_counts(splits["split"]).to_pylist()
    return {
        each["values"] or NO_CLASS: each["counts"]
        for each in sorted(counts, key=lambda each: (-each["counts"], str(each["values"])))
    }


_PAIR: Final = ("given", "suggested")


def _sums(keys: pa.ChunkedArray, values: pa.ChunkedArray) -> dict[str, float]:
    """Sums of values by key; rows without a key are left out."""
    table = pa.table({"key": keys, "value": values}).filter(pc.is_valid(keys))
    grouped = table.group_by("key").aggregate([("value", "sum")])
    return dict(zip(grouped["key"].to_pylist(), np.asarray(grouped["value_sum"]).tolist(), strict=True))
