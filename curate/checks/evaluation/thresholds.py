"""Which score to take predictions from: precision and recall at every threshold, and the one that gives a wanted precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from curate.checks.boxes import BoolArray, FloatArray

SHOWN: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds of which precision and recall are always told."""

_Z: Final = 1.959964
"""Two-sided 95% of the normal distribution."""


@dataclass(frozen=True)
class Operating:
    """What predictions from a score on are worth.

    Attributes:
        threshold: That score.
        right: How many of them are right.
        predictions: How many there are.
        objects: How many there are to find.
    """

    threshold: float
    right: int
    predictions: int
    objects: int

    @property
    def precision(self) -> float | None:
        """Share of the predictions that are right."""
        return self.right / self.predictions if self.predictions else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that are found."""
        return self.right / self.objects if self.objects else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both."""
        both = self.predictions + self.objects
        return 2 * self.right / both if both else None

    def precision_interval(self) -> tuple[float, float] | None:
        """95% interval of the precision (Wilson 1927), for predictions that are independent."""
        n = self.predictions
        if not n:
            return None
        share = self.right / n
        middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * float(np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)))
        return max(middle - half, 0.0), min(middle + half, 1.0)

    def row(self, what: str) -> dict[str, Any]:
        """One row of a table, JSON-ready."""
        return {
            "which": what,
            "threshold": self.threshold,
            "precision": self.precision,
            "recall": self.recall,
            "F1": self.f1,
            "predictions": self.predictions,
        }


@dataclass(frozen=True)
class Curve:
    """Precision and recall at every score that occurs, highest first; k of them.

    Attributes:
        score: Descending, each once; (k,).
        right: Right predictions of at least that score; (k,).
        predictions: All of them; (k,).
        objects: How many there are to find.
    """

    score: FloatArray
    right: FloatArray
    predictions: FloatArray
    objects: int

    def at(self, threshold: float) -> Operating:
        """What predictions from this score on are worth."""
        last = int(np.searchsorted(-self.score, -threshold, side="right")) - 1
        if last < 0:
            return Operating(threshold, 0, 0, self.objects)
        return Operating(threshold, int(self.right[last]), int(self.predictions[last]), self.objects)

    def best(self) -> Operating:
        """At the score with the highest F1; of equals the highest score. Above all scores where nothing is right."""
        if not len(self.score) or not self.right.any():
            return Operating(1.0, 0, 0, self.objects)
        f1 = 2 * self.right / (self.predictions + self.objects)
        return self.at(float(self.score[int(np.argmax(f1))]))

    def for_precision(self, wanted: float) -> Operating | None:
        """At the lowest score from which on the precision is at least this; None if no score gives it."""
        enough = np.flatnonzero((self.right >= wanted * self.predictions) & (self.predictions > 0))
        return self.at(float(self.score[enough[-1]])) if len(enough) else None

    def most_precise(self) -> Operating | None:
        """At the score with the highest precision; None where there is no prediction."""
        if not len(self.score):
            return None
        return self.at(float(self.score[int(np.argmax(self.right / self.predictions))]))


def curve(score: FloatArray, right: BoolArray, objects: int) -> Curve:
    """Precision and recall of n predictions.

    Args:
        score: In [0, 1]; (n,).
        right: Whether each is; (n,).
        objects: How many there are to find.
    """
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) if len(order) else order
    found = np.cumsum(right[order], dtype=np.float64)
    return Curve(ordered[last], found[last], (last + 1).astype(np.float64), objects)
