"""Where the images of a CVAT file lie, and what they are called in the dataset.

An image's location is ``<subset>/<name>``, below the folder of the annotation file, whether the file is there or not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

from curate.formats.files import ImageLookup, is_image, list_files
from curate.formats.locations import safe_location

IMAGES: Final = "images"
"""Folder of the images beside an annotation file."""

_FRAME: Final = re.compile(r"frame_(\d{6,9})")
_LONGEST_NAME: Final = 255


def frame_name(number: int) -> str:
    """What CVAT calls a frame of a video."""
    return f"frame_{number:06d}"


class ImageFiles:
    """The image files of one annotation file.

    Args:
        folder: The folder to look in: the annotation file's, or the one that the user named.
        prefix: Location of the annotation file's folder, ending in a slash if it is not empty.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self._lookup = ImageLookup(folder)

    def find(self, name: str, subset: str | None) -> tuple[str, Path | None]:
        """Location and file of an image; None where there is none.

        Args:
            name: As the annotation file has it, with folders or without.
            subset: The project's subset it is in.
        """
        inner, outer = safe_location(name), safe_location(subset or "")
        location = _join(outer, inner)
        for folder in _folders(outer):
            path = self.folder / folder / inner
            if is_image(inner) and os.path.isfile(path):  # noqa: PTH113 - never raises, whatever the name
                return self.prefix + location, path
        found = None
        if inner and max(map(len, inner.split("/"))) < _LONGEST_NAME:
            found = self._lookup.find(_join(outer, inner)) or self._lookup.find(inner)
        if found is not None and not is_image(location):
            location += found.suffix
        return self.prefix + location, found

    def frame(self, number: int, subset: str | None) -> tuple[str, Path | None]:
        """Location and file of a frame of a video; None where there is none."""
        outer = safe_location(subset or "")
        for folder in _folders(outer):
            found = self._frames.get(folder, {}).get(number)
            if found is not None:
                return self.prefix + _join(outer, PurePosixPath(found).name), self.folder / found
        return self.prefix + _join(outer, frame_name(number)), None

    def frames(self, subset: str | None) -> Iterable[int]:
        """Numbers of the frames that have a file, in order."""
        known = (self._frames.get(folder, {}) for folder in _folders(safe_location(subset or "")))
        return sorted({number for folder in known for number in folder})

    @cached_property
    def _frames(self) -> dict[str, dict[int, str]]:
        """Every file that is called as a frame is, by its folder and number."""
        found: dict[str, dict[int, str]] = {}
        for name in list_files(self.folder):
            path = PurePosixPath(name)
            match = _FRAME.fullmatch(path.stem)
            if match and is_image(name):
                parent = str(path.parent)
                found.setdefault("" if parent == "." else parent, {}).setdefault(int(match[1]), name)
        return found


def _folders(subset: str) -> list[str]:
    places = [f"{IMAGES}/{subset}", subset, IMAGES, ""] if subset else [IMAGES, ""]
    return list(dict.fromkeys(places))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name
