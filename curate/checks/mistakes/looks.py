"""What the looks of a box say of what a detector's predictions have made suspicious.

A detector that finds nothing in a box may have overlooked what is there, and all it can say is how often it does; one that
sees another class may have taken it for that. The looks of the box know more. Where a person has boxed an object, its class
can be told from the crop about as well as that of others; where a box holds nothing, its label has nothing to do with what
the crop looks like.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.mistakes.tables import Suspects

_LEAST: Final = 0.01
"""Probabilities of classes are not trusted beyond this and its complement."""

_MOST: Final = 5.0
"""How much more likely looks make it, at most, that nothing is there: what a detector overlooks is hard to tell by its looks."""


@dataclass(frozen=True)
class Looks:
    """What the crops of n annotations say.

    Attributes:
        p_given: float64 array of shape (n,): probability of each one's class by its crop, to which its own label had no vote;
            NaN where it was not judged.
        share: float64 array of shape (n,): part of all labels that are of its class.
    """

    p_given: FloatArray
    share: FloatArray

    @classmethod
    def of(cls, p_given: FloatArray, labels: IntArray) -> Looks:
        """Count the classes of the labels, integers of shape (n,)."""
        _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return cls(p_given, np.asarray(counts[codes] / max(len(labels), 1), dtype=np.float64))

    def take(self, rows: IntArray) -> Looks:
        """Some of them, in that order."""
        return Looks(self.p_given[rows], self.share[rows])

    def for_nothing(self) -> FloatArray:
        """How many times likelier the looks make it that there is no object.

        The label is then as probable as it is among all labels; in a box with an object, as probable as the looks make it.
        """
        return np.where(np.isnan(self.p_given), 1.0, np.minimum(self._common / self._looks, _MOST))

    def for_another_class(self) -> FloatArray:
        """How many times likelier the looks make another class than it is among all labels."""
        odds = (1 - self._looks) / self._looks * self._common / (1 - self._common)
        return np.where(np.isnan(self.p_given), 1.0, odds)

    @property
    def _looks(self) -> FloatArray:
        return np.nan_to_num(self.p_given.astype(np.float64), nan=0.5).clip(_LEAST, 1 - _LEAST)

    @property
    def _common(self) -> FloatArray:
        return self.share.clip(_LEAST, 1 - _LEAST)


def weigh(probability: FloatArray, likelier: FloatArray) -> FloatArray:
    """Probabilities of exclusive errors when each has become so many times likelier; both of shape (n, k).

    What is left of each row's sum to 1 is the probability that nothing is wrong.
    """
    weighed = probability * likelier
    right = 1.0 - probability.sum(axis=1, keepdims=True)
    return np.asarray(weighed / (right + weighed.sum(axis=1, keepdims=True)))


def weigh_suspects(found: Suspects, looks: Looks) -> Suspects:
    """Suspects with the looks of superfluous and of mislabeled annotations taken into account, highest score first.

    Args:
        found: Suspects; those of other kinds, those in which something was detected though they are called superfluous, and
            things drawn twice, stay as they are.
        looks: Of the annotations that the suspects count.
    """
    own = looks.take(np.maximum(found.annotation, 0))
    nothing = (found.kind == "spurious") & (found.prediction < 0)
    likelier = np.select([nothing, found.kind == "mislabeled"], [own.for_nothing(), own.for_another_class()], 1.0)
    likelier[found.related >= 0] = 1.0
    score = found.score.clip(0.0, 1.0 - 1e-6)
    weighed = np.where(likelier == 1.0, found.score, weigh(score[:, None], likelier[:, None])[:, 0])
    return replace(found, score=weighed).take(np.argsort(-weighed, kind="stable"))
