"""Versioned Lance tables: with `curate.dataset.fragments`, the only module that touches the storage engine.

A table is named by its address: a path, or a URI of an object store (``s3://bucket/prefix/images.lance``), whose
credentials the storage engine takes from the environment. Every function takes the version a commit names. A version
that no commit names (left by a crash, or undone) is never read, and the next write starts from the named one.

All of them raise `UnavailableError` where an object store does not answer or refuses, and `OSError` where a disk is
full or refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import lance
import pyarrow as pa
from lance.file import LanceFileSession

from curate.dataset.places import is_local, is_of_the_store, reached, reason, refused
from curate.errors import CurateError, DatasetCorrupt, UsageError

BATCH_ROWS: Final = 65536
SCAN_ROWS: Final = 16384
"""Rows read at a time: Lance reads several batches ahead, and 65536 of them would take twice the memory."""
READ_BUFFER: Final = 64 << 20
"""Bytes that Lance reads ahead of what is asked for; left alone it takes up to 2 GiB where the reader is slower than the disk."""
WRITE_BUFFER: Final = 8 << 20
"""Bytes buffered over all columns of a table while it is written; Lance's own default is 8 MiB for each."""

_FOREVER: Final = timedelta(days=365 * 200)
_ABSENT: Final = "was not found"
_INTERRUPTED: Final = "External error: KeyboardInterrupt"
"""So Lance's readers hand on a Ctrl-C; its other calls raise it (seen with pylance 14)."""


def scan(
    table: str, version: int, *, columns: Sequence[str] | None = None, where: str | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a table in batches.

    Args:
        table: The table's address.
        version: The version a commit names.
        columns: Which columns, all if None.
        where: An SQL condition on the table's columns (Apache DataFusion's dialect).

    Raises:
        UsageError: The condition cannot be understood.
        DatasetCorrupt: The table cannot be read.
    """
    dataset = open_version(table, version)
    try:
        scanner = dataset.scanner(
            columns=list(columns) if columns is not None else None,
            filter=where,
            batch_size=SCAN_ROWS,
            io_buffer_size=READ_BUFFER,
            scan_in_order=True,
        )
        yield from scanner.to_batches()
    except (ValueError, OSError) as error:
        raise _explain(error, table, where, dataset.schema) from error


def read(table: str, version: int, *, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
    """Read a table; arguments and errors as for `scan`."""
    schema = schema_of(table, version)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    return pa.Table.from_batches(scan(table, version, columns=columns, where=where), schema=schema)


def schema_of(table: str, version: int) -> pa.Schema:
    """The table's columns."""
    return open_version(table, version).schema


def count(table: str, version: int, *, where: str | None = None) -> int:
    """Number of rows; errors as for `scan`."""
    dataset = open_version(table, version)
    try:
        return int(dataset.count_rows(where))
    except (ValueError, OSError) as error:
        raise _explain(error, table, where, dataset.schema) from error


def append(table: str, version: int | None, pieces: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Add rows; makes the table if `version` is None. Returns the new version."""
    if version is None:
        return overwrite(table, pieces, schema)
    restore(table, version)
    return _write(table, pieces, schema, "append")


def overwrite(table: str, pieces: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Replace the whole table by these rows. Returns the new version."""
    if is_local(table):
        Path(table).parent.mkdir(parents=True, exist_ok=True)
    return _write(table, pieces, schema, "overwrite" if _exists(table) else "create")


def upsert(table: str, version: int, rows: pa.Table, key: str) -> int:
    """Replace the rows whose `key` is among those of `rows`, add the others. Returns the new version."""
    dataset = restore(table, version)
    with reached(table):
        dataset.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)
    return int(dataset.version)


def delete(table: str, version: int, key: str, values: pa.Array) -> int:
    """Remove the rows whose `key` is among `values`. Returns the new version."""
    dataset = restore(table, version)
    with reached(table):
        dataset.merge_insert(key).when_matched_delete().execute(pa.table({key: values}))
    return int(dataset.version)


def open_version(table: str, version: int) -> lance.LanceDataset:
    """A table as of one version.

    Raises:
        DatasetCorrupt: It is not there, or cannot be read.
    """
    with reached(table):
        try:
            return lance.dataset(table, version=version)
        except (ValueError, OSError) as error:
            if is_local(table) or _ABSENT in str(error):
                raise DatasetCorrupt(
                    f"version {version} of the table cannot be opened",
                    where=table,
                    remedy="'curate ls' says whether the dataset is still there; 'curate undo --to N' goes to another commit",
                ) from error
            raise


def restore(table: str, version: int) -> lance.LanceDataset:
    """Open a table for writing at `version`, setting aside any later version."""
    dataset = open_version(table, version)
    with reached(table):
        if dataset.latest_version != version:
            dataset.restore()
    return dataset


@contextmanager
def reader_of(pieces: Iterable[pa.Table | pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatchReader]:
    """Rows for the storage engine to write in the block. What their maker raises leaves the block as it was raised."""
    failures: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for piece in pieces:
                rows = piece if isinstance(piece, pa.Table) else pa.Table.from_batches([piece])
                yield from rows.cast(schema).to_batches(max_chunksize=BATCH_ROWS)
        except BaseException as error:
            failures.append(error)
            raise

    try:
        yield pa.RecordBatchReader.from_batches(schema, batches())
    except Exception:
        if failures:  # Lance turns it into an OSError with its traceback as text
            raise failures[0] from None
        raise


def sweep(table: str) -> None:
    """Delete the files of a table that none of its versions lists. Nobody may be writing to it."""
    if _exists(table):
        with reached(table):
            lance.dataset(table).cleanup_old_versions(older_than=_FOREVER, delete_unverified=True)


def delete_tables(place: str) -> None:
    """Delete all tables below a URI of an object store, and whatever else is there."""
    with reached(place):
        store = LanceFileSession(place)
        for table in sorted({f"{path.partition('.lance/')[0]}.lance" for path in store.list() if ".lance/" in path}):
            if _exists(f"{place}/{table}"):
                lance.LanceDataset.drop(f"{place}/{table}")
        for path in store.list():
            store.delete_file(path)


def _exists(table: str) -> bool:
    """Whether a table has any version."""
    if is_local(table):
        return any((Path(table) / "_versions").glob("*.manifest"))
    with reached(table):
        try:
            lance.dataset(table)
        except (ValueError, OSError) as error:
            if _ABSENT in str(error):
                return False
            raise
    return True


def _write(table: str, pieces: Iterable[pa.Table], schema: pa.Schema, mode: str) -> int:
    with reader_of(pieces, schema) as reader, reached(table):
        written = lance.write_dataset(reader, table, schema=schema, mode=mode, data_cache_bytes=WRITE_BUFFER)
    return int(written.version)


def _explain(error: Exception, table: str, where: str | None, schema: pa.Schema) -> CurateError | KeyboardInterrupt:
    if _INTERRUPTED in str(error):
        return KeyboardInterrupt()
    if not is_local(table) and is_of_the_store(error):
        return refused(error, table)
    if where is None:
        return DatasetCorrupt(f"the table cannot be read: {error}", where=table)
    said = reason(error).partition(" Valid fields are")[0].removeprefix("Invalid user input: ")
    return UsageError(
        f"the condition cannot be understood: {said}",
        where=f"--where {where!r}",
        remedy=f"columns of {Path(table).stem}: {', '.join(schema.names)}",
    )
