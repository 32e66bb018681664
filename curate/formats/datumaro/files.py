"""Which Datumaro files there are, the folder of the dataset they belong to, and where its images are."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from curate.errors import FormatError
from curate.formats.base import Detection, ReadOptions
from curate.formats.coco.pieces import JsonFile, index
from curate.formats.files import ImageLookup, is_image, list_files, peek_files, read_head
from curate.formats.locations import safe_location, split_name
from curate.formats.losses import LossReport

ANNOTATIONS: Final = "annotations"
IMAGES: Final = "images"
NO_SUBSET: Final = "default"
"""What Datumaro calls the subset of items that have none."""

_PEEK_BYTES: Final = 65536
_VERSION: Final = re.compile(r'"dm_format_version"\s*:')
_CATEGORIES: Final = re.compile(r'"categories"\s*:\s*\{\s*("(label|mask|points)"\s*:\s*\{|\})')
_ITEMS: Final = re.compile(r'"items"\s*:\s*\[')
_REMEDY: Final = "check the path, or say --format if it is another format"


@dataclass(frozen=True)
class SubsetFile:
    """One annotation file.

    Attributes:
        json: Where things are in it.
        root: Folder of the dataset: the one above annotations/.
        source: The file's name relative to what is imported.
        subset: The file's name without its ending.
    """

    json: JsonFile
    root: Path
    source: str
    subset: str

    @property
    def split(self) -> str | None:
        """The split that the subset is named after; None for Datumaro's 'default'."""
        return split_of_subset(self.subset)


def split_of_subset(subset: str) -> str | None:
    """The split that a subset is named after; None for Datumaro's 'default'."""
    return None if subset == NO_SUBSET else split_name(subset) or subset


def detect(source: Path) -> Detection | None:
    """The first kilobytes of a JSON file, or of those in a folder."""
    if source.is_file():
        return _claim(source)
    names = [name for name in peek_files(source) if name.lower().endswith(".json")]
    for name in sorted(names, key=lambda name: f"/{ANNOTATIONS}/" not in f"/{name}")[:20]:
        if (claim := _claim(source / name)) is not None:
            return Detection(claim.confidence, f"{name}: {claim.reason}")
    return None


def open_files(source: Path, losses: LossReport) -> list[SubsetFile]:
    """Every Datumaro file; those that cannot be read are reported, and raised if there is no other.

    Raises:
        FormatError: None can be read.
    """
    paths = [source] if source.is_file() else _paths(source)
    opened: list[SubsetFile] = []
    failures: list[FormatError] = []
    for path in paths:
        try:
            opened.append(_open(path, source))
        except FormatError as error:
            failures.append(error)
    if not opened:
        remedy = "give the .json file itself, or the folder that holds 'annotations'"
        raise failures[0] if failures else FormatError("no Datumaro file is here", where=source, remedy=remedy)
    for failure in failures:
        losses.dropped("files", failure.what, failure.where)
    return opened


class Images:
    """The image files of a dataset, and how an item finds its own.

    Args:
        root: The dataset's folder.
        options: `images` is a folder of images that lie elsewhere.
    """

    def __init__(self, root: Path, options: ReadOptions) -> None:
        elsewhere = options.images is not None and not options.images.absolute().is_relative_to(root)
        self._folder = options.images.absolute() if elsewhere and options.images else root
        self._lookup = ImageLookup(self._folder)

    def find(self, subset: str, name: str) -> tuple[str, Path | None]:
        """An image's location and file.

        Args:
            subset: The item's subset.
            name: Path of the image as the item has it, or its id.

        Returns:
            The location relative to the dataset's folder, and the file, or None where there is none.
        """
        inner = safe_location(name) or "unnamed"
        for place in (f"{IMAGES}/{subset}/{inner}", f"{IMAGES}/{inner}", inner, f"{subset}/{inner}"):
            path = self._folder / place
            if is_image(place) and os.path.isfile(path):  # noqa: PTH113 - False, not an error, for any text
                return place, path
        found = self._lookup.find(inner)
        if found is None:
            return f"{IMAGES}/{subset}/{inner}", None
        return found.relative_to(self._folder).as_posix(), found


def _paths(source: Path) -> list[Path]:
    for folder in (source / ANNOTATIONS, source):
        found = sorted(path for path in folder.glob("*.json") if _claim(path) is not None)
        if found:
            return found
    every = [source / name for name in list_files(source) if name.lower().endswith(".json")]
    return [path for path in every if _claim(path) is not None]


def _open(path: Path, source: Path) -> SubsetFile:
    json = index(path)
    if "items" not in json.arrays:
        raise FormatError("not a Datumaro file: it has no array 'items'", where=path, remedy=_REMEDY)
    folder = path.absolute().parent
    root = folder.parent if folder.name == ANNOTATIONS else folder
    name = path.name if source.is_file() else path.relative_to(source).as_posix()
    return SubsetFile(json, root, name, path.stem)


def _claim(path: Path) -> Detection | None:
    head = read_head(path, _PEEK_BYTES)
    if _VERSION.search(head):
        return Detection(0.95, "'dm_format_version'")
    if _CATEGORIES.search(head) and _ITEMS.search(head):
        return Detection(0.9, "'categories' by kind, and 'items'")
    return None
