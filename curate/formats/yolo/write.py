"""Writing YOLO datasets as Ultralytics lays them out: images/<split>/, labels/<split>/ and data.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curate.errors import UsageError
from curate.formats import imagefolder
from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.columns import (
    Flags,
    Floats,
    Ints,
    image_rows,
    offsets,
    report_rows,
    report_unsaid,
    report_unsaid_classes,
)
from curate.formats.files import place_images
from curate.formats.locations import NO_SPLIT, export_names, report_splits, split_folders, stem
from curate.formats.losses import LossReport
from curate.formats.yolo.config import split_of_key
from curate.formats.yolo.kinds import VARIANTS
from curate.formats.yolo.labels import format_lines
from curate.formats.yolo.layout import NO_LABEL_FILE
from curate.formats.yolo.write_shapes import Drawn, Objects, best_variant, draw_shapes

_HELD: Final = ("rotated_box", "polygons", "rle", "keypoints")


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset.

    Args:
        export: What to write.
        target: An empty folder.
        options: `variant` is 'detect', 'segment', 'obb', 'pose' or 'classify' (folders of images); None takes the one of
            the first four that loses least.
        losses: Attributes, ids, scores, holes in masks and whatever else YOLO has no place for.

    Raises:
        UsageError: There is no such variant.
    """
    if options.variant not in {None, *VARIANTS}:
        raise UsageError(f"YOLO has no variant '{options.variant}'", remedy=f"one of: {', '.join(VARIANTS)}")
    if options.variant == "classify":
        imagefolder.write(export, target, options, losses)
        return
    images = export.images
    objects = _writable(export, losses)
    variant = options.variant or best_variant(objects.table)
    drawn = draw_shapes(objects, variant)
    written = drawn.lengths > 0
    annotations, image, sizes = objects.table.filter(pa.array(written)), objects.image[written], objects.sizes[written]
    drawn = replace(drawn, lengths=drawn.lengths[written])
    names, classes = _class_numbers(export.classes, annotations, losses)
    splits = images["split"].to_pylist()
    places = export_names(images["location"].to_pylist(), splits, losses, by_stem=True)
    places = [f"{folder}{place}" for folder, place in zip(split_folders(splits), places, strict=True)]
    lines = format_lines(classes, _normalised(drawn, sizes, variant), drawn.lengths)
    without_file = np.asarray(pc.fill_null(pc.equal(images["metadata"], NO_LABEL_FILE), False))
    _write_labels(target / "labels", places, image, lines, without_file)
    place_images(
        zip(images["path"].to_pylist(), (target / "images" / place for place in places), strict=True),
        options.images,
        losses,
    )
    content = _data_yaml(names, images, variant, drawn.keypoints, losses)
    (target / "data.yaml").write_text(content, encoding="utf-8")
    report_unsaid(_without_own_metadata(images), annotations, "YOLO", losses, holds=_HELD)
    report_unsaid_classes(export.classes, "YOLO", losses, holds=("source_id",))
    losses.carried("images", images.num_rows)
    losses.carried("annotations", annotations.num_rows)
    losses.carried("classes", len(names))


# --------------------------------------------------------------------------------------------------- what can be written


def _writable(export: Export, losses: LossReport) -> Objects:
    """The annotations with a box and a class on an image of known size."""
    annotations, images = export.annotations, export.images
    image = image_rows(annotations, images)
    sizes = np.stack([_filled(images["width"]), _filled(images["height"])], axis=1)[image]
    boxless = np.asarray(annotations["bbox"].is_null())
    unlabelled = ~boxless & np.asarray(annotations["label"].is_null())
    unsized = ~boxless & ~unlabelled & (sizes.min(axis=1) <= 0)
    for rows, reason in (
        (boxless, "labels of the whole image have no place in YOLO"),
        (unlabelled, "without a class"),
        (unsized, "the image's size is not known"),
    ):
        report_rows("dropped", "annotations", reason, images, image[rows], losses)
    kept = ~(boxless | unlabelled | unsized)
    return Objects(annotations.filter(pa.array(kept)), images, image[kept], sizes[kept], losses)


