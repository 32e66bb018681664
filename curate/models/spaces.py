"""What is computed of a dataset's images, and of the objects annotated on them, and kept: embedding spaces above all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.query import in_layer
from curate.dataset.store import EMBEDDINGS, Dataset, Transaction, begin
from curate.errors import InputError
from curate.models.embedding import Embedding
from curate.models.encoders.base import Encoder, Vectors
from curate.models.encoders.registry import load_encoder
from curate.models.passes import (
    Computation,
    LeftOut,
    PassResult,
    Progress,
    Together,
    compute,
    crop_items,
    fingerprints,
    image_items,
    is_known,
    stored_schema,
)
from curate.names import GROUND_TRUTH

Content = Literal["images", "crops"]

DEFAULT_ENCODER: Final = "auto"


@dataclass(frozen=True)
class SpaceUpdate:
    """What bringing a space up to date did.

    Attributes:
        space: The space's name.
        encoder: Name of the encoder.
        embedded: How many vectors are new.
        reused: How many were there already.
        left_out: Rows without a vector, and why: images that cannot be read, impossible boxes.
    """

    space: str
    encoder: str
    embedded: int
    reused: int
    left_out: list[LeftOut]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "space": self.space,
            "encoder": self.encoder,
            "embedded": self.embedded,
            "reused": self.reused,
            "left_out": [vars(row) for row in self.left_out],
        }

    def describe(self) -> str:
        """A sentence for a person."""
        text = f"{self.space}: {self.embedded:,} embedded with {self.encoder}, {self.reused:,} were there already"
        if self.left_out:
            first = self.left_out[0]
            text += f"; {len(self.left_out):,} left out, first {first.path or first.id}: {first.reason}"
        return text


def choose_encoder(dataset: Dataset, spec: str | None) -> Encoder:
    """The encoder that was asked for, or the one the dataset remembers, or the default."""
    return load_encoder(spec or str(dataset.commit.info.get("encoder") or DEFAULT_ENCODER))


def space_name(encoder: Encoder) -> str:
    """Name of an encoder's spaces, before '-images' and '-crops': a folder's name on every system."""
    return _file_name(encoder.name)


def _file_name(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z_.@-]+", "-", text)


def embed_dataset(
    name: str,
    *,
    encoder: str | None = None,
    crops: bool = False,
    layer: str = GROUND_TRUTH,
    command: str,
    progress: Progress | None = None,
) -> list[SpaceUpdate]:
    """Embed what is not embedded yet of a dataset; one commit, or none if nothing was missing.

    Args:
        name: The dataset.
        encoder: Spec of the encoder; None for the one the dataset remembers.
        crops: Embed the annotated objects of a layer too.
        layer: That layer.
        command: The command line, for the history.
        progress: Told (done, total).

    Raises:
        UnavailableError: The encoder's weights cannot be had.
        InputError: Not one image could be read.
    """
    with begin(name, command=command) as transaction:
        chosen = choose_encoder(transaction.base, encoder)
        images = transaction.base.table("images", columns=["image_id", "path"])
        updates = [update_space(transaction, chosen, "images", image_items(images), progress=progress)]
        if crops:
            annotations = transaction.base.table(
                "annotations", columns=["annotation_id", "image_id", "bbox"], where=in_layer(layer)
            )
            items = crop_items(annotations, images)
            updates.append(update_space(transaction, chosen, "crops", items, progress=progress))
        unreadable = updates[0].left_out
        if images.num_rows and len(unreadable) == images.num_rows:
            raise InputError(
                f"not one of {images.num_rows:,} images can be read; the first: {unreadable[0].reason}",
                where=unreadable[0].path or unreadable[0].id,
                remedy="import again with --images FOLDER",
            )
    return updates


def update_space(
    transaction: Transaction, encoder: Encoder, content: Content, items: pa.Table, *, progress: Progress | None = None
) -> SpaceUpdate:
    """Embed the items that have no up-to-date vector, within a transaction; what is done survives an interruption.

    Args:
        transaction: The commit being made.
        encoder: The encoder.
        content: Whether the items are whole images or crops.
        items: Columns of `curate.models.passes.ITEMS`.
        progress: Told (done, total).
    """
    (update,) = update_tables(transaction, [embedding_table(encoder)], {content: items}, progress=progress)
    transaction.info = {**transaction.info, "encoder": encoder.name}
    return SpaceUpdate(update.table.removeprefix(EMBEDDINGS), encoder.name, update.new, update.reused, update.left_out)


def embedding_table(encoder: Encoder) -> Kept:
    """An encoder's vectors, as `update_tables` wants them."""
    return Kept(EMBEDDINGS + space_name(encoder), Embedding(encoder), "embedded")


