"""Finished parts of long work in a folder, each whole or not there: what a killed run leaves, the next one uses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from curate.files import write_atomic

_PART_ROWS: Final = 2048
_PART_SECONDS: Final = 20.0
_NAME_KEY: Final = b"computation"


class Spool:
    """Gathers rows and writes them as numbered parts. Closing writes what is left.

    Args:
        folder: Where; made when there is something to write.
        schema: Columns of the rows.
        name: Of what makes them: parts that were written under another name, or with other columns, are passed over.
        seconds: After which rows are written, however few: no more work than that is lost with a process.
        before: Called before rows are written: flushes what they say is there.
    """

    def __init__(
        self,
        folder: Path,
        schema: pa.Schema,
        name: str,
        *,
        seconds: float = _PART_SECONDS,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.folder = folder
        self.schema = schema
        self.name = name
        self._schema = schema.with_metadata({_NAME_KEY: name.encode()})
        self._rows: list[pa.RecordBatch] = []
        self._number = max((_part_number(path) for path in self.parts()), default=0)
        self._seconds = seconds
        self._before = before
        self._last = time.monotonic()

    def parts(self) -> tuple[Path, ...]:
        """The files, in the order in which they were written."""
        return tuple(sorted(self.folder.glob("part-*.arrow")))

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of all parts, one after another, or some columns of them."""
        tables = list(self.pieces(columns))
        return pa.concat_tables(tables) if tables else self._schema.empty_table().select(columns or self._schema.names)

    def pieces(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The same part by part, for who does not want all of them in memory."""
        for path in self.parts():
            if (piece := self.read_part(path, columns)) is not None:
                yield piece

    def read_part(self, path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
        """The rows of one part; None if it is no part of this spool, or not there."""
        # Into memory: the pages of a mapped file would count as this process's for as long as any row is in use.
        with contextlib.suppress(OSError, pa.ArrowInvalid), pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_file(file)
            if reader.schema.equals(self._schema, check_metadata=True):
                names = self._schema.names if columns is None else columns
                wanted = pa.ipc.IpcReadOptions(included_fields=[self._schema.get_field_index(name) for name in names])
                piece = pa.ipc.open_file(file, options=wanted).read_all().select(names)
                # What is read is slices of whole batches: a copy lets go of the columns that nobody asked for.
                return piece if columns is None else piece.combine_chunks()
        return None

    def add(self, columns: Iterable[pa.Array]) -> None:
        """Add rows; they are on disk after 2,048 of them or some seconds."""
        self._rows.append(pa.record_batch(list(columns), schema=self._schema))
        if sum(map(len, self._rows)) >= _PART_ROWS or time.monotonic() - self._last > self._seconds:
            self.close()

    def close(self) -> None:
        """Write what is not written yet."""
        if self._rows:
            if self._before is not None:
                self._before()
            self._number += 1
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, self._schema) as writer:
                for rows in self._rows:
                    writer.write_batch(rows)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.folder / f"part-{self._number:06d}.arrow", sink.getvalue())
            self._rows = []
        self._last = time.monotonic()


def discard(parts: Iterable[Path]) -> None:
    """Delete parts whose rows are committed, and their folder with the last of them."""
    for path in parts:
        with contextlib.suppress(OSError):  # what stays is seen to be in the store next time
            path.unlink()
            for unfinished in path.parent.glob(".part-*"):  # a kill in mid-write left it
                unfinished.unlink()
            path.parent.rmdir()  # refused while there is more in it


def _part_number(path: Path) -> int:
    digits = path.stem.removeprefix("part-")
    return int(digits) if digits.isdecimal() else 0
