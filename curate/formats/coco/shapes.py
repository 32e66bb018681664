"""The geometry of COCO annotations as arrays: boxes, polygons, run-length masks and keypoints of many objects at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import msgspec
import numpy as np
import pyarrow as pa

from curate.dataset.schema import ANNOTATIONS
from curate.formats.coco.fields import column
from curate.formats.coco.objects import AnnotationObject, Annotations
from curate.formats.columns import BROKEN_MASK, Flags, Floats, Ints, fixed_lists, offsets
from curate.formats.losses import LossReport
from curate.formats.shape_columns import MOST_PIXELS, problem_of_mask
from curate.geometry import (
    boxes_around,
    orient_boxes,
    orient_points,
    orient_rle,
    rle_boxes,
    rle_from_counts,
    valid_rles,
)

_EMPTY = frozenset({b"", b"[]"})


@dataclass(frozen=True)
class Shapes:
    """Geometry of n annotations.

    Attributes:
        boxes: [x, y, width, height], NaN where there is none; shape (n, 4).
        parts: How many polygons each annotation has; shape (n,).
        lengths: How many numbers each polygon has, one polygon after the other.
        values: x and y of all polygons, one after the other; shape (sum of lengths,).
        mask_rows: Which annotations have a mask, increasing; shape (k,).
        counts: Compressed run lengths of each mask; length k.
        sizes: [height, width] of each mask; shape (k, 2).
        keypoints: [x, y, visibility] triples, flattened, of the annotations (by row) that have some.
        broken: Whether an annotation had a geometry that could not be read; shape (n,).
    """

    boxes: Floats
    parts: Ints
    lengths: Ints
    values: Floats
    mask_rows: Ints
    counts: list[str]
    sizes: Ints
    keypoints: dict[int, list[float]]
    broken: Flags

    def type_codes(self) -> Ints:
        """The most specific geometry of each annotation, as a place in `curate.formats.coco.annotations.TYPES`; shape (n,)."""
        codes = (~np.isnan(self.boxes[:, 0])).astype(np.int64)
        codes[self.parts > 0] = 2
        codes[self.mask_rows] = 3
        # Keypoints of which none is labelled say nothing: the person is then chiefly a mask or a box.
        codes[[row for row, points in self.keypoints.items() if any(points[2::3])]] = 4
        return codes

    def outlined(self) -> Flags:
        """Which annotations have polygons or a mask; shape (n,)."""
        outlined: Flags = self.parts > 0
        outlined[self.mask_rows] = True
        return outlined

    def columns(self) -> dict[str, pa.Array]:
        """The columns bbox, polygons, rle, rle_size and keypoints of an annotations table."""
        count = len(self.boxes)
        missing = np.isnan(self.boxes[:, 0])
        columns = {"bbox": fixed_lists(self.boxes, missing)}
        if self.parts.any():
            inner = pa.ListArray.from_arrays(offsets(self.lengths), pa.array(self.values))
            columns["polygons"] = pa.ListArray.from_arrays(offsets(self.parts), inner, mask=pa.array(self.parts == 0))
        if self.counts:
            place = np.full(count, -1, dtype=np.int64)
            place[self.mask_rows] = np.arange(len(self.counts))
            take = pa.array(place, mask=place < 0)
            columns["rle"] = pa.array(self.counts, pa.string()).take(take)
            columns["rle_size"] = pa.array(self.sizes.tolist(), ANNOTATIONS.field("rle_size").type).take(take)
        if self.keypoints:
            points = [self.keypoints.get(row) for row in range(count)]
            columns["keypoints"] = pa.array(points, ANNOTATIONS.field("keypoints").type)
        return columns


def read_shapes(annotations: Annotations, place: Callable[[AnnotationObject], str], losses: LossReport) -> Shapes:
    """Parse the geometry of n annotations.

    Args:
        annotations: As `decode_annotations` gives them.
        place: Says where an annotation is.
        losses: Gets what cannot be read.
    """
    items = annotations.items
    broken = np.zeros(len(items), dtype=np.bool_)
    listed = column(items, "keypoints")
    keypoints = {row: points for row, points in enumerate(listed) if points} if any(listed) else {}
    for row in [row for row, points in keypoints.items() if len(points) % 3]:
        losses.dropped("keypoints", "not triples of x, y and visibility", place(items[row]))
        del keypoints[row]
        broken[row] = True
    written = list(map(bytes, column(items, "segmentation")))
    texts = {} if _EMPTY.issuperset(written) else {row: text for row, text in enumerate(written) if text not in _EMPTY}
    polygons: dict[int, bytes] = {}
    masks: dict[int, bytes] = {}
    for row, text in texts.items():
        if text[:1] == b"[":
            polygons[row] = text
        elif text[:1] == b"{":
            masks[row] = text
        elif text != b"null":
            losses.dropped("segmentations", "neither polygons nor run lengths", place(items[row]))
            broken[row] = True

    def lose(row: int, reason: str) -> None:
        losses.dropped("segmentations", reason, place(items[row]))
        broken[row] = True

    parts, lengths, values = _read_polygons(polygons, len(items), lose)
    mask_rows, counts, sizes = _read_masks(masks, lose)
    return Shapes(annotations.boxes, parts, lengths, values, mask_rows, counts, sizes, keypoints, broken)


def orient_shapes(shapes: Shapes, rows: Ints, stored: Mapping[int, tuple[int, int, int]]) -> Shapes:
    """Turn what was labelled on images as they are stored to the images' EXIF orientation.

    Args:
        shapes: Geometry of n annotations.
        rows: Image of each; shape (n,).
        stored: Stored width and height, and orientation, of the images it concerns.
    """
    if not stored:
        return shapes
    none = (0, 0, 1)
    width, height, orientation = (
        np.array([stored.get(row, none) for row in rows.tolist()], dtype=np.int64).reshape(-1, 3).T
    )
    of_part = np.repeat(np.arange(len(rows)), shapes.parts)
    of_point = np.repeat(of_part, shapes.lengths // 2)
    values = orient_points(shapes.values, orientation[of_point], width[of_point], height[of_point]).ravel()
    counts, sizes, keypoints = list(shapes.counts), shapes.sizes.copy(), dict(shapes.keypoints)
    for number, row in enumerate(shapes.mask_rows.tolist()):
        if orientation[row] != 1:
            counts[number], sizes[number] = orient_rle(counts[number], sizes[number].tolist(), int(orientation[row]))
    for row, points in shapes.keypoints.items():
        if orientation[row] != 1:
            triples = np.array(points).reshape(-1, 3)
            labelled = triples[:, 2] > 0  # the others are written as 0, 0, which is no place
            turned = orient_points(triples[labelled, :2], orientation[row], width[row], height[row])
            triples[labelled, :2] = turned
            keypoints[row] = triples.ravel().tolist()
    boxes = orient_boxes(shapes.boxes, orientation, width, height)
    return replace(shapes, boxes=boxes, values=values, counts=counts, sizes=sizes, keypoints=keypoints)


def with_boxes(shapes: Shapes) -> Shapes:
    """Give annotations without a box the smallest one around their mask, polygons or labelled keypoints."""
    boxes = shapes.boxes.copy()
    missing = np.isnan(boxes[:, 0])
    if not missing.any():
        return shapes
    for row, points in shapes.keypoints.items():
        if missing[row] and any(points[2::3]):
            triples = np.array(points).reshape(-1, 3)
            boxes[row] = boxes_around(triples[triples[:, 2] > 0, :2], [0])[0]
    with_polygons = np.flatnonzero(missing & (shapes.parts > 0))
    first_part = np.cumsum(shapes.parts) - shapes.parts
    first_point = (np.cumsum(shapes.lengths) - shapes.lengths) // 2
    if len(with_polygons):
        every = np.flatnonzero(shapes.parts > 0)
        around = np.full_like(boxes, np.nan)
        around[every] = boxes_around(shapes.values, first_point[first_part[every]])
        boxes[with_polygons] = around[with_polygons]
    masked = missing[shapes.mask_rows]
    if masked.any():
        chosen = [text for text, use in zip(shapes.counts, masked.tolist(), strict=True) if use]
        boxes[shapes.mask_rows[masked]] = rle_boxes(chosen, shapes.sizes[masked])
    return replace(shapes, boxes=boxes)


class _RunLengths(msgspec.Struct, gc=False):
    counts: str | list[int]
    size: tuple[int, int]


def _read_polygons(texts: dict[int, bytes], count: int, lose: Callable[[int, str], None]) -> tuple[Ints, Ints, Floats]:
    """Number of parts of each of `count` annotations, length of each part, and all coordinates."""
    parsed: dict[int, list[list[float]]] = {}
    try:
        lists = msgspec.json.decode(b"[" + b",".join(texts.values()) + b"]", type=list[list[list[float]]])
        parsed = dict(zip(texts, lists, strict=True))
    except msgspec.DecodeError:
        for row, text in texts.items():
            try:
                parsed[row] = msgspec.json.decode(text, type=list[list[float]])
            except msgspec.DecodeError:
                lose(row, "polygons are not lists of finite numbers")
    lengths = _lengths(parsed)
    if (lengths % 2).any() or not lengths.all():
        for row, parts in parsed.items():
            parsed[row] = [part for part in parts if part and len(part) % 2 == 0]
            if any(len(part) % 2 for part in parts):
                lose(row, "a polygon has an odd number of coordinates")
        lengths = _lengths(parsed)
    number = np.zeros(count, dtype=np.int64)
    number[list(parsed)] = [len(parts) for parts in parsed.values()]
    values = chain.from_iterable(chain.from_iterable(parsed.values()))
    return number, lengths, np.fromiter(values, np.float64, int(lengths.sum()))


def _lengths(polygons: Mapping[int, list[list[float]]]) -> Ints:
    return np.fromiter(map(len, chain.from_iterable(polygons.values())), np.int64)


def _read_masks(texts: dict[int, bytes], lose: Callable[[int, str], None]) -> tuple[Ints, list[str], Ints]:
    """Rows of the masks that can be read, their compressed run lengths, and their sizes."""
    parsed: dict[int, tuple[str, tuple[int, int]]] = {}
    for row, text in texts.items():
        try:
            mask = msgspec.json.decode(text, type=_RunLengths)
        except msgspec.DecodeError:
            lose(row, "run lengths without valid 'counts' and 'size'")
            continue
        runs, (height, width) = mask.counts, mask.size
        if min(height, width) < 1 or height * width >= MOST_PIXELS:
            lose(row, problem_of_mask(mask.size))
        elif isinstance(runs, str):
            parsed[row] = (runs, mask.size)
        elif sum(runs) == height * width and min(runs) >= 0:
            parsed[row] = (rle_from_counts(runs, mask.size), mask.size)
        else:
            lose(row, BROKEN_MASK)
    counts = [runs for runs, _ in parsed.values()]
    sizes = np.array([size for _, size in parsed.values()], dtype=np.int64).reshape(-1, 2)
    rows = np.array(list(parsed), dtype=np.int64)
    valid = valid_rles(counts, sizes)
    for row in rows[~valid].tolist():
        lose(row, BROKEN_MASK)
    return rows[valid], [runs for runs, use in zip(counts, valid.tolist(), strict=True) if use], sizes[valid]
