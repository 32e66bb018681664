"""Writing YOLO datasets as Ultralytics lays them out: images/<split>/, labels/<split>/ and data.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curate.errors import UsageError
from curate.formats import imagefolder
from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.columns import (
    BROKEN_MASK,
    Flags,
    Floats,
    Ints,
    box_values,
    broken_masks,
    image_rows,
    offsets,
    ragged_indices,
    report_unsaid,
)
from curate.formats.files import place_images
from curate.formats.locations import NO_SPLIT, export_names, split_folders, stem
from curate.formats.losses import LossReport
from curate.formats.shapes import join_parts, outline_mask
from curate.formats.yolo.kinds import VARIANTS
from curate.formats.yolo.labels import format_lines
from curate.formats.yolo.layout import NO_LABEL_FILE
from curate.geometry import rotated_box_corners

_HELD: Final = ("rotated_box", "polygons", "rle", "keypoints")


@dataclass(frozen=True)
class _Shapes:
    """Coordinates of n annotations, one after another, in pixels; `pairs` of the numbers in each are x and y."""

    values: Floats
    lengths: Ints


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
    annotations, image, sizes = _writable(export, losses)
    variant = options.variant or _variant(annotations)
    names, classes = _class_numbers(export.classes, annotations, losses)
    shapes = _shapes(annotations, variant, losses)
    splits = images["split"].to_pylist()
    places = export_names(images["location"].to_pylist(), splits, losses, by_stem=True)
    places = [f"{folder}{place}" for folder, place in zip(split_folders(splits), places, strict=True)]
    lines = format_lines(classes, _normalised(shapes, image, sizes, variant), shapes.lengths)
    without_file = np.asarray(pc.fill_null(pc.equal(images["metadata"], NO_LABEL_FILE), False))
    _write_labels(target / "labels", places, image, lines, without_file)
    place_images(
        zip(images["path"].to_pylist(), (target / "images" / place for place in places), strict=True),
        options.images,
        losses,
    )
    keypoints = int(shapes.lengths[0] - 4) // 3 if variant == "pose" and len(shapes.lengths) else 0
    (target / "data.yaml").write_text(_data_yaml(names, splits, variant, keypoints, losses), encoding="utf-8")
    report_unsaid(_without_own_metadata(images), annotations, "YOLO", losses, holds=_HELD)
    losses.carried("images", images.num_rows)
    losses.carried("annotations", annotations.num_rows)
    losses.carried("classes", len(names))


# --------------------------------------------------------------------------------------------------- what can be written


def _writable(export: Export, losses: LossReport) -> tuple[pa.Table, Ints, Ints]:
    """The annotations with a place on an image of known size, their images' rows, and the sizes of all images."""
    annotations, images = export.annotations, export.images
    image = image_rows(annotations, images)
    sizes = np.stack([_filled(images["width"]), _filled(images["height"])], axis=1)
    boxless = np.asarray(annotations["bbox"].is_null())
    unlabelled = ~boxless & np.asarray(annotations["label"].is_null())
    unsized = ~boxless & ~unlabelled & (sizes[image].min(axis=1) <= 0)
    for rows, reason in (
        (boxless, "labels of the whole image have no place in YOLO"),
        (unlabelled, "without a class"),
        (unsized, "the image's size is not known"),
    ):
        if rows.any():
            first = images["location"][int(image[np.flatnonzero(rows)[0]])].as_py()
            losses.dropped("annotations", reason, first, int(rows.sum()))
    kept = ~(boxless | unlabelled | unsized)
    return annotations.filter(pa.array(kept)), image[kept], sizes


def _filled(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.fill_null(0), dtype=np.int64)


def _variant(annotations: pa.Table) -> str:
    """The variant that loses least: outlines before corners before boxes."""
    types = set(pc.unique(annotations["type"]).to_pylist())
    if types == {"keypoints"} and len(pc.unique(pc.list_value_length(annotations["keypoints"]))) == 1:
        return "pose"
    if types & {"polygon", "mask"}:
        return "segment"
    return "obb" if "rotated_box" in types else "detect"


