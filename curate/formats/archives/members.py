"""What is in an archive, whichever kind it is: its members in the order in which they lie there, and why not to take one."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Final

from curate.errors import CurateError, FormatError
from curate.formats.archives.budget import Meter
from curate.formats.archives.kinds import BLOCK, Kind, open_tar
from curate.formats.losses import LossReport

CHUNK: Final = 1 << 20
"""Bytes read at once."""

_DAMAGED: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    MemoryError,
)
"""What the standard library raises for archives whose bytes are not what they should be: more than it documents."""

_LINK: Final = "a link, which is not followed"
_SPECIAL: Final = "neither a file nor a folder"
_SPARSE: Final = "a file with holes, which is not unpacked"
_NUL: Final = "its name has a NUL character"

# An entry of a zip's list of contents has 46 bytes, its name, and mostly some 30 more.
_ENTRY: Final = 46
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_OTHER_METHODS: Final = {9: "deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_UTF8_FLAG: Final = 0x800
_ENCRYPTED_FLAG: Final = 0x1


class DamagedMember(FormatError):
    """The bytes of one member are not what they should be, while others may be whole."""


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: As the archive has it; not to be trusted.
        problem: Why it is not to be unpacked, or None.
        guessed: The encoding that its name was taken to be in, where the archive does not say, else None.
        chunks: Its bytes, a piece at a time; to be read before the next member is asked for. Raises `DamagedMember`.
        packed: How many of the archive's bytes have been gone through at its end, for the progress.
    """

    name: str
    problem: str | None
    guessed: str | None
    chunks: Callable[[], Iterator[bytes]]
    packed: int


def members(path: Path, kind: Kind, meter: Meter, losses: LossReport) -> Iterator[Member]:
    """The files in an archive. Folders are counted and left out: those that are needed come with their files.

    Args:
        path: The archive.
        kind: Of what kind it is.
        meter: Counts members and bytes.
        losses: Where a damaged end is reported.

    Raises:
        FormatError: It is encrypted, cut off or damaged.
    """
    try:
        yield from _zip_members(path, meter) if kind == "zip" else _tar_members(path, kind, meter, losses)
    except CurateError:
        raise
    except _DAMAGED as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> FormatError:
    """The error for an archive that cannot be read to its end."""
    return FormatError(
        f"the archive is cut off or damaged: {error}", where=path, remedy="download it, or make it, again"
    )


# --------------------------------------------------------------------------------------------------------------------- zip


def _zip_members(path: Path, meter: Meter) -> Iterator[Member]:
    _check_contents(path, meter)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if any(info.flag_bits & _ENCRYPTED_FLAG for info in infos):
            raise FormatError(
                "the archive is encrypted", where=path, remedy="unpack it with its password, and import the folder"
            )
        packed = 0
        for info in infos:
            meter.budget.add_member()
            packed += info.compress_size
            if info.is_dir():
                continue
            name, guessed = _zip_name(info)
            yield Member(name, _zip_problem(info), guessed, partial(_zip_chunks, archive, info, meter), packed)


def _zip_chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo, meter: Meter) -> Iterator[bytes]:
    try:
        with archive.open(info) as file:
            while data := file.read(CHUNK):
                meter.spend(len(data))
                yield data
    except CurateError:
        raise
    except (OSError, *_DAMAGED) as error:
        raise DamagedMember(str(error)) from error


def _zip_problem(info: zipfile.ZipInfo) -> str | None:
    mode = info.external_attr >> 16  # of Unix, where the archive was made there; else 0
    if stat.S_ISLNK(mode):
        return _LINK
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return _SPECIAL
    if info.compress_type not in _METHODS:
        method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
        return f"packed by {method}, which is not opened here"
    return _NUL if "\0" in info.orig_filename else None


def _zip_name(info: zipfile.ZipInfo) -> tuple[str, str | None]:
    """A member's name, and the encoding guessed: without a flag it is said to be code page 437, but is often UTF-8."""
    if info.flag_bits & _UTF8_FLAG or info.filename.isascii():
        return info.filename, None
    try:
        return info.filename.encode("cp437").decode("utf-8"), None
    except UnicodeError:
        return info.filename, "code page 437"


def _check_contents(path: Path, meter: Meter) -> None:
    """Refuse a list of contents that is too long before all of it is in memory (APPNOTE 4.3.14, 4.3.16)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 128))
        tail = file.read()
    end, end64 = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    length = struct.unpack_from("<L", tail, end + 12)[0] if 0 <= end <= len(tail) - 22 else 0
    if length == 0xFFFFFFFF and 0 <= end64 <= len(tail) - 56:
        length = struct.unpack_from("<Q", tail, end64 + 40)[0]
    if length > meter.budget.limits.members * 4 * _ENTRY:
        raise meter.budget.too_much(f"its list of contents has {length:,} bytes")


# --------------------------------------------------------------------------------------------------------------------- tar


def _tar_members(path: Path, kind: Kind, meter: Meter, losses: LossReport) -> Iterator[Member]:
    raw, stream = open_tar(path, kind)
    with raw:
        forward = _Forward(stream, path, meter)
        with tarfile.open(fileobj=forward, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                archive.members = []  # it would keep all of them
                meter.budget.add_member()
                if info.isdir():
                    continue
                name, guessed = _tar_name(info.name)
                yield Member(name, _tar_problem(info), guessed, partial(_tar_chunks, archive, info, path), raw.tell())
        if forward.last_block != bytes(BLOCK):
            seen = "a damaged header" if forward.last_block else "no end mark"
            losses.dropped("archives", f"{seen}: whatever followed in it is lost", path.name)


def _tar_chunks(archive: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> Iterator[bytes]:
    try:
        file = archive.extractfile(info)
        assert file is not None, "only links and special files have no content"
        while data := file.read(CHUNK):
            yield data
    except CurateError:
        raise
    except (OSError, *_DAMAGED) as error:  # a tar is one stream: what follows the damage cannot be found
        raise damaged(path, error) from error


def _tar_problem(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return _LINK
    if not info.isfile():
        return _SPECIAL
    if info.issparse():
        return _SPARSE
    return _NUL if "\0" in info.name else None


def _tar_name(name: str) -> tuple[str, str | None]:
    """A member's name, and the encoding guessed: bytes that are not UTF-8 come as lone surrogates (PEP 383)."""
    if not any("\ud800" <= letter <= "\udfff" for letter in name):
        return name, None
    return name.encode("utf-8", "surrogateescape").decode("latin-1"), "Latin-1"


class _Forward:
    """A stream as `tarfile` wants it, that only goes forward and counts every byte, those that are skipped too.

    Args:
        stream: Decompressed bytes.
        path: The archive.
        meter: Counts them.
    """

    def __init__(self, stream: IO[bytes], path: Path, meter: Meter) -> None:
        self._stream = stream
        self._path = path
        self._meter = meter
        self._position = 0
        self.last_block = b""

    def read(self, size: int) -> bytes:
        """The next bytes, fewer than asked for at the end."""
        if size > CHUNK:  # headers are read at once, and none is so long
            raise FormatError("the archive is damaged: a header is too long", where=self._path)
        try:
            data = self._stream.read(size)
        except (OSError, *_DAMAGED) as error:  # bz2 and gzip raise OSError without a number
            raise damaged(self._path, error) from error
        self._meter.spend(len(data))
        self._position += len(data)
        self.last_block = data[-BLOCK:]
        return data

    def seek(self, position: int) -> None:
        """Skip to a place further on."""
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._position
