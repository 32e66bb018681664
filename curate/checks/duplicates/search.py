"""Pairs of vectors whose cosine similarity reaches a threshold, without a matrix of all similarities.

Vectors are turned to their principal axes and only the leading coordinates multiplied; what the others can add is bounded by the
product of their lengths (Cauchy-Schwarz), which goes into the product as one more coordinate. Few pairs pass that bound, and
those are scored in float64. Up to `EXACT_UP_TO` vectors, all are compared with all so, block by block, and no pair is missed.
Of more, those are compared that meet in a cell (`cells.py`), which costs n^1.5; what that misses is less than 1% (measured by
`benchmarks/pairs_search.py`). Blocks and cells are jobs that do not depend on one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.cells import Cells, blocks_as_cells, make_cells
from curate.engine.engines import map_jobs
from curate.engine.jobs import Job

Vectors = npt.NDArray[np.floating]
Floats = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Found = tuple[IntArray, IntArray, npt.NDArray[np.float64]]

EXACT_UP_TO: Final = 50_000
"""Vectors that are compared all with all."""

VISITS: Final = 24
"""Cells that each vector is looked for in."""

BLOCK: Final = 1024
"""Vectors per block: a product takes 4 MiB, which stays in the processor's cache."""

_MARGIN: Final = 1e-3
"""More than float32 products of unit vectors are off."""

_ROUNDING: Final = 1e-12
"""More than the cosine of two equal vectors is off in float64."""

_SAMPLE: Final = 1024
_ROWS: Final = 8192
_RESCORE: Final = 1 << 18
_DENSE: Final = 0.02
"""Where a larger part of the pairs passes the bound, all are scored by one product in float32 instead."""

_HELD: Final = 1 << 22
"""Pairs that wait to be merged."""

_CELLS_PER_JOB: Final = 16
# Scoring one pair in float64 costs as much as so many multiples of its share of a matrix product.
_COST: Final = 300.0


def pairs_above(vectors: Vectors, threshold: float, *, most: int | None = None, block: int = BLOCK) -> Found:
    """Find the pairs with at least a cosine similarity.

    Memory beside the vectors: their leading coordinates in float32 (of 512, 80 to 160 at thresholds from 0.9 to 0.8), 400 bytes
    a vector for cells, and what is found.

    Args:
        vectors: Array of shape (n, d), of any float type; rows need not have unit length. A row of zeros, or with a number
            that is not finite, is similar to nothing.
        threshold: At most 1.
        most: Only pairs that are among so many nearest of one of their rows; of equal rows, only the first has pairs with
            others, and the others one with the first. That bounds what is found where many rows are alike. None: all pairs.
        block: Vectors per block.

    Returns:
        Rows (first < second) and similarities of m pairs: int64, int64, float64, shape (m,) each, sorted.
    """
    if most is None:
        return _run(make_search(vectors, threshold, most=None, block=block))
    distinct, same = equal_rows(vectors)
    return _joined([same, _run(make_search(vectors, threshold, most=most, block=block, rows=distinct))], None)


_NONE: Final = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Search:
    """What all jobs of a search share.

    Attributes:
        vectors: As given, shape (n, d).
        rows: Which of them are searched, int64 of shape (k,); None for all.
        keys: Coordinates whose inner products bound the cosines of the rows searched from above; shape (k, c).
        whole: Whether these are all there are, so that the products are the cosines.
        cells: Of the rows searched.
        threshold: Least similarity.
        most: As for `pairs_above`.
        tile: Numbers in a product.
    """

    vectors: Vectors
    rows: IntArray | None
    keys: Floats
    whole: bool
    cells: Cells
    threshold: float
    most: int | None
    tile: int

    def row_numbers(self, places: npt.NDArray[np.integer]) -> IntArray:
        """Rows of the vectors, from places among those that are searched."""
        return np.asarray(places if self.rows is None else self.rows[places], dtype=np.int64)


def make_search(
    vectors: Vectors, threshold: float, *, most: int | None, block: int = BLOCK, rows: IntArray | None = None
) -> Search:
    """Prepare a search: keys and cells. Arguments as for `pairs_above`; `rows` are those searched, None for all."""
    count = len(vectors) if rows is None else len(rows)
    axes = _axes(vectors, threshold, rows)
    keys = _keys(vectors, axes, rows)
    # The last coordinate bounds what the others leave out, and says nothing of where a row lies.
    cells = blocks_as_cells(count, block) if count <= EXACT_UP_TO else make_cells(keys[:, : axes.shape[1]], VISITS)
    return Search(vectors, rows, keys, axes.shape[1] == vectors.shape[1], cells, threshold, most, block * block)


def search_cells(search: Search, start: int, end: int) -> Found:
    """One job: the pairs of which one row is at home in one of the cells from `start` to `end`, and the other visits it."""
    parts = [part for cell in range(start, end) for part in _search_cell(search, cell)]
    return _joined(parts, search.most)


