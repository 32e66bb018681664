"""Writing files so that a reader, or the next run after a crash, sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from curate.errors import UsageError

_KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISLNK, "a link that leads back to itself"),
)

_FLUSHED_AT_ONCE: Final = 16


def write_atomic(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Replace a file's content in one step: write beside it, flush to disk, rename, flush the folder.

    Args:
        path: Of the file.
        content: All of it.
        flush: Whether it must outlast a power cut from now on. False where somebody calls `flush_files` before relying on that:
            many files are flushed together in a fraction of the time.

    Raises:
        UsageError: As `writable_file` does.
        OSError: The disk is full or refuses; the error names the file, which is as it was.
    """
    path = writable_file(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # writing to an open file names none
            error.filename = str(path)
        raise
    if flush:
        sync_folder(path.parent)


def writable_file(path: Path) -> Path:
    """The file that a path leads to, there or not yet: a link is followed, for a rename would put a file in its place.

    Raises:
        UsageError: What is there is no regular file. A rename would replace a device or a pipe too.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no file")
        raise UsageError(f"this is {kind}", where=path, remedy="name a file, or a path where there is nothing yet")
    return target


def in_folder(path: Path) -> Path:
    """The path itself, if a file can be written there: for what takes long to make, this is asked before it is made.

    Raises:
        UsageError: Its folder is not there, or what is there is no regular file.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not target.absolute().parent.is_dir():
        raise UsageError("the folder is not there", where=target.parent, remedy="make it first")
    writable_file(path)
    return path


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can (Windows cannot open folders)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flush_files(paths: Iterable[Path]) -> None:
    """Flush files and their folders to disk, several at a time, for which file systems wait once."""
    paths = list(paths)
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as threads:
        for _ in threads.map(_flush, paths):
            pass
    for folder in {path.parent for path in paths}:
        sync_folder(folder)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path, *, since: float) -> None:
    """Flush to disk every file under a folder that was written at or after a time (seconds since 1970)."""
    flush_files(path for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime >= since)
