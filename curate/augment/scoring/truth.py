"""What is really on an image, at the size at which a model is given it, and where it goes when the image is warped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from curate.checks.boxes import BoolArray, FloatArray, IntArray
from curate.geometry import polygons_to_rle, rle_areas, rle_boxes, valid_rles
from curate.models.predictors.base import Size
from curate.models.predictors.masks import scale_rle
from curate.models.training.base import Example
from curate.recipes.shapes import Shape


@dataclass(frozen=True)
class Truth:
    """The k things on one image.

    Attributes:
        size: (height, width) that all else refers to.
        labels: Their classes, or the image's own one; int64 of shape (k,).
        boxes: [x, y, width, height]; float64 of shape (k, 4); of shape (0, 4) where only the image has a label.
        crowd: Which stand for many; bool of shape (k,).
        rles: COCO compressed run lengths of each one's pixels; None where boxes are all that is known.
    """

    size: Size
    labels: IntArray
    boxes: FloatArray
    crowd: BoolArray
    rles: tuple[str, ...] | None = None

    def shapes(self) -> list[Shape]:
        """The things as pipelines move them."""
        if self.rles is None:
            return [Shape("box", bbox=box) for box in self.boxes.tolist()]
        return [Shape("mask", bbox=box, rle=rle) for box, rle in zip(self.boxes.tolist(), self.rles, strict=True)]

    def moved(self, shapes: Sequence[Shape | None], size: Size) -> Truth:
        """The same things where a pipeline has moved them; None stands for one that has left the image."""
        kept = [row for row, shape in enumerate(shapes) if shape is not None]
        there = [shape for shape in shapes if shape is not None]
        boxes = np.array([shape.bbox for shape in there], dtype=np.float64).reshape(-1, 4)
        rles = None if self.rles is None else tuple(str(shape.rle) for shape in there)
        return Truth(size, self.labels[kept], boxes, self.crowd[kept], rles)

    def to_text(self) -> str:
        """JSON, for `from_text`."""
        values = {"size": self.size, "labels": self.labels.tolist(), "boxes": self.boxes.tolist()}
        return msgspec.json.encode({**values, "crowd": self.crowd.tolist(), "rles": self.rles}).decode()

    @classmethod
    def from_text(cls, text: str) -> Truth:
        """What `to_text` wrote."""
        values: Mapping[str, Any] = msgspec.json.decode(text)
        rles = values["rles"]
        return cls(
            (values["size"][0], values["size"][1]),
            np.array(values["labels"], dtype=np.int64),
            np.array(values["boxes"], dtype=np.float64).reshape(-1, 4),
            np.array(values["crowd"], dtype=np.bool_),
            None if rles is None else tuple(rles),
        )


def truth_of(example: Example, full: Size, size: Size, codes: IntArray) -> Truth:
    """What is on an image, at another size.

    Args:
        example: What is known of it, at its full size.
        full: (height, width) of the image file.
        size: (height, width) that is wanted.
        codes: New number of each class in the example.
    """
    if example.label is not None:
        return Truth(size, codes[[example.label]], np.zeros((0, 4)), np.zeros(1, np.bool_))
    count = 0 if example.labels is None else len(example.labels)
    labels = codes[example.labels] if example.labels is not None else np.zeros(0, np.int64)
    crowd = np.zeros(count, np.bool_) if example.crowd is None else example.crowd
    scale = np.array([size[1] / full[1], size[0] / full[0]])
    if example.regions is None:
        boxes = np.zeros((0, 4)) if example.boxes is None else example.boxes
        return Truth(size, labels, boxes * np.tile(scale, 2), crowd)
    drawn = [_draw(region, full, size, scale) for region in example.regions]
    kept = np.array([rle is not None for rle in drawn], dtype=np.bool_)
    rles = tuple(rle for rle in drawn if rle is not None)
    return Truth(size, labels[kept], boxes_of(rles, size), crowd[kept], rles)


def digest_of(examples: Iterable[Example]) -> str:
    """Changes when one of the images is another, or something else is labelled on it; 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    for each in examples:
        arrays = [None if array is None else array.tolist() for array in (each.boxes, each.labels, each.crowd)]
        found.update(f"{each.image_id} {each.size} {each.label} {arrays} {each.regions}".encode())
    return found.hexdigest()


def boxes_of(rles: Sequence[str], size: Size) -> FloatArray:
    """The smallest boxes around n masks of one size; float64 of shape (n, 4)."""
    return rle_boxes(rles, np.tile(size, (len(rles), 1))) if rles else np.zeros((0, 4))


def _draw(region: Any, full: Size, size: Size, scale: FloatArray) -> str | None:
    """Run lengths of a region, given as polygons or run lengths, at a size; None if it is broken or nothing is left of it."""
    if isinstance(region, Mapping):
        given = (int(region["size"][0]), int(region["size"][1]))
        if given != tuple(full) or not valid_rles([region["counts"]], [given])[0]:
            return None
        rle = scale_rle(region["counts"], given, size)
    else:
        parts = [(np.reshape(part, (-1, 2)) * scale).ravel().tolist() for part in region]
        rle = polygons_to_rle(parts, *size)
    return rle if rle_areas([rle], [size])[0] > 0 else None
