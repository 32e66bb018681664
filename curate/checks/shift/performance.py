"""How well a model does on every image, and on any part of the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.checks.findings import FLAGGED, SETTLED, Finding
from curate.checks.labels import Labels
from curate.checks.mistakes.matching import assign, overlapping_pairs

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MIN_IOU: Final = 0.5
"""Boxes that overlap less are not of the same thing."""

_MISTAKES: Final = frozenset({"mislabeled", "missing", "spurious", "mislocated", "bad_mask"})


@dataclass(frozen=True)
class Performance:
    """A detector's boxes against the labels.

    Attributes:
        errors: 1 - F1 of every image at the confidence that is best for the whole set; NaN where it has not been; (m,).
        image: Image of every predicted box, int64 of shape (p,).
        label: Its class.
        score: Its confidence.
        hit: Whether it is a right one.
        truth_image: Image of every true box, shape (t,).
        truth_label: Its class.
    """

    errors: FloatArray
    image: IntArray
    label: IntArray
    score: FloatArray
    hit: BoolArray
    truth_image: IntArray
    truth_label: IntArray

    def average_precision(self, chosen: BoolArray) -> float | None:
        """Mean over classes of the average precision at IoU 0.5, on the chosen images (shape (m,)); None without truth."""
        chosen = chosen & np.isfinite(self.errors)
        truth = self.truth_label[chosen[self.truth_image]]
        rows = np.flatnonzero(chosen[self.image])
        rows = rows[np.argsort(-self.score[rows], kind="stable")]
        found = [
            _area(self.hit[rows][self.label[rows] == label], int(np.sum(truth == label))) for label in np.unique(truth)
        ]
        return float(np.mean(found)) if found else None


def detector_performance(labels: Labels, model: Labels) -> Performance | None:
    """Compare a model's boxes with the labels; None if either has none, or the model's have no confidence."""
    truth, predicted = labels.boxes(), model.boxes()
    if not len(truth) or not len(predicted) or predicted.score is None:
        return None
    truth, predicted = truth.take(truth.usable), predicted.take(predicted.usable)
    score = np.asarray(predicted.score)
    pairs = overlapping_pairs(predicted, truth, min_iou=MIN_IOU)
    pairs = pairs.take(predicted.label[pairs.first] == truth.label[pairs.second])
    taken = pairs.take(assign(pairs, score[pairs.first] + 1e-3 * pairs.iou))
    hit = np.zeros(len(predicted), dtype=bool)
    hit[taken.first] = True
    m = labels.images.num_rows
    kept = score >= _best_confidence(score, hit, len(truth))
    right = np.bincount(predicted.image[kept & hit], minlength=m)
    wrong = np.bincount(predicted.image[kept & ~hit], minlength=m)
    there = np.bincount(truth.image, minlength=m)
    errors = np.full(m, np.nan)
    seen = labels.covered_by(model)
    errors[seen] = 1 - (2 * right / np.maximum(right + wrong + there, 1))[seen]
    errors[seen] = np.where((there + right + wrong)[seen] > 0, errors[seen], 0.0)
    return Performance(errors, predicted.image, predicted.label, score, hit, truth.image, truth.label)


def classifier_errors(labels: Labels, model: Labels) -> FloatArray | None:
    """1 where a model's label of a whole image is not the given one, NaN where either has none; None if nowhere."""
    given, predicted = (_image_label(each) for each in (labels, model))
    both = (given >= 0) & (predicted >= 0)
    if not both.any():
        return None
    return np.where(both, (given != predicted).astype(np.float64), np.nan)


def label_errors(image_ids: Sequence[str], findings: Sequence[Finding]) -> FloatArray | None:
    """1 for images with a wrong label that is flagged and not rejected, else 0; None if there are no such findings."""
    wrong = {
        finding.image_id
        for finding in findings
        if finding.kind in _MISTAKES
        and (finding.status == "confirmed" or finding.score >= FLAGGED)
        and finding.status not in SETTLED
    }
    return np.array([image in wrong for image in image_ids], dtype=np.float64) if wrong else None


def _image_label(labels: Labels) -> IntArray:
    out = np.full(labels.images.num_rows, -1, np.int64)
    out[labels.image[labels.whole_image]] = labels.label[labels.whole_image]
    return out


def _best_confidence(score: FloatArray, hit: BoolArray, truth: int) -> float:
    order = np.argsort(-score, kind="stable")
    right = np.cumsum(hit[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + truth)
    return float(score[order][int(np.argmax(f1))])


def _area(hit: BoolArray, truth: int) -> float:
    """Area under the precision-recall curve, precision made monotone (as COCO and VOC since 2010 have it)."""
    right = np.cumsum(hit)
    precision = right / np.arange(1, len(hit) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[hit].sum() / truth)
