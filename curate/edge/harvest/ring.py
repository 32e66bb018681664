"""A bounded store of hard frames on disk that outlives kill -9, a full disk and a power cut.

    FOLDER/harvest.json              which ring this is
    FOLDER/packages/NAME-VERSION.json  what made the predictions: task, classes, digest of the model
    FOLDER/entries/ID+REASON/        one frame each (`curate.edge.harvest.entry`)
    FOLDER/writer.lock writer.json   held by, and naming, the one writer

An entry is written beside its place, flushed and renamed into it, so it is there whole or not at all; one that has to go is
renamed away before its files are deleted. There is no index to be wrong: the names of the folders are the index, and opening a
ring reads them and sweeps away what a crash left. Readers take no lock.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from curate.edge.harvest.entry import HardFrame, encode
from curate.errors import InputError, UsageError
from curate.files import sync_folder, write_atomic

FORMAT: Final = 1
"""Version of the ring's layout."""

_ABOUT: Final = "harvest.json"
_NEW: Final = ".new-"
_GONE: Final = ".gone-"
_BLOCK: Final = 4096
_NAME: Final = re.compile(r"(\d{12})-([0-9a-f]{8})\+([a-z]+)")


@dataclass(frozen=True)
class Bounds:
    """How large a ring may become.

    Attributes:
        entries: So many frames.
        bytes: On disk, with every file counted in whole blocks of 4 KiB, and a block for each folder.
    """

    entries: int = 2000
    bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if self.entries < 1 or self.bytes < 1:
            raise UsageError(f"a ring of {self.entries} frames and {self.bytes} bytes holds nothing", where="bounds")


@dataclass(frozen=True)
class Stored:
    """One entry, by what the name and size of its folder tell.

    Attributes:
        folder: Where it is.
        id: Its own for good: its number in the ring, and eight random digits.
        reason: The strongest of its reasons.
        bytes: On disk, as `Bounds` counts them.
    """

    folder: Path
    id: str
    reason: str
    bytes: int


class Ring:
    """A ring, open for writing; a context manager. There is one writer at a time, and `put` is for one thread.

    Args:
        folder: Where it is; made if it is not there.
        bounds: How large it may become. If it is larger, it is made smaller at once.
        lossless: Keep pictures as PNG instead of JPEG.

    Raises:
        UsageError: Another process writes to it, or the folder holds something else.
        InputError: It was made by a later version.
    """

    def __init__(self, folder: Path, *, bounds: Bounds | None = None, lossless: bool = False) -> None:
        self.folder = folder.expanduser().absolute()
        self.bounds = bounds or Bounds()
        self.evicted = 0
        self._lossless = lossless
        self._entries_folder = self.folder / "entries"
        self._lock = _lock(self.folder)
        try:
            self.id = _open_or_make(self.folder)
            self._entries_folder.mkdir(exist_ok=True)
            _sweep(self._entries_folder)
            self._stored = {each.id: each for each in stored_entries(self.folder)}
            self._next = 1 + max((int(each.partition("-")[0]) for each in self._stored), default=0)
            self._make_room(0, 0)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def bytes(self) -> int:
        """What its entries take on disk, as `Bounds` counts it."""
        return sum(each.bytes for each in self._stored.values())

    @property
    def reasons(self) -> Counter[str]:
        """How many entries there are of each strongest reason."""
        return Counter(each.reason for each in self._stored.values())

    def close(self) -> None:
        """Let the next writer in."""
        if self._lock.is_locked:
            (self.folder / "writer.json").unlink(missing_ok=True)
            self._lock.release()

    def add_package(self, key: str, facts: Mapping[str, Any]) -> None:
        """Keep what an import must know of a package whose predictions are kept.

        Args:
            key: NAME-VERSION, as `FrameContext.package` says it.
            facts: 'task', 'classes', and what else tells which model it was; JSON-ready.
        """
        path = package_file(self.folder, key)
        content = json.dumps({**facts, "package": key}).encode()
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, content)

    def put(self, frame: HardFrame) -> str | None:
        """Keep a frame; what has to make room for it goes. When this returns, the frame is on disk for good.

        The oldest frame of the reason that has most goes first, so a flood of one kind does not wash out the rare ones.

        Returns:
            The entry's id; None for a frame that is larger than the whole ring may be.

        Raises:
            OSError: It cannot be written: the disk is full, or gone. Nothing is left of it then.
        """
        identity = f"{self._next:012d}-{secrets.token_hex(4)}"
        files = encode(frame, identity, lossless=self._lossless)
        size = _BLOCK + sum(_in_blocks(len(data)) for data in files.values())
        if size > self.bounds.bytes:
            return None
        self._make_room(1, size)
        reason = frame.reason
        place = self._entries_folder / f"{identity}+{reason}"
        temporary = self._entries_folder / f"{_NEW}{identity}"
        try:
            temporary.mkdir()
            for name, data in files.items():
                _write(temporary / name, data)
            sync_folder(temporary)
            temporary.rename(place)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._next += 1
        self._stored[identity] = Stored(place, identity, reason, size)
        sync_folder(self._entries_folder)
        return identity

    def _make_room(self, entries: int, size: int) -> None:
        """Let entries go until so many more, of so many bytes, fit in."""
        total, reasons = self.bytes, self.reasons
        while self._stored and (len(self._stored) + entries > self.bounds.entries or total + size > self.bounds.bytes):
            most = max(reasons.values())
            going = next(each for each in self._stored.values() if reasons[each.reason] == most)
            hidden = going.folder.with_name(f"{_GONE}{going.id}")
            going.folder.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
            del self._stored[going.id]
            total -= going.bytes
            reasons[going.reason] -= 1
            self.evicted += 1


