"""The labelling configuration of a project: made for a dataset, or with labels added to one that is there.

https://labelstud.io/tags: controls label an image (``RectangleLabels``, ``BrushLabels`` ...); those with ``perRegion`` ask
something about a region, here for an attribute's value. What a configuration holds besides stays as it is, to the byte:
comments, styles and layout are somebody's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring
from xml.parsers.expat import ParserCreate

from curate.connectors.base import ProjectSpec
from curate.errors import FormatError
from curate.formats.base import ClassInfo
from curate.formats.label_studio.config import (
    OF_PALETTE,
    Config,
    Control,
    config_bytes,
    config_of,
    control_element,
    default_control,
    label_element,
)
from curate.formats.trees import parse_xml, xml_text

IMAGE: Final = "image"
"""Name of the image object, and of the data's field that it shows, in a configuration of curate's."""

FINDING: Final = "curate_finding"
"""Field of a task's data that says what curate has found; a configuration of curate's shows it above the image."""

# Okabe and Ito's, told apart by everybody (https://jfly.uni-koeln.de/color/), without black, which is lost on dark images.
_PALETTE: Final = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
_SHAPES: Final = {
    "box": ("rectangle",),
    "rotated_box": ("rectangle",),
    "polygon": ("polygon",),
    "mask": ("brush",),
    "keypoints": ("rectangle", "keypoint"),
    "polyline": ("vector",),
}
_BOOLEAN: Final = ("true", "false")
_MOST_CHOICES: Final = 50
_START_TAG: Final = re.compile(rb"<(?:[^\"'>]|\"[^\"]*\"|'[^']*')*>")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_. -]{0,63}")
# Attributes that results have a place of their own for (`curate.formats.label_studio.results`).
_SPECIAL: Final = frozenset(
    {"origin", "parent", "image_rotation", "score", "meta", "labels", "keypoints", "from_name", "point_width"}
    | {"annotator", "annotation_id", "prediction_id", IMAGE}
)


def parse_config(xml: str) -> Config:
    """What a project's configuration says; nothing where it cannot be understood."""
    try:
        return config_of(parse_xml(xml.encode(), "label_config"))
    except FormatError:
        return Config()


def classes_of(config: Config) -> list[ClassInfo]:
    """The labels of a project. Those of keypoints are classes only if nothing else can be labelled."""
    kinds = [control for control in config.controls.values() if control.type.endswith("labels") or is_of_image(control)]
    shapes = [control for control in kinds if control.type != "keypointlabels"]
    names = dict.fromkeys(label for control in shapes or kinds for label in control.labels)
    return [
        ClassInfo(name, keypoints=config.keypoints_of.get(name, ()), color=config.colors.get(name)) for name in names
    ]


def is_of_image(control: Control) -> bool:
    """Whether a control labels the image as a whole."""
    return control.type == "choices" and control.settings.get("perRegion", "").lower() != "true"


def is_boolean(control: Control | None) -> bool:
    """Whether a control asks for yes or no."""
    return control is not None and control.type == "choices" and sorted(control.labels) == sorted(_BOOLEAN)


def new_config(spec: ProjectSpec) -> str:
    """The configuration for a project that is made."""
    controls = wanted_controls(spec, Config())
    root = parse_xml(config_bytes(controls, {IMAGE: IMAGE}, spec.classes, of_classes=True), "label_config")
    for control in root:
        _color(control, spec.classes)
    # Without a name it asks nothing of the tasks: those without a finding show nothing there.
    root.insert(0, Element("Header", {"value": f"${FINDING}"}))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def wanted_controls(spec: ProjectSpec, config: Config) -> dict[str, Control]:
    """The controls that annotations like a dataset's need, under the names that they have in a configuration, or will have."""
    object_name = next(iter(config.images), IMAGE)
    labels = tuple(dict.fromkeys(xml_text(info.name) for info in spec.classes if info.name))
    points = tuple(dict.fromkeys(point for info in spec.classes for point in info.keypoints)) or labels
    kinds: dict[str, tuple[str, ...]] = {}
    for type_ in sorted(spec.types) or ["box"]:
        kinds |= {f"{kind}labels": points if kind == "keypoint" else labels for kind in _SHAPES.get(type_, ())}
        if type_ == "label":
            kinds["choices"] = labels
    controls: dict[str, Control] = {}
    for kind, chosen in kinds.items():
        kind = kind if chosen else kind.removesuffix("labels")
        if chosen or kind != "choices":
            name = default_control(config.controls, kind, chosen) or _free(kind, config)
            controls[name] = Control(kind, object_name, chosen)
    return {**controls, **_attribute_controls(spec, object_name, {*config.controls, *controls})}


