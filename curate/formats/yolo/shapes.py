"""Coordinates of label lines in pixels: boxes, corners, outlines and keypoints of many lines at once."""

from __future__ import annotations

import numpy as np

from curate.formats.columns import Floats, Ints, ragged_indices
from curate.formats.yolo.labels import Lines
from curate.geometry import boxes_around


def centred_boxes(lines: Lines, rows: Ints, sizes: Ints) -> Floats:
    """[centre x, centre y, width, height] as parts of the image -> boxes in pixels, shape (rows, 4)."""
    values: Floats = lines.values[lines.start[rows][:, None] + np.arange(4)] * np.tile(sizes[lines.image[rows]], 2)
    values[:, :2] -= values[:, 2:] / 2
    return values


def corners(lines: Lines, rows: Ints, sizes: Ints) -> Floats:
    """Four corners in pixels, shape (rows, 8)."""
    corners: Floats = lines.values[lines.start[rows][:, None] + np.arange(8)] * np.tile(sizes[lines.image[rows]], 4)
    return corners


def outlines(lines: Lines, rows: Ints, sizes: Ints) -> tuple[Floats, Floats]:
    """Boxes round polygons, shape (rows, 4), and the polygons' coordinates in pixels, one after another."""
    length = lines.length[rows]
    points = lines.values[ragged_indices(lines.start[rows], length)].reshape(-1, 2)
    points = points * sizes[np.repeat(lines.image[rows], length // 2)]
    starts = (np.cumsum(length) - length) // 2
    return boxes_around(points, starts), points.ravel()


def keypoints(lines: Lines, rows: Ints, sizes: Ints, shape: tuple[int, int] | None) -> Floats:
    """[x, y, visibility] of each keypoint, shape (rows, keypoints, 3); without a third number, (0, 0) is not labelled."""
    count, numbers = shape or (0, 3)
    values = lines.values[lines.start[rows][:, None] + 4 + np.arange(count * numbers)].reshape(
        len(rows), count, numbers
    )
    points = np.zeros((len(rows), count, 3))
    points[..., :2] = values[..., :2] * sizes[lines.image[rows]][:, None, :]
    points[..., 2] = values[..., 2] if numbers == 3 else np.where((values != 0).any(axis=2), 2.0, 0.0)
    return points