def _class_numbers(classes: Sequence[ClassInfo], annotations: pa.Table, losses: LossReport) -> tuple[list[str], Ints]:
    """Class names in order, and the class number of each annotation."""
    names = [info.name for info in classes]
    known = set(names)
    names += [name for name in pc.unique(annotations["label"]).to_pylist() if name not in known]
    for number, info in enumerate(classes):
        if info.source_id is not None and info.source_id != number:
            losses.converted("classes", "renumbered: YOLO counts classes from 0", f"{info.source_id} -> {number}")
        if info.supercategory is not None:
            losses.dropped("supercategories", "YOLO has no place for them", info.name)
    return names, np.asarray(pc.index_in(annotations["label"], pa.array(names, pa.string())), dtype=np.int64)


# --------------------------------------------------------------------------------------------------- shapes


def _shapes(annotations: pa.Table, variant: str, losses: LossReport) -> _Shapes:
    boxes, _ = box_values(annotations["bbox"])
    types = np.asarray(annotations["type"].to_numpy(zero_copy_only=False), dtype=object)
    if variant == "detect":
        for kind in ("rotated_box", "polygon", "mask", "keypoints", "polyline"):
            losses.dropped("outlines", f"YOLO detect keeps only the box of a {kind}", kind, int((types == kind).sum()))
        return _Shapes(_centred(boxes).ravel(), np.full(len(boxes), 4))
    if variant == "pose":
        return _poses(annotations, boxes, types)
    rotated, is_rotated = box_values(annotations["rotated_box"])
    rotated[~is_rotated, :2] = boxes[~is_rotated, :2] + boxes[~is_rotated, 2:] / 2
    rotated[~is_rotated, 2:4], rotated[~is_rotated, 4] = boxes[~is_rotated, 2:], 0.0
    corners = rotated_box_corners(rotated).reshape(-1, 8)
    if variant == "obb":
        outlined = np.isin(types, ["polygon", "mask", "keypoints", "polyline"])
        losses.dropped("outlines", "YOLO OBB keeps only the box", "polygons and masks", int(outlined.sum()))
        return _Shapes(corners.ravel(), np.full(len(corners), 8))
    return _outlines(_without_broken_masks(annotations, losses), corners, losses)


def _centred(boxes: Floats) -> Floats:
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


def _poses(annotations: pa.Table, boxes: Floats, types: npt.NDArray[np.object_]) -> _Shapes:
    """Boxes with keypoints; an annotation with fewer than the most, or none, gets keypoints that are not labelled."""
    column = annotations["keypoints"].combine_chunks()
    lengths = np.asarray(pc.list_value_length(column).fill_null(0), dtype=np.int64)
    most = int(lengths.max(initial=0))
    points = np.zeros((len(types), most))
    points[np.arange(most) < lengths[:, None]] = np.asarray(column.flatten(), dtype=np.float64)
    return _Shapes(np.concatenate([_centred(boxes), points], axis=1).ravel(), np.full(len(types), 4 + most))


def _without_broken_masks(annotations: pa.Table, losses: LossReport) -> pa.Table:
    """The annotations with only those masks that can be drawn; of the others the box is written."""
    broken = broken_masks(annotations)
    if not broken.any():
        return annotations
    losses.dropped("masks", BROKEN_MASK, annotations["annotation_id"][int(broken.argmax())].as_py(), int(broken.sum()))
    drawn = pc.if_else(pa.array(broken), pa.scalar(None, pa.string()), annotations["rle"])
    return annotations.set_column(annotations.column_names.index("rle"), "rle", drawn)


def _outlines(annotations: pa.Table, corners: Floats, losses: LossReport) -> _Shapes:
    """One polygon for each annotation: its own, its mask's outline, or the corners of its box."""
    polygons = annotations["polygons"].combine_chunks()
    parts = np.asarray(pc.list_value_length(polygons).fill_null(0), dtype=np.int64)
    inner = polygons.flatten()
    part_lengths = np.asarray(pc.list_value_length(inner), dtype=np.int64)
    first_part = np.cumsum(parts) - parts
    pool = [np.asarray(inner.flatten(), dtype=np.float64)]
    starts = np.zeros(len(parts), dtype=np.int64)
    lengths = np.zeros(len(parts), dtype=np.int64)
    single = np.flatnonzero(parts == 1)
    starts[single] = (np.cumsum(part_lengths) - part_lengths)[first_part[single]]
    lengths[single] = part_lengths[first_part[single]]
    size = len(pool[0])
    for row in np.flatnonzero(lengths < 6):
        outline = _outline(annotations, int(row), int(parts[row]), losses)
        values = corners[row] if outline is None else np.asarray(outline)
        starts[row], lengths[row] = size, len(values)
        pool.append(values)
        size += len(values)
    return _Shapes(np.concatenate(pool)[ragged_indices(starts, lengths)], lengths)


