"""What `curate leaks` reads from a dataset, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from curate.checks.labels import no_images
from curate.checks.leaks.splits import rank_splits
from curate.dataset import Transaction
from curate.dataset.query import in_layer

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """n images and where they are, in the order of their ids.

    Attributes:
        table: Columns of the dataset's images.
        splits: Names of the splits, from what is trained on to what is measured on.
        split: Index in `splits`, int64 of shape (n,); -1 for none.
        source: Number of the video, burst or original it comes from, the same shape; -1 for none.
        classes: Names of the classes.
        content: 1 where a class is on an image, shape (n, classes).
    """

    table: pa.Table
    splits: list[str]
    split: IntArray
    source: IntArray
    classes: list[str]
    content: csr_array

    def __len__(self) -> int:
        return len(self.split)

    @cached_property
    def locations(self) -> list[str]:
        """As imported."""
        return list(self.table["location"].to_pylist())

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the images."""
        return list(self.table["image_id"].to_pylist())

    @cached_property
    def order(self) -> npt.NDArray[np.float64]:
        """Place of each image within its source: its frame, else its time, else its location's; shape (n,)."""
        by_name = np.argsort(np.argsort(np.asarray(self.locations), kind="stable")).astype(np.float64)
        column = pc.coalesce(pc.cast(self.table["frame"], pa.float64()), self.table["timestamp"])
        given = column.to_numpy().astype(np.float64)
        return np.where(np.isnan(given), by_name, given)

    def with_splits(self, wanted: Mapping[str, float]) -> Images:
        """The same images with more splits to choose from, which may have none of them yet."""
        sizes = {name: int((self.split == k).sum()) for k, name in enumerate(self.splits)}
        names = rank_splits(dict.fromkeys(wanted, 0) | sizes)
        place = np.array([*(names.index(name) for name in self.splits), -1], dtype=np.int64)
        return replace(self, splits=names, split=place[self.split])


def load_images(transaction: Transaction, layer: str, where: str | None) -> Images:
    """Read the images that a condition chooses, and which classes a layer has on them.

    Raises:
        UsageError: The condition cannot be understood, or chooses no image.
    """
    table = transaction.read("images", where=where).sort_by("image_id")
    if table.num_rows == 0:
        raise no_images(transaction.base.name, where)
    sizes = {row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()}
    sizes.pop(None, None)
    splits = rank_splits(sizes)
    classes, content = _content(transaction, table, layer)
    sources = table["group"].combine_chunks().dictionary_encode()
    return Images(
        table,
        splits,
        _codes(pc.index_in(table["split"], pa.array(splits, pa.string()))),
        _codes(sources.indices),
        classes,
        content,
    )


def _content(transaction: Transaction, images: pa.Table, layer: str) -> tuple[list[str], csr_array]:
    annotations = transaction.read("annotations", columns=["image_id", "label"], where=in_layer(layer))
    image = _codes(pc.index_in(annotations["image_id"], images["image_id"].combine_chunks()))
    names = sorted(name for name in pc.unique(annotations["label"]).to_pylist() if name is not None)
    label = _codes(pc.index_in(annotations["label"], pa.array(names, pa.string())))
    there = (image >= 0) & (label >= 0)
    content = csr_array(
        (np.ones(int(there.sum())), (image[there], label[there])), shape=(images.num_rows, len(names))
    )  # adds up what comes several times
    content.data[:] = 1.0
    return names, content


def _codes(column: pa.Array | pa.ChunkedArray) -> IntArray:
    """Integers with -1 for null."""
    return np.asarray(pc.fill_null(pc.cast(column, pa.int64()), -1), dtype=np.int64)
