"""Set-ups of light in a set of images: found in what the light is like, each image of a burst counting as its part of it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.cluster import HDBSCAN

from curate.checks.shift.mixture import by_size, find_clusters, fit_mixture

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]

NO_CLUSTER: Final = -1
"""What belongs to none, by density clustering."""

FEWEST: Final = 24
"""Of fewer independent images no clusters are sought."""

_MOST_FITTED: Final = 20_000
_RARE: Final = 5.0
_SUBSTANTIAL: Final = 0.2
_DIRECTIONS: Final = 16


def cluster_light(lamps: FloatArray, groups: IntArray, *, clusters: int | None = None, seed: int = 0) -> IntArray:
    """Find set-ups of light.

    Args:
        lamps: The axes that tell of the light, shape (n, d).
        groups: Numbers that images share which are not independent, shape (n,).
        clusters: How many; None to find out.
        seed: Of the fits.

    Returns:
        int64 array of shape (n,), 0 for the largest, -1 for what is too rare to be a set-up (never with a given number);
        all 0 where light is one continuum.
    """
    points, weights = standardise(lamps), group_weights(groups)
    if weights.sum() < FEWEST and clusters is None:
        return np.zeros(len(points), np.int64)
    if len(points) <= _MOST_FITTED:
        return _fit(points, weights, clusters, seed)
    part = np.sort(np.random.default_rng(seed).permutation(len(points))[:_MOST_FITTED])
    labels = _fit(points[part], weights[part], clusters, seed)
    return by_size(_nearest(points, points[part], weights[part], labels), weights)


def cluster_content(vectors: FloatArray, groups: IntArray, *, seed: int = 0) -> IntArray:
    """Dense clusters of the semantic embedding, by HDBSCAN on its principal directions.

    Args:
        vectors: Shape (n, d).
        groups: As above: one image of each is looked at, and the others go with it.
        seed: Which images are looked at where there are more than 20,000 groups.

    Returns:
        int64 array of shape (n,), 0 for the largest, -1 for none.
    """
    first, inverse = np.unique(groups, return_index=True, return_inverse=True)[1:]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(first))[:_MOST_FITTED])
    labels = np.full(len(first), NO_CLUSTER, np.int64)
    if len(chosen) < FEWEST:
        return labels[inverse]
    centred = vectors[first[chosen]] - vectors[first[chosen]].mean(axis=0)
    left, size, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    points = (left * size)[:, :_DIRECTIONS]
    fewest = max(8, len(chosen) // 50)
    labels[chosen] = HDBSCAN(min_cluster_size=fewest, min_samples=5, copy=True).fit_predict(points)
    found = labels[inverse]
    inside = found >= 0
    if inside.any():
        found[inside] = by_size(found[inside], group_weights(groups)[inside])
    return found


def standardise(values: FloatArray) -> FloatArray:
    """Axes of mean 0 and deviation 1, the outermost hundredth on each side drawn in to the limit; shape (n, d)."""
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    inside = np.clip(values, low, high)
    spread = inside.std(axis=0)
    return np.asarray((inside - inside.mean(axis=0)) / np.where(spread > 1e-9, spread, 1))


def group_weights(groups: IntArray) -> FloatArray:
    """What each image is worth so that every group is worth 1; shape (n,)."""
    inverse = np.unique(groups, return_inverse=True)[1]
    return np.asarray(1 / np.bincount(inverse)[inverse])


def _fit(points: FloatArray, weights: FloatArray, clusters: int | None, seed: int) -> IntArray:
    """Clusters of all points; those of too little weight are -1, or go to the nearest where a number is asked for."""
    if clusters is None:
        labels = find_clusters(points, weights, seed=seed)
        rare = np.bincount(labels, weights=weights)[labels] < _RARE
        return np.where(rare, NO_CLUSTER, labels)
    # Single odd images take components of their own: more are fitted until as many as asked for are of some size.
    distinct = len(np.unique(points, axis=0))
    for components in range(min(clusters, distinct), min(2 * clusters + 2, distinct) + 1):
        labels = fit_mixture(points, weights, components, seed=seed).responsibilities(points).argmax(axis=1)
        size = np.bincount(labels, weights=weights)
        large = size >= max(_RARE, _SUBSTANTIAL * weights.sum() / clusters)
        if large.sum() >= clusters:
            break
    keep = np.isin(labels, np.argsort(-size, kind="stable")[:clusters])
    return by_size(_nearest(points, points[keep], weights[keep], labels[keep]), weights)


def _nearest(points: FloatArray, fitted: FloatArray, weights: FloatArray, labels: IntArray) -> IntArray:
    """The most probable cluster of points, by clusters as Gaussians of one covariance."""
    present, inverse = np.unique(labels, return_inverse=True)
    size = np.bincount(inverse, weights=weights)
    means = np.stack([np.bincount(inverse, weights=weights * column) / size for column in fitted.T], axis=1)
    off = fitted - means[inverse]
    spread = (off * weights[:, None]).T @ off / weights.sum() + 1e-3 * np.eye(points.shape[1])
    whiten = np.linalg.inv(np.linalg.cholesky(spread)).T
    white, centres = points @ whiten, means @ whiten
    cost = np.square(centres).sum(axis=1) - 2 * white @ centres.T - 2 * np.log(size / size.sum())
    return np.asarray(present[cost.argmin(axis=1)], dtype=np.int64)
