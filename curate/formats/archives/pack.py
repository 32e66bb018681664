"""A folder as an archive."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from curate.formats.archives.kinds import Kind
from curate.formats.files import is_image

_GZIP_LEVEL: Final = 1
"""Images do not compress at any level, and are most of the bytes."""


def pack(folder: Path, target: Path, kind: Kind) -> None:
    """Write every file of a folder into a new archive, with names relative to the folder. Links are followed.

    Args:
        folder: What to pack.
        target: The archive's path.
        kind: Of what kind it is to be.

    Raises:
        OSError: A file cannot be read, or the archive not be written.
    """
    if kind == "zip":
        _pack_zip(folder, target)
    else:
        _pack_tar(folder, target, kind)


def _pack_zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "x", strict_timestamps=False) as archive:
        for name, path in _files(folder):
            # Images are compressed already.
            method = zipfile.ZIP_STORED if is_image(name) else zipfile.ZIP_DEFLATED
            archive.write(path, name, compress_type=method)


def _pack_tar(folder: Path, target: Path, kind: Kind) -> None:
    options = {"compresslevel": _GZIP_LEVEL} if kind == "tar.gz" else {}
    compression = kind.removeprefix("tar").removeprefix(".")
    # Dereferenced, or files that share their bytes on disk would come as links, which many readers refuse.
    with tarfile.open(target, f"x:{compression}", dereference=True, **options) as archive:  # type: ignore[call-overload]
        for name, path in _files(folder):
            archive.add(path, name, recursive=False, filter=_without_owner)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _without_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
