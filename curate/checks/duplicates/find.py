"""Finding the copies among images: candidates, their comparison, and more candidates around what was found.

Pure but for the comparison itself, which is handed in: the dataset's version (`dataset.py`) reads pixels and keeps results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.candidates import (
    FIRST,
    NEAREST,
    Hashes,
    group_pairs,
    hash_pairs,
    neighbor_pairs,
    unique_pairs,
    without,
)
from curate.checks.duplicates.pairs import COPY, NEAR, IntArray, Pairs
from curate.checks.duplicates.probability import log_odds, probabilities
from curate.checks.duplicates.verify import Comparison

ROUNDS: Final = 4
"""How often candidates are sought around what was found."""

Compare = Callable[[IntArray], "Table"]
"""Takes pairs of rows, shape (m, 2), to how they compare."""


@dataclass(frozen=True)
class Table:
    """How m pairs compare: the attributes of `Comparison` as columns.

    Attributes:
        pairs: int64 array of shape (m, 2).
        numbers: float64 array of shape (m, 8): the columns of `COLUMNS`.
        matrix: float64 array of shape (m, 2, 3).
    """

    pairs: IntArray
    numbers: npt.NDArray[np.float64]
    matrix: npt.NDArray[np.float64]

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """One column of numbers, shape (m,)."""
        return np.asarray(self.numbers[:, COLUMNS.index(name)])


COLUMNS: Final = (
    "mirrored",
    "inliers",
    "overlap",
    "correlation",
    "agreement",
    "detail",
    "differing",
    "displacement",
)


def to_table(pairs: IntArray, comparisons: list[Comparison]) -> Table:
    """Comparisons of m pairs as columns."""
    numbers = [[float(getattr(each, name)) for name in COLUMNS] for each in comparisons]
    return Table(
        pairs,
        # Rounded to what is stored, so that a second run gives the same to the last digit.
        np.array(numbers, dtype=np.float32).astype(np.float64).reshape(-1, len(COLUMNS)),
        np.array([each.matrix for each in comparisons], dtype=np.float32).astype(np.float64).reshape(-1, 2, 3),
    )


def find_copies(
    near: IntArray,
    hashes: list[tuple[Hashes, Hashes]],
    compare: Compare,
    *,
    nearest: int = NEAREST,
) -> Pairs:
    """Find the pairs of images that show the same picture.

    Every image is compared with its nearest neighbours and with those of nearly its hash, or its mirror image's. Around
    the copies found, more neighbours are compared, and each group all with all, until nothing new comes.

    Args:
        near: Nearest rows of each of n different images, nearest first, shape (n, k); -1 where there are fewer than k.
        hashes: Perceptual hashes and those of the mirror images, uint64 of shape (n,) each; of one kind or several.
        compare: Compares pairs on their pixels; leaves out those that cannot be read.
        nearest: How many neighbours are compared around copies.

    Returns:
        All pairs that were compared, with their probability to be copies.
    """
    n = len(near)
    todo = [neighbor_pairs(near, np.arange(n), FIRST)]
    for plain, mirrored in hashes:
        todo += [hash_pairs(plain), hash_pairs(plain, mirrored)]
    tables: list[Table] = []
    asked = np.zeros((0, 2), np.int64)
    score = np.zeros(0)
    for _ in range(ROUNDS + 1):
        new = without(unique_pairs(np.concatenate(todo)), asked)
        if not len(new):
            break
        asked = np.concatenate([asked, new])
        tables.append(compare(new))
        score = _score(tables)
        copies = np.concatenate([table.pairs for table in tables])[score >= COPY]
        todo = [group_pairs(copies, n), neighbor_pairs(near, np.unique(copies), nearest)]
    return _to_pairs(tables, score)


def _score(tables: list[Table]) -> npt.NDArray[np.float64]:
    names = ("detail", "agreement", "inliers", "differing", "displacement")
    return probabilities(log_odds(*(np.concatenate([table.column(name) for table in tables]) for name in names)))


def _to_pairs(tables: list[Table], score: npt.NDArray[np.float64]) -> Pairs:
    if not tables:
        tables = [to_table(np.zeros((0, 2), np.int64), [])]

    def column(name: str) -> npt.NDArray[np.float64]:
        return np.concatenate([table.column(name) for table in tables])

    pairs = np.concatenate([table.pairs for table in tables])
    return Pairs(
        pairs[:, 0],
        pairs[:, 1],
        score,
        np.full(len(pairs), NEAR, np.int8),
        column("mirrored") > 0,
        np.concatenate([table.matrix for table in tables]),
        column("inliers").astype(np.int64),
        column("overlap"),
        column("correlation"),
        column("detail"),
        column("differing"),
    )
