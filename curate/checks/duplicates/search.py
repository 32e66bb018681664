"""All pairs of vectors whose cosine similarity reaches a threshold: exact, and without a matrix of all similarities.

Blocks of vectors are multiplied, each pair of blocks once. Vectors are turned to their principal axes first and only the
leading coordinates multiplied; what the others can add is bounded by the product of their lengths (Cauchy-Schwarz), which
goes into the product as one more coordinate. Few pairs pass that bound, and those are scored in float64. No pair is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.floating]
Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]

BLOCK: Final = 1024
"""Vectors per block: a product takes 4 MiB, which stays in the processor's cache."""

_MARGIN: Final = 1e-3
"""More than float32 products of unit vectors are off."""

_SAMPLE: Final = 1024
_RESCORE: Final = 1 << 18
# Scoring one pair in float64 costs as much as so many multiples of its share of a matrix product.
_COST: Final = 300.0


def pairs_above(vectors: Vectors, threshold: float, *, block: int = BLOCK) -> Found:
    """Find all pairs with at least a cosine similarity.

    Memory: the vectors twice in float32, 4 MiB for a block, and what is found.

    Args:
        vectors: Array of shape (n, d); rows need not have unit length. A row of zeros is similar to nothing.
        threshold: In (0, 1].
        block: Vectors per block.

    Returns:
        Rows (first < second) and similarities of m pairs: int64, int64, float64, shape (m,) each, sorted.
    """
    unit = _normalised(vectors)
    keys = _keys(unit, threshold)
    found = [_rescored(unit, first, second, threshold) for first, second in _passing(keys, threshold - _MARGIN, block)]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    first, second, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return first[order], second[order], similarity[order]


def _normalised(vectors: Vectors) -> npt.NDArray[np.float32]:
    exact = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)


def _keys(unit: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.float32]:
    """Short vectors whose inner products bound those of `unit` from above; shape (n, k + 1).

    How many coordinates are kept is chosen on a sample, for the least work.
    """
    n, dimensions = unit.shape
    if n < 2:
        return unit
    chosen = unit[np.linspace(0, n - 1, min(n, 5 * _SAMPLE)).astype(np.int64)]
    # Axes from other vectors than those that the work is estimated on, or it would seem less. Not centred: what all vectors
    # share is worth a coordinate.
    sample = chosen[::5]
    axes = np.linalg.eigh(chosen.T @ chosen - sample.T @ sample)[1][:, ::-1]
    turned = sample @ axes
    upper = np.triu_indices(len(sample), 1)
    best, least = dimensions, float(dimensions)
    for kept in range(16, dimensions, 8):
        bounds = _shortened(turned, kept)
        passing = float(((bounds @ bounds.T)[upper] >= threshold - _MARGIN).mean()) if len(sample) > 1 else 1.0
        work = kept + passing * _COST * dimensions
        if work < least:
            best, least = kept, work
    return _shortened(unit @ axes, best)


def _shortened(turned: npt.NDArray[np.float32], kept: int) -> npt.NDArray[np.float32]:
    rest = np.linalg.norm(turned[:, kept:], axis=1, keepdims=True)
    return np.ascontiguousarray(np.hstack([turned[:, :kept], rest]), dtype=np.float32)


def _passing(
    keys: npt.NDArray[np.float32], threshold: float, block: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Pairs of rows whose keys' inner product reaches the threshold, first < second."""
    for top in range(0, len(keys), block):
        rows = keys[top : top + block]
        for left in range(top, len(keys), block):
            columns = keys[left : left + block]
            at = np.flatnonzero(rows @ columns.T >= threshold)  # several times faster than the two-dimensional search
            if not len(at):
                continue
            first, second = at // len(columns) + top, at % len(columns) + left
            if left == top:
                upper = second > first
                first, second = first[upper], second[upper]
            for start in range(0, len(first), _RESCORE):
                yield first[start : start + _RESCORE], second[start : start + _RESCORE]


def _rescored(
    unit: npt.NDArray[np.float32], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], threshold: float
) -> Found:
    """Exact similarities of pairs, those below the threshold left out."""
    step = max(1, (1 << 24) // max(unit.shape[1], 1) // 8)
    similarity = np.empty(len(first))
    for start in range(0, len(first), step):
        a, b = (unit[rows[start : start + step]].astype(np.float64) for rows in (first, second))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        similarity[start : start + step] = np.einsum("ij,ij->i", a, b) / np.maximum(lengths, np.finfo(np.float32).tiny)
    kept = similarity >= threshold
    return first[kept], second[kept], similarity[kept]
