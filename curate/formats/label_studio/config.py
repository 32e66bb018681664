"""The labelling configuration: which controls a project has, on which images, with which labels.

https://labelstud.io/guide/setup: an XML file whose object tags (``Image``) show a field of the task's data, and whose control
tags (``RectangleLabels``, ``Choices`` ...) are named and point to one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from curate.errors import FormatError
from curate.formats.base import ClassInfo
from curate.formats.trees import read_xml
from curate.formats.values import mapping

CONFIG_FILE: Final = "label_config.xml"
"""Its name beside the tasks, when curate writes it, and when the SDK's converter does."""

OF_PALETTE: Final = "curate_color"
"""Attribute of a label whose class has no color: the one that curate chose for it, which is not the class's."""

_COLOR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_OF_CLASSES: Final = "curate_classes"
_NUMBER: Final = re.compile(r"[0-9]{1,6}")
_TAGS: Final = {
    name.lower(): name
    for name in (
        *("RectangleLabels", "PolygonLabels", "BrushLabels", "KeyPointLabels", "EllipseLabels", "Labels", "Choices"),
        *("Rectangle", "Polygon", "Brush", "KeyPoint", "Ellipse", "Taxonomy", "Rating", "TextArea", "Number"),
        *("DateTime", "Pairwise", "Ranker", "VectorLabels", "Vector"),
    )
}


@dataclass(frozen=True)
class Control:
    """A control tag.

    Attributes:
        type: Its name in lower case, as results have it: 'rectanglelabels'.
        to_name: The object it labels.
        labels: What may be chosen, in order.
        settings: Other attributes of its tag.
    """

    type: str
    to_name: str
    labels: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """A labelling configuration; empty where there is none.

    Attributes:
        controls: By name.
        images: Field of the data that each image object shows, by the object's name.
        others: Names of the objects that are no images.
        colors: '#rrggbb' by label.
        keypoints: Labels of keypoints, in the models' order where it is said.
        keypoints_of: Those of each class, where curate has written it.
    """

    controls: Mapping[str, Control] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    colors: Mapping[str, str] = field(default_factory=dict)
    keypoints: tuple[str, ...] = ()
    keypoints_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def classes(self, used: Sequence[str]) -> list[ClassInfo]:
        """The labels of shapes and choices, if it is the configuration of these tasks: if it has one of the labels used."""
        names = dict.fromkeys(
            label
            for control in self.controls.values()
            if control.type.endswith("labels") or control.type == "choices"
            for label in control.labels
            if control.type != "keypointlabels" or label in used
        )
        if not set(names) & set(used):
            return []
        return [ClassInfo(name, color=self.colors.get(name)) for name in names]


def read_config(path: Path) -> Config:
    """Read a configuration; an empty one if it is not there or cannot be understood, since tasks can do without."""
    if not path.is_file():
        return Config()
    try:
        return config_of(read_xml(path))
    except FormatError:
        return Config()


def config_of(root: Element) -> Config:
    """What a configuration's XML says."""
    controls: dict[str, Control] = {}
    colors: dict[str, str] = {}
    objects: dict[str, tuple[bool, str]] = {}
    points: list[tuple[int, str]] = []
    for element in root.iter():
        name, to_name, value = (element.get(key, "") for key in ("name", "toName", "value"))
        if name and to_name:
            labels = _labels(element)
            settings = {key: value for key, value in element.items() if key not in ("name", "toName")}
            controls[name] = Control(str(element.tag).lower(), to_name, tuple(labels), settings)
            colors |= {label: color for label, color in labels.items() if color}
            if controls[name].type == "keypointlabels":
                points += _numbered(element, labels)
        elif name and value.startswith("$"):
            objects[name] = (str(element.tag).lower() == "image", value[1:])
    return Config(
        controls,
        {name: key for name, (is_image, key) in objects.items() if is_image},
        frozenset(name for name, (is_image, _) in objects.items() if not is_image),
        colors,
        tuple(dict.fromkeys(label for _, label in sorted(points, key=lambda pair: pair[0]))),
        _keypoints_of(root),
    )


