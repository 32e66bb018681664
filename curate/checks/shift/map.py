"""A map of the images in two dimensions: what looks alike lies together.

Up to some thousands by t-SNE (van der Maaten and Hinton 2008), started from the principal components so that the large
distances mean something too (Kobak and Berens 2019) and any run gives the same map. Of more images a sample is laid out, and
each other image is put among its nearest neighbours in the sample, weighted by how near they are.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

FloatArray = npt.NDArray[np.floating[Any]]

LANDMARKS: Final = 4_000
"""As many images are laid out by t-SNE; that takes about half a minute of one core."""

_DIMENSIONS: Final = 32
_NEIGHBORS: Final = 5
_BLOCK: Final = 4_096
_FEWEST: Final = 8


def make_map(vectors: FloatArray, *, seed: int = 0, landmarks: int | None = None) -> npt.NDArray[np.float32]:
    """Lay images out.

    Memory beside the vectors: 0.2 GB, whatever their number.

    Args:
        vectors: Embedding, shape (n, d).
        seed: Of the sample and the layout.
        landmarks: How many are laid out by t-SNE; None for `LANDMARKS`.

    Returns:
        float32 array of shape (n, 2), within [-1, 1].
    """
    n = len(vectors)
    points = vectors.astype(np.float32)
    dimensions = min(_DIMENSIONS, n, points.shape[1])
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(n)[: landmarks or LANDMARKS])
    if n == 0 or dimensions < 2 or _all_alike(points[chosen]):
        return np.zeros((n, 2), np.float32)
    basis = PCA(dimensions, svd_solver="covariance_eigh").fit(points[chosen])
    known = basis.transform(points[chosen]).astype(np.float32)
    placed = known[:, :2] if len(chosen) < _FEWEST else _layout(known, seed)
    out = np.empty((n, 2), np.float32)
    out[chosen] = placed
    others = np.setdiff1d(np.arange(n), chosen, assume_unique=True)
    for block in np.array_split(others, max(1, -(-len(others) // _BLOCK))):
        if len(block):
            out[block] = _among(basis.transform(points[block]).astype(np.float32), known, placed)
    out -= out.mean(axis=0)
    return np.asarray(out / max(float(np.abs(out).max()), 1e-12), dtype=np.float32)


def _all_alike(points: npt.NDArray[np.float32]) -> bool:
    """Whether points differ by no more than rounding: there is nothing to lay out then."""
    return bool(np.ptp(points, axis=0).max() <= 1e-6 * np.abs(points).max())


def _layout(points: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    perplexity = min(30.0, (len(points) - 1) / 3)
    layout = TSNE(init="pca", perplexity=perplexity, random_state=seed, learning_rate="auto", n_jobs=1)
    return np.asarray(layout.fit_transform(points), dtype=np.float32)


def _among(points: FloatArray, landmarks: FloatArray, placed: FloatArray) -> FloatArray:
    """Where points belong among landmarks that have been placed."""
    square = np.square(landmarks).sum(axis=1) - 2 * points @ landmarks.T
    near = np.argpartition(square, min(_NEIGHBORS, len(landmarks) - 1), axis=1)[:, :_NEIGHBORS]
    distance = np.take_along_axis(square, near, axis=1) + np.square(points).sum(axis=1, keepdims=True)
    weight = 1 / (np.maximum(distance, 0) + 1e-6 * np.maximum(np.square(points).sum(axis=1, keepdims=True), 1e-9))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray((placed[near] * weight[:, :, None]).sum(axis=1))
