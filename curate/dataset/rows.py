"""Comparing tables row by row, whole columns at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Comparison:
    """How a table's rows became another's, matched by key.

    Attributes:
        added: Row numbers in the new table whose key the old one lacks.
        changed: Row numbers in the new table whose key the old one has, with other values.
        removed: Row numbers in the old table whose key the new one lacks.
    """

    added: npt.NDArray[np.int64]
    changed: npt.NDArray[np.int64]
    removed: npt.NDArray[np.int64]


def compare(old: pa.Table, new: pa.Table, key: str, *, ignore: Sequence[str] = ()) -> Comparison:
    """Match two tables of the same columns by a key that is unique in each.

    Args:
        old: m rows.
        new: n rows.
        key: Name of the key column (text).
        ignore: Columns whose difference does not count.
    """
    position = pc.index_in(new[key], old[key].combine_chunks()).combine_chunks()
    matched = position.is_valid().to_numpy(zero_copy_only=False)
    found = np.flatnonzero(matched)
    partner = position.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    columns = [name for name in new.column_names if name not in ignore]
    differ = rows_differ(old.select(columns).take(partner), new.select(columns).take(found))
    unmatched = np.ones(old.num_rows, dtype=bool)
    unmatched[partner] = False
    return Comparison(np.flatnonzero(~matched), found[differ], np.flatnonzero(unmatched))


def rows_differ(left: pa.Table, right: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows of two equally long tables of the same columns differ; bool array of shape (n,).

    Null equals null and NaN equals NaN.
    """
    differ = np.zeros(left.num_rows, dtype=bool)
    for name in right.column_names:
        differ |= _values_differ(_array(left[name]), _array(right[name].cast(left[name].type)))
    return differ


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _values_differ(left: pa.Array, right: pa.Array) -> npt.NDArray[np.bool_]:
    if pa.types.is_struct(left.type):
        differ = _nulls(left) ^ _nulls(right)
        for index in range(left.type.num_fields):
            differ |= _values_differ(pc.struct_field(left, index), pc.struct_field(right, index))
        return differ
    if pa.types.is_fixed_size_list(left.type):
        size = pa.list_(left.type.value_type)
        return _values_differ(left.cast(size), right.cast(size))
    if pa.types.is_list(left.type) or pa.types.is_large_list(left.type):
        return _lists_differ(left, right)
    unequal = pc.not_equal(left, right)
    if pa.types.is_floating(left.type):
        both_nan = pc.and_(pc.is_nan(left), pc.is_nan(right))
        unequal = pc.and_not(unequal, both_nan)
    values = np.asarray(pc.fill_null(unequal, False).to_numpy(zero_copy_only=False), dtype=bool)
    result: npt.NDArray[np.bool_] = values | (_nulls(left) ^ _nulls(right))
    return result


def _lists_differ(left: pa.Array, right: pa.Array) -> npt.NDArray[np.bool_]:
    """Lists differ in being null, in length, or in a value."""
    left_lengths, right_lengths = _lengths(left), _lengths(right)
    differ: npt.NDArray[np.bool_] = (_nulls(left) ^ _nulls(right)) | (left_lengths != right_lengths)
    rows = np.flatnonzero(~differ & (left_lengths > 0))
    owner = np.repeat(rows, left_lengths[rows])
    values = _values_differ(pc.list_flatten(left.take(rows)), pc.list_flatten(right.take(rows)))
    differ[owner[values]] = True
    return differ


def _nulls(values: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(values.is_null().to_numpy(zero_copy_only=False), dtype=bool)


def _lengths(values: pa.Array) -> npt.NDArray[np.int64]:
    lengths = pc.fill_null(pc.list_value_length(values), 0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)
