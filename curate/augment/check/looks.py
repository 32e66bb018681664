"""What is computed of the pixels, in memory: the pictures are not all of a dataset yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.augment.check.pictures import Picture
from curate.checks.boxes import BoolArray, IntArray
from curate.checks.measures.computation import MeasureImages
from curate.checks.measures.table import columns_of
from curate.models.embedding import Embedding
from curate.models.encoders.base import Encoder
from curate.models.passes import ITEMS, Computation, Progress, Together, run

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Looks:
    """What n pictures look like.

    Attributes:
        vectors: Unit vectors of the encoder's space; float32 of shape (n, d), zeros where unread.
        measures: Columns of `curate.checks.measures`, each of n rows.
        read: Which could be read; bool of shape (n,).
    """

    vectors: Vectors
    measures: Mapping[str, npt.NDArray[Any]]
    read: BoolArray

    def take(self, rows: IntArray | slice) -> Looks:
        """Some of them."""
        return Looks(self.vectors[rows], {name: each[rows] for name, each in self.measures.items()}, self.read[rows])


def look(pictures: Sequence[Picture], encoder: Encoder, progress: Progress | None = None) -> Looks:
    """Look at whole images, each decoded once."""
    boxes = pa.nulls(len(pictures), ITEMS.field("bbox").type)
    table, read = _compute(pictures, boxes, Together([Embedding(encoder), MeasureImages()]), progress)
    return Looks(_unit(table["vector"], encoder.dimensions), columns_of(table), read)


def look_at_things(
    pictures: Sequence[Picture], encoder: Encoder, progress: Progress | None = None
) -> tuple[Vectors, BoolArray]:
    """Look at all boxes on pictures, in order; unit vectors of shape (n, d), and which could be cut out, (n,)."""
    owners = [picture for picture in pictures for thing in picture.things if thing.bbox is not None]
    boxes = [list(thing.bbox) for picture in pictures for thing in picture.things if thing.bbox is not None]
    table, read = _compute(owners, pa.array(boxes, ITEMS.field("bbox").type), Embedding(encoder), progress)
    return _unit(table["vector"], encoder.dimensions), read


def _compute(
    owners: Sequence[Picture], boxes: pa.Array, computation: Computation, progress: Progress | None
) -> tuple[pa.Table, BoolArray]:
    """The columns of each row, zeros where nothing could be computed; and where something was."""
    count = len(owners)
    ids = pa.array([str(number) for number in range(count)], pa.string())
    items = pa.table([ids, pa.array([each.path for each in owners], pa.string()), boxes], schema=ITEMS)
    found: list[pa.Table] = []
    rows: list[IntArray] = [np.zeros(0, np.int64)]

    def keep(places: IntArray, columns: pa.RecordBatch) -> None:
        rows.append(places)
        found.append(pa.Table.from_batches([columns]))

    run(items, np.arange(count), computation, keep, progress=progress)
    places = np.concatenate(rows)
    read = np.zeros(count, dtype=np.bool_)
    read[places] = True
    if not found:
        return _zeros(computation.columns, count), read
    row = np.full(count, len(places))
    row[places] = np.arange(len(places))
    every = pa.concat_tables([pa.concat_tables(found), _zeros(found[0].schema, 1)])
    return every.take(pa.array(row)).combine_chunks(), read


def _zeros(schema: pa.Schema, count: int) -> pa.Table:
    columns = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(np.zeros(count * field.type.list_size)).cast(field.type.value_type), field.type.list_size
        )
        if pa.types.is_fixed_size_list(field.type)
        else pa.array(np.zeros(count, field.type.to_pandas_dtype()))
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _unit(column: pa.ChunkedArray, dimensions: int) -> Vectors:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(-1, dimensions).astype(np.float32)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))
