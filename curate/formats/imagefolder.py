"""Images in one folder for each class, as torchvision's ImageFolder, with or without folders for splits above.

    cat/1.jpg  dog/2.jpg                     classes
    train/cat/1.jpg  val/dog/2.jpg           splits and classes
    1.jpg  2.jpg                             images without labels

Folders below a class's are part of an image's name. Classes are sorted and numbered as torchvision does. A folder above the
classes counts as a split only if all of them are named after splits, since a class may be called 'train' too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import FormatError, UsageError
from curate.formats.base import ClassInfo, Detection, Export, Format, ReadOptions, Records, WriteOptions
from curate.formats.columns import annotations_on, image_rows, images_table, report_unsaid
from curate.formats.files import is_image, list_files, peek_files, place_images
from curate.formats.locations import NO_SPLIT, file_name, split_folders, split_name, strip_layout, unique_names
from curate.formats.losses import LossReport
from curate.formats.sizes import probe

_WRAPPERS: Final = frozenset({"images", "imgs", "data", "dataset"})
_NOT_CLASSES: Final = frozenset({"images", "imgs", "masks", "labels", "annotations", "Images", "JPEGImages"})
_NOTES: Final = re.compile(r"(readme|licen[cs]e)", re.IGNORECASE)
_LABEL_SUFFIXES: Final = (".txt", ".xml", ".json", ".csv", ".yaml")


@dataclass(frozen=True)
class _Levels:
    """How many folders above the classes there are, and whether the last of them is the split."""

    wrapper: int
    has_splits: bool

    @property
    def above_class(self) -> int:
        return self.wrapper + self.has_splits


def detect(source: Path) -> Detection | None:
    """Images in class folders, with no annotation files among them; less sure of images alone."""
    if not source.is_dir():
        return None
    files = peek_files(source)
    images = [name for name in files if is_image(name)]
    if not images:
        return None
    levels = _levels(images)
    classes = {label for name in images if (label := _label(name, levels)) is not None}
    others = sum(name.lower().endswith(_LABEL_SUFFIXES) and not _NOTES.match(name) for name in files)
    reason = f"{len(images)} images in a look at {len(files)} files, {len(classes)} class folders"
    if 2 * others > len(images) or (others and not classes):
        return Detection(0.1, f"{reason}, but {others} files that may be annotations")
    if classes & _NOT_CLASSES:
        return Detection(0.2, f"{reason}, but '{min(classes & _NOT_CLASSES)}' is not the name of a class")
    return Detection(0.6 if classes else 0.35, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder.

    Raises:
        FormatError: There is no image in it.
    """
    if not source.is_dir():
        raise FormatError("this is not a folder", where=source, remedy="give the folder above the classes' folders")
    locations = [name for name in list_files(source) if is_image(name)]
    if not locations:
        raise FormatError("there are no images", where=source, remedy="give the folder above the classes' folders")
    levels = _levels(locations)
    labels = [_label(name, levels) for name in locations]
    splits = [options.split or _split(name, levels) for name in locations]
    paths: list[Path | None] = [source / name for name in locations]
    headers = probe(paths, losses)
    names = sorted({label for label in labels if label is not None})
    images = images_table(locations, paths, headers.width, headers.height, {"split": splits})
    return Records(
        images,
        [_annotations(locations, labels, options.layer)],
        [ClassInfo(name, source_id=number) for number, name in enumerate(names)],
    )


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write images into <split>/<class>/, without the split if no image has one.

    Args:
        export: What to write.
        target: An empty folder.
        options: Images are copied or linked; the folders are the annotations.
        losses: Boxes, further labels of an image, ids.

    Raises:
        UsageError: `options.images` is 'none'.
    """
    if options.images == "none":
        raise UsageError("an image folder cannot be written without the images", remedy="say --copy or --link")
    images = export.images
    labels = _one_label_each(export, losses)
    folders = _class_folders(sorted({label for label in labels if label is not None}), losses)
    splits = images["split"].to_pylist()
    if any(splits) and None in splits:
        losses.converted("images", f"no split: in {NO_SPLIT}", "images", splits.count(None))
    groups = [
        f"{split}{'' if label is None else folders[label] + '/'}"
        for split, label in zip(split_folders(splits), labels, strict=True)
    ]
    names = _names(images["location"].to_pylist(), splits, groups, losses)
    pairs = zip(images["path"].to_pylist(), (target / name for name in names), strict=True)
    place_images(pairs, options.images, losses)
    _report_classes(export.classes, list(folders), losses)
    is_label = pc.equal(export.annotations["type"], "label")
    report_unsaid(images, export.annotations.filter(is_label), "ImageFolder", losses, holds=())
    losses.carried("images", images.num_rows)
    losses.carried("annotations", sum(label is not None for label in labels))


FORMAT = Format("imagefolder", detect, read, write)


# --------------------------------------------------------------------------------------------------- reading


def _levels(locations: Sequence[str]) -> _Levels:
    folders = [name.split("/")[:-1] for name in locations]
    wrapper = 0
    while all(len(parts) > wrapper + 1 for parts in folders):
        names = {parts[wrapper] for parts in folders}
        if len(names) > 1 or not names <= _WRAPPERS:
            break
        wrapper += 1
    level = {parts[wrapper] for parts in folders if len(parts) > wrapper}
    named = bool(level) and all(split_name(name) or name == NO_SPLIT for name in level)
    return _Levels(wrapper, named)


def _label(location: str, levels: _Levels) -> str | None:
    folders = location.split("/")[:-1]
    return folders[levels.above_class] if len(folders) > levels.above_class else None


def _split(location: str, levels: _Levels) -> str | None:
    folders = location.split("/")[:-1]
    return split_name(folders[levels.wrapper]) if levels.has_splits and len(folders) > levels.wrapper else None


def _annotations(locations: Sequence[str], labels: Sequence[str | None], layer: str) -> pa.Table:
    rows = np.array([row for row, label in enumerate(labels) if label is not None], dtype=np.int64)
    columns = {"type": "label", "label": [labels[row] for row in rows]}
    return annotations_on(locations, rows, layer, columns, keys=np.zeros(len(rows), dtype=np.uint64))


# --------------------------------------------------------------------------------------------------- writing


def _one_label_each(export: Export, losses: LossReport) -> list[str | None]:
    """The first whole-image label of each image."""
    annotations = export.annotations
    is_label = pc.and_(pc.equal(annotations["type"], "label"), pc.is_valid(annotations["label"]))
    dropped = annotations.num_rows - (pc.sum(is_label).as_py() or 0)
    losses.dropped("annotations", "boxes and shapes have no place in ImageFolder", "annotations", dropped)
    chosen = annotations.filter(is_label)
    rows = image_rows(chosen, export.images).tolist()
    labels: list[str | None] = [None] * export.images.num_rows
    for row, label in zip(rows, chosen["label"].to_pylist(), strict=True):
        if labels[row] is None:
            labels[row] = label
        else:
            place = f"{export.images['location'][row].as_py()}: {label}"
            losses.dropped("annotations", "a second label of an image", place)
    if labels.count(None):
        first = export.images["location"][labels.index(None)].as_py()
        losses.converted("images", "without a label: beside the classes' folders", first, labels.count(None))
    return labels


def _class_folders(names: Sequence[str], losses: LossReport) -> dict[str, str]:
    """A folder name for each class, different also where upper and lower case are the same."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        base = candidate = file_name(name)
        number = 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{base}_{number}"
        taken.add(candidate.lower())
        folders[name] = candidate
        if candidate != name:
            losses.converted("classes", "renamed: the name cannot be a folder's", f"{name} -> {candidate}")
    return folders


def _names(
    locations: Sequence[str], splits: Sequence[str | None], groups: Sequence[str], losses: LossReport
) -> list[str]:
    """Where each image goes; a class folder that the location already has is not repeated."""
    placed = []
    for location, split, group in zip(locations, splits, groups, strict=True):
        folder = group.rstrip("/").rpartition("/")[2]
        name = strip_layout(location, split)
        placed.append(group + (name.removeprefix(f"{folder}/") if folder else name))
    return unique_names(placed, losses)


def _report_classes(classes: Sequence[ClassInfo], written: Sequence[str], losses: LossReport) -> None:
    number = {name: place for place, name in enumerate(written)}
    for info in classes:
        if info.name not in number:
            losses.dropped("classes", "no image has it, so it gets no folder", info.name)
        elif info.source_id is not None and info.source_id != number[info.name]:
            place = f"{info.name}: {info.source_id} -> {number[info.name]}"
            losses.converted("classes", "renumbered: ImageFolder numbers classes by name", place)
