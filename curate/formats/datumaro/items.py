"""Annotations as Datumaro's files have them: checked, and each as a part of some object."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from curate.errors import FormatError
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape, problem_of, problem_of_mask
from curate.formats.shapes import ellipse_outline
from curate.formats.values import mapping, number, numbers, run_lengths, sequence

ROTATION: Final = "rotation"
"""Attribute of a box that is turned about its centre: degrees clockwise."""

ORIGINALS: Final = ("ellipse", "cuboid_2d")
"""Types that become other shapes; their points stay as an attribute of this name."""

_FIELDS: Final = ("z_order", "object_id")
_KNOWN: Final = frozenset(
    {"id", "type", "attributes", "label_id", "points", "bbox", "rle", "visibility", "caption", "group", *_FIELDS}
)
_NO_PLACE: Final = {
    "cuboid_3d": "boxes in space have no place on an image",
    "hash_key": "computed by Datumaro, not labelled",
    "feature_vector": "computed by Datumaro, not labelled",
    "depth_annotation": "depth has no place",
    "super_resolution_annotation": "images as annotations have no place",
    "tabular": "tables have no place",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One annotation of a file.

    Attributes:
        type: What Datumaro calls it.
        id: Its id, or None where that is no number.
        label: Its class.
        group: 0 for none.
        shape: Has exactly one geometry, or none for a label.
        attributes: What else it says, `z_order` and `object_id` among it where they are not 0.
    """

    type: str
    id: int | None
    label: str | None
    group: int
    shape: Shape
    attributes: dict[str, Any]


def read_part(annotation: Any, labels: Sequence[str], place: str, losses: LossReport) -> Part | None:
    """Check an annotation.

    Args:
        annotation: As the file has it.
        labels: Classes by label id.
        place: What to call it in the report.
        losses: Gets what cannot be kept.

    Returns:
        The part, or None where nothing can be made of it.
    """
    said = mapping(annotation)
    kind = said.get("type")
    if not isinstance(kind, str) or kind not in _SHAPES:
        reason = _NO_PLACE.get(kind, "of an unknown type") if isinstance(kind, str) else "without a type"
        losses.dropped("annotations", reason, place)
        return None
    attributes = _attributes(said, place, losses)
    try:
        shape = _SHAPES[kind](said, attributes)
    except FormatError as error:
        losses.dropped("annotations", error.what, place)
        return None
    group = _integer(said.get("group")) or 0
    # One bad part must not take the others of its object with it; and what is dropped is not also converted.
    problem = problem_of(shape) if group or kind in ORIGINALS else None
    if problem is not None:
        losses.dropped("annotations", problem, place)
        return None
    if kind in ORIGINALS:
        became = "polygons" if kind == "ellipse" else "boxes around them"
        losses.converted("annotations", f"{kind} annotations become {became}; their points are an attribute", place)
    label = _label(said.get("label_id"), labels, attributes, place, losses)
    if kind == "label" and label is None:
        losses.dropped("annotations", "a label without a class", place)
        return None
    return Part(kind, _integer(said.get("id")), label, group, shape, attributes)


def _attributes(said: Mapping[str, Any], place: str, losses: LossReport) -> dict[str, Any]:
    attributes = dict(mapping(said.get("attributes")))
    own = {key: said[key] for key in _FIELDS if said.get(key) not in (None, 0)}
    own |= {key: value for key, value in said.items() if key not in _KNOWN}
    for key, value in own.items():
        if key in attributes:
            losses.dropped("annotation fields", "an attribute has the same name", f"{place}: {key}")
        else:
            attributes[key] = value
    return attributes


def _label(value: Any, labels: Sequence[str], attributes: dict[str, Any], place: str, losses: LossReport) -> str | None:
    if value is None:
        return None
    if type(value) is int and 0 <= value < len(labels):
        return labels[value]
    losses.converted("annotations", "label_id is not among the labels; kept without a class", f"{place}: {value}")
    attributes.setdefault("label_id", value)
    return None


# ---------------------------------------------------------------------------------------------------------------- shapes


def _box(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    values = _numbers(said.get("bbox"), 4, "without four numbers for a box")
    turned = number(attributes.get(ROTATION))
    if not turned:
        return Shape(bbox=values)
    del attributes[ROTATION]
    x, y, width, height = values
    return Shape(rotated_box=[x + width / 2, y + height / 2, width, height, turned])


def _rotated_box(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    return Shape(rotated_box=_numbers(said.get("points"), 5, "without five numbers for a rotated box"))


def _polygon(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    return Shape(polygons=[_numbers(said.get("points"))])


def _polyline(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    return Shape(polygons=[_numbers(said.get("points"))], is_open=True)


def _points(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    values = _numbers(said.get("points"))
    count = len(values) // 2
    seen = said.get("visibility")
    visibility = [2] * count if seen is None else sequence(seen)
    if len(values) % 2 or len(visibility) != count or any(type(v) is not int or not 0 <= v <= 2 for v in visibility):
        raise FormatError("points that do not have a visibility of 0, 1 or 2 each")
    triples = zip(values[::2], values[1::2], visibility, strict=True)
    return Shape(keypoints=[float(value) for triple in triples for value in triple])


def _ellipse(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    left, top, right, bottom = _numbers(said.get("points"), 4, "without four numbers for an ellipse")
    attributes["ellipse"] = [left, top, right, bottom]
    return Shape(polygons=[outline_of_ellipse([left, top, right, bottom])])


def outline_of_ellipse(points: Sequence[float]) -> list[float]:
    """The polygon that an ellipse with these corners becomes."""
    left, top, right, bottom = points
    radii = abs(right - left) / 2, abs(bottom - top) / 2
    return ellipse_outline((left + right) / 2, (top + bottom) / 2, *radii, 0.0)


def _cuboid(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    pairs = sequence(said.get("points"))
    values = numbers(value for pair in pairs for value in sequence(pair)) or []
    if len(pairs) != 8 or any(len(sequence(pair)) != 2 for pair in pairs) or len(values) != 16:
        raise FormatError("without eight points for a cuboid")
    if not all(map(math.isfinite, values)):  # the least of NaN and a number may be the number
        raise FormatError("coordinates that are not finite numbers")
    attributes["cuboid_2d"] = pairs
    return Shape(bbox=box_of_cuboid(pairs))


def box_of_cuboid(pairs: Sequence[Sequence[float]]) -> list[float]:
    """The box around a cuboid's corners."""
    x, y = zip(*pairs, strict=True)
    return [float(min(x)), float(min(y)), float(max(x)) - float(min(x)), float(max(y)) - float(min(y))]


def _mask(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    rle = run_lengths(mapping(said.get("rle")).get("counts"), mapping(said.get("rle")).get("size"))
    if rle is None:
        raise FormatError(problem_of_mask(mapping(said.get("rle")).get("size")))
    return Shape(rle=rle)


def _whole_image(said: Mapping[str, Any], attributes: dict[str, Any]) -> Shape:
    return WHOLE_IMAGE


_SHAPES: Final = {
    "label": _whole_image,
    "bbox": _box,
    "rotated_bbox": _rotated_box,
    "polygon": _polygon,
    "polyline": _polyline,
    "points": _points,
    "mask": _mask,
    "ellipse": _ellipse,
    "cuboid_2d": _cuboid,
}


def _integer(value: Any) -> int | None:
    return value if type(value) is int else None


def _numbers(value: Any, count: int | None = None, problem: str = "points that are not numbers") -> list[float]:
    found = numbers(sequence(value))
    if found is None or (count is not None and len(found) != count):
        raise FormatError(problem)
    return found
