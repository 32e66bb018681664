"""Fragments: parts of a table that other processes, on other machines too, write for one commit.

Lance keeps a table as files of rows (fragments) and a list of them for each version. A worker writes files and says
what it wrote; it takes no lock and changes no list. The one driver, which holds the dataset's lock, then lists all of
them in one new version:

    with begin("parts_v3", command="curate embed") as transaction:
        target = transaction.fragment_target("embeddings/x", embeddings_schema(512))
        written = [write_fragment(target, pieces), ...]    # in the workers
        transaction.append_fragments("embeddings/x", written)

What a killed worker leaves is in no list: it is never read, and is deleted at the end of the transaction, or by the
next writer if the driver was killed too. `curate.dataset.tables` and this are the only modules that touch the storage
engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments

from curate.dataset import tables
from curate.dataset.places import is_local, reached
from curate.files import flush_files, write_atomic

_OUT: Final = "fragments.json"


@dataclass(frozen=True)
class FragmentTarget:
    """Where workers write; picklable.

    Attributes:
        table: The table's address: a path that all workers see, or a URI of an object store.
        version: The version of the table that the fragments will be added to.
        schema: Columns of the table.
    """

    table: str
    version: int
    schema: pa.Schema


def write_fragment(target: FragmentTarget, pieces: Iterable[pa.RecordBatch | pa.Table]) -> str:
    """Write rows where a table has its files, without adding them to it; may run in any process that sees the table's address.

    Args:
        target: As `Transaction.fragment_target` gave it.
        pieces: The rows, in order; read as they are written.

    Returns:
        JSON that says what was written, for `Transaction.append_fragments`. Rows for which it is never called are not
        in the table.

    Raises:
        UnavailableError: The object store does not answer, or refuses.
    """
    dataset = tables.open_version(target.table, target.version)
    with tables.reader_of(pieces, target.schema) as reader, reached(target.table):
        fragments = write_fragments(
            reader, dataset, schema=target.schema, mode="append", data_cache_bytes=tables.WRITE_BUFFER
        )
    filled = [fragment for fragment in fragments if fragment.physical_rows]
    if is_local(target.table):
        flush_files(Path(target.table, "data", file.path) for fragment in filled for file in fragment.files)
    return json.dumps([fragment.to_json() for fragment in filled])


def append_written(table: str, version: int, fragments: Sequence[str]) -> int:
    """Add what workers wrote to a table, in order, as one new version. Returns it, or the old one if no row was written."""
    parts = [FragmentMetadata.from_json(json.dumps(part)) for written in fragments for part in json.loads(written)]
    if not parts:
        return version
    dataset = tables.restore(table, version)
    with reached(table):
        committed = lance.LanceDataset.commit(dataset, lance.LanceOperation.Append(parts), read_version=dataset.version)
    return int(committed.version)


class Outstanding:
    """Tables whose fragments are being written, so that what is left over is deleted, by the next writer if need be.

    Args:
        folder: The dataset's; the holder of its lock is the only one that makes this.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _OUT

    def add(self, table: str) -> None:
        """Remember that workers are about to write into a table.

        Args:
            table: Its address.
        """
        known = self._tables()
        if table not in known:
            write_atomic(self._file, json.dumps([*known, table]).encode())

    def sweep(self) -> None:
        """Delete the files that no version of those tables lists; nobody may be writing to them now."""
        for table in self._tables():
            tables.sweep(table)
        self._file.unlink(missing_ok=True)

    def _tables(self) -> list[str]:
        try:
            return [str(table) for table in json.loads(self._file.read_bytes())]
        except FileNotFoundError:
            return []
