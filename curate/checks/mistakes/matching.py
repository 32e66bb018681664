"""Which box goes with which: overlaps, clusters and one-to-one assignment over whole tables at once.

Everything works on one list of candidate pairs (boxes of the same image that overlap enough), made by sorting and searching,
so a million boxes on a hundred thousand images and ten thousand boxes on one image take the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.checks.boxes import NOWHERE, BoolArray, Boxes, FloatArray, IntArray

_CHUNK: Final = 1 << 20
"""Pairs looked at together; bounds the memory."""

_FAR: Final = 1e6
"""Pixels; boxes further out than this still match, the search merely becomes less selective."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of overlapping boxes.

    Attributes:
        first: int64 array of shape (p,), row in the first table.
        second: int64 array of shape (p,), row in the second table.
        iou: float64 array of shape (p,), intersection over union.
    """

    first: IntArray
    second: IntArray
    iou: FloatArray

    def __len__(self) -> int:
        return len(self.iou)

    def take(self, rows: IntArray | BoolArray) -> Pairs:
        """The chosen pairs, in that order."""
        return Pairs(self.first[rows], self.second[rows], self.iou[rows])


def overlapping_pairs(first: Boxes, second: Boxes, *, min_iou: float = 0.1) -> Pairs:
    """Every pair of a box in `first` and a box in `second`, on the same image, whose IoU is at least `min_iou`.

    Args:
        first: n boxes. Boxes without an area, or not finite, overlap nothing.
        second: m boxes.
        min_iou: In [0, 1]; at 0, every pair that has any area in common.

    Returns:
        The pairs, ordered by row in `first`.
    """
    a = _Corners.of(first)
    b = a if first is second else _Corners.of(second)
    found: list[Pairs] = []
    for i, j in _candidates(a, b, min_iou):
        # Rows first, then columns: most candidates already fail on one axis.
        height = np.minimum(a.y1[i], b.y1[j]) - np.maximum(a.y0[i], b.y0[j])
        keep = height > 0
        i, j, height = i[keep], j[keep], height[keep]
        intersection = height * np.maximum(np.minimum(a.x1[i], b.x1[j]) - np.maximum(a.x0[i], b.x0[j]), 0.0)
        iou = intersection / (a.area[i] + b.area[j] - intersection)
        keep = (intersection > 0) & (iou >= min_iou)
        found.append(Pairs(a.row[i[keep]], b.row[j[keep]], np.minimum(iou[keep], 1.0)))
    if not found:
        empty = np.zeros(0, dtype=np.int64)
        return Pairs(empty, empty, np.zeros(0))
    joined = Pairs(*(np.concatenate([getattr(part, name) for part in found]) for name in ("first", "second", "iou")))
    return joined.take(np.argsort(joined.first * len(second) + joined.second))


def pairs_within(boxes: Boxes, *, min_iou: float) -> Pairs:
    """Every two boxes of one table that overlap by at least `min_iou`, each pair once, the smaller row first."""
    pairs = overlapping_pairs(boxes, boxes, min_iou=min_iou)
    return pairs.take(pairs.first < pairs.second)


def covered_share(pairs: Pairs, first: Boxes, second: Boxes) -> FloatArray:
    """Share of each pair's second box that lies inside the first, in [0, 1]: COCO's overlap with a crowd region."""
    area_a = first.bbox[pairs.first, 2] * first.bbox[pairs.first, 3]
    area_b = second.bbox[pairs.second, 2] * second.bbox[pairs.second, 3]
    # From IoU = I / (A + B - I).
    intersection = pairs.iou * (area_a + area_b) / (1.0 + pairs.iou)
    return np.asarray(np.minimum(intersection / area_b, 1.0))


def assign(pairs: Pairs, weight: FloatArray) -> IntArray:
    """One-to-one assignment: the best pair is taken, what it uses is removed, and so on (per component, hence exact greedy).

    Done in rounds: in each, every pair that is the best one of both its boxes is taken. Most components are a single pair,
    and few rounds are needed even in crowds.

    Args:
        pairs: p candidate pairs.
        weight: float64 array of shape (p,), higher is better; ties go to the pair listed first.

    Returns:
        int64 array, indices of the pairs taken, best first.
    """
    if not len(pairs):
        return np.zeros(0, dtype=np.int64)
    order = np.argsort(-weight, kind="stable")
    first, second = pairs.first[order], pairs.second[order]
    best_first = np.empty(first.max() + 1, dtype=np.int64)
    best_second = np.empty(second.max() + 1, dtype=np.int64)
    used_first = np.zeros(len(best_first), dtype=bool)
    used_second = np.zeros(len(best_second), dtype=bool)
    active = np.arange(len(order))
    taken: list[IntArray] = []
    while len(active):
        f, s = first[active], second[active]
        # Written from worst to best, so that the best pair of each box stays.
        best_first[f[::-1]] = active[::-1]
        best_second[s[::-1]] = active[::-1]
        mutual = (best_first[f] == active) & (best_second[s] == active)
        taken.append(active[mutual])
        used_first[f[mutual]] = True
        used_second[s[mutual]] = True
        active = active[~(used_first[f] | used_second[s])]
    return order[np.sort(np.concatenate(taken))]


def cluster(pairs: Pairs, priority: FloatArray) -> IntArray:
    """Group boxes around leaders, as non-maximum suppression does, but keeping whom each suppressed box belongs to.

    Args:
        pairs: Pairs of boxes of one table that are taken for one object (see `pairs_within`).
        priority: float64 array of shape (n,); a box is a leader unless it is paired with a leader of higher priority.

    Returns:
        int64 array of shape (n,), row of each box's leader; a leader's own row.
    """
    n = len(priority)
    leader = np.arange(n)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(-priority, kind="stable")] = np.arange(n)
    swap = rank[pairs.first] > rank[pairs.second]
    high, low = np.where(swap, pairs.second, pairs.first), np.where(swap, pairs.first, pairs.second)
    decided = np.zeros(n, dtype=bool)
    while len(high):
        blocked = np.zeros(n, dtype=bool)
        blocked[low] = True
        leads = np.flatnonzero(~blocked[high])
        # Among several leaders a box goes to the one of highest priority: written last.
        leads = leads[np.argsort(-rank[high[leads]], kind="stable")]
        leader[low[leads]] = high[leads]
        decided[low[leads]] = True
        decided[high[leads]] = True
        keep = ~(decided[high] | decided[low])
        high, low = high[keep], low[keep]
    return leader


def largest(n: int, rows: IntArray, values: FloatArray) -> FloatArray:
    """float64 array of shape (n,): the largest of the values at each row, 0 where there is none."""
    result = np.zeros(n)
    np.maximum.at(result, rows, values)
    return result


def partner(n: int, own: IntArray, other: IntArray) -> IntArray:
    """int64 array of shape (n,): for every row its partner in a one-to-one list of pairs, or -1."""
    result = np.full(n, NOWHERE, dtype=np.int64)
    result[own] = other
    return result


@dataclass(frozen=True)
class _Corners:
    """Columns of the boxes that have an area, ordered by image and left edge."""

    row: IntArray
    image: IntArray
    key: FloatArray
    x0: FloatArray
    y0: FloatArray
    x1: FloatArray
    y1: FloatArray
    area: FloatArray

    @classmethod
    def of(cls, boxes: Boxes) -> _Corners:
        usable = np.isfinite(boxes.bbox).all(axis=1) & (boxes.bbox[:, 2:] > 0).all(axis=1)
        rows = np.flatnonzero(usable)
        key = _key(boxes.image[rows], boxes.bbox[rows, 0])
        order = np.argsort(key, kind="stable")
        rows = rows[order]
        x, y, w, h = (np.ascontiguousarray(column) for column in boxes.bbox[rows].T)
        return cls(rows, boxes.image[rows], key[order], x, y, x + w, y + h, w * h)


def _key(image: IntArray, x: FloatArray) -> FloatArray:
    """One number that orders by image, then by place."""
    return np.asarray(image * (2.0 * _FAR + 2.0) + np.clip(x, -_FAR, _FAR))


def _candidates(a: _Corners, b: _Corners, min_iou: float) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs on one image whose left edges allow `min_iou`, in chunks.

    IoU >= t needs a common width of at least t times the wider box: so b may start no later than a's right edge less t
    widths of a, and no earlier than a's left edge less what b may be wider (b is at most 1/t times as wide as a, and at
    most as wide as the widest box of its image).
    """
    if not len(a.x0) or not len(b.x0):
        return
    width_a, width_b = a.x1 - a.x0, b.x1 - b.x0
    widest = np.zeros(int(max(a.image[-1], b.image[-1])) + 1)
    np.maximum.at(widest, b.image, width_b)
    reach = np.minimum(widest[a.image], width_a / min_iou) if min_iou > 0 else widest[a.image]
    slack = 1e-3  # Well above what float64 loses when image number and position share one key.
    low = np.searchsorted(b.key, _key(a.image, a.x0 + min_iou * width_a - reach) - slack, side="left")
    high = np.searchsorted(b.key, _key(a.image, a.x1 - min_iou * width_a) + slack, side="right")
    count = np.maximum(high - low, 0)
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + _CHUNK, side="right")), start + 1)
        repeats = count[start:stop]
        total = int(repeats.sum())
        i = np.repeat(np.arange(start, stop), repeats)
        offset = np.arange(total) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        yield i, offset + np.repeat(low[start:stop], repeats)
        start = stop
