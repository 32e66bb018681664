"""A CVAT project's labels: read, and made for the classes, keypoints and attributes of a dataset."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any, Final

from curate.connectors.base import ProjectSpec
from curate.formats.base import ClassInfo
from curate.formats.cvat.attributes import split_attributes
from curate.formats.cvat.meta import Meta, edges_of
from curate.formats.cvat.write_meta import drawing, input_type
from curate.formats.losses import LossReport
from curate.formats.values import mapping, sequence, text

SCORE: Final = "score"
"""Attribute that holds how sure a model was of a shape that it drew. Shapes have a place of their own for it."""

_COLOR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_LONGEST_CHOICE: Final = 64
_MOST_CHOICES: Final = 20
_OFTEN: Final = 3
_LONGEST_NAME: Final = 64
_LARGEST: Final = 10**6
_DECIMAL: Final = ["0.0"]
"""What stands in the place of a text's suggestion where the text is a number with decimals: CVAT's own numbers have a step, and
its editor refuses those that rounding keeps from being a whole number of steps."""


@dataclass(frozen=True)
class Label:
    """A label, or a point of a skeleton.

    Attributes:
        id: The server's.
        name: For people.
        attributes: Names of its attributes by the ids of their specifications.
        types: How they are typed in, by name: 'checkbox', 'number' ...
        decimals: Names of those that are typed in as text, and are numbers.
        points: The points of a skeleton, in order.
    """

    id: int
    name: str
    attributes: Mapping[int, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    decimals: frozenset[str] = frozenset()
    points: Sequence[Label] = ()

    @cached_property
    def reads(self) -> dict[str, str]:
        """What attributes are read as, by name."""
        return {**self.types, **dict.fromkeys(self.decimals, "number")}


@dataclass(frozen=True)
class Labels:
    """The labels of a project, or of a task on its own.

    Attributes:
        by_id: The labels, without the points of skeletons.
        meta: What `curate.formats.cvat` wants to know of them.
        edges: Pairs of keypoint numbers of the skeletons, by name.
        colors: By name.
    """

    by_id: Mapping[int, Label]
    meta: Meta
    edges: Mapping[str, tuple[tuple[int, int], ...]]
    colors: Mapping[str, str]

    @cached_property
    def by_name(self) -> dict[str, Label]:
        """The labels by their names."""
        return {label.name: label for label in self.by_id.values()}

    @cached_property
    def keypoints(self) -> dict[str, list[str]]:
        """Names of the points of each skeleton."""
        return {label.name: [point.name for point in label.points] for label in self.by_id.values() if label.points}

    def classes(self) -> list[ClassInfo]:
        """The labels as classes."""
        return [
            ClassInfo(
                label.name,
                keypoints=tuple(point.name for point in label.points),
                skeleton=self.edges.get(label.name, ()),
                color=self.colors.get(label.name),
            )
            for label in self.by_id.values()
        ]


def parse_labels(given: Iterable[Mapping[str, Any]]) -> Labels:
    """Labels as the API lists them."""
    labels: dict[int, Label] = {}
    fields: dict[str, dict[str, Any]] = {}
    edges: dict[str, tuple[tuple[int, int], ...]] = {}
    colors: dict[str, str] = {}
    for each in given:
        label = _label(each)
        if label is None or each.get("has_parent"):
            continue
        labels[label.id] = label
        fields[label.name] = _fields(each)
        if label.points:
            fields[label.name]["sublabels"] = {
                text(point.get("name")): _fields(point) for point in sequence(each.get("sublabels"))
            }
            edges[label.name] = tuple(_edges(text(each.get("svg")), label.points))
        if _COLOR.fullmatch(text(each.get("color"))):
            colors[label.name] = text(each.get("color"))
    keypoints = {label.name: [point.name for point in label.points] for label in labels.values() if label.points}
    return Labels(labels, Meta(labels=fields, keypoints=keypoints), edges, colors)


def missing_labels(spec: ProjectSpec, known: Labels, losses: LossReport) -> list[dict[str, Any]]:
    """What a project needs beyond the labels that it has, as a PATCH takes it.

    Args:
        spec: What must fit in.
        known: What is there.
        losses: Classes with keypoints whose label there is no skeleton.
    """
    there = known.by_name
    wanted: list[dict[str, Any]] = []
    for info in spec.classes:
        label = there.get(info.name)
        attributes = [
            _attribute(name, values)
            for name, values in _declared(spec.attributes.get(info.name, {})).items()
            if label is None or name not in label.attributes.values()
        ]
        needs_points = bool(info.keypoints) and "keypoints" in spec.types
        if label is None:
            wanted.append(_new_label(info, attributes, skeleton=needs_points))
        elif attributes:
            # A label whose color is not named gets another one.
            color = {"color": known.colors[label.name]} if label.name in known.colors else {}
            wanted.append({"id": label.id, "name": label.name, **color, "attributes": attributes})
        if label is not None and needs_points and [point.name for point in label.points] != list(info.keypoints):
            reason = "the project's label has other points, or is no skeleton, which CVAT cannot change"
            losses.converted("classes", reason, info.name)
    return wanted


def _new_label(info: ClassInfo, attributes: list[dict[str, Any]], *, skeleton: bool) -> dict[str, Any]:
    label: dict[str, Any] = {"name": info.name, "attributes": attributes, "type": "skeleton" if skeleton else "any"}
    if info.color is not None and _COLOR.fullmatch(info.color):
        label["color"] = info.color
    if skeleton:
        label["sublabels"] = [{"name": name, "type": "points", "attributes": []} for name in info.keypoints]
        label["svg"] = drawing(info, None)
    return label


def _declared(values: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The values of those attributes that are people's own, not CVAT's."""
    found: dict[str, list[Any]] = {}
    for name, seen in values.items():
        for value in seen:
            for inner, each in split_attributes({name: value})[1].items():
                if inner != SCORE and len(inner) <= _LONGEST_NAME:
                    found.setdefault(inner, []).append(each)
    return found