def stored_entries(folder: Path) -> list[Stored]:
    """The entries of a ring, oldest first; it may be written to meanwhile."""
    found = []
    with suppress(FileNotFoundError), os.scandir(folder / "entries") as entries:
        for entry in entries:
            name = _NAME.fullmatch(entry.name)
            if name is not None:
                size = _folder_bytes(Path(entry.path))
                found.append(Stored(Path(entry.path), f"{name[1]}-{name[2]}", name[3], size))
    return sorted(found, key=lambda each: each.id)


def ring_id(folder: Path) -> str:
    """Which ring a folder holds.

    Raises:
        UsageError: It holds none.
        InputError: What it holds cannot be read, or is of a later version.
    """
    path = folder / _ABOUT
    try:
        about = json.loads(path.read_bytes())
        version, identity = about["format"], str(about["id"])
    except (FileNotFoundError, NotADirectoryError):
        remedy = "name the folder that 'curate run --harvest' keeps frames in"
        raise UsageError("there is no harvest here", where=folder, remedy=remedy) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the file cannot be read: {error!r}", where=path, remedy="delete it, and the id is new"
        ) from error
    if version != FORMAT or not re.fullmatch(r"[0-9a-f]{8}", identity):
        raise InputError(
            f"a harvest of format {version}; this curate reads {FORMAT}", where=path, remedy="update curate"
        )
    return identity


def package_file(folder: Path, key: str) -> Path:
    """Where a ring keeps what is known of a package."""
    return folder / "packages" / f"{re.sub(r'[^0-9A-Za-z_.@+-]', '_', key)}.json"


def read_packages(folder: Path) -> dict[str, dict[str, Any]]:
    """What a ring knows of packages, by their key; files that cannot be read are left out."""
    found = {}
    for path in sorted((folder / "packages").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads(path.read_bytes())
            classes = facts["classes"]
            if all(type(each) is str and each for each in classes) and len(set(classes)) == len(classes) > 0:
                found[str(facts["package"])] = dict(facts)
    return found


def _lock(folder: Path) -> FileLock:
    """The writer's lock; the system drops it when its holder dies, however it dies."""
    if folder.exists() and not folder.is_dir():
        raise UsageError("this is a file", where=folder, remedy="name a folder for the harvest")
    if folder.is_dir() and not (folder / _ABOUT).exists() and not _is_unfinished(folder):
        raise UsageError("the folder holds something else", where=folder, remedy="name an empty folder, or a new one")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "writer.lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"another process harvests into this folder: {_holder(folder)}",
            where=folder,
            remedy="give each 'curate run' a harvest of its own; importing from it needs no lock",
        ) from None
    with suppress(OSError):  # only for the words of the error above
        about = {"pid": os.getpid(), "host": socket.gethostname()}
        (folder / "writer.json").write_text(json.dumps(about))
    return lock


def _is_unfinished(folder: Path) -> bool:
    """Whether a folder has nothing but what a ring that was killed at its making leaves."""
    return all(
        each.name in {"writer.lock", "writer.json", "entries"} or _ABOUT in each.name for each in folder.iterdir()
    )


def _holder(folder: Path) -> str:
    try:
        about = json.loads((folder / "writer.json").read_bytes())
        return f"process {about['pid']} on {about['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has only just begun"


def _open_or_make(folder: Path) -> str:
    if not (folder / _ABOUT).exists():
        about = {"format": FORMAT, "id": secrets.token_hex(4)}
        write_atomic(folder / _ABOUT, json.dumps(about).encode())
    return ring_id(folder)


def _sweep(entries: Path) -> None:
    """Take away what a crash has left of entries that were being written or deleted."""
    for path in _left_over(entries):
        shutil.rmtree(path, ignore_errors=True)


def _left_over(entries: Path) -> Iterator[Path]:
    for path in list(entries.iterdir()):
        if path.name.startswith((_NEW, _GONE)):
            yield path


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _folder_bytes(folder: Path) -> int:
    total = _BLOCK
    with suppress(FileNotFoundError), os.scandir(folder) as files:  # the writer may just have let go of it
        total += sum(_in_blocks(entry.stat().st_size) for entry in files)
    return total


def _in_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
