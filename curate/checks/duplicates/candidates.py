"""Which pairs are worth comparing: near in an embedding, near by a perceptual hash, or copies of the same copy."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.nearest import nearest_in_cells, on_leading_axes
from curate.checks.duplicates.search import EXACT_UP_TO, VISITS
from curate.checks.graph import components
from curate.checks.neighbors import nearest_neighbors

Hashes = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]

NEAREST: Final = 16
"""Neighbours of an image that are looked at once one of them is a copy."""

FIRST: Final = 4
"""Neighbours that are looked at of every image."""

RADIUS: Final = 8
"""Bits that the hashes of candidates differ in at most."""

WHOLE_GROUP: Final = 24
"""Groups of up to this size are compared all with all."""

LARGEST_SEARCH: Final = 200_000
"""Above, only neighbours of at least `SIMILAR` are looked for."""

SIMILAR: Final = 0.8

_BANDS: Final = 4
_BUCKET: Final = 32


def embedding_neighbors(vectors: npt.NDArray[np.floating]) -> IntArray:
    """The nearest rows of each row, nearest first; int64 array of shape (n, NEAREST), -1 where there are fewer.

    Similarities are taken on 128 principal axes, which is enough to choose candidates. Of few rows, all are compared with all;
    of more, those that meet in a cell, and equal rows have the first of them as their only neighbour. Above
    `LARGEST_SEARCH`, only rows that are `SIMILAR` are neighbours.
    """
    n = len(vectors)
    if n <= min(EXACT_UP_TO, LARGEST_SEARCH):
        return nearest_neighbors(on_leading_axes(vectors, np.float32), min(NEAREST, max(n - 1, 1))).indices
    # In float16, in which equal rows stay equal, however they are turned.
    reduced = on_leading_axes(vectors, np.float16)
    if n <= LARGEST_SEARCH:
        return nearest_in_cells(reduced, NEAREST, visits=2 * VISITS).indices
    return nearest_in_cells(reduced, NEAREST, visits=VISITS, least=SIMILAR).indices


def neighbor_pairs(near: IntArray, rows: IntArray, count: int) -> IntArray:
    """Pairs of some rows and their `count` nearest; shape (m, 2), each pair once, smaller row first."""
    chosen = near[rows, :count]
    pairs = np.stack([np.repeat(rows, chosen.shape[1]), chosen.ravel()], axis=1)
    return unique_pairs(pairs[pairs[:, 1] >= 0])


def hash_pairs(hashes: Hashes, others: Hashes | None = None) -> IntArray:
    """Pairs whose 64-bit hashes differ in few bits, found by equal quarters (Norouzi et al., CVPR 2012, on multi-index hashing).

    All pairs that differ in up to 3 bits are found, most of those up to `RADIUS`. Where many hashes have the same quarter
    (blank images), each is compared with those next to it in the order of the whole hash only.

    Args:
        hashes: uint64 array of shape (n,).
        others: Hashes of the mirrored images, to find mirrored copies; None to compare the hashes with one another.

    Returns:
        Shape (m, 2), each pair once, smaller row first.
    """
    n = len(hashes)
    values = hashes if others is None else np.concatenate([hashes, others])
    found = [np.zeros((0, 2), np.int64)]
    for band in range(_BANDS):
        key = (values >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.lexsort((values, key))
        key, ordered, at = key[order], values[order], np.arange(len(order))
        for step in range(1, _BUCKET):
            at = at[: np.searchsorted(at, len(order) - step)]
            at = at[key[at] == key[at + step]]  # what is no more so does not become so with a larger step
            close = at[np.bitwise_count(ordered[at] ^ ordered[at + step]) <= RADIUS]
            found.append(np.stack([order[close], order[close + step]], axis=1))
    pairs = np.concatenate(found)
    if others is not None:
        pairs = pairs[(pairs[:, 0] < n) != (pairs[:, 1] < n)] % n
    return unique_pairs(pairs)


def group_pairs(copies: IntArray, n: int) -> IntArray:
    """Pairs within the groups that copies make: all of a small group; of a large one those with a copy in common.

    Args:
        copies: Pairs found to be copies, shape (m, 2).
        n: How many rows.
    """
    if not len(copies):
        return copies
    component = components(copies[:, 0], copies[:, 1], n)
    rows = np.unique(copies)
    rows = rows[np.argsort(component[rows], kind="stable")]
    found = [np.zeros((0, 2), np.int64)]
    for members in np.split(rows, np.flatnonzero(np.diff(component[rows])) + 1):
        if 2 < len(members) <= WHOLE_GROUP:
            found.append(np.stack([members[k] for k in np.triu_indices(len(members), 1)], axis=1))
        elif len(members) > WHOLE_GROUP:
            # A ring with chords: enough to tell whether the group hangs together.
            for step in range(1, WHOLE_GROUP // 2):
                found.append(np.stack([members, np.roll(members, -step)], axis=1))
    return unique_pairs(np.concatenate(found))


def unique_pairs(pairs: IntArray) -> IntArray:
    """Each pair once, smaller row first, none of a row with itself; shape (m, 2), sorted."""
    ordered = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.asarray(np.unique(ordered, axis=0), dtype=np.int64).reshape(-1, 2)


def without(pairs: IntArray, known: IntArray) -> IntArray:
    """The pairs that are not among the known ones."""
    if not len(known) or not len(pairs):
        return pairs
    base = np.int64(max(pairs.max(), known.max()) + 1)
    return pairs[~np.isin(pairs[:, 0] * base + pairs[:, 1], known[:, 0] * base + known[:, 1])]
