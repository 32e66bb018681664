"""The objects in VOC files: boxes, rotated boxes, polygons and attributes; and all of them as annotations."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree.ElementTree import Element

import numpy as np
import pyarrow as pa

from curate.formats.columns import Flags, annotations_on, fixed_lists, prediction_scores
from curate.formats.losses import LossReport
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.sizes import Headers, turn_boxes
from curate.formats.voc.images import Images
from curate.formats.voc.write import PLAIN_FLAGS
from curate.geometry import boxes_around, orient_points, rotated_box_corners

_KNOWN_TAGS: Final = frozenset({"name", "bndbox", "polygon", "robndbox", "attributes", "part", "actions", "confidence"})


@dataclass
class Objects:
    """The objects of all files, in parallel lists with one entry for each object."""

    image: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    bbox: list[list[float]] = field(default_factory=list)
    rotated: list[list[float] | None] = field(default_factory=list)
    polygon: list[list[float] | None] = field(default_factory=list)
    attributes: list[str | None] = field(default_factory=list)
    score: list[float | None] = field(default_factory=list)


def read_object(
    element: Element, image: int, number: int, from_one: bool, place: str, objects: Objects, losses: LossReport
) -> None:
    """Add an object.

    Args:
        element: The <object>.
        image: Number of its image.
        number: Its place in the file, from 1.
        from_one: Whether the file's pixels count from 1.
        place: What to call it in the report.
        objects: Gets it.
        losses: An object without a name or a box is dropped.
    """
    label = (element.findtext("name") or "").strip()
    if not label:
        losses.dropped("annotations", "without a name", place)
        return
    rotated, polygon = _rotated_box(element.find("robndbox")), _polygon(element.find("polygon"))
    box = _corners(element.find("bndbox"), from_one)
    if box is None and rotated is not None:
        box = boxes_around(rotated_box_corners([rotated]).reshape(-1, 2), [0])[0].tolist()
    if box is None and polygon is not None:
        box = boxes_around(np.reshape(polygon, (-1, 2)), [0])[0].tolist()
    if box is None:
        losses.dropped("annotations", "without four numbers for a box", place)
        return
    attributes = _attributes(element, from_one)
    score = number_in(element.findtext("confidence"))
    objects.image.append(image)
    objects.number.append(number)
    objects.label.append(label)
    objects.bbox.append(box)
    objects.rotated.append(rotated)
    objects.polygon.append(polygon)
    objects.attributes.append(json.dumps(attributes, ensure_ascii=False) if attributes else None)
    objects.score.append(score)


def annotations_of(
    objects: Objects, images: Images, headers: Headers, raw: Flags, layer: str, losses: LossReport
) -> pa.Table:
    """The objects as annotations.

    Args:
        objects: What was read.
        images: The images they are on.
        headers: What the image files say of their size.
        raw: Of which images the coordinates refer to the image as stored; they are turned.
        layer: Where they go.
        losses: Confidences in ground truth.
    """
    image = np.array(objects.image, dtype=np.int64)
    for row in np.flatnonzero(raw[image]).tolist():
        _orient_shapes(objects, row, headers)
    bbox = np.array(objects.bbox, dtype=np.float64).reshape(-1, 4)
    rotated = np.array([value or [0.0] * 5 for value in objects.rotated], dtype=np.float64).reshape(-1, 5)
    no_rotation = np.array([value is None for value in objects.rotated], dtype=np.bool_)
    no_polygon = np.array([value is None for value in objects.polygon], dtype=np.bool_)
    scores = np.array(objects.score, dtype=np.float64)
    columns = {
        "type": np.select([~no_polygon, ~no_rotation], ["polygon", "rotated_box"], "box"),
        "label": objects.label,
        "bbox": fixed_lists(turn_boxes(bbox, image, headers, raw)),
        "rotated_box": fixed_lists(rotated, no_rotation),
        "polygons": [None if value is None else [value] for value in objects.polygon],
        "score": prediction_scores(scores, layer, "<confidence>", losses),
        "attributes": objects.attributes,
        "source": pa.array(images.source, pa.string()).take(pa.array(image)),
    }
    return annotations_on(images.location, image, layer, columns, keys=np.array(objects.number, dtype=np.uint64))


def _corners(element: Element | None, from_one: bool) -> list[float] | None:
    """<bndbox> as [x, y, width, height]; see `curate.formats.voc`."""
    if element is None:
        return None
    left, top, right, bottom = (number_in(element.findtext(tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
    if left is None or top is None or right is None or bottom is None:
        return None
    shift = 1.0 if from_one else 0.0
    return [left - shift, top - shift, right - left + shift, bottom - top + shift]


def _rotated_box(element: Element | None) -> list[float] | None:
    """roLabelImg's <robndbox>; its angle is in radians, clockwise."""
    if element is None:
        return None
    values = [number_in(element.findtext(tag)) for tag in ("cx", "cy", "w", "h", "angle")]
    known = [value for value in values if value is not None]
    return [*known[:4], float(np.rad2deg(known[4]))] if len(known) == 5 else None


def _polygon(element: Element | None) -> list[float] | None:
    """Roboflow's <x1>, <y1>, <x2> ... or <pt> elements with <x> and <y>; None with fewer than three points."""
    if element is None:
        return None
    points = [(point.findtext("x"), point.findtext("y")) for point in element.findall("pt")]
    number = 1
    while not element.findall("pt") and element.find(f"x{number}") is not None:
        points.append((element.findtext(f"x{number}"), element.findtext(f"y{number}")))
        number += 1
    values = [number_in(text) for point in points for text in point]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) >= 6 else None


def _attributes(element: Element, from_one: bool) -> dict[str, Any]:
    """Everything else that an object says: flags, pose, CVAT's attributes, parts and actions."""
    found: dict[str, Any] = {}
    for child in element:
        text = (child.text or "").strip()
        if child.tag in PLAIN_FLAGS:
            found[child.tag] = text in {"1", "true", "True"}
        elif child.tag not in _KNOWN_TAGS and len(child) == 0 and text and text != "Unspecified":
            found[child.tag] = text
    for attribute in element.findall("attributes/attribute"):
        name = (attribute.findtext("name") or "").strip()
        if name:
            found[name] = _scalar((attribute.findtext("value") or "").strip())
    parts = [(part.findtext("name") or "", _corners(part.find("bndbox"), from_one)) for part in element.findall("part")]
    if parts:
        found["parts"] = [{"name": name, "bbox": box} for name, box in parts]
    actions = element.find("actions")
    if actions is not None:
        found["actions"] = {action.tag: (action.text or "").strip() == "1" for action in actions}
    return found


def _scalar(text: str) -> Any:
    """A value as JSON where it is a number, true or false; else the text."""
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, bool | int) or (isinstance(value, float) and np.isfinite(value)):
            return value
    return text


def number_in(text: str | None) -> float | None:
    """A text as a finite number, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _orient_shapes(objects: Objects, row: int, headers: Headers) -> None:
    """Turn an object's polygon and rotated box with its image."""
    orientation, width, height = headers.stored(np.array([objects.image[row]]))
    polygon, rotated = objects.polygon[row], objects.rotated[row]
    if polygon is not None:
        objects.polygon[row] = orient_points(polygon, orientation[0], width[0], height[0]).ravel().tolist()
    if rotated is not None:
        corners = orient_points(rotated_box_corners([rotated])[0], orientation[0], width[0], height[0])
        objects.rotated[row] = corners_to_rotated_boxes(corners.reshape(1, 8))[0][0].tolist()
