"""The head of a CVAT file: labels with their attributes and skeletons, tasks, and the rest as it is.

What has no place in `ClassInfo` goes into the dataset's info: ``cvat`` holds the tree below ``<meta>`` without the labels, and
``cvat_label_fields`` each label's type, attribute specifications, skeleton drawing and sublabels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from typing import Any, Final
from xml.etree.ElementTree import Element

from curate.formats.base import ClassInfo

ROOTS: Final = ("project", "task", "job")
LABELS: Final = "cvat_label_fields"
INFO: Final = "cvat"

_COLOR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_TAG: Final = re.compile(r"<(line|circle)\b([^<>]*)>")
_XML_ATTRIBUTE: Final = re.compile(r"([\w-]+)=\"([^\"]*)\"")


@dataclass(frozen=True)
class Task:
    """What a file says of one task.

    Attributes:
        name: The task's name.
        subset: The project's subset it belongs to, or None.
        video: Name of the video file it is about, or None.
        is_video: Whether its images are frames of a video.
        size: Width and height of its frames, pixels, or None.
        frames: Numbers of its frames in the video, as far as the file tells.
    """

    name: str | None = None
    subset: str | None = None
    video: str | None = None
    is_video: bool = False
    size: tuple[int, int] | None = None
    frames: range = range(0)

    @property
    def group(self) -> str | None:
        """What its frames are a group of."""
        return self.video or self.name


@dataclass
class Meta:
    """What a file says of itself.

    Attributes:
        classes: Labels in the file's order.
        labels: Further fields of each label, by its name, JSON-ready.
        tasks: By id.
        rest: Everything else below ``<meta>``, JSON-ready.
        keypoints: Names of each skeleton's points, by the skeleton's name. A skeleton that is not declared is as its first
            example.
    """

    classes: list[ClassInfo] = field(default_factory=list)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)
    keypoints: dict[str, list[str]] = field(default_factory=dict)

    def task(self, task_id: str | None) -> Task:
        """A task by its id, else the only one."""
        known = self.tasks.get(task_id or "")
        if known is None:
            known = next(iter(self.tasks.values())) if len(self.tasks) == 1 else Task()
        return known

    def input_types(self, label: str | None, sublabel: str | None = None) -> Mapping[str, str]:
        """Input types of the attributes of a label, or of a sublabel of it, by name."""
        return self._types.get((label, sublabel), {})

    def __post_init__(self) -> None:
        self._types: dict[tuple[str | None, str | None], dict[str, str]] = {}
        for name, fields in self.labels.items():
            self._types[name, None] = _input_types(fields)
            for inner, inner_fields in fields.get("sublabels", {}).items():
                self._types[name, inner] = _input_types(inner_fields)


def parse_meta(element: Element) -> Meta:
    """Read a ``<meta>`` element."""
    holder = next((child for child in element if child.tag in ROOTS), element)
    labels, sublabels = _labels(holder.find("labels"))
    classes, keypoints = [], {}
    for name, fields in labels.items():
        color = fields.pop("color", None)
        points = list(sublabels.get(name, {}))
        if points:
            keypoints[name] = points
            fields["sublabels"] = sublabels[name]
        if fields.get("type") == ("skeleton" if points else "any"):
            del fields["type"]  # goes without saying
        is_color = isinstance(color, str) and _COLOR.fullmatch(color)
        skeleton = tuple(edges_of(str(fields.get("svg", "")), points))
        classes.append(ClassInfo(name, keypoints=tuple(points), skeleton=skeleton, color=color if is_color else None))
    rest = _tree(element)
    inner = rest.get(holder.tag) if isinstance(rest, dict) else None
    for tree in (inner, rest):
        if isinstance(tree, dict):
            tree.pop("labels", None)
    every = holder.findall("tasks/task") if holder.tag == "project" else [holder]
    video = element.findtext("source")
    tasks = {(each.findtext("id") or "").strip(): _task(each, video) for each in every}
    return Meta(classes, labels, tasks, rest if isinstance(rest, dict) else {}, keypoints)


def specifications(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A label's attribute specifications, by the attribute's name."""
    listed = fields.get("attributes")
    given = listed if isinstance(listed, list) else []
    return {each["name"]: each for each in given if isinstance(each, dict) and isinstance(each.get("name"), str)}


def edges_of(svg: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of 1-based numbers of the keypoints that a skeleton's drawing joins by lines."""
    tags = [(tag, dict(_XML_ATTRIBUTE.findall(text))) for tag, text in _TAG.findall(svg)]
    numbers = {name: number for number, name in enumerate(names, 1)}
    nodes = {each.get("data-node-id"): numbers.get(unescape(each.get("data-label-name", ""))) for _, each in tags}
    for tag, each in tags:
        first, second = nodes.get(each.get("data-node-from")), nodes.get(each.get("data-node-to"))
        if tag == "line" and first is not None and second is not None:
            yield first, second


def _labels(element: Element | None) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Fields of the labels, by name; and of the sublabels, by the name of the label above and their own."""
    labels: dict[str, dict[str, Any]] = {}
    sublabels: dict[str, dict[str, Any]] = {}
    for child in () if element is None else element.findall("label"):
        fields = _tree(child)
        if not isinstance(fields, dict):
            continue
        name, parent = fields.pop("name", None), fields.pop("parent", None)
        if not isinstance(name, str) or not name:
            continue
        attributes = _listed(fields.pop("attributes", None), "attribute")
        if attributes:
            fields["attributes"] = attributes
        if isinstance(parent, str) and parent:
            sublabels.setdefault(parent, {}).setdefault(name, fields)
        else:
            labels.setdefault(name, fields)
    return labels, sublabels


def _input_types(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(each.get("input_type", "")) for name, each in specifications(fields).items()}


def _task(element: Element, video: str | None) -> Task:
    start, stop = (_integer(element.findtext(name)) for name in ("start_frame", "stop_frame"))
    step = re.search(r"step=0*([1-9]\d{0,8})", element.findtext("frame_filter") or "")
    size = tuple(_integer(element.findtext(f"original_size/{name}")) for name in ("width", "height"))
    frames = range(0)
    if start is not None and stop is not None:
        frames = range(start, stop + 1, int(step[1]) if step else 1)
    return Task(
        name=(element.findtext("name") or "").strip() or None,
        subset=(element.findtext("subset") or "").strip() or None,
        video=(element.findtext("source") or video or "").strip() or None,
        is_video=(element.findtext("mode") or "").strip() == "interpolation",
        size=(size[0], size[1]) if size[0] and size[1] else None,
        frames=frames,
    )


def _tree(element: Element) -> Any:
    """An element as JSON: its text, or its children by name, several of one name as a list."""
    if len(element) == 0:
        return (element.text or "").strip()
    tree: dict[str, Any] = {}
    for child in element:
        if child.tag in tree and not isinstance(tree[child.tag], list):
            tree[child.tag] = [tree[child.tag]]
        if child.tag in tree:
            tree[child.tag].append(_tree(child))
        else:
            tree[child.tag] = _tree(child)
    return tree


def _listed(tree: Any, name: str) -> list[Any]:
    """The children of one name, of a tree that may hold none, one or several."""
    found = tree.get(name, []) if isinstance(tree, dict) else []
    return found if isinstance(found, list) else [found]


def _integer(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None
