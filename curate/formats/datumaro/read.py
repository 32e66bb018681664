"""Reading Datumaro's files, a piece of their items at a time; see `curate.formats.datumaro` for what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from curate.formats.base import ClassInfo, ReadOptions, Records, merge_classes
from curate.formats.coco.pieces import JsonFile, elements, has_lone_surrogate, loads
from curate.formats.collect import Collector
from curate.formats.datumaro.categories import INFO, read_classes, read_info
from curate.formats.datumaro.files import Images, SubsetFile, open_files
from curate.formats.datumaro.groups import objects_of
from curate.formats.datumaro.items import Part, read_part
from curate.formats.losses import LossReport
from curate.formats.values import is_shallow, mapping, number, sequence, text, whole
from curate.names import PREDICTIONS

CAPTIONS: Final = "captions"
"""Key of an image's captions in its metadata."""

COLUMNS: Final = "curate"
"""Attribute of an item that holds the values of those columns that Datumaro does not have."""

_MEDIA: Final = ("image", "media", "video_frame", "video", "point_cloud", "related_images")
_KNOWN: Final = frozenset({"id", "annotations", "attr", *_MEDIA})


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read one file, or all of a folder.

    Raises:
        FormatError: Nothing can be read.
    """
    collector = Collector(options, losses)
    splits: dict[int, str | None] = {}
    lists: list[list[ClassInfo]] = []
    info: dict[str, Any] = {}
    for file in open_files(source, losses):
        values = file.json.values
        classes = read_classes(values.get("categories"), file.source, losses)
        names = [known.name for known in classes]
        lists.append(_unique(classes, file.source, losses))
        info |= read_info(values.get("infos"), values.get("categories"))
        is_prediction = options.layer.startswith(PREDICTIONS)
        reader = _Reader(file, Images(file.root, options), names, is_prediction, collector, splits, losses)
        for start, item in _items(file.json, file.source, losses):
            reader.read(item, f"{file.source}: item {start}")
    return collector.records(merge_classes(lists, losses), {INFO: info} if info else {})


def _unique(classes: Sequence[ClassInfo], source: str, losses: LossReport) -> list[ClassInfo]:
    first: dict[str, ClassInfo] = {}
    for known in classes:
        if first.setdefault(known.name, known) is not known:
            losses.converted("classes", "the same name twice; one class", f"{source}: {known.name}")
    return list(first.values())


def _items(json: JsonFile, source: str, losses: LossReport) -> Iterator[tuple[int, Any]]:
    """The items with their numbers; a piece that cannot be decoded at once is decoded one item after another."""
    count = 0
    for piece in json.pieces("items"):
        try:
            if has_lone_surrogate(piece):
                raise ValueError
            items = msgspec.json.decode(piece)
            if not is_shallow(items):
                raise RecursionError
        except (ValueError, RecursionError):
            items = [
                _item(text, f"{source}: item {count + place}", losses) for place, text in enumerate(elements(piece))
            ]
        for item in items:
            yield count, item
            count += 1


def _item(text: bytes, place: str, losses: LossReport) -> Any:
    """One item as Python reads it, which takes NaN; None where it cannot."""
    try:
        item = loads(text)
        if is_shallow(item):
            return item
        losses.dropped("items", "nested too deeply", place)
    except (ValueError, RecursionError) as error:
        losses.dropped("items", f"not valid JSON: {error}", place)
    return None


@dataclass(frozen=True)
class _Reader:
    """Reads the items of one file into a collector.

    Attributes:
        file: The file.
        images: Where its images are.
        labels: Classes by label id.
        is_prediction: Whether an attribute `score` is a confidence.
        collector: Takes images and annotations.
        splits: Of the images that came, by their number, in all files.
        losses: Gets what cannot be kept.
    """

    file: SubsetFile
    images: Images
    labels: Sequence[str]
    is_prediction: bool
    collector: Collector
    splits: dict[int, str | None]
    losses: LossReport

    def read(self, item: Any, place: str) -> None:
        if item is None:
            return
        said = mapping(item)
        own_id = said.get("id")
        if not isinstance(own_id, str | int) or isinstance(own_id, bool) or not str(own_id).strip():
            self.losses.dropped("items", "without an id", place)
            return
        for media in ("point_cloud", "video"):
            if said.get(media) and not said.get("image"):
                self.losses.dropped("items", f"of a {media.replace('_', ' ')}, which is no image", place)
                return
        annotations = sequence(said.get("annotations"))
        image = self._image(str(own_id), said, _captions(annotations, place, self.losses))
        named = [
            (f"{self.file.source}: {own_id}, annotation {number}", annotation)
            for number, annotation in enumerate(annotations)
            if mapping(annotation).get("type") != "caption"
        ]
        parts = [read_part(annotation, self.labels, where, self.losses) for where, annotation in named]
        objects = objects_of([part for part in parts if part is not None], f"{self.file.source}: {own_id}", self.losses)
        self._add(image, objects, f"{self.file.source}: {own_id}")

    def _image(self, own_id: str, said: Mapping[str, Any], captions: list[str]) -> int:
        described = mapping(said.get("image"))
        name = text(described.get("path")) or text(mapping(said.get("media")).get("path")) or own_id
        location, path = self.images.find(self.file.subset, name)
        metadata = dict(mapping(said.get("attr")))
        columns = mapping(metadata.pop(COLUMNS, None))
        frame = mapping(said.get("video_frame"))
        metadata |= {CAPTIONS: captions} if captions else {}
        metadata |= {key: value for key, value in said.items() if key not in _KNOWN}
        if said.get("related_images"):
            self.losses.dropped("related images", "there is no place for them", location)
        size = sequence(described.get("size"))
        height, width = (whole(side) for side in size) if len(size) == 2 else (0, 0)
        row = self.collector.image(
            location,
            path,
            size=(width, height) if width and height else None,
            split=self.file.split,
            tags=[tag for tag in sequence(columns.get("tags")) if isinstance(tag, str)] or None,
            group=text(columns.get("group")) or text(frame.get("video_path")) or None,
            frame=_integer(columns.get("frame", frame.get("frame_index"))),
            timestamp=number(columns.get("timestamp")),
            metadata=metadata,
            source_id=own_id,
            source=self.file.source,
        )
        if self.splits.setdefault(row, self.file.split) != self.file.split:
            self.losses.converted("images", "in several subsets; the first is kept", f"{self.file.source}: {location}")
        return row

    def _add(self, image: int, objects: Sequence[Part], place: str) -> None:
        ids = Counter(part.id for part in objects)
        seen: Counter[int | None] = Counter()
        for number_, part in enumerate(objects):
            attributes = dict(part.attributes)
            crowd = attributes.get("is_crowd")
            if crowd in (True, False):  # 0 and 1 too
                del attributes["is_crowd"]
            score = number(attributes.get("score")) if self.is_prediction else None
            if score is not None:
                del attributes["score"]
            # Datumaro gives the id 0 to what has none.
            has_id = part.id is not None and not (part.id == 0 and ids[0] > 1)
            self.collector.add(
                image,
                part.label,
                part.shape,
                place=f"{place}, annotation {number_}",
                iscrowd=bool(crowd) if crowd in (True, False) else None,
                score=score,
                attributes=attributes,
                key=f"{part.id}#{seen[part.id]}",
                source_id=str(part.id) if has_id else None,
                source=self.file.source,
                salt=self.file.source,
            )
            seen[part.id] += 1


def _captions(annotations: Sequence[Any], place: str, losses: LossReport) -> list[str]:
    captions = []
    for annotation in annotations:
        said = mapping(annotation)
        if said.get("type") != "caption":
            continue
        if not text(said.get("caption")):
            losses.dropped("annotations", "a caption without text", place)
            continue
        captions.append(str(said["caption"]))
        losses.dropped("attributes", "a caption has no place for them", place, len(mapping(said.get("attributes"))))
    return captions


def _integer(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 2**63 else None
