"""Files on disk, as every folder format needs them: which there are, what is in them, where exported images go."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from curate.errors import FormatError, ImageError
from curate.formats.locations import match_location, safe_location, stem
from curate.formats.losses import LossReport
from curate.imaging import IMAGE_SUFFIXES

Mode = Literal["copy", "link", "none"]

_THREADS: Final = 8
_JUNK: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})

_NOT_TEXT: Final = "the name is not UTF-8"
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # what Python makes of such bytes (PEP 383)

_peeks: ContextVar[dict[tuple[Path, int, int], list[str]] | None] = ContextVar("peeks", default=None)


# --------------------------------------------------------------------------------------------------- finding and reading


def list_files(root: Path) -> list[str]:
    """Locations of every file under a folder, sorted; hidden files and what macOS and Windows leave behind are not.

    Links to folders are followed, each folder once. Pipes, sockets and devices are no files.
    """
    return sorted(location for location, _ in walk_files(root))


def walk_files(
    root: Path, *, skipped: Callable[[str, str, str], None] | None = None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What `list_files` lists, in the system's order, with what the system says of each.

    Args:
        root: The folder.
        skipped: Called for each thing that is left out though it might matter: with 'files' or 'folders', why, and its
            location ('' for the root).
    """
    seen = {os.path.realpath(root)}
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(f"{root}/{prefix}") as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if skipped is not None:
                skipped("folders", f"cannot be read: {error.strerror}", prefix)
            continue
        folders = []
        for entry in entries:
            location = prefix + entry.name
            if _is_junk(entry.name):
                continue
            if _is_folder(entry):
                path = os.path.realpath(entry.path)
                if path not in seen or not entry.is_symlink():
                    seen.add(path)
                    folders.append(f"{location}/")
            elif (problem := _problem(entry)) is None:
                yield location, entry
            elif skipped is not None:
                skipped("files", problem, location)
        waiting += reversed(folders)


def peek_files(root: Path, *, per_folder: int = 60, folders: int = 60) -> list[str]:
    """Locations of a few files of each of the first folders under a root: enough to tell a format, fast on any size."""
    peeks = _peeks.get()
    key = (root, per_folder, folders)
    if peeks is None:
        return _peek(*key)
    if key not in peeks:
        peeks[key] = _peek(*key)
    return list(peeks[key])


@contextlib.contextmanager
def shared_peeks() -> Iterator[None]:
    """Within the block, `peek_files` looks at each folder once: every format asks for the same."""
    token = _peeks.set({})
    try:
        yield
    finally:
        _peeks.reset(token)


def _peek(root: Path, per_folder: int, folders: int) -> list[str]:
    found: list[str] = []
    queue = [""]
    for prefix in queue:
        files = 0
        with contextlib.suppress(OSError), os.scandir(root / prefix) as entries:
            for entry in entries:
                if _is_junk(entry.name):
                    continue
                if _is_folder(entry):
                    if len(queue) < folders:
                        queue.append(f"{prefix}{entry.name}/")
                elif _problem(entry) is None:
                    files += 1
                    found.append(f"{prefix}{entry.name}")
                if files >= per_folder:
                    break
    return sorted(found)


def is_image(location: str) -> bool:
    """Whether a name ends as an image file does."""
    return os.path.splitext(location)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122


class ImageLookup:
    """The images below a folder, found by the names that an annotation file gives them.

    Args:
        folder: Where to look.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: frozenset[str] | None = None
        self._by_stem: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}

    def find(self, name: str) -> Path | None:
        """The file as named; else the only one that has this name, or this name and an ending."""
        inner = safe_location(name)
        if is_image(inner) and os.path.isfile(self.folder / inner):  # noqa: PTH113 - False, not an error, for any text
            return self.folder / inner
        if self._names is None:
            self._index()
        assert self._names is not None
        location = match_location(inner, self._names)
        if location is None:
            candidates = (
                self._by_stem.get(inner)
                or self._by_stem.get(f"images/{inner}")
                or self._by_name.get(PurePosixPath(inner).name)
            )
            location = candidates[0] if candidates and len(candidates) == 1 else None
        return None if location is None else self.folder / location

    def _index(self) -> None:
        names = [name for name in list_files(self.folder) if is_image(name)]
        self._names = frozenset(names)
        for name in names:
            self._by_stem.setdefault(stem(name), []).append(name)
            self._by_name.setdefault(PurePosixPath(name).name, []).append(name)


def read_text(path: Path) -> str:
    """A text file's content, whichever of UTF-8, UTF-16 (with a mark) or Latin-1 it is in.

    Raises:
        FormatError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"the file cannot be read: {error.strerror}", where=path, remedy="check its permissions"
        ) from error
    return decode_text(data)


def decode_text(data: bytes) -> str:
    """Bytes as text: UTF-8 (a byte order mark is removed), UTF-16 with a mark, else Latin-1, which takes any bytes."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_head(path: Path, size: int = 4096) -> str:
    """The first bytes of a file as text; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size).decode("utf-8-sig", "replace")
    except OSError:
        return ""


# --------------------------------------------------------------------------------------------------- writing


def place_image(source_path: str | Path, target_path: Path, mode: Mode) -> None:
    """Put an image file where a format wants it.

    Args:
        source_path: The file.
        target_path: Its new place, which must be free; its folders are made.
        mode: 'copy' it; 'link' it (a hard link, else a symbolic link, else a copy); 'none' does nothing.

    Raises:
        ImageError: The file is not there, or cannot be copied.
    """
    if mode == "none":
        return
    source = Path(source_path).absolute()
    try:
        target_path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "link" and _link(source, target_path):
            return
        shutil.copy2(source, target_path)
    except OSError as error:
        raise ImageError(
            f"the image cannot be written to {target_path.name}: {error.strerror}",
            where=source,
            remedy="check that it is there and that the target has room",
        ) from error


def place_images(pairs: Iterable[tuple[str | None, Path]], mode: Mode, losses: LossReport) -> None:
    """`place_image` for many; an image that is not there is reported and left out."""
    if mode == "none":
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        for place, failed in pool.map(lambda pair: _try_place(pair[0], pair[1], mode), pairs):
            if failed:
                losses.dropped("image files", "the file is not there or cannot be copied", place)


def _try_place(source: str | None, target: Path, mode: Mode) -> tuple[str, bool]:
    if source is None:
        return target.name, True
    try:
        place_image(source, target, mode)
    except ImageError:
        return source, True
    return source, False


def _link(source: Path, target: Path) -> bool:
    # A hard link to a symbolic link would link the link; the file itself is meant.
    source = source.resolve(strict=True)
    for make in (target.hardlink_to, target.symlink_to):
        with contextlib.suppress(OSError, NotImplementedError):  # a system, or a disk, may know neither kind of link
            make(source)
            return True
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _problem(entry: os.DirEntry[str]) -> str | None:
    """Why something that is no folder is no file either. A link to nothing is one: it says so when it is opened."""
    try:
        # Reading a pipe would wait for ever.
        if not entry.is_file() and not (entry.is_symlink() and not os.path.exists(entry.path)):  # noqa: PTH110
            return "a pipe, a socket or a device"
    except OSError:
        return None
    return _NOT_TEXT if _LONE_SURROGATE.search(entry.path) else None


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in _JUNK
