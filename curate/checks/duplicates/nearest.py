"""The nearest rows of every row, of many rows: each row is compared with those at home in the cells that it visits (`cells.py`).

That costs n^1.5, and finds nearly what comparing all with all does. Cells are jobs that do not depend on one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.cells import AXES, Cells, make_cells
from curate.checks.duplicates.search import Floats, IntArray, equal_rows, normalised
from curate.checks.neighbors import Neighbors
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
        keys: Vectors, shape (n, d).
        scale: What makes each one of unit length, float32 of shape (n,); None where they are.
        rows: Which of them are searched, int64 of shape (m,).
        cells: Of those.
        groups: Rows of one group are not one another's neighbours, shape (n,); None: each row is a group.
        count: How many neighbours are wanted.
    """

    keys: Floats
    scale: Floats | None
    rows: IntArray
    cells: Cells
    groups: IntArray | None
    count: int

    def units(self, places: npt.NDArray[np.integer]) -> Floats:
        """Unit vectors of some of those that are searched."""
        rows = self.rows[places]
        units: Floats = self.keys[rows]
        if self.scale is not None:
            units *= self.scale[rows, None]  # a copy: rows were picked
        return units


def nearest_in_cells(
    vectors: npt.NDArray[np.floating],
    count: int,
    *,
    visits: int,
    least: float = -1.0,
    groups: npt.NDArray[np.integer] | None = None,
    by: npt.NDArray[np.floating] | None = None,
    copies_alike: bool = False,
) -> Neighbors:
    """Find the nearest rows of each row by cosine similarity.

    Memory beside the vectors: the same in float32 if they are not, 200 bytes a vector for cells, and the neighbours.

    Args:
        vectors: Shape (n, d), of any float type.
        count: How many neighbours, at least 1.
        visits: Cells that each row visits.
        least: Neighbours of less similarity are left out.
        groups: Integers of shape (n,); rows of one group are not one another's neighbours. None: each row is a group.
        by: Unit vectors that cells are made by, the most telling coordinates first, shape (n, c); None for the vectors, which
            are of unit length then.
        copies_alike: Of equal rows the others have the first as their only neighbour, and the first none of them: so many equal
            rows are no more work than few. If true, they have the first's neighbours besides.
    """
    distinct, (first, second, _) = equal_rows(vectors)
    rows = np.arange(len(vectors)) if distinct is None else distinct
    keys, scale = _unit_keys(vectors)
    places = keys if by is None else by
    cells = make_cells(places if distinct is None else places[rows], visits)
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1].astype(np.int64)
    similar, who = _search(Nearest(keys, scale, rows, cells, codes, count))
    near = np.full((len(vectors), count), -1, np.int64)
    similarities = np.full((len(vectors), count), -1, np.float32)
    near[rows], similarities[rows] = _named(rows, similar, who, least)
    if copies_alike:
        near[second, 1:], similarities[second, 1:] = near[first, :-1], similarities[first, :-1]
    near[second, 0], similarities[second, 0] = first, 1
    if codes is not None and len(second):
        _leave_out(second, codes, near, similarities)
    return Neighbors(near, similarities, exact=False)


def _leave_out(rows: IntArray, codes: IntArray, near: IntArray, similarities: Floats) -> None:
    """Take neighbours of some rows that are of a row's own group out, in place; the others move up."""
    found, values = near[rows], similarities[rows]
    own = (found >= 0) & (codes[found] == codes[rows, None])
    order = np.argsort(own, axis=1, kind="stable")
    near[rows] = np.take_along_axis(np.where(own, -1, found), order, axis=1)
    similarities[rows] = np.take_along_axis(np.where(own, np.float32(-1), values), order, axis=1)


def on_leading_axes(vectors: npt.NDArray[np.floating], dtype: npt.DTypeLike) -> npt.NDArray[np.floating]:
    """Unit vectors on the leading `AXES` principal axes: what all have in common is one of them; shape (n, at most `AXES`)."""
    n, dimensions = vectors.shape
    sample = vectors[np.linspace(0, n - 1, min(n, 20_000)).astype(np.int64)].astype(np.float32)
    axes = np.linalg.eigh(sample.T @ sample)[1][:, ::-1][:, :AXES] if dimensions > AXES else None
    reduced = np.empty((n, min(dimensions, AXES)), dtype)
    for start in range(0, n, _ROWS):
        part = vectors[start : start + _ROWS].astype(np.float32)
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        reduced[start : start + _ROWS] = (part if axes is None else part @ axes) / np.where(lengths > 0, lengths, 1)
    return reduced


def _unit_keys(vectors: npt.NDArray[np.floating]) -> tuple[Floats, Floats | None]:
    """Vectors in float32, and what makes them of unit length: those that come in float32 are not copied."""
    if vectors.dtype == np.float32:
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        return vectors, (1 / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    keys = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), _ROWS):
        keys[start : start + _ROWS] = normalised(vectors[start : start + _ROWS])
    return keys, None


def nearest_of_cells(nearest: Nearest, start: int, end: int) -> list[Part]:
    """One job: of the rows that visit the cells from `start` to `end`, the nearest of those at home there."""
    parts = []
    for cell in range(start, end):
        home, visitors = nearest.cells.rows(cell)
        if not len(home):
            continue
        others = nearest.units(home)
        step = max(1, _TILE // len(home))
        for begin in range(0, len(visitors), step):
            rows = visitors[begin : begin + step]
            similar = nearest.units(rows) @ others.T
            # Rows are in ascending order within a cell. None is its own neighbour.
            at = np.minimum(np.searchsorted(home, rows), len(home) - 1)
            itself = np.flatnonzero(home[at] == rows)
            similar[itself, at[itself]] = -np.inf
            if nearest.groups is not None:
                own, theirs = (nearest.groups[nearest.rows[places]] for places in (rows, home))
                similar[own[:, None] == theirs] = -np.inf
            best = _best(similar, nearest.count)
            parts.append((rows, np.take_along_axis(similar, best, axis=1), home[best]))
    return parts


def _search(nearest: Nearest) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Similarities of the nearest of each row, and which rows they are; shapes (n, count)."""
    n, count = len(nearest.rows), nearest.count
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


def _named(rows: IntArray, similar: Floats, who: npt.NDArray[np.int32], least: float) -> tuple[IntArray, Floats]:
    """Neighbours as row numbers, nearest first, -1 where they are not similar enough; and their similarities."""
    order = np.argsort(-similar, axis=1, kind="stable")
    similar, who = np.take_along_axis(similar, order, axis=1), np.take_along_axis(who, order, axis=1)
    there = similar >= least
    return np.where(there, rows[who], -1), np.where(there, np.clip(similar, -1, 1), -1)
