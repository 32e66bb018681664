"""Depths of objects read off a map: at as many points of each box, so that boxes of any size are one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.geometry import decode_rle

FloatArray = npt.NDArray[np.float64]

_SIDE: Final = 16
"""Points along each side of a box: 256 in all, of which a percentile is known to within 3 of 100."""

_RIM: Final = 0.08
"""How far inside of a box, and outside, its border is compared; in parts of its sides."""

_FARTHEST: Final = 1e9
"""Pixels. A box that goes farther is none."""

_LEAST_SEEN: Final = 0.25
"""A ring of points of which fewer are known says nothing."""


@dataclass(frozen=True)
class ObjectDepths:
    """Depths of n objects, in the map's unit; NaN where not known. Each attribute is a float64 array of shape (n,).

    Attributes:
        depth: Of the object: the median of its mask, or of the middle of its box, a half of each side, where there is less
            background.
        median: Of all of its mask or box.
        p10: 10th percentile of the same.
        p90: 90th percentile of the same.
        spread: From `p10` to `p90`.
        border: By how much the median just outside of the box is farther than just inside: of a thing that stands before what
            is around it above 0, of a box that cuts through one thing about 0.
        known: Share of the box or mask of which the depth is known, in [0, 1].
        pixels: How many of the map's pixels the box has.
    """

    depth: FloatArray
    median: FloatArray
    p10: FloatArray
    p90: FloatArray
    spread: FloatArray
    border: FloatArray
    known: FloatArray
    pixels: FloatArray


COLUMNS: Final = tuple(field.name for field in fields(ObjectDepths))


def object_depths(
    depth: npt.NDArray[np.float32],
    boxes: FloatArray,
    size: Sequence[int],
    masks: Sequence[tuple[str, Sequence[int]] | None] | None = None,
) -> ObjectDepths:
    """Read the depths of the objects on one image.

    Args:
        depth: The map, of any size; shape (height, width), NaN where not known.
        boxes: [x, y, width, height] in pixels of the image, any values; shape (n, 4). What of a box is outside the image is not
            known, and all of one that is none.
        size: [height, width] of the image.
        masks: COCO compressed run lengths, and the [height, width] that they fill, of each; None for those with a box alone.
    """
    # NaN is not below anything either.
    possible = np.asarray((np.abs(boxes) < _FARTHEST).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1))
    safe = np.where(possible[:, None], boxes, [-2.0, -2.0, 1.0, 1.0])  # nowhere on the image
    points = _grid()
    wanted = np.ones((len(boxes), len(points)), dtype=bool)
    masked = np.zeros(len(boxes), dtype=bool)
    for row, mask in enumerate(masks or ()):
        if mask is not None:
            masked[row] = True
            wanted[row] = _read(decode_rle(*mask), safe[row : row + 1], size, points, outside=0)[0] > 0
    values = np.where(wanted, _read(depth, safe, size, points), np.nan)
    low, median, high = _quantiles(values, (0.1, 0.5, 0.9))
    (central,) = _quantiles(values[:, np.abs(points - 0.5).max(axis=1) < 0.25], (0.5,))
    return ObjectDepths(
        depth=np.where(masked, median, central),
        median=median,
        p10=low,
        p90=high,
        spread=high - low,
        border=_ring(depth, safe, size, -_RIM) - _ring(depth, safe, size, _RIM),
        known=_count(values) / np.maximum(wanted.sum(axis=1), 1),
        pixels=np.where(possible, safe[:, 2] * safe[:, 3] * depth.size / max(size[0] * size[1], 1), 0.0),
    )


def _read(
    pixels: npt.NDArray[Any], boxes: FloatArray, size: Sequence[int], points: FloatArray, outside: float = np.nan
) -> FloatArray:
    """What a map has at the same points of each of n boxes.

    Args:
        pixels: The map, shape (height, width).
        boxes: [x, y, width, height] in pixels of the image; shape (n, 4).
        size: [height, width] of the image.
        points: [x, y], where 0 and 1 are a box's sides; shape (k, 2).
        outside: Stands for what is not on the image.

    Returns:
        Shape (n, k).
    """
    places = (boxes[:, None, :2] + boxes[:, None, 2:] * points) / (size[1], size[0])
    there = np.asarray(((places >= 0) & (places < 1)).all(axis=2))
    x, y = np.moveaxis(np.where(there[..., None], places, 0), 2, 0)
    rows, columns = (y * pixels.shape[0]).astype(np.int64), (x * pixels.shape[1]).astype(np.int64)
    return np.where(there, pixels[rows, columns].astype(np.float64), outside)


def _grid() -> FloatArray:
    """[x, y] of the middles of so many equal parts of a box; shape (256, 2)."""
    along = (np.arange(_SIDE) + 0.5) / _SIDE
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)


def _ring(depth: npt.NDArray[np.float32], boxes: FloatArray, size: Sequence[int], inset: float) -> FloatArray:
    """Median on a line inside of each box, or outside of it if `inset` is negative; NaN where little is known."""
    along = np.linspace(inset, 1 - inset, 2 * _SIDE)
    first, last = np.full_like(along, inset), np.full_like(along, 1 - inset)
    sides = [(along, first), (along, last), (first, along), (last, along)]
    values = _read(depth, boxes, size, np.concatenate([np.stack(side, axis=1) for side in sides]))
    (median,) = _quantiles(values, (0.5,))
    return np.where(_count(values) >= _LEAST_SEEN * values.shape[1], median, np.nan)


def _count(values: FloatArray) -> npt.NDArray[np.int64]:
    return np.asarray(np.count_nonzero(~np.isnan(values), axis=1))


def _quantiles(values: FloatArray, shares: Sequence[float]) -> list[FloatArray]:
    """Quantiles of what is known in each row (the value below, so one that is there); NaN where nothing is."""
    ordered = np.sort(values, axis=1)  # NaN last
    last = _count(values) - 1
    rows = np.arange(len(values))
    return [ordered[rows, np.maximum(np.round(share * last), 0).astype(np.int64)] for share in shares]
