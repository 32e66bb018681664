"""A dataset's folder from its first write to its removal: who may write, where its tables go, and what is deleted when."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from curate.dataset import tables
from curate.dataset.home import HEAD, move_to_trash, removed_before, trash_for
from curate.dataset.places import choose_place, is_local, read_place, record_of
from curate.errors import CurateError, DatasetLocked, UnavailableError
from curate.files import write_atomic


@contextmanager
def writer_lock(path: Path, command: str) -> Iterator[None]:
    """One writer at a time. The operating system drops the lock when its holder dies, however it dies.

    What is locked is a file beside the folder, which stays when the dataset is removed: were it taken away, another process
    might just have opened it, and a third one make and lock the next.

    Args:
        path: The dataset's folder; made if it is not there, and taken away again if there is no commit in the end.
        command: What is writing, for the error that a second writer gets.

    Raises:
        DatasetLocked: Another process is writing; the error names it.
    """
    holder = path / "writer.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise DatasetLocked(
            f"another process is writing to the dataset: {_describe(holder)}",
            where=path.name,
            remedy="wait until it is done, or stop it; readers need not wait",
        ) from None
    try:
        path.mkdir(exist_ok=True)
        about = {"command": command, "pid": os.getpid(), "host": socket.gethostname(), "since": now()}
        write_atomic(holder, json.dumps(about).encode("utf-8", "surrogatepass"))
        yield
    finally:
        try:
            holder.unlink(missing_ok=True)
            if path.exists() and not (path / HEAD).exists():
                # The dataset's first write failed: take its folder away, so that a later try starts clean.
                with suppress(CurateError):
                    _delete(move_to_trash(path))
        finally:
            lock.release()


def new_place(path: Path) -> str:
    """Where a new dataset's tables go. What a killed first write put elsewhere is deleted, now or by the next removal.

    Args:
        path: The dataset's folder.
    """
    if (record := record_of(path)).exists():
        hidden = trash_for(path)
        hidden.mkdir()
        record.rename(record_of(hidden))
        with suppress(UnavailableError):
            _delete(hidden)
    return choose_place(path)


def delete_removed(hidden: Path) -> None:
    """Delete what a removed dataset had, and what earlier removals could not.

    Args:
        hidden: Where its folder is now.

    Raises:
        UnavailableError: Its tables are in an object store that does not answer, or refuses.
    """
    place = read_place(hidden)
    try:
        _delete(hidden)
    except UnavailableError as error:
        raise UnavailableError(
            f"the dataset is removed, but its tables could not be deleted: {error.what}",
            where=place,
            remedy="the next 'curate rm' of any dataset tries again",
        ) from error
    for left in removed_before():
        with suppress(CurateError):
            _delete(left)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _delete(hidden: Path) -> None:
    """Delete what a removed dataset had, its folder last: it says where the tables are."""
    place = read_place(hidden)
    if is_local(place):
        shutil.rmtree(place, ignore_errors=True)
    else:
        tables.delete_tables(place)
    shutil.rmtree(hidden, ignore_errors=True)


def _describe(holder: Path) -> str:
    try:
        about = json.loads(holder.read_bytes())
        return f"'{about['command']}', process {about['pid']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError):
        return "it has only just begun"
