"""Skeletons: points with names, as keypoints in the order in which their label declares them, and back.

What a keypoint does not say stays in the annotation's attribute ``elements``, by the point's name: its own attributes, and where
it was last seen if it is outside the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from curate.formats.cvat.attributes import attributes_of, declared_text, split_attributes
from curate.formats.cvat.meta import Meta
from curate.formats.cvat.shapes import Drawn, is_shape, points_element, points_of
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape

_Point = tuple[float, float]


def is_outside(element: Element) -> bool:
    """Whether a shape is outside the picture; a skeleton is if all its points are."""
    parts = [child for child in element if is_shape(child)] if element.tag == "skeleton" else []
    if parts:
        return all(child.get("outside") == "1" for child in parts)
    return element.get("outside") == "1"


def draw_skeleton(element: Element, label: str | None, meta: Meta, place: str, losses: LossReport) -> Drawn | str:
    """A skeleton as keypoints: visibility 0 for points outside the picture, 1 for occluded ones, 2 for the others.

    Args:
        element: The skeleton.
        label: Its label.
        meta: Knows the names of its points, or learns them from this one.
        place: For the loss report.
        losses: Points that are not declared, or cannot be read.
    """
    parts = [child for child in element if is_shape(child)]
    if not parts:
        return "a skeleton without points"
    names = meta.keypoints.setdefault(label or "", list(dict.fromkeys(part.get("label", "") for part in parts)))
    keypoints = dict.fromkeys(names, (0.0, 0.0, 0.0))
    kept: dict[str, Any] = {}
    common = attributes_of(Element(element.tag, element.attrib), {}, place, losses)
    seen: set[str] = set()
    for part in parts:
        name = part.get("label", "")
        point, problem = _point(part)
        if name not in keypoints:
            problem = "a point that its skeleton does not have"
        elif name in seen:
            problem = "a point given twice"
        if point is None or problem is not None:
            losses.dropped("keypoints", str(problem), f"{place}: {name}")
            continue
        seen.add(name)
        own = attributes_of(part, meta.input_types(label, name), f"{place}: {name}", losses)
        own = {key: value for key, value in own.items() if key == "occluded" or common.get(key) != value}
        keypoints[name] = _keypoint(point, part.get("outside") == "1", own)
        if own:
            kept[name] = own
    flat = [value for triple in keypoints.values() for value in triple]
    kept = {name: kept[name] for name in names if name in kept}
    return Drawn(Shape(keypoints=flat), {"elements": kept} if kept else {})


def skeleton_element(keypoints: Sequence[float], names: Sequence[str], attributes: Mapping[str, Any]) -> Element:
    """A skeleton from [x, y, visibility] triples, one for each name.

    Args:
        keypoints: Flattened; 3 numbers for each name.
        names: Names of the points.
        attributes: The annotation's.
    """
    skeleton = Element("skeleton")
    elements = attributes.get("elements")
    kept = elements if isinstance(elements, dict) else {}
    for name, x, y, visibility in zip(names, keypoints[::3], keypoints[1::3], keypoints[2::3], strict=True):
        known = kept.get(name)
        own = dict(known) if isinstance(known, dict) else {}
        last = own.pop("outside", None)
        if (
            visibility == 0
            and isinstance(last, list)
            and len(last) == 2
            and all(isinstance(v, int | float) for v in last)
        ):
            x, y = last
        occluded = visibility == 1 or own.pop("occluded", False) is True
        part = points_element("points", (x, y))
        part.set("label", name)
        part.set("outside", str(int(visibility == 0)))
        part.set("occluded", str(int(occluded)))
        xml, declared = split_attributes(own)
        part.attrib.update(xml)
        for key, value in declared.items():
            child = Element("attribute", {"name": key})
            child.text = declared_text(value)
            part.append(child)
        skeleton.append(part)
    return skeleton


def _point(part: Element) -> tuple[_Point | None, str | None]:
    if part.tag != "points":
        return None, "a part of a skeleton that is not a point"
    found = points_of(part)
    if found is None or len(found) != 2 or not all(map(math.isfinite, found)):
        return None, "a point without an x and a y"
    return (found[0], found[1]), None


def _keypoint(point: _Point, outside: bool, own: dict[str, Any]) -> tuple[float, float, float]:
    """The triple, leaving in `own` only what it does not tell."""
    occluded = own.pop("occluded", False) is True
    if not outside:
        return (*point, 1.0 if occluded else 2.0)
    if occluded:
        own["occluded"] = True
    if point != (0.0, 0.0):
        own["outside"] = list(point)
    return (0.0, 0.0, 0.0)