@dataclass(frozen=True)
class Kept:
    """A computation whose columns a dataset keeps, in a table for images and one for crops.

    Attributes:
        prefix: Of the tables' names; `-images` or `-crops` comes behind.
        computation: What is computed.
        done: What is said of it in the history: 'embedded', 'measured'.
    """

    prefix: str
    computation: Computation
    done: str


@dataclass(frozen=True)
class TableUpdate:
    """What bringing a table of computed columns up to date did.

    Attributes:
        table: Its name.
        new: How many rows are new.
        reused: How many were there already.
        left_out: Rows without columns, and why.
    """

    table: str
    new: int
    reused: int
    left_out: list[LeftOut]


def update_tables(
    transaction: Transaction,
    kept: Sequence[Kept],
    items: Mapping[Content, pa.Table],
    *,
    progress: Progress | None = None,
) -> list[TableUpdate]:
    """Compute what is missing of several computations, within a transaction, decoding each image once for all of them.

    Args:
        transaction: The commit being made.
        kept: What is wanted. What is up to date for all items is not computed again.
        items: Columns of `curate.models.passes.ITEMS`, of whole images, of crops, or both; ids are unique.
        progress: Told (done, total).

    Returns:
        One for each of `kept` and content, in that order.
    """
    every = pa.concat_tables(items.values())
    prints = fingerprints(every)
    known = {each.prefix: pa.concat_tables(_known(transaction, each, content) for content in items) for each in kept}
    due = [each for each in kept if not is_known(every["id"], prints, known[each.prefix]).all()]
    updates = {}
    if due:
        computation = due[0].computation if len(due) == 1 else Together([each.computation for each in due])
        spool = transaction.base.path / "spool" / "+".join(_file_name(each.prefix) for each in due)
        result = compute(
            every, _known_to_all([known[each.prefix] for each in due]), computation, spool, progress=progress
        )
        transaction.after_commit(result.discard_spool)
        for each in due:
            updates[each.prefix] = [_store(transaction, each, content, items[content], result) for content in items]
    for each in kept:
        updates.setdefault(
            each.prefix,
            [TableUpdate(f"{each.prefix}-{content}", 0, rows.num_rows, []) for content, rows in items.items()],
        )
    return [update for each in kept for update in updates[each.prefix]]


def _known(transaction: Transaction, kept: Kept, content: Content) -> pa.Table:
    """Columns id and fingerprint of what is stored."""
    table = f"{kept.prefix}-{content}"
    if not transaction.has(table):
        return stored_schema(kept.computation).empty_table().select(["id", "fingerprint"])
    return transaction.read(table, columns=["id", "fingerprint"])


def _known_to_all(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows that every table has, with the same fingerprint."""
    first, *others = tables
    keys = [pc.binary_join_element_wise(table["id"], table["fingerprint"], "/") for table in others]
    for other in keys:
        first = first.filter(
            pc.is_in(pc.binary_join_element_wise(first["id"], first["fingerprint"], "/"), other.combine_chunks())
        )
    return first


def _store(transaction: Transaction, kept: Kept, content: Content, items: pa.Table, result: PassResult) -> TableUpdate:
    table = f"{kept.prefix}-{content}"
    ids = items["id"].combine_chunks()
    schema = stored_schema(kept.computation)
    rows = result.new.filter(pc.is_in(result.new["id"], ids)).select(schema.names)
    if rows.num_rows:
        transaction.upsert(table, rows.cast(schema), "id")
        transaction.count(f"{content} {kept.done}", rows.num_rows)
    own = set(ids.to_pylist()) if result.unreadable or result.skipped else set()
    left_out = [row for row in (*result.unreadable, *result.skipped) if row.id in own]
    return TableUpdate(table, rows.num_rows, items.num_rows - rows.num_rows - len(left_out), left_out)


def read_vectors(transaction: Transaction, space: str, ids: pa.ChunkedArray) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """Vectors of n rows, as the transaction has them so far.

    Returns:
        float32 array of shape (m, dimensions), and a bool array of shape (n,) that says which m rows have a vector.
    """
    table = transaction.read(EMBEDDINGS + space, columns=["id", "vector"])
    position = pc.index_in(ids, table["id"].combine_chunks())
    there = np.asarray(position.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    vectors = table["vector"].take(position.drop_null()).combine_chunks()
    dimensions = table.schema.field("vector").type.list_size
    return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimensions).astype(np.float32), there