def _outline(annotations: pa.Table, row: int, parts: int, losses: LossReport) -> list[float] | None:
    """An outline that takes more than copying; None for an annotation that has only its box."""
    place = annotations["annotation_id"][row].as_py()
    polygons: list[list[float]] = annotations["polygons"][row].as_py() or []
    rle = annotations["rle"][row].as_py()
    if rle is not None and parts == 0:
        polygons, has_holes = outline_mask(rle, annotations["rle_size"][row].as_py())
        losses.converted("masks", "written as their outline", place)
        if has_holes:
            losses.dropped("holes in masks", "YOLO has no place for them", place)
    polygons = [part for part in polygons if len(part) >= 6]
    if not polygons:
        losses.converted("boxes", "written as a polygon of four points", place)
        return None
    if len(polygons) > 1:
        losses.converted("polygons", "several parts, joined by bridges of no width", place)
    return join_parts(polygons)


def _normalised(shapes: _Shapes, image: Ints, sizes: Ints, variant: str) -> Floats:
    """Coordinates as parts of the image's size; visibilities as they are."""
    within = np.arange(len(shapes.values)) - np.repeat(np.cumsum(shapes.lengths) - shapes.lengths, shapes.lengths)
    size = sizes[np.repeat(image, shapes.lengths)]
    divisor = np.where(within % 2 == 0, size[:, 0], size[:, 1])
    if variant == "pose":
        axis = (within - 4) % 3
        divisor = np.where(within < 4, divisor, np.choose(axis, [size[:, 0], size[:, 1], np.ones_like(axis)]))
    normalised: Floats = shapes.values / divisor
    return normalised


# --------------------------------------------------------------------------------------------------- files


def _write_labels(folder: Path, places: Sequence[str], image: Ints, lines: pa.Array, without_file: Flags) -> None:
    """One file for each image, empty where it has no annotations; but none where it came without and still has none."""
    order = np.argsort(image, kind="stable")
    counts = np.bincount(image, minlength=len(places))
    grouped = pa.ListArray.from_arrays(offsets(counts), lines.take(pa.array(order)))
    texts = pc.binary_join(grouped, "\n").to_pylist()
    made: set[Path] = set()
    folder.mkdir()
    for place, text, no_file in zip(places, texts, without_file, strict=True):
        if no_file and not text:
            continue
        path = folder / f"{stem(place)}.txt"
        if path.parent not in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_text(f"{text}\n" if text else "", encoding="utf-8")


def _without_own_metadata(images: pa.Table) -> pa.Table:
    """The images without the metadata that the files' being there or not says again."""
    own = pc.equal(images["metadata"], NO_LABEL_FILE)
    rest = pc.if_else(pc.fill_null(own, False), pa.scalar(None, pa.string()), images["metadata"])
    return images.set_column(images.column_names.index("metadata"), "metadata", rest)


def _data_yaml(
    names: Sequence[str], splits: Sequence[str | None], variant: str, keypoints: int, losses: LossReport
) -> str:
    content: dict[str, object] = {"task": variant}
    folders = dict(zip(splits, split_folders(splits), strict=True))
    if not any(splits):
        # Ultralytics asks for both; two splits that name one folder are read back as no split.
        content.update(train="images", val="images")
    for split in sorted(split for split in folders if split):
        content[split] = f"images/{folders[split].rstrip('/')}"
    if any(splits) and None in folders:
        count = sum(split is None for split in splits)
        losses.converted("images", f"no split: in images/{NO_SPLIT}, which data.yaml does not name", "data.yaml", count)
    if keypoints:
        content["kpt_shape"] = [keypoints, 3]
    content["nc"] = len(names)
    content["names"] = dict(enumerate(names))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
