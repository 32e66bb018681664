"""Maps of a network's resolution, brought to an image's pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.models.predictors.base import Size
from curate.runner import Placement

Array = npt.NDArray[Any]
Plane = npt.NDArray[np.float32]
Region = tuple[float, float, float, float]
"""(top, left, bottom, right), continuous."""

_STRIP_VALUES: Final = 1 << 18  # as many as a cache holds


def sample(values: Plane, region: Region, size: Size) -> Plane:
    """Part of a map as a picture of another size, bilinear, averaged over pixels where it becomes smaller.

    Args:
        values: float32 of shape (h, w).
        region: Which part, in pixels of the map; beyond its border are its nearest values.
        size: Of the result.

    Returns:
        float32 of shape `size`.
    """
    top, left, bottom, right = region
    height, width = values.shape
    before = (_beyond(-top), _beyond(-left))
    after = (_beyond(bottom - height), _beyond(right - width))
    if any(before) or any(after):
        padding = ((before[0], after[0]), (before[1], after[1]))
        values = np.pad(values, padding, mode="edge")
    box = (left + before[1], top + before[0], right + before[1], bottom + before[0])
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(plane.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))


def content(values: Array, placement: Placement) -> tuple[Array, Region]:
    """What of maps over an input, shape (..., h, w), shows the image; and where in that part `placement.seen` lies.

    Padding is cut off, so that it is not mixed into the image's border.
    """
    height, width = values.shape[-2:]
    per_pixel = (height / placement.input[0], width / placement.input[1])
    top, left, bottom, right = placement.seen
    corners = placement.to_input([[left, top, right, bottom]])[0]
    x1, y1, x2, y2 = corners * [per_pixel[1], per_pixel[0], per_pixel[1], per_pixel[0]]
    first_row, first_column = max(0, int(np.floor(y1 + 1e-6))), max(0, int(np.floor(x1 + 1e-6)))
    part = values[..., first_row : int(np.ceil(y2 - 1e-6)), first_column : int(np.ceil(x2 - 1e-6))]
    return part, (y1 - first_row, x1 - first_column, y2 - first_row, x2 - first_column)


def strips(values: Array, placement: Placement) -> Iterator[tuple[slice, slice, Plane]]:
    """Maps of c channels over an input, shape (c, h, w), at the image's size, some rows at a time so that memory stays bounded.

    Yields:
        The rows and columns of the image, and float32 of shape (c, rows, columns). What the input does not show is left out.
    """
    top, left, bottom, right = placement.seen
    if bottom <= top or right <= left:  # a crop of an image of a single row may hold no pixel's middle
        return
    part, (y1, x1, y2, x2) = content(values.astype(np.float32, copy=False), placement)
    per_row = (y2 - y1) / (bottom - top)
    step = max(1, _STRIP_VALUES // (len(values) * (right - left)))
    for start in range(top, bottom, step):
        end = min(start + step, bottom)
        region = (y1 + (start - top) * per_row, x1, y1 + (end - top) * per_row, x2)
        planes = [sample(plane, region, (end - start, right - left)) for plane in part]
        yield slice(start, end), slice(left, right), np.stack(planes)


def _beyond(distance: float) -> int:
    """Cells to add where a region reaches beyond a border, one more for the interpolation."""
    return int(np.ceil(distance)) + 1 if distance > 0 else 0
