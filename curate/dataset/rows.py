"""Comparing tables row by row while they pass, in a few bytes of memory for each row.

Of a row only a 64-bit digest over all its columns is kept, nested ones too: two rows are taken for equal if their digests
are. Rows that differ share one with probability 2^-64 (the mixing is SplitMix64's, see `curate.dataset.ids.mix`; it is not
meant to withstand somebody who looks for a collision).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import Hashes, mix
from curate.engine.memory import give_back

Rows: TypeAlias = pa.Table | pa.RecordBatch
Numbers = npt.NDArray[np.int64]

_BATCH_ROWS: Final = 8192
"""Rows digested at a time: what is computed for them stays in the processor's cache."""

_NULL: Final = 0x7FF8_0000_0000_0001
"""Stands for null. As a float it is a NaN that `_float_codes` never gives."""

_WORD: Final = 8
_LOW_BYTES: Final = np.array([(1 << 8 * count) - 1 for count in range(_WORD + 1)], dtype=np.uint64)


@dataclass(frozen=True)
class Comparison:
    """How a table's rows became another's, matched by key. All arrays hold row numbers, ascending but for `before`.

    Attributes:
        added: In the new table: their key is not in the old one.
        changed: In the new table: their key is in the old one, with other values.
        before: In the old table: what each row of `changed` was; the same shape.
        removed: In the old table: their key is not in the new one.
    """

    added: Numbers
    changed: Numbers
    before: Numbers
    removed: Numbers


def compare(old: Iterable[Rows], new: Iterable[Rows], key: str, *, ignore: Collection[str] = ()) -> Comparison:
    """Match two tables of the same columns by a key that is unique in each.

    Args:
        old: The rows of a table, in pieces.
        new: The rows of another.
        key: Name of the key column (text).
        ignore: Columns whose difference does not count.
    """
    index = RowIndex(old, key, ignore=ignore)
    start = 0
    added, changed, before = [_NO_ROWS], [_NO_ROWS], [_NO_ROWS]
    for piece in new:
        match = index.match(piece)
        added.append(match.added + start)
        changed.append(match.changed + start)
        before.append(match.before)
        start += piece.num_rows
    return Comparison(np.concatenate(added), np.concatenate(changed), np.concatenate(before), index.unmatched())


@dataclass(frozen=True)
class Match:
    """What the rows of one piece are to an indexed table.

    Attributes:
        added: Rows of the piece whose key the table lacks.
        changed: Rows of the piece whose key the table has, with other values.
        before: Rows of the table: what each row of `changed` was; the same shape.
    """

    added: Numbers
    changed: Numbers
    before: Numbers


class RowIndex:
    """A table's keys and digests, to compare the pieces of another table with as they come.

    Holds 17 bytes a row; 33 once a key has come out of the table's order.

    Args:
        rows: The table's rows, in pieces; read once.
        key: Name of the key column (text), unique in the table.
        ignore: Columns whose difference does not count.
    """

    def __init__(self, rows: Iterable[Rows], key: str, *, ignore: Collection[str] = ()) -> None:
        self._key = key
        self._ignore = frozenset(ignore)
        keys, digests = [_NO_HASHES], [_NO_HASHES]
        for piece in rows:
            keys.append(row_digests(piece.select([key])))
            digests.append(self._digests(piece))
        give_back()  # what the scan took: a quarter of an import's memory
        self._keys = np.concatenate(keys)
        self._contents = np.concatenate(digests)
        self._matched = np.zeros(len(self._keys), dtype=np.bool_)
        self._next = 0

    def match(self, piece: Rows) -> Match:
        """Tell what is new or changed among the rows of a piece, and remember which rows of the table it matched."""
        rows = self._find(row_digests(piece.select([self._key])))
        known = np.flatnonzero(rows >= 0)
        before = rows[known]
        self._matched[before] = True
        differ = self._contents[before] != self._digests(piece)[known]
        return Match(np.flatnonzero(rows < 0), known[differ], before[differ])

    def unmatched(self) -> Numbers:
        """Numbers of the table's rows that no piece has matched so far, ascending."""
        return np.flatnonzero(~self._matched)

    def _find(self, keys: Hashes) -> Numbers:
        """Row of each key, -1 where there is none. Most keys come in the table's own order and need no search."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        rows = np.minimum(np.arange(self._next, self._next + len(keys)), len(self._keys) - 1)
        astray = np.flatnonzero(self._keys[rows] != keys)
        if len(astray):
            ordered, order = self._sorted
            place = np.minimum(np.searchsorted(ordered, keys[astray]), len(ordered) - 1)
            rows[astray] = np.where(ordered[place] == keys[astray], order[place], -1)
        self._next = int(rows.max(initial=-1)) + 1
        return rows

    @cached_property
    def _sorted(self) -> tuple[Hashes, Numbers]:
        order = np.argsort(self._keys)
        return self._keys[order], order

    def _digests(self, piece: Rows) -> Hashes:
        compared = [name for name in piece.schema.names if name != self._key and name not in self._ignore]
        return row_digests(piece.select(compared))


def rows_at(rows: Iterable[Rows], numbers: Numbers) -> Iterator[pa.Table]:
    """Pick rows of a table by number, as it passes.

    Args:
        rows: The table's rows, in pieces.
        numbers: Which, ascending.

    Yields:
        For each piece, those of its rows that were asked for.
    """
    start = 0
    for piece in rows:
        low, high = np.searchsorted(numbers, (start, start + piece.num_rows))
        yield _as_table(piece).take(pa.array(numbers[low:high] - start))
        start += piece.num_rows


def row_digests(rows: Rows) -> Hashes:
    """A digest of each row over all columns, in their order; uint64 array of shape (n,).

    Equal for equal rows (null equals null, NaN equals NaN, -0.0 equals 0.0), also where one number type or one text type
    is wider than the other.

    Raises:
        TypeError: A column is neither of numbers, booleans, texts nor binary, nor of lists or structs of these.
    """
    digests = [_NO_HASHES]
    for batch in _as_table(rows).to_batches(max_chunksize=_BATCH_ROWS):
        digests.append(_combine(batch.columns, batch.num_rows))
    return np.concatenate(digests)


def _as_table(rows: Rows) -> pa.Table:
    return rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])


def _combine(columns: Iterable[pa.Array], count: int) -> Hashes:
    """One code for each of n rows from all columns: theirs, mixed with the column's place and added up."""
    total = np.zeros(count, dtype=np.uint64)
    for place, column in enumerate(columns):
        total += mix(_codes(column), place)
    return total


