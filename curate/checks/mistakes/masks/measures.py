"""What one mask is like: its parts, holes, width, straight ends; crossings of a polygon; masks that are doubles of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.mistakes.masks.shapes import Pixels, Stored, Window, thickness, tight

NUMBERS: Final = (
    "area", "x", "y", "width", "height", "thickness", "hole_share", "parts", "speck_share", "speck_gap",
    "cut_share", "cut_length", "loop_share",
)  # fmt: skip
"""What `measure` gives, in this order."""

_SPECK: Final = 0.02
_CHUNK: Final = 1 << 18
_AROUND: Final = 1e-9


@dataclass(frozen=True)
class Crossing:
    """Where a polygon crosses itself: the smaller of the two loops there, and its part of both areas."""

    loop: FloatArray
    share: float


def measure(stored: Stored) -> list[float]:
    """The numbers of one mask, in the order of `NUMBERS`; all 0 for one that cannot be drawn.

    area in pixels; x, y, width, height of the tightest box; thickness, 2 * area / length of the outline; share of holes in
    the filled mask; number of parts; share of its specks (parts of at most 2% of it) and the distance of the furthest from
    the rest, in square roots of the area; how much of a side of the box is a straight end of the mask where the image goes
    on, and that side's length; share of the smaller loop where a polygon crosses itself.
    """
    window = stored.window()
    loop_share = max((each.share for each in map(crossing, stored.polygons or ()) if each is not None), default=0.0)
    if window is None:
        return [0.0] * (len(NUMBERS) - 1) + [loop_share]
    padded = np.pad(window.pixels, 1)
    area = window.area
    hole_area = int(_holes(padded)[1:, cv2.CC_STAT_AREA].sum())
    parts, stats = _parts(window.pixels)
    speck_area, gap = _speck_numbers(stats)
    return [
        float(area), *window.bbox, thickness(window.pixels), hole_area / (area + hole_area), float(parts), speck_area / area,
        gap / area**0.5, *_straight_end(window, stored.size), loop_share,
    ]  # fmt: skip


def holes(window: Window) -> Window | None:
    """The holes of a mask, in a window of their own; None if there are none."""
    padded = np.pad(window.pixels, 1)
    _, labels = cv2.connectedComponents(1 - padded, connectivity=4)
    inside = (labels != labels[0, 0]) & (padded == 0)
    return tight(inside[1:-1, 1:-1], window.x, window.y)


def specks(window: Window) -> Window | None:
    """The specks of a mask, in a window of their own; None if there are none."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(window.pixels, connectivity=8)
    area = stats[1:, cv2.CC_STAT_AREA]
    small = np.concatenate([[False], area <= _SPECK * area.sum()]) if count > 1 else np.zeros(count, dtype=np.bool_)
    return tight(small[labels], window.x, window.y)


def crossing(polygon: Sequence[float]) -> Crossing | None:
    """Where a polygon crosses itself with the largest loop; None if it does not. Touching is not crossing.

    Args:
        polygon: [x0, y0, x1, y1, ...], pixels, finite.
    """
    points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    if len(points) < 4:
        return None
    first, second, at = _crossing_sides(points)
    if not len(first):
        return None
    best: Crossing | None = None
    # Many crossings are a scribble; a few of them, evenly taken, say how bad it is.
    for k in np.unique(np.linspace(0, len(first) - 1, 32).astype(int)).tolist():
        inner = np.concatenate([at[k][None], points[first[k] + 1 : second[k] + 1]])
        outer = np.concatenate([at[k][None], points[second[k] + 1 :], points[: first[k] + 1]])
        areas = abs(_area(inner)), abs(_area(outer))
        share = min(areas) / max(sum(areas), _AROUND)
        if best is None or share > best.share:
            best = Crossing(inner if areas[0] <= areas[1] else outer, share)
    return best


def doubles(
    counts: Sequence[str], sizes: Sequence[Sequence[int]], boxes: FloatArray, labels: IntArray, least: float
) -> list[tuple[int, int, float]]:
    """Masks of one image that are of one class and have the same pixels: rows of both, the first smaller, and their IoU.

    Args:
        counts: COCO compressed run lengths of k masks of one size.
        sizes: Their [height, width].
        boxes: [x, y, width, height] around each; float64 array of shape (k, 4).
        labels: Classes; int64 array of shape (k,).
        least: IoU from which two are doubles.
    """
    if len(counts) < 2:
        return []
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    common = np.clip(np.minimum(high[:, None], high) - np.maximum(low[:, None], low), 0, None).prod(axis=2)
    area = boxes[:, 2:].prod(axis=1)
    near = common >= 0.7 * least * np.maximum(area[:, None], area)
    first, second = np.nonzero(np.triu(near & (labels[:, None] == labels), 1))
    found = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        pair = [{"counts": counts[k].encode(), "size": list(sizes[k])} for k in (a, b)]
        iou = float(coco_mask.iou(pair[:1], pair[1:], [0])[0, 0])
        if iou >= least:
            found.append((a, b, iou))
    return found


