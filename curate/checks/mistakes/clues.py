"""What speaks for and against a box: numbers for every box of a ground truth and every detection, matched one to one.

The same numbers are taken of the ground truth at hand and of rehearsed ones with known errors. A box is in one of three states,
which have little in common: nothing is detected there, the same class is, or another class. For the regression each state has
its own columns, 0 in the others; the trees find out by themselves.

Nothing here says what errors look like by themselves, apart from the detections: rehearsed errors have the sizes and places of
right boxes, real ones need not. What a size means for the detector is in the habits; and where two classes are in question, the
shape tells for which of them it is the more usual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curate.checks.boxes import NOWHERE, BoolArray, Boxes, FloatArray, IntArray
from curate.checks.mistakes.box_fit import logit_iou
from curate.checks.mistakes.contrast import Examples
from curate.checks.mistakes.habits import Habits
from curate.checks.mistakes.matching import Pairs, largest, overlapping_pairs, partner
from curate.checks.mistakes.scene import SAME_OBJECT, SAME_PLACE, TOUCH, Scene, bounded_logit, match

_FLOOR = 7.0
"""Log-odds of the lowest confidence that counts, below which is nothing."""

_IOU, _Z = (0.4, 0.8), (-4.0, 3.0)
"""Between which a fit is better or worse: how far off a box is that is off, errors of one set need not share with others."""


@dataclass(frozen=True)
class Clues:
    """A ground truth seen beside the detections.

    Attributes:
        boxes: What speaks about every box.
        detections: What speaks about every detection, as if it had no box of its own.
        detection_of: int64 array, for every box its detection, or -1.
        rival: int64 array, for every box the surest detection of another class in its place, or -1.
        box_of: int64 array, for every detection its box, or -1.
        iou: float64 array, overlap of every box with its detection, 0 without one.
        same: bool array, of every box: it has a detection, of its class.
    """

    boxes: Examples
    detections: Examples
    detection_of: IntArray
    rival: IntArray
    box_of: IntArray
    iou: FloatArray
    same: BoolArray

    @property
    def good(self) -> BoolArray:
        """Of every detection: it confirms a box, by class and place."""
        result = np.zeros(len(self.box_of), dtype=bool)
        rows = np.flatnonzero(self.same & (self.iou >= SAME_OBJECT))
        result[self.detection_of[rows]] = True
        return result


def read_clues(scene: Scene, habits: Habits, truth: Boxes) -> Clues:
    """Match a ground truth with the scene's detections, and take all numbers.

    Args:
        scene: The detections, and what can be compared.
        habits: What is usual.
        truth: The scene's ground truth, or one with rehearsed errors; labels numbered as the scene's.
    """
    near = overlapping_pairs(truth, scene.found.boxes, min_iou=TOUCH)
    alike = truth.label[near.first] == scene.found.boxes.label[near.second]
    pairs, same_class = match(near, alike, scene.found.confidence)
    n, m = len(truth), len(scene.found.boxes)
    detection_of, box_of = partner(n, pairs.first, pairs.second), partner(m, pairs.second, pairs.first)
    iou, same = np.zeros(n), np.zeros(n, dtype=bool)
    iou[pairs.first], same[pairs.first] = pairs.iou, same_class
    rival = _rivals(scene, near, alike, n)
    boxes = _box_clues(scene, habits, truth, _Match(near, alike, detection_of, rival, box_of, iou, same))
    detections = _detection_clues(scene, habits, near, alike, box_of)
    return Clues(boxes, detections, detection_of, rival, box_of, iou, same)


def _rivals(scene: Scene, near: Pairs, alike: BoolArray, n: int) -> IntArray:
    """For every box the surest detection of another class that the ground truth has, in the same place; or -1."""
    rows = np.flatnonzero(~alike & (near.iou >= SAME_PLACE) & scene.known(scene.found.boxes.label[near.second]))
    rows = rows[np.argsort(scene.found.confidence[near.second[rows]], kind="stable")]
    result = np.full(n, NOWHERE, dtype=np.int64)
    result[near.first[rows]] = near.second[rows]  # the surest is written last
    return result


@dataclass(frozen=True)
class _Match:
    near: Pairs
    alike: BoolArray
    detection_of: IntArray
    rival: IntArray
    box_of: IntArray
    iou: FloatArray
    same: BoolArray


def _box_clues(scene: Scene, habits: Habits, truth: Boxes, at: _Match) -> Examples:
    n, found = len(truth), scene.found
    has, d = at.detection_of >= 0, np.maximum(at.detection_of, 0)
    nothing, other = ~has, has & ~at.same

    confidence = np.where(has, habits.confidence(found.confidence[d]), 0.0)
    size = habits.size(truth, scene.sizes)
    ease = habits.ease(truth, size)
    x = habits.fit_features(confidence, size)
    usual, spread = habits.fit.usual(x, truth.label)
    z = np.clip((logit_iou(at.iou) - usual) / spread, *_Z)
    iou = np.clip(at.iou, *_IOU)
    said = np.where(has, found.boxes.label[d], NOWHERE)
    share_given, share_said = (bounded_logit(np.where(has, scene.share(d, each), 0.0)) for each in (truth.label, said))
    doubted, r = at.rival >= 0, np.maximum(at.rival, 0)
    rival = np.where(doubted, bounded_logit(found.confidence[r]) + _FLOOR, 0.0)
    rival_label = np.where(doubted, found.boxes.label[r], truth.label)
    shape = habits.shape_tells(truth.bbox, truth.label, rival_label)
    left, left_iou, left_other, taken, best, best_any = _around(at, found.confidence, n)
    one = np.ones(n)
    linear = np.concatenate(
        [
            _columns(nothing, one, ease, taken, left),
            _columns(
                at.same, one, confidence, np.maximum(confidence, 0), confidence - ease, z, np.minimum(z + 1.5, 0),
                5 * np.minimum(iou - 0.5, 0), 3 * confidence * np.minimum(iou - 0.6, 0), ease, left, 3 * left_iou, best,
                share_given, left_other, taken, rival, shape,
            ),
            _columns(
                other, one, confidence, np.maximum(confidence, 0), 5 * (iou - 0.7), share_given, share_said, ease,
                left, best, taken, rival, shape,
            ),
        ],
        axis=1,
    )  # fmt: skip
    raw = [
        has, at.same, confidence, iou, z, ease, left, left_iou, left_other, taken, best, best_any,
        share_given, share_said, habits.rank_of_class[truth.label], habits.found_of_class[truth.label],
        rival, shape,
    ]  # fmt: skip
    return Examples(linear, np.stack(raw, axis=1).astype(np.float64), truth.label, truth.image)


def _around(at: _Match, confidence: FloatArray, n: int) -> tuple[FloatArray, ...]:
    """The strongest other detections at every box, as log-odds above the lowest that counts.

    Left over, of the class (and how far it overlaps); left over, of another class; taken by another box; of the class, taken or
    not; and of any class.
    """
    near, sure = at.near, confidence[at.near.second]
    free = at.box_of[near.second] < 0
    own = at.detection_of[near.first] == near.second
    there = near.iou >= SAME_OBJECT

    def strongest(rows: BoolArray, values: FloatArray) -> FloatArray:
        return largest(n, near.first[rows], values[rows])

    groups = [free & at.alike, free & there & ~at.alike, at.alike & there, there]
    left, left_other, best, best_any = (bounded_logit(strongest(rows, sure)) + _FLOOR for rows in groups)
    left_iou = strongest(free & at.alike, near.iou)
    taken = bounded_logit(strongest(~free & ~own, near.iou * sure)) + _FLOOR
    return left, left_iou, left_other, taken, best, best_any


def _detection_clues(scene: Scene, habits: Habits, near: Pairs, alike: BoolArray, box_of: IntArray) -> Examples:
    boxes, m = scene.found.boxes, len(scene.found.boxes)
    other = box_of[near.second] != near.first
    beside, beside_other = (largest(m, near.second[rows], near.iou[rows]) for rows in (other & alike, other & ~alike))
    size = habits.size(boxes, scene.sizes)
    confidence = habits.confidence(scene.found.confidence)
    ease, double = habits.ease(boxes, size), scene.found.double
    share = bounded_logit(scene.share(np.arange(m), boxes.label)) if m else np.zeros(0)
    label = np.maximum(boxes.label, 0)
    linear = [
        np.ones(m), confidence, np.maximum(confidence, 0), np.minimum(confidence + 2, 0), size, confidence - ease,
        3 * beside, 5 * np.maximum(beside - 0.4, 0), 3 * beside_other, 3 * double, 5 * np.maximum(double - 0.45, 0), share,
    ]  # fmt: skip
    raw = [
        confidence, size, ease, beside, beside_other, double, share,
        habits.rank_of_class[label], habits.found_of_class[label],
    ]  # fmt: skip
    return Examples(np.stack(linear, axis=1), np.stack(raw, axis=1), label, boxes.image)


def _columns(rows: BoolArray, *values: FloatArray) -> FloatArray:
    """The values in the chosen rows, 0 elsewhere."""
    columns = np.zeros((len(rows), len(values)))
    for column, value in zip(columns.T, values, strict=True):
        np.copyto(column, value, where=rows)
    return columns
