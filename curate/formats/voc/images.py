"""The images of a VOC dataset: which there are, which one an annotation file describes, and their splits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from curate.formats.base import ReadOptions
from curate.formats.files import is_image, list_files, read_text
from curate.formats.locations import split_name, split_of, stem
from curate.formats.losses import LossReport

IMAGE_FOLDERS: Final = ("JPEGImages", "images", "Images", "jpegimages", "imgs")
"""Folders of images beside Annotations/."""

MASK_FOLDERS: Final = frozenset({"SegmentationClass", "SegmentationObject"})
"""Folders of images that are not the dataset's but masks of them."""

CLASS_LIST: Final = re.compile(r".+_(train|val|trainval|test)$")


class KnownImages:
    """The images there are, and how an annotation finds its own.

    Args:
        root: The dataset's folder.
        files: Every file in it.
        options: `images` is a folder of images that lie elsewhere.
    """

    def __init__(self, root: Path, files: Sequence[str], options: ReadOptions) -> None:
        elsewhere = options.images is not None and not options.images.absolute().is_relative_to(root)
        self.root = options.images.absolute() if elsewhere and options.images else root
        self.files = files
        self.folder = root
        found = list_files(self.root) if elsewhere else files
        self.images = [name for name in found if is_image(name) and not MASK_FOLDERS & set(name.split("/")[:-1])]
        self._names = frozenset(self.images)
        self._by_stem: dict[str, str] = {}
        self._by_place: dict[str, list[str]] = {}
        for name in self.images:
            self._by_stem.setdefault(stem(name), name)
            for key in {PurePosixPath(name).stem, PurePosixPath(name).name}:
                self._by_place.setdefault(key, []).append(name)

    def find(self, annotation: str, filename: str) -> str | None:
        """The image of an annotation file: its own name first, then the file name inside (often stale)."""
        own = stem(annotation)
        folders, _, name = own.rpartition("/")
        inner = folders.partition("/")[2]
        outer = folders.rpartition("/")[0]
        places = [folders, *(join(folder, inner) for folder in IMAGE_FOLDERS)]
        places += [join(outer, folder) for folder in IMAGE_FOLDERS] + [""]
        for place in places:
            found = self._by_stem.get(join(place, name))
            if found is not None:
                return found
        for place in places:
            if filename and join(place, filename) in self._names:
                return join(place, filename)
        for key in (name, PurePosixPath(filename).name):
            candidates = self._by_place.get(key, [])
            if len(candidates) == 1:
                return candidates[0]
        return None


def split_of_set(name: str) -> str | None:
    """The split that a list in ImageSets is of, by its name without the ending; None if it is of a class or of all images."""
    if CLASS_LIST.match(name) or name == "default":  # CVAT's name for no subset
        return None
    return split_name(name) or name


def listed_splits(known: KnownImages, losses: LossReport) -> dict[str, str]:
    """The split of each image that ImageSets/Main (else another set) lists, by the name it has there."""
    lists = [name for name in known.files if name.endswith(".txt") and "ImageSets/" in name]
    chosen = next(
        (
            group
            for folder in ("Main", "Segmentation", "Layout", "Action", "")
            if (group := [name for name in lists if f"ImageSets/{folder}/".replace("//", "/") in name])
        ),
        [],
    )
    split_by_name: dict[str, str] = {}
    # An image in train and in trainval is in train.
    for name in sorted(chosen, key=lambda name: name.endswith("/trainval.txt")):
        file = PurePosixPath(name).stem
        split = split_of_set(file)
        if split is None:
            continue
        for number, line in enumerate(read_text(known.folder / name).splitlines(), 1):
            image = re.sub(r"\s+-?[01]$", "", line.strip()).strip('"')
            if image and split_by_name.setdefault(image, split) != split and split != "trainval":
                losses.converted("images", "in several splits; the first is kept", f"{name}:{number}")
    return split_by_name


def split_in(split_by_name: Mapping[str, str], location: str) -> str | None:
    """An image's split in a list that may name it with or without its folder and ending; else its folders tell."""
    place = stem(location)
    inner = place.partition("/")[2]
    for name in (inner, place, PurePosixPath(place).name, PurePosixPath(location).name):
        if name and name in split_by_name:
            return split_by_name[name]
    return split_of(location)


def join(folder: str, name: str) -> str:
    """A name in a folder; either may be empty."""
    return f"{folder}/{name}" if folder and name else folder or name
