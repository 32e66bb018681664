"""How isolated each vector is, seen from several sides, and whether that is more than chance.

Three distances, each to the k-th nearest of the others with k a part of the set rather than a fixed number, so that a handful
of strangers that resemble one another do not vouch for one another (Ramaswamy et al., 2000, on the k-th distance):

    plain      the distance of the vectors, scaled to length 1
    relative   their angle after whitening with a shrunken covariance: what sets a row apart beyond what varies everywhere
               (the idea of relative Mahalanobis distances; Ren et al., *A simple fix to Mahalanobis distance*, 2021)
    by class   to the nearest class, each in terms of what is usual in that class; only where classes are known

Rows of one group (copies, frames of one scene) are never each other's neighbours. The p-values of the three are joined by
their harmonic mean, which holds under dependence (Wilson, 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.outliers.tail import FEWEST, p_outlier, tail_p_values

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.floating]

SIDES: Final = ("plain", "relative", "by class")

SHARE: Final = 0.03
"""The part of the set that the k-th nearest is at."""

LEAST_NEIGHBORS: Final = 20
POOL: Final = 4096
"""Rows that distances are measured to; of larger sets a sample."""

SHOWN: Final = 5
"""Nearest rows that are reported."""

_AXES: Final = 48
_VARIANCE: Final = 0.9
_SHRINKAGE: Final = 0.3
_BLOCK: Final = 1024


@dataclass(frozen=True)
class Isolation:
    """n rows and how isolated they are.

    Attributes:
        p_outlier: Probability that the row belongs to nothing, float64 of shape (n,).
        p_value: Probability that one of the set's own would be as isolated, the same shape.
        side: Which of `SIDES` it is most isolated from, int8 of shape (n,).
        distance: Distance of unit vectors to the k-th nearest row, in [0, 2], the same shape.
        usual: Its median over the rows of the row's class, or over all where classes are not known, the same shape.
        nearest: The nearest rows that were looked at, int64 of shape (n, SHOWN); -1 where there are fewer.
        similarity: Cosines to them, float32 of shape (n, SHOWN).
        neighbors: k.
    """

    p_outlier: FloatArray
    p_value: FloatArray
    side: npt.NDArray[np.int8]
    distance: FloatArray
    usual: FloatArray
    nearest: IntArray
    similarity: npt.NDArray[np.float32]
    neighbors: int


def find_outliers(
    vectors: Vectors,
    *,
    groups: npt.NDArray[np.integer] | None = None,
    weights: FloatArray | None = None,
    labels: IntArray | None = None,
    seed: int = 0,
) -> Isolation:
    """Find the rows that belong to nothing.

    Memory beside the vectors: 48 float32 for each, one for each class that is modelled, and a few blocks of 16 MiB.

    Args:
        vectors: Array of shape (n, d), of any float type.
        groups: Numbers that rows share which must not vouch for one another, shape (n,); None: each row is on its own.
        weights: How much each row counts for what is usual, in (0, 1], shape (n,), so that copies count once together;
            None: each counts 1.
        labels: Class of each row, int64 of shape (n,); -1 for none. None: classes are not known.
        seed: Of the sample that larger sets are compared with.
    """
    n = len(vectors)
    groups = np.arange(n) if groups is None else np.asarray(groups)
    classes = np.full(n, -1, np.int64) if labels is None else labels
    pool = np.arange(n) if n <= POOL else np.sort(np.random.default_rng(seed).choice(n, POOL, replace=False))
    weights = np.ones(n) if weights is None else weights
    plain = _distances(vectors, groups, classes, pool)
    relative = _distances(_whitened(vectors, weights), groups, np.full(n, -1, np.int64), pool)
    views = [plain.kth, relative.kth]
    if plain.by_class.shape[1] > 1:
        views.append(_nearest_class(plain.by_class, classes, plain.modelled))
    p_values = np.stack([tail_p_values(view, weights) for view in views])
    p = len(views) / (1 / p_values).sum(axis=0)
    usual = np.full(n, np.median(plain.kth) if n else 0.0)
    for label in np.unique(classes[classes >= 0]):
        usual[classes == label] = np.median(plain.kth[classes == label])
    side = p_values.argmin(axis=0).astype(np.int8)
    return Isolation(p_outlier(p, groups), p, side, plain.kth, usual, plain.nearest, plain.similarity, plain.neighbors)


@dataclass(frozen=True)
class _Distances:
    """Distances (n,) to the k-th nearest, (n, classes) to the k-th nearest of each class modelled, and the nearest rows."""

    kth: FloatArray
    by_class: FloatArray
    modelled: IntArray
    nearest: IntArray
    similarity: npt.NDArray[np.float32]
    neighbors: int


def _distances(vectors: Vectors, groups: npt.NDArray[np.integer], classes: IntArray, pool: IntArray) -> _Distances:
    """Distances of vectors, scaled to length 1, to the pool, block by block."""
    n, m = len(vectors), len(pool)
    k = _count(m)
    shown = min(SHOWN, max(m - 1, 0))
    modelled = np.array(
        [c for c in np.unique(classes[classes >= 0]) if (classes[pool] == c).sum() >= FEWEST], dtype=np.int64
    )
    members = [np.flatnonzero(classes[pool] == c) for c in modelled]
    kth, by_class = np.full(n, 2.0), np.full((n, len(modelled)), 2.0)
    nearest, similarity = np.full((n, SHOWN), -1, np.int64), np.full((n, SHOWN), -1, np.float32)
    others = _unit(vectors[pool])
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        found = _unit(vectors[block]) @ others.T
        found[groups[block][:, None] == groups[pool]] = -np.inf
        kth[block] = _kth(found, k)
        for column, rows in enumerate(members):
            by_class[block, column] = _kth(found[:, rows], min(_count(len(rows)), len(rows)))
        if shown:
            best = np.argpartition(found, -shown, axis=1)[:, -shown:]
            values = np.take_along_axis(found, best, axis=1)
            order = np.lexsort((best, -values), axis=1)
            values = np.take_along_axis(values, order, axis=1)
            known = np.isfinite(values)
            nearest[block, :shown] = np.where(known, pool[np.take_along_axis(best, order, axis=1)], -1)
            similarity[block, :shown] = np.where(known, values, -1)
    return _Distances(kth, by_class, modelled, nearest, similarity, k)


def _count(m: int) -> int:
    """Which neighbour of m is looked at."""
    return max(1, min(max(LEAST_NEIGHBORS, round(SHARE * m)), m // 3))


def _kth(similarities: npt.NDArray[np.float32], k: int) -> FloatArray:
    """Distance of unit vectors to the k-th most similar; where fewer than k are allowed, to the last of them."""
    top = -np.partition(-similarities, k - 1, axis=1)[:, :k] if similarities.shape[1] else similarities
    last = np.where(np.isfinite(top), top, np.inf).min(axis=1, initial=np.inf)
    last = np.where(np.isfinite(last), last, -1.0)
    return np.asarray(np.sqrt(np.maximum(2 - 2 * last.astype(np.float64), 0.0)))


def _nearest_class(by_class: FloatArray, classes: IntArray, modelled: IntArray) -> FloatArray:
    """Distance to the nearest class, each in units of what is usual among its members."""
    nearest = np.full(len(by_class), np.inf)
    for column, label in enumerate(modelled):
        middle, upper = np.quantile(by_class[classes == label, column], [0.5, 0.75])
        np.minimum(nearest, (by_class[:, column] - middle) / max(upper - middle, 1e-6), out=nearest)
    return nearest


def _whitened(vectors: Vectors, weights: FloatArray) -> Vectors:
    """Unit vectors along the principal axes, each divided by its spread, which is shrunk towards the mean spread."""
    n, dimensions = vectors.shape
    if n < 2:
        return vectors
    parts = (weights / weights.sum()).astype(np.float32)
    blocks = [slice(start, start + _BLOCK) for start in range(0, n, _BLOCK)]
    mean, second = np.zeros(dimensions), np.zeros((dimensions, dimensions))
    for block in blocks:
        mean += parts[block] @ _unit(vectors[block]).astype(np.float64)
    for block in blocks:
        centred = _unit(vectors[block]) - mean.astype(np.float32)
        second += (centred.T * parts[block]) @ centred
    variance, axes = np.linalg.eigh(second)
    variance, axes = np.maximum(variance[::-1], 0.0), axes[:, ::-1]
    share = np.cumsum(variance) / max(float(variance.sum()), 1e-12)
    kept = max(1, min(int(np.searchsorted(share, _VARIANCE)) + 1, _AXES, round(weights.sum()) // 4))
    spread = (1 - _SHRINKAGE) * variance[:kept] + _SHRINKAGE * variance[:kept].mean()
    turn = (axes[:, :kept] / np.sqrt(np.maximum(spread, 1e-12))).astype(np.float32)
    whitened = np.empty((n, kept), np.float32)
    for block in blocks:
        whitened[block] = (_unit(vectors[block]) - mean.astype(np.float32)) @ turn
    return whitened


def _unit(vectors: Vectors) -> npt.NDArray[np.float32]:
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
