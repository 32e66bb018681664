"""Whether scores mean what they say: of the predictions with a score of 0.8, are eight in ten right?

Expected calibration error in bins of equal width (Guo et al., On Calibration of Modern Neural Networks, 2017), the Brier
score (1950) and the logarithmic loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import BoolArray, FloatArray, IntArray

BINS: Final = 10

_LEAST: Final = 1e-7
"""Probabilities count as at least this in the logarithmic loss, as a model's float32 cannot say much less."""


@dataclass(frozen=True)
class Calibration:
    """What scores mean.

    Attributes:
        error: Mean distance between score and share that is right, bins weighted by their counts; NaN of nothing.
        edges: Of the bins; (bins + 1,).
        count: Predictions in each bin; (bins,).
        confidence: Their mean score; NaN for an empty bin; (bins,).
        accuracy: Which share of them is right; (bins,).
    """

    error: float
    edges: FloatArray
    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray

    def rows(self) -> list[dict[str, Any]]:
        """The bins that are not empty, JSON-ready."""
        return [
            {
                "from": round(float(self.edges[k]), 6),
                "to": round(float(self.edges[k + 1]), 6),
                "predictions": int(self.count[k]),
                "mean_score": float(self.confidence[k]),
                "right": float(self.accuracy[k]),
            }
            for k in np.flatnonzero(self.count).tolist()
        ]


def calibration(score: FloatArray, right: BoolArray, *, bins: int = BINS) -> Calibration:
    """Compare scores with how often they are right.

    Args:
        score: In [0, 1]; (n,).
        right: Whether each prediction is; (n,).
        bins: How many, of equal width.
    """
    place = np.minimum((score * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    some = np.where(count > 0, count, np.nan)
    confidence = np.bincount(place, weights=score, minlength=bins) / some
    accuracy = np.bincount(place, weights=right, minlength=bins) / some
    gaps = np.nan_to_num(np.abs(confidence - accuracy)) * count
    error = float(gaps.sum() / len(score)) if len(score) else float("nan")
    return Calibration(error, np.linspace(0, 1, bins + 1), count, confidence, accuracy)


def brier_score(probabilities: npt.NDArray[np.floating[Any]], label: IntArray) -> float:
    """Mean squared distance of class probabilities, (n, classes), to the truth, (n,); from 0 (certain and right) to 2."""
    given = probabilities[np.arange(len(label)), label]
    return float(((probabilities**2).sum(axis=1) - 2 * given + 1).mean())


def log_loss(probabilities: npt.NDArray[np.floating[Any]], label: IntArray) -> float:
    """Mean of -log p of the true class."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(label)), label], _LEAST)).mean())
