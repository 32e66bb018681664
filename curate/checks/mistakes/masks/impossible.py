"""Masks that cannot be right, from nothing else: no model, no image.

A habit of the set is no error: where rings are drawn with their holes, or masks come in several parts, or end straight because
things are rectangles, that is how the set is. What is usual is asked of the other masks of a class, and of the whole set where a
class has few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import BoolArray, FloatArray, IntArray
from curate.checks.mistakes.masks.measures import NUMBERS
from curate.checks.mistakes.masks.shapes import EMPTY, OTHER_SHAPE, OTHER_SIZE, TOO_FEW_POINTS, UNDECODABLE
from curate.checks.mistakes.tables import Suspects, merge, suspects

_ENOUGH: Final = 20
"""Masks that a class needs before its own habits count more than the set's."""

_BROKEN: Final = {
    UNDECODABLE: "the run lengths do not fill the mask's size, so that nothing can be drawn",
    TOO_FEW_POINTS: "a polygon has fewer than 3 points",
    OTHER_SHAPE: "the mask has other proportions than its image",
    EMPTY: "the mask is empty",
}

_BOX_ROUNDING: Final = 2.0
_BOX_SHARE: Final = 0.03
_SLIVER_Z: Final = -6.0
_SLIVER_WIDTH: Final = 3.0
_STRAIGHT: Final = (0.6, 12.0)
_LOOP: Final = 1e-3


@dataclass(frozen=True)
class Measures:
    """What n masks are like, each on its own.

    Attributes:
        annotation: Rows of the annotations, int64 array of shape (n,).
        image: Rows of their images, the same.
        label: Their classes, the same.
        fault: What is wrong as they are stored (`curate.checks.mistakes.masks.shapes`), str array of shape (n,).
        numbers: `curate.checks.mistakes.masks.measures.NUMBERS` by name; float64 arrays of shape (n,).
        bbox: The boxes that come with them, NaN for none; float64 array of shape (n, 4).
        crowd: Which stand for many objects; bool array of shape (n,).
        doubles: Rows of these columns that have the same pixels, and their IoU.
    """

    annotation: IntArray
    image: IntArray
    label: IntArray
    fault: npt.NDArray[np.str_]
    numbers: dict[str, FloatArray]
    bbox: FloatArray
    crowd: BoolArray
    doubles: Sequence[tuple[int, int, float]] = ()

    @classmethod
    def of(
        cls, annotation: IntArray, image: IntArray, label: IntArray, fault: Sequence[str], numbers: FloatArray,
        bbox: FloatArray, crowd: BoolArray, doubles: Sequence[tuple[int, int, float]],
    ) -> Measures:  # fmt: skip
        """From rows of numbers, shape (n, len(NUMBERS))."""
        columns = {name: numbers[:, place] for place, name in enumerate(NUMBERS)}
        return cls(annotation, image, label, np.asarray(fault, dtype=np.str_), columns, bbox, crowd, doubles)

    @property
    def drawn(self) -> BoolArray:
        """Which have an area."""
        return np.asarray(self.numbers["area"] > 0)

    def habit(self, flags: BoolArray, among: BoolArray) -> FloatArray:
        """How usual something is among the other masks of each one's class, and of the set where those are few."""
        _, label = np.unique(self.label, return_inverse=True)
        count, flagged = np.bincount(label, among), np.bincount(label, flags & among)
        overall = np.maximum(float((flags & among).sum()) - flags, 0.0) / max(float(among.sum()) - 1.0, 1.0)
        others = np.maximum(flagged[label] - flags, 0.0)
        count_others = np.maximum(count[label] - among, 0.0)
        lacking = np.maximum(_ENOUGH - count_others, 0.0)
        return np.asarray((others + lacking * overall) / (count_others + lacking))


def impossible_masks(masks: Measures) -> Suspects:
    """Masks that cannot be right, whatever is in the image.

    Returns:
        Suspects of kind 'bad_mask', several for a mask where several things are wrong with it; and 'spurious' for the second
        of two masks of one class on the same pixels, the first of which is `related`. `annotation` and `related` are rows of
        `masks`; `reason` says why.
    """
    parts = [_broken(masks), _other_size(masks), _box(masks), _holes(masks), _specks(masks), _slivers(masks)]
    parts += [_straight_ends(masks), _crossings(masks), _doubles(masks)]
    return merge(parts)


def _broken(masks: Measures) -> Suspects:
    rows = np.flatnonzero(np.isin(masks.fault, list(_BROKEN)))
    return _bad(
        masks, rows, np.ones(len(rows)), np.array([_BROKEN[str(fault)] for fault in masks.fault[rows]], dtype=np.str_)
    )


def _other_size(masks: Measures) -> Suspects:
    """Masks drawn on a scaled copy of the image: an error where it is not how the set does it."""
    flags = masks.fault == OTHER_SIZE
    usual = masks.habit(flags, np.ones(len(flags), dtype=np.bool_))
    return _unusual(masks, flags, usual, 0.9, 0.2, "the mask is of another size than its image")