def _run(search: Search) -> Found:
    """All jobs; what they find is joined as it comes, so that no more waits than is kept."""
    count = len(search.cells)
    step = max(1, min(_CELLS_PER_JOB, count // 8))
    jobs = (Job((0,), (start, min(start + step, count))) for start in range(0, count, step))
    held: list[Found] = []
    for found in map_jobs(search_cells, jobs, [search]):
        held.append(found)
        if len(held) > 1 and sum(len(part[0]) for part in held[1:]) > max(_HELD, len(held[0][0])):
            held = [_joined(held, search.most)]
    return _joined(held, search.most)


def equal_rows(vectors: Vectors) -> tuple[IntArray | None, Found]:
    """Rows that are the first of those equal to them (None if all are), and pairs of each of the others with its first."""
    n, width = vectors.shape
    weights = np.random.default_rng(0).integers(0, 2**64, width, dtype=np.uint64)
    hashes = np.empty(n, np.uint64)
    for start in range(0, n, _ROWS):
        bits = np.ascontiguousarray(vectors[start : start + _ROWS])
        hashes[start : start + _ROWS] = bits.view(f"u{bits.dtype.itemsize}").astype(np.uint64) @ weights
    order = np.argsort(hashes, kind="stable")
    begins = np.append(True, hashes[order][1:] != hashes[order][:-1])[:n]
    first = order[np.maximum.accumulate(np.where(begins, np.arange(n), 0))][~begins]
    second = order[~begins]
    if not len(second):
        return None, (_NONE, _NONE, np.zeros(0))
    same, zero = np.empty(len(second), bool), np.empty(len(second), bool)
    for start in range(0, len(second), _ROWS):
        a, b = (vectors[rows[start : start + _ROWS]] for rows in (first, second))
        same[start : start + _ROWS] = (a == b).all(axis=1)
        zero[start : start + _ROWS] = ~b.any(axis=1)
    distinct = np.ones(n, dtype=bool)
    distinct[second[same]] = False
    linked = same & ~zero
    return np.flatnonzero(distinct), (first[linked], second[linked], np.ones(int(linked.sum())))


def normalised(vectors: Vectors) -> Floats:
    """Rows of unit length; those of zeros stay zeros."""
    exact = np.asarray(vectors, dtype=np.float32)
    # Squared in float64: in float32, those of very long and very short vectors are infinite and 0.
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", exact, exact, dtype=np.float64)[:, None]
        norms = np.sqrt(squares).astype(np.float32)
    usable = np.isfinite(norms) & (norms > 0)  # a single row of NaN would spoil the axes of all
    return np.asarray(np.where(usable, exact, 0) / np.where(usable, norms, 1), dtype=np.float32)


def _axes(vectors: Vectors, threshold: float, rows: IntArray | None) -> Floats:
    """Principal axes, as many as give the least work on a sample; shape (d, k)."""
    n, dimensions = len(vectors) if rows is None else len(rows), vectors.shape[1]
    if n < 2:
        return np.eye(dimensions, dtype=np.float32)
    places = np.linspace(0, n - 1, min(n, 5 * _SAMPLE)).astype(np.int64)
    chosen = normalised(vectors[places if rows is None else rows[places]])
    # Axes from other vectors than those that the work is estimated on, or it would seem less. Not centred: what all vectors
    # share is worth a coordinate.
    sample = chosen[::5]
    axes = np.linalg.eigh(chosen.T @ chosen - sample.T @ sample)[1][:, ::-1]
    upper = np.triu_indices(len(sample), 1)
    best, least = dimensions, float(dimensions)
    for kept in range(16, dimensions, 8):
        bounds = _shortened(sample, axes[:, :kept])
        passing = float(((bounds @ bounds.T)[upper] >= threshold - _MARGIN).mean()) if len(sample) > 1 else 1.0
        work = kept + passing * _COST * dimensions
        if work < least:
            best, least = kept, work
    return np.ascontiguousarray(axes[:, :best], dtype=np.float32)


def _keys(vectors: Vectors, axes: Floats, rows: IntArray | None) -> Floats:
    """Short vectors whose inner products bound those of the unit vectors from above; shape (n, k + 1), or (n, d) if k is d."""
    n, (dimensions, kept) = len(vectors) if rows is None else len(rows), axes.shape
    keys = np.empty((n, kept + (kept < dimensions)), dtype=np.float32)
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        keys[part] = _shortened(normalised(vectors[part if rows is None else rows[part]]), axes)
    return keys


def _shortened(unit: Floats, axes: Floats) -> Floats:
    """Coordinates on some axes, and the length of the rest where these are not all."""
    turned = unit @ axes
    if turned.shape[1] == unit.shape[1]:
        return turned
    rest = np.einsum("ij,ij->i", unit, unit) - np.einsum("ij,ij->i", turned, turned)
    return np.hstack([turned, np.sqrt(np.maximum(rest, 0))[:, None]]).astype(np.float32, copy=False)


def _search_cell(search: Search, cell: int) -> Iterator[Found]:
    """Pairs of the rows at home in a cell and those that visit it, each once, in parts."""
    home, visitors = search.cells.rows(cell)
    if not len(home):
        return
    rows = search.keys[home]
    step = max(1, search.tile // len(home))
    for start in range(0, len(visitors), step):
        columns = visitors[start : start + step]
        bounds = rows @ search.keys[columns].T
        at = np.flatnonzero(
            bounds >= search.threshold - _MARGIN
        )  # several times faster than the two-dimensional search
        # Two that are both at home here meet twice, and each meets itself.
        at = at[_once(search, home, columns, at)]
        if not len(at):
            continue
        if len(at) > _DENSE * bounds.size:
            yield _dense(search, home, columns, bounds, at)
            continue
        first, second = search.row_numbers(home[at // len(columns)]), search.row_numbers(columns[at % len(columns)])
        for begin in range(0, len(at), _RESCORE):
            part = slice(begin, begin + _RESCORE)
            yield _rescored(search.vectors, first[part], second[part], search.threshold)


def _once(
    search: Search, home: npt.NDArray[np.int32], columns: npt.NDArray[np.int32], at: IntArray
) -> npt.NDArray[np.bool_]:
    """Which places in the product of two sets of rows are not of a pair that is in it at another place, too."""
    first, second = home[at // len(columns)], columns[at % len(columns)]
    return np.asarray((first < second) | (search.cells.home[first] != search.cells.home[second]))


def _dense(
    search: Search, home: npt.NDArray[np.int32], columns: npt.NDArray[np.int32], bounds: Floats, at: IntArray
) -> Found:
    """Pairs by their cosines in float32, where many pass the bound."""
    if not search.whole:
        a, b = (normalised(search.vectors[search.row_numbers(rows)]) for rows in (home, columns))
        bounds = a @ b.T
    usable = np.full(bounds.shape, -np.inf, np.float32)
    usable.ravel()[at] = bounds.ravel()[at]
    least = np.full((1, 1), search.threshold, dtype=np.float64)
    if search.most is not None:
        lowest = [_lowest(usable, search.most), _lowest(usable.T, search.most).T]
        least = np.maximum(np.minimum(*lowest), least)
    near = np.flatnonzero(usable >= least)
    first, second = search.row_numbers(home[near // len(columns)]), search.row_numbers(columns[near % len(columns)])
    return first, second, usable.ravel()[near].astype(np.float64)


def _lowest(values: Floats, most: int) -> Floats:
    """The lowest of the `most` highest of each row; shape (rows, 1)."""
    if values.shape[1] <= most:
        return np.full((len(values), 1), -np.inf, np.float32)
    return np.partition(values, -most, axis=1)[:, -most][:, None]


def _rescored(vectors: Vectors, first: IntArray, second: IntArray, threshold: float) -> Found:
    """Exact similarities of pairs, those below the threshold left out."""
    step = max(1, (1 << 24) // max(vectors.shape[1], 1) // 8)
    similarity = np.empty(len(first))
    for start in range(0, len(first), step):
        a, b = (vectors[rows[start : start + step]].astype(np.float64) for rows in (first, second))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        similarity[start : start + step] = np.einsum("ij,ij->i", a, b) / np.maximum(lengths, np.finfo(np.float64).tiny)
    kept = similarity >= threshold - _ROUNDING
    return first[kept], second[kept], similarity[kept]


def _joined(parts: Sequence[Found], most: int | None) -> Found:
    """Pairs of several jobs, each once, the smaller row first, sorted; with `most`, those near to one of their rows."""
    if not parts:
        return _NONE, _NONE, np.zeros(0)
    a, b, similarity = (np.concatenate(part) for part in zip(*parts, strict=True))
    first, second = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((second, first))
    first, second, similarity = first[order], second[order], similarity[order]
    again = np.append(False, (first[1:] == first[:-1]) & (second[1:] == second[:-1]))[: len(first)]
    kept = ~again
    if most is not None:
        first, second, similarity = first[kept], second[kept], similarity[kept]
        kept = _among_nearest(first, second, similarity, most)
    return first[kept], second[kept], similarity[kept]


def _among_nearest(
    first: IntArray, second: IntArray, similarity: npt.NDArray[np.float64], most: int
) -> npt.NDArray[np.bool_]:
    """Which pairs are among the nearest of one of their rows; of equally near ones, the lowest rows."""
    rows = np.concatenate([first, second])
    crowded = np.flatnonzero(np.bincount(rows)[rows] > most)
    if not len(crowded):
        return np.ones(len(first), dtype=bool)
    others, near = np.concatenate([second, first])[crowded], np.tile(similarity, 2)[crowded]
    order = np.lexsort((others, -near, rows[crowded]))
    ranked = rows[crowded][order]
    far = np.zeros(len(rows), dtype=bool)
    far[crowded[order]] = np.arange(len(order)) - np.searchsorted(ranked, ranked) >= most
    return np.asarray(~(far[: len(first)] & far[len(first) :]))
