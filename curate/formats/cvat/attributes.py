"""Attributes: those that people declared for a label, and what CVAT itself says of every shape.

CVAT's own (``occluded``, ``z_order``, ``source``, ``group_id``, ``keyframe`` ...) and the declared ones lie side by side in an
annotation's attributes. A declared one with the name of one of CVAT's goes into ``cvat_attributes``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element

from curate.formats.losses import LossReport

OWN: Final = ("source", "occluded", "z_order", "group_id", "track_id", "keyframe", "annotation_type")
"""What CVAT itself says of a shape, as XML attributes."""

NESTED: Final = "cvat_attributes"
"""Where a declared attribute is kept whose name is taken."""

_FLAGS: Final = frozenset({"occluded", "keyframe"})
_NUMBERS: Final = frozenset({"z_order", "group_id", "track_id"})
_GEOMETRY: Final = {
    *("label", "frame", "outside", "points", "rotation"),
    *("xtl", "ytl", "xbr", "ybr"),
    *("cx", "cy", "rx", "ry"),
    *("rle", "left", "top", "width", "height"),
} | {f"{axis}{corner}{face}" for axis in "xy" for corner in ("tl", "bl", "tr", "br") for face in "12"}
KEPT: Final = frozenset({"outside", "ellipse", "cuboid", "elements"})
"""Attributes that hold what an annotation has no column for."""

_TAKEN: Final = frozenset(OWN) | KEPT | {NESTED}


def attributes_of(element: Element, types: Mapping[str, str], place: str, losses: LossReport) -> dict[str, Any]:
    """Attributes of a shape, JSON-ready.

    Args:
        element: The shape.
        types: The declared attributes' input types ('checkbox', 'number', 'select' ...) by name, as far as known.
        place: For the loss report.
        losses: An attribute without a name, or given twice.
    """
    found: dict[str, Any] = {}
    for own_name, text in element.attrib.items():
        if own_name not in _GEOMETRY:
            found[own_name] = _own_value(own_name, text)
    if len(element) == 0:
        return found
    nested: dict[str, Any] = {}
    for child in element:
        if child.tag != "attribute":
            continue
        name = child.get("name")
        if name is None:
            losses.dropped("attributes", "without a name", place)
            continue
        holder = nested if name in _TAKEN or (name in found and name in element.attrib) else found
        if name in holder:
            losses.dropped("attributes", "given twice; the first is kept", f"{place}: {name}")
            continue
        holder[name] = declared_value(child.text or "", types.get(name))
    return found | {NESTED: nested} if nested else found


def declared_value(text: str, input_type: str | None) -> Any:
    """A declared attribute's value: a truth value or a number where it is one and will be written the same way."""
    if text in {"true", "false"} and input_type in {None, "checkbox"}:
        return text == "true"
    if input_type == "number":
        return number(text)
    return text


def declared_text(value: Any) -> str:
    """The inverse of `declared_value`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def split_attributes(attributes: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """What is written as XML attributes, and the declared attributes, of an annotation."""
    own: dict[str, str] = {}
    declared: dict[str, Any] = {}
    for name, value in attributes.items():
        if name in OWN and _is_own(name, value):
            own[name] = str(int(value)) if isinstance(value, bool) else str(value)
        elif name == NESTED and isinstance(value, dict):
            declared |= value
        elif name not in KEPT:
            declared[name] = value
    return own, declared


def number(text: str) -> Any:
    """A number, where writing it gives the same text again; else the text."""
    for convert in (int, float):
        try:
            value = convert(text)
        except ValueError:
            continue
        if math.isfinite(value) and repr(value) == text:
            return value
    return text


def _own_value(name: str, text: str) -> Any:
    if name in _FLAGS and text in {"0", "1"}:
        return text == "1"
    return number(text) if name in _NUMBERS else text


def _is_own(name: str, value: Any) -> bool:
    """Whether CVAT would read the value."""
    if name in _FLAGS:
        return isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool) if name in _NUMBERS else isinstance(value, str)