def _codes(values: pa.Array) -> Hashes:
    """A 64-bit code of each of n values, the same for equal ones; shape (n,), or (1,) where all values are equal."""
    if len(values) and values.null_count == len(values):
        return np.full(1, _NULL, dtype=np.uint64)
    if values.null_count == 0 and len(values) > 1 and values[1:].equals(values[:-1]):
        return _codes_of_valid(values[:1])
    codes = _codes_of_valid(values)
    if values.null_count:
        codes = np.where(np.asarray(values.is_null()), np.uint64(_NULL), codes)
    return codes


def _codes_of_valid(values: pa.Array) -> Hashes:
    """The same where nothing is null; anything at all in the rows that are."""
    kind = values.type
    if pa.types.is_struct(kind):
        return _combine([values.field(number) for number in range(kind.num_fields)], len(values))
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        items = values.values.slice(values.offset * size, len(values) * size)
        return _fold(_codes(items), np.arange(0, len(items) + 1, size) if size else np.zeros(len(values) + 1, np.int64))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        bounds = np.asarray(values.offsets).astype(np.int64)
        return _fold(_codes(values.values.slice(bounds[0], bounds[-1] - bounds[0])), bounds - bounds[0])
    if pa.types.is_dictionary(kind):
        return _codes(values.dictionary_decode())
    if pa.types.is_floating(kind):
        return _float_codes(np.asarray(pc.fill_null(values, 0), dtype=np.float64))
    if pa.types.is_boolean(kind):
        return _codes_of_valid(values.cast(pa.uint8()))
    if pa.types.is_integer(kind):
        return np.asarray(pc.fill_null(values, 0)).astype(np.uint64)
    if _is_bytes(kind):
        return _byte_codes(values)
    raise TypeError(f"rows with a column of {kind} cannot be compared")


def _is_bytes(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    )


def _float_codes(values: npt.NDArray[np.float64]) -> Hashes:
    """Bits of n floats, the same for both zeros and for every NaN; shape (n,)."""
    positive = values + 0.0  # -0.0 + 0.0 is 0.0
    positive[np.isnan(positive)] = np.nan
    return positive.view(np.uint64)


def _byte_codes(values: pa.Array) -> Hashes:
    """Texts, as lists of their 8-byte words, the last one filled up with zeros, and their lengths; shape (n,)."""
    _, offsets, data = values.buffers()
    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    width = np.int64 if wide else np.int32
    bounds = np.frombuffer(offsets, dtype=width)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    first, last = int(bounds[0]), int(bounds[-1])
    text = np.zeros(last - first + _WORD, dtype=np.uint8)
    if last > first:
        text[:-_WORD] = np.frombuffer(data, dtype=np.uint8)[first:last]
    bounds -= first
    lengths = np.diff(bounds)
    counts = -(-lengths // _WORD)
    words = _bounds(counts)
    starts = np.arange(0, words[-1] * _WORD, _WORD) + np.repeat(bounds[:-1] - words[:-1] * _WORD, counts)
    left = np.minimum(np.repeat(bounds[1:], counts) - starts, _WORD)
    unaligned: Any = np.ndarray((len(text) - _WORD + 1,), dtype="<u8", buffer=text, strides=(1,))
    return mix(_fold(unaligned[starts] & _LOW_BYTES[left], words), lengths.view(np.uint64))


def _fold(codes: Hashes, bounds: Numbers) -> Hashes:
    """Codes of n lists from those of their items, by place and number.

    Items are mixed with their place and added up (modulo 2^64), so that lists of any lengths need no loop.

    Args:
        codes: Of all items, one list after another; shape (m,), or (1,) where all are equal.
        bounds: Where each list starts, and the last one ends; shape (n + 1,).
    """
    lengths = np.diff(bounds)
    count = int(bounds[-1])
    places = np.arange(count) - np.repeat(bounds[:-1], lengths)
    sums = np.zeros(count + 1, dtype=np.uint64)
    np.cumsum(mix(codes, places.view(np.uint64)), out=sums[1:])
    return mix(sums[bounds[1:]] - sums[bounds[:-1]], lengths.view(np.uint64))


def _bounds(lengths: Numbers) -> Numbers:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])


_NO_ROWS: Final[Numbers] = np.zeros(0, dtype=np.int64)
_NO_HASHES: Final[Hashes] = np.zeros(0, dtype=np.uint64)
