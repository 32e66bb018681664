"""Ground truth and detections side by side: what can be compared, and which box belongs to which detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import logit

from curate.checks.boxes import BoolArray, Boxes, FloatArray, IntArray, known_sizes, order_by
from curate.checks.mistakes.ensemble import Detections
from curate.checks.mistakes.matching import Pairs, assign, covered_share, overlapping_pairs

TOUCH: Final = 0.1
"""IoU from which boxes of one class may be one object."""

SAME_PLACE: Final = 0.4
"""IoU from which boxes of different classes may be."""

SAME_OBJECT: Final = 0.5
"""IoU from which a detection confirms a box."""

_CROWDED: Final = 0.5


@dataclass(frozen=True)
class Scene:
    """Ground truth and detections that can be compared, and who belongs to whom.

    `truth_rows` are rows of the caller's ground truth; `pairs` is one to one, its columns index `truth` and `found.boxes`.
    Labels are renumbered 0..n_classes-1; -1 is a class that the ground truth does not know.
    """

    truth: Boxes
    truth_rows: IntArray
    found: Detections
    classes: IntArray
    pairs: Pairs
    same: BoolArray  # Of each pair: one class.
    checkable: BoolArray  # Of each detection: on a labelled image, not in a crowd region.
    predictable: BoolArray  # Of each class: some detector knows it.
    sizes: FloatArray | None
    n_images: int

    @classmethod
    def of(
        cls, truth: Boxes, found: Detections, layers: Sequence[Boxes], classes: IntArray, sizes: FloatArray | None
    ) -> Scene:
        n_images = 1 + max(
            int(truth.image.max(initial=-1)), *(int(layer.image.max(initial=-1)) for layer in (found.boxes, *layers))
        )
        labelled = _covered([truth], n_images)
        seen = _covered(layers, n_images)
        rows = in_order(truth, np.flatnonzero(truth.usable & seen[truth.image]))
        objects = _relabel(truth.take(rows), classes)
        boxes = _relabel(found.boxes, classes)
        checkable = labelled[boxes.image] & ~_in_crowd(truth, found.boxes)

        near = overlapping_pairs(objects, boxes, min_iou=TOUCH)
        alike = objects.label[near.first] == boxes.label[near.second]
        pairs, same = match(near, alike, found.confidence)

        predictable = np.zeros(len(classes), dtype=bool)
        predictable[boxes.label[boxes.label >= 0]] = True
        predictable &= classes >= 0
        return cls(
            truth=objects,
            truth_rows=rows,
            found=replace(found, boxes=boxes),
            classes=classes,
            pairs=pairs,
            same=same,
            checkable=checkable,
            predictable=predictable,
            sizes=sizes,
            n_images=n_images,
        )

    def of_images(self, chosen: BoolArray) -> Scene:
        """What is on some of the images, which keep their numbers; `chosen` has shape (n_images,)."""
        rows = np.flatnonzero(chosen[self.truth.image])
        found = np.flatnonzero(chosen[self.found.boxes.image])
        both = np.flatnonzero(chosen[self.truth.image[self.pairs.first]])
        pairs = self.pairs.take(both)
        return replace(
            self,
            truth=self.truth.take(rows),
            truth_rows=self.truth_rows[rows],
            found=self.found.take(found),
            pairs=Pairs(np.searchsorted(rows, pairs.first), np.searchsorted(found, pairs.second), pairs.iou),
            same=self.same[both],
            checkable=self.checkable[found],
        )

    def known(self, labels: IntArray) -> BoolArray:
        """Which renumbered labels are classes that the ground truth has, and that have a name."""
        known = labels >= 0
        known[known] = self.classes[labels[known]] >= 0
        return known

    def share(self, rows: IntArray, labels: IntArray) -> FloatArray:
        """`Detections.class_share` for renumbered labels."""
        return self.found.class_share(rows, np.where(labels >= 0, self.classes[labels], -1))


def match(near: Pairs, alike: BoolArray, confidence: FloatArray) -> tuple[Pairs, BoolArray]:
    """One-to-one pairs of boxes and detections, whatever their classes; and which of them are of one class.

    Overlap counts above all, then the class, then a detection that is worth its name.

    Args:
        near: Boxes and detections that overlap.
        alike: Of each of these, whether they are of one class.
        confidence: Of every detection.
    """
    rows = np.flatnonzero(alike | (near.iou >= SAME_PLACE))
    candidates, same = near.take(rows), alike[rows]
    weight = candidates.iou + 0.3 * same + 0.2 * confidence[candidates.second]
    chosen = assign(candidates, weight)
    return candidates.take(chosen), same[chosen]


def in_order(boxes: Boxes, rows: IntArray) -> IntArray:
    """The rows ordered by what they say, so that no result depends on the order in which they came."""
    return rows[order_by(boxes.image[rows], *boxes.bbox[rows].T, boxes.label[rows])]


def bounded_logit(p: FloatArray) -> FloatArray:
    """Logit of a confidence, held where detectors no longer mean what they say."""
    return np.asarray(logit(np.clip(p, 1e-3, 1.0 - 1e-3)))


def _in_crowd(truth: Boxes, boxes: Boxes) -> BoolArray:
    """Which boxes lie mostly in a crowd region."""
    if not truth.crowds.any():
        return np.zeros(len(boxes), dtype=bool)
    crowds = truth.take(truth.crowds)
    pairs = overlapping_pairs(crowds, boxes, min_iou=0.0)
    result = np.zeros(len(boxes), dtype=bool)
    result[pairs.second[covered_share(pairs, crowds, boxes) >= _CROWDED]] = True
    return result


def _covered(layers: Sequence[Boxes], n_images: int) -> BoolArray:
    """Which images at least one layer has seen."""
    result = np.zeros(n_images, dtype=bool)
    for layer in layers:
        result[slice(None) if layer.covered is None else layer.covered[layer.covered < n_images]] = True
    return result


def _relabel(boxes: Boxes, classes: IntArray) -> Boxes:
    at = np.minimum(np.searchsorted(classes, boxes.label), max(len(classes) - 1, 0))
    known = classes[at] == boxes.label if len(classes) else np.zeros(len(boxes), dtype=bool)
    return Boxes(boxes.image, boxes.bbox, np.where(known, at, -1), boxes.score, boxes.probabilities)


def log_size(boxes: Boxes, sizes: FloatArray | None) -> FloatArray:
    """Logarithm of the square root of the area: as a share of the image where sizes of images are known, else in pixels."""
    area = boxes.bbox[:, 2] * boxes.bbox[:, 3]
    if sizes is not None:
        whole = np.where(known_sizes(sizes), sizes.prod(axis=1), np.nan)
        known = whole[np.isfinite(whole)]
        usual = float(np.median(known)) if len(known) else 1.0
        area = area / np.nan_to_num(whole, nan=usual)[boxes.image]
    return np.asarray(0.5 * np.log(area))
