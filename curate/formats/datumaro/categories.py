"""Datumaro's categories as classes, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from curate.formats.values import mapping, number, sequence, text

INFO: Final = "datumaro"
"""Key, in a dataset's info, of what Datumaro says of it that has no place elsewhere."""

_COLOR: Final = re.compile("#[0-9a-fA-F]{6}")
_KEPT_OF_LABELS: Final = ("label_groups", "attributes")


def read_classes(categories: Any, source: str, losses: LossReport) -> list[ClassInfo]:
    """The classes in the order of Datumaro's label ids, which may name one twice.

    Args:
        categories: The file's ``categories``.
        source: The file's name, for the report.
        losses: Gets labels without a name, and colors and points of labels that there are not.
    """
    labels = sequence(mapping(mapping(categories).get("label")).get("labels"))
    colors = _colors(mapping(categories), len(labels), source, losses)
    points = _points(mapping(categories), len(labels), source, losses)
    classes = []
    for number_, label in enumerate(labels):
        name = text(mapping(label).get("name"))
        if not name:
            losses.converted("classes", "without a name; called by its number", f"{source}: label {number_}")
            name = str(number_)
        keypoints, skeleton = points.get(number_, ((), ()))
        supercategory = text(mapping(label).get("parent")) or None
        classes.append(ClassInfo(name, number_, supercategory, keypoints, skeleton, colors.get(number_)))
    return classes


def read_info(infos: Any, categories: Any) -> dict[str, Any]:
    """What the file says of the dataset and has no column: its infos, label groups, and which attributes labels have."""
    labels = mapping(mapping(categories).get("label"))
    own = {
        mapping(label).get("name"): mapping(label).get("attributes")
        for label in sequence(labels.get("labels"))
        if mapping(label).get("attributes") and text(mapping(label).get("name"))
    }
    kept: dict[str, Any] = {key: labels[key] for key in _KEPT_OF_LABELS if labels.get(key)}
    kept |= {"infos": infos} if infos else {}
    kept |= {"label_attributes": own} if own else {}
    return kept


def write_categories(classes: Sequence[ClassInfo], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The file's ``categories``.

    Args:
        classes: Their place is their label id.
        kept: What `read_info` found, if the dataset came from Datumaro.
    """
    own = mapping(kept.get("label_attributes"))
    labels = [
        {
            "name": info.name,
            "parent": info.supercategory or "",
            "attributes": sequence(own.get(info.name)),
        }
        for info in classes
    ]
    written: dict[str, Any] = {
        "label": {"labels": labels, **{key: sequence(kept.get(key)) for key in _KEPT_OF_LABELS}},
    }
    colormap = [
        {"label_id": place, **dict(zip("rgb", bytes.fromhex(info.color[1:]), strict=True))}
        for place, info in enumerate(classes)
        if info.color and _COLOR.fullmatch(info.color)
    ]
    points = [
        {"label_id": place, "labels": list(info.keypoints), "joints": [list(pair) for pair in info.skeleton]}
        for place, info in enumerate(classes)
        if info.keypoints or info.skeleton
    ]
    written |= {"mask": {"colormap": colormap}} if colormap else {}
    written |= {"points": {"items": points}} if points else {}
    return written


def _colors(categories: Mapping[str, Any], count: int, source: str, losses: LossReport) -> dict[int, str]:
    colors: dict[int, str] = {}
    for entry in sequence(mapping(categories.get("mask")).get("colormap")):
        label = _label_id(entry, count)
        channels = [number(mapping(entry).get(channel)) for channel in "rgb"]
        if label is None or any(value is None or not 0 <= value <= 255 for value in channels):
            losses.dropped("colors", "of a label that there is not, or not from 0 to 255", source)
            continue
        colors[label] = "#" + "".join(f"{int(value or 0):02x}" for value in channels)
    return colors


def _points(
    categories: Mapping[str, Any], count: int, source: str, losses: LossReport
) -> dict[int, tuple[tuple[str, ...], tuple[tuple[int, int], ...]]]:
    points: dict[int, tuple[tuple[str, ...], tuple[tuple[int, int], ...]]] = {}
    for entry in sequence(mapping(categories.get("points")).get("items")):
        label = _label_id(entry, count)
        if label is None:
            losses.dropped("keypoint names", "of a label that there is not", source)
            continue
        names = tuple(str(name) for name in sequence(mapping(entry).get("labels")) if isinstance(name, str | int))
        joints = sequence(mapping(entry).get("joints"))
        pairs = tuple((pair[0], pair[1]) for pair in joints if _is_joint(pair))
        place = f"{source}: points of label {label}"
        losses.dropped("joints", "not two numbers of points", place, len(joints) - len(pairs))
        losses.dropped(
            "positions of keypoints", "there is no place for them", place, bool(mapping(entry).get("positions"))
        )
        points[label] = (names, pairs)
    return points


def _label_id(entry: Any, count: int) -> int | None:
    value = mapping(entry).get("label_id")
    return value if type(value) is int and 0 <= value < count else None


def _is_joint(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(end) is int and abs(end) < 2**31 for end in pair)
