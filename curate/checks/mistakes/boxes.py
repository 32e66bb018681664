"""Label errors that boxes show by themselves, with no model: impossible places, sizes and duplicates.

Only what can hardly be right is named, and a habit of the data set is no error: a class whose boxes often fill the image may do
so, and two classes that often share a box are a hierarchy rather than a confusion.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from curate.checks.boxes import Boxes, FloatArray, IntArray, check_sizes, known_sizes
from curate.checks.mistakes.matching import pairs_within
from curate.checks.mistakes.tables import Suspects, merge, suspects

_ROUNDING: Final = 2.0
"""Pixels by which one-based corners, rounding and scaling push a right box over the border."""

_ENOUGH: Final = 20
"""Boxes a class needs before its own distribution says what is unusual."""

_SLIVER_SIDE: Final = 8.0
_SLIVER_Z: Final = -6.0
_FULL: Final = 0.99


def impossible_boxes(truth: Boxes, sizes: FloatArray, *, duplicate_iou: float = 0.95) -> Suspects:
    """Boxes that cannot be right, whatever is in the image.

    Args:
        truth: n ground-truth boxes.
        sizes: float64 array of shape (m, 2), width and height of every image in pixels; 0 or NaN where unknown.
        duplicate_iou: Overlap from which two boxes are one.

    Returns:
        At most one suspect per box. 'mislocated': not finite, without an area, outside of the image, a sliver, or the whole
        image; 'spurious': the same object boxed twice; 'mislabeled': two classes on one box, where `related` is the other.

    Raises:
        InputError: An image has no row in `sizes`.
    """
    check_sizes(sizes, truth)
    parts = [_no_area(truth), _outside(truth, sizes), _slivers(truth), _whole_image(truth, sizes)]
    parts.append(_duplicates(truth, duplicate_iou))
    found = merge(parts)
    # The highest score comes first, so the first row of each box stays.
    _, first = np.unique(found.annotation, return_index=True)
    return found.take(np.sort(first))


def _no_area(truth: Boxes) -> Suspects:
    infinite = ~np.isfinite(truth.bbox).all(axis=1)
    with np.errstate(invalid="ignore"):
        flat = ~infinite & (truth.bbox[:, 2:] <= 0).any(axis=1)
    rows = np.flatnonzero(infinite | flat)
    reason = np.where(infinite.take(rows), "a coordinate is not a finite number", "the box has no area")
    width, height = truth.bbox[rows, 2], truth.bbox[rows, 3]
    return _mislocated(truth, rows, np.full(len(rows), 1.0), reason, width=width, height=height)


def _outside(truth: Boxes, sizes: FloatArray) -> Suspects:
    """Boxes over the border: certain when nothing is inside, less so the less is outside or the more usual it is."""
    rows = np.flatnonzero(truth.usable & known_sizes(sizes)[truth.image])
    x, y, w, h = truth.bbox[rows].T
    limit = sizes[truth.image[rows]]
    over = np.stack([-x, -y, x + w - limit[:, 0], y + h - limit[:, 1]]).max(axis=0)
    x0, y0 = np.clip(x, 0, limit[:, 0]), np.clip(y, 0, limit[:, 1])
    inside = np.stack([x0, y0, np.clip(x + w, 0, limit[:, 0]) - x0, np.clip(y + h, 0, limit[:, 1]) - y0], axis=1)
    share = 1.0 - inside[:, 2] * inside[:, 3] / (w * h)
    # Rounding grows where images were scaled: half a percent of the side.
    crosses = over > np.maximum(_ROUNDING, 0.005 * limit.max(axis=1))
    usual = crosses.mean() if len(rows) >= _ENOUGH else 0.0
    whole = share >= 1.0 - 1e-9
    # Boxes drawn around the unseen rest of cut-off objects are a convention where they are many.
    score = np.where(whole, 1.0, (0.6 + 0.38 * share) * (1.0 - min(4.0 * usual, 0.9)))
    pick = whole | crosses
    reason = np.where(whole, "the box lies outside of the image", "the box reaches over the image's border")
    suggestion = np.where(whole[:, None], np.nan, inside)
    return _mislocated(
        truth,
        rows[pick],
        score[pick],
        reason[pick],
        suggestion[pick],
        outside_share=share[pick],
        outside_pixels=over[pick],
        usual_share=np.full(int(pick.sum()), usual),
    )


def _slivers(truth: Boxes) -> Suspects:
    """Boxes a few pixels thin, in a class that is never so: by robust z-score of the shorter side's logarithm."""
    rows = np.flatnonzero(truth.usable)
    side = np.log(truth.bbox[rows, 2:].min(axis=1))
    label = np.unique(truth.label[rows], return_inverse=True)[1]
    low, middle, count = _quantile(side, label, 0.25), _quantile(side, label, 0.5), np.bincount(label)
    # The lower half's spread: sizes have a longer tail below. 0.6745 sigma lie between quartile and median.
    sigma = np.maximum((middle - low) / 0.6745, 0.1)
    z = (side - middle[label]) / sigma[label]
    pick = (count[label] >= _ENOUGH) & (z < _SLIVER_Z) & (side < np.log(_SLIVER_SIDE))
    score = 1.0 - 0.4 * np.exp((z[pick] - _SLIVER_Z) / 4.0)
    usual = np.exp(middle[label[pick]])
    reason = "the box is a sliver, far thinner than its class is"
    return _mislocated(truth, rows[pick], score, reason, shorter_side=np.exp(side[pick]), usual_side=usual, z=z[pick])


