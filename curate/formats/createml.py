"""Create ML's JSON (Apple, "Building an object detector data source"): one list for a folder of images.

    [{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {"x": 40, "y": 30, "width": 20, "height": 10}}]}]

`x` and `y` are the box's centre, in pixels from the top left. The file cannot say if it means other units or another
corner, which a program that trains on it may be told, so these are taken for granted.

The image is `image`, `imagefilename`, `filename` or `imageURL`; its objects are `annotations` or `annotation`. An object
without `coordinates`, a plain text among the objects (Create ML's multi-label classifier) and a `label` of the image itself
are labels of the whole image. Roboflow writes ``_annotations.createml.json`` into the folder of each split, LabelImg a file
for each image, whose ``verified`` is kept with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from curate.errors import FormatError
from curate.formats.annotation_files import find_annotation_files, read_each
from curate.formats.base import Detection, Format, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.files import is_image, peek_files, read_head
from curate.formats.locations import split_of
from curate.formats.losses import LossReport
from curate.formats.references import References, is_address
from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from curate.formats.trees import read_json
from curate.formats.values import is_shallow, mapping, number, numbers, text

_IMAGE_KEYS: Final = ("image", "imagefilename", "filename", "imageURL", "imageUrl")
_LIST_KEYS: Final = ("annotations", "annotation")
_IMAGE_KEY: Final = r'"(?:image|imagefilename|filename|imageURL|imageUrl)"\s*:\s*"'
_LIST: Final = re.compile(rf'\s*\[\s*\{{(?=.*{_IMAGE_KEY})(?=.*"annotations?"\s*:\s*[\["])', re.DOTALL)
_IMAGE_FIRST: Final = re.compile(rf"\s*\[\s*\{{\s*{_IMAGE_KEY}")
_LABEL_STUDIO: Final = re.compile(r'"data"\s*:\s*\{')
_COORDINATES: Final = re.compile(r'"coordinates"\s*:\s*\{')
_SUFFIX: Final = ".createml.json"
_LOOKED_AT: Final = 30


def detect(source: Path) -> Detection | None:
    """JSON that is a list of images with `annotations`; the surest with `coordinates`."""
    if source.is_file():
        sure = _likeliness(source)
        return Detection(sure, "a list of images with annotations, as Create ML has it") if sure else None
    files = peek_files(source)
    names = [name for name in files if name.lower().endswith(".json")][:_LOOKED_AT]
    found = [sure for name in names if (sure := _likeliness(source / name))]
    if not found:
        return None
    images = sum(map(is_image, files))
    reason = f"{len(found)} lists of images with annotations, as Create ML has them, among {images} images"
    return Detection(max(found), reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read every Create ML file of a folder, or one file.

    Raises:
        FormatError: There is none.
    """
    root, names = find_annotation_files(source, ".json")
    reader = _Reader(root, options, losses)
    wanted = "Create ML file (a list of images with 'annotations')"
    for name, entries in read_each(root, names, _load, losses, wanted=wanted):
        reader.add(name, entries)
    if source.is_dir():
        for location, path in reader.references.others(reader.taken):
            reader.collector.image(location, path, split=split_of(location))
    return reader.collector.records()


FORMAT = Format("createml", detect, read)


class _Reader:
    """What is gathered from one file after another."""

    def __init__(self, root: Path, options: ReadOptions, losses: LossReport) -> None:
        self.losses = losses
        self.references = References(root, options)
        self.collector = Collector(options, losses)
        self.taken: dict[str, int] = {}

    def add(self, name: str, entries: list[Any]) -> None:
        """Take a file's content in."""
        known = [each for each in entries if isinstance(each, dict) and _filename(each)]
        self.losses.dropped("images", "entries that name no image", name, len(entries) - len(known))
        for entry in known:
            self._read_entry(entry, name)

    def _read_entry(self, entry: dict[str, Any], name: str) -> None:
        filename = _filename(entry)
        location, path = self.references.place(name, filename)
        metadata = _metadata(entry, name, self.losses)
        split = split_of(location)
        image = self.collector.image(location, path, split=split, metadata=metadata, source=name)
        if self.taken.setdefault(location, 0):
            self.losses.converted("images", "listed more than once: all their objects are kept", f"{name}: {filename}")
        objects: Any = next((entry[key] for key in _LIST_KEYS if key in entry), [])
        listed = objects if isinstance(objects, list) else [objects]
        listed = listed + ([entry["label"]] if text(entry.get("label")) else [])
        first = self.taken[location]
        self.taken[location] += max(len(listed), 1)
        for number_of_object, value in enumerate(listed, first):
            self._read_object(
                value, image, number_of_object, name, f"{name}: {filename}: object {number_of_object + 1}"
            )

    def _read_object(self, value: Any, image: int, key: int, name: str, place: str) -> None:
        said = {"label": value} if isinstance(value, str) else mapping(value)
        label = text(said.get("label"))
        coordinates = said.get("coordinates")
        if not label and not isinstance(coordinates, dict):
            self.losses.dropped("annotations", "without a label and a box", place)
            return
        shape = WHOLE_IMAGE if coordinates is None else _box(mapping(coordinates))
        if shape is None:
            self.losses.dropped("annotations", "without four numbers for a box", place)
            return
        attributes = {key: each for key, each in said.items() if key not in {"label", "coordinates", "confidence"}}
        if not is_shallow(attributes):
            self.losses.dropped("attributes", "nested too deeply", place)
            attributes = {}
        self.collector.add(
            image,
            label or None,
            shape,
            place=place,
            score=number(said.get("confidence")),
            attributes=attributes,
            key=key,
            source=name,
            salt=name,
        )


def _load(path: Path) -> list[Any]:
    tree = read_json(path)
    if not isinstance(tree, list):
        raise FormatError("not a list of images with 'annotations'", where=path, remedy="check it")
    if tree and not any(isinstance(each, dict) and _filename(each) for each in tree):
        raise FormatError("no entry names an image", where=path, remedy="check it")
    return tree


def _filename(entry: dict[str, Any]) -> str:
    return next((name for key in _IMAGE_KEYS if (name := text(entry.get(key)))), "")


def _metadata(entry: dict[str, Any], name: str, losses: LossReport) -> dict[str, Any]:
    own = {*_IMAGE_KEYS, *_LIST_KEYS, "label"}
    metadata = {key: value for key, value in entry.items() if key not in own and value not in (None, "", [], {})}
    filename = _filename(entry)
    if is_address(filename):
        metadata.setdefault("url", filename)
    if not is_shallow(metadata):
        losses.dropped("image metadata", "nested too deeply", f"{name}: {filename}")
        return {}
    return metadata


def _box(coordinates: dict[str, Any]) -> Shape | None:
    sides = numbers(coordinates.get(key) for key in ("x", "y", "width", "height"))
    if sides is None:
        return None
    x, y, width, height = sides
    return Shape(bbox=[x - width / 2, y - height / 2, width, height])


def _likeliness(path: Path) -> float:
    """How sure it is that a file is Create ML's; 0 where it is not."""
    head = read_head(path)
    if not _LIST.match(head) or _LABEL_STUDIO.search(head):
        return 0.0
    if _COORDINATES.search(head) or path.name.lower().endswith(_SUFFIX):
        return 0.95
    return 0.6 if _IMAGE_FIRST.match(head) else 0.0
