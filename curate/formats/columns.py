"""Building the tables of `curate.dataset.schema` from NumPy arrays, whole columns at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES
from curate.formats.files import Ints
from curate.formats.losses import LossReport

Floats = npt.NDArray[np.float64]


def images_table(
    locations: Sequence[str], paths: Sequence[Path | None], width: Ints, height: Ints, columns: Mapping[str, Any]
) -> pa.Table:
    """Images, with the columns of `IMAGES`.

    Args:
        locations: n unique locations.
        paths: Where their files are; None where there is none.
        width: Shape (n,); 0 where it is not known.
        height: Shape (n,).
        columns: Any further columns, by name; the rest are null.
    """
    texts = [None if path is None else str(path.absolute()) for path in paths]
    unknown = (width <= 0) | (height <= 0)
    filled = {
        "image_id": image_ids(locations),
        "location": locations,
        "path": texts,
        "width": pa.array(width.astype(np.int32), mask=unknown),
        "height": pa.array(height.astype(np.int32), mask=unknown),
        **columns,
    }
    return _table(IMAGES, len(locations), filled)


def annotations_table(count: int, columns: Mapping[str, Any]) -> pa.Table:
    """Annotations, with the columns of `ANNOTATIONS`; those not given are null.

    Args:
        count: Number of rows.
        columns: Arrays, lists, or one value for all rows, by name.
    """
    return _table(ANNOTATIONS, count, columns)


def fixed_lists(values: Floats, missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Rows of an array of shape (n, k) as lists of k numbers; null where `missing`."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float64).ravel())
    return pa.FixedSizeListArray.from_arrays(
        flat, values.shape[1], mask=None if missing is None else pa.array(missing, type=pa.bool_())
    )


def polygon_lists(values: Floats, lengths: Ints) -> pa.Array:
    """One polygon for each of n rows, as a list of one part.

    Args:
        values: All coordinates one after another, shape (sum of lengths,).
        lengths: How many belong to each row, shape (n,); 0 gives null.
    """
    has = lengths > 0
    parts = pa.ListArray.from_arrays(offsets(lengths[has]), pa.array(values, pa.float64()))
    return pa.ListArray.from_arrays(offsets(has.astype(np.int64)), parts, mask=pa.array(~has))


def number_lists(values: Floats, lengths: Ints) -> pa.Array:
    """A list of numbers for each of n rows; arguments as for `polygon_lists`."""
    return pa.ListArray.from_arrays(offsets(lengths), pa.array(values, pa.float64()), mask=pa.array(lengths == 0))


def ragged_indices(starts: Ints, lengths: Ints) -> Ints:
    """Indices of n runs, one after another: starts[0], starts[0] + 1, ... lengths[0] of them, then the next run."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    indices: Ints = np.arange(total) + np.repeat(starts - before, lengths)
    return indices


def offsets(lengths: Ints) -> pa.Array:
    """Arrow list offsets from lengths."""
    return pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32))


def box_values(column: pa.ChunkedArray) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """A list column of fixed length k as an array of shape (n, k), NaN where null, and which rows are not null."""
    array = column.combine_chunks()
    present = np.asarray(array.is_valid())
    values = np.full((len(array), column.type.list_size), np.nan)
    values[present] = np.asarray(array.flatten(), dtype=np.float64).reshape(-1, column.type.list_size)
    return values, present


def report_unsaid(table: pa.Table, unsaid: Mapping[str, str], format_name: str, losses: LossReport) -> None:
    """Report, for an export, the columns that a format has no place for.

    Args:
        table: Images or annotations.
        unsaid: What to call the values of each such column, by column name.
        format_name: For the reason.
        losses: Where each value that is there is counted as dropped; of booleans only the true ones count.
    """
    for name, what in unsaid.items():
        column = table[name]
        is_flag = pa.types.is_boolean(column.type)
        count = (pc.sum(column).as_py() or 0) if is_flag else len(column) - column.null_count
        losses.dropped(what, f"{format_name} has no place for them", name, count)


def _table(schema: pa.Schema, count: int, columns: Mapping[str, Any]) -> pa.Table:
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        if value is None or isinstance(value, str | bool | int | float):
            arrays.append(pa.repeat(pa.scalar(value, field.type), count))
        elif isinstance(value, pa.Array | pa.ChunkedArray):
            arrays.append(value if value.type == field.type else value.cast(field.type))
        else:
            arrays.append(pa.array(value, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
