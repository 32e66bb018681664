"""Writing LabelMe's JSON beside the images; see `curate.formats.labelme` for what goes where."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.formats.base import ClassInfo, Export, WriteOptions
from curate.formats.batches import annotations_by_image
from curate.formats.columns import BROKEN_MASK, Floats, broken_masks, report_unsaid
from curate.formats.files import place_images
from curate.formats.labelme.masks import write_mask
from curate.formats.labelme.objects import OWN_KEYS
from curate.formats.labelme.read import CLASS_LIST, NOT_CLASSES
from curate.formats.locations import safe_location, unique_names
from curate.formats.losses import LossReport
from curate.formats.values import mapping, numbers
from curate.geometry import polygon_area, rle_boxes, rotated_box_corners

VERSION: Final = "5.11.0"

_HELD: Final = (
    *("tags", "group", "frame", "timestamp", "metadata", "source_id"),
    *("rotated_box", "polygons", "rle", "keypoints", "attributes", "score", "iscrowd", "area"),
)
_OF_IMAGE: Final = ("split", "tags", "group", "frame", "timestamp", "source_id")
_OF_SHAPE: Final = ("score", "iscrowd", "area")
_GEOMETRY: Final = {"rotated_box": "rotated boxes", "polygons": "polygons", "rle": "masks", "keypoints": "keypoints"}
_COLUMN: Final = {
    "rotated_box": "rotated_box",
    "polygon": "polygons",
    "polyline": "polygons",
    "mask": "rle",
    "keypoints": "keypoints",
}
_PIXELS: Final = 1e-6
# How far the points of a circle's outline may be off, in pixels, and its area as a part: outlines are drawn in many ways.
_OFF_A_CIRCLE: Final = 0.2
_PART_OF_A_CIRCLE: Final = 0.02
_FEWEST_OF_A_CIRCLE: Final = 2 * 16


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset: ``<location>.json`` beside ``<location>.<ending>`` for every image, and ``labels.txt``.

    Args:
        export: What to write.
        target: An empty folder.
        options: Whether images are copied.
        losses: Geometry beside an annotation's chief one, masks without pixels, categories' ids.
    """
    images = export.images
    places = unique_names([safe_location(name) for name in images["location"].to_pylist()], losses, by_stem=True)
    annotations = _drawable(export.annotations, losses)
    written = 0
    for batch in annotations_by_image(images, annotations, range(images.num_rows)):
        rows = images.take(pa.array([row for row, _ in batch], pa.int64())).to_pylist()
        for image, (row, found) in zip(rows, batch, strict=True):
            tree, count = _file(image, found, places[row], losses)
            path = (target / places[row]).with_suffix(".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
            written += count
    _write_classes(export.classes, target, losses)
    pairs = zip(images["path"].to_pylist(), (target / place for place in places), strict=True)
    place_images(pairs, options.images, losses)
    report_unsaid(images, annotations, "LabelMe", losses, holds=_HELD)
    losses.carried("images", images.num_rows)
    losses.carried("annotations", written)


def _drawable(annotations: pa.Table, losses: LossReport) -> pa.Table:
    broken = broken_masks(annotations)
    losses.dropped("annotations", BROKEN_MASK, "rle", int(broken.sum()))
    return annotations.filter(pa.array(~broken)) if broken.any() else annotations


def _write_classes(classes: Sequence[ClassInfo], target: Path, losses: LossReport) -> None:
    listed = [info for info in classes if info.name.strip() == info.name and len(info.name.splitlines()) == 1]
    for info in classes:
        if info not in listed or info.name in NOT_CLASSES:
            losses.converted("classes", f"the name cannot stand in {CLASS_LIST}", info.name)
        if info.source_id is not None:
            losses.dropped("category ids", "LabelMe has no place for them", info.name)
        if info.supercategory or info.keypoints or info.color:
            losses.dropped("class details", "LabelMe has no place for them", info.name)
    if listed:
        (target / CLASS_LIST).write_text("".join(f"{info.name}\n" for info in listed), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------- a file


def _file(
    image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], place: str, losses: LossReport
) -> tuple[dict[str, Any], int]:
    """A file's content, and how many annotations are in it."""
    metadata = json.loads(image["metadata"] or "{}")
    others = metadata.pop("labelme", None) or {}
    said = {name: image[name] for name in _OF_IMAGE if image[name] is not None}
    said |= {"metadata": metadata} if metadata else {}
    flags = dict(others.pop("flags", {}))
    groups = _Groups(annotations)
    shapes: list[dict[str, Any]] = []
    written = 0
    for annotation in annotations:
        if annotation["type"] == "label":
            written += _add_flag(flags, annotation, place, losses)
            continue
        drawn = _shapes(annotation, groups, place, losses)
        shapes += drawn
        written += bool(drawn)
    tree = {
        "version": VERSION,
        "flags": flags,
        "shapes": shapes,
        "imagePath": PurePosixPath(place).name,
        "imageData": None,
        "imageHeight": image["height"],
        "imageWidth": image["width"],
    }
    return {**others, **tree, **({"curate": said} if said else {})}, written


def _add_flag(flags: dict[str, Any], annotation: Mapping[str, Any], place: str, losses: LossReport) -> bool:
    """Write a label of the whole image; returns whether it could be."""
    label = annotation["label"]
    if label is None or flags.get(label) is True:
        reason = "labels of the whole image without a class" if label is None else "a label that the image has already"
        losses.dropped("annotations", reason, place)
        return False
    for name, what in (("attributes", "attributes"), ("score", "scores"), ("source_id", "annotation ids")):
        if annotation[name] is not None:
            losses.dropped(what, "LabelMe has no place for them on labels of the whole image", f"{place}: {label}")
    flags[label] = True
    return True


# --------------------------------------------------------------------------------------------------------------- a shape


class _Groups:
    """Gives the parts of an object a `group_id` that no other object of the image has."""

    def __init__(self, annotations: Iterable[Mapping[str, Any]]) -> None:
        given = [json.loads(each["attributes"] or "{}").get("group_id") for each in annotations]
        self._next = max((each for each in given if _is_whole(each)), default=-1) + 1
        self._taken: set[tuple[Any, Any]] = set()

    def own(self, annotation: Mapping[str, Any], attributes: dict[str, Any]) -> int | None:
        """Its group, which is taken from its attributes unless it would there be read as part of another object."""
        given: Any = attributes.get("group_id")
        parts = len(annotation["polygons"] or ()) if annotation["type"] == "polygon" else 0
        if _is_whole(given) and (not parts or (annotation["label"], given) not in self._taken):
            if parts < 2:  # else a reader would take it for what joins the parts
                del attributes["group_id"]
        elif parts > 1:
            given = self._next
            self._next += 1
        else:
            return None
        if parts:
            self._taken.add((annotation["label"], given))
        group: int = given
        return group


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shapes(annotation: Mapping[str, Any], groups: _Groups, place: str, losses: LossReport) -> list[dict[str, Any]]:
    """An annotation as LabelMe draws it: one shape, or one for each part; none (reported) if it has no pixels."""
    attributes = json.loads(annotation["attributes"] or "{}")
    for column, what in _GEOMETRY.items():
        if annotation[column] is not None and column != _COLUMN.get(annotation["type"]):
            losses.dropped(what, "LabelMe has no place for a second geometry of one object", place)
    drawn = _draw(annotation, attributes)
    if not drawn:
        losses.dropped("annotations", "a mask without pixels", place)
        return []
    shared: dict[str, Any] = {"label": annotation["label"] or "", "group_id": groups.own(annotation, attributes)}
    description = attributes.get("description")
    shared["description"] = attributes.pop("description") if isinstance(description, str) and description else ""
    flags = {name: value for name, value in attributes.items() if isinstance(value, bool) and name not in OWN_KEYS}
    others = {name: value for name, value in attributes.items() if name not in flags}
    extra = {name: annotation[name] for name in _OF_SHAPE if annotation[name] is not None}
    extra |= {"id": annotation["source_id"]} if annotation["source_id"] is not None else {}
    extra |= {"attributes": others} if others else {}
    if _box_is_its_own(annotation):
        drawn[0]["bbox"] = annotation["bbox"]
    return [{**shared, "flags": flags, "mask": None, **each, **extra} for each in drawn]


def _draw(annotation: Mapping[str, Any], attributes: dict[str, Any]) -> list[dict[str, Any]]:
    kind = annotation["type"]
    if kind == "box":
        x, y, width, height = annotation["bbox"]
        return [{"shape_type": "rectangle", "points": [[x, y], [x + width, y + height]]}]
    if kind == "rotated_box":
        corners = rotated_box_corners([annotation["rotated_box"]])[0].tolist()
        return [{"shape_type": "polygon", "points": corners, "oriented": True}]
    if kind == "polygon":
        circle = _circle(annotation["polygons"], attributes)
        return (
            [circle]
            if circle
            else [{"shape_type": "polygon", "points": _pairs(part)} for part in annotation["polygons"]]
        )
    if kind == "polyline":
        points = _pairs(annotation["polygons"][0])
        return [{"shape_type": "line" if len(points) == 2 else "linestrip", "points": points}]
    if kind == "keypoints":
        return [_keypoints(annotation["keypoints"])]
    mask = write_mask(annotation["rle"], annotation["rle_size"])
    return [] if mask is None else [{"shape_type": "mask", "mask": mask[0], "points": mask[1]}]


def _circle(polygons: Sequence[Sequence[float]], attributes: dict[str, Any]) -> dict[str, Any] | None:
    """The circle that a polygon was made from, if it still is one; taken out of the attributes."""
    ellipse = mapping(attributes.get("ellipse"))
    sides = numbers(ellipse.get(name) for name in ("cx", "cy", "rx", "ry"))
    if sides is None or sides[2] != sides[3] or len(polygons) != 1 or len(polygons[0]) < _FEWEST_OF_A_CIRCLE:
        return None
    x, y, radius, _ = sides
    points = np.reshape(polygons[0], (-1, 2))
    off = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius).max()
    area = math.pi * radius * radius
    if not (off <= _OFF_A_CIRCLE and abs(polygon_area(points) - area) <= _PART_OF_A_CIRCLE * area):
        return None
    del attributes["ellipse"]
    return {"shape_type": "circle", "points": [[x, y], [x + radius, y]]}