def _filled(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.fill_null(0), dtype=np.int64)


def _class_numbers(classes: Sequence[ClassInfo], annotations: pa.Table, losses: LossReport) -> tuple[list[str], Ints]:
    """Class names in order, and the class number of each annotation."""
    names = [info.name for info in classes]
    known = set(names)
    names += [name for name in pc.unique(annotations["label"]).to_pylist() if name not in known]
    for number, info in enumerate(classes):
        if info.source_id is not None and info.source_id != number:
            losses.converted("classes", "renumbered: YOLO counts classes from 0", f"{info.source_id} -> {number}")
    return names, np.asarray(pc.index_in(annotations["label"], pa.array(names, pa.string())), dtype=np.int64)


def _normalised(drawn: Drawn, sizes: Ints, variant: str) -> Floats:
    """Coordinates as parts of the size of the image each annotation is on; visibilities as they are."""
    within = np.arange(len(drawn.values)) - np.repeat(np.cumsum(drawn.lengths) - drawn.lengths, drawn.lengths)
    size = np.repeat(sizes, drawn.lengths, axis=0)
    divisor = np.where(within % 2 == 0, size[:, 0], size[:, 1])
    if variant == "pose":
        axis = (within - 4) % 3
        divisor = np.where(within < 4, divisor, np.choose(axis, [size[:, 0], size[:, 1], np.ones_like(axis)]))
    normalised: Floats = drawn.values / divisor
    return normalised


# --------------------------------------------------------------------------------------------------- files


def _write_labels(folder: Path, places: Sequence[str], image: Ints, lines: pa.Array, without_file: Flags) -> None:
    """One file for each image, empty where it has no annotations; but none where it came without and still has none."""
    order = np.argsort(image, kind="stable")
    counts = np.bincount(image, minlength=len(places))
    grouped = pa.ListArray.from_arrays(offsets(counts), lines.take(pa.array(order)))
    texts = pc.binary_join(grouped, "\n").to_pylist()
    made: set[str] = set()
    folder.mkdir()
    for place, text, no_file in zip(places, texts, without_file, strict=True):
        if no_file and not text:
            continue
        inner = place.rpartition("/")[0]
        if inner not in made:
            (folder / inner).mkdir(parents=True, exist_ok=True)
            made.add(inner)
        with open(f"{folder}/{stem(place)}.txt", "wb") as file:
            file.write(f"{text}\n".encode() if text else b"")


def _without_own_metadata(images: pa.Table) -> pa.Table:
    """The images without the metadata that the files' being there or not says again."""
    own = pc.equal(images["metadata"], NO_LABEL_FILE)
    rest = pc.if_else(pc.fill_null(own, False), pa.scalar(None, pa.string()), images["metadata"])
    return images.set_column(images.column_names.index("metadata"), "metadata", rest)


def _key(split: str) -> str:
    """A split's key in data.yaml, where some names are for something else."""
    return split if split_of_key(split) else f"{split}_"


def _data_yaml(names: Sequence[str], images: pa.Table, variant: str, keypoints: int, losses: LossReport) -> str:
    splits: list[str | None] = images["split"].to_pylist()
    content: dict[str, object] = {"task": variant}
    folders = dict(zip(splits, split_folders(splits), strict=True))
    if not any(splits):
        # Ultralytics asks for both; two splits that name one folder are read back as no split.
        content.update(train="images", val="images")
    report_splits(splits, lambda split: split_of_key(_key(split)), losses)
    for split in sorted(split for split in folders if split):
        content[_key(split)] = f"images/{folders[split].rstrip('/')}"
    if any(splits) and None in folders:
        reason = f"no split: in images/{NO_SPLIT}, which data.yaml does not name"
        unsplit = np.flatnonzero(np.asarray(images["split"].is_null()))
        report_rows("converted", "images", reason, images, unsplit, losses)
    if keypoints:
        content["kpt_shape"] = [keypoints, 3]
    content["nc"] = len(names)
    content["names"] = dict(enumerate(names))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
