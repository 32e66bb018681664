"""Writing Pascal VOC: Annotations/, JPEGImages/ and ImageSets/Main/; see `curate.formats.voc` for what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from curate.formats.base import Export, WriteOptions
from curate.formats.batches import annotations_by_image
from curate.formats.columns import report_unsaid, report_unsaid_classes
from curate.formats.files import place_images
from curate.formats.locations import file_name, report_splits, stem, strip_layout, unique_names
from curate.formats.losses import LossReport
from curate.formats.trees import xml_text
from curate.formats.values import mapping
from curate.formats.voc.images import CLASS_LIST, split_of_set
from curate.formats.voc.paint import MaskPainter

PLAIN_FLAGS: Final = ("truncated", "occluded", "difficult")
"""Attributes that VOC writes as 0 or 1."""

_DECIMALS: Final = 6
_CHALLENGE: Final = re.compile(r"\bVOC ?20\d\d\b|visual object classes", re.IGNORECASE)
_HELD: Final = ("metadata", "rotated_box", "polygons", "rle", "score", "attributes")
_COLUMNS: Final = (
    "image_id", "type", "label", "bbox", "rotated_box", "polygons", "rle", "rle_size", "score", "attributes",
)  # fmt: skip


def counts_from_one(database: str) -> bool:
    """Whether a file is the challenge's own, whose pixels count from 1 with both corners inside."""
    return _CHALLENGE.search(database) is not None


def write(export: Export, target: Path, options: WriteOptions, losses: LossReport) -> None:
    """Write a dataset: corners to a millionth of a pixel, whole numbers as such; masks as SegmentationClass and -Object.

    Args:
        export: What to write.
        target: An empty folder.
        options: Whether images are copied.
        losses: Keypoints, ids, polygons of several parts, and what masks hide of each other.
    """
    images = export.images
    splits = images["split"].to_pylist()
    stripped = [strip_layout(*pair) for pair in zip(images["location"].to_pylist(), splits, strict=True)]
    places = unique_names(stripped, losses, by_stem=True)
    painter = MaskPainter(target, [info.name for info in export.classes], losses)
    written = 0
    segmented: list[int] = []
    annotations = export.annotations.select(_COLUMNS)
    for batch in annotations_by_image(images, annotations, range(images.num_rows)):
        for row, found in batch:
            image = images.slice(row, 1).select(["location", "width", "height", "metadata"]).to_pylist()[0]
            kept = [each for each in found if _can_hold(each, image["location"], losses)]
            is_segmented = painter.paint(stem(places[row]), image, kept)
            segmented += [row] if is_segmented else []
            path = target / "Annotations" / f"{stem(places[row])}.xml"
            _write_file(path, places[row], image, kept, is_segmented, losses)
            written += len(kept)
    _write_sets(target / "ImageSets" / "Main", places, splits)
    report_splits(splits, lambda split: split_of_set(_set_name(split)), losses)
    if segmented:
        painter.write_classes()
        chosen = [places[row] for row in segmented], [splits[row] for row in segmented]
        _write_sets(target / "ImageSets" / "Segmentation", *chosen)
    pairs = zip(images["path"].to_pylist(), (target / "JPEGImages" / place for place in places), strict=True)
    place_images(pairs, options.images, losses)
    report_unsaid(images, export.annotations, "VOC", losses, holds=_HELD)
    report_unsaid_classes(export.classes, "VOC", losses, holds=())
    losses.carried("images", images.num_rows)
    losses.carried("annotations", written)


def _can_hold(annotation: Mapping[str, Any], place: str, losses: LossReport) -> bool:
    if annotation["bbox"] is None:
        losses.dropped("annotations", "labels of the whole image have no place in VOC", place)
    elif annotation["label"] is None:
        losses.dropped("annotations", "without a class", place)
    else:
        return True
    return False


