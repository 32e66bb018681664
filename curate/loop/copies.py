"""Images that are copies of one another: of those, one is worth a label.

What `curate duplicates` has verified counts, and equal files; where it has not looked, vectors that are far nearer to each
other than neighbours usually are in the set.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.graph import joined_groups
from curate.dataset import Transaction
from curate.loop.strategies.distances import nearest_squared, squared_distances, usual_squared_distance

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Vectors = npt.NDArray[np.float32]

_COPIES: Final = (
    "check = 'duplicates' AND kind IN ('exact_duplicate', 'near_duplicate') AND status <> 'rejected' AND score >= 0.5"
)
_USUAL_NEIGHBOR: Final = 10  # of small sets the tenth part: the tenth of 20 is no neighbour any more
_RATIO: Final = 0.1  # of the usual squared distance to that neighbour, as where label errors are looked for
_ROUNDING: Final = 1e-6
_BLOCK: Final = 2048


def known_copies(transaction: Transaction, ids: pa.ChunkedArray) -> IntArray:
    """Numbers that images share which are known to be copies.

    Args:
        transaction: The dataset: its findings of duplicates, and its images' content hashes.
        ids: Of n images.

    Returns:
        int64 array of shape (n,).
    """
    ids = ids.combine_chunks()
    found = transaction.read("findings", columns=["image_id", "related"], where=_COPIES)
    related = found["related"].combine_chunks()
    other = pc.struct_field(related.flatten(), "image_id")
    first = pc.index_in(found["image_id"].combine_chunks().take(pc.list_parent_indices(related)), value_set=ids)
    second = pc.index_in(other, value_set=ids)
    both = pc.and_(first.is_valid(), second.is_valid())
    stored = transaction.read("images", columns=["image_id", "content_hash"])
    hashes = stored["content_hash"].take(pc.index_in(ids, value_set=stored["image_id"].combine_chunks()))
    codes = pc.fill_null(hashes.combine_chunks().dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
    groups = np.where(codes >= 0, codes, len(ids) + np.arange(len(ids)))
    return joined_groups(groups, _numbers(first.filter(both)), _numbers(second.filter(both)))


def copy_distance(vectors: Vectors, *, seed: int) -> float:
    """The squared distance up to which two vectors are those of copies, judged by the set; shape (n, d)."""
    if len(vectors) < 2:
        return _ROUNDING
    rank = max(1, min(_USUAL_NEIGHBOR, len(vectors) // _USUAL_NEIGHBOR))
    return max(_RATIO * usual_squared_distance(vectors, rank=rank, seed=seed), _ROUNDING)


def distinct(rows: IntArray, taken: IntArray, vectors: Vectors, groups: IntArray, distance: float) -> BoolArray:
    """Which rows are copies neither of what is taken nor of a row before them.

    Args:
        rows: Best first, shape (m,).
        taken: Rows that are labelled or chosen already, shape (k,).
        vectors: Shape (n, d).
        groups: Numbers that known copies share, shape (n,).
        distance: From `copy_distance`.

    Returns:
        bool array of shape (m,).
    """
    kept = ~np.isin(groups[rows], groups[taken]) & (nearest_squared(vectors, rows, taken) > distance)
    kept[np.setdiff1d(np.arange(len(rows)), np.unique(groups[rows], return_index=True)[1])] = False
    places = np.flatnonzero(kept)
    before: dict[int, list[int]] = defaultdict(list)
    points = vectors[rows[places]]
    for start in range(0, len(points), _BLOCK):
        near = squared_distances(points[start : start + _BLOCK], points[: start + _BLOCK]) <= distance
        for later, earlier in zip(*np.nonzero(near), strict=True):
            if earlier < later + start:
                before[int(later) + start].append(int(earlier))
    for later in sorted(before):
        kept[places[later]] = not kept[places[before[later]]].any()
    return kept


def _numbers(column: pa.Array) -> IntArray:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)
