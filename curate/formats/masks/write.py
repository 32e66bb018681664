"""Writing folders of class masks: images/, masks/, and what the values mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.batches import annotations_by_image
from curate.formats.columns import report_unsaid, report_unsaid_classes
from curate.formats.files import place_images
from curate.formats.locations import (
    report_splits,
    split_folders,
    split_name,
    stem,
    strip_layout,
    unique_names,
)
from curate.formats.losses import LossReport
from curate.formats.mask_images import (
    VOID,
    VOID_COLOR,
    kept_pixels,
    outline_of,
    pack_colors,
    paint,
    save_labels,
    voc_colors,
)
from curate.formats.masks.legend import MaskClass, channels, label_map, one_line, report_names
from curate.formats.values import mapping, sequence
from curate.geometry import rle_areas
from curate.imaging import MAX_PIXELS

_HELD: Final = ("rle", "polygons", "metadata")
_LARGEST: Final = 65_535
_COLUMNS: Final = ("image_id", "type", "label", "polygons", "rle", "rle_size", "bbox")


@dataclass(frozen=True)
class _Plan:
    """Which value and color stands for what.

    Attributes:
        listed: The classes as they are listed, by value.
        values: Of the classes that are painted, by name.
        ground: What is painted where nothing is.
        void: What is painted where pixels count as nothing.
        palette: Color of each index, uint8, shape (256, 3).
    """

    listed: Sequence[MaskClass]
    values: Mapping[str, int]
    ground: int
    void: int
    palette: npt.NDArray[np.uint8]


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset.

    Args:
        export: What to write.
        target: An empty folder.
        options: Whether images are copied.
        losses: Boxes, labels of the whole image, which thing of a class a pixel belongs to, and what lies below others.
    """
    images = export.images
    locations, splits = images["location"].to_pylist(), images["split"].to_pylist()
    names = [strip_layout(location, split) for location, split in zip(locations, splits, strict=True)]
    folders = split_folders(splits)
    placed = [folder + name for folder, name in zip(folders, names, strict=True)]
    places = unique_names(placed, losses, by_stem=True)
    folder_of = dict(zip(splits, folders, strict=True))
    report_splits(splits, lambda split: split_name(folder_of[split].rstrip("/")), losses)
    plan = _plan(export, losses)
    written = 0
    for batch in annotations_by_image(images, export.annotations.select(_COLUMNS), range(images.num_rows)):
        for row, rows in batch:
            image = images.slice(row, 1).select(["location", "width", "height", "metadata"]).to_pylist()[0]
            written += _write_mask(target / "masks" / f"{stem(places[row])}.png", image, rows, plan, losses)
    _write_lists(target, plan)
    report_unsaid(images, export.annotations, "a class mask", losses, holds=_HELD)
    report_unsaid_classes(export.classes, "a class mask", losses, holds=("source_id", "color"))
    pairs = zip(images["path"].to_pylist(), (target / "images" / place for place in places), strict=True)
    place_images(pairs, options.images, losses)
    losses.carried("images", images.num_rows)
    losses.carried("annotations", written)


def _write_mask(
    path: Path, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], plan: _Plan, losses: LossReport
) -> int:
    """Write one mask; returns how many annotations are in it."""
    place, width, height = image["location"], image["width"], image["height"]
    if width is None or height is None:
        losses.dropped("annotations", "the image's size is not known", place, len(annotations))
        return 0
    if width * height > MAX_PIXELS:
        losses.dropped("annotations", f"the image has more than {MAX_PIXELS:,} pixels", place, len(annotations))
        return 0
    objects = list(_painted(annotations, (height, width), plan, place, losses))
    merged = len(objects) - len({value for value, _ in objects})
    losses.converted("annotations", "a class mask does not tell things of one class apart", place, merged)
    canvas, lost = paint(objects, (height, width), plan.ground)
    losses.converted("mask pixels", "below another object: a pixel has one class", place, lost)
    ignored = _ignored(image["metadata"], (height, width), place, losses)
    if ignored is not None:
        canvas[ignored & (canvas == plan.ground)] = plan.void
    save_labels(path, canvas, plan.palette)
    seen = set(np.unique(canvas).tolist())
    hidden = sum(value not in seen for value, _ in objects)
    losses.dropped("annotations", "wholly below other objects: a pixel has one class", place, hidden)
    return len(objects) - hidden


def _painted(
    annotations: Sequence[Mapping[str, Any]], shape: tuple[int, int], plan: _Plan, place: str, losses: LossReport
) -> Iterator[tuple[int, str]]:
    for annotation in annotations:
        value = plan.values.get(annotation["label"] or "")
        if value is None:
            losses.dropped("annotations", "without a class", place)
            continue
        if annotation["bbox"] is None and annotation["rle"] is None:
            losses.dropped("annotations", "labels of the whole image have no place in a class mask", place)
            continue
        counts, reason = outline_of(annotation, *shape)
        if counts is None:
            losses.dropped("annotations", reason, place)
        elif not rle_areas([counts], [shape])[0]:
            losses.dropped("annotations", "too small for a pixel, or outside the image", place)
        else:
            if annotation["rle"] is None:
                losses.converted("annotations", "polygons become the pixels whose centre is inside", place)
            yield value, counts


