"""The images that annotation files name: relative to the file, to the dataset, or by a name from another machine."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from curate.formats.base import ReadOptions
from curate.formats.files import ImageLookup, is_image, list_files
from curate.formats.locations import safe_location, split_of, stem

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ABSOLUTE: Final = re.compile(r"([A-Za-z]:)?[\\/]")


class References:
    """Finds the images of the annotation files below a folder, never outside that folder and `options.images`.

    Args:
        root: The folder that is imported.
        options: `images` is another place to look in.
    """

    def __init__(self, root: Path, options: ReadOptions) -> None:
        folder = root if options.images is None else options.images.absolute()
        self._is_inside = folder.is_relative_to(root)
        self._base = root if self._is_inside else folder
        self._lookup = ImageLookup(folder)

    def place(self, annotation: str, *names: str) -> tuple[str, Path | None]:
        """Location and file of the image that an annotation file speaks of.

        A name is looked for beside the annotation file first, then among all images, as it is or as the only one of this
        name; never in the folder of another split.

        Args:
            annotation: The annotation file, relative to the root.
            *names: What it calls the image, the best first; a path of any system, an address, or a name without an ending.

        Returns:
            The location, and the file or None where there is none.
        """
        folder = annotation.rpartition("/")[0]
        given = [_without_address(name.strip()) for name in names if name.strip()]
        beside = [location for name in given if (location := _resolved(folder, name))]
        for location in beside if self._is_inside else ():
            if is_image(location) and _is_file(self._base / location):
                return location, self._base / location
        for name in (*beside, *map(safe_location, given)):
            path = self._lookup.find(name)
            if path is not None:
                location = path.relative_to(self._base).as_posix()
                if split_of(annotation) in {None, split_of(location)} or split_of(location) is None:
                    return location, path
        location = next(
            (place for name in given if (place := _resolved(folder, name) or safe_location(name))), stem(annotation)
        )
        return (location if PurePosixPath(location).suffix else f"{location}.jpg"), None

    def others(self, taken: Container[str]) -> Iterator[tuple[str, Path]]:
        """Location and file of the images that no annotation file named, sorted."""
        for name in list_files(self._lookup.folder):
            path = self._lookup.folder / name
            location = path.relative_to(self._base).as_posix()
            if is_image(name) and location not in taken:
                yield location, path


def is_address(name: str) -> bool:
    """Whether an image's name is an address on the network or of a file ('https://...', 'file:///...')."""
    return _URL.match(name) is not None


def _without_address(name: str) -> str:
    """An address without its scheme and query, as an absolute path; other names as they are."""
    return re.split("[?#]", _URL.sub("/", name, count=1))[0] if is_address(name) else name


def _resolved(folder: str, name: str) -> str | None:
    """A name relative to a folder as a location; None where it is absolute or leaves the root."""
    if _ABSOLUTE.match(name):
        return None
    parts: list[str] = folder.split("/") if folder else []
    for part in re.split(r"[\\/]+", name):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def _is_file(path: Path) -> bool:
    # Unlike Path.is_file, this takes names that are too long for the file system.
    return os.path.isfile(path)  # noqa: PTH113
