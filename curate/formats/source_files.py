"""Files that an import brings into the dataset's own folder: what an archive unpacks to, frames of a video, bytes in Parquet.

Each source has a folder ``files/<name>-<fingerprint>`` there. The fingerprint is of the source's content: the same source
finds the same folder again, and another content never overwrites the pixels that an older commit refers to. A folder that is
new has a marker beside it until the commit is made, so that the next import can tell what a crash left behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.commits import read_commit
from curate.dataset.store import Dataset, Transaction
from curate.errors import CurateError, InputError
from curate.files import write_atomic
from curate.formats.archives.kinds import stem_of_archive
from curate.formats.files import is_image, walk_files
from curate.formats.locations import file_name
from curate.formats.losses import LossReport

_MARKER: Final = ".new"
_LONGEST_NAME: Final = 60


@contextmanager
def source_folder(transaction: Transaction, source: Path, losses: LossReport) -> Iterator[Path]:
    """The folder for a source's files; not necessarily there yet. If the block raises, a new one is taken away again.

    Args:
        transaction: The import's.
        source: File or folder.
        losses: What a folder has that cannot be read is reported.

    Raises:
        InputError: The source cannot be read.
    """
    files = transaction.base.path / "files"
    name = stem_of_archive(source.name) if source.is_file() else source.name
    folder = files / f"{file_name(name)[:_LONGEST_NAME]}-{fingerprint(source, losses)}"
    with folder_of_commit(transaction, folder):
        yield folder


@contextmanager
def folder_of_commit(transaction: Transaction, folder: Path) -> Iterator[None]:
    """Files that the block puts into a folder of `files` last if the commit is made; if not, a folder that is new goes.

    Args:
        transaction: The import's.
        folder: Not necessarily there yet; one that is there stays, whatever happens.
    """
    _sweep(folder.parent, transaction.base)
    if folder.is_dir():
        yield
        return
    marker = folder.with_name(f".{folder.name}{_MARKER}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(marker, json.dumps([transaction.number, transaction.command]).encode("utf-8", "surrogatepass"))
        yield
    except BaseException:
        _remove(folder, marker)
        raise
    transaction.after_commit(lambda: _remove(None, marker))


def drop_if_unused(folder: Path, images: pa.Table, known: Dataset) -> None:
    """Take a source's folder away if no image lies in it: an archive of annotations alone.

    Args:
        folder: From `source_folder`.
        images: Those of the import (columns of `curate.dataset.schema.IMAGES`).
        known: The dataset before it, whose images may lie there too.
    """
    if folder.is_dir() and not any(
        _any_below(table["path"], folder) for table in (images, known.table("images", columns=["path"]))
    ):
        shutil.rmtree(folder, ignore_errors=True)


def fingerprint(source: Path, losses: LossReport) -> str:
    """16 hexadecimal digits that stand for a source's content: BLAKE2b of a file's bytes.

    For a folder, of the names, sizes and times of its files, since reading them all would take longer than the import.
    Images are left out: they stay where they are, and nothing is made from them.

    Args:
        source: File or folder.
        losses: What cannot be read in a folder is reported.

    Raises:
        InputError: The source cannot be read.
    """
    try:
        if source.is_file():
            with source.open("rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError as error:
        raise InputError(
            f"the file cannot be read: {error.strerror}", where=source, remedy="check its permissions"
        ) from error

    def skipped(what: str, reason: str, location: str) -> None:
        if not location:
            raise InputError(f"the folder {reason}", where=source, remedy="check its permissions")
        losses.dropped(what, reason, location)

    lines = []
    for location, entry in walk_files(source, skipped=skipped):
        if is_image(location):
            continue
        with suppress(OSError):  # a link to nothing
            status = entry.stat()
            lines.append(f"{location}\0{status.st_size}\0{status.st_mtime_ns}\n")
    digest = hashlib.blake2b(digest_size=8)
    for line in sorted(lines):
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _sweep(files: Path, base: Dataset) -> None:
    """Take away what imports have left that ended before their commit. To be called by the only writer."""
    for marker in files.glob(f".*{_MARKER}"):
        folder = files / marker.name.removeprefix(".").removesuffix(_MARKER)
        _remove(None if _was_committed(marker, base) else folder, marker)


def _was_committed(marker: Path, base: Dataset) -> bool:
    """Whether the commit that a marker's import was to make is there: the number may be another command's by now."""
    try:
        number, command = json.loads(marker.read_bytes())
        return bool(0 < number <= base.commit.number and read_commit(base.path, number).command == command)
    except (OSError, ValueError, TypeError, CurateError):
        return False


def _remove(folder: Path | None, marker: Path) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    marker.unlink(missing_ok=True)
    with suppress(OSError):
        marker.parent.rmdir()  # if it is empty


def _any_below(paths: pa.ChunkedArray, folder: Path) -> bool:
    prefixes = {os.path.join(each, "") for each in (folder, folder.resolve())}  # noqa: PTH118 - with a slash at the end
    return any(pc.any(pc.starts_with(paths, prefix)).as_py() for prefix in prefixes)
