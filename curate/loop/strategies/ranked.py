"""Rows ranked by a score, and rows drawn at random; and what every strategy gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ranked:
    """Chosen rows.

    Attributes:
        rows: Best first, int64 of shape (k,), no row twice.
        value: What each was chosen for, in the strategy's own measure; float64 of shape (k,).
    """

    rows: IntArray
    value: FloatArray


def by_score(score: FloatArray, candidates: IntArray, count: int, *, seed: int) -> Ranked:
    """The rows with the highest scores.

    Args:
        score: Of each of n rows, shape (n,); NaN where it is not known: those are never chosen.
        candidates: Rows that may be chosen, shape (m,).
        count: How many are wanted; fewer are given if fewer have a score.
        seed: Decides between equal scores.
    """
    known = candidates[~np.isnan(score[candidates])]
    ties = np.random.default_rng(seed).permutation(len(known))
    rows = known[np.lexsort((ties, -score[known]))][:count]
    return Ranked(rows, score[rows])


def at_random(candidates: IntArray, count: int, *, seed: int) -> Ranked:
    """Rows drawn without replacement; arguments as for `by_score`."""
    rows = np.random.default_rng(seed).permutation(candidates)[:count]
    return Ranked(rows, np.zeros(len(rows)))
