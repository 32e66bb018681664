"""`curate import fiftyone://NAME`: a FiftyOne dataset with its fields and tags.

Fields whose labels have a confidence become layers of predictions, the others ground truth; a dataset that curate exported says
itself which field is which layer. So does the copy that `curate app` shows, of which the findings stay behind. Tags that name a
split become the split. What else a sample has becomes its metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.connectors.fiftyone.brain import vectors_of
from curate.connectors.fiftyone.labels import (
    Document,
    Family,
    Size,
    attributes_of,
    pack_array,
    to_shape,
    unpack_array,
)
from curate.connectors.fiftyone.layout import OF_FINDINGS
from curate.connectors.fiftyone.marks import RESERVED
from curate.connectors.fiftyone.target import Target
from curate.errors import FormatError, ImageError
from curate.formats.base import ClassInfo, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.importing import classes_from_json
from curate.formats.locations import split_name
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from curate.geometry import encode_rle
from curate.imaging import load_labels, read_header
from curate.names import GROUND_TRUTH, PREDICTIONS

LAYERS: Final = "curate_layers"
"""Key of a FiftyOne dataset's info: layer by field, in what curate exported."""

CLASSES: Final = "curate_classes"
"""Key of its info: the classes, JSON-ready."""

_LISTS: Final[Mapping[str, tuple[Family, str]]] = {
    "Detections": ("detections", "detections"),
    "Polylines": ("polylines", "polylines"),
    "Keypoints": ("keypoints", "keypoints"),
    "Classifications": ("classifications", "classifications"),
}
_SINGLE: Final[Mapping[str, Family]] = {
    "Detection": "detections",
    "Polyline": "polylines",
    "Keypoint": "keypoints",
    "Classification": "classifications",
}
_OWN_FIELDS: Final = frozenset(
    {"id", "_id", "filepath", "tags", "metadata", "created_at", "last_modified_at", "location", "split", "source_id"}
    | {"sequence", "frame", "timestamp", "details"}
)


def read_dataset(source: Target, options: ReadOptions, losses: LossReport) -> Records:
    """Read a FiftyOne dataset.

    Args:
        source: The dataset.
        options: The layer of labels without a confidence; the split.
        losses: Gets what cannot be kept.

    Raises:
        FormatError: It has no images.
    """
    own = _own_fields(source)
    if own:
        reason = "of the copy that 'curate app' shows: what was found is not what was labelled"
        losses.dropped("fields", f"{reason} ({', '.join(sorted(own))})", source.dataset.name, len(own))
    fields = [field for field in _label_fields(source, options) if field.name not in own]
    collector = Collector(options, losses)
    reader = _Reader(source, fields, collector, losses, _root(source), own)
    samples = source.samples.find({"_media_type": "image"}).sort("filepath", 1).allow_disk_use(True)
    for document in samples:
        reader.add(document)
    others = source.samples.count_documents({"_media_type": {"$ne": "image"}})
    losses.dropped("samples", "neither an image nor readable as one (video, point cloud)", source.dataset.name, others)
    if not reader.images:
        raise FormatError("the FiftyOne dataset has no images", where=source.dataset.name, remedy="check the name")
    return collector.records(_classes(source))


@dataclass(frozen=True)
class _Field:
    """A field of labels: FiftyOne's class of it, and the layer that it becomes."""

    name: str
    kind: str
    layer: str


