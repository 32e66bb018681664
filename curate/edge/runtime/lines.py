"""JSON lines in a file that is never half a line and never larger than it may be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from curate.errors import UsageError
from curate.files import writable_file


class LineFile:
    """Appends one JSON object a line, each in one write, so that a process that is killed leaves whole lines.

    Args:
        path: The file; what is in it stays.
        limit: Bytes; a file that would grow beyond it becomes `NAME.1`, in place of the one that was, and begins anew. None: it
            grows.

    Raises:
        UsageError: The path is no regular file's.
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise UsageError("a file of no bytes holds nothing", where=path, remedy="give a limit above 0")
        self._path, self._limit = writable_file(path), limit
        self._descriptor, self._size = self._open()

    def write(self, value: dict[str, Any]) -> None:
        """Add a line."""
        line = (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
        if self._limit is not None and self._size and self._size + len(line) > self._limit:
            os.close(self._descriptor)
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._descriptor, self._size = self._open()
        view = memoryview(line)
        while view:  # one call, but where the disk is full or a signal comes in between
            view = view[os.write(self._descriptor, view) :]
        self._size += len(line)

    def close(self) -> None:
        """Flush it to disk."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def _open(self) -> tuple[int, int]:
        """The file at its end, behind a whole line whatever happened before."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        size = os.fstat(descriptor).st_size
        if size:
            os.lseek(descriptor, -1, os.SEEK_END)
            if os.read(descriptor, 1) != b"\n":
                size += os.write(descriptor, b"\n")
        return descriptor, size
