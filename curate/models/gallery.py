"""The gallery: a dataset's images, or the objects annotated on them, embedded and ready to be compared with queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset import Dataset, Transaction
from curate.dataset.ids import Hashes, from_ids, positions
from curate.dataset.query import in_layer
from curate.dataset.store import EMBEDDINGS
from curate.errors import InputError, UsageError
from curate.models.encoders.base import Encoder
from curate.models.nearest import Batch, Floats
from curate.models.passes import LeftOut, Progress, crop_items, image_items
from curate.models.spaces import Content, embedding_table, space_name, update_tables
from curate.names import GROUND_TRUTH
from curate.wording import counted


@dataclass(frozen=True)
class Gallery:
    """Vectors in a dataset.

    Attributes:
        dataset: As it is read.
        table: Name of the table that holds them.
        ids: Of the rows that are looked at, ascending; not all of them need have a vector.
        left_out: What could not be embedded, and why.
    """

    dataset: Dataset
    table: str
    ids: Hashes
    left_out: Sequence[LeftOut] = ()

    def batches(self) -> Iterator[Batch]:
        """Ids and float16 vectors of those that have one, in the order of the table; no more than a few batches in memory."""
        if self.table not in self.dataset.commit.tables:
            return
        for batch in self.dataset.scan(self.table, columns=["id", "vector"]):
            ids = from_ids(batch["id"])
            chosen = positions(ids, self.ids) >= 0
            vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
            yield (ids, vectors) if chosen.all() else (ids[chosen], vectors[chosen])

    def vector(self, id: str) -> Floats | None:
        """The vector of one row, float16 of shape (dimensions,); None if it has none."""
        for _, vectors in replace(self, ids=from_ids([id])).batches():
            if len(vectors):
                return np.asarray(vectors[0])
        return None

    def without(self, ids: Hashes) -> Gallery:
        """The same gallery but for some rows."""
        return replace(self, ids=np.setdiff1d(self.ids, ids))

    def notes(self, seen: int, what: str) -> list[str]:
        """What a person should know of rows that have no vector.

        Args:
            seen: How many rows had one.
            what: What the rows are, in the plural.
        """
        notes = []
        if self.left_out:
            notes.append(f"{counted(len(self.left_out), what)} cannot be read; the first: {self.left_out[0]}")
        if seen < len(self.ids):
            notes.append(
                f"{counted(len(self.ids) - seen, what)} not embedded yet, while another process is writing: left out"
            )
        return notes


def gallery_items(
    dataset: Dataset, content: Content, *, layer: str = GROUND_TRUTH, where: str | None = None
) -> pa.Table:
    """What a gallery is made of: columns of `curate.models.passes.ITEMS`.

    Args:
        dataset: The dataset.
        content: Whole images, or crops of the annotated boxes.
        layer: Whose boxes.
        where: SQL condition on the images; None for all.

    Raises:
        UsageError: The condition cannot be understood, or there is nothing in the gallery.
    """
    images = dataset.table("images", columns=["image_id", "path"], where=where)
    if images.num_rows == 0:
        raise UsageError("there are no images", where=where or dataset.name, remedy="loosen --where, or import images")
    if content == "images":
        return image_items(images)
    annotations = dataset.table("annotations", columns=["annotation_id", "image_id", "bbox"], where=in_layer(layer))
    there = pc.is_in(annotations["image_id"], images["image_id"].combine_chunks())
    items = crop_items(annotations.filter(there), images)
    if items.num_rows == 0:
        of_images = "the images that --where chooses" if where else dataset.name
        raise UsageError(
            f"the layer '{layer}' has no boxes", where=of_images, remedy="say which --layer has, or leave out --crops"
        )
    return items


def update_gallery(
    transaction: Transaction,
    encoder: Encoder,
    content: Content,
    items: pa.Table,
    *,
    remember: bool,
    progress: Progress | None = None,
) -> Gallery:
    """Embed what is not embedded yet, and give all that has a vector.

    Args:
        transaction: The commit being made.
        encoder: The encoder.
        content: Whether the items are whole images or crops.
        items: Columns of `curate.models.passes.ITEMS`.
        remember: Whether the dataset is to remember the encoder: a single look through another one does not change what its
            checks use.
        progress: Told (done, total).

    Raises:
        InputError: Not one image can be read.
    """
    (update,) = update_tables(transaction, [embedding_table(encoder)], {content: items}, progress=progress)
    if remember:
        transaction.info = {**transaction.info, "encoder": encoder.name}
    if len(update.left_out) == items.num_rows:
        first = update.left_out[0]
        raise InputError(
            f"not one of {items.num_rows:,} {content} can be read; the first: {first.reason}",
            where=first.path or first.id,
            remedy="import again with --images FOLDER",
        )
    ids = np.unique(from_ids(items["id"]))
    unreadable = from_ids([row.id for row in update.left_out])
    return Gallery(transaction.snapshot(), update.table, np.setdiff1d(ids, unreadable), update.left_out)


def stored_gallery(dataset: Dataset, encoder: Encoder, content: Content, items: pa.Table) -> Gallery:
    """What is embedded already, without writing anything; arguments as for `update_gallery`."""
    table = f"{EMBEDDINGS}{space_name(encoder)}-{content}"
    return Gallery(dataset, table, np.unique(from_ids(items["id"])))
