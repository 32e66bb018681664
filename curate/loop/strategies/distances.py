"""Squared Euclidean distances between rows, block by block."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_CELLS: Final = 1 << 23  # float32 distances in memory at a time: 32 MiB
_QUERIES: Final = 1000
_POOL: Final = 20_000


def squared_distances(first: Vectors, second: Vectors) -> Floats:
    """All squared distances, float32 of shape (len(first), len(second)), never negative."""
    found: Floats = first @ second.T
    found *= -2
    found += np.einsum("nd,nd->n", first, first)[:, None]
    found += np.einsum("nd,nd->n", second, second)
    return np.maximum(found, 0, out=found)


def nearest_squared(vectors: Vectors, rows: IntArray, others: IntArray) -> Floats:
    """Squared distance of each of some rows to the nearest of the others; infinite if there are none.

    Time grows with len(rows) x len(others); memory does not.

    Args:
        vectors: Shape (n, d).
        rows: Shape (m,).
        others: Shape (k,).
    """
    nearest = np.full(len(rows), np.inf, dtype=np.float32)
    step = 8192
    for start in range(0, len(others), step):
        columns = vectors[others[start : start + step]]
        block = max(1, _CELLS // len(columns))
        for at in range(0, len(rows), block):
            found = squared_distances(vectors[rows[at : at + block]], columns).min(axis=1)
            np.minimum(nearest[at : at + block], found, out=nearest[at : at + block])
    return nearest


def usual_squared_distance(vectors: Vectors, *, share: float | None = None, rank: int = 1, seed: int) -> float:
    """How far it usually is to a near neighbour: the median squared distance over a sample of the rows.

    Args:
        vectors: Shape (n, d), n >= 2.
        share: To the neighbour that this part of all rows is nearer than; None for a neighbour by its `rank`.
        rank: 1 is the nearest.
        seed: Of the sample: 1,000 rows, and 20,000 among which their neighbours are looked for.
    """
    rng = np.random.default_rng(seed)
    pool = rng.permutation(len(vectors))[:_POOL]
    queries = pool[:_QUERIES]  # each is in the pool: the first place is its own
    place = rank if share is None else max(1, round(share * len(pool)))
    place = min(place, len(pool) - 1)
    found = []
    step = max(1, _CELLS // len(pool))
    for start in range(0, len(queries), step):
        distances = squared_distances(vectors[queries[start : start + step]], vectors[pool])
        found.append(np.partition(distances, place, axis=1)[:, place])
    return float(np.median(np.concatenate(found)))
