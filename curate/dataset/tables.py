"""Versioned Lance tables: the only module that touches the storage engine.

Every function takes the version a commit names. A version that no commit names (left by a crash, or undone) is never read,
and the next write starts from the named one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import lance
import pyarrow as pa

from curate.errors import DatasetCorrupt, UsageError

BATCH_ROWS = 65536
SCAN_ROWS = 16384
"""Rows read at a time: Lance reads several batches ahead, and 65536 of them would take twice the memory."""
READ_BUFFER = 64 << 20
"""Bytes that Lance reads ahead of what is asked for; left alone it takes up to 2 GiB where the reader is slower than the disk."""
WRITE_BUFFER = 8 << 20
"""Bytes buffered over all columns of a table while it is written; Lance's own default is 8 MiB for each."""


def scan(
    path: Path, version: int, *, columns: Sequence[str] | None = None, where: str | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a table in batches.

    Args:
        path: The table's folder.
        version: The version a commit names.
        columns: Which columns, all if None.
        where: An SQL condition on the table's columns (Apache DataFusion's dialect).

    Raises:
        UsageError: The condition cannot be understood.
        DatasetCorrupt: The table cannot be read.
    """
    dataset = _open(path, version)
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
        raise _explain(error, path, where, dataset.schema) from error


def read(path: Path, version: int, *, columns: Sequence[str] | None = None, where: str | None = None) -> pa.Table:
    """Read a table; arguments and errors as for `scan`."""
    schema = schema_of(path, version)
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    return pa.Table.from_batches(scan(path, version, columns=columns, where=where), schema=schema)


def schema_of(path: Path, version: int) -> pa.Schema:
    """The table's columns."""
    return _open(path, version).schema


def count(path: Path, version: int, *, where: str | None = None) -> int:
    """Number of rows; errors as for `scan`."""
    dataset = _open(path, version)
    try:
        return int(dataset.count_rows(where))
    except (ValueError, OSError) as error:
        raise _explain(error, path, where, dataset.schema) from error


def append(path: Path, version: int | None, pieces: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Add rows; makes the table if `version` is None. Returns the new version."""
    if version is None:
        return overwrite(path, pieces, schema)
    _restore(path, version)
    return _write(path, pieces, schema, "append")


def overwrite(path: Path, pieces: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Replace the whole table by these rows. Returns the new version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _write(path, pieces, schema, "overwrite" if path.exists() else "create")


def upsert(path: Path, version: int, rows: pa.Table, key: str) -> int:
    """Replace the rows whose `key` is among those of `rows`, add the others. Returns the new version."""
    dataset = _restore(path, version)
    dataset.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)
    return int(dataset.version)


def delete(path: Path, version: int, key: str, values: pa.Array) -> int:
    """Remove the rows whose `key` is among `values`. Returns the new version."""
    dataset = _restore(path, version)
    dataset.merge_insert(key).when_matched_delete().execute(pa.table({key: values}))
    return int(dataset.version)


def _open(path: Path, version: int) -> lance.LanceDataset:
    try:
        return lance.dataset(str(path), version=version)
    except (ValueError, OSError) as error:
        raise DatasetCorrupt(
            f"version {version} of the table cannot be opened",
            where=path,
            remedy="'curate undo --to N' goes back to another commit",
        ) from error


def _restore(path: Path, version: int) -> lance.LanceDataset:
    """Open for writing at `version`, setting aside any later version."""
    dataset = _open(path, version)
    if dataset.latest_version != version:
        dataset.restore()
    return dataset


def _write(path: Path, pieces: Iterable[pa.Table], schema: pa.Schema, mode: str) -> int:
    failures: list[BaseException] = []

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for piece in pieces:
                yield from piece.cast(schema).to_batches(max_chunksize=BATCH_ROWS)
        except BaseException as error:
            failures.append(error)
            raise

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    try:
        written = lance.write_dataset(reader, str(path), schema=schema, mode=mode, data_cache_bytes=WRITE_BUFFER)
    except Exception:
        if failures:  # what the pieces' maker raised; Lance turns it into an OSError with its traceback as text
            raise failures[0] from None
        raise
    return int(written.version)


def _explain(error: Exception, path: Path, where: str | None, schema: pa.Schema) -> UsageError | DatasetCorrupt:
    if where is None:
        return DatasetCorrupt(f"the table cannot be read: {error}", where=path)
    reason = str(error).partition(", /")[0].partition(" Valid fields are")[0].removeprefix("Invalid user input: ")
    return UsageError(
        f"the condition cannot be understood: {reason}",
        where=f"--where {where!r}",
        remedy=f"columns of {path.stem}: {', '.join(schema.names)}",
    )