def _ignored(
    metadata: str | None, shape: tuple[int, int], place: str, losses: LossReport
) -> npt.NDArray[np.bool_] | None:
    """The pixels that counted as nothing when the image was read from a class mask."""
    said = mapping(json.loads(metadata or "{}"))
    ignored = kept_pixels(mapping(said.pop("masks", None)).get("ignore"), shape)
    if said:
        losses.dropped("image metadata", "a class mask has no place for them", place)
    return ignored


# ---------------------------------------------------------------------------------------------------- values and colors


def _plan(export: Export, losses: LossReport) -> _Plan:
    """Values as the masks had that the dataset was read from, else by the classes' order."""
    said = mapping(export.info.get("masks"))
    background = _class_in(said.get("background"))
    values = _own_values(export.classes) if said else None
    if values is None or (background is not None and background.value in values.values()):
        background = MaskClass("background", 0, 0)
        values = {info.name: place for place, info in enumerate(export.classes, 1)}
    elif background is None and 0 not in values.values():
        background = MaskClass("background", 0, 0)
    for info in export.classes:
        if info.source_id not in {None, values[info.name]}:
            place = f"{info.name}: {info.source_id} -> {values[info.name]}"
            losses.converted("category ids", "pixel values follow the classes' order", place)
    taken = {*values.values(), -1 if background is None else background.value}
    ignored = [known for each in sequence(said.get("ignored")) if (known := _class_in(each))]
    ignored = [known for known in ignored if known.value not in taken]
    void = ignored[0].value if ignored else VOID if VOID not in taken else _LARGEST
    colors = _colors(export.classes, values, background, losses)
    listed = [MaskClass(one_line(info.name), values[info.name], colors[info.name]) for info in export.classes]
    report_names(listed, background, losses)
    listed += [*ignored, *([background] if background else [])]
    palette = voc_colors(256)
    palette[VOID] = channels(VOID_COLOR)
    for known in listed:
        if known.value < 256 and known.color is not None:
            palette[known.value] = channels(known.color)
    ordered = sorted(listed, key=lambda known: known.value)
    return _Plan(ordered, values, background.value if background else void, void, palette)


def _own_values(classes: Sequence[ClassInfo]) -> dict[str, int] | None:
    values = {info.name: info.source_id for info in classes}
    usable = {name: value for name, value in values.items() if value is not None and 0 <= value < _LARGEST}
    return usable if len(usable) == len(set(usable.values())) == len(classes) else None


def _colors(
    classes: Sequence[ClassInfo], values: Mapping[str, int], background: MaskClass | None, losses: LossReport
) -> dict[str, int]:
    """A color for each class, all different: its own, else the VOC kit's for its value."""
    taken = {VOID_COLOR, 0 if background is None else background.color or 0}
    spare = voc_colors(max(values.values(), default=0) + len(classes) + 3)
    packed = pack_colors(spare).tolist()
    found: dict[str, int] = {}
    for info in classes:
        own = int(info.color[1:], 16) if re.fullmatch("#[0-9a-fA-F]{6}", info.color or "") and info.color else None
        if own is not None and own not in taken:
            found[info.name] = own
            taken.add(own)
        elif own is not None:
            losses.converted("classes", "another color: a mask needs one for each", info.name)
    unused = iter(packed)
    for info in classes:
        if info.name not in found:
            fitting = packed[values[info.name]] if packed[values[info.name]] not in taken else None
            found[info.name] = fitting if fitting is not None else next(each for each in unused if each not in taken)
            taken.add(found[info.name])
    return found


def _class_in(value: Any) -> MaskClass | None:
    """A class as the reader noted it in the dataset's info."""
    said = mapping(value)
    name, number, color = said.get("name"), said.get("value"), said.get("color")
    if not isinstance(name, str) or not isinstance(number, int) or not 0 <= number < _LARGEST:
        return None
    has_color = isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color)
    return MaskClass(name, number, int(str(color)[1:], 16) if has_color else None)


def _write_lists(target: Path, plan: _Plan) -> None:
    """Names in the order of their values where those run from 0, else beside them; and the colors."""
    values = [known.value for known in plan.listed]
    if values == list(range(len(values))):
        lines = [known.name for known in plan.listed]
        (target / "classes.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        lines = ["Pixel Value, Class", *(f"{known.value}, {known.name}" for known in plan.listed)]
        (target / "_classes.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (target / "labelmap.txt").write_text(label_map(plan.listed), encoding="utf-8")