def extended(xml: str, wanted: Mapping[str, Control], classes: Sequence[ClassInfo]) -> str:
    """A configuration with what it lacks of some controls and their labels; the same text if it lacks nothing.

    Args:
        xml: The configuration.
        wanted: Controls by name.
        classes: Colors and keypoints of new labels.

    Raises:
        FormatError: It is not XML.
    """
    config = config_of(parse_xml(xml.encode(), "label_config"))
    tags = _tags(xml.encode())
    insertions: list[tuple[_Tag, list[Element]]] = []
    for name, control in wanted.items():
        known = config.controls.get(name)
        if known is None:
            continue
        missing = [label for label in control.labels if label not in known.labels]
        start = len(known.labels)
        elements = [
            label_element(known.type, label, start + place, classes, of_classes=True)
            for place, label in enumerate(missing)
        ]
        _color(elements, classes, start)
        if elements:
            insertions.append((tags[name], elements))
    new = [
        control_element(name, control, classes, of_classes=True)
        for name, control in wanted.items()
        if name not in config.controls
    ]
    for control_tag in new:
        _color(control_tag, classes)
    if new and not config.images:
        view = Element("View")
        new.insert(0, SubElement(view, "Image", {"name": next(iter(wanted.values())).to_name, "value": f"${IMAGE}"}))
    if new:
        insertions.append((tags[""], new))
    return _inserted(xml.encode(), insertions).decode()


def _color(labels: Iterable[Element], classes: Sequence[ClassInfo], start: int = 0) -> None:
    """Give labels without a colour one of a palette, a class the same in every control.

    Args:
        labels: The tags; those of choices, which have no colours, are left alone.
        classes: Their order is that of the palette.
        start: Place of the first label among its control's.
    """
    places = {info.name: place for place, info in enumerate(classes)}
    for place, label in enumerate(labels, start):
        if label.tag == "Label" and "background" not in label.attrib:
            color = _PALETTE[places.get(label.get("value", ""), place) % len(_PALETTE)]
            label.attrib |= {"background": color, OF_PALETTE: color}


def lacking(config: Config, used: Mapping[str, Control]) -> dict[str, Control]:
    """What a configuration lacks of the controls that were used, and their labels."""
    return {
        name: control
        for name, control in used.items()
        if name not in config.controls or not set(control.labels) <= set(config.controls[name].labels)
    }


def _attribute_controls(spec: ProjectSpec, object_name: str, taken: set[str]) -> dict[str, Control]:
    """A control for each attribute whose values can be asked for: yes or no, one of some texts, a number."""
    values: dict[str, list[Any]] = {}
    owners: dict[str, list[str]] = {}
    for label, attributes in spec.attributes.items():
        for name, seen in attributes.items():
            values.setdefault(name, []).extend(seen)
            owners.setdefault(name, []).append(label)
    controls: dict[str, Control] = {}
    for name, seen in values.items():
        if name in taken or name in _SPECIAL or not _NAME.fullmatch(name):
            continue
        when = {"perRegion": "true", "visibleWhen": "region-selected"}
        known = [label for label in owners[name] if label and "," not in label]
        if len(known) == len(owners[name]) < len(spec.classes):
            when["whenLabelValue"] = ",".join(known)
        control = _asking(seen, object_name, when)
        if control is not None:
            controls[name] = control
    return controls


def _asking(values: Sequence[Any], object_name: str, when: Mapping[str, str]) -> Control | None:
    """The control that asks for one of some values; None where none can without changing them."""
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return Control("choices", object_name, _BOOLEAN, {**when, "choice": "single"})
    if kinds and kinds <= {int, float}:
        return Control("number", object_name, (), dict(when))
    if kinds != {str}:
        return None
    texts = sorted(set(values))
    choices = len(texts) <= _MOST_CHOICES and all(text.strip() == text == xml_text(text) and text for text in texts)
    if choices and texts != sorted(_BOOLEAN):
        return Control("choices", object_name, tuple(texts), {**when, "choice": "single"})
    return None


def _free(kind: str, config: Config) -> str:
    """The name that results are written with where a configuration has no control of their type."""
    return kind if kind not in config.controls else f"{kind}_curate"


@dataclass
class _Tag:
    """Where a tag ends: of ``<A>...</A>`` the place of its end tag, of ``<A/>`` the place of its slash."""

    name: str
    end: int
    is_empty: bool


def _tags(content: bytes) -> dict[str, _Tag]:
    """The tags of a configuration that are controls, by name, and under '' the outermost one."""
    found: dict[str, _Tag] = {}
    open_tags: list[_Tag] = []
    parser = ParserCreate("utf-8")

    def start(tag: str, attributes: dict[str, str]) -> None:
        whole = _START_TAG.match(content, parser.CurrentByteIndex)
        end = len(content) if whole is None else whole.end() - len(b"/>")
        open_tags.append(_Tag(tag, end, content.startswith(b"/>", end)))
        if len(open_tags) == 1:
            found[""] = open_tags[-1]
        if "name" in attributes and "toName" in attributes:
            found[attributes["name"]] = open_tags[-1]

    def end(_: str) -> None:
        tag = open_tags.pop()
        if not tag.is_empty:
            tag.end = parser.CurrentByteIndex

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(content, True)
    return found


def _inserted(content: bytes, insertions: Iterable[tuple[_Tag, list[Element]]]) -> bytes:
    for tag, elements in sorted(insertions, key=lambda pair: -pair[0].end):
        inner = b"".join(b"\n    " + tostring(element, encoding="utf-8") for element in elements) + b"\n  "
        if tag.is_empty:
            name = tag.name.encode()
            content = content[: tag.end] + b">" + inner + b"</" + name + b">" + content[tag.end + len(b"/>") :]
        else:
            content = content[: tag.end] + inner + content[tag.end :]
    return content
