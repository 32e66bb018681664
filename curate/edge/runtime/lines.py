"""JSON lines in a file that is never half a line and never larger than it may be."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from curate.errors import InputError, UsageError
from curate.files import writable_file

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PIECE: Final = 1 << 16


class LineFile:
    """Appends one JSON object a line, each in one write, so that a process that is killed leaves whole lines.

    What a full disk or a power cut leaves of a line is cut off again: at once, or when the file is opened the next time.

    Args:
        path: The file; what is in it stays.
        limit: Bytes; a file that would grow beyond it becomes `NAME.1`, in place of the one that was, and begins anew. None: it
            grows.

    Raises:
        UsageError: The path is no regular file's.
        InputError: It cannot be written.
    """

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise UsageError("a file of no bytes holds nothing", where=path, remedy="give a limit above 0")
        self._path, self._limit = writable_file(path), limit
        self._descriptor, self._size = -1, 0
        with told_of(self._path):
            self._open()

    def write(self, value: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            InputError: It cannot be written: nothing of it is in the file then.
        """
        line = (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with told_of(self._path):
            if self._limit is not None and self._size and self._size + len(line) > self._limit:
                descriptor, self._descriptor = self._descriptor, -1
                os.close(descriptor)
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                self._open()
            self._append(line)

    def close(self) -> None:
        """Flush it to disk.

        Raises:
            InputError: The disk does not take it.
        """
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        with told_of(self._path):
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _append(self, line: bytes) -> None:
        """Add all of a line or nothing."""
        written = 0
        try:
            while written < len(line):  # one call, but where the disk is full or a signal comes in between
                written += os.write(self._descriptor, line[written:])
        except BaseException:
            if written:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise
        self._size += len(line)

    def _open(self) -> None:
        """Open the file at its end, behind a whole line whatever happened before."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self._path, flags, 0o644)
        self._size = os.fstat(self._descriptor).st_size
        last = _last_line(self._descriptor, self._size)
        if _is_half(last):
            self._size -= len(last)
            os.ftruncate(self._descriptor, self._size)
        elif last:
            self._append(b"\n")


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Within the block, the system's errors are one clear error of this file.

    Raises:
        InputError: In their place.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InputError("the disk is full", where=path, remedy="make room, or name a file elsewhere") from error
        raise InputError(
            f"the file cannot be written: {error.strerror or error}", where=path, remedy="name another file"
        ) from error


def _last_line(descriptor: int, size: int) -> bytes:
    """What stands behind a file's last line break."""
    last = b""
    while size and b"\n" not in last:
        begin = max(0, size - _PIECE)
        os.lseek(descriptor, begin, os.SEEK_SET)
        last = os.read(descriptor, size - begin) + last
        size = begin
    return last[last.rfind(b"\n") + 1 :]


def _is_half(line: bytes) -> bool:
    """Whether this was to become a JSON object, and is none; a power cut may leave zeros."""
    begin = line.strip(b"\0")
    if not begin.startswith(b"{"):
        return not begin and bool(line)
    try:
        json.loads(line)
    except ValueError:
        return True
    return False
