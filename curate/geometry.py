"""Geometry on columns: EXIF orientation of coordinates and masks, boxes around shapes, areas.

Coordinates are continuous pixels: an image of width w spans [0, w], so that mirroring maps x to w - x. Boxes are
``[x, y, width, height]``; masks are COCO run-length encoded (column-major, `pycocotools.mask`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FEW_MASKS: Final = 255

# Exif 2.3, tag 0x0112: oriented x and y as sums of stored x, y, width and height. Row k is orientation k + 1.
_ORIENTED_X = np.array(
    [[1, 0, 0, 0], [-1, 0, 1, 0], [-1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, -1, 0, 1], [0, -1, 0, 1], [0, 1, 0, 0]]
)
_ORIENTED_Y = np.array(
    [[0, 1, 0, 0], [0, 1, 0, 0], [0, -1, 0, 1], [0, -1, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0], [-1, 0, 1, 0], [-1, 0, 1, 0]]
)


def orient_points(
    points: npt.ArrayLike,
    orientation: npt.ArrayLike,
    stored_width: npt.ArrayLike,
    stored_height: npt.ArrayLike,
) -> Array:
    """Points on the image as stored -> points on the image after its EXIF orientation is applied.

    Args:
        points: x and y, pixels; shape (n, 2).
        orientation: EXIF orientation, 1 to 8; a number or one per point, shape (n,).
        stored_width: Width of the image as stored, pixels; a number or shape (n,).
        stored_height: Height of the image as stored, pixels; a number or shape (n,).

    Returns:
        Array of shape (n, 2).
    """
    stored = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    count = len(stored)
    size = [np.broadcast_to(np.asarray(side, dtype=np.float64), count) for side in (stored_width, stored_height)]
    terms = np.column_stack([stored, *size])
    row = np.broadcast_to(np.asarray(orientation), count) - 1
    return np.column_stack([(terms * _ORIENTED_X[row]).sum(axis=1), (terms * _ORIENTED_Y[row]).sum(axis=1)])


def orient_boxes(
    boxes: npt.ArrayLike,
    orientation: npt.ArrayLike,
    stored_width: npt.ArrayLike,
    stored_height: npt.ArrayLike,
) -> Array:
    """Boxes on the image as stored -> boxes on the oriented image; shapes as in `orient_points`, with (n, 4) for points.

    The sign of a (mistaken) negative width or height is kept.
    """
    stored = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    low = np.minimum(stored[:, 2:], 0) + stored[:, :2]
    high = np.maximum(stored[:, 2:], 0) + stored[:, :2]
    swaps = np.broadcast_to(np.asarray(orientation) >= 5, len(stored))[:, None]
    size = np.where(swaps, stored[:, 3:1:-1], stored[:, 2:])
    first = orient_points(low, orientation, stored_width, stored_height)
    second = orient_points(high, orientation, stored_width, stored_height)
    return np.column_stack([np.minimum(first, second) - np.minimum(size, 0), size])


def orient_rle(counts: str, size: Sequence[int], orientation: int) -> tuple[str, list[int]]:
    """A mask on the image as stored -> the mask on the oriented image.

    Args:
        counts: COCO compressed run lengths.
        size: [height, width] of the image as stored.
        orientation: EXIF orientation, 1 to 8.

    Returns:
        The counts, and the [height, width], of the oriented mask.
    """
    mask = orient_pixels(decode_rle(counts, size), orientation)
    return encode_rle(mask), [int(side) for side in mask.shape]


def orient_pixels(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """An image as stored, of shape (height, width) -> a view of it with its EXIF orientation, 1 to 8, applied."""
    turned = pixels.T if orientation >= 5 else pixels
    mirrored_x = orientation in {2, 3, 6, 7}
    mirrored_y = orientation in {3, 4, 7, 8}
    return turned[:: -1 if mirrored_y else 1, :: -1 if mirrored_x else 1]


def decode_rle(counts: str, size: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Draw a mask.

    Args:
        counts: COCO compressed run lengths that fill the size (`valid_rles`).
        size: [height, width].

    Returns:
        0 and 1; uint8 array of shape (height, width).
    """
    runs = rle_runs(counts)
    return np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs).reshape(size[1], size[0]).T


def rle_runs(counts: str) -> Integers:
    """The run lengths in a compressed text (`valid_rles`), starting with background; shape (n,)."""
    digits = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
    return _runs(digits, np.zeros(len(digits), dtype=np.int64))[0]


