"""Verified pairs of images, and the groups that they make."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.graph import components

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SAME_BYTES: Final = 0
SAME_PIXELS: Final = 1
NEAR: Final = 2
SAME_SOURCE: Final = 3
"""Kinds of pairs: equal files; equal pixels in another file; copies by their looks; copies of one source by its name."""

COPY: Final = 0.5
"""From this probability on, a pair is one."""


@dataclass(frozen=True)
class Pairs:
    """m pairs of images, each once; rows number the images that were compared.

    Pairs that were verified and found to be no copies are kept with their low score: groups need them.

    Attributes:
        first: int64 array of shape (m,).
        second: The same; first < second.
        score: Probability that the two are copies, float64 of shape (m,).
        kind: One of the kinds above; int8 of shape (m,).
        mirrored: Whether the second is compared as its mirror image; bool of shape (m,).
        matrix: Takes points of the first image to those of the second, mirrored where it says so, both measured from
            the image's centre in units in which its longer side is `features.FRAME`; float64 of shape (m, 2, 3).
        inliers: Local features that agree with that; int64 of shape (m,), 0 where not compared.
        overlap: Part of the smaller image that the other covers; float64 of shape (m,), 1 where not compared.
        correlation: Under it, after gain and offset; float64 of shape (m,), 1 where not compared.
        detail: The same locally and for fine structure, averaged; float64 of shape (m,).
        differing: Part of the overlap in which the two differ; float64 of shape (m,).
    """

    first: IntArray
    second: IntArray
    score: FloatArray
    kind: npt.NDArray[np.int8]
    mirrored: BoolArray
    matrix: FloatArray
    inliers: IntArray
    overlap: FloatArray
    correlation: FloatArray
    detail: FloatArray
    differing: FloatArray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: IntArray | BoolArray) -> Pairs:
        """Some of the pairs."""
        return Pairs(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def copies(self) -> Pairs:
        """The pairs that are copies."""
        return self.take(self.score >= COPY)


def certain_pairs(first: IntArray, second: IntArray, kind: int) -> Pairs:
    """Pairs that need no comparison."""
    m = len(first)
    return Pairs(
        np.minimum(first, second),
        np.maximum(first, second),
        np.ones(m),
        np.full(m, kind, np.int8),
        np.zeros(m, dtype=bool),
        np.tile(np.eye(2, 3), (m, 1, 1)),
        np.zeros(m, np.int64),
        np.ones(m),
        np.ones(m),
        np.ones(m),
        np.zeros(m),
    )


def concatenate(parts: list[Pairs]) -> Pairs:
    """Several sets of pairs as one; a pair that is in several is taken from the first."""
    joined = Pairs(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Pairs)))
    _, kept = np.unique(np.stack([joined.first, joined.second], axis=1), axis=0, return_index=True)
    return joined.take(kept)


def groups_of(pairs: Pairs, n: int) -> IntArray:
    """Groups of copies.

    Images that are linked by copies form a group, unless what was verified says otherwise: where pairs within it were found
    to be no copies, it is built up by average linkage on the verified scores, so that one wrong pair, or a chain of small
    steps, does not join what is different.

    Args:
        pairs: With the pairs that were found to be none.
        n: How many images.

    Returns:
        int64 array of shape (n,): the smallest row of the group each image is in; its own where it is in none.
    """
    linked = pairs.score >= COPY
    component = components(pairs.first[linked], pairs.second[linked], n)
    within = component[pairs.first] == component[pairs.second]
    doubtful = np.unique(component[pairs.first[within & ~linked]])
    group = _smallest_row(component, n)
    if len(doubtful):
        edges = np.flatnonzero(within & np.isin(component[pairs.first], doubtful))
        order = edges[np.argsort(component[pairs.first[edges]], kind="stable")]
        for rows in np.split(order, np.flatnonzero(np.diff(component[pairs.first[order]])) + 1):
            for row, smallest in _average_linkage(pairs.first[rows], pairs.second[rows], pairs.score[rows]).items():
                group[row] = smallest
    return group


def _smallest_row(labels: npt.NDArray[np.integer], n: int) -> IntArray:
    smallest = np.full(int(labels.max(initial=-1)) + 1, n, np.int64)
    np.minimum.at(smallest, labels, np.arange(n))
    return np.asarray(smallest[labels], dtype=np.int64)


def _average_linkage(first: IntArray, second: IntArray, score: FloatArray) -> dict[int, int]:
    """Smallest row of each row's group; pairs that were not verified do not count in the averages."""
    links: dict[int, dict[int, tuple[float, int]]] = {}
    for a, b, value in zip(first.tolist(), second.tolist(), score.tolist(), strict=True):
        links.setdefault(a, {})[b] = links.setdefault(b, {})[a] = (value, 1)
    members = {row: [row] for row in links}
    heap = [(-value, a, b) for a, others in links.items() for b, (value, _) in others.items() if a < b]
    heapq.heapify(heap)
    while heap and -heap[0][0] >= COPY:
        value, a, b = heapq.heappop(heap)
        known = links.get(a, {}).get(b)
        if known is None or known[0] / known[1] != -value:
            continue
        # The other's rows and links go to the one with the smaller name; stale entries of the heap are skipped above.
        members[a] += members.pop(b)
        for other, (total, count) in links.pop(b).items():
            del links[other][b]
            if other != a:
                old_total, old_count = links[a].get(other, (0.0, 0))
                joined = (old_total + total, old_count + count)
                links[a][other] = links[other][a] = joined
                heapq.heappush(heap, (-joined[0] / joined[1], min(a, other), max(a, other)))
    return {row: min(rows) for rows in members.values() for row in rows}
