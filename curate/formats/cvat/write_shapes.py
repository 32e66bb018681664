"""Annotations as elements of a CVAT file. A shape has one geometry there: the most specific of the annotation's is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from curate.formats.columns import BROKEN_MASK
from curate.formats.cvat.attributes import declared_text, split_attributes
from curate.formats.cvat.shapes import (
    box_element,
    is_shape,
    mask_element,
    outline_element,
    points_element,
    rotated_box_element,
)
from curate.formats.cvat.skeletons import skeleton_element
from curate.formats.losses import LossReport
from curate.formats.shapes import join_parts
from curate.formats.trees import xml_text
from curate.geometry import rle_boxes, valid_rles

COLUMNS: Final = [
    "type",
    "label",
    "bbox",
    "rotated_box",
    "polygons",
    "rle",
    "rle_size",
    "keypoints",
    "score",
    "attributes",
]
"""What of an annotation is written."""

_ONE_GEOMETRY: Final = "a shape has one geometry in CVAT; the most specific is written"
_GEOMETRY: Final = {"rle": "masks", "polygons": "polygons", "rotated_box": "rotated boxes"}
_LESS_SPECIFIC: Final = {
    "keypoints": ("rle", "polygons", "rotated_box"),
    "mask": ("polygons", "rotated_box"),
    "polygon": ("rotated_box",),
    "polyline": ("rotated_box",),
}
_PIXELS: Final = 1.0


@dataclass(frozen=True)
class ShapeWriter:
    """Turns annotations into elements.

    Attributes:
        keypoints: Names of the keypoints of each class that has them.
        losses: Takes what an element cannot say.
    """

    keypoints: Mapping[str, Sequence[str]]
    losses: LossReport

    def element(self, annotation: Mapping[str, Any], attributes: dict[str, Any], place: str) -> Element | None:
        """An annotation's shape without label and attributes; None if it has none that CVAT can hold.

        Args:
            annotation: The values of `COLUMNS`.
            attributes: Its attributes.
            place: For the loss report.
        """
        kind = annotation["type"]
        self._report_other_geometry(annotation, kind, place)
        if kind == "keypoints":
            return self._keypoints(annotation, attributes, place)
        if kind == "mask":
            return self._mask(annotation, place)
        if kind == "polyline":
            return points_element("polyline", annotation["polygons"][0])
        if kind == "polygon":
            parts = annotation["polygons"]
            if len(parts) > 1:
                self.losses.converted("polygons", "parts are joined by bridges of no width", place)
            return outline_element(join_parts(parts), attributes)
        if kind == "rotated_box":
            return rotated_box_element(annotation["rotated_box"])
        return Element("tag") if annotation["bbox"] is None else box_element(annotation["bbox"])

    def label(self, annotation: Mapping[str, Any], place: str) -> str:
        """The text of a class."""
        label = annotation["label"]
        if label is None:
            self.losses.converted("annotations", "without a class, which CVAT does not take", place)
            return ""
        text = xml_text(label)
        if text != label:
            self.losses.converted("classes", "characters that XML cannot hold were replaced", place)
        return text

    def describe(
        self,
        element: Element,
        annotation: Mapping[str, Any],
        attributes: dict[str, Any],
        place: str,
        *,
        skip: Sequence[str] = (),
    ) -> None:
        """Give an element the annotation's attributes.

        Args:
            element: The shape.
            annotation: The values of `COLUMNS`.
            attributes: Its attributes.
            place: For the loss report.
            skip: XML attributes that are said elsewhere.
        """
        own, declared = split_attributes(attributes)
        for name, text in own.items():
            if name not in skip:
                element.set(name, xml_text(text))
        if "source" in element.attrib:
            for part in filter(is_shape, element):  # a skeleton's points have their own
                part.attrib.setdefault("source", element.attrib["source"])
        if annotation["score"] is not None:
            declared = {**declared, "score": annotation["score"]}
        for name, value in declared.items():
            child = SubElement(element, "attribute", {"name": xml_text(name)})
            text = declared_text(value)
            child.text = xml_text(text)
            if child.text != text:
                self.losses.converted("attributes", "characters that XML cannot hold were replaced", f"{place}: {name}")
            if isinstance(value, list | dict) or value is None:
                self.losses.converted("attributes", "written as JSON text", f"{place}: {name}")

    def _keypoints(self, annotation: Mapping[str, Any], attributes: dict[str, Any], place: str) -> Element | None:
        values = annotation["keypoints"]
        names = self.keypoints.get(annotation["label"], ())
        if names and len(values) == 3 * len(names):
            return skeleton_element(values, names, attributes)
        triples = np.array(values, dtype=np.float64).reshape(-1, 3)
        labelled = triples[:, 2] > 0
        hidden = int((triples[:, 2] == 1).sum())
        reason = "points without names have no visibility in CVAT"
        self.losses.dropped("keypoints", "points that are not labelled, without names", place, int((~labelled).sum()))
        self.losses.converted("keypoints", reason, place, hidden)
        if not labelled.any():
            self.losses.dropped("annotations", "keypoints of which none is labelled", place)
            return None
        return points_element("points", triples[labelled, :2].ravel().tolist())

    def _mask(self, annotation: Mapping[str, Any], place: str) -> Element | None:
        counts, size = annotation["rle"], annotation["rle_size"]
        if not valid_rles([counts], [size or [0, 0]])[0]:
            self.losses.dropped("annotations", BROKEN_MASK, place)
            return None
        element = mask_element(counts, size)
        if element is None:
            self.losses.dropped("annotations", "a mask without a pixel", place)
        return element

    def _report_other_geometry(self, annotation: Mapping[str, Any], kind: str, place: str) -> None:
        for column in _LESS_SPECIFIC.get(kind, ()):
            if annotation[column] is not None:
                self.losses.dropped(_GEOMETRY[column], _ONE_GEOMETRY, place)
        if kind != "keypoints" and annotation["keypoints"] is not None:
            self.losses.dropped("keypoints", _ONE_GEOMETRY, place)
        if kind not in {"box", "rotated_box", "label"} and annotation["bbox"] is not None:
            around = _around(annotation, kind)
            if around is not None and np.abs(np.subtract(around, annotation["bbox"])).max() > _PIXELS:
                self.losses.dropped("boxes", "CVAT has the box around a shape, not one of its own", place)


def attributes_of_row(text: str | None) -> dict[str, Any]:
    """An annotation's attributes."""
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _around(annotation: Mapping[str, Any], kind: str) -> Sequence[float] | None:
    """The box around an annotation's most specific geometry."""
    if kind == "mask":
        counts, size = annotation["rle"], annotation["rle_size"]
        box: list[float] = rle_boxes([counts], [size])[0].tolist() if size and valid_rles([counts], [size])[0] else []
        return box or None
    if kind == "keypoints":
        triples = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
        points = triples[triples[:, 2] > 0, :2]
    else:
        points = np.concatenate([np.array(part, dtype=np.float64).reshape(-1, 2) for part in annotation["polygons"]])
    if not len(points):
        return None
    low = points.min(axis=0)
    return [*low.tolist(), *(points.max(axis=0) - low).tolist()]
