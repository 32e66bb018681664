"""Embedding spaces of a dataset: what one encoder makes of its images, or of the objects annotated on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.query import in_layer
from curate.dataset.schema import embeddings_schema
from curate.dataset.store import EMBEDDINGS, Dataset, Transaction, begin
from curate.errors import InputError
from curate.models.embedding import LeftOut, Progress, crop_items, embed, image_items
from curate.models.encoders.base import Encoder, Vectors
from curate.models.encoders.registry import load_encoder
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


def space_name(encoder: Encoder, content: Content) -> str:
    """Name of an encoder's space: a folder's name on every system."""
    return f"{re.sub(r'[^0-9A-Za-z_.@-]+', '-', encoder.name)}-{content}"


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
        items: Columns of `curate.models.embedding.ITEMS`.
        progress: Told (done, total).
    """
    space = space_name(encoder, content)
    table = EMBEDDINGS + space
    known = table in transaction.base.commit.tables
    existing = transaction.base.table(table, columns=["id", "fingerprint"]) if known else None
    spool = transaction.base.path / "spool" / space
    result = embed(items, existing, encoder, spool, progress=progress)
    transaction.info = {**transaction.info, "encoder": encoder.name}
    if result.new.num_rows:
        transaction.upsert(table, result.new.cast(embeddings_schema(encoder.dimensions)), "id")
        transaction.count(f"{content} embedded", result.new.num_rows)
    transaction.after_commit(result.discard_spool)
    left_out = [*result.unreadable, *result.skipped]
    return SpaceUpdate(space, encoder.name, result.new.num_rows, result.reused, left_out)


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
