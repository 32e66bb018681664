"""The head of a CVAT file that is written: labels with their attributes and skeletons, and the tasks as they were imported."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement
from xml.sax.saxutils import escape

import numpy as np

from curate.formats.base import ClassInfo, Export
from curate.formats.cvat.meta import INFO, LABELS, ROOTS, edges_of, specifications
from curate.formats.losses import LossReport
from curate.formats.trees import xml_text

_TAG: Final = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_TEXT: Final = "text"
_QUOTE: Final = {'"': "&quot;"}


@dataclass(frozen=True)
class Subset:
    """Images that are written as one task.

    Attributes:
        name: The project's subset; None for a task on its own.
        task_id: The task's id.
        images: How many there are.
    """

    name: str | None
    task_id: str
    images: int


class Specifications:
    """Which attributes each label has, learnt from the annotations where nobody declared them.

    Args:
        export: What is written; its info holds what was declared.
    """

    def __init__(self, export: Export) -> None:
        fields = export.info.get(LABELS)
        self.fields: dict[str, dict[str, Any]] = {
            name: dict(each)
            for name, each in (fields if isinstance(fields, dict) else {}).items()
            if isinstance(each, dict)
        }
        self._declared = {name: specifications(each) for name, each in self.fields.items()}
        self._seen: dict[str, dict[str, tuple[str, float, float]]] = {}

    def see(self, label: str, declared: Mapping[str, Any], place: str, losses: LossReport) -> None:
        """Take note of an annotation's attributes."""
        known = self._declared.get(label, {})
        for name, value in declared.items():
            if name in known:
                continue
            kind = input_type(value)
            of_label = self._seen.setdefault(label, {})
            number = float(value) if kind == "number" else 0.0
            before = of_label.get(name, (kind, number, number))
            if before[0] not in {kind, _TEXT} or (before[0] == _TEXT and kind != _TEXT):
                losses.converted("attributes", "values of several kinds are written as text", f"{place}: {name}")
                kind = _TEXT
            of_label[name] = (kind, min(before[1], number), max(before[2], number))

    def of(self, label: str) -> list[dict[str, Any]]:
        """A label's specifications."""
        new = [
            {
                "name": name,
                "mutable": "False",
                "input_type": kind,
                "default_value": {"checkbox": "false", "number": str(math.floor(low))}.get(kind, ""),
                "values": f"{math.floor(low)};{math.ceil(high)};1" if kind == "number" else "",
            }
            for name, (kind, low, high) in self._seen.get(label, {}).items()
        ]
        return [*self._declared.get(label, {}).values(), *new]


def meta_element(
    export: Export, known: Specifications, subsets: Sequence[Subset], changed: Mapping[str, Any], losses: LossReport
) -> Element:
    """The ``<meta>`` of a file.

    Args:
        export: What is written.
        known: The labels' attributes.
        subsets: The tasks; one without a name is a task on its own, the others make a project.
        changed: Fields of a task that the export knows better than the import ('mode', 'stop_frame' ...).
        losses: What of the classes has no place.
    """
    given = export.info.get(INFO)
    rest = dict(given) if isinstance(given, dict) else {}
    is_project = subsets[0].name is not None if subsets else False
    key = "project" if is_project else "job" if isinstance(rest.get("job"), dict) else "task"
    body = dict(rest[key]) if isinstance(rest.get(key), dict) else {"id": "1", "name": "curate"}
    if is_project:
        body["tasks"] = {"task": list(_tasks(body, subsets, changed))}
        body["subsets"] = "\n".join(dict.fromkeys(subset.name or "" for subset in subsets))
    else:
        body |= {"size": str(sum(subset.images for subset in subsets)), **changed}
    meta = Element("meta")
    root = SubElement(meta, key)
    _add_tree(root, body)
    labels = SubElement(root, "labels")
    for info in export.classes:
        _add_label(labels, info, known, losses)
    _add_tree(meta, {name: value for name, value in rest.items() if name not in ROOTS})
    return meta


