"""Rows in cells, so that a search need not compare all with all: an inverted file (Jegou et al., TPAMI 2011).

Cells are those of a k-means (Lloyd) that is trained on a sample. Every row is at home in the nearest cell and visits the next
nearest as well; two rows are compared where one visits the other's home. With a number of cells that grows as the root of
the number of rows, finding the cells and comparing within them both cost n^1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

CELLS_PER_ROOT: Final = 4.0
"""Cells, in units of the square root of the number of rows."""

AXES: Final = 128
"""Leading coordinates by which cells are told apart."""

_ROUNDS: Final = 8
_SAMPLE_PER_CELL: Final = 32
_LARGE: Final = 3.0
"""A cell with more rows than this, in units of the mean, is split by moving there the cell that has fewest."""

_BLOCK: Final = 2048


@dataclass(frozen=True)
class Cells:
    """Which of n rows are at home in each of m cells, and which visit it.

    Attributes:
        home: Cell of each row, int32 of shape (n,).
        at_home: Rows by the cell that is their home, int32 of shape (n,).
        at_home_from: Where each cell's begin, int64 of shape (m + 1,).
        visitors: Rows by the cells that they visit, their home among these, int32 of shape (n * visits,).
        visitors_from: Where each cell's begin, int64 of shape (m + 1,).
    """

    home: npt.NDArray[np.int32]
    at_home: npt.NDArray[np.int32]
    at_home_from: IntArray
    visitors: npt.NDArray[np.int32]
    visitors_from: IntArray

    def __len__(self) -> int:
        return len(self.at_home_from) - 1

    def rows(self, cell: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Rows at home in a cell, and those that visit it."""
        return (
            self.at_home[self.at_home_from[cell] : self.at_home_from[cell + 1]],
            self.visitors[self.visitors_from[cell] : self.visitors_from[cell + 1]],
        )


def blocks_as_cells(n: int, block: int) -> Cells:
    """Cells of consecutive rows, each visited by all rows that are not before it: all are compared with all."""
    rows = np.arange(n, dtype=np.int32)
    start = np.append(np.arange(0, n, block), n)
    return _Blocks(rows // np.int32(block), rows, start, rows, start)


class _Blocks(Cells):
    def rows(self, cell: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        return super().rows(cell)[0], self.visitors[self.visitors_from[cell] :]


def make_cells(keys: Floats, visits: int, *, seed: int = 0) -> Cells:
    """Put rows into cells.

    Memory: 8 bytes for each visit, beside what is given.

    Args:
        keys: Coordinates, the most telling first; shape (n, d). The first `AXES` are looked at.
        visits: How many cells each row visits, its home among them.
        seed: Of the sample that cells are found on.
    """
    keys = keys[:, :AXES]
    n = len(keys)
    count = max(1, round(CELLS_PER_ROOT * n**0.5))
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(n, min(n, _SAMPLE_PER_CELL * count), replace=False))
    centers = find_centers(keys[sample], count, rng)
    visited = nearest_centers(keys, centers, min(visits, len(centers)))
    home = np.ascontiguousarray(visited[:, 0])
    at_home, at_home_from = _by_cell(home, len(centers))
    order, visitors_from = _by_cell(visited.ravel(), len(centers))
    return Cells(home, _narrow(at_home), at_home_from, _narrow(order // visited.shape[1]), visitors_from)


def find_centers(sample: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Centers of cells of about equal numbers of rows: k-means, cells with few rows moved to where there are many.

    Args:
        sample: Rows, shape (s, d).
        count: How many centers, at most s.
        rng: Of the first centers.

    Returns:
        Shape (count, d).
    """
    count = min(count, len(sample))
    centers = sample[rng.choice(len(sample), count, replace=False)].copy()
    mean = len(sample) / count
    for _ in range(_ROUNDS):
        home = nearest_centers(sample, centers, 1)[:, 0]
        sizes = np.bincount(home, minlength=count)
        order, start = _by_cell(home, count)
        sums = np.add.reduceat(sample[order], np.minimum(start[:-1], len(sample) - 1), axis=0)
        filled = sizes > 0
        centers[filled] = sums[filled] / sizes[filled, None]
        # Each large cell gives place to as many of the smallest as it has room for.
        wanted = np.maximum(sizes / (_LARGE * mean) - 1e-9, 0).astype(np.int64)
        owner = np.repeat(np.arange(count), wanted)
        smallest = np.argsort(sizes, kind="stable")[: min(len(owner), count // 4)]
        owner = rng.permutation(owner)[: len(smallest)]
        members = start[owner] + (rng.random(len(owner)) * sizes[owner]).astype(np.int64)
        centers[smallest] = sample[order[members]]
    return centers


def nearest_centers(keys: Floats, centers: Floats, count: int) -> npt.NDArray[np.int32]:
    """Numbers of the nearest centers of each row, the nearest first; int32 of shape (n, count)."""
    half = (centers**2).sum(axis=1) / 2
    found = np.empty((len(keys), count), dtype=np.int32)
    for start in range(0, len(keys), _BLOCK):
        near = keys[start : start + _BLOCK] @ centers.T
        near -= half
        if count == 1:
            found[start : start + _BLOCK, 0] = near.argmax(axis=1)
            continue
        best = np.argpartition(near, -count, axis=1)[:, -count:] if count < len(centers) else None
        best = np.broadcast_to(np.arange(len(centers)), near.shape) if best is None else best
        order = np.argsort(-np.take_along_axis(near, best, axis=1), axis=1, kind="stable")
        found[start : start + _BLOCK] = np.take_along_axis(best, order, axis=1)
    return found


def _narrow(rows: IntArray) -> npt.NDArray[np.int32]:
    return rows.astype(np.int32)


def _by_cell(cell: npt.NDArray[np.int32], count: int) -> tuple[IntArray, IntArray]:
    """Places in the order of their cells, and where each cell's begin."""
    order = np.argsort(cell.astype(np.uint16) if count <= 1 << 16 else cell, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=count))])
    return order, start.astype(np.int64)
