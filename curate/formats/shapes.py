"""Shapes as the file formats draw them: corners of rotated boxes, outlines of masks, polygons of several parts.

Everything is in pixels; a rotated box is [centre x, centre y, width, height, degrees clockwise].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from curate.formats.columns import Flags, Floats
from curate.geometry import decode_rle, rle_boxes, rotated_box_corners

_PIXELS: Final = 1.0
_PART_OF_DIAGONAL: Final = 0.01
_CHORD_ERROR: Final = 0.1
_LARGEST_RADIUS: Final = 50_000.0


def corners_to_rotated_boxes(corners: Floats) -> tuple[Floats, Flags]:
    """The inverse of `curate.geometry.rotated_box_corners`, for corners that run either way round.

    Args:
        corners: Shape (n, 8): [x0, y0, x1, y1, x2, y2, x3, y3].

    Returns:
        Rotated boxes of shape (n, 5), and whether each four corners are those of a rectangle, within a pixel or a
        hundredth of the diagonal; where they are not, the box is the smallest rectangle round them.
    """
    points = corners.reshape(-1, 4, 2).copy()
    area = _signed_area(points)
    points[area < 0] = points[area < 0][:, [0, 3, 2, 1]]
    right = (points[:, 1] - points[:, 0] + points[:, 2] - points[:, 3]) / 2
    down = (points[:, 3] - points[:, 0] + points[:, 2] - points[:, 1]) / 2
    rotated = np.concatenate(
        [
            points.mean(axis=1),
            np.linalg.norm(right, axis=1, keepdims=True),
            np.linalg.norm(down, axis=1, keepdims=True),
            np.rad2deg(np.arctan2(right[:, 1], right[:, 0]))[:, None],
        ],
        axis=1,
    )
    # A box without width has no direction of its own: take it from the other side.
    thin = rotated[:, 2] == 0
    rotated[thin, 4] = np.rad2deg(np.arctan2(-down[thin, 0], down[thin, 1]))
    error = np.abs(rotated_box_corners(rotated) - points).max(axis=(1, 2))
    tolerance = np.maximum(_PIXELS, _PART_OF_DIAGONAL * np.linalg.norm(points[:, 2] - points[:, 0], axis=1))
    is_rectangle = error <= tolerance
    for row in np.flatnonzero(~is_rectangle):
        rotated[row] = _smallest_rectangle(points[row])
    return rotated, is_rectangle


def join_parts(parts: Sequence[Sequence[float]]) -> list[float]:
    """One outline round several parts: they are joined by bridges of no width, so the area stays the same.

    Args:
        parts: [x0, y0, x1, y1, ...] of each.
    """
    if len(parts) == 1:
        return list(parts[0])
    outline: list[float] = []
    for part in parts:
        outline += [*part, *part[:2]]
    for part in reversed(parts[:-1]):
        outline += part[:2]
    return outline


def ellipse_outline(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> list[float]:
    """A polygon with an ellipse's area whose sides stay within a tenth of a pixel of it.

    Args:
        cx: Centre, pixels.
        cy: Centre, pixels.
        rx: Half its width before it is turned, pixels; at least 0.
        ry: Half its height.
        degrees: Turned clockwise.

    Returns:
        [x0, y0, x1, y1, ...] of 32 points or more.
    """
    # A chord of angle t lies r (1 - cos(t / 2)) inside a circle of radius r.
    largest = min(max(rx, ry, _CHORD_ERROR), _LARGEST_RADIUS)
    count = max(32, int(np.ceil(np.pi / np.arccos(1 - _CHORD_ERROR / largest))))
    step = 2 * np.pi / count
    grown = np.sqrt(step / np.sin(step))
    angle = np.arange(count) * step
    x, y = rx * grown * np.cos(angle), ry * grown * np.sin(angle)
    turn = np.deg2rad(degrees)
    points = np.column_stack([cx + x * np.cos(turn) - y * np.sin(turn), cy + x * np.sin(turn) + y * np.cos(turn)])
    outline: list[float] = points.ravel().tolist()
    return outline


def outline_mask(rle: str, size: Sequence[int]) -> tuple[list[list[float]], bool]:
    """Outer outlines of a mask (Suzuki and Abe 1985), in pixel coordinates.

    Args:
        rle: COCO compressed run lengths that fill the size (`curate.formats.columns.broken_masks`).
        size: Height and width of the mask.

    Returns:
        [x0, y0, x1, y1, ...] of each part, and whether the mask has holes, which the outlines leave out.
    """
    import cv2

    left, top, width, height = rle_boxes([rle], [size]).astype(int)[0].tolist()
    mask = decode_rle(rle, size)[top : top + height, left : left + width]
    if mask.size == 0:
        return [], False
    # Outlines run through the centres of border pixels: drawn four times as large, what that cuts off is an eighth of a
    # pixel, and single pixels keep an area.
    scale = 4
    large = np.kron(mask, np.ones((scale, scale), dtype=np.uint8))
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0][:, 3]
    outer = [contour for contour, parent in zip(contours, parents, strict=True) if parent < 0 and len(contour) > 2]
    outlines = [((contour[:, 0, :] + 0.5) / scale + [left, top]).ravel().tolist() for contour in outer]
    return outlines, bool((parents >= 0).any())


def _signed_area(points: Floats) -> Floats:
    x, y = points[..., 0], points[..., 1]
    area: Floats = (x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1) / 2
    return area


def _smallest_rectangle(points: Floats) -> Floats:
    import cv2

    (x, y), (width, height), angle = cv2.minAreaRect(points.astype(np.float32))
    return np.array([x, y, width, height, angle])
