"""Average precision and recall as COCO defines them, on all images, some of them, or thousands of resamples of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.evaluation.base import mean, row_means
from curate.checks.evaluation.matching import AREAS, HIT, IOU_THRESHOLDS, LEFT_OUT, MOST, RECALLS, Matches

_ELEMENTS: Final = 1 << 22
"""Numbers held at once while resampling."""

_T50: Final = 0
_T75: Final = 5


@dataclass(frozen=True)
class CocoScores:
    """Precision and recall in COCO's grid.

    Attributes:
        precision: At each recall, with 100 predictions; NaN where there is nothing to find; of shape
            (thresholds, recalls, classes, areas).
        recall: Highest; of shape (thresholds, classes, areas, most predictions).
    """

    precision: FloatArray
    recall: FloatArray

    def summary(self) -> dict[str, float | None]:
        """COCO's twelve numbers, None for those that nothing is to be found of."""
        sizes = {name: area for area, name in enumerate(AREAS)}
        found = {
            "AP": self.precision[..., 0],
            "AP50": self.precision[_T50, ..., 0],
            "AP75": self.precision[_T75, ..., 0],
            **{f"AP_{name}": self.precision[..., sizes[name]] for name in ("small", "medium", "large")},
            **{f"AR_{most}": self.recall[:, :, 0, place] for place, most in enumerate(MOST)},
            **{f"AR_{name}": self.recall[:, :, sizes[name], -1] for name in ("small", "medium", "large")},
        }
        return {name: mean(values) for name, values in found.items()}

    def of_class(self, label: int) -> dict[str, float | None]:
        """AP, AP50, AP75 and AR (with 100 predictions) of one class."""
        return {
            "AP": mean(self.precision[:, :, label, 0]),
            "AP50": mean(self.precision[_T50, :, label, 0]),
            "AP75": mean(self.precision[_T75, :, label, 0]),
            "AR_100": mean(self.recall[:, label, 0, -1]),
        }


def coco_scores(matches: Matches, classes: int) -> CocoScores:
    """Precision and recall of every class, size and number of predictions.

    Args:
        matches: Of the images that count.
        classes: How many classes there are.
    """
    shape = (len(IOU_THRESHOLDS), classes, len(AREAS))
    precision = np.full((shape[0], len(RECALLS), *shape[1:]), np.nan)
    recall = np.full((*shape, len(MOST)), np.nan)
    bounds = np.searchsorted(matches.label[matches.by_class], np.arange(classes + 1))
    for area in range(len(AREAS)):
        there = np.bincount(matches.truth_label[matches.counted[area]], minlength=classes)
        for label in np.flatnonzero(there).tolist():
            rows = matches.by_class[bounds[label] : bounds[label + 1]]
            outcome = matches.outcome[area, rows]
            recall[:, label, area, -1], precision[:, :, label, area] = _curve(outcome, int(there[label]))
            for place, most in enumerate(MOST[:-1]):
                hits = (outcome[matches.rank[rows] < most] == HIT).sum(axis=0)
                recall[:, label, area, place] = hits / there[label]
    return CocoScores(precision, recall)


def resampled_precision(matches: Matches, classes: int, weights: npt.NDArray[np.float32]) -> FloatArray:
    """Average precision of every class when images count several times, or not at all.

    Args:
        matches: Of the images that count.
        classes: How many classes there are.
        weights: How often each image counts in each of b resamples; of shape (b, images).

    Returns:
        Of objects of all sizes; NaN where there is nothing to find; of shape (b, classes, thresholds).
    """
    result = np.full((len(weights), classes, len(IOU_THRESHOLDS)), np.nan)
    bounds = np.searchsorted(matches.label[matches.by_class], np.arange(classes + 1))
    counted = matches.counted[0]
    for label in np.unique(matches.truth_label[counted]).tolist():
        rows = matches.by_class[bounds[label] : bounds[label + 1]]
        truth = np.bincount(
            matches.truth_image[counted & (matches.truth_label == label)], minlength=weights.shape[1]
        ).astype(np.float32)
        step = max(1, _ELEMENTS // max(len(rows), 1))
        for start in range(0, len(weights), step):
            part = weights[start : start + step]
            result[start : start + step, label] = _weighted_precision(
                matches.outcome[0, rows], np.take(part, matches.image[rows], axis=1), part @ truth
            )
    return result


def _curve(outcome: npt.NDArray[np.int8], there: int) -> tuple[FloatArray, FloatArray]:
    """Highest recall (thresholds,) and precision at each recall (thresholds, recalls) of predictions, surest first."""
    precision = np.zeros((outcome.shape[1], len(RECALLS)))
    if not len(outcome):
        return np.zeros(outcome.shape[1]), precision
    hits = np.cumsum(outcome == HIT, axis=0, dtype=np.int64).T.astype(np.float64)
    seen = np.cumsum(outcome != LEFT_OUT, axis=0, dtype=np.int64).T.astype(np.float64)
    recall = hits / there
    best = np.maximum.accumulate((hits / (seen + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
    for row in range(len(hits)):
        at = np.searchsorted(recall[row], RECALLS, side="left")
        reached = at < len(outcome)
        precision[row, reached] = best[row, at[reached]]
    return recall[:, -1], precision


def _weighted_precision(
    outcome: npt.NDArray[np.int8], weight: npt.NDArray[np.float32], there: npt.NDArray[np.float32]
) -> FloatArray:
    """Average precision of one class, (b, thresholds); weights of its predictions (b, n), of what is there (b,).

    Precision is highest at hits, so it is looked at there alone; a hit counts for every recall that it is first to reach.
    """
    result = np.zeros((len(weight), outcome.shape[1]))
    all_seen = np.cumsum(weight, axis=1)
    for threshold in range(outcome.shape[1]):
        hits = np.flatnonzero(outcome[:, threshold] == HIT)
        if not len(hits):
            continue
        left_out = outcome[:, threshold] == LEFT_OUT
        seen = np.cumsum(np.where(left_out, np.float32(0), weight), axis=1) if left_out.any() else all_seen
        right = np.cumsum(np.take(weight, hits, axis=1), axis=1)
        precision = right / np.maximum(np.take(seen, hits, axis=1), np.float32(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = _recalls_reached(right / np.maximum(there, 1).astype(np.float64)[:, None])
        result[:, threshold] = (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    result[there == 0] = np.nan
    return result


def _recalls_reached(recall: FloatArray) -> IntArray:
    """How many of COCO's recalls are at most each of these: 100 times the recall, but as COCO's own numbers are rounded."""
    nearest = (recall * (len(RECALLS) - 1) + 0.5).astype(np.int64)
    return nearest + (RECALLS[nearest] <= recall)


def mean_over_classes(precision: FloatArray, thresholds: IntArray | slice = slice(None)) -> FloatArray:
    """Mean average precision of each resample, (b,), from (b, classes, thresholds); NaN where nothing is to be found."""
    return row_means(precision[:, :, thresholds].mean(axis=2))
