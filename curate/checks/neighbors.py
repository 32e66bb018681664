"""Nearest neighbours by cosine similarity, and which rows are so close that they must be kept together.

The search is exact: similarities are computed block by block, and only those that beat a row's current k-th best are looked
at again, so that memory stays bounded and selection costs little next to the matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.graph import joined_groups

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.integer]

_ROWS: Final = 1024
_COLUMNS: Final = 8192

# Two rows are near-duplicates if their distance (1 - cosine) is below this part of the usual distance to the k-th neighbour.
_DUPLICATE_RATIO: Final = 0.1
_ROUNDING: Final = 1e-6  # distances of equal float32 vectors come out up to this


@dataclass(frozen=True)
class Neighbors:
    """The k nearest rows of each of n rows, nearest first.

    Attributes:
        indices: Row numbers, int64 of shape (n, k); -1 where there are fewer than k.
        similarities: Cosines in [-1, 1], float32 of shape (n, k); -1 where there are fewer than k.
        exact: False if only a sample of the rows was searched.
    """

    indices: npt.NDArray[np.int64]
    similarities: Floats
    exact: bool


def nearest_neighbors(
    vectors: Floats,
    k: int,
    *,
    groups: Integers | None = None,
    pool: Integers | None = None,
    rows: Integers | None = None,
) -> Neighbors:
    """Find each row's k nearest rows in other groups.

    Args:
        vectors: Float array of shape (n, d); rows are scaled to unit length here (a zero row is at cosine 0 to all).
        k: How many, at least 1.
        groups: Integers of shape (n,); rows of one group are not one another's neighbours. None: each row is a group.
        pool: Rows among which to search, shape (m,); None for all of them.
        rows: Rows whose neighbours are found, in this order; None for all of them.
    """
    asked = np.arange(len(vectors)) if rows is None else np.asarray(rows)
    n = len(asked)
    groups = np.arange(len(vectors)) if groups is None else np.asarray(groups)
    among = np.arange(len(vectors)) if pool is None else np.asarray(pool)
    indices = np.full((n, k), -1, dtype=np.int64)
    similarities = np.full((n, k), -1, dtype=np.float32)
    candidates = [_unit(vectors[among[at : at + _COLUMNS]]) for at in range(0, len(among), _COLUMNS)]
    for start in range(0, n, _ROWS):
        block = slice(start, min(start + _ROWS, n))
        queries = _unit(vectors[asked[block]])
        best = np.full((len(queries), k), -np.inf, dtype=np.float32)
        who = np.full((len(queries), k), -1, dtype=np.int64)
        for number, tile in enumerate(candidates):
            columns = among[number * _COLUMNS : number * _COLUMNS + len(tile)]
            found = queries @ tile.T
            found[groups[asked[block]][:, None] == groups[columns]] = -np.inf
            _merge(best, who, found, columns)
        known = who >= 0
        indices[block] = who
        similarities[block] = np.where(known, np.clip(best, -1, 1), -1)
    return Neighbors(indices, similarities, pool is None)


def near_duplicate_groups(
    neighbors: Neighbors, groups: Integers | None = None, *, largest: int
) -> npt.NDArray[np.int64]:
    """Join rows that are near-duplicates of one another, and whatever groups they already belong to.

    How near is judged by the data: in a set where every image is alike, alike is not a duplicate.

    Args:
        neighbors: Of n rows.
        groups: Groups they already belong to, shape (n,); None: each row is a group.
        largest: Joined groups of more rows than this are a chain of look-alikes rather than copies, and are left apart.

    Returns:
        Group numbers from 0, int64 of shape (n,).
    """
    n = len(neighbors.indices)
    base = np.arange(n) if groups is None else groups
    distances = 1 - neighbors.similarities
    known = neighbors.indices >= 0
    farthest = distances[known[:, -1], -1]
    usual = float(np.median(farthest)) if len(farthest) else 0.0
    rows, places = np.nonzero(known & (distances <= max(_DUPLICATE_RATIO * usual, _ROUNDING)))
    others = neighbors.indices[rows, places]
    joined = joined_groups(base, rows, others)
    too_large = np.bincount(joined)[joined] > largest
    apart = np.unique(base, return_inverse=True)[1] + n  # numbers that no joined group has
    return np.unique(np.where(too_large, apart, joined), return_inverse=True)[1].astype(np.int64)


def _unit(vectors: Floats) -> Floats:
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)


def _merge(best: Floats, who: npt.NDArray[np.int64], found: Floats, columns: Integers) -> None:
    """Put those of `found` (rows, m) that beat a row's k best into `best` and `who` (rows, k), in place, best first."""
    k = best.shape[1]
    if found.shape[1] > 4 * k and np.isneginf(best[:, -1]).any():  # first tile: narrow it down before comparing
        top = np.argpartition(found, -k, axis=1)[:, -k:]
        rows, places = np.repeat(np.arange(len(found)), k), top.ravel()
        better = found[rows, places] > best[rows, -1]
        rows, places = rows[better], places[better]
    else:
        rows, places = np.nonzero(found > best[:, -1:])
    touched, local = np.unique(rows, return_inverse=True)
    values = np.r_[best[touched].ravel(), found[rows, places]]
    ids = np.r_[who[touched].ravel(), columns[places]]
    owner = np.r_[np.repeat(np.arange(len(touched)), k), local]
    order = np.lexsort((ids, -values, owner))  # ties go to the lower row number
    owner = owner[order]
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    keep = order[rank < k]
    best[touched] = values[keep].reshape(-1, k)
    who[touched] = ids[keep].reshape(-1, k)