def default_control(controls: Mapping[str, Control], kind: str, labels: Sequence[str]) -> str | None:
    """Name of the control that something is labelled with: the first of a type that has the labels, else its first."""
    names = [name for name, control in controls.items() if control.type == kind]
    return next((name for name in names if set(labels) <= set(controls[name].labels)), next(iter(names), None))


def write_config(
    path: Path, controls: Mapping[str, Control], images: Mapping[str, str], classes: Sequence[ClassInfo]
) -> None:
    """Write a configuration.

    Args:
        path: The file.
        controls: By name; each on one of the images.
        images: Field of the data by the image object's name.
        classes: Their colors are written.
    """
    path.write_bytes(config_bytes(controls, images, classes))


def config_bytes(
    controls: Mapping[str, Control],
    images: Mapping[str, str],
    classes: Sequence[ClassInfo],
    *,
    of_classes: bool = False,
) -> bytes:
    """A configuration's XML; arguments as for `write_config`.

    Args:
        of_classes: Whether each keypoint's label says which one it is of which classes, for `Config.keypoints_of`.
    """
    root = Element("View")
    for name, key in images.items():
        SubElement(root, "Image", {"name": name, "value": f"${key}"})
    root.extend(control_element(name, control, classes, of_classes=of_classes) for name, control in controls.items())
    indent(root)
    content: bytes = tostring(root, encoding="utf-8")
    return content + b"\n"


def control_element(name: str, control: Control, classes: Sequence[ClassInfo], *, of_classes: bool = False) -> Element:
    """A control's tag, with a tag for each of its labels."""
    attributes = {"name": name, "toName": control.to_name, **control.settings}
    if control.type == "choices":
        attributes.setdefault("choice", "multiple")
    element = Element(_TAGS.get(control.type, control.type), attributes)
    for number, label in enumerate(control.labels):
        element.append(label_element(control.type, label, number, classes, of_classes=of_classes))
    return element


def label_element(
    control_type: str, label: str, number: int, classes: Sequence[ClassInfo], *, of_classes: bool = False
) -> Element:
    """The tag of a label of a control.

    Args:
        control_type: The control's.
        label: What may be chosen.
        number: Its place among the control's, which tells models which keypoint it is.
        classes: They give its color, and the classes whose keypoint it is.
        of_classes: As for `config_bytes`.
    """
    if control_type == "choices":
        return Element("Choice", {"value": label})
    element = Element("Label", {"value": label})
    color = next((info.color for info in classes if info.name == label), None)
    if color:
        element.set("background", color)
    if control_type == "keypointlabels":
        element.set("model_index", str(number))
        owners = {info.name: info.keypoints.index(label) for info in classes if label in info.keypoints}
        if of_classes and owners:
            element.set(_OF_CLASSES, json.dumps(owners, ensure_ascii=False))
    return element


def can_write(control_type: str) -> bool:
    """Whether a control of this type can be in a configuration that is written."""
    return control_type in _TAGS


def _labels(element: Element) -> dict[str, str | None]:
    labels: dict[str, str | None] = {}
    for child in element.iter():
        label = child.get("value")
        if child is not element and label:
            color = child.get("background", "")
            is_said = _COLOR.fullmatch(color) and color != child.get(OF_PALETTE)
            labels[label] = color.lower() if is_said else None
    return labels


def _keypoints_of(root: Element) -> dict[str, tuple[str, ...]]:
    """Names of the keypoints of each class, in order, as curate has written them beside the labels; if none is missing."""
    found: dict[str, dict[int, str]] = {}
    for element in root.iter("Label"):
        try:
            owners = mapping(json.loads(element.get(_OF_CLASSES, "{}")))
        except ValueError:
            continue
        for owner, place in owners.items():
            if isinstance(place, int) and element.get("value"):
                found.setdefault(owner, {})[place] = element.get("value", "")
    return {
        owner: tuple(places[place] for place in sorted(places))
        for owner, places in found.items()
        if sorted(places) == list(range(len(places)))
    }


def _numbered(element: Element, labels: Mapping[str, str | None]) -> list[tuple[int, str]]:
    """Labels of keypoints with the number that each has for the models, else its place."""
    numbers = {child.get("value"): child.get("model_index", "") for child in element.iter()}
    return [
        (int(number) if _NUMBER.fullmatch(number := numbers.get(label) or "") else place, label)
        for place, label in enumerate(labels)
    ]
