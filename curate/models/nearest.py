"""The nearest of many vectors to one, exactly.

The vectors come in batches and only the best so far are kept, so that memory does not grow with their number. Cosines are
computed in float64 and rounded far below what float16 vectors can tell apart: the same vectors get the same cosine in whichever
batch they come, so that ties are ties, and go to the lower id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.dataset.ids import Hashes

Floats = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

Batch = tuple[Hashes, Floats]
"""Ids, uint64 of shape (m,), and their vectors, of shape (m, dimensions) and any length but 0."""

_DECIMALS: Final = 9
_ROWS: Final = 2048  # vectors that are float64 at a time: these stay in the processor's cache


@dataclass(frozen=True)
class Nearest:
    """What was found, nearest first.

    Attributes:
        ids: uint64 array of shape (k,).
        cosines: In [-1, 1], float64 array of shape (k,).
        searched: How many vectors there were.
    """

    ids: Hashes
    cosines: Float64s
    searched: int


def nearest(batches: Iterable[Batch], query: Floats, n: int, *, lowest: float = -1.0) -> Nearest:
    """Find the n vectors with the highest cosine to a query.

    Args:
        batches: The vectors, in any order and in batches of any size; each id once.
        query: Shape (dimensions,).
        n: How many are wanted; fewer are found where there are fewer.
        lowest: Leave out cosines below this.
    """
    ids, best = np.zeros(0, np.uint64), np.zeros(0)
    searched = 0
    for batch_ids, vectors in batches:
        searched += len(batch_ids)
        found = cosines(vectors, query[None])[:, 0]
        # What is as near as the n-th so far may still come before it, by its id.
        chosen = np.flatnonzero(found >= max(lowest, best[-1] if len(best) == n else -1.0))
        if not len(chosen):
            continue
        ids, best = np.concatenate([ids, batch_ids[chosen]]), np.concatenate([best, found[chosen]])
        order = np.lexsort((ids, -best))[:n]
        ids, best = ids[order], best[order]
    return Nearest(ids, best, searched)


def cosines(vectors: Floats, queries: Floats) -> Float64s:
    """Cosines of m vectors to k others, 0 where one has no length; float64 array of shape (m, k).

    Args:
        vectors: Shape (m, dimensions).
        queries: Shape (k, dimensions).
    """
    directions = queries / _lengths(queries.astype(np.float64))
    found = np.empty((len(vectors), len(queries)))
    for start in range(0, len(vectors), _ROWS):
        block = vectors[start : start + _ROWS].astype(np.float64)
        found[start : start + _ROWS] = block @ directions.T / _lengths(block)
    return found.round(_DECIMALS).clip(-1, 1)


def _lengths(vectors: Float64s) -> Float64s:
    """Lengths of n vectors, 1 for those that have none; shape (n, 1)."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return np.where(lengths > 0, lengths, 1.0)
