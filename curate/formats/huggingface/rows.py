"""A row of a table as an image with its annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from curate.errors import FormatError
from curate.formats.base import ClassInfo
from curate.formats.collect import Collector
from curate.formats.huggingface.features import Feature, Features, class_infos
from curate.formats.huggingface.objects import (
    BOXES,
    CATEGORIES,
    SEGMENTATIONS,
    class_name,
    json_object,
    json_ready,
    listed,
    read_object,
)
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE
from curate.formats.values import number, sequence, whole
from curate.names import PREDICTIONS

OBJECTS: Final = ("objects", "annotations", "instances")
_LABELS: Final = ("label", "labels", "category", "class")
_IDS: Final = ("image_id", "id")
_NOTHING: Final = Feature()


@dataclass(frozen=True)
class Where:
    """What is known of a row's image before its columns are looked at.

    Attributes:
        location: Of the image.
        path: Its file, or None.
        size: Width and height as the bytes say, where there is no file; else None.
        split: As the table's name says.
        place: What to call the row in the loss report.
        source: The table, relative to what is imported.
    """

    location: str
    path: Path | None
    size: tuple[int, int] | None
    split: str | None
    place: str
    source: str


@dataclass(frozen=True)
class RowReader:
    """Reads rows into a collector.

    Attributes:
        collector: Takes images and annotations.
        features: What the columns mean.
        layer: Where the annotations go.
        losses: Gets what cannot be kept.
    """

    collector: Collector
    features: Features
    layer: str
    losses: LossReport

    def read(self, row: Mapping[str, Any], where: Where) -> None:
        """Take a row.

        Args:
            row: The columns, without the image itself.
            where: The image.
        """
        left = {key: value for key, value in row.items() if value is not None}
        objects, feature = self._objects(left)
        labels = self._labels(left)
        image = self._image(left, where)
        for number_, label in enumerate(labels):
            self.collector.add(
                image, label, WHOLE_IMAGE, place=where.place, key=f"label {number_}", source=where.source
            )
        self._add(image, objects, feature, where)

    def _objects(self, left: dict[str, Any]) -> tuple[Any, Feature]:
        """The column of objects, or the columns that are lists of boxes and their classes; taken out of the rest."""
        name = next((key for key in OBJECTS if isinstance(left.get(key), dict | list)), None)
        if name is not None:
            return left.pop(name), self.features.get(name, _NOTHING)
        has_boxes = any(_is_list_of_lists(left.get(key)) for key in (*BOXES, *SEGMENTATIONS))
        if not has_boxes:
            return None, _NOTHING
        count = max(len(left[key]) for key in (*BOXES, *SEGMENTATIONS) if _is_list_of_lists(left.get(key)))
        columns = [key for key, value in left.items() if isinstance(value, list) and len(value) == count]
        return {key: left.pop(key) for key in columns}, Feature("struct", fields=self.features)

    def _labels(self, left: dict[str, Any]) -> list[str]:
        name = next((key for key in _label_columns(self.features) if key in left), None)
        if name is None:
            return []
        values = left[name] if isinstance(left[name], list) else [left[name]]
        if not all(isinstance(value, str | int | float) for value in values):
            return []
        del left[name]
        labels = [class_name(value, self.features.get(name, _NOTHING)) for value in values]
        return [label for label in labels if label is not None]

    def _image(self, left: dict[str, Any], where: Where) -> int:
        stated = whole(left.pop("width", None)), whole(left.pop("height", None))
        own_id = next((key for key in _IDS if isinstance(left.get(key), str | int)), None)
        source_id = None if own_id is None else str(left.pop(own_id))
        own: dict[str, Any] = {}
        for name, check in (("tags", _texts), ("group", _text), ("frame", _integer), ("timestamp", number)):
            value = check(left.get(name))
            if value is not None:
                own[name] = value
                del left[name]
        return self.collector.image(
            where.location,
            where.path,
            size=where.size or (stated if all(stated) else None),
            split=where.split,
            metadata=self._metadata(left, where.place),
            source_id=source_id or None,
            source=where.source,
            **own,
        )

    def _metadata(self, left: Mapping[str, Any], place: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for name, value in left.items():
            feature = self.features.get(name, _NOTHING)
            if feature.kind == "image" or isinstance(value, bytes):
                self.losses.dropped("columns of bytes", "only one image of a row has a place", f"{place}: {name}")
            elif feature.kind == "class" and not isinstance(value, list):
                metadata[name] = class_name(value, feature)
            else:
                metadata[name] = json_ready(value)
        own = json_object(metadata.get("metadata"))
        return metadata if own is None else {key: metadata[key] for key in metadata if key != "metadata"} | own

    def _add(self, image: int, column: Any, feature: Feature, where: Where) -> None:
        numbers: Counter[str | None] = Counter()
        for number_, said in enumerate(listed(column, where.place, self.losses)):
            place = f"{where.place}, object {number_}"
            try:
                found = read_object(said, feature)
            except FormatError as error:
                self.losses.dropped("annotations", error.what, place)
                continue
            attributes, score = found.attributes, found.score
            if score is not None and not self.layer.startswith(PREDICTIONS):
                attributes, score = {**attributes, "score": score}, None
            self.collector.add(
                image,
                found.label,
                found.shape,
                place=place,
                area=found.area,
                iscrowd=found.iscrowd,
                score=score,
                attributes=attributes,
                key=f"{found.source_id}#{numbers[found.source_id]}",
                source_id=found.source_id,
                source=where.source,
            )
            numbers[found.source_id] += 1


def classes_of(features: Features) -> list[list[ClassInfo]]:
    """The classes of objects and of whole images, as their columns number them."""
    structs = [features[name].fields for name in OBJECTS if name in features]
    columns = [fields[name] for fields in structs for name in CATEGORIES if name in fields][:1]
    columns += [features[name] for name in _label_columns(features) if name in features][:1]
    return [class_infos(column) for column in columns if column.kind == "class"]


def _label_columns(features: Features) -> list[str]:
    """Columns that may hold the whole image's class, the likeliest first."""
    named = [name for name, feature in features.items() if feature.kind == "class"]
    return [name for name in (*_LABELS, *named) if features.get(name, _NOTHING).kind in {"class", "value"}]


def _is_list_of_lists(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, list) for each in value)


def _texts(value: Any) -> Sequence[str] | None:
    texts = sequence(value)
    return texts if texts and all(isinstance(each, str) for each in texts) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(value: Any) -> int | None:
    return value if type(value) is int and abs(value) < 2**63 else None
