"""Annotations drawn on images as stored, turned to the images' EXIF orientation: whole tables at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curate.formats.columns import Flags, Floats, Ints, box_values, fixed_lists
from curate.formats.shapes import corners_to_rotated_boxes
from curate.formats.sizes import Headers
from curate.geometry import orient_boxes, orient_points, orient_rle, rotated_box_corners


def orient_annotations(annotations: pa.Table, image: Ints, headers: Headers, raw: Flags) -> pa.Table:
    """Turn every geometry of the annotations whose images' coordinates refer to the image as stored.

    Args:
        annotations: n rows with the columns of `curate.dataset.schema.ANNOTATIONS`.
        image: Row of each one's image in `headers` and `raw`, shape (n,).
        headers: What the image files say of their size and orientation.
        raw: Which images' coordinates refer to the image as stored (`curate.formats.sizes.reconcile_sizes`).

    Returns:
        The table in the same order. Annotations of other images are as they were.
    """
    rows = np.flatnonzero(raw[image])
    if not len(rows):
        return annotations
    orientation, width, height = headers.stored(image[rows])
    place = np.full(annotations.num_rows, -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    boxes, has_box = box_values(annotations["bbox"])
    boxes[rows] = orient_boxes(boxes[rows], orientation, width, height)
    rotated, has_rotated = box_values(annotations["rotated_box"])
    _turn_rotated(rotated, rows[has_rotated[rows]], orientation, width, height, place)
    columns = {"bbox": fixed_lists(boxes, ~has_box), "rotated_box": fixed_lists(rotated, ~has_rotated)}
    for name, value in columns.items():
        annotations = _replace(annotations, name, value)
    return _turn_ragged(annotations, rows, orientation, width, height)


def _turn_rotated(rotated: Floats, rows: Ints, orientation: Ints, width: Ints, height: Ints, place: Ints) -> None:
    if not len(rows):
        return
    of_corner = np.repeat(place[rows], 4)
    corners = rotated_box_corners(rotated[rows]).reshape(-1, 2)
    turned = orient_points(corners, orientation[of_corner], width[of_corner], height[of_corner])
    rotated[rows] = corners_to_rotated_boxes(turned.reshape(-1, 8))[0]


def _turn_ragged(annotations: pa.Table, rows: Ints, orientation: Ints, width: Ints, height: Ints) -> pa.Table:
    """Polygons, keypoints and masks: a row at a time, since few images are stored turned."""
    columns = {name: annotations[name].to_pylist() for name in ("polygons", "keypoints", "rle", "rle_size")}
    for row, turn, across, down in zip(rows.tolist(), orientation.tolist(), width, height, strict=True):
        polygons, keypoints, rle = (columns[name][row] for name in ("polygons", "keypoints", "rle"))
        if polygons:
            columns["polygons"][row] = [orient_points(part, turn, across, down).ravel().tolist() for part in polygons]
        if keypoints:
            triples = np.array(keypoints).reshape(-1, 3)
            labelled = triples[:, 2] > 0  # the others are written as 0, 0, which is no place
            triples[labelled, :2] = orient_points(triples[labelled, :2], turn, across, down)
            columns["keypoints"][row] = triples.ravel().tolist()
        if rle is not None:
            columns["rle"][row], columns["rle_size"][row] = orient_rle(rle, columns["rle_size"][row], turn)
    for name, values in columns.items():
        annotations = _replace(annotations, name, pa.array(values, annotations.schema.field(name).type))
    return annotations


def _replace(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, values.cast(field.type))
