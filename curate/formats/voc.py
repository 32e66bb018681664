"""Pascal VOC: one XML file for each image (Everingham et al. 2010, and the VOC2012 development kit's documentation).

**Pixels.** The development kit counts pixels from 1 and includes both corners: a box covers xmin - 1 to xmax in the
coordinates used here. Nearly every tool that writes VOC since (labelImg, CVAT, Roboflow, Datumaro) writes corners as they
are in continuous coordinates, from 0: a box covers xmin to xmax. So the file decides: where its ``<database>`` is the
challenge's own ('The VOC2007 Database', 'The PASCAL Visual Object Classes ...'), the kit's rule holds, else the tools'.
The database's name is kept with the image, and writing applies the same rule, so both kinds go round unchanged.

Layouts: Annotations/ + JPEGImages/ + ImageSets/Main/, XML files beside the images, and Roboflow's train/, valid/, test/.
Rotated boxes (roLabelImg's ``<robndbox>``, in radians) and polygons (Roboflow's ``<polygon>``) are read where they are.
VOC has no ids: an object is known by its image and its place in the file.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from curate.dataset.ids import annotation_ids, hash_texts, image_ids
from curate.errors import FormatError
from curate.formats.base import ClassInfo, Detection, Format, ReadOptions, Records
from curate.formats.columns import annotations_table, fixed_lists, images_table
from curate.formats.files import (
    Headers,
    is_image,
    list_files,
    peek_files,
    probe,
    read_head,
    read_text,
    reconcile_sizes,
    safe_location,
    split_name,
    split_of,
    stem,
)
from curate.formats.losses import LossReport
from curate.formats.voc_write import PLAIN_FLAGS, counts_from_one, write
from curate.geometry import boxes_around, orient_boxes, orient_points, rotated_box_corners

_IMAGE_FOLDERS: Final = ("JPEGImages", "images", "Images", "jpegimages", "imgs")
_MASK_FOLDERS: Final = frozenset({"SegmentationClass", "SegmentationObject"})
_KNOWN_TAGS: Final = frozenset({"name", "bndbox", "polygon", "robndbox", "attributes", "part", "actions", "confidence"})
_CLASS_LIST: Final = re.compile(r".+_(train|val|trainval|test)$")
_NO_SUBSET: Final = frozenset({"default", "trainval"})


@dataclass
class _Objects:
    """What the files hold, in parallel lists with one entry for each object."""

    image: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    bbox: list[list[float]] = field(default_factory=list)
    rotated: list[list[float] | None] = field(default_factory=list)
    polygon: list[list[float] | None] = field(default_factory=list)
    attributes: list[str | None] = field(default_factory=list)
    score: list[float | None] = field(default_factory=list)


@dataclass
class _Images:
    """What is known of each image, in parallel lists."""

    location: list[str] = field(default_factory=list)
    path: list[Path | None] = field(default_factory=list)
    source: list[str | None] = field(default_factory=list)
    size: list[tuple[int, int]] = field(default_factory=list)
    metadata: list[str | None] = field(default_factory=list)


def detect(source: Path) -> Detection | None:
    """XML files whose root is <annotation> with VOC's <size>, <segmented> or <bndbox>."""
    if source.is_file():
        return Detection(0.95, "a VOC annotation") if _is_voc(source) else None
    files = peek_files(source)
    xml = [name for name in files if name.lower().endswith(".xml")]
    count = sum(_is_voc(source / name) for name in xml[:50])
    if count == 0:
        return None
    reason = f"{count} VOC annotations in a look at {len(files)} files"
    if any(name.split("/")[0] in {"Annotations", "JPEGImages", "ImageSets"} for name in files):
        return Detection(0.95, f"{reason}; Annotations, JPEGImages or ImageSets")
    return Detection(0.85, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of VOC annotations, or one file.

    Raises:
        FormatError: There are none.
    """
    source = source.absolute()
    root = source.parent if source.is_file() else source
    files = [source.name] if source.is_file() else list_files(root)
    known = _Known(root, list_files(root) if source.is_file() else files, options)
    annotations = [name for name in files if name.lower().endswith(".xml")]
    images, objects = _Images(), _Objects()
    read_count = sum(_read_file(name, known, images, objects, losses) for name in annotations)
    if read_count == 0:
        raise FormatError("there is no VOC annotation (<annotation> in an .xml file)", where=source, remedy="check it")
    if source.is_dir():
        _add_images_without_annotations(known, images)
    _report_masks(files, losses)
    headers = probe(images.path, losses)
    given = np.array(images.size, dtype=np.int64).reshape(-1, 2)
    width, height, raw = reconcile_sizes(given[:, 0], given[:, 1], headers, images.location, losses)
    splits = [options.split] * len(images.location) if options.split else _splits(known, images.location, losses)
    classes = [ClassInfo(name) for name in _class_order(root, objects.label)]
    columns = {"split": splits, "source": images.source, "metadata": images.metadata}
    return Records(
        images_table(images.location, images.path, width, height, columns),
        [_annotations(objects, images, headers, raw, options.layer)],
        classes,
    )


class _Voc:
    name = "voc"
    detect = staticmethod(detect)
    read = staticmethod(read)
    write = staticmethod(write)


FORMAT: Format = _Voc()


def _is_voc(path: Path) -> bool:
    head = read_head(path, 2048)
    # LabelMe's XML has the same root, but <imagesize> and no <size>.
    if "<annotation" not in head or "<imagesize>" in head:
        return False
    return any(tag in head for tag in ("<size>", "<segmented>", "<bndbox>"))


# --------------------------------------------------------------------------------------------------- images


class _Known:
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
        self.images = [name for name in found if is_image(name) and not _MASK_FOLDERS & set(name.split("/")[:-1])]
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
        places = [folders, *(_join(folder, inner) for folder in _IMAGE_FOLDERS)]
        places += [_join(outer, folder) for folder in _IMAGE_FOLDERS] + [""]
        for place in places:
            found = self._by_stem.get(_join(place, name))
            if found is not None:
                return found
        for place in places:
            if filename and _join(place, filename) in self._names:
                return _join(place, filename)
        for key in (name, PurePosixPath(filename).name):
            candidates = self._by_place.get(key, [])
            if len(candidates) == 1:
                return candidates[0]
        return None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


def _add_images_without_annotations(known: _Known, images: _Images) -> None:
    taken = set(images.location)
    for name in known.images:
        if name not in taken:
            images.location.append(name)
            images.path.append(known.root / name)
            images.source.append(None)
            images.size.append((0, 0))
            images.metadata.append(None)


def _splits(known: _Known, locations: Sequence[str], losses: LossReport) -> list[str | None]:
    """From ImageSets/Main (else another set), or the folders' names."""
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
    for name in chosen:
        file = PurePosixPath(name).stem
        if _CLASS_LIST.match(file) or file in _NO_SUBSET:
            continue
        split = split_name(file) or file
        for number, line in enumerate(read_text(known.folder / name).splitlines(), 1):
            image = re.sub(r"\s+-?[01]$", "", line.strip()).strip('"')
            if image and split_by_name.setdefault(image, split) != split:
                losses.converted("images", "in several splits; the first is kept", f"{name}:{number}")
    return [_listed_split(location, split_by_name) or split_of(location) for location in locations]


def _listed_split(location: str, split_by_name: Mapping[str, str]) -> str | None:
    """An image's split in a list that may name it with or without its folder and ending."""
    place = stem(location)
    inner = place.partition("/")[2]
    for name in (inner, place, PurePosixPath(place).name, PurePosixPath(location).name):
        if name and name in split_by_name:
            return split_by_name[name]
    return None


def _class_order(root: Path, labels: Sequence[str]) -> list[str]:
    """CVAT's labelmap.txt gives an order; else the names are sorted."""
    order: list[str] = []
    if (root / "labelmap.txt").is_file():
        lines = [line.partition(":")[0].strip() for line in read_text(root / "labelmap.txt").splitlines()]
        order = [name for name in lines if name and not name.startswith("#") and name != "background"]
    return list(dict.fromkeys([*order, *sorted(set(labels))]))


def _report_masks(files: Sequence[str], losses: LossReport) -> None:
    masks = [name for name in files if "SegmentationObject" in name.split("/")[:-1]]
    masks = masks or [name for name in files if "SegmentationClass" in name.split("/")[:-1]]
    if masks:
        losses.dropped("masks", "segmentation images are not read yet", masks[0], len(masks))


# --------------------------------------------------------------------------------------------------- one file


def _read_file(name: str, known: _Known, images: _Images, objects: _Objects, losses: LossReport) -> bool:
    """Add what one file holds; False if it is not a VOC annotation."""
    path = known.folder / name
    try:
        tree = fromstring(path.read_bytes(), forbid_dtd=False)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError, OSError) as error:
        losses.dropped("annotation files", "not valid XML", f"{name}: {error}")
        return False
    if tree.tag != "annotation" or tree.find("imagesize") is not None:
        losses.dropped("annotation files", "not a VOC annotation", name)
        return False
    filename = safe_location(tree.findtext("filename") or "")
    location = known.find(name, filename)
    path_found = None if location is None else known.root / location
    if location is None:
        folder = "JPEGImages/" if "Annotations" in name.split("/") else name.rpartition("/")[0]
        location = _join(folder.rstrip("/"), filename or f"{PurePosixPath(name).stem}.jpg")
        losses.converted("images", "not there; kept without a file", f"{name}: {location}")
    if location in images.location[-1:] or location in known.__dict__.setdefault("taken", set()):
        losses.dropped("annotation files", "another file describes the same image", name)
        return True
    known.__dict__["taken"].add(location)
    database = tree.findtext("source/database") or ""
    images.location.append(location)
    images.path.append(path_found)
    images.source.append(name)
    images.size.append((_whole(tree.findtext("size/width")), _whole(tree.findtext("size/height"))))
    images.metadata.append(_metadata(tree, database))
    row = len(images.location) - 1
    for number, element in enumerate(tree.iter("object"), 1):
        _read_object(element, row, number, counts_from_one(database), f"{name}: object {number}", objects, losses)
    return True
