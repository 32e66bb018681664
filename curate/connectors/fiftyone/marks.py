"""What findings put on a sample: labels of their own, tags, scores, and the groups of copies and slices they tell of.

Each finding is a label, so that a tag on it decides on it alone: a box where it has a place, else a label of the whole image.
Its kind and status are a tag on the sample, and on the annotation that it is about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from curate.checks.findings import SETTLED, Finding
from curate.checks.graph import components
from curate.connectors.fiftyone.labels import MARK, Document, Size

COPIES: Final = ("exact_duplicate", "near_duplicate")
"""Kinds of findings that put images into groups of copies."""

_PREFIXES: Final = {
    "open": "finding",
    "queued": "finding",
    "confirmed": "confirmed",
    "rejected": "rejected",
    "fixed": "fixed",
}
RESERVED: Final = tuple(f"{prefix}:" for prefix in sorted(set(_PREFIXES.values())))
"""How tags begin that only findings put on samples and labels."""


@dataclass
class Marks:
    """What the findings on one image put on its sample."""

    findings: list[Finding] = field(default_factory=list)
    copies: str | None = None

    @property
    def tags(self) -> list[str]:
        """Tags of the sample, sorted."""
        return sorted({tag_of(finding) for finding in self.findings})

    def tags_of(self, annotation_id: str) -> list[str]:
        """Tags of an annotation's label, sorted."""
        return sorted({tag_of(finding) for finding in self.findings if finding.annotation_id == annotation_id})

    @property
    def scores(self) -> dict[str, float]:
        """The highest score of each kind that is not settled."""
        scores: dict[str, float] = {}
        for finding in self.findings:
            if finding.status not in SETTLED:
                scores[finding.kind] = max(finding.score, scores.get(finding.kind, 0.0))
        return scores

    @property
    def why(self) -> str | None:
        """Why the surest of them that is not settled was found."""
        waiting = [finding for finding in self.findings if finding.status not in SETTLED]
        best = max(waiting, key=lambda finding: finding.score, default=None)
        return None if best is None else f"{best.kind}: {best.evidence.get('why', '')}".rstrip(": ")


def tag_of(finding: Finding) -> str:
    """The tag that says that a finding is on something, and what became of it."""
    return f"{_PREFIXES[finding.status]}:{finding.kind}"


def label_tags(status: str) -> list[str]:
    """The tags of a finding's own label."""
    return [] if status == "open" else [status]


def marks_of(findings: Iterable[Finding]) -> dict[str, Marks]:
    """Findings, gathered by image; images in groups of copies also without a finding of their own."""
    marks: dict[str, Marks] = {}
    found = list(findings)
    for finding in found:
        marks.setdefault(finding.image_id, Marks()).findings.append(finding)
    for image_id, group in _groups_of_copies(found).items():
        marks.setdefault(image_id, Marks()).copies = group
    return marks


def finding_labels(
    marks: Marks, size: Size | None, boxes: Mapping[str, Sequence[float] | None], make_id: Callable[[str], Any]
) -> tuple[list[Document], list[Document]]:
    """The findings on an image as labels: those with a place, and those on the whole image.

    Args:
        marks: The image's.
        size: Its width and height; None where they are not known.
        boxes: Boxes of its annotations by id.
        make_id: Makes the database's id from 24 hexadecimal digits.
    """
    placed, whole = [], []
    for finding in sorted(marks.findings, key=lambda each: (-each.score, each.id)):
        label = _label(finding, make_id)
        box = finding.bbox or boxes.get(finding.annotation_id or "")
        if box is None or size is None:
            whole.append({**label, "_cls": "Classification"})
            continue
        width, height = size
        relative = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
        placed.append({**label, "_cls": "Detection", "attributes": {}, "bounding_box": relative})
    return placed, whole


def _label(finding: Finding, make_id: Callable[[str], Any]) -> Document:
    return {
        "_id": make_id(MARK + finding.id),
        "tags": label_tags(finding.status),
        "label": finding.kind,
        "confidence": finding.score,
        "status": finding.status,
        "given": finding.given,
        "suggested": finding.suggested,
        "why": finding.evidence.get("why"),
        "check": finding.check,
        "related": [related.image for related in finding.related],
        "evidence": json.dumps(finding.evidence, ensure_ascii=False),
    }


def _groups_of_copies(findings: Sequence[Finding]) -> dict[str, str]:
    """Images that are copies of one another: the location of the first of each group, by image."""
    pairs = [
        (finding, related)
        for finding in findings
        if finding.kind in COPIES and finding.status != "rejected" and not finding.evidence.get("repetitive")
        for related in finding.related
    ]
    locations = {related.image_id: related.image for _, related in pairs}
    locations |= {finding.image_id: finding.image for finding, _ in pairs}
    ids = sorted(locations, key=lambda each: locations[each])
    row = {each: number for number, each in enumerate(ids)}
    first = np.array([row[finding.image_id] for finding, _ in pairs], dtype=np.int64)
    second = np.array([row[related.image_id] for _, related in pairs], dtype=np.int64)
    groups = components(first, second, len(ids)).tolist() if ids else []
    names: dict[int, str] = {}
    for image_id, group in zip(ids, groups, strict=True):
        names.setdefault(group, locations[image_id])
    return {image_id: names[group] for image_id, group in zip(ids, groups, strict=True)}