@dataclass
class _Reader:
    """What is gathered from one sample after another."""

    source: Target
    fields: Sequence[_Field]
    collector: Collector
    losses: LossReport
    root: str
    own: frozenset[str]
    images: int = 0

    def add(self, document: Document) -> None:
        """Take a sample in."""
        path = Path(document["filepath"])
        location = str(document.get("location") or os.path.relpath(path, self.root).replace(os.sep, "/"))
        size, there = _size(path, document)
        tags = self._tags(document)
        named = next((tag for tag in tags if split_name(tag)), None)
        split = document.get("split") or (split_name(named) if named else None)
        image = self.collector.image(
            location,
            path if there else None,
            size=size,
            split=split,
            tags=[tag for tag in tags if tag != named] or None,
            group=_text(document.get("sequence")) or _group(document),
            frame=document.get("frame") if isinstance(document.get("frame"), int) else None,
            timestamp=document.get("timestamp") if isinstance(document.get("timestamp"), float) else None,
            metadata=self._metadata(document, location),
            source_id=_text(document.get("source_id")) or str(document["_id"]),
            source=self.source.dataset.name,
        )
        self.images += 1
        for field in self.fields:
            value = document.get(field.name)
            if isinstance(value, dict):
                self._labels(image, field, value, size, f"{location}: {field.name}")

    def _labels(self, image: int, field: _Field, value: Document, size: Size | None, place: str) -> None:
        if field.kind in _LISTS:
            family, name = _LISTS[field.kind]
            labels = value.get(name) or ()
        elif field.kind in _SINGLE:
            family, labels = _SINGLE[field.kind], (value,)
        elif field.kind == "Segmentation":
            self._segmentation(image, field, value, place)
            return
        else:
            self.losses.dropped("labels", f"of a kind that curate has not ({field.kind})", place)
            return
        for label in labels:
            if size is None and family != "classifications":
                self.losses.dropped("annotations", "of an image of unknown size", place)
                continue
            try:
                shape = _shape(label, family, size or (1, 1))
            except (TypeError, ValueError, OSError, ImageError) as error:
                self.losses.dropped("annotations", f"a shape that cannot be read: {error}", place)
                continue
            self._add(image, field, label, shape, place)

    def _add(self, image: int, field: _Field, label: Document, shape: Shape, place: str) -> None:
        attributes = attributes_of(label) | _old_attributes(label)
        if tags := self._tags(label):
            attributes["tags"] = tags
        confidence = label.get("confidence")
        predicted = field.layer.startswith(PREDICTIONS)
        if isinstance(confidence, int | float) and not predicted:
            attributes["confidence"] = confidence
        key = str(label.get("_id"))
        self.collector.add(
            image,
            _text(label.get("label")),
            shape,
            place=place,
            iscrowd=True if label.get("iscrowd") else None,
            score=float(confidence) if isinstance(confidence, int | float) and predicted else None,
            attributes=attributes,
            layer=field.layer,
            key=_text(label.get("source_id")) or key,
            source_id=_text(label.get("source_id")) or key,
            source=self.source.dataset.name,
            salt=field.name,
        )

    def _tags(self, document: Document) -> list[str]:
        """The tags of a sample or label; in curate's own copy, without those that say what was found."""
        tags = [str(tag) for tag in document.get("tags") or ()]
        return [tag for tag in tags if not tag.startswith(RESERVED)] if self.own else tags

    def _segmentation(self, image: int, field: _Field, value: Document, place: str) -> None:
        """A mask of classes: one annotation for each."""
        try:
            mask = _pixels(value)
        except (TypeError, ValueError, OSError, ImageError) as error:
            self.losses.dropped("annotations", f"a mask that cannot be read: {error}", place)
            return
        if mask is None or mask.ndim != 2:
            self.losses.dropped("annotations", "a mask without one number for each pixel", place)
            return
        targets = self.source.dataset.mask_targets.get(field.name) or self.source.dataset.default_mask_targets or {}
        for number in np.unique(mask[mask > 0]).tolist():
            shape = Shape(rle=(encode_rle(mask == number), mask.shape))
            label = {"_id": f"{value.get('_id')}-{number}", "label": str(targets.get(int(number), int(number)))}
            self._add(image, field, label, shape, place)

    def _metadata(self, document: Document, location: str) -> dict[str, Any] | None:
        """What a sample has beside labels, JSON-ready."""
        labels = {field.name for field in self.fields} | self.own
        found: dict[str, Any] = {}
        for name, value in document.items():
            if name in _OWN_FIELDS or name in labels or name.startswith("_") or value is None:
                continue
            plain = _plain(value)
            if plain is None:
                self.losses.dropped("fields", f"'{name}' has no counterpart", location)
            else:
                found[name] = plain
        return found | _details(document.get("details")) or None


def _shape(label: Document, family: Family, size: Size) -> Shape:
    if family == "classifications":
        return WHOLE_IMAGE
    if label.get("mask_path") and not label.get("mask"):
        mask = _pixels(label)
        label = label | {"mask": pack_array(mask > 0) if mask is not None else None}
    rotated = "rotation" in label and family == "polylines"
    before = {"type": "rotated_box", "area": None} if rotated else None
    columns = to_shape(label, family, size, before)
    if columns["rle"]:
        return Shape(bbox=columns["bbox"], rle=(columns["rle"], columns["rle_size"]))
    if columns["keypoints"]:
        return Shape(bbox=columns["bbox"], keypoints=columns["keypoints"])
    if columns["rotated_box"]:
        return Shape(bbox=columns["bbox"], rotated_box=columns["rotated_box"])
    if columns["polygons"]:
        return Shape(bbox=columns["bbox"], polygons=columns["polygons"], is_open=columns["type"] == "polyline")
    return Shape(bbox=columns["bbox"])


