"""The copies in a dataset: what was compared is kept there, so that no pair is compared twice."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.duplicates.background import background_only
from curate.checks.duplicates.candidates import Hashes, embedding_neighbors
from curate.checks.duplicates.compared import Comparer
from curate.checks.duplicates.find import find_copies
from curate.checks.duplicates.keepers import invert
from curate.checks.duplicates.pairs import (
    COPY,
    SAME_BYTES,
    SAME_PIXELS,
    SAME_SOURCE,
    IntArray,
    Pairs,
    certain_pairs,
    concatenate,
)
from curate.checks.duplicates.probability import FIXED
from curate.checks.duplicates.verify import displacement
from curate.checks.measures.content import update_content_hashes
from curate.checks.measures.table import MEASURES, read_measures
from curate.dataset import Transaction
from curate.dataset.ids import from_ids
from curate.dataset.store import EMBEDDINGS
from curate.engine.memory import give_back
from curate.models.passes import LeftOut, Progress, image_items
from curate.models.spaces import choose_encoder, embedding_table, read_vectors, update_tables

IMAGE_COLUMNS: Final = ("image_id", "location", "path", "content_hash", "group")
"""What `dataset_pairs` wants to know of images."""

_BACKGROUND_ONLY: Final = 0.1
_SOURCE_MARK: Final = ".rf."


def dataset_pairs(
    transaction: Transaction,
    images: pa.Table,
    *,
    encoder: str | None = None,
    progress: Progress | None = None,
    new: npt.NDArray[np.bool_] | None = None,
) -> tuple[Pairs, list[LeftOut]]:
    """Find the pairs of images that are copies of one another.

    Hashes, measures and vectors are brought up to date in the transaction, and what is compared is kept in it.

    Memory: the vectors in float16, what `nearest_in_cells` takes beside them, and some 1 KB for each image. Features are in a
    temporary file: 78 KB for each image that is compared.

    Args:
        transaction: The commit being made.
        images: n rows with the columns `IMAGE_COLUMNS`.
        encoder: Spec of the encoder; None for the one the dataset remembers.
        progress: Told (done, total).
        new: Images in question, shape (n,): near copies are looked for of these only; None for all.

    Returns:
        Pairs of rows of `images`, and the images that could not be read. Equal images are linked to the first of them (by
        id) only; the others' near copies are the first's.
    """
    images = images.combine_chunks()
    update_content_hashes(transaction, images)
    images = _with_hashes(transaction, images)
    chosen = choose_encoder(transaction.base, encoder)
    space = embedding_table(chosen)
    updates = update_tables(transaction, [MEASURES, space], {"images": image_items(images)}, progress=progress)
    transaction.info = {**transaction.info, "encoder": chosen.name}
    measures, measured = read_measures(transaction, "images", images["image_id"])
    pixels = np.zeros(images.num_rows, np.uint64)
    pixels[measured] = measures.columns["pixel_hash"]
    del measures
    certain, distinct = _equal(images, pixels, measured)
    source = _sources(images)
    parts = [certain, _same_source(images, source)]
    if measured.any():
        name = space.prefix.removeprefix(EMBEDDINGS) + "-images"
        near = _near(transaction, images, distinct & measured, name, progress, new)
        # What was made of one source belongs together, whatever augmentation did to the pixels.
        alike = (source[near.first] == source[near.second]) & (source[near.first] >= 0)
        parts.insert(1, near.take(~alike | (near.score >= COPY)))
    return concatenate(parts), updates[0].left_out


def _with_hashes(transaction: Transaction, images: pa.Table) -> pa.Table:
    """The images with their content hashes as the transaction has them."""
    stored = transaction.read("images", columns=["image_id", "content_hash"])
    at = pc.index_in(images["image_id"], value_set=stored["image_id"].combine_chunks())
    column = images.schema.get_field_index("content_hash")
    return images.set_column(column, images.schema.field(column), stored["content_hash"].take(at))


def _equal(
    images: pa.Table, pixels: npt.NDArray[np.uint64], measured: npt.NDArray[np.bool_]
) -> tuple[Pairs, npt.NDArray[np.bool_]]:
    """Links from equal images to the first of them (by id), and which images are the first."""
    ids = from_ids(images["image_id"])
    codes = pc.fill_null(images["content_hash"].combine_chunks().dictionary_encode().indices, -1).to_numpy()
    parts = []
    distinct = np.ones(images.num_rows, dtype=bool)
    for kind, keys, known in ((SAME_BYTES, codes, codes >= 0), (SAME_PIXELS, pixels, measured)):
        rows = np.flatnonzero(known & distinct)
        rows = rows[np.lexsort((ids[rows], keys[rows]))]
        first = np.searchsorted(keys[rows], keys[rows])
        copies = rows[first] != rows
        parts.append(certain_pairs(rows[first][copies], rows[copies], kind))
        distinct[rows[copies]] = False
    return concatenate(parts), distinct


def _sources(images: pa.Table) -> IntArray:
    """Numbers that images share that an export made of one source, by what it named them; -1 for others; shape (n,)."""
    made = pc.match_substring(images["location"], _SOURCE_MARK)
    groups = pc.if_else(made, images["group"], pa.scalar(None, pa.string())).combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(groups.indices, -1).to_numpy(), dtype=np.int64)


def _same_source(images: pa.Table, codes: IntArray) -> Pairs:
    """Links from the images of one source to the first of them (by id)."""
    rows = np.flatnonzero(codes >= 0)
    rows = rows[np.lexsort((from_ids(images["image_id"])[rows], codes[rows]))]
    first = np.searchsorted(codes[rows], codes[rows])
    linked = rows[first] != rows
    return certain_pairs(rows[first][linked], rows[linked], SAME_SOURCE)


def _near(
    transaction: Transaction,
    images: pa.Table,
    chosen: npt.NDArray[np.bool_],
    space: str,
    progress: Progress | None,
    new: npt.NDArray[np.bool_] | None,
) -> Pairs:
    """Near copies among images that are all different; with `new`, those of which one is new."""
    order = np.flatnonzero(chosen)
    order = order[np.argsort(from_ids(images["image_id"])[order])]  # so that nothing depends on the order of rows
    images = images.take(pa.array(order))
    near, there = _neighbors(transaction, space, images["image_id"])
    hashes = _hashes(transaction, images["image_id"])
    give_back()
    order, images = order[there], images.filter(pa.array(there))
    hashes = [(plain[there], mirrored[there]) for plain, mirrored in hashes]
    with closing(Comparer(transaction, images, progress)) as comparer:
        own = None if new is None else new[order]
        found = find_copies(near, hashes, comparer if own is None else lambda m: comparer(m[own[m].any(axis=1)]))
        found = _without_backgrounds(found, comparer, len(order))
        comparer.store()
    turned = order[found.first] > order[found.second]
    return _renumbered(found, order, turned)


def _neighbors(transaction: Transaction, space: str, ids: pa.ChunkedArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Neighbours of the images that have vectors, and which of n these are: found once for all checks of a commit."""
    digest = hashlib.blake2b(from_ids(ids).tobytes()).hexdigest()
    key = ("neighbors", space, transaction.snapshot().commit.tables[EMBEDDINGS + space], digest)
    if key not in transaction.shared:
        give_back()
        vectors, there = read_vectors(transaction, space, ids, dtype=np.float16)
        transaction.shared[key] = embedding_neighbors(vectors).astype(np.int32), there
    near, there = transaction.shared[key]
    return near.astype(np.int64), there


