"""Shapes as CVAT's API has them, and as the elements of its files, which `curate.formats.cvat` reads and writes.

The API's points of a rectangle are left, top, right, bottom; of an ellipse its centre, its right end and its top; of a cuboid
its eight corners; of a mask the run lengths inside its box, and then that box: left, top, right, bottom, inclusive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

from curate.connectors.cvat.labels import Label
from curate.formats.cvat.shapes import AXES, BOX, CORNERS, PLACE, UNREADABLE, is_shape, numbers_of, points_of
from curate.formats.losses import LossReport
from curate.formats.values import number, numbers, sequence, text

NO_ATTRIBUTE: Final = "the project's label has no such attribute"
OF_SHAPES: Final = "only shapes can be occluded or lie above others, not labels of the whole image"
DEFAULT: Final = "CVAT sets a number's default where an annotation has none"

_TAGS: Final = {"rectangle": "box"} | {
    kind: kind for kind in ("polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")
}
_KINDS: Final = {tag: kind for kind, tag in _TAGS.items()}
_FLAGS: Final = ("occluded", "outside")
_SHARED: Final = frozenset({"source", "z_order", "group_id"})


def to_element(found: Mapping[str, Any], label: Label) -> Element | str:
    """A shape, or a tag if it has no type; or why it cannot be read, in words for the loss report.

    Args:
        found: As the API has it.
        label: Its label.
    """
    kind = found.get("type")
    tag = "tag" if kind is None else _TAGS.get(text(kind))
    if tag is None:
        return f"'{text(kind)}' is not a kind of shape that is known"
    element = Element(tag, {"label": label.name})
    if tag == "skeleton":
        names = {point.id: point for point in label.points}
        for part in sequence(found.get("elements")):
            point = names.get(part.get("label_id", -1)) if isinstance(part, dict) else None
            inner = UNREADABLE if point is None else to_element(part, point)
            if isinstance(inner, str):
                return inner
            element.append(inner)
    elif tag != "tag":
        points = numbers(sequence(found.get("points")))
        if points is None or not _place(element, points):
            return UNREADABLE
    _describe(element, found)
    for each in sequence(found.get("attributes")):
        if isinstance(each, dict) and each.get("value") not in (None, ""):
            name = label.attributes.get(each.get("spec_id", -1))
            if name is not None:
                SubElement(element, "attribute", {"name": name}).text = str(each["value"])
    return element


def to_json(element: Element, label: Label, place: str, losses: LossReport) -> dict[str, Any]:
    """The inverse of `to_element`, without a frame.

    Args:
        element: As `curate.formats.cvat.write_shapes.ShapeWriter` makes it, with its attributes.
        label: Its label.
        place: For the loss report.
        losses: Attributes that the label does not have.
    """
    found: dict[str, Any] = {"label_id": label.id, "attributes": _attributes(element, label, place, losses)}
    if element.get("source"):
        found["source"] = element.get("source")
    if element.get("group_id"):
        found["group"] = int(element.get("group_id", "0"))
    if element.tag == "tag":
        said = [name for name in ("occluded", "z_order") if element.get(name, "0") != "0"]
        losses.dropped("attributes", OF_SHAPES, place, len(said))
        return found
    found |= {"type": _KINDS[element.tag], "occluded": element.get("occluded") == "1", "outside": False}
    found |= {"z_order": int(element.get("z_order", "0")), "rotation": float(element.get("rotation", "0"))}
    found["points"] = _points(element)
    if element.tag == "skeleton":
        names = {point.name: point for point in label.points}
        found["elements"] = []
        for part in filter(is_shape, element):
            for name in _SHARED & element.attrib.keys():
                part.attrib.setdefault(name, element.attrib[name])
            inner = to_json(part, names[part.get("label", "")], place, losses)
            found["elements"].append(inner | {"outside": part.get("outside") == "1"})
    return found


def _place(element: Element, points: Sequence[float]) -> bool:
    """Give an element its coordinates; whether there were as many as it needs."""
    if element.tag == "box" and len(points) == 4:
        _set(element, BOX, points)
    elif element.tag == "ellipse" and len(points) == 4:
        x, y, right, top = points
        _set(element, AXES, (x, y, right - x, y - top))
    elif element.tag == "cuboid" and len(points) == len(CORNERS):
        _set(element, CORNERS, points)
    elif element.tag == "mask" and len(points) > 4:
        *runs, left, top, right, bottom = points
        _set(element, PLACE, (left, top, right - left + 1, bottom - top + 1))
        element.set("rle", ",".join(map(_text, runs)))
    elif element.tag in {"polygon", "polyline", "points"} and points and len(points) % 2 == 0:
        pairs = zip(points[::2], points[1::2], strict=True)
        element.set("points", ";".join(f"{_text(x)},{_text(y)}" for x, y in pairs))
    else:
        return False
    return True


def _points(element: Element) -> list[float]:
    if element.tag == "box":
        return numbers_of(element, BOX) or []
    if element.tag == "ellipse":
        x, y, across, down = numbers_of(element, AXES) or [0.0] * 4
        return [x, y, x + across, y - down]
    if element.tag == "cuboid":
        return numbers_of(element, CORNERS) or []
    if element.tag == "mask":
        left, top, width, height = numbers_of(element, PLACE) or [0.0] * 4
        runs = [float(run) for run in element.get("rle", "").split(",")]
        return [*runs, left, top, left + width - 1, top + height - 1]
    return [] if element.tag == "skeleton" else points_of(element) or []


def _describe(element: Element, found: Mapping[str, Any]) -> None:
    """What CVAT itself says of a shape; what goes without saying is left out where its files leave it out."""
    for name in _FLAGS:
        if isinstance(found.get(name), bool) and not (name == "outside" and not found[name]):
            element.set(name, str(int(found[name])))
    if isinstance(found.get("z_order"), int):
        element.set("z_order", str(found["z_order"]))
    if text(found.get("source")):
        element.set("source", text(found.get("source")))
    group = found.get("group")
    if isinstance(group, int) and group:
        element.set("group_id", str(group))
    turn = number(found.get("rotation"))
    if turn:
        element.set("rotation", _text(turn))


def _attributes(element: Element, label: Label, place: str, losses: LossReport) -> list[dict[str, Any]]:
    """Values of all of a label's attributes: an empty one says that there is none, where CVAT would else set a default."""
    given = {child.get("name", ""): child.text or "" for child in element if child.tag == "attribute"}
    for name in given.keys() - set(label.attributes.values()):
        losses.dropped("attributes", NO_ATTRIBUTE, f"{place}: {name}")
    values = []
    for spec, name in label.attributes.items():
        if name in given or label.types.get(name) != "number":
            values.append({"spec_id": spec, "value": given.get(name, "")})
        else:
            losses.converted("attributes", DEFAULT, f"{place}: {name}")
    return values


def _set(element: Element, names: Sequence[str], values: Sequence[float]) -> None:
    for name, value in zip(names, values, strict=True):
        element.set(name, _text(value))


def _text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