def encode_rle(mask: npt.ArrayLike) -> str:
    """COCO compressed run lengths of a mask; array of shape (height, width), zero is background."""
    image = np.asarray(mask) != 0
    values = image.T.ravel()
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    runs = np.diff(np.r_[0, changes, len(values)])
    return rle_from_counts([0, *runs.tolist()] if len(values) and values[0] else runs.tolist(), image.shape)


def polygons_to_rle(polygons: Sequence[Sequence[float]], height: int, width: int) -> str:
    """The pixels inside any of an object's polygons, as COCO's own tools draw them; what is outside the image is cut off.

    Args:
        polygons: [x0, y0, x1, y1, ...] of each part, pixels, finite.
        height: Of the image.
        width: Of the image.

    Returns:
        COCO compressed run lengths of a mask of this size.
    """
    # The C code takes memory for the whole length of an outline, and lets far-off points wrap round.
    inside = [clip_polygon(part, height, width) for part in polygons]
    parts = [part for part in inside if len(part) >= 6]
    if not parts:
        return rle_from_counts([height * width], (height, width))
    merged = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    return cast(bytes, merged["counts"]).decode()


def clip_polygon(polygon: Sequence[float], height: int, width: int) -> list[float]:
    """The part of a polygon that is inside an image (Sutherland and Hodgman 1974); empty if there is none.

    Args:
        polygon: [x0, y0, x1, y1, ...], pixels, finite.
        height: Of the image.
        width: Of the image.
    """
    # Further off nothing changes inside, and sums would overflow.
    points = np.clip(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), -1e9, 1e9)
    for axis, sign, limit in ((0, 1.0, 0.0), (0, -1.0, -float(width)), (1, 1.0, 0.0), (1, -1.0, -float(height))):
        distance = sign * points[:, axis] - limit
        if len(points) == 0 or (distance >= 0).all():
            continue
        after, distance_after = np.roll(points, -1, axis=0), np.roll(distance, -1)
        crosses = (distance >= 0) != (distance_after >= 0)
        share = np.divide(distance, distance - distance_after, out=np.zeros_like(distance), where=crosses)
        crossing = points + share[:, None] * (after - points)
        kept = np.column_stack([distance >= 0, crosses])
        points = np.stack([points, crossing], axis=1)[kept]
    clipped: list[float] = points.ravel().tolist()
    return clipped


def boxes_around(points: npt.ArrayLike, starts: npt.ArrayLike) -> Array:
    """The smallest box around each of n groups of points.

    Args:
        points: x and y of all groups, one after the other; shape (m, 2).
        starts: Where each group starts, increasing; shape (n,). No group is empty.

    Returns:
        Array of shape (n, 4).
    """
    every = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    first = np.asarray(starts, dtype=np.int64)
    if len(first) == 0:
        return np.zeros((0, 4))
    low = np.minimum.reduceat(every, first)
    high = np.maximum.reduceat(every, first)
    return np.column_stack([low, high - low])


def polygon_area(points: npt.ArrayLike) -> float:
    """Area of a polygon that does not cross itself, square pixels (shoelace formula); points of shape (n, 2)."""
    x, y = np.asarray(points, dtype=np.float64).reshape(-1, 2).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def polygon_areas(values: npt.ArrayLike, lengths: npt.ArrayLike) -> Array:
    """`polygon_area` of n polygons.

    Args:
        values: [x0, y0, x1, y1, ...] of all, one after another; shape (sum of lengths,).
        lengths: How many numbers each polygon has, even; shape (n,). One without any has the area 0.
    """
    x, y = np.asarray(values, dtype=np.float64).reshape(-1, 2).T
    points = np.asarray(lengths, dtype=np.int64) // 2
    filled = points > 0
    last = np.cumsum(points[filled]) - 1
    first = last + 1 - points[filled]
    after = np.arange(1, len(x) + 1)
    after[last] = first
    areas = np.zeros(len(points))
    if len(first):
        areas[filled] = np.abs(np.add.reduceat(x * y[after] - x[after] * y, first)) / 2
    return areas


def rotated_box_corners(boxes: npt.ArrayLike) -> Array:
    """Corners of rotated boxes, in order around each.

    Args:
        boxes: [centre x, centre y, width, height, degrees clockwise] of n boxes; shape (n, 5).

    Returns:
        Array of shape (n, 4, 2).
    """
    every = np.asarray(boxes, dtype=np.float64).reshape(-1, 5)
    angle = np.deg2rad(every[:, 4])[:, None]
    half = every[:, None, 2:4] / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    x = half[..., 0] * np.cos(angle) - half[..., 1] * np.sin(angle)
    y = half[..., 0] * np.sin(angle) + half[..., 1] * np.cos(angle)
    return np.stack([x, y], axis=-1) + every[:, None, :2]


