"""What `curate shift` reads from a dataset, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.base import Settings, left_out_note
from curate.checks.duplicates.dataset import IMAGE_COLUMNS, dataset_pairs
from curate.checks.duplicates.pairs import groups_of
from curate.checks.graph import joined_groups
from curate.checks.labels import Labels, load_labels
from curate.checks.measures.table import MEASURES, read_measures
from curate.checks.shift.axes import axis_values
from curate.checks.shift.light import LIGHT, LIGHT_COLUMNS
from curate.dataset import Transaction
from curate.dataset.store import EMBEDDINGS
from curate.models.passes import image_items
from curate.models.spaces import Content, choose_encoder, embedding_table, read_vectors, update_tables

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pictures:
    """The images that could be read; n rows.

    Attributes:
        labels: Their annotations.
        metadata: JSON objects as texts, null where there are none.
        axes: In the order of `curate.checks.shift.axes.AXES`, float64 of shape (n, k).
        vectors: Semantic embedding, float32 of shape (n, d).
        groups: Numbers that images share which are copies of one another or of one burst; int64 of shape (n,).
        space: Name of the embedding, to keep a map by.
    """

    labels: Labels
    metadata: pa.ChunkedArray
    axes: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float32]
    groups: IntArray
    space: str

    @property
    def ids(self) -> pa.ChunkedArray:
        """Image ids."""
        return self.labels.images["image_id"]

    def __len__(self) -> int:
        return len(self.axes)


def load_pictures(transaction: Transaction, settings: Settings, where: str | None, notes: list[str]) -> Pictures | None:
    """Measure and embed the chosen images, and find out which are copies.

    Args:
        transaction: The commit being made.
        settings: Of the check.
        where: SQL condition on the images.
        notes: What could not be read is added here.

    Returns:
        None if not one of them can be read.

    Raises:
        UsageError: No image is chosen, or there is no such layer.
        UnavailableError: The encoder's weights cannot be had.
    """
    labels = load_labels(transaction.base, settings.layer, where)
    encoder = choose_encoder(transaction.base, settings.encoder)
    space = embedding_table(encoder)
    items: dict[Content, pa.Table] = {"images": image_items(labels.images)}
    updates = update_tables(transaction, [MEASURES, LIGHT, space], items, progress=settings.progress)
    transaction.info = {**transaction.info, "encoder": encoder.name}
    notes += left_out_note(updates[0].left_out, labels.images.num_rows, "images cannot be read")
    if not transaction.has(f"{space.prefix}-images"):  # not one image was ever read
        return None
    stored = transaction.read("images", columns=[*IMAGE_COLUMNS, "metadata"])
    stored = stored.take(pc.index_in(labels.images["image_id"], value_set=stored["image_id"].combine_chunks()))
    measures, measured = read_measures(transaction, "images", labels.images["image_id"])
    name = space.prefix.removeprefix(EMBEDDINGS)
    vectors, embedded = read_vectors(transaction, f"{name}-images", labels.images["image_id"])
    there = measured & embedded
    if not there.any():
        return None
    stored = stored.filter(pa.array(there)).combine_chunks()
    pairs, _ = dataset_pairs(transaction, stored.select(IMAGE_COLUMNS), encoder=settings.encoder)
    kept = _of_images(labels, there)
    columns = {key: values[there[measured]] for key, values in measures.columns.items()}
    return Pictures(
        kept,
        stored["metadata"],
        axis_values({**columns, **_light(transaction, kept.images["image_id"])}),
        vectors if there[embedded].all() else vectors[there[embedded]],
        joined_groups(kept.image_groups(), np.arange(len(stored)), groups_of(pairs, len(stored))),
        name,
    )


def _light(transaction: Transaction, ids: pa.ChunkedArray) -> dict[str, npt.NDArray[np.float32]]:
    table = transaction.read(f"{LIGHT.prefix}-images", columns=["id", *LIGHT_COLUMNS])
    rows = table.take(pc.index_in(ids, value_set=table["id"].combine_chunks()))
    return {name: rows[name].to_numpy() for name in LIGHT_COLUMNS}


def _of_images(labels: Labels, chosen: BoolArray) -> Labels:
    """The labels of the chosen images, numbered anew."""
    number = np.cumsum(chosen) - 1
    kept = chosen[labels.image]
    return replace(
        labels,
        images=labels.images.filter(pa.array(chosen)),
        annotations=labels.annotations.filter(pa.array(kept)),
        image=number[labels.image[kept]],
        label=labels.label[kept],
    )
