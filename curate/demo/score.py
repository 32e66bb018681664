"""How well findings match what was planted: per kind, by rank and by the flagged set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.checks.findings import FLAGGED, Finding
from curate.demo.faults import Fault, Truth
from curate.demo.pictures import iou

SAME_BOX: Final = 0.5
"""Overlap from which a suggested box is the missing one."""

IMAGES: Final = "images/"
"""Folder of the truth's files that locations in the dataset are relative to."""


@dataclass(frozen=True)
class KindScore:
    """One kind of fault against what was found.

    Attributes:
        kind: As of findings.
        planted: How many were planted.
        flagged: How many findings have a probability of at least 0.5.
        right: How many of those are right.
        first: Of the findings ranked first, as many as were planted, how many are right.
        average_precision: Area under precision over recall, all findings in order; a fault that is not found counts as 0.
    """

    kind: str
    planted: int
    flagged: int
    right: int
    first: int
    average_precision: float

    @property
    def f1(self) -> float:
        """Harmonic mean of the flagged set's precision and recall."""
        return 2 * self.right / (self.flagged + self.planted) if self.flagged + self.planted else 1.0


def score_findings(findings: Sequence[Finding], truth: Truth, kinds: Sequence[str]) -> list[KindScore]:
    """Compare findings with the truth, kind by kind; kinds of which nothing was planted are left out."""
    return [score_kind(findings, truth, kind) for kind in kinds if truth.of_kind(kind)]


def score_kind(findings: Sequence[Finding], truth: Truth, kind: str) -> KindScore:
    """Compare the findings of one kind with the faults of that kind.

    A fault is found once: a second finding of it is neither right nor wrong, and is passed over.
    """
    match = _missing_matcher(truth) if kind == "missing" else _annotation_matcher(truth, kind)
    ranked = sorted((finding for finding in findings if finding.kind == kind), key=lambda finding: -finding.score)
    seen: set[int] = set()
    hits, scores = [], []
    for finding in ranked:
        fault = match(finding)
        if fault is None or id(fault) not in seen:
            hits.append(fault is not None)
            scores.append(finding.score)
        if fault is not None:
            seen.add(id(fault))
    planted = len(truth.of_kind(kind))
    flagged = int(sum(score >= FLAGGED for score in scores))
    right = int(sum(hits[:flagged]))
    return KindScore(kind, planted, flagged, right, int(sum(hits[:planted])), average_precision(hits, planted))


def average_precision(hits: Sequence[bool], total: int) -> float:
    """Mean, over `total` things to be found, of the precision at the rank of each; 0 for those not found.

    Args:
        hits: Whether each of the ranked findings is right.
        total: How many there are to be found.
    """
    right = np.asarray(hits, dtype=float)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float((precision * right).sum() / total) if total else 1.0


def _annotation_matcher(truth: Truth, kind: str) -> Callable[[Finding], Fault | None]:
    wrong = truth.wrong_annotations(kind)

    def match(finding: Finding) -> Fault | None:
        if finding.source_annotation_id is None:
            return None
        return wrong.get((_file(finding), int(finding.source_annotation_id)))

    return match


def _missing_matcher(truth: Truth) -> Callable[[Finding], Fault | None]:
    by_image: dict[str, list[Fault]] = {}
    for fault in truth.of_kind("missing"):
        by_image.setdefault(fault.image, []).append(fault)

    def match(finding: Finding) -> Fault | None:
        if finding.bbox is None:
            return None
        x, y, w, h = finding.bbox
        for fault in by_image.get(_file(finding), []):
            if fault.bbox is not None and iou(fault.bbox, [(x, y, w, h)])[0] >= SAME_BOX:
                return fault
        return None

    return match


def _file(finding: Finding) -> str:
    return finding.image if finding.image.startswith(IMAGES) else IMAGES + finding.image