def _attribute(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A specification that takes all values seen, and others like them that people will need."""
    kinds = {input_type(value) for value in values}
    kind, choices, default = "text", list[str](), ""
    if kinds == {"checkbox"}:
        kind, default = "checkbox", "false"
    elif kinds == {"number"} and all(float(value).is_integer() for value in values):
        largest = max(_LARGEST, *(10 ** len(str(abs(int(value)))) for value in values))
        kind, choices, default = "number", [str(-largest), str(largest), "1"], "0"
    elif kinds == {"number"}:
        choices = _DECIMAL
    elif _is_enumeration(values):
        kind, choices = "select", ["", *sorted({*values} - {""})]  # the empty one stands for none
    return {"name": name, "mutable": False, "input_type": kind, "default_value": default, "values": choices}


def _is_enumeration(values: Sequence[Any]) -> bool:
    """Whether these are all the values that there are, as far as anybody can tell: a few texts, each of them seen often."""
    if not all(isinstance(each, str) and len(each) <= _LONGEST_CHOICE and each.isprintable() for each in values):
        return False
    counts = Counter(each for each in values if each)
    fits = all(each == each.strip() for each in counts)
    return fits and 1 < len(counts) <= _MOST_CHOICES and min(counts.values()) >= _OFTEN


def _label(given: Any) -> Label | None:
    found = mapping(given)
    number, name = found.get("id"), found.get("name")
    if not isinstance(number, int) or not isinstance(name, str):
        return None
    attributes = {each["id"]: each["name"] for each in _specifications(found)}
    types = {each["name"]: text(each.get("input_type")) for each in _specifications(found)}
    decimals = frozenset(
        each["name"]
        for each in _specifications(found)
        if (each.get("input_type"), each.get("values")) == ("text", _DECIMAL)
    )
    points = [point for each in sequence(found.get("sublabels")) if (point := _label(each)) is not None]
    return Label(number, name, attributes, types, decimals, points)


def _fields(given: Any) -> dict[str, Any]:
    """What `curate.formats.cvat.meta` keeps of a label: everything as text, as CVAT's files have it."""
    found = mapping(given)
    fields: dict[str, Any] = {}
    kind = text(found.get("type"))
    if kind not in {"", "any", "skeleton"}:
        fields["type"] = kind
    attributes = [
        {
            "name": each["name"],
            "mutable": str(each.get("mutable") is True),
            "input_type": text(each.get("input_type")),
            "default_value": text(each.get("default_value")),
            "values": "\n".join(str(value) for value in sequence(each.get("values"))),
        }
        for each in _specifications(found)
    ]
    return fields | ({"attributes": attributes} if attributes else {})


def _specifications(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        each
        for each in sequence(found.get("attributes"))
        if isinstance(each, dict) and isinstance(each.get("id"), int) and isinstance(each.get("name"), str)
    ]


def _edges(svg: str, points: Sequence[Label]) -> Iterable[tuple[int, int]]:
    """The lines of a skeleton's drawing, where the server has put its own ids in the place of the points' names."""
    for point in points:
        svg = svg.replace(f'data-label-id="{point.id}"', f'data-label-name="{escape(point.name)}"')
    return edges_of(svg, [point.name for point in points])
