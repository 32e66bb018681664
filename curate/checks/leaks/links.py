"""Pairs of images across splits that should be on one side: copies, copies of copies, and images of one source.

A model that has seen a copy of a test image has seen the test image; one that has seen the frame before it nearly has
(Barz & Denzler, *Do we train on test data?*, 2020). All pairs are found, not each image's nearest: whoever takes one copy out
of the training set must know of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.pairs import COPY, SAME_BYTES, SAME_PIXELS, SAME_SOURCE, Pairs, groups_of
from curate.checks.graph import components

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

CHAINED: Final = 4
"""Kind of a pair that was not compared itself: both are in one group of copies. The other kinds are those of `Pairs`."""

SOURCE_SCORE: Final = 0.8
"""Score of two images of one source (a video, a burst, one image's augmented versions) whose pixels were not found alike."""

MOST_MATES: Final = 100
"""Images of one source that are listed, for each image and each other split: the nearest in the order of the frames."""

NOTHING: Final = -1


@dataclass(frozen=True)
class Links:
    """m pairs of images in different splits, each once.

    Attributes:
        first: Row numbers, int64 array of shape (m,).
        second: The same; first < second.
        score: Probability that what is learnt from the one helps with the other, float64 of shape (m,).
        kind: A kind of `curate.checks.duplicates.pairs`, or `CHAINED`; int8 of shape (m,).
        pair: Row in the pairs that were verified, int64 of shape (m,); -1 where these two were not compared.
    """

    first: IntArray
    second: IntArray
    score: FloatArray
    kind: npt.NDArray[np.int8]
    pair: IntArray

    def __len__(self) -> int:
        return len(self.first)


def links_across(pairs: Pairs, split: IntArray, source: IntArray, order: FloatArray) -> Links:
    """Find every pair of images in different splits that are copies or of one source.

    Args:
        pairs: Verified pairs of n images, with those that are no copies.
        split: Number of each image's split, int64 of shape (n,); -1 for an image in none, which leaks nowhere.
        source: Number of the video, burst or original each image comes from, the same shape; -1 for none.
        order: Place of each image within its source (a frame's number or time), float64 of shape (n,).

    Returns:
        The links, sorted. Of a source, or a group of copies, each image is linked to the nearest `MOST_MATES` of every
        other split.
    """
    n = len(split)
    compared = np.stack([pairs.first, pairs.second])
    copies = pairs.score >= COPY
    copied = groups_of(pairs, n)
    alone = np.bincount(copied, minlength=n)[copied] == 1
    chained = _mates(np.where(alone, NOTHING, copied), split, np.zeros(n))
    chained = chained[:, ~_among(chained, compared, n)]
    mates = _mates(source, split, order)
    found = [
        _links(compared[:, copies], pairs.score[copies], pairs.kind[copies], np.flatnonzero(copies)),
        _links(chained, _chain_scores(pairs, copies, chained, n), _chain_kinds(pairs, chained, n)),
        _links(mates, SOURCE_SCORE, SAME_SOURCE),
    ]
    every = Links(*(np.concatenate([getattr(part, field.name) for part in found]) for field in fields(Links)))
    a, b = split[every.first], split[every.second]
    rows = np.flatnonzero((a != b) & (a >= 0) & (b >= 0))
    # Of a pair that was found in several ways, the surest is kept, and of equally sure ones the first above.
    rows = rows[np.lexsort((-every.score[rows], every.second[rows], every.first[rows]))]
    keys = _keys(np.stack([every.first[rows], every.second[rows]]), n)
    rows = rows[np.unique(keys, return_index=True)[1]]
    return Links(*(getattr(every, field.name)[rows] for field in fields(Links)))


def units_of(pairs: Pairs, source: IntArray) -> IntArray:
    """What must stay on one side of a split: images joined by copies and by sources.

    Args:
        pairs: As for `links_across`.
        source: The same.

    Returns:
        Numbers from 0 that images of one unit share, int64 of shape (n,), in the order of their first images.
    """
    n = len(source)
    rows = np.arange(n)
    copies = pairs.copies
    known = source >= 0
    first_of_source = np.full(int(source.max(initial=-1)) + 1, n, np.int64)
    np.minimum.at(first_of_source, source[known], rows[known])
    a = np.concatenate([copies.first, rows[known], rows])
    b = np.concatenate([copies.second, first_of_source[source[known]], groups_of(pairs, n)])
    return components(a, b, n)


def _links(
    rows: IntArray, score: FloatArray | float, kind: npt.NDArray[np.int8] | int, pair: IntArray | int = NOTHING
) -> Links:
    """Links from pairs of rows (2, m), with one value for all or one for each."""
    m = rows.shape[1]
    return Links(rows[0], rows[1], np.full(m, score), np.full(m, kind, dtype=np.int8), np.full(m, pair, dtype=np.int64))


def _mates(group: IntArray, split: IntArray, order: FloatArray) -> IntArray:
    """Pairs (2, m) of images of one group in different splits: each with the nearest of every other split."""
    inside = np.flatnonzero((group >= 0) & (split >= 0))
    inside = inside[np.lexsort((inside, order[inside], group[inside]))]
    # Only groups that are in several splits have pairs; most are not.
    mixed = np.zeros(int(group.max(initial=-1)) + 1, dtype=bool)
    neighbors = group[inside[1:]] == group[inside[:-1]]
    mixed[group[inside[1:]][neighbors & (split[inside[1:]] != split[inside[:-1]])]] = True
    inside = inside[mixed[group[inside]]]
    parts = [np.zeros((2, 0), np.int64)]
    place = np.arange(len(inside))
    for other in np.unique(split[inside]):
        theirs = np.flatnonzero(split[inside] == other)
        asking = place[split[inside] != other]
        group_of_theirs = group[inside[theirs]]
        low = np.searchsorted(group_of_theirs, group[inside[asking]], "left")
        high = np.searchsorted(group_of_theirs, group[inside[asking]], "right")
        start = np.searchsorted(theirs, asking) - MOST_MATES // 2
        start = np.clip(start, low, np.maximum(high - MOST_MATES, low))
        count = np.minimum(high - start, MOST_MATES)
        offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        mate = theirs[np.repeat(start, count) + offset]
        parts.append(inside[np.stack([np.repeat(asking, count), mate])])
    return np.unique(np.sort(np.concatenate(parts, axis=1), axis=0), axis=1)


def _chain_scores(pairs: Pairs, copies: npt.NDArray[np.bool_], chained: IntArray, n: int) -> FloatArray:
    """A chain is as sure as the less sure of its ends."""
    surest: FloatArray = np.zeros(n)
    for rows in (pairs.first, pairs.second):
        np.maximum.at(surest, rows[copies], pairs.score[copies])
    ends: FloatArray = surest[chained]
    return np.asarray(ends.min(axis=0), dtype=np.float64)


def _chain_kinds(pairs: Pairs, chained: IntArray, n: int) -> npt.NDArray[np.int8]:
    """Equal images are linked to the first of them alone: a chain of such links is no weaker than a link."""
    kinds = np.full(chained.shape[1], CHAINED, dtype=np.int8)
    for kind in (SAME_PIXELS, SAME_BYTES):
        same = pairs.take(pairs.kind <= kind)  # equal bytes are equal pixels
        equal = components(same.first, same.second, n)
        kinds[equal[chained[0]] == equal[chained[1]]] = kind
    return kinds


def _among(rows: IntArray, others: IntArray, n: int) -> npt.NDArray[np.bool_]:
    return np.isin(_keys(rows, n), _keys(others, n))


def _keys(rows: IntArray, n: int) -> IntArray:
    return np.asarray(rows[0] * max(n, 1) + rows[1], dtype=np.int64)
