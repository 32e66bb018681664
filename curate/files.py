"""Writing files so that a reader, or the next run after a crash, sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file's content in one step: write beside it, flush to disk, rename, flush the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system can (Windows cannot open folders)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(folder: Path, *, since: float) -> None:
    """Flush to disk every file under a folder that was written at or after a time (seconds since 1970)."""
    touched = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime >= since:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            touched.add(path.parent)
    for parent in touched:
        sync_folder(parent)
