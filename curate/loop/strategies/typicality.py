"""Typical rows of uncovered clusters: TypiClust, after Hacohen, Dekel and Weinshall, *Active Learning on a Budget: Opposite
Strategies Suit High and Low Budgets*, ICML 2022.

The rows are clustered into as many clusters as there will be labels (500 at most, as published). Of the cluster with the fewest
covered rows, of equal ones the largest, the most typical row is chosen: the one whose nearest 20 rows within the cluster are
nearest.
"""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from curate.loop.strategies.distances import squared_distances
from curate.loop.strategies.ranked import FloatArray, IntArray, Ranked, Vectors

_MOST_CLUSTERS: Final = 500
_SMALLEST: Final = 5  # smaller clusters are chosen from when there are no others
_NEIGHBORS: Final = 20
_WITHIN: Final = 2000  # rows of a cluster among which neighbours are looked for
_EXACT: Final = 2_000_000  # rows x clusters up to which k-means sees all rows in every step


def typical(vectors: Vectors, candidates: IntArray, covered: IntArray, count: int, *, seed: int) -> Ranked:
    """Choose typical rows of clusters without a covered row; arguments as for `curate.loop.strategies.k_center.k_center`.

    Returns:
        The rows in the order in which they were chosen; their value is the size of their cluster.
    """
    rows = np.concatenate([candidates, covered])
    clusters = _clusters(vectors[rows], min(len(covered) + count, len(rows), _MOST_CLUSTERS), seed)
    total = int(clusters.max(initial=-1)) + 1
    size = np.bincount(clusters, minlength=total)
    there = np.bincount(clusters[len(candidates) :], minlength=total)
    order = _typical_first(vectors, rows, clusters, len(candidates), seed)
    # A cluster's k-th choice comes when it has as many covered rows as that, smaller clusters last among equals.
    cluster = clusters[order]
    turn = np.arange(len(order)) - np.searchsorted(cluster, cluster) + there[cluster]
    best = order[np.lexsort((cluster, -size[cluster], turn, size[cluster] < _SMALLEST))][:count]
    return Ranked(candidates[best], size[clusters[best]].astype(np.float64))


def _clusters(points: Vectors, count: int, seed: int) -> IntArray:
    if len(points) * count <= _EXACT:
        model = KMeans(count, n_init=1, max_iter=50, random_state=seed)
    else:
        model = MiniBatchKMeans(count, n_init=1, max_iter=20, batch_size=4096, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal points make fewer clusters, and need no more
        return np.asarray(model.fit_predict(points), dtype=np.int64)


def _typical_first(vectors: Vectors, rows: IntArray, clusters: IntArray, candidates: int, seed: int) -> IntArray:
    """Places of the candidates (the first of `rows`), cluster by cluster, the most typical of each first."""
    members = np.argsort(clusters, kind="stable")
    parts = []
    for within in np.split(members, np.flatnonzero(np.diff(clusters[members])) + 1):
        own = within[within < candidates]
        far = _mean_distance(vectors[rows[own]], vectors[rows[within]], seed)
        parts.append(own[np.argsort(far, kind="stable")])
    return np.concatenate(parts)


def _mean_distance(points: Vectors, cluster: Vectors, seed: int) -> FloatArray:
    """Mean distance of each point to its nearest in the cluster (or a sample of it), itself left out."""
    if len(cluster) > _WITHIN:
        cluster = cluster[np.random.default_rng(seed).choice(len(cluster), _WITHIN, replace=False)]
    neighbors = min(_NEIGHBORS, len(cluster) - 1)
    if neighbors < 1:
        return np.zeros(len(points))
    means = np.empty(len(points))
    for start in range(0, len(points), _WITHIN):
        distances = squared_distances(points[start : start + _WITHIN], cluster)
        nearest = np.sort(np.partition(distances, neighbors, axis=1)[:, : neighbors + 1], axis=1)
        means[start : start + _WITHIN] = np.sqrt(nearest[:, 1:]).mean(axis=1)
    return means