def drawing(info: ClassInfo, known: Any) -> str:
    """The SVG that says which keypoints of a class are joined: the one known, if it still says so, else one in a circle."""
    if isinstance(known, str) and tuple(edges_of(known, info.keypoints)) == info.skeleton:
        return known
    angles = np.arange(len(info.keypoints)) * (2 * np.pi / max(1, len(info.keypoints)))
    places = np.round(50 + 40 * np.column_stack([np.sin(angles), -np.cos(angles)]), 2).tolist()
    lines = [
        f'<line x1="{places[first - 1][0]}" y1="{places[first - 1][1]}" x2="{places[second - 1][0]}" '
        f'y2="{places[second - 1][1]}" data-type="edge" data-node-from="{first}" data-node-to="{second}"></line>'
        for first, second in info.skeleton
        if 0 < first <= len(places) and 0 < second <= len(places)
    ]
    circles = [
        f'<circle r="1.5" cx="{x}" cy="{y}" data-type="element node" data-element-id="{number}" '
        f'data-node-id="{number}" data-label-name="{escape(name, _QUOTE)}"></circle>'
        for number, (name, (x, y)) in enumerate(zip(info.keypoints, places, strict=True), 1)
    ]
    return "".join(lines + circles)


def input_type(value: Any) -> str:
    """What people type a value with: 'checkbox', 'number' or 'text'."""
    if isinstance(value, bool):
        return "checkbox"
    is_number = isinstance(value, int | float) and abs(value) < 1e15
    return "number" if is_number else _TEXT


def _tasks(body: Mapping[str, Any], subsets: Sequence[Subset], changed: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    tasks = body.get("tasks")
    listed = tasks.get("task") if isinstance(tasks, dict) else None
    given = [each for each in (listed if isinstance(listed, list) else [listed]) if isinstance(each, dict)]
    known = {str(each.get("id")): each for each in given}
    for subset in subsets:
        task = known.get(subset.task_id, {"id": subset.task_id, "name": subset.name})
        yield {**task, "size": str(subset.images), "subset": subset.name, **changed}


def _add_label(parent: Element, info: ClassInfo, known: Specifications, losses: LossReport) -> None:
    if info.source_id is not None:
        losses.dropped("category ids", "CVAT has no place for them", info.name)
    if info.supercategory is not None:
        losses.dropped("supercategories", "CVAT has no place for them", info.name)
    fields = known.fields.get(info.name, {})
    given = fields.get("sublabels")
    sublabels = given if isinstance(given, dict) else {}
    label = SubElement(parent, "label")
    _add_tree(label, {"name": info.name} | ({"color": info.color} if info.color else {}))
    _add_tree(label, {"type": "skeleton" if info.keypoints else fields.get("type", "any")})
    _add_attributes(label, known.of(info.name))
    if info.keypoints:
        _add_tree(label, {"svg": drawing(info, fields.get("svg"))})
    for name in info.keypoints:
        inner = sublabels.get(name)
        inner = inner if isinstance(inner, dict) else {}
        element = SubElement(parent, "label")
        _add_tree(element, {"name": name} | ({"color": inner["color"]} if "color" in inner else {}))
        _add_tree(element, {"type": inner.get("type", "points")})
        _add_attributes(element, list(specifications(inner).values()))
        _add_tree(element, {"parent": info.name})


def _add_attributes(label: Element, given: Sequence[Mapping[str, Any]]) -> None:
    _add_tree(label, {"attributes": {"attribute": list(given)} if given else ""})


def _add_tree(parent: Element, tree: Mapping[str, Any]) -> None:
    """Add what `curate.formats.cvat.meta` made of elements; other values are left out."""
    for tag, value in tree.items():
        if not _TAG.fullmatch(tag):
            continue
        for each in value if isinstance(value, list) else [value]:
            child = SubElement(parent, tag)
            if isinstance(each, dict):
                _add_tree(child, each)
            else:
                child.text = xml_text(str(each))
