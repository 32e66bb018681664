"""The categories of COCO files as classes, and what the files say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.formats.base import ClassInfo
from curate.formats.coco.images import SPLIT, CocoFile
from curate.formats.coco.objects import CATEGORY_FIELDS, Id, finite, same_id
from curate.formats.coco.pieces import JsonFile, loads
from curate.formats.losses import LossReport

_CATEGORY_KEYS = frozenset({"id", "name", "supercategory", "keypoints", "skeleton", "color"})
_CATEGORY_0 = re.compile(rb'"category_id"\s*:\s*"?-?0')
_COLOR = re.compile(r"^#[0-9a-fA-F]{6}$")
_LARGEST_EXTRA_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Categories:
    """A file's categories.

    Attributes:
        classes: One per category, in order.
        names: Class name of each category id.
        extras: What else the file says of a class, by its name.
    """

    classes: list[ClassInfo]
    names: dict[Id, str]
    extras: dict[str, dict[str, Any]]


def read_categories(file: CocoFile, losses: LossReport) -> Categories:
    """Read a file's categories; one without an id, or with another's, is left out."""
    classes: list[ClassInfo] = []
    names: dict[Id, str] = {}
    extras: dict[str, dict[str, Any]] = {}
    for number, content in enumerate(_array(file.json, "categories")):
        place = f"{file.source}: category at index {number}"
        identity = content.get("id") if isinstance(content, dict) else None
        if isinstance(identity, bool) or not isinstance(identity, int | str):
            losses.dropped("classes", "a category without an id", place)
            continue
        key = same_id(identity)
        if key in names:
            losses.dropped("classes", "category id used twice; the first is kept", place)
            continue
        name = content.get("name")
        if not isinstance(name, str | int | float) or isinstance(name, bool) or name == "":
            losses.converted("classes", "a category without a name; called by its id", place)
            name = str(identity)
        info = _class_info(str(name), key, content)
        classes.append(info)
        names[key] = info.name  # type: ignore[index]
        more = {field: value for field, value in content.items() if field not in _CATEGORY_KEYS}
        if content.get("color") is not None and info.color is None:
            more["color"] = content["color"]
        if more:
            extras.setdefault(info.name, finite(more, place, losses))
    return Categories(classes, names, extras)


def without_placeholder(
    files: Sequence[CocoFile], categories: Sequence[Categories], losses: LossReport
) -> list[list[ClassInfo]]:
    """The classes of each file without the one that Roboflow puts before them, unless an annotation has it.

    It has the id 0, no class above it, and all others below it; it names the project and is no class.
    """
    found = {own.classes[0] for own in categories if own.classes and _is_placeholder(own.classes)}
    for file, own in zip(files, categories, strict=True):
        if not found.isdisjoint(own.classes) and _has_category_0(file.json):
            found.difference_update(own.classes)
    for file, own in zip(files, categories, strict=True):
        for info in found.intersection(own.classes):
            losses.dropped("classes", "Roboflow's placeholder, which no annotation has", f"{file.source}: {info.name}")
    return [[info for info in own.classes if info not in found] for own in categories]


def _is_placeholder(classes: Sequence[ClassInfo]) -> bool:
    first, *others = classes
    return (
        first.source_id == 0
        and first.supercategory == "none"
        and bool(others)
        and all(info.supercategory == first.name for info in others)
    )


def _has_category_0(file: JsonFile) -> bool:
    return any(_CATEGORY_0.search(piece) for piece in file.pieces("annotations"))


def read_info(files: Iterable[CocoFile], categories: Iterable[Categories], losses: LossReport) -> dict[str, object]:
    """What the files say of themselves, JSON-ready: info, licenses, and anything else at their top level."""
    merged: dict[str, Any] = {}
    for file in files:
        own = {key: value for key, value in file.json.values.items() if key != SPLIT}
        for key, pieces in file.json.arrays.items():
            if key in {"images", "annotations", "categories"}:
                continue
            if pieces and pieces[-1].stop - pieces[0].start > _LARGEST_EXTRA_BYTES:
                losses.dropped("fields", "a large array that COCO does not define", f"{file.source}: {key}")
                continue
            own[key] = list(_array(file.json, key))
        for key, given in own.items():
            value = finite(given, f"{file.source}: {key}", losses)
            if merged.setdefault(key, value) != value:
                losses.converted("fields", "differs between files; the first is kept", f"{file.source}: {key}")
    extras: dict[str, Any] = {}
    for each in categories:
        for name, more in each.extras.items():
            extras.setdefault(name, more)
    return merged | ({CATEGORY_FIELDS: extras} if extras else {})


def _class_info(name: str, key: Id | None, content: dict[str, Any]) -> ClassInfo:
    parent, color = content.get("supercategory"), content.get("color")
    keypoints, skeleton = content.get("keypoints"), content.get("skeleton")
    pairs = skeleton if isinstance(skeleton, list) else []
    return ClassInfo(
        name,
        key if isinstance(key, int) else None,
        parent if isinstance(parent, str) else None,
        tuple(str(point) for point in keypoints) if isinstance(keypoints, list) else (),
        tuple((int(pair[0]), int(pair[1])) for pair in pairs if _is_pair(pair)),
        color if isinstance(color, str) and _COLOR.match(color) else None,
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(number, int) for number in value)


def _array(file: JsonFile, key: str) -> Iterator[Any]:
    for piece in file.pieces(key):
        yield from loads(piece)