def _whole_image(truth: Boxes, sizes: FloatArray) -> Suspects:
    rows = np.flatnonzero(truth.usable & known_sizes(sizes)[truth.image])
    limit = sizes[truth.image[rows]]
    low = np.maximum(truth.bbox[rows, :2], 0)
    seen = np.minimum(truth.bbox[rows, :2] + truth.bbox[rows, 2:], limit) - low
    full = (seen >= _FULL * limit).all(axis=1)
    label = np.unique(truth.label[rows], return_inverse=True)[1]
    count = np.bincount(label)
    share = np.bincount(label, full, minlength=len(count)) / np.maximum(count, 1)
    # The box itself is left out of what is usual: one among twenty must not look like a habit.
    others = np.maximum(share * count - 1.0, 0.0) / np.maximum(count - 1.0, 1.0)
    pick = full & (count[label] >= _ENOUGH) & (others[label] < 0.02)
    score = 0.7 * (1.0 - others[label[pick]] / 0.02)
    reason = "the box is the whole image, which is unusual for its class"
    return _mislocated(truth, rows[pick], score, reason, usual_share=others[label[pick]])


def _duplicates(truth: Boxes, min_iou: float) -> Suspects:
    rows = np.flatnonzero(truth.usable)
    pairs = pairs_within(truth.take(rows), min_iou=min_iou)
    first, second = rows[pairs.first], rows[pairs.second]
    same = truth.label[first] == truth.label[second]
    habit = _shared_boxes(truth.label[rows], truth.label[first], truth.label[second])
    # A duplicate is certain when exact. Of two classes on a box one is wrong, unless such pairs are a habit.
    twice = 0.9 + 0.1 * (pairs.iou - min_iou) / max(1.0 - min_iou, 1e-9)
    score = np.where(same, twice, 0.9 * (1.0 - np.minimum(habit / 0.2, 1.0)))
    pick = same | (score > 0.0)
    reason = np.where(same, "the same object is boxed twice", "two classes share one box")
    return suspects(
        np.where(same, "spurious", "mislabeled")[pick],
        score[pick],
        truth.image[second[pick]],
        annotation=second[pick],
        related=first[pick],
        label=np.where(same, -1, truth.label[first])[pick],
        reason=reason[pick],
        evidence={"iou": pairs.iou[pick], "usual_share": np.where(same, np.nan, habit)[pick]},
    )


def _shared_boxes(labels: IntArray, first: IntArray, second: IntArray) -> FloatArray:
    """How usual each pair's two classes on one box are: other such pairs, per box of the rarer class."""
    classes, count = np.unique(labels, return_counts=True)
    low = np.searchsorted(classes, np.minimum(first, second))
    high = np.searchsorted(classes, np.maximum(first, second))
    _, code, pairs = np.unique(low * len(classes) + high, return_inverse=True, return_counts=True)
    share: FloatArray = (pairs[code] - 1.0) / np.maximum(np.minimum(count[low], count[high]), _ENOUGH)
    return share


def _mislocated(
    truth: Boxes,
    rows: IntArray,
    score: FloatArray,
    reason: str | np.ndarray[tuple[int, ...], np.dtype[np.str_]],
    bbox: FloatArray | None = None,
    **evidence: FloatArray,
) -> Suspects:
    image = truth.image[rows]
    return suspects("mislocated", score, image, annotation=rows, bbox=bbox, reason=reason, evidence=evidence)


def _quantile(values: FloatArray, group: IntArray, q: float) -> FloatArray:
    """Quantile of each group (groups 0..k-1, none empty), by the nearest lower rank."""
    order = np.lexsort((values, group))
    count = np.bincount(group)
    start = np.cumsum(count) - count
    return np.asarray(values[order[start + np.floor(q * (count - 1)).astype(np.int64)]])
