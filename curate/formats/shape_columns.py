"""One labelled thing's geometry, and many of them as the geometry columns of an annotations table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.dataset.schema import ANNOTATIONS
from curate.formats.columns import BROKEN_MASK, Floats, Ints, fixed_lists
from curate.geometry import boxes_around, rle_boxes, rotated_box_corners, valid_rles


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a labelled thing is; everything in pixels, and None where it has no such geometry. All None: the whole image.

    Attributes:
        bbox: [x, y, width, height]; taken from the other geometry where None.
        rotated_box: [centre x, centre y, width, height, degrees clockwise].
        polygons: [x0, y0, x1, y1, ...] of each part.
        is_open: Whether the one polygon is a polyline.
        rle: COCO compressed run lengths (`curate.geometry.encode_rle`) and [height, width].
        keypoints: [x, y, visibility] triples, flattened.
    """

    bbox: Sequence[float] | None = None
    rotated_box: Sequence[float] | None = None
    polygons: Sequence[Sequence[float]] | None = None
    is_open: bool = False
    rle: tuple[str, Sequence[int]] | None = None
    keypoints: Sequence[float] | None = None


WHOLE_IMAGE: Final = Shape()

MOST_PIXELS: Final = 2**32
"""Masks have fewer: run lengths of more cannot be computed with."""

LARGE_MASK: Final = "a mask of 2^32 pixels or more"
"""Why a mask is dropped that is larger."""


def problem_of(shape: Shape) -> str | None:
    """Why a shape cannot be kept: in words for the loss report, None where it can be. Impossible boxes can be."""
    if shape.bbox is not None and len(shape.bbox) != 4:
        return "without four numbers for a box"
    if shape.rotated_box is not None and len(shape.rotated_box) != 5:
        return "without five numbers for a rotated box"
    for numbers in (shape.bbox, shape.rotated_box, shape.keypoints, *(shape.polygons or ())):
        # A sum is finite only if every number is, but may not be where all are: it overflows.
        if numbers is not None and not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
            return "coordinates that are not finite numbers"
    if shape.polygons is not None:
        fewest = 4 if shape.is_open else 6
        if not shape.polygons or any(len(part) < fewest or len(part) % 2 for part in shape.polygons):
            return "an outline of too few points"
    if shape.keypoints is not None and (len(shape.keypoints) % 3 or not shape.keypoints):
        return "keypoints that are not triples of x, y and visibility"
    if shape.rle is not None and not valid_rles([shape.rle[0]], [shape.rle[1]])[0]:
        return problem_of_mask(shape.rle[1])
    return None


def problem_of_mask(size: Any) -> str:
    """Why a mask that is of no use is of none: [height, width], as the source has it, may be the reason."""
    sides = [side for side in size if type(side) is int] if isinstance(size, list | tuple) else []
    return LARGE_MASK if len(sides) == 2 and min(sides) > 0 and math.prod(sides) >= MOST_PIXELS else BROKEN_MASK


def shape_columns(shapes: Sequence[Shape]) -> dict[str, Any]:
    """The columns type, bbox, rotated_box, polygons, rle, rle_size and keypoints of n shapes without a problem.

    A shape without a box gets the smallest one around its rotated box, polygons, mask or labelled keypoints, the first
    of these that it has.
    """
    boxes = np.full((len(shapes), 4), np.nan)
    missing: dict[Callable[[list[Any]], Floats], list[int]] = {}
    for row, shape in enumerate(shapes):
        if shape.bbox is not None:
            boxes[row] = shape.bbox
        elif (around := _around(shape)) is not None:
            missing.setdefault(around, []).append(row)
    for around, rows in missing.items():
        boxes[rows] = around([shapes[row] for row in rows])
    rotated = np.array([shape.rotated_box or [0.0] * 5 for shape in shapes], dtype=np.float64).reshape(-1, 5)
    return {
        "type": [_type(shape) for shape in shapes],
        "bbox": fixed_lists(boxes, np.isnan(boxes[:, 0])),
        "rotated_box": fixed_lists(rotated, np.array([shape.rotated_box is None for shape in shapes], dtype=np.bool_)),
        "polygons": pa.array([shape.polygons for shape in shapes], ANNOTATIONS.field("polygons").type),
        "rle": [shape.rle and shape.rle[0] for shape in shapes],
        "rle_size": [shape.rle and list(shape.rle[1]) for shape in shapes],
        "keypoints": pa.array([shape.keypoints for shape in shapes], ANNOTATIONS.field("keypoints").type),
    }


def _type(shape: Shape) -> str:
    """The most specific geometry, as `curate.dataset.schema.AnnotationType` says."""
    if shape.keypoints is not None and any(shape.keypoints[2::3]):
        return "keypoints"
    if shape.rle is not None:
        return "mask"
    if shape.polygons is not None:
        return "polyline" if shape.is_open else "polygon"
    if shape.rotated_box is not None:
        return "rotated_box"
    if shape.bbox is not None:
        return "box"
    return "label" if shape.keypoints is None else "keypoints"


def _around(shape: Shape) -> Callable[[list[Shape]], Floats] | None:
    """What gives the boxes around shapes like this one."""
    if shape.rotated_box is not None:
        return _around_rotated
    if shape.polygons is not None:
        return _around_polygons
    if shape.rle is not None:
        return _around_masks
    if shape.keypoints is not None and any(shape.keypoints[2::3]):
        return _around_keypoints
    return None


def _around_rotated(shapes: list[Shape]) -> Floats:
    corners = rotated_box_corners([shape.rotated_box for shape in shapes if shape.rotated_box is not None])
    return boxes_around(corners.reshape(-1, 2), np.arange(len(shapes)) * 4)


def _around_polygons(shapes: list[Shape]) -> Floats:
    values = [list(chain.from_iterable(shape.polygons or ())) for shape in shapes]
    return boxes_around(
        np.fromiter(chain.from_iterable(values), np.float64), _starts([len(each) for each in values]) // 2
    )


def _around_masks(shapes: list[Shape]) -> Floats:
    masks = [shape.rle for shape in shapes if shape.rle is not None]
    return rle_boxes([counts for counts, _ in masks], np.array([size for _, size in masks], dtype=np.int64))


def _around_keypoints(shapes: list[Shape]) -> Floats:
    triples = [np.array(shape.keypoints, dtype=np.float64).reshape(-1, 3) for shape in shapes]
    points = [each[each[:, 2] > 0, :2] for each in triples]
    return boxes_around(np.concatenate(points), _starts([len(each) for each in points]))


def _starts(lengths: Sequence[int]) -> Ints:
    starts: Ints = np.cumsum([0, *lengths[:-1]], dtype=np.int64)
    return starts
