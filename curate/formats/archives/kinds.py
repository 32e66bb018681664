"""Whether a file is an archive: by its first bytes, since names lie."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from pathlib import Path
from typing import IO, Final, Literal, cast

from curate.errors import FormatError

Kind = Literal["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]

BLOCK: Final = 512
"""Bytes of a tar's block."""

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")  # the last two: empty, and in parts
_COMPRESSED: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.bz2"),
    (b"\xfd7zXZ\x00", "tar.xz"),
)
_NOT_OPENED: Final = (
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard"),
)
_SUFFIXES: Final[dict[str, Kind]] = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.bz2": "tar.bz2",
    ".tbz2": "tar.bz2",
    ".tbz": "tar.bz2",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
}


def archive_kind(path: Path) -> Kind | None:
    """What kind of archive a file is, by its content; None if it is none.

    Raises:
        FormatError: It is an archive of a kind that curate does not open, or named as one and damaged from its start.
    """
    try:
        with path.open("rb") as file:
            head = file.read(BLOCK)
    except OSError as error:
        raise FormatError(
            f"the file cannot be read: {error.strerror}", where=path, remedy="check its permissions"
        ) from error
    for magic, what in _NOT_OPENED:
        if head.startswith(magic):
            raise FormatError(
                f"this is {what}, which curate does not open", where=path, remedy="unpack it, and import the folder"
            )
    if head.startswith(_ZIP):
        return "zip"
    kind: Kind = next((kind for magic, kind in _COMPRESSED if head.startswith(magic)), "tar")
    return kind if is_tar_header(head if kind == "tar" else _first_block(path, kind)) else None


def kind_of_name(name: str) -> Kind | None:
    """What kind of archive a file should be, by the end of its name; None if it should be none."""
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), None)


def stem_of_archive(name: str) -> str:
    """A name without the ending of an archive: 'set.tar.gz' -> 'set'."""
    suffix = next((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)] or name


def open_tar(path: Path, kind: Kind) -> tuple[IO[bytes], IO[bytes]]:
    """A tar's bytes as they are on disk, and decompressed; closing the first is the caller's."""
    raw = path.open("rb")
    if kind == "tar.gz":
        return raw, cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if kind == "tar.bz2":
        return raw, bz2.BZ2File(raw)
    return (raw, lzma.LZMAFile(raw)) if kind == "tar.xz" else (raw, raw)


def is_tar_header(block: bytes) -> bool:
    """Whether a block is the header of a tar's member: the checksum it has is its own (POSIX.1, pax)."""
    if len(block) < BLOCK or not any(block):
        return False
    try:
        stated = int(block[148:156].strip(b" \x00") or b"0", 8)
    except ValueError:
        return False
    return stated == sum(block[:148]) + 8 * ord(" ") + sum(block[156:BLOCK])


def _first_block(path: Path, kind: Kind) -> bytes:
    raw, stream = open_tar(path, kind)
    with raw:
        try:
            return stream.read(BLOCK)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if kind_of_name(path.name) != kind:
                return b""
            raise FormatError(
                "the archive is cut off or damaged", where=path, remedy="download or make it again"
            ) from error
