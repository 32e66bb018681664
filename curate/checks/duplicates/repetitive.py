"""Sequences (bursts, video, a conveyor) reduced to representatives by farthest-point traversal (Gonzalez, 1985).

In each sequence the image farthest from all kept ones is kept next, until none is farther than half of what different
scenes are usually apart. What is left shows nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.neighbors import nearest_neighbors

IntArray = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

NEARNESS: Final = 0.5
"""An image is shown by a kept one that is nearer than this part of the usual distance between sequences."""

_ASKED: Final = 10_000
"""Of larger sets, the usual distance is that of so many images, evenly spaced."""


@dataclass(frozen=True)
class Shown:
    """Which image shows what each of n images shows.

    Attributes:
        by: Row of the kept image of its sequence, itself where it is kept; int64 of shape (n,).
        similarity: Cosine to it, float64 of shape (n,).
        score: Probability-like: 1 where both are alike, 0.5 at the limit; float64 of shape (n,).
        usual: Cosine between an image and the most similar one of another sequence, the median.
    """

    by: IntArray
    similarity: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    usual: float


def thinned(vectors: Vectors, images: pa.Table, copies: IntArray) -> Shown:
    """Reduce sequences to representatives.

    Args:
        vectors: Unit vectors, shape (n, d).
        images: n rows with columns group, frame, timestamp and location. Images of one group with a frame or a timestamp are
            a sequence; where no image has a group, all of them are one.
        copies: Group of copies of each image, shape (n,): copies do not say how far apart different scenes are.
    """
    n = len(vectors)
    sequence = sequences(images)
    # Distances between different sequences; where there is one, between its images in the order of time.
    apart = sequence if len(np.unique(sequence)) > 1 else copies
    asked = np.linspace(0, n - 1, min(n, _ASKED)).astype(np.int64)
    apart = np.unique(apart, return_inverse=True)[1]
    nearest = nearest_neighbors(vectors, 1, groups=apart, rows=asked).similarities[:, 0]
    usual = float(np.median(nearest)) if n > 1 else 0.0
    limit = NEARNESS * max(1 - usual, 1e-6)
    by = np.arange(n)
    similarity = np.ones(n)
    order = np.argsort(sequence, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(sequence[order])) + 1):
        if len(members) > 1:
            by[members], similarity[members] = _traverse(vectors, members, limit)
    score = np.where(by == np.arange(n), 0.0, 1 - 0.5 * np.clip((1 - similarity) / limit, 0, 1))
    return Shown(by, similarity, score, usual)


def sequences(images: pa.Table) -> IntArray:
    """Number of each image's sequence; shape (n,). An image that is in none has one of its own."""
    codes = recordings(images)
    alone = codes < 0
    if alone.all():
        return np.zeros(len(codes), np.int64)
    codes[alone] = codes.max() + 1 + np.arange(int(alone.sum()))
    return codes


def recordings(images: pa.Table) -> IntArray:
    """Number of the video or burst that each image is a frame of; -1 for none; shape (n,).

    Args:
        images: n rows with columns group, frame and timestamp.
    """
    timed = pc.or_(pc.is_valid(images["frame"]), pc.is_valid(images["timestamp"]))
    named = pc.if_else(timed, images["group"], pa.scalar(None, pa.string())).combine_chunks().dictionary_encode()
    return np.array(pc.fill_null(named.indices, -1).to_numpy(), dtype=np.int64)


def _traverse(vectors: Vectors, members: IntArray, limit: float) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """For each member the kept one nearest to it, and their cosine. The first kept is nearest to the mean."""
    own = vectors[members].astype(np.float64)
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    kept = int((own @ own.mean(axis=0)).argmax())
    by = np.full(len(members), kept)
    best = own @ own[kept]
    while 1 - best.min() > limit:
        kept = int(best.argmin())
        similarity = own @ own[kept]
        nearer = similarity > best
        nearer[kept] = True
        by[nearer], best[nearer] = kept, similarity[nearer]
        best[kept] = 1.0
    return members[by], np.minimum(best, 1.0)