def _pixels(label: Document) -> Any:
    """The mask of a label, from the database or from its file; None where there is none."""
    if label.get("mask"):
        return unpack_array(label["mask"])
    if label.get("mask_path"):
        return load_labels(label["mask_path"]).values
    return None


def _label_fields(source: Target, options: ReadOptions) -> list[_Field]:
    """The fields of labels, with the layers that they become."""
    said = source.dataset.info.get(LAYERS)
    said = said if isinstance(said, dict) else {}
    state = source.state()
    if state is not None:
        said = {name: layer for name, (layer, _) in state.layout.fields.items()}
    fields = []
    for name, field in source.dataset.get_field_schema().items():
        kind = getattr(getattr(field, "document_type", None), "__name__", "")
        module = getattr(getattr(field, "document_type", None), "__module__", "")
        if module == "fiftyone.core.labels":
            path = f"{name}.{_LISTS[kind][1]}.confidence" if kind in _LISTS else f"{name}.confidence"
            predicted = source.samples.find_one({path: {"$type": "number"}}, {"_id": 1}) is not None
            layer = f"{PREDICTIONS}{name.removeprefix('predictions_')}" if predicted else options.layer
            layer = options.layer if options.layer != GROUND_TRUTH else layer
            fields.append(_Field(name, kind, str(said.get(name, layer))))
    return fields


def _own_fields(source: Target) -> frozenset[str]:
    """Fields of findings and of what they are shown by, where curate made the dataset for its App; else none."""
    state = source.state()
    if state is None:
        return frozenset()
    there = source.dataset.get_field_schema().keys()
    return frozenset(name for name in there if name in OF_FINDINGS or name in {vectors_of(run) for run in state.runs})


def _classes(source: Target) -> list[ClassInfo]:
    """The classes that the dataset lists, in order; those of skeletons with their points."""
    said = source.dataset.info.get(CLASSES)
    if isinstance(said, list):
        return classes_from_json(said)
    listed = [*(source.dataset.default_classes or ()), *(n for names in source.dataset.classes.values() for n in names)]
    return [ClassInfo(str(name)) for name in dict.fromkeys(listed)]


def _root(source: Target) -> str:
    """The folder that all files lie in: locations are relative to it."""
    folders = {os.path.dirname(path) for path in source.samples.distinct("filepath", {"_media_type": "image"})}  # noqa: PTH120
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # on several drives
        return ""


def _size(path: Path, document: Document) -> tuple[Size | None, bool]:
    """Width and height of an image as it is seen, and whether its file is there."""
    try:
        header = read_header(path)
        return (header.width, header.height), True
    except (OSError, ImageError):
        metadata = document.get("metadata") or {}
        width, height = metadata.get("width"), metadata.get("height")
        return ((int(width), int(height)) if width and height else None), path.is_file()


def _details(value: Any) -> dict[str, Any]:
    """An image's metadata, as an export of ours wrote it."""
    try:
        details = json.loads(value) if isinstance(value, str) else {}
    except ValueError:
        details = value
    return details if isinstance(details, dict) else {"details": details}


def _old_attributes(label: Document) -> dict[str, Any]:
    """Attributes in the way of FiftyOne's first versions."""
    attributes = label.get("attributes")
    found = attributes.items() if isinstance(attributes, dict) else ()
    return {str(name): _plain(value.get("value")) for name, value in found if isinstance(value, dict)}


def _group(document: Document) -> str | None:
    """The group of a grouped dataset's sample."""
    for value in document.values():
        if isinstance(value, dict) and value.get("_cls") == "Group":
            return str(value.get("_id"))
    return None


def _plain(value: Any) -> Any:
    """A value as JSON has it; None where JSON has no such thing."""
    if isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        inner = {key: _plain(each) for key, each in value.items() if key not in {"_cls", "_id"}}
        return {key: each for key, each in inner.items() if each is not None}
    return None


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
