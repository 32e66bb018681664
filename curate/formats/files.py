"""Files on disk, as every folder format needs them: which there are, what is in them, where exported images go."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from curate.errors import FormatError, ImageError
from curate.formats.locations import match_location, safe_location, stem
from curate.formats.losses import LossReport
from curate.imaging import IMAGE_SUFFIXES

Mode = Literal["copy", "link", "none"]

_THREADS: Final = 8
_JUNK: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


# --------------------------------------------------------------------------------------------------- finding and reading


def list_files(root: Path) -> list[str]:
    """Locations of every file under a folder, sorted; hidden files and what macOS and Windows leave behind are not.

    Links to folders are followed, each folder once.
    """
    found: list[str] = []
    seen = {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = os.path.join(folder, name)  # noqa: PTH118 - three times faster than Path on a million files
            if _is_junk(name) or (os.path.islink(path) and os.path.realpath(path) in seen):  # noqa: PTH114
                continue
            seen.add(os.path.realpath(path))
            kept.append(name)
        folders[:] = kept
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if prefix == "." else f"{prefix}/"
        found.extend(f"{prefix}{name}" for name in names if not _is_junk(name))
    return sorted(found)


def peek_files(root: Path, *, per_folder: int = 60, folders: int = 60) -> list[str]:
    """Locations of a few files of each of the first folders under a root: enough to tell a format, fast on any size."""
    found: list[str] = []
    queue = [""]
    for prefix in queue:
        files = 0
        with contextlib.suppress(OSError), os.scandir(root / prefix) as entries:
            for entry in entries:
                if _is_junk(entry.name):
                    continue
                if entry.is_dir():
                    if len(queue) < folders:
                        queue.append(f"{prefix}{entry.name}/")
                else:
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
        if is_image(name) and (self.folder / name).is_file():
            return self.folder / name
        if self._names is None:
            self._index()
        assert self._names is not None
        location = match_location(name, self._names)
        if location is None:
            inner = safe_location(name)
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
        with contextlib.suppress(OSError, NotImplementedError):
            make(source)
            return True
    return False


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in _JUNK
