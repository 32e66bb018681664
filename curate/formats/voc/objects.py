"""The objects in VOC files: boxes, rotated boxes, polygons and attributes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

import numpy as np

from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from curate.formats.voc.write import PLAIN_FLAGS

_KNOWN_TAGS: Final = frozenset({"name", "bndbox", "polygon", "robndbox", "attributes", "part", "actions", "confidence"})


@dataclass(frozen=True)
class VocObject:
    """An <object>.

    Attributes:
        label: Its class.
        shape: Where it is.
        attributes: Whatever else it says.
        score: Confidence, or None.
    """

    label: str
    shape: Shape
    attributes: dict[str, Any]
    score: float | None


def read_object(element: Element, from_one: bool) -> VocObject | str:
    """Read an object.

    Args:
        element: The <object>.
        from_one: Whether the file's pixels count from 1.

    Returns:
        The object; or why there is none, for the loss report.
    """
    label = (element.findtext("name") or "").strip()
    if not label:
        return "without a name"
    polygon = _polygon(element.find("polygon"))
    shape = Shape(
        bbox=_corners(element.find("bndbox"), from_one),
        rotated_box=_rotated_box(element.find("robndbox")),
        polygons=None if polygon is None else [polygon],
    )
    if shape == WHOLE_IMAGE:
        return "without four numbers for a box"
    return VocObject(label, shape, _attributes(element, from_one), number_in(element.findtext("confidence")))


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