def _parts(pixels: Pixels) -> tuple[int, npt.NDArray[np.int32]]:
    count, _, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    return count - 1, stats[1:]


def _holes(padded: Pixels) -> npt.NDArray[np.int32]:
    """Numbers of the empty regions of a mask with an empty border; the first is what is around it."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(1 - padded, connectivity=4)
    # Row 0 is the mask itself; the region around it has the first pixel, hence number 1.
    return np.asarray(stats[1:])


def _speck_numbers(stats: npt.NDArray[np.int32]) -> tuple[float, float]:
    """Pixels in specks, and the furthest one's distance from the nearest part that is none; by boxes."""
    area = stats[:, cv2.CC_STAT_AREA]
    small = area <= _SPECK * area.sum()
    if not small.any() or small.all():
        return 0.0, 0.0
    low, extent = stats[:, :2], stats[:, 2:4]
    gaps = np.maximum(low[small][:, None] - (low + extent)[~small], low[~small] - (low + extent)[small][:, None])
    return float(area[small].sum()), float(np.maximum(gaps, 0).max(axis=2).min(axis=1).max())


def _straight_end(window: Window, size: Sequence[int]) -> tuple[float, float]:
    """Of the sides of the box that lie inside of the image: the largest share that the mask reaches, and its length."""
    pixels, (height, width) = window.pixels, size
    tall, wide = pixels.shape
    sides = [
        (window.y > 0, pixels[0]), (window.y + tall < height, pixels[-1]),
        (window.x > 0, pixels[:, 0]), (window.x + wide < width, pixels[:, -1]),
    ]  # fmt: skip
    shares = [(np.count_nonzero(side) / len(side), float(len(side))) for inside, side in sides if inside]
    return max(shares, default=(0.0, 0.0))


def _crossing_sides(points: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Sides (k, from corner k to the next) that properly cross, the smaller number first, and where."""
    start, end = points, np.roll(points, -1, axis=0)
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.argsort(low[:, 0], kind="stable")
    last = np.searchsorted(low[order, 0], high[order, 0], side="right")
    count = last - np.arange(len(order)) - 1
    firsts, seconds = [], []
    begin = 0
    while begin < len(order):
        # As many sides at once as their neighbours along x fit into the memory.
        stop = begin + max(1, int(np.searchsorted(np.cumsum(count[begin:]), _CHUNK, side="right")))
        a = np.repeat(np.arange(begin, stop), count[begin:stop])
        b = np.arange(len(a)) - np.repeat(np.cumsum(count[begin:stop]) - count[begin:stop], count[begin:stop]) + a + 1
        i, j = order[a], order[b]
        keep = (low[i, 1] <= high[j, 1]) & (low[j, 1] <= high[i, 1])
        i, j = i[keep], j[keep]
        sides = _side(start[i], end[i], start[j]) * _side(start[i], end[i], end[j])
        cross = (sides < 0) & (_side(start[j], end[j], start[i]) * _side(start[j], end[j], end[i]) < 0)
        firsts.append(np.minimum(i[cross], j[cross]))
        seconds.append(np.maximum(i[cross], j[cross]))
        begin = stop
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    by_place = np.lexsort((second, first))
    first, second = first[by_place], second[by_place]
    # How far along the first side the second is crossed.
    over = _side(start[second], end[second], start[first])
    share = over / (over - _side(start[second], end[second], end[first]))
    return first, second, start[first] + share[:, None] * (end[first] - start[first])


def _side(start: FloatArray, end: FloatArray, point: FloatArray) -> FloatArray:
    """On which side of a line a point is, by the sign, and how far; 0 on it."""
    along, towards = end - start, point - start
    return np.asarray(np.round(along[:, 0] * towards[:, 1] - along[:, 1] * towards[:, 0], 9))


def _area(points: FloatArray) -> float:
    x, y = points.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
