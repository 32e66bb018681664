"""What each variant of YOLO says of an annotation: its coordinates in the image, and what is lost on the way.

Ultralytics leaves out all labels of an image if one lies outside of it, so what reaches over the edge is cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.columns import (
    BROKEN_MASK,
    Flags,
    Floats,
    Ints,
    box_values,
    broken_masks,
    ragged_indices,
    report_rows,
)
from curate.formats.losses import LossReport, Outcome
from curate.formats.shapes import join_parts, outline_mask
from curate.geometry import boxes_around, rotated_box_corners

_GEOMETRY: Final = {"rotated_box": "rotated boxes", "polygons": "polygons", "rle": "masks", "keypoints": "keypoints"}
_OUTSIDE: Final = "outside the image"
_CUT: Final = "reaching outside the image: cut at its edge"
_TOLERANCE: Final = 1e-6


@dataclass(frozen=True)
class Objects:
    """The n annotations to be written.

    Attributes:
        table: With the columns of `ANNOTATIONS`; all have a box.
        images: The images they are on.
        image: Row in `images` of each, shape (n,).
        sizes: Width and height of the image that each is on, shape (n, 2).
        losses: Where to tell what is lost.
    """

    table: pa.Table
    images: pa.Table
    image: Ints
    sizes: Ints
    losses: LossReport

    def report(self, outcome: Outcome, what: str, reason: str, rows: Flags) -> None:
        """Tell what happens to some of them."""
        report_rows(outcome, what, reason, self.images, self.image[rows], self.losses)

    def has(self, column: str) -> Flags:
        """Which have a value."""
        return np.asarray(self.table[column].is_valid())

    def is_type(self, kind: str) -> Flags:
        """Which are of a type."""
        return np.asarray(pc.equal(self.table["type"], kind))


@dataclass(frozen=True)
class Drawn:
    """Coordinates of n annotations, one after another, in pixels; those without any are not written.

    Attributes:
        values: Shape (sum of lengths,).
        lengths: How many numbers each has, shape (n,).
        keypoints: How many keypoints each has; the variant 'pose' only.
    """

    values: Floats
    lengths: Ints
    keypoints: int = 0


def best_variant(annotations: pa.Table) -> str:
    """The variant that loses least: outlines before corners before boxes."""
    types = set(pc.unique(annotations["type"]).to_pylist())
    lengths = pc.unique(pc.list_value_length(annotations["keypoints"].drop_null()))
    if "keypoints" in types and types <= {"keypoints", "box"} and len(lengths) == 1:
        return "pose"
    outlined = np.asarray(pc.is_in(annotations["type"], pa.array(["polygon", "mask"])))
    if (outlined & ~_quadrilaterals(annotations)[1]).any():
        return "segment"
    return "obb" if types & {"rotated_box", "polygon"} else "detect"


def draw_shapes(objects: Objects, variant: str) -> Drawn:
    """The coordinates to write, and a report of what they do not say.

    Args:
        objects: What to write.
        variant: 'detect', 'segment', 'obb' or 'pose'.
    """
    boxes, _ = box_values(objects.table["bbox"])
    if variant == "obb":
        return _corners(objects, boxes)
    if variant == "segment":
        return _outlines(_without_broken_masks(objects), boxes)
    if variant == "pose":
        return _poses(objects, boxes)
    _report_geometry(objects, "detect", {})
    boxes, kept = _inside(objects, boxes)
    return Drawn(_centred(boxes)[kept].ravel(), np.where(kept, 4, 0))


def _report_geometry(objects: Objects, variant: str, said: Mapping[str, Flags]) -> None:
    """Tell which geometry is not written; `said` is, for some columns, of which annotations it is."""
    nothing = np.zeros(len(objects.image), dtype=np.bool_)
    is_shaped = np.any([nothing, *said.values()], axis=0)
    is_line = objects.is_type("polyline")
    for column, kind in _GEOMETRY.items():
        lost = objects.has(column) & ~said.get(column, nothing)
        lines = lost & is_line if column == "polygons" else nothing
        for what, rows in ((kind, lost & ~lines), ("polylines", lines)):
            reason = f"YOLO {variant} has no place for them"
            objects.report("converted", what, f"only the box is written: {reason}", rows & ~is_shaped)
            objects.report("dropped", what, reason, rows & is_shaped)


# ----------------------------------------------------------------------------------------------------- boxes and keypoints


def _inside(objects: Objects, boxes: Floats) -> tuple[Floats, Flags]:
    """The parts of boxes that are in the image, and which boxes have one."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    negative: Flags = np.any(boxes[:, 2:] < 0, axis=1)
    outside = ~negative & _is_outside(low, high, objects.sizes)
    objects.report("dropped", "annotations", "a box whose width or height is below 0", negative)
    objects.report("dropped", "annotations", _OUTSIDE, outside)
    kept = ~(negative | outside)
    over = _reach_out(np.stack([low, high], axis=1), objects.sizes)
    objects.report("converted", "boxes", _CUT, kept & over)
    low, high = np.clip(low, 0, objects.sizes), np.clip(high, 0, objects.sizes)
    # The others keep their numbers to the last digit.
    return np.where(over[:, None], np.concatenate([low, high - low], axis=1), boxes), kept


