"""Columns that were computed of the same bytes before, in whatever dataset: recalled from the cache, and shared through it.

A row is known by its file's content, its box exactly as it was given, the margin around it, and the name of the computation,
which stands for its numbers. How large a JPEG was decoded is not part of that: it depends on what else was wanted of the file in
the same pass, and is at least twice what the computation asks for (vectors of one photograph of 8 megapixels decoded at 1/8 to
1/1 of its size have a cosine of 0.998 at least). So the row of the first pass that met the content holds, as it does within a
dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import mix
from curate.models.cache import Cache, Keys, Rows, open_cache
from curate.models.content import content_hashes, hash_words
from curate.models.passes import Computation, Progress, fingerprints, item_boxes
from curate.models.spool import Spool

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_SHARED_ROWS: Final = 16384
_WORD: Final = 8

_PIXELS: Final = 1
"""Part of every key: to be raised when decoding or cropping comes to give computations other pixels."""


@dataclass(frozen=True)
class Contents:
    """What is in the files of n items.

    Attributes:
        words: Content hashes, uint64 array of shape (n, 2).
        known: Which of them are known: those of files that were asked for and can be read; bool array of shape (n,).
    """

    words: Keys
    known: BoolArray


@dataclass(frozen=True)
class Memory:
    """The cache as one table sees it.

    Attributes:
        cache: Its rows.
        columns: What they hold.
        items: Columns of `curate.models.passes.ITEMS`, n rows.
        prints: Their fingerprints, taken before their contents were hashed.
        keys: Shape (n, 2).
        keyed: Which items have a key.
    """

    cache: Cache
    columns: pa.Schema
    items: pa.Table
    prints: pa.StringArray
    keys: Keys
    keyed: BoolArray

    def recall(self, wanted: BoolArray) -> Iterator[tuple[IntArray, pa.RecordBatch]]:
        """Numbers of items, and their columns, of those wanted that the cache knows; piece by piece."""
        asked = np.flatnonzero(wanted & self.keyed)
        for numbers, rows in self.cache.look_up(self.keys[asked]):
            yield asked[numbers], _to_columns(rows, self.columns)

    def share(self, wanted: BoolArray, spool: Spool) -> None:
        """Put into the cache what the spool holds of the items wanted, unless a file changed while it was worked on."""
        asked = np.flatnonzero(wanted & self.keyed)
        if not len(asked):
            return
        items, prints = self.items.take(pa.array(asked)), self.prints.take(pa.array(asked))
        unchanged = pc.fill_null(pc.equal(fingerprints(items), prints), False)
        value_set = items["id"].combine_chunks()
        for part in _joined(spool.pieces()):
            at = pc.index_in(part["id"], value_set=value_set)
            same = pc.and_(pc.equal(part["fingerprint"], prints.take(at)), unchanged.take(at))
            chosen = pc.fill_null(same, False)
            self.cache.add(
                self.keys[asked[at.filter(chosen).to_numpy()]], _to_rows(part.filter(chosen).select(self.columns.names))
            )


def open_memory(computation: Computation, items: pa.Table, prints: pa.StringArray, contents: Contents) -> Memory | None:
    """The cache as the table of a computation sees it; None if there is none, or if rows differ in length."""
    words = _words(computation.columns)
    cache = None if words is None else open_cache(computation.name, words)
    if cache is None:
        return None
    boxes = item_boxes(items)
    margins = np.where(boxes.any(axis=1), computation.margin, 0.0)
    place = (*boxes.view(np.uint64).T, margins.view(np.uint64), _PIXELS)
    high, low = contents.words.T
    keys = np.stack([mix(high, low, *place), mix(low, high, *place)], axis=1)
    return Memory(cache, computation.columns, items, prints, keys, contents.known)


def read_contents(
    items: Sequence[pa.Table], wanted: Sequence[BoolArray], *, progress: Progress | None = None
) -> list[Contents]:
    """Hash the files of the items wanted, each file once however many items are of it.

    Args:
        items: Tables with the columns of `curate.models.passes.ITEMS`.
        wanted: Which rows of each.
        progress: Told (files read, files to read).

    Returns:
        One for each table.
    """
    nothing = pa.scalar(None, pa.string())
    asked = [
        pc.if_else(pa.array(rows), table["path"].combine_chunks(), nothing)
        for table, rows in zip(items, wanted, strict=True)
    ]
    paths = pc.unique(pa.chunked_array(asked, pa.string())).drop_null()
    hashes = content_hashes(paths.to_pylist(), progress=progress)
    contents = []
    for column in asked:
        own = hashes.take(pc.index_in(column, value_set=paths))
        known = own.is_valid().to_numpy(zero_copy_only=False)
        words = np.zeros((len(own), 2), dtype=np.uint64)
        words[known] = hash_words(own.drop_null())
        contents.append(Contents(words, known))
    return contents


def _joined(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables, so that they come to few files."""
    gathered: list[pa.Table] = []
    for piece in pieces:
        gathered.append(piece)
        if sum(each.num_rows for each in gathered) >= _SHARED_ROWS:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def _words(columns: pa.Schema) -> int | None:
    """Length of a row that holds these columns, in words; None if not all are numbers, or lists of as many numbers."""
    items = [_items(column.type) for column in columns]
    if any(column.nullable for column in columns) or not all(map(_is_number, (item for item, _ in items))):
        return None
    bits: int = sum(count * item.bit_width for item, count in items)
    return -(-bits // (8 * _WORD))


def _items(column: pa.DataType) -> tuple[pa.DataType, int]:
    """What a column has in each row: of which type, and how many."""
    return (column.value_type, column.list_size) if pa.types.is_fixed_size_list(column) else (column, 1)


def _is_number(item: pa.DataType) -> bool:
    return bool(pa.types.is_floating(item) or pa.types.is_integer(item))


def _to_rows(table: pa.Table) -> Rows:
    """Columns of numbers and lists of numbers side by side, bit by bit; shape (n, words)."""
    parts = []
    for column in table.combine_chunks().columns:
        values = pc.list_flatten(column) if pa.types.is_fixed_size_list(column.type) else column
        parts.append(values.to_numpy().reshape(table.num_rows, _items(column.type)[1]).view(np.uint8))
    parts.append(np.zeros((table.num_rows, -sum(part.shape[1] for part in parts) % _WORD), dtype=np.uint8))
    return np.concatenate(parts, axis=1).view(np.uint64)


def _to_columns(rows: Rows, columns: pa.Schema) -> pa.RecordBatch:
    """The inverse of `_to_rows`."""
    content, start, arrays = np.ascontiguousarray(rows).view(np.uint8), 0, []
    for column in columns:
        item, count = _items(column.type)
        end = start + count * item.bit_width // 8
        values = np.ascontiguousarray(content[:, start:end]).view(item.to_pandas_dtype()).ravel()
        is_list = pa.types.is_fixed_size_list(column.type)
        arrays.append(
            pa.FixedSizeListArray.from_arrays(values, type=column.type) if is_list else pa.array(values, item)
        )
        start = end
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
