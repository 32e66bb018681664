"""What became of a finding that annotators were asked about: fixed, rejected, or still waiting."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from curate.checks.findings import VERDICT, Finding
from curate.connectors.base import Item, Row
from curate.connectors.sync.content import digest, iou
from curate.connectors.sync.links import FindingLink

_OVERLAPS: Final = 0.3


def about(finding: Finding, rows: Mapping[str, Row]) -> str:
    """Digest of what a finding is about, among the rows of its image: its annotation, what is at its place, or all."""
    ids = [finding.annotation_id] if finding.annotation_id else _at_place(finding.bbox, rows)
    texts = sorted(digest(rows[each]) for each in ids if each in rows)
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=9).hexdigest()


def verdict(finding: Finding, link: FindingLink, item: Item, rows: Mapping[str, Row], remote: str) -> Finding:
    """The finding as it is now; unchanged if nobody has handed in work on it.

    Args:
        finding: As it is in the dataset.
        link: What it was about when it was pushed.
        item: The item on the server.
        rows: The ground truth of its image, as merged.
        remote: Address of the project, for the evidence.
    """
    if finding.status not in ("open", "queued", "confirmed"):
        return finding
    if about(finding, rows) != link.about:
        how = "changed as suggested" if _as_suggested(finding, rows) else "changed otherwise"
        return _closed(finding, "fixed", how, remote)
    if finding.id in item.resolved or (item.work and item.work != link.work):
        return _closed(finding, "rejected", "looked at, and left as it was", remote)
    return finding


def _closed(finding: Finding, status: Any, how: str, remote: str) -> Finding:
    return replace(finding, status=status, evidence={**finding.evidence, VERDICT: {"how": how, "by": remote}})


def _as_suggested(finding: Finding, rows: Mapping[str, Row]) -> bool:
    """Whether the change is what the finding asked for."""
    if finding.kind == "spurious":
        return finding.annotation_id not in rows
    if finding.suggested is None:
        return False
    ids = [finding.annotation_id] if finding.annotation_id else _at_place(finding.bbox, rows)
    return any(rows[each].get("label") == finding.suggested for each in ids if each in rows)


def _at_place(bbox: Sequence[float] | None, rows: Mapping[str, Row]) -> list[str]:
    """Ids of the rows that overlap a box; all if there is no box."""
    if bbox is None:
        return list(rows)
    return [key for key, row in rows.items() if row.get("bbox") is not None and iou(bbox, row["bbox"]) >= _OVERLAPS]