def _hashes(transaction: Transaction, ids: pa.ChunkedArray) -> list[tuple[Hashes, Hashes]]:
    """Perceptual hashes of measured images, and those of the mirror images; copied, so that no other measure is held."""
    columns = read_measures(transaction, "images", ids)[0].columns
    return [(columns[name].copy(), columns[f"{name}_mirrored"].copy()) for name in ("dhash", "phash")]


def _without_backgrounds(pairs: Pairs, comparer: Comparer, n: int) -> Pairs:
    """The pairs, those that have only the background of a fixed camera in common being no copies."""
    copies = np.flatnonzero(pairs.score >= COPY)
    both = np.stack([pairs.first[copies], pairs.second[copies]], axis=1)
    moved = displacement(pairs.matrix[copies])
    score = pairs.score.copy()
    only = background_only(both, (moved < FIXED) & ~pairs.mirrored[copies], comparer.small, n)
    score[copies[only]] *= _BACKGROUND_ONLY
    return replace(pairs, score=score)


def _renumbered(pairs: Pairs, order: IntArray, turned: npt.NDArray[np.bool_]) -> Pairs:
    """Pairs of places in `order` as pairs of rows; where that turns a pair round, its model is turned round too."""
    first, second = order[pairs.first], order[pairs.second]
    matrix = pairs.matrix.copy()
    matrix[turned] = invert(matrix[turned], pairs.mirrored[turned])
    return Pairs(
        np.where(turned, second, first),
        np.where(turned, first, second),
        pairs.score,
        pairs.kind,
        pairs.mirrored,
        matrix,
        pairs.inliers,
        pairs.overlap,
        pairs.correlation,
        pairs.detail,
        pairs.differing,
    )
