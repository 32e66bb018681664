"""The nearest rows of every row, of many rows: each row is compared with those at home in the cells that it visits (`cells.py`).

That costs n^1.5, and finds nearly what comparing all with all does. Cells are jobs that do not depend on one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.cells import Cells, make_cells
from curate.checks.duplicates.search import Floats, IntArray, equal_rows, normalised
from curate.engine.engines import map_jobs
from curate.engine.jobs import Job

Part = tuple[npt.NDArray[np.int32], Floats, npt.NDArray[np.int32]]
"""m rows, similarities of up to k others to each of them, and which others; shapes (m,), (m, k), (m, k)."""

_CELLS_PER_JOB: Final = 16
_TILE: Final = 1 << 20
_ROWS: Final = 8192


@dataclass(frozen=True)
class Nearest:
    """What all jobs share.

    Attributes:
        keys: Unit vectors, shape (n, d).
        cells: Of them.
        count: How many neighbours are wanted.
    """

    keys: Floats
    cells: Cells
    count: int


def nearest_in_cells(vectors: npt.NDArray[np.floating], count: int, *, visits: int, least: float = -1.0) -> IntArray:
    """Find the nearest rows of each row by cosine similarity.

    Memory beside the vectors: the same in float32, 200 bytes a vector for cells, and the neighbours.

    Args:
        vectors: Shape (n, d), of any float type. Of equal rows the others have the first as their only neighbour, and the first
            none of them: so many equal rows are no more work than few.
        count: How many neighbours, at least 1.
        visits: Cells that each row visits.
        least: Neighbours of less similarity are left out.

    Returns:
        Row numbers, nearest first, int64 of shape (n, count); -1 where there are fewer.
    """
    distinct, (first, second, _) = equal_rows(vectors)
    rows = np.arange(len(vectors)) if distinct is None else distinct
    keys = np.empty((len(rows), vectors.shape[1]), np.float32)
    for start in range(0, len(rows), _ROWS):
        keys[start : start + _ROWS] = normalised(vectors[rows[start : start + _ROWS]])
    nearest = Nearest(keys, make_cells(keys, visits), count)
    near = np.full((len(vectors), count), -1, np.int64)
    near[rows] = _named(rows, *_search(nearest), least)
    near[second, 0] = first
    return near


def nearest_of_cells(nearest: Nearest, start: int, end: int) -> list[Part]:
    """One job: of the rows that visit the cells from `start` to `end`, the nearest of those at home there."""
    parts = []
    for cell in range(start, end):
        home, visitors = nearest.cells.rows(cell)
        if not len(home):
            continue
        others = nearest.keys[home]
        step = max(1, _TILE // len(home))
        for begin in range(0, len(visitors), step):
            rows = visitors[begin : begin + step]
            similar = nearest.keys[rows] @ others.T
            # Rows are in ascending order within a cell. None is its own neighbour.
            at = np.minimum(np.searchsorted(home, rows), len(home) - 1)
            itself = np.flatnonzero(home[at] == rows)
            similar[itself, at[itself]] = -np.inf
            best = _best(similar, nearest.count)
            parts.append((rows, np.take_along_axis(similar, best, axis=1), home[best]))
    return parts


def _search(nearest: Nearest) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Similarities of the nearest of each row, and which rows they are; shapes (n, count)."""
    n, count = len(nearest.keys), nearest.count
    similar, who = np.full((n, count), -np.inf, np.float32), np.full((n, count), -1, np.int32)
    cells = len(nearest.cells)
    step = max(1, min(_CELLS_PER_JOB, cells // 8))
    jobs = (Job((0,), (start, min(start + step, cells))) for start in range(0, cells, step))
    for parts in map_jobs(nearest_of_cells, jobs, [nearest]):
        for rows, found, others in parts:
            better = found.max(axis=1) > similar[rows].min(axis=1)
            rows = rows[better]
            values = np.concatenate([similar[rows], found[better]], axis=1)
            names = np.concatenate([who[rows], others[better]], axis=1)
            best = _best(values, count)
            similar[rows] = np.take_along_axis(values, best, axis=1)
            who[rows] = np.take_along_axis(names, best, axis=1)
    return similar, who


def _best(values: Floats, count: int) -> IntArray:
    """Where the highest values of each row are, in no order; shape (rows, at most count)."""
    if values.shape[1] <= count:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(values, -count, axis=1)[:, -count:]


def _named(rows: IntArray, similar: Floats, who: npt.NDArray[np.int32], least: float) -> IntArray:
    """Neighbours as row numbers, nearest first, -1 where they are not similar enough."""
    order = np.argsort(-similar, axis=1, kind="stable")
    similar, who = np.take_along_axis(similar, order, axis=1), np.take_along_axis(who, order, axis=1)
    return np.where(similar >= least, rows[who], -1)
