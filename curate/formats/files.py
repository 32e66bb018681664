"""Files on disk, as every folder format needs them: which there are, how large the images are, where exported ones go.

Names inside a dataset are *locations*: relative to the source's root, with forward slashes, never leaving it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import FormatError, ImageError
from curate.formats.losses import LossReport
from curate.imaging import IMAGE_SUFFIXES, ImageHeader, read_header

Ints = npt.NDArray[np.int64]
Mode = Literal["copy", "link", "none"]

NO_SPLIT: Final = "unsplit"
"""Folder of exported images that have no split, where others have one."""

_SPLITS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_LAYOUT_FOLDERS: Final = frozenset({"images", "imgs", "jpegimages", "obj_train_data", "obj_valid_data"})
_THREADS: Final = 8
_JUNK: Final = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Headers:
    """What n image files say of their size.

    Attributes:
        width: int64 array of shape (n,), pixels after EXIF orientation; 0 where it is not known.
        height: The same.
        orientation: EXIF orientation, 1 to 8; 1 where it is not known.
    """

    width: Ints
    height: Ints
    orientation: Ints


# --------------------------------------------------------------------------------------------------- finding files


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


# --------------------------------------------------------------------------------------------------- measuring images


def probe(paths: Sequence[Path | None], losses: LossReport) -> Headers:
    """Read the sizes of images, many at a time.

    Args:
        paths: n files; None where there is none.
        losses: An image that cannot be read is reported, and its size left unknown.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        results = list(pool.map(_try_header, paths, chunksize=64))
    values = np.ones((len(paths), 3), dtype=np.int64)
    values[:, :2] = 0
    for row, (path, result) in enumerate(zip(paths, results, strict=True)):
        if isinstance(result, ImageError):
            losses.converted("images", "cannot be read; kept without a size", f"{path}: {result.what}")
        elif result is not None:
            values[row] = (result.width, result.height, result.orientation)
    return Headers(values[:, 0], values[:, 1], values[:, 2])


def reconcile_sizes(
    given_width: Ints, given_height: Ints, headers: Headers, places: Sequence[str], losses: LossReport
) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
    """Compare the sizes that an annotation file states with those of the images themselves, which win.

    Args:
        given_width: Shape (n,); 0 where the file does not say.
        given_height: Shape (n,).
        headers: Of the same n images.
        places: What to call each in the report.
        losses: Where a size that disagrees is reported.

    Returns:
        Width and height after EXIF orientation (0 where nobody knows), and whether the file's coordinates refer to the
        image as stored, before orientation; each of shape (n,).
    """
    known = headers.width > 0
    said = (given_width > 0) & (given_height > 0)
    agrees = (given_width == headers.width) & (given_height == headers.height)
    swapped = (given_width == headers.height) & (given_height == headers.width)
    raw = known & said & ~agrees & swapped & (headers.orientation >= 5)
    for row in np.flatnonzero(known & said & ~agrees & ~raw).tolist():
        losses.converted(
            "images",
            "the size stated is not the image's; the image's is used, coordinates are kept",
            f"{places[row]}: {given_width[row]} x {given_height[row]} stated, "
            f"{headers.width[row]} x {headers.height[row]} found",
        )
    width = np.where(known, headers.width, np.where(said, given_width, 0))
    height = np.where(known, headers.height, np.where(said, given_height, 0))
    return width, height, raw


# --------------------------------------------------------------------------------------------------- names


def split_name(text: str) -> str | None:
    """The split that a folder or file is named after ('valid' and 'validation' are 'val'), or None if it is not one."""
    name = text.strip().lower()
    return _SPLITS.get(name) or _SPLITS.get(re.sub(r"(?<=[a-z])[_-]?\d{4}$", "", name))


def split_of(location: str) -> str | None:
    """The split told by the first two folders of a location: 'train/images/a.jpg', 'images/val/a.jpg'."""
    for folder in location.split("/")[:-1][:2]:
        name = split_name(folder)
        if name is not None:
            return name
        if folder.lower() not in _LAYOUT_FOLDERS:
            return None
    return None


