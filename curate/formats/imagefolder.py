"""Images in one folder for each class, as torchvision's ImageFolder, with or without folders for splits above.

    cat/1.jpg  dog/2.jpg                     classes
    train/cat/1.jpg  val/dog/2.jpg           splits and classes
    1.jpg  2.jpg                             images without labels

Folders below a class's are part of an image's name. Classes are sorted and numbered as torchvision does. A folder above the
classes counts as a split only if all of them are named after splits, since a class may be called 'train' too. An image
without a label is written beside the classes' folders, its own folders made part of its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import FormatError, UsageError
from curate.formats.base import ClassInfo, Detection, Export, Format, ReadOptions, Records, WriteOptions
from curate.formats.columns import (
    annotations_on,
    image_rows,
    images_table,
    report_rows,
    report_unsaid,
    report_unsaid_classes,
)
from curate.formats.files import is_image, list_files, peek_files, place_images
from curate.formats.locations import (
    NO_SPLIT,
    file_name,
    report_splits,
    split_folders,
    split_name,
    strip_layout,
    unique_names,
)
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
        unsplit = np.flatnonzero(np.asarray(images["split"].is_null()))
        report_rows("converted", "images", f"no split: in {NO_SPLIT}", images, unsplit, losses)
    folder_of = {split: folder.rstrip("/") for split, folder in zip(splits, split_folders(splits), strict=True)}
    all_told = all(_is_split(folder) for folder in folder_of.values())
    report_splits(splits, lambda split: split_name(folder_of[split]) if all_told else None, losses)
    groups = _groups(images, labels, folders, losses)
    stripped = [strip_layout(*pair) for pair in zip(images["location"].to_pylist(), splits, strict=True)]
    flat = _flattened(stripped, labels, losses)
    names = _names(flat, groups, losses)
    pairs = zip(images["path"].to_pylist(), (target / name for name in names), strict=True)
    place_images(pairs, options.images, losses)
    _report_classes(export.classes, list(folders), losses)
    is_label = pc.equal(export.annotations["type"], "label")
    report_unsaid(images, export.annotations.filter(is_label), "ImageFolder", losses, holds=())
    report_unsaid_classes(export.classes, "ImageFolder", losses, holds=("source_id",))
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
    named = bool(level) and all(map(_is_split, level))
    return _Levels(wrapper, named)


def _is_split(folder: str) -> bool:
    return folder == NO_SPLIT or split_name(folder) is not None


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
    shaped = image_rows(annotations.filter(pc.not_equal(annotations["type"], "label")), export.images)
    nameless = pc.and_(pc.equal(annotations["type"], "label"), pc.is_null(annotations["label"]))
    for image, reason in (
        (shaped, "boxes and shapes have no place in ImageFolder"),
        (image_rows(annotations.filter(nameless), export.images), "without a class"),
    ):
        report_rows("dropped", "annotations", reason, export.images, image, losses)
    chosen = annotations.filter(is_label)
    rows = image_rows(chosen, export.images).tolist()
    labels: list[str | None] = [None] * export.images.num_rows
    for row, label in zip(rows, chosen["label"].to_pylist(), strict=True):
        if labels[row] is None:
            labels[row] = label
        else:
            place = f"{export.images['location'][row].as_py()}: {label}"
            losses.dropped("annotations", "a second label of an image", place)
    without = np.array([row for row, label in enumerate(labels) if label is None], dtype=np.int64)
    reason = "without a label: beside the classes' folders"
    report_rows("converted", "images", reason, export.images, without, losses)
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


def _groups(
    images: pa.Table, labels: Sequence[str | None], folders: Mapping[str, str], losses: LossReport
) -> list[str]:
    """The folders of each image's split and class, as a prefix; an unlabelled image's are never read as a class."""
    splits = split_folders(images["split"].to_pylist())
    are_splits = all(_is_split(folder.rstrip("/")) for folder in set(splits) - {""})
    groups = [
        f"{split if are_splits or label is not None else ''}{'' if label is None else folders[label] + '/'}"
        for split, label in zip(splits, labels, strict=True)
    ]
    if not are_splits:
        lost = np.asarray(images["split"].is_valid()) & np.array([label is None for label in labels], dtype=np.bool_)
        reason = "an image without a label is in no split's folder, which would be a class"
        report_rows("dropped", "splits", reason, images, np.flatnonzero(lost), losses)
    return groups


def _flattened(names: Sequence[str], labels: Sequence[str | None], losses: LossReport) -> list[str]:
    """The names, without folders where there is no label: a folder would be read as a class."""
    flat = []
    for name, label in zip(names, labels, strict=True):
        flat.append(name if label is not None else name.replace("/", "_"))
        if flat[-1] != name:
            losses.converted(
                "images", "renamed: the folder of an image without a label would be a class", f"{name} -> {flat[-1]}"
            )
    return flat


def _names(stripped: Sequence[str], groups: Sequence[str], losses: LossReport) -> list[str]:
    """Where each image goes; a class folder that the name already has is not repeated."""
    placed = []
    for name, group in zip(stripped, groups, strict=True):
        folder = group.rstrip("/").rpartition("/")[2]
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