def _box(masks: Measures) -> Suspects:
    """Boxes that do not fit their mask: by the edge that is off the most, beyond what rounding does."""
    x, y, width, height = (masks.numbers[name] for name in ("x", "y", "width", "height"))
    known = masks.drawn & np.isfinite(masks.bbox).all(axis=1) & (masks.bbox[:, 2:] > 0).all(axis=1) & ~masks.crowd
    own = np.stack([x, y, x + width, y + height], axis=1)
    given = np.concatenate([masks.bbox[:, :2], masks.bbox[:, :2] + masks.bbox[:, 2:]], axis=1)
    off = np.where(known, np.nan_to_num(np.abs(given - own)).max(axis=1), 0.0)
    flags = off > np.maximum(_BOX_ROUNDING, _BOX_SHARE * np.maximum(width, height))
    common = np.clip(np.minimum(given[:, 2:], own[:, 2:]) - np.maximum(given[:, :2], own[:, :2]), 0, None).prod(axis=1)
    union = width * height + masks.bbox[:, 2:].prod(axis=1) - common
    iou = np.divide(common, union, out=np.zeros_like(common), where=known)
    usual = masks.habit(flags, known)
    reason = np.where(iou > 0, "the box does not fit its mask", "the mask lies outside of its box")
    return _unusual(masks, flags, usual, 0.6 + 0.38 * (1.0 - iou), 0.25, reason, box_iou=iou, box_off=off)


def _holes(masks: Measures) -> Suspects:
    share = masks.numbers["hole_share"]
    usual = masks.habit(share > 0, masks.drawn)
    top = 0.4 + 0.4 * np.minimum(share / 0.1, 1.0)
    return _unusual(
        masks, share > 0, usual, top, 0.1, "the mask has holes, unlike others of its class", hole_share=share
    )


def _specks(masks: Measures) -> Suspects:
    share, gap = masks.numbers["speck_share"], masks.numbers["speck_gap"]
    usual = masks.habit(share > 0, masks.drawn)
    # Close by, it may be what something in front leaves to be seen.
    top = 0.2 + 0.7 * np.minimum(gap / 0.5, 1.0)
    reason = "a speck of the mask lies apart from the rest"
    return _unusual(masks, share > 0, usual, top, 0.1, reason, speck_share=share, speck_distance=gap)


def _slivers(masks: Measures) -> Suspects:
    """Masks hardly a line wide in a class that is not so: by robust z-score of the thickness's logarithm."""
    rows = np.flatnonzero(masks.drawn & ~masks.crowd)
    thickness = np.log(masks.numbers["thickness"][rows])
    _, label = np.unique(masks.label[rows], return_inverse=True)
    z, usual, enough = np.zeros(len(rows)), np.zeros(len(rows)), np.bincount(label, minlength=1) >= _ENOUGH
    for each in np.flatnonzero(enough).tolist():
        own = label == each
        low, middle = np.quantile(thickness[own], [0.25, 0.5])
        # 0.6745 sigma lie between quartile and median.
        z[own] = (thickness[own] - middle) / max((middle - low) / 0.6745, 0.1)
        usual[own] = np.exp(middle)
    pick = (z < _SLIVER_Z) & (thickness < np.log(_SLIVER_WIDTH))
    score = 0.9 - 0.35 * np.exp((z[pick] - _SLIVER_Z) / 4.0)
    reason = "the mask is a sliver, far thinner than its class is"
    evidence = {"thickness": np.exp(thickness[pick]), "usual_thickness": usual[pick]}
    return _bad(masks, rows[pick], score, reason, **evidence)


def _straight_ends(masks: Measures) -> Suspects:
    """Masks that end along a straight line where the image goes on, in a class that is not so: cut off, perhaps."""
    share, length = masks.numbers["cut_share"], masks.numbers["cut_length"]
    flags = (share >= _STRAIGHT[0]) & (length >= _STRAIGHT[1])
    _, label, count = np.unique(masks.label, return_inverse=True, return_counts=True)
    usual = masks.habit(flags, masks.drawn)
    flags &= count[label] >= _ENOUGH
    reason = "the mask ends along a straight line, unlike others of its class"
    return _unusual(masks, flags, usual, 0.3 + 0.3 * share, 0.03, reason, straight_share=share)


def _crossings(masks: Measures) -> Suspects:
    """Polygons that cross themselves: a slip at the closing point, or corners in a wrong order."""
    share = masks.numbers["loop_share"]
    flags = share > _LOOP
    usual = masks.habit(flags, np.ones(len(flags), dtype=np.bool_))
    top = 0.5 + 0.48 * np.minimum(share / 0.1, 1.0)
    return _unusual(masks, flags, usual, top, 0.4, "the polygon crosses itself", loop_share=share)


def _doubles(masks: Measures) -> Suspects:
    first, second = (np.array([pair[k] for pair in masks.doubles], dtype=np.int64) for k in (0, 1))
    iou = np.array([pair[2] for pair in masks.doubles])
    score = 0.9 + 0.1 * np.clip((iou - 0.9) / 0.1, 0.0, 1.0)
    return suspects(
        "spurious", score, masks.image[second], annotation=second, related=first,
        reason="two masks of one class have the same pixels", evidence={"iou": iou},
    )  # fmt: skip


def _unusual(
    masks: Measures, flags: BoolArray, usual: FloatArray, top: float | FloatArray, limit: float,
    reason: str | npt.NDArray[np.str_], **evidence: FloatArray,
) -> Suspects:  # fmt: skip
    """What is flagged, the less likely an error the more usual it is; none from a share of `limit` on."""
    score = np.broadcast_to(top, len(flags)) * np.maximum(1.0 - usual / limit, 0.0)
    rows = np.flatnonzero(flags & (score > 0))
    chosen = {name: column[rows] for name, column in evidence.items()} | {"usual_share": usual[rows]}
    return _bad(masks, rows, score[rows], reason if isinstance(reason, str) else reason[rows], **chosen)


def _bad(
    masks: Measures, rows: IntArray, score: FloatArray, reason: str | npt.NDArray[np.str_], **evidence: FloatArray
) -> Suspects:
    return suspects("bad_mask", score, masks.image[rows], annotation=rows, reason=reason, evidence=evidence)
