"""Which annotations of an image are parts of one object: Datumaro's groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from curate.formats.datumaro.items import Part
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape

GROUP: Final = "group"
"""Attribute of an object that shares a group with others."""

_ONE_EACH: Final = frozenset({"bbox", "rotated_box", "mask", "points", "polyline"})


def objects_of(parts: Sequence[Part], place: str, losses: LossReport) -> list[Part]:
    """The parts of one image, with those of one object made one, in the order of their first.

    Args:
        parts: All of the image's.
        place: What to call the image in the report.
        losses: Gets the ids of parts that differ from that of their object, the first part's.

    Returns:
        The objects. Those that share a group with another have it among their attributes; alone it says nothing.
    """
    groups: dict[object, list[int]] = {}
    for number, part in enumerate(parts):
        key = (part.group, part.label) if part.group else number
        groups.setdefault(key, []).append(number)
    by_first: dict[int, Part] = {}
    for numbers in groups.values():
        group = [parts[number] for number in numbers]
        if is_one_object((kind_of(part.shape), part.attributes) for part in group):
            by_first[numbers[0]] = _joined(group)
            others = sum(part.id != group[0].id for part in group)
            reason = "parts of one group have different ids; the first is the object's"
            losses.converted("annotation ids", reason, place, others)
        else:
            by_first |= dict(zip(numbers, group, strict=True))
    objects = [by_first[number] for number in sorted(by_first)]
    _keep_groups(objects, place, losses)
    return objects


def is_one_object(parts: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether parts of one image, group and label, each with its kind and attributes, can be one object."""
    seen: set[str] = set()
    merged: dict[str, Any] = {}
    count = 0
    for kind, attributes in parts:
        if kind in _ONE_EACH and kind in seen:
            return False
        if any(merged.setdefault(key, value) != value for key, value in attributes.items()):
            return False
        seen.add(kind)
        count += 1
    return count == 1 or not ("label" in seen or {"polygon", "polyline"} <= seen)


def kind_of(shape: Shape) -> str:
    """What a shape with one geometry is."""
    if shape.polygons is not None:
        return "polyline" if shape.is_open else "polygon"
    if shape.rle is not None:
        return "mask"
    if shape.keypoints is not None:
        return "points"
    if shape.rotated_box is not None:
        return "rotated_box"
    return "label" if shape.bbox is None else "bbox"


def _joined(parts: Sequence[Part]) -> Part:
    first = parts[0]
    if len(parts) == 1:
        return first
    shapes = [part.shape for part in parts]
    polygons = [outline for shape in shapes for outline in shape.polygons or ()]
    shape = Shape(
        bbox=_first([shape.bbox for shape in shapes]),
        rotated_box=_first([shape.rotated_box for shape in shapes]),
        polygons=polygons or None,
        is_open=any(shape.is_open for shape in shapes),
        rle=_first([shape.rle for shape in shapes]),
        keypoints=_first([shape.keypoints for shape in shapes]),
    )
    attributes = {key: value for part in parts for key, value in part.attributes.items()}
    return Part(first.type, first.id, first.label, first.group, shape, attributes)


def _keep_groups(objects: Sequence[Part], place: str, losses: LossReport) -> None:
    members = Counter(part.group for part in objects)
    for part in objects:
        if part.group and members[part.group] > 1 and part.attributes.setdefault(GROUP, part.group) != part.group:
            losses.dropped("groups", "an attribute has the same name", f"{place}: {part.group}")


def _first(values: Sequence[Any]) -> Any:
    return next((value for value in values if value is not None), None)
