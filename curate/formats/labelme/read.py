"""Reading LabelMe's JSON: every annotation file of a folder, and the images that have none."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from curate.errors import FormatError
from curate.formats.annotation_files import find_annotation_files, read_each
from curate.formats.base import ClassInfo, Detection, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.embedded import keep_image
from curate.formats.files import is_image, peek_files, read_head, read_text
from curate.formats.labelme.objects import Object, read_object
from curate.formats.locations import split_of
from curate.formats.losses import LossReport
from curate.formats.references import References
from curate.formats.shape_columns import WHOLE_IMAGE
from curate.formats.trees import read_json
from curate.formats.values import is_shallow, mapping, sequence, text, whole

CLASS_LIST: Final = "labels.txt"
"""LabelMe's own name for the list of classes."""

NOT_CLASSES: Final = frozenset({"__ignore__", "_background_"})
"""Lines of the class list that stand for no class."""

_OWN_KEYS: Final = frozenset(
    {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth", "curate"}
)
_SHAPES: Final = re.compile(r'"shapes"\s*:\s*\[')
_SIGNS: Final = ("imagePath", "imageData", "imageHeight", "lineColor")
_LOOKED_AT: Final = 30


class Image(msgspec.Struct, forbid_unknown_fields=True):
    """The member `curate` of a file: what LabelMe has no place for."""

    split: str | None = None
    tags: list[str] | None = None
    group: str | None = None
    frame: int | None = None
    timestamp: float | None = None
    source_id: str | None = None
    metadata: dict[str, Any] | None = None


def detect(source: Path) -> Detection | None:
    """JSON files with LabelMe's `shapes`."""
    if source.is_file():
        return Detection(0.95, "a LabelMe annotation") if _is_labelme(source) else None
    files = peek_files(source)
    names = [name for name in files if name.lower().endswith(".json")][:_LOOKED_AT]
    count = sum(_is_labelme(source / name) for name in names)
    if count == 0:
        return None
    reason = f"{count} LabelMe annotations in a look at {len(files)} files"
    # A few stray files among the images do not make it LabelMe.
    images = sum(map(is_image, files))
    return Detection(0.95 if 2 * count >= min(len(names), images) else 0.5, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a folder of LabelMe's JSON files, or one file.

    Raises:
        FormatError: There are none.
    """
    root, names = find_annotation_files(source, ".json")
    reader = _Reader(root, options, losses)
    for name, tree in read_each(root, names, _load, losses, wanted="LabelMe annotation (a .json file with 'shapes')"):
        reader.add(name, tree)
    if source.is_dir():
        for location, path in reader.references.others(reader.taken):
            reader.collector.image(location, path, split=split_of(location))
    classes = _class_list(root, options, losses)
    return reader.collector.records(classes, {"labelme": {"version": reader.version}} if reader.version else None)


class _Reader:
    """What is gathered from one file after another."""

    def __init__(self, root: Path, options: ReadOptions, losses: LossReport) -> None:
        self.options = options
        self.losses = losses
        self.references = References(root, options)
        self.collector = Collector(options, losses)
        self.taken: set[str] = set()
        self.version = ""

    def add(self, name: str, tree: dict[str, Any]) -> None:
        """Take a file's content in."""
        self.version = self.version or text(tree.get("version"))
        location, path = self.references.place(name, text(tree.get("imagePath")), name.rpartition("/")[2][:-5])
        if path is None:
            path = keep_image(tree.get("imageData"), location, name, self.options, self.losses)
        if location in self.taken:
            self.losses.converted("annotation files", "another file describes the same image: both are kept", name)
        self.taken.add(location)
        size = (whole(tree.get("imageWidth")), whole(tree.get("imageHeight")))
        image = self._add_image(tree, location, path, size, name)
        self._add_labels(image, mapping(tree.get("flags")), name)
        objects = _joined(self._objects(tree, size, name), name, self.losses)
        ids = Counter(each.source_id for _, each in objects)
        for number, each in objects:
            self.collector.add(
                image,
                each.label,
                each.shape,
                place=f"{name}: shape {number}",
                area=each.area,
                iscrowd=each.iscrowd,
                score=each.score,
                attributes=each.attributes,
                key=each.source_id if each.source_id is not None and ids[each.source_id] == 1 else number,
                source_id=each.source_id,
                source=name,
                salt=name,
            )

    def _objects(self, tree: dict[str, Any], size: tuple[int, int], name: str) -> list[tuple[int, Object]]:
        shapes = enumerate(sequence(tree["shapes"]), 1)
        found = [(number, read_object(value, size, f"{name}: shape {number}", self.losses)) for number, value in shapes]
        return [(number, each) for number, each in found if each is not None]

    def _add_image(
        self, tree: dict[str, Any], location: str, path: Path | None, size: tuple[int, int], name: str
    ) -> int:
        said, others = _image(tree)
        flags = {key: value for key, value in mapping(tree.get("flags")).items() if value is not True}
        others |= {"flags": flags} if flags else {}
        if not is_shallow([others, said.metadata]):
            self.losses.dropped("image metadata", "nested too deeply", name)
            others, said.metadata = {}, None
        return self.collector.image(
            location,
            path,
            size=size,
            split=said.split or split_of(location),
            tags=said.tags,
            group=said.group,
            frame=said.frame,
            timestamp=said.timestamp,
            metadata={**(said.metadata or {}), **({"labelme": others} if others else {})},
            source_id=said.source_id,
            source=name,
        )

    def _add_labels(self, image: int, flags: dict[str, Any], name: str) -> None:
        for flag, value in flags.items():
            if value is True:
                key, place = f"flag {flag}", f"{name}: flag {flag}"
                self.collector.add(image, flag, WHOLE_IMAGE, place=place, key=key, source=name, salt=name)


def _load(path: Path) -> dict[str, Any]:
    tree = read_json(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("shapes"), list) or tree.keys().isdisjoint(_SIGNS):
        raise FormatError("not a LabelMe annotation: without 'shapes' or 'imagePath'", where=path, remedy="check it")
    return tree


def _image(tree: dict[str, Any]) -> tuple[Image, dict[str, Any]]:
    """What `curate` says of an image, and the members that are not LabelMe's own."""
    others = {key: value for key, value in tree.items() if key not in _OWN_KEYS and value not in (None, "", [], {})}
    if "curate" not in tree:
        return Image(), others
    try:
        return msgspec.convert(tree["curate"], Image), others
    except msgspec.ValidationError:
        return Image(), {**others, "curate": tree["curate"]}


def _joined(objects: Sequence[tuple[int, Object]], name: str, losses: LossReport) -> list[tuple[int, Object]]:
    """Polygons of one label and group as one object of several parts, in the place of the first."""
    sharing = Counter(str(each.attributes.get("group_id")) for _, each in objects)
    parts: dict[tuple[str | None, int | str], list[tuple[int, Object]]] = {}
    for number, each in objects:
        if each.group is not None:
            parts.setdefault((each.label, each.group), []).append((number, each))
    joined: list[tuple[int, Object]] = []
    for number, each in objects:
        own = [(number, each)] if each.group is None else parts[each.label, each.group]
        if own[0][0] == number:
            joined.append((number, each if len(own) == 1 else _join([part for _, part in own], name, sharing, losses)))
    return joined


def _join(parts: Sequence[Object], name: str, sharing: Counter[str], losses: LossReport) -> Object:
    first = parts[0]
    if any((part.attributes, part.score) != (first.attributes, first.score) for part in parts):
        place = f"{name}: group {first.group}"
        losses.dropped("attributes", "parts of one object differ in them: the first's are kept", place)
    attributes = dict(first.attributes)
    if not first.keeps_group and sharing[str(first.group)] == len(parts):
        attributes.pop("group_id", None)  # it only said that these are one
    polygons = [polygon for part in parts for polygon in part.shape.polygons or ()]
    return replace(first, shape=replace(first.shape, polygons=polygons), attributes=attributes)


def _class_list(root: Path, options: ReadOptions, losses: LossReport) -> list[ClassInfo]:
    path = options.classes or root / CLASS_LIST
    if not path.is_file():
        return []
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except FormatError as error:
        losses.dropped("class lists", error.what, path.name)
        return []
    return [ClassInfo(name) for name in dict.fromkeys(lines) if name and name not in NOT_CLASSES]


def _is_labelme(path: Path) -> bool:
    head = read_head(path, 4096)
    if not head.lstrip().startswith("{"):
        return False
    # Long lists of points, or the picture itself, may stand between the two.
    ends = head + _read_tail(path)
    return _SHAPES.search(ends) is not None and any(f'"{sign}"' in ends for sign in (*_SIGNS, "shape_type"))


def _read_tail(path: Path, size: int = 16384) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - size, 0))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