def safe_location(text: str) -> str:
    """A file name from outside as a location: forward slashes, relative, no '..' and no drive; may be empty."""
    parts = re.split(r"[\\/]+", text.strip())
    if parts and re.fullmatch(r"[A-Za-z]:", parts[0]):
        parts = parts[1:]
    return "/".join(part for part in parts if part not in {"", ".", ".."})


def match_location(text: str, known: frozenset[str] | set[str]) -> str | None:
    """The known location that a file name from outside ends with: '/home/me/set/images/a.jpg' -> 'images/a.jpg'."""
    location = safe_location(text)
    while location not in known:
        _, slash, location = location.partition("/")
        if not slash:
            return None
    return location


def stem(location: str) -> str:
    """A location without its file ending."""
    return str(PurePosixPath(location).with_suffix("")) if location else location


def export_names(
    locations: Sequence[str], splits: Sequence[str | None], losses: LossReport, *, by_stem: bool = False
) -> list[str]:
    """Names of exported images inside their split's folder: the location without the source's own layout, made unique.

    Args:
        locations: n locations ('train/images/a/b.jpg').
        splits: Their splits.
        losses: A name that had to change is reported.
        by_stem: Names must differ without their endings too, since each has a label file beside it.

    Returns:
        n names ('a/b.jpg'), unique within a split, also where upper and lower case are the same.
    """
    names = [strip_layout(location, split) for location, split in zip(locations, splits, strict=True)]
    folders = split_folders(splits)
    placed = unique_names([folder + name for folder, name in zip(folders, names, strict=True)], losses, by_stem=by_stem)
    return [name.removeprefix(folder) for folder, name in zip(folders, placed, strict=True)]


def strip_layout(location: str, split: str | None) -> str:
    """A location without the leading folders that only say what an export says anew: 'images', the split's name."""
    *folders, name = safe_location(location).split("/")
    return "/".join([*_inner_folders(folders, split), name])


def unique_names(names: Sequence[str], losses: LossReport, *, by_stem: bool = False) -> list[str]:
    """Make n file names differ, also where upper and lower case are the same, by a number at the end.

    Args:
        names: With forward slashes.
        losses: A name that had to change is reported.
        by_stem: They must differ without their endings too.
    """
    taken: set[str] = set()
    unique = []
    for name in names:
        path = PurePosixPath(name)
        candidate, number = path, 1
        while (key := str(candidate.with_suffix("") if by_stem else candidate).lower()) in taken:
            number += 1
            candidate = path.with_name(f"{path.stem}_{number}{path.suffix}")
        taken.add(key)
        if number > 1:
            losses.converted("images", "renamed: another image has the same name", f"{name} -> {candidate}")
        unique.append(str(candidate))
    return unique


def split_folders(splits: Sequence[str | None]) -> list[str]:
    """The folder of each image's split, as a prefix: 'train/', or '' if no image has a split."""
    if not any(splits):
        return [""] * len(splits)
    return [f"{file_name(split) if split else NO_SPLIT}/" for split in splits]


def file_name(text: str) -> str:
    """A text as the name of one file or folder, on any system."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", text).rstrip(". ") or "_"
    return f"{name}_" if name in {".", ".."} else name


# --------------------------------------------------------------------------------------------------- writing files


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


def _try_header(path: Path | None) -> ImageHeader | ImageError | None:
    if path is None:
        return None
    try:
        return read_header(path)
    except ImageError as error:
        return error


def _inner_folders(folders: list[str], split: str | None) -> Iterator[str]:
    leading, split_seen = True, False
    for folder in folders:
        is_split = folder in {split, NO_SPLIT} or (split is not None and split_name(folder) == split)
        if leading and is_split and not split_seen:
            split_seen = True
        elif leading and folder.lower() in _LAYOUT_FOLDERS:
            continue
        else:
            leading = False
            yield folder


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in _JUNK