def rle_from_counts(counts: Sequence[int], size: Sequence[int]) -> str:
    """Compress run lengths given as numbers (column-major, starting with background) of a [height, width] mask."""
    encoded = coco_mask.frPyObjects({"counts": list(counts), "size": list(size)}, int(size[0]), int(size[1]))
    return cast(bytes, encoded["counts"]).decode()


def rle_areas(counts: Sequence[str], sizes: npt.ArrayLike) -> Array:
    """Number of pixels in each of n masks; sizes of shape (n, 2), [height, width]."""
    # pycocotools counts the masks in eight bits with NumPy 2, and fails above 255 of them.
    rles = _rles(counts, sizes)
    parts = [coco_mask.area(rles[first : first + _FEW_MASKS]) for first in range(0, len(rles), _FEW_MASKS)]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float64)


def rle_boxes(counts: Sequence[str], sizes: npt.ArrayLike) -> Array:
    """The smallest box around each of n masks, zero where a mask is empty; shape (n, 4)."""
    return np.asarray(coco_mask.toBbox(_rles(counts, sizes)), dtype=np.float64).reshape(-1, 4)


def valid_rles(counts: Sequence[str], sizes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether each of n compressed run-length texts describes a mask of exactly its size.

    Only such texts may go to `pycocotools.mask`, whose C code trusts them and would write outside its memory.

    Args:
        counts: COCO compressed run lengths: signed numbers of 5-bit digits, each but the first three as the difference
            to the one before last.
        sizes: [height, width]; shape (n, 2).

    Returns:
        Array of shape (n,).
    """
    lengths = np.array([len(text) for text in counts], dtype=np.int64)
    pixels = np.asarray(sizes, dtype=np.float64).reshape(-1, 2)
    valid: npt.NDArray[np.bool_] = (lengths > 0) & (pixels > 0).all(axis=1) & (pixels.prod(axis=1) < 2**32)
    digits = np.frombuffer("".join(counts).encode("latin-1", "replace"), dtype=np.uint8).astype(np.int64) - 48
    text_of_digit = np.repeat(np.arange(len(counts)), lengths)
    np.logical_and.at(valid, text_of_digit, (digits >= 0) & (digits < 64))
    valid &= np.fromiter(map(str.isascii, counts), np.bool_, len(counts))
    last = np.flatnonzero(lengths > 0)
    last_digit = np.cumsum(lengths)[last] - 1
    valid[last] &= (digits[last_digit] & 0x20) == 0
    valid_digits = valid[text_of_digit]
    digits, text_of_digit = digits[valid_digits], text_of_digit[valid_digits]
    if len(digits) == 0:
        return valid
    runs, text_of_run = _runs(digits, text_of_digit)
    np.logical_and.at(valid, text_of_run, runs >= 0)
    # No run needs more than seven digits, and more would overflow a number.
    valid[text_of_run[np.diff(np.flatnonzero((digits & 0x20) == 0), prepend=-1) > 7]] = False
    total = np.bincount(text_of_run, weights=runs, minlength=len(counts))
    valid &= total == pixels.prod(axis=1)
    return valid


def _runs(digits: Integers, text_of_digit: Integers) -> tuple[Integers, Integers]:
    """Run lengths of well-formed texts, and the text each belongs to, both in the order of the texts."""
    ends = np.flatnonzero((digits & 0x20) == 0)
    starts = np.r_[0, ends[:-1] + 1]
    place = np.minimum(np.arange(len(digits)) - np.repeat(starts, ends - starts + 1), 12)
    values = np.add.reduceat((digits & 0x1F) << (5 * place), starts)
    negative = (digits[ends] & 0x10) != 0
    values = np.where(negative, values - (np.int64(1) << (5 * (place[ends] + 1))), values)
    text = text_of_digit[starts]
    number = np.arange(len(text)) - np.searchsorted(text, text)
    # Three chains of sums in each text: the first number, then those at odd and those at even places.
    chain = np.where(number == 0, 0, 1 + number % 2)
    order = np.lexsort((number, chain, text))
    key = (text * 3 + chain)[order]
    sums = np.cumsum(values[order])
    first = np.searchsorted(key, key)
    runs = np.empty_like(values)
    runs[order] = sums - np.where(first > 0, sums[first - 1], 0)
    return runs, text


def _rles(counts: Sequence[str], sizes: npt.ArrayLike) -> list[dict[str, Any]]:
    return [
        {"counts": text.encode(), "size": size} for text, size in zip(counts, np.asarray(sizes).tolist(), strict=True)
    ]
