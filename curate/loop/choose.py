"""Asking a strategy for images of which no two are copies: as often as it takes, what was chosen counting as covered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.loop.copies import copy_distance, distinct
from curate.loop.strategies.ranked import FloatArray, IntArray, Ranked, Vectors
from curate.loop.strategies.registry import Strategy, Task

_LARGEST: Final = 100_000
_SPARE: Final = 4


@dataclass(frozen=True)
class Pool:
    """n images, some to choose from and some labelled.

    Attributes:
        vectors: float32 of shape (n, d).
        may: Which may be chosen, bool of shape (n,).
        labelled: Which are labelled, the same shape.
        copies: Numbers that images share which are known to be copies, int64 of shape (n,).
    """

    vectors: Vectors
    may: npt.NDArray[np.bool_]
    labelled: npt.NDArray[np.bool_]
    copies: IntArray


def choose(strategy: Strategy, pool: Pool, score: FloatArray | None, count: int, *, seed: int) -> Ranked:
    """Choose images, none a copy of another or of a labelled one.

    Args:
        strategy: What chooses.
        pool: From what.
        score: Of each of the n images, NaN where not known; None where there is none.
        count: How many are wanted; fewer are given if the others are copies, or have no score.
        seed: Of everything random.
    """
    labelled = np.flatnonzero(pool.labelled)
    left = pool.may & ~np.isin(pool.copies, pool.copies[labelled])
    distance = copy_distance(pool.vectors, seed=seed)
    rows, value = np.zeros(0, np.int64), np.zeros(0)
    asked = count
    while len(rows) < count and left.any():
        taken = np.concatenate([labelled, rows])
        task = _task(strategy, pool, np.flatnonzero(left), taken, score, asked, seed)
        found = strategy.choose(task, asked)
        if not len(found.rows):
            break
        left[found.rows] = False
        kept = distinct(found.rows, taken, pool.vectors, pool.copies, distance)
        rows = np.concatenate([rows, found.rows[kept]])[:count]
        value = np.concatenate([value, found.value[kept]])[:count]
        asked *= 2  # where most are copies, asking for as many as are missing would never end
    return Ranked(rows, value)


def largest(count: int) -> int:
    """How many candidates a strategy that looks at the set as a whole sees at most, where so many are wanted."""
    return max(_LARGEST, _SPARE * count)


def _task(
    strategy: Strategy, pool: Pool, rows: IntArray, taken: IntArray, score: FloatArray | None, count: int, seed: int
) -> Task:
    """What the strategy sees: everything, or of a very large set the rows with the highest scores and a sample of the rest."""
    most = largest(count)
    rng = np.random.default_rng(seed)
    if strategy.whole and len(rows) > most:
        shuffled = rng.permutation(rows)
        if score is not None:
            doubt = np.nan_to_num(score[shuffled], nan=-np.inf)
            first = np.argsort(-doubt, kind="stable")[: most // 2]
            shuffled = np.concatenate([shuffled[first], np.delete(shuffled, first)])
        rows = np.sort(shuffled[:most])
    if strategy.whole and len(taken) > most:
        taken = rng.permutation(taken)[:most]
    return Task(pool.vectors, rows, taken, score, seed)
