"""Parquet and Arrow files as rows: which there are, the split each belongs to, and a bounded part of them in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import FormatError
from curate.formats.locations import NO_SPLIT, split_name

_SUFFIXES: Final = (".parquet", ".arrow")
UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError, NotImplementedError)
"""What Arrow raises for files that are broken, or of a kind that it does not know.

Besides its own errors these are Python's: of the system; ValueError of names that are not UTF-8; OverflowError of dates that
Python does not have; KeyError of unknown time zones; NotImplementedError of types whose values Python cannot hold.
"""

_SHARD: Final = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")
_WORDS: Final = {"dev": "val", "eval": "test", "evaluation": "test"}
_BATCH_BYTES: Final = 16 << 20
_MOST_ROWS: Final = 128
_BUFFER: Final = 1 << 20


def is_table(location: str) -> bool:
    """Whether this is a table by its name, and no ImageFolder's metadata nor a file of the library's cache."""
    name = location.rpartition("/")[2].lower()
    return name.endswith(_SUFFIXES) and name != "metadata.parquet" and not name.startswith(("cache-", "tmp"))


def split_of_table(location: str) -> str | None:
    """The split that a table is named after: by its file, else by the folders it is in, the nearest first."""
    *folders, file = location.split("/")
    name = file.rpartition(".")[0]
    shard = _SHARD.fullmatch(name)
    if shard is not None and shard[1] != "data":  # 'data' is what `save_to_disk` calls its files
        return None if shard[1] == NO_SPLIT else split_name(shard[1]) or _WORDS.get(shard[1].lower(), shard[1])
    for text in (*reversed(re.split(r"[-._ ]", name)), *reversed(folders)):
        split = split_name(text) or _WORDS.get(text.lower())
        if split is not None:
            return split
    # `save_to_disk` has a folder for each split, whatever its name.
    return folders[-1] if shard is not None and folders and folders[-1] != NO_SPLIT else None


def read_schema(path: Path) -> pa.Schema:
    """A table's schema.

    Raises:
        FormatError: The file cannot be read.
    """
    try:
        if path.suffix.lower() == ".parquet":
            schema = pq.read_schema(path)
        else:
            with _arrow_reader(path) as reader:
                schema = reader.schema
        _decode_names(schema)
    except UNREADABLE as error:
        raise _broken(path, error) from error
    return schema


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table as dictionaries, with a few of them, and no whole row group, in memory at a time.

    Raises:
        FormatError: The file cannot be read, or not to its end.
    """
    try:
        if path.suffix.lower() == ".parquet":
            # Without buffering ahead, column chunks are read a page at a time.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER) as file:
                groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
                size = sum(group.total_byte_size for group in groups)
                for batch in file.iter_batches(batch_size=_rows_at_a_time(size, file.metadata.num_rows)):
                    yield from batch.to_pylist()
        else:
            with _arrow_reader(path) as reader:
                for batch in reader:
                    batch.validate(full=True)  # offsets that point outside would be followed
                    rows = _rows_at_a_time(batch.nbytes, batch.num_rows)
                    for start in range(0, batch.num_rows, rows):
                        yield from batch.slice(start, rows).to_pylist()
    except UNREADABLE as error:
        raise _broken(path, error) from error


def _decode_names(fields: Iterable[pa.Field]) -> None:
    """Ask for every name: one that is not UTF-8 raises only then."""
    for field in fields:
        if field.name is not None and pa.types.is_struct(field.type):
            _decode_names(field.flatten())


def _rows_at_a_time(size: int, rows: int) -> int:
    """How many rows of a table of so many bytes fit into a batch."""
    return min(max(_BATCH_BYTES * rows // max(size, 1), 1), _MOST_ROWS)


@contextmanager
def _arrow_reader(path: Path) -> Iterator[Any]:
    """The batches of an Arrow file, be it a stream (as the library writes) or a file with an index."""
    with pa.memory_map(str(path)) as memory:
        try:
            reader = pa.ipc.open_stream(memory)
        except pa.ArrowInvalid:
            memory.seek(0)
            file = pa.ipc.open_file(memory)
            reader = pa.RecordBatchReader.from_batches(
                file.schema, (file.get_batch(number) for number in range(file.num_record_batches))
            )
        yield reader


def _broken(path: Path, error: Exception) -> FormatError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return FormatError(f"the table cannot be read: {first}", where=path, remedy="download or export it again")
