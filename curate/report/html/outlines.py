"""What is drawn over a picture: boxes, masks and points in the picture's own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.geometry import decode_rle, rotated_box_corners, valid_rles
from curate.report.html.pictures import Window

UNITS: Final = 1000
"""A picture is this many units wide, whatever its pixels."""

CLOSED, OPEN, POINTS = range(3)
"""How the points of an outline belong together."""

Outline = tuple[int, list[int]]
"""How, and [x0, y0, x1, y1, ...] in units of the picture."""

_MOST_PARTS: Final = 6
_MOST_POINTS: Final = 80
_TOLERANCE: Final = 1 / 300


def box_outline(bbox: Sequence[float], window: Window) -> list[Outline]:
    """A box; nothing where it is impossible."""
    x, y, w, h = (float(value) for value in bbox)
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    return _drawn([(CLOSED, corners)], window)


def annotation_outlines(row: Mapping[str, Any], window: Window) -> list[Outline]:
    """The finest that is known of an annotation's shape: mask, polygons, rotated box, else box; and its keypoints.

    Args:
        row: Columns of `curate.dataset.schema.ANNOTATIONS`.
        window: What the picture shows.
    """
    parts: list[tuple[int, npt.NDArray[np.float64]]] = []
    if row["rle"] is not None:
        parts += [(CLOSED, contour) for contour in _contours(row["rle"], row["rle_size"])]
    elif row["polygons"]:
        how = OPEN if row["type"] == "polyline" else CLOSED
        parts += [(how, np.asarray(part, np.float64).reshape(-1, 2)) for part in row["polygons"][:_MOST_PARTS]]
    elif row["rotated_box"] is not None:
        parts.append((CLOSED, rotated_box_corners([row["rotated_box"]])[0]))
    elif row["bbox"] is not None:
        return box_outline(row["bbox"], window)
    if row["keypoints"]:
        points = np.asarray(row["keypoints"], np.float64).reshape(-1, 3)
        parts.append((POINTS, points[points[:, 2] > 0, :2]))
    return _drawn(parts, window)


def _contours(rle: str, size: Sequence[int]) -> list[npt.NDArray[np.float64]]:
    """Outlines of a mask's largest parts."""
    if not valid_rles([rle], [size])[0]:
        return []
    found, _ = cv2.findContours(decode_rle(rle, size), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(found, key=cv2.contourArea, reverse=True)[:_MOST_PARTS]
    # A contour goes through the centres of pixels.
    return [contour.reshape(-1, 2).astype(np.float64) + 0.5 for contour in largest]


def _drawn(parts: Sequence[tuple[int, npt.NDArray[np.float64]]], window: Window) -> list[Outline]:
    drawn: list[Outline] = []
    scale = UNITS / window[2]
    for how, points in parts:
        # What is far off is only told apart from what is near.
        inside = np.clip((points - window[:2]) * scale, -9 * UNITS, 9 * UNITS)
        if not len(inside) or not np.isfinite(inside).all():
            continue
        if how != POINTS and len(inside) > 4:
            inside = _simplified(inside, how == CLOSED)
        drawn.append((how, np.rint(inside).astype(int).ravel().tolist()))
    return drawn


def _simplified(points: npt.NDArray[np.float64], closed: bool) -> npt.NDArray[np.float64]:
    """Fewer points, none of them far from the line (Ramer 1972)."""
    tolerance = UNITS * _TOLERANCE
    while True:
        fewer = cv2.approxPolyDP(points.astype(np.float32)[:, None], tolerance, closed)[:, 0]
        if len(fewer) <= _MOST_POINTS:
            return np.asarray(fewer, dtype=np.float64)
        tolerance *= 2
