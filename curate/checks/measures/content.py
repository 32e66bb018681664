"""`images.content_hash`: BLAKE2b of the files' bytes, so that the same file is found under another name."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import Transaction
from curate.errors import UsageError
from curate.models.content import content_hash as content_hash
from curate.models.content import content_hashes
from curate.models.passes import fingerprints, image_items, is_known

HASHED: Final = "measures/content"
"""Table of ids and fingerprints: of which files the hashes in `images` are."""

HASHED_SCHEMA: Final = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("fingerprint", pa.string(), nullable=False)]
)


def update_content_hashes(transaction: Transaction, images: pa.Table) -> int:
    """Hash the files that have no hash yet, or have changed since; a file that cannot be read has none.

    Args:
        transaction: The commit being made; its table `images` is changed where a hash is.
        images: Columns image_id and path of the images to look at.

    Returns:
        How many files were hashed.
    """
    items = image_items(images).combine_chunks()
    prints = fingerprints(items)
    before = pc.index_in(items["id"], value_set=(stored := transaction.read("images"))["image_id"].combine_chunks())
    hashed = pc.is_valid(stored["content_hash"].take(before)).to_numpy(zero_copy_only=False)
    todo = np.flatnonzero(~(hashed & is_known(items["id"], prints, _known(transaction))) & pc.is_valid(prints))
    if not len(todo):
        return 0
    digests = content_hashes(items["path"].take(pa.array(todo)).to_pylist())
    rows = stored.take(before.take(pa.array(todo)))
    column = rows.schema.get_field_index("content_hash")
    changed = rows.set_column(column, rows.schema.field(column), digests)
    transaction.upsert("images", changed, "image_id")
    known = pa.table([items["id"].take(pa.array(todo)), prints.take(pa.array(todo))], schema=HASHED_SCHEMA)
    transaction.upsert(HASHED, known, "id")
    transaction.count("files hashed", len(todo))
    return len(todo)


def _known(transaction: Transaction) -> pa.Table:
    try:
        return transaction.read(HASHED)
    except UsageError:  # nothing was hashed yet
        return HASHED_SCHEMA.empty_table()