def _keypoints(triples: Sequence[float]) -> dict[str, Any]:
    points = [list(pair) for pair in zip(triples[::3], triples[1::3], strict=True)]
    visibility = [int(each) for each in triples[2::3]]
    shape = {"shape_type": "point" if len(points) == 1 else "points", "points": points}
    return shape if set(visibility) == {2} else {**shape, "visibility": visibility}


def _box_is_its_own(annotation: Mapping[str, Any]) -> bool:
    """Whether the box says more than the geometry does, which is what a reader would take it from."""
    bbox = annotation["bbox"]
    if bbox is None:
        return False
    kind = annotation["type"]
    if kind == "box":
        return bool(min(bbox[2:]) < 0)
    if kind == "mask":
        return not _is_close(rle_boxes([annotation["rle"]], [annotation["rle_size"]])[0], bbox)
    if kind == "rotated_box":
        points = rotated_box_corners([annotation["rotated_box"]])[0]
    elif kind == "keypoints":
        triples = np.reshape(annotation["keypoints"], (-1, 3))
        points = triples[triples[:, 2] > 0, :2]
    else:
        points = np.reshape(list(chain.from_iterable(annotation["polygons"])), (-1, 2))
    return len(points) == 0 or not _is_close(np.concatenate([points.min(axis=0), np.ptp(points, axis=0)]), bbox)


def _is_close(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> bool:
    return bool(np.allclose(first, second, rtol=0, atol=_PIXELS))


def _pairs(flat: Sequence[float]) -> list[list[float]]:
    return [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
