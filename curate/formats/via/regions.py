"""Regions of VIA: which of their attributes is the class, and what shape they have."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from curate.formats.shapes import ellipse_outline
from curate.formats.values import is_shallow, number, numbers, sequence, text

CLASS_NAMES: Final = ("label", "labels", "class", "classes", "class_name", "classname", "name", "type", "category")
"""Usual names of the attribute that is the class, the likeliest first."""

_LARGEST: Final = 1e9


def class_attribute(regions: Iterable[dict[str, Any]], losses: LossReport) -> str | None:
    """Name of the attribute that is the class, as `curate.formats.via` tells it.

    Args:
        regions: Attributes of every region.
        losses: Where several come into question, which was taken.
    """
    values: dict[str, Counter[str]] = {}
    for region in regions:
        for name, value in region.items():
            if value not in (None, "", {}) and is_shallow(value):
                values.setdefault(name, Counter())[json.dumps(value, sort_keys=True)] += 1
    if len(values) <= 1:
        return next(iter(values), None)
    usual = [name for wanted in CLASS_NAMES for name in values if name.strip().lower() == wanted]
    if len(usual) == 1:
        return usual[0]
    # Free text and numbers are different nearly every time.
    chosen = usual[0] if usual else max(values, key=lambda name: _likeliness(values[name]))
    others = ", ".join(name for name in usual or values if name != chosen)
    losses.converted("classes", "several attributes may be the class; one was taken", f"{chosen}, not {others}")
    return chosen


def _likeliness(values: Counter[str]) -> tuple[bool, int, int]:
    return (2 * len(values) <= values.total(), values.total(), -len(values))


def class_of(
    region: dict[str, Any], class_name: str | None, place: str, losses: LossReport
) -> tuple[str | None, dict[str, Any]]:
    """The class of a region, and its other attributes."""
    attributes = {name: value for name, value in region.items() if value not in (None, "", {})}
    value = attributes.get(class_name) if class_name is not None else None
    if isinstance(value, dict):
        ticked = [name.strip() for name, state in value.items() if state is True and name.strip()]
        if len(ticked) > 1:
            reason = "several classes of one region: the first is taken, all stay in the attributes"
            losses.converted("annotations", reason, place)
        label, is_all = next(iter(ticked), None), len(ticked) == len(value) == 1
    else:
        label = None if value is None or isinstance(value, list) else str(value).strip() or None
        is_all = label is not None
    if class_name is not None and is_all:
        del attributes[class_name]
    if label is None:
        losses.converted("annotations", "without a class: kept without one", place)
    return label, attributes


def shape_of(said: dict[str, Any]) -> tuple[Shape | None, dict[str, float]]:
    """A region's geometry, None where it has none, and what a circle or an ellipse was (degrees clockwise)."""
    kind = text(said.get("name"))
    if kind == "rect":
        box = numbers(said.get(name) for name in ("x", "y", "width", "height"))
        return (None if box is None else Shape(bbox=box)), {}
    if kind in {"polygon", "polyline"}:
        across, down = (numbers(sequence(said.get(name))) for name in ("all_points_x", "all_points_y"))
        if across is None or down is None or len(across) != len(down):
            return None, {}
        flat = [side for point in zip(across, down, strict=True) for side in point]
        return Shape(polygons=[flat], is_open=kind == "polyline"), {}
    centre = numbers(said.get(name) for name in ("cx", "cy"))
    if kind == "point" and centre is not None:
        return Shape(keypoints=[*centre, 2.0]), {}
    radii = numbers(said.get(name) for name in (("r", "r") if kind == "circle" else ("rx", "ry")))
    if kind not in {"circle", "ellipse"} or centre is None or radii is None:
        return None, {}
    return _ellipse([*centre, *radii, math.degrees(number(said.get("theta")) or 0.0)])


def _ellipse(sides: list[float]) -> tuple[Shape | None, dict[str, float]]:
    if not all(abs(side) < _LARGEST for side in sides) or min(sides[2:4]) < 0:
        return None, {}
    return Shape(polygons=[ellipse_outline(*sides)]), dict(
        zip(("cx", "cy", "rx", "ry", "rotation"), sides, strict=True)
    )