def _reach_out(points: Floats, sizes: Ints) -> Flags:
    """Whether any of each n rows' points, shape (n, points, 2), is outside the image."""
    size = sizes[:, None]
    out: Flags = np.any((points < -_TOLERANCE) | (points > size + _TOLERANCE), axis=(1, 2))
    return out


def _is_outside(low: Floats, high: Floats, sizes: Ints) -> Flags:
    """Whether nothing of what lies between two corners is in the image; what has no width may be on its edge."""
    outside = (high < 0) | (low > sizes) | ((low < high) & ((high <= 0) | (low >= sizes)))
    some: Flags = np.any(outside, axis=1)
    return some


def _centred(boxes: Floats) -> Floats:
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


def _poses(objects: Objects, boxes: Floats) -> Drawn:
    """Boxes with keypoints; an annotation with fewer than the most, or none, gets keypoints that are not labelled."""
    column = objects.table["keypoints"].combine_chunks()
    lengths = np.asarray(pc.list_value_length(column).fill_null(0), dtype=np.int64)
    most = int(lengths.max(initial=0))
    _report_geometry(objects, "pose", {"keypoints": lengths > 0})
    boxes, kept = _inside(objects, boxes)
    padded = "with keypoints that are not labelled: YOLO wants as many of each"
    objects.report("converted", "boxes", padded, kept & (lengths == 0) & (most > 0))
    objects.report("converted", "keypoints", padded, kept & (lengths > 0) & (lengths < most))
    numbers = np.zeros((len(boxes), most))
    numbers[np.arange(most) < lengths[:, None]] = np.asarray(column.flatten(), dtype=np.float64)
    points = numbers.reshape(len(boxes), most // 3, 3)
    each = _reach_out(points[..., :2].reshape(-1, 1, 2), np.repeat(objects.sizes, most // 3, axis=0))
    out = each.reshape(len(boxes), most // 3)
    lost = np.where(kept, (out & (points[..., 2] > 0)).sum(axis=1), 0)
    image = np.repeat(objects.image, lost)
    report_rows("dropped", "single keypoints", _OUTSIDE, objects.images, image, objects.losses)
    points[out] = 0.0
    values = np.concatenate([_centred(boxes), numbers], axis=1)
    return Drawn(values[kept].ravel(), np.where(kept, 4 + most, 0), most // 3)


# ----------------------------------------------------------------------------------------------------- oriented boxes


def _corners(objects: Objects, boxes: Floats) -> Drawn:
    corners = _box_corners(objects.table, boxes)
    four, has_four = _quadrilaterals(objects.table)
    corners[has_four] = four[has_four]
    _report_geometry(objects, "obb", {"rotated_box": objects.has("rotated_box"), "polygons": has_four})
    objects.report("converted", "boxes", "written as a rotated box that is not turned", objects.is_type("box"))
    around = boxes_around(corners.reshape(-1, 2), np.arange(len(corners)) * 4)
    low, high = around[:, :2], around[:, :2] + around[:, 2:]
    outside = _is_outside(low, high, objects.sizes)
    objects.report("dropped", "annotations", _OUTSIDE, outside)
    # Part of a turned box is no turned box: those whose surrounding box passes Ultralytics' check stay as they are.
    centre = (low + high) / 2
    over = (around[:, 2:] > objects.sizes + _TOLERANCE) | (centre < -_TOLERANCE) | (centre > objects.sizes + _TOLERANCE)
    moved = over.any(axis=1) & ~outside
    objects.report("converted", "rotated boxes", "reaching far outside the image: corners moved to its edge", moved)
    corners[moved] = np.clip(corners[moved], 0, np.tile(objects.sizes[moved], 4))
    return Drawn(corners[~outside].ravel(), np.where(outside, 0, 8))


def _box_corners(annotations: pa.Table, boxes: Floats) -> Floats:
    """Corners of rotated boxes, else of boxes, shape (n, 8)."""
    rotated, is_rotated = box_values(annotations["rotated_box"])
    upright = np.concatenate([_centred(boxes), np.zeros((len(boxes), 1))], axis=1)
    corners: Floats = rotated_box_corners(np.where(is_rotated[:, None], rotated, upright)).reshape(-1, 8)
    return corners


def _quadrilaterals(annotations: pa.Table) -> tuple[Floats, Flags]:
    """Corners of the polygons of four points that have a rotated box round them, shape (n, 8), and which rows have them."""
    corners = np.zeros((annotations.num_rows, 8))
    is_single = pc.equal(pc.list_value_length(annotations["polygons"]), 1)
    wanted = pc.and_(is_single, pc.equal(annotations["type"], "polygon"))
    rows = np.flatnonzero(np.asarray(pc.and_(pc.fill_null(wanted, False), annotations["rotated_box"].is_valid())))
    outlines = annotations["polygons"].take(rows).combine_chunks().flatten()
    is_four = pc.equal(pc.list_value_length(outlines), 8)
    rows = rows[np.asarray(is_four)]
    corners[rows] = np.asarray(outlines.filter(is_four).flatten(), dtype=np.float64).reshape(-1, 8)
    has = np.zeros(annotations.num_rows, dtype=np.bool_)
    has[rows] = True
    return corners, has


# ----------------------------------------------------------------------------------------------------------- outlines


def _without_broken_masks(objects: Objects) -> Objects:
    """The annotations with only those masks that can be drawn; of the others the box is written."""
    broken = broken_masks(objects.table)
    objects.report("dropped", "masks", BROKEN_MASK, broken)
    drawn = pc.if_else(pa.array(broken), pa.scalar(None, pa.string()), objects.table["rle"])
    return replace(objects, table=objects.table.set_column(objects.table.column_names.index("rle"), "rle", drawn))


def _outlines(objects: Objects, boxes: Floats) -> Drawn:
    """One polygon for each annotation: its own, its mask's outline, or the corners of its box."""
    polygons = objects.table["polygons"].combine_chunks()
    is_line = objects.is_type("polyline")
    parts = np.asarray(pc.list_value_length(polygons).fill_null(0), dtype=np.int64)
    inner = polygons.flatten()
    part_lengths = np.asarray(pc.list_value_length(inner), dtype=np.int64)
    first_part = np.cumsum(parts) - parts
    pool = [np.asarray(inner.flatten(), dtype=np.float64)]
    starts = np.zeros(len(parts), dtype=np.int64)
    lengths = np.zeros(len(parts), dtype=np.int64)
    single = np.flatnonzero((parts == 1) & ~is_line)
    starts[single] = (np.cumsum(part_lengths) - part_lengths)[first_part[single]]
    lengths[single] = part_lengths[first_part[single]]
    corners = _box_corners(objects.table, boxes)
    of_mask = np.zeros(len(parts), dtype=np.bool_)
    of_box = np.zeros(len(parts), dtype=np.bool_)
    size = len(pool[0])
    for row in np.flatnonzero(lengths < 6).tolist():
        of_mask[row] = parts[row] == 0
        outline = None if is_line[row] else _outline(objects, row, is_mask=bool(of_mask[row]))
        of_box[row] = outline is None
        values = corners[row] if outline is None else np.asarray(outline)
        starts[row], lengths[row] = size, len(values)
        pool.append(values)
        size += len(values)
    said = {
        "rotated_box": objects.has("rotated_box") & of_box,
        "polygons": (parts > 0) & ~of_box,
        "rle": of_mask & ~of_box,
    }
    _report_geometry(objects, "segment", said)
    objects.report("converted", "boxes", "written as a polygon of four points", of_box)
    return _cut(objects, np.concatenate(pool)[ragged_indices(starts, lengths)], lengths)


def _outline(objects: Objects, row: int, *, is_mask: bool) -> list[float] | None:
    """An outline that takes more than copying; None for an annotation that has only its box."""
    place = objects.images["location"][int(objects.image[row])].as_py()
    polygons: list[list[float]] = objects.table["polygons"][row].as_py() or []
    rle = objects.table["rle"][row].as_py()
    if rle is not None and is_mask:
        polygons, has_holes = outline_mask(rle, objects.table["rle_size"][row].as_py())
        objects.losses.converted("masks", "written as their outline", place)
        if has_holes:
            objects.losses.dropped("holes in masks", "YOLO has no place for them", place)
    polygons = [part for part in polygons if len(part) >= 6]
    if len(polygons) > 1:
        objects.losses.converted("polygons", "several parts, joined by bridges of no width", place)
    return join_parts(polygons) if polygons else None


def _cut(objects: Objects, values: Floats, lengths: Ints) -> Drawn:
    """The parts of polygons that are in the image."""
    size = objects.sizes[np.repeat(np.arange(len(lengths)), lengths // 2)]
    points = values.reshape(-1, 2)
    over = _reach_out(points[:, None], size)
    rows = np.unique(np.repeat(np.arange(len(lengths)), lengths // 2)[over])
    first = np.cumsum(lengths) - lengths
    starts, lengths = first.copy(), lengths.copy()
    pool, end = [np.clip(points, 0, size).ravel()], len(values)
    for row in rows.tolist():
        part = _clip(values[first[row] : first[row] + lengths[row]].reshape(-1, 2), objects.sizes[row])
        is_flat = len(part) < 3 or np.ptp(part, axis=0).min() <= 0
        starts[row], lengths[row] = end, 0 if is_flat else part.size
        pool.append(part.ravel())
        end += part.size
    is_cut = np.isin(np.arange(len(lengths)), rows)
    objects.report("dropped", "annotations", _OUTSIDE, is_cut & (lengths == 0))
    objects.report("converted", "polygons", _CUT, is_cut & (lengths > 0))
    return Drawn(np.concatenate(pool)[ragged_indices(starts, lengths)], lengths)


def _clip(points: Floats, size: Ints) -> Floats:
    """A polygon's part in an image, by its four edges one after another (Sutherland and Hodgman 1974)."""
    for axis, bound, sign in ((0, 0, 1), (1, 0, 1), (0, int(size[0]), -1), (1, int(size[1]), -1)):
        distance = sign * (points[:, axis] - bound)
        inside = distance >= 0
        crosses = inside != np.roll(inside, -1)
        step = np.divide(distance, distance - np.roll(distance, -1), out=np.zeros(len(points)), where=crosses)
        crossing = points + step[:, None] * (np.roll(points, -1, axis=0) - points)
        crossing[:, axis] = bound
        points = np.stack([points, crossing], axis=1)[np.stack([inside, crosses], axis=1)]
    return points