def _write_file(
    path: Path,
    place: str,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    is_segmented: bool,
    losses: LossReport,
) -> None:
    said = json.loads(image["metadata"] or "{}")
    voc = mapping(said.pop("voc", None))
    if said:
        losses.dropped("image metadata", "VOC has no place for it", place)
    database = str(voc.get("database", "Unknown"))
    root = Element("annotation", {"verified": "yes"} if voc.get("verified") else {})
    _text(root, "folder", "JPEGImages")
    _text(root, "filename", place)
    _text(SubElement(root, "source"), "database", database)
    size = SubElement(root, "size")
    for tag, value in (("width", image["width"] or 0), ("height", image["height"] or 0), ("depth", 3)):
        _text(size, tag, str(value))
    _text(root, "segmented", str(int(is_segmented)))
    for annotation in annotations:
        _add_object(root, annotation, counts_from_one(database), place, losses)
    indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add_object(root: Element, annotation: Mapping[str, Any], from_one: bool, place: str, losses: LossReport) -> None:
    element = SubElement(root, "object")
    label = _text(element, "name", annotation["label"])
    if label != annotation["label"]:
        losses.converted("classes", "characters that XML cannot hold were replaced", place)
    attributes = json.loads(annotation["attributes"] or "{}")
    _add_flags(element, attributes)
    _add_box(element, annotation["bbox"], from_one)
    if annotation["score"] is not None:
        _text(element, "confidence", repr(annotation["score"]))
    if annotation["rotated_box"] is not None:
        rotated = SubElement(element, "robndbox")
        *sides, degrees = annotation["rotated_box"]
        for tag, value in zip(("cx", "cy", "w", "h"), sides, strict=True):
            _text(rotated, tag, _decimal(value))
        _text(rotated, "angle", repr(float(np.deg2rad(degrees))))
    if annotation["type"] == "polyline":
        losses.converted("polylines", "only the box is written: VOC has no place for them", place)
    else:
        _add_polygon(element, annotation["polygons"], place, losses)
    _add_attributes(element, attributes, from_one, place, losses)


def _add_flags(element: Element, attributes: dict[str, Any]) -> None:
    _text(element, "pose", str(attributes.pop("pose", "Unspecified")))
    for flag in PLAIN_FLAGS:
        if isinstance(attributes.get(flag), bool):
            _text(element, flag, str(int(attributes.pop(flag))))


def _add_box(element: Element, bbox: Sequence[float], from_one: bool) -> None:
    x, y, width, height = bbox
    shift = 1.0 if from_one else 0.0
    box = SubElement(element, "bndbox")
    for tag, value in (("xmin", x + shift), ("ymin", y + shift), ("xmax", x + width), ("ymax", y + height)):
        _text(box, tag, _decimal(value))


def _add_polygon(element: Element, polygons: list[list[float]] | None, place: str, losses: LossReport) -> None:
    if not polygons:
        return
    if len(polygons) > 1:
        losses.dropped(
            "polygons", "only the first part of several is written; the box is whole", place, len(polygons) - 1
        )
    polygon = SubElement(element, "polygon")
    for number, (x, y) in enumerate(zip(polygons[0][::2], polygons[0][1::2], strict=True), 1):
        _text(polygon, f"x{number}", _decimal(x))
        _text(polygon, f"y{number}", _decimal(y))


def _add_attributes(
    element: Element, attributes: dict[str, Any], from_one: bool, place: str, losses: LossReport
) -> None:
    for part in attributes.pop("parts", ()):
        child = SubElement(element, "part")
        _text(child, "name", str(part["name"]))
        if part["bbox"] is not None:
            _add_box(child, part["bbox"], from_one)
    actions = attributes.pop("actions", None)
    if isinstance(actions, dict):
        child = SubElement(element, "actions")
        for name, value in actions.items():
            _text(child, name, str(int(bool(value))))
    if not attributes:
        return
    group = SubElement(element, "attributes")
    for name, value in attributes.items():
        child = SubElement(group, "attribute")
        _text(child, "name", name)
        _text(child, "value", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        if isinstance(value, list | dict) or value is None:
            losses.converted("attributes", "written as JSON text", f"{place}: {name}")


def _write_sets(folder: Path, places: Sequence[str], splits: Sequence[str | None]) -> None:
    folder.mkdir(parents=True)
    by_split: dict[str, list[str]] = {}
    for place, split in zip(places, splits, strict=True):
        if split is not None:
            by_split.setdefault(split, []).append(stem(place))
    for split, names in by_split.items():
        with (folder / f"{_set_name(split)}.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in names)


def _set_name(split: str) -> str:
    """A split as the name of a list: 'dusk_test' would be one of the class 'dusk'."""
    name = file_name(split)
    return "-".join(name.rsplit("_", 1)) if CLASS_LIST.match(name) else name


def _text(parent: Element, tag: str, text: str) -> str:
    """Add an element; returns its text, with what XML cannot hold replaced."""
    child = SubElement(parent, tag)
    child.text = xml_text(text)
    return child.text


def _decimal(value: float) -> str:
    rounded = round(value, _DECIMALS) + 0.0
    return str(int(rounded)) if rounded.is_integer() else repr(rounded)
