"""Predictions of one or several detectors as one list of detections, one per object.

Detectors say the same thing several times: once per class (suppression is done class by class), with a double box, or once per
model. Boxes that lie on each other become one detection; what the others said becomes evidence about its class and existence.
The confidence is the mean over the layers, where a layer that saw nothing counts as 0, and the box is the mean of the layers'
best boxes weighted by confidence (Solovyev, Wang and Gabruseva, 2021, "Weighted boxes fusion").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from curate.checks.boxes import Boxes, FloatArray, IntArray, order_by
from curate.checks.mistakes.matching import cluster, largest, pairs_within
from curate.errors import InputError

_SAME_OBJECT: Final = 0.55
"""IoU from which two boxes of one class are one object: weighted boxes fusion's."""

_SAME_PLACE: Final = 0.75
"""IoU from which two boxes of different classes are; lower, and a rider is taken for the horse."""

_NEAR: Final = 0.3


@dataclass(frozen=True)
class Detections:
    """What the detectors found, one row per object.

    Attributes:
        boxes: d boxes with the likeliest label and, as score, the confidence that there is an object.
        prediction: int64 array of shape (d,), row of the leading prediction in the layers one after the other.
        double: float64 array of shape (d,), largest IoU with a detection of higher confidence (0 below 0.3).
    """

    boxes: Boxes
    prediction: IntArray
    double: FloatArray
    _votes: tuple[IntArray, IntArray, FloatArray]  # detection, label, confidence; ordered by the first two
    _n_labels: int

    @property
    def confidence(self) -> FloatArray:
        """float64 array of shape (d,)."""
        assert self.boxes.score is not None
        return self.boxes.score

    def take(self, rows: IntArray) -> Detections:
        """Some of the detections; rows ascend."""
        detection, label, confidence = self._votes
        number = np.full(len(self.boxes), -1, dtype=np.int64)
        number[rows] = np.arange(len(rows))
        voted = np.flatnonzero(number[detection] >= 0)
        return replace(
            self,
            boxes=self.boxes.take(rows),
            prediction=self.prediction[rows],
            double=self.double[rows],
            _votes=(number[detection[voted]], label[voted], confidence[voted]),
        )

    def class_share(self, rows: IntArray, labels: IntArray) -> FloatArray:
        """How much of each detection's evidence about its class speaks for a label, in [0, 1].

        Args:
            rows: int64 array of shape (p,), detections.
            labels: int64 array of shape (p,), one label for each.
        """
        probabilities = self.boxes.probabilities
        if probabilities is not None:
            known = (labels >= 0) & (labels < probabilities.shape[1])
            total = np.maximum(probabilities[rows].sum(axis=1), 1e-12)
            return np.where(known, probabilities[rows, np.where(known, labels, 0)] / total, 0.0)
        detection, label, confidence = self._votes
        total = np.maximum(np.bincount(detection, confidence, minlength=len(self.boxes)), 1e-12)
        codes = detection * self._n_labels + label + 1
        wanted = rows * self._n_labels + labels + 1
        at = np.minimum(np.searchsorted(codes, wanted), max(len(codes) - 1, 0))
        hit = (codes[at] == wanted) & (labels + 1 < self._n_labels) if len(codes) else np.zeros(len(rows), dtype=bool)
        return np.where(hit, confidence[at] / total[rows] if len(codes) else 0.0, 0.0)


def fuse(layers: Sequence[Boxes]) -> Detections:
    """One detection per object out of all layers' predictions.

    Args:
        layers: Predictions of one model each, with scores; `covered` says which images a model has seen.

    Raises:
        InputError: A layer has no scores, or scores outside of [0, 1].
    """
    boxes, layer, origin, seen_by = _stack(layers)
    assert boxes.score is not None
    near = pairs_within(boxes, min_iou=_NEAR)
    same = boxes.label[near.first] == boxes.label[near.second]
    one = near.take((same & (near.iou >= _SAME_OBJECT)) | (near.iou >= _SAME_PLACE))
    leader = cluster(one, boxes.score)
    leads = np.flatnonzero(leader == np.arange(len(boxes)))
    number = np.searchsorted(leads, leader)

    votes = _votes(number, layer, boxes)
    confidence = _per_layer(number, layer, boxes.score, len(leads)) / seen_by[boxes.image[leads]]
    label = boxes.label[leads] if len(layers) == 1 else _elected(votes, len(leads))
    bbox = boxes.bbox[leads] if len(layers) == 1 else _mean_box(number, layer, boxes, len(leads))
    # A double detection is one beside a better one: the pair's weaker leader.
    a, b = number[near.first], number[near.second]
    both = (leader[near.first] == near.first) & (leader[near.second] == near.second)
    weaker = np.where(confidence[a] < confidence[b], a, b)
    return Detections(
        replace(boxes.take(leads), bbox=bbox, label=label, score=np.minimum(confidence, 1.0)),
        origin[leads],
        largest(len(leads), weaker[both], near.iou[both]),
        votes,
        int(boxes.label.max(initial=-1)) + 2,
    )


def _stack(layers: Sequence[Boxes]) -> tuple[Boxes, IntArray, IntArray, FloatArray]:
    """All usable predictions, their layers and rows, and how many layers saw each image."""
    n_images = 1 + max((int(layer.image.max(initial=-1)) for layer in layers), default=-1)
    seen_by = np.zeros(n_images)
    offset, keep = 0, []
    for number, layer in enumerate(layers):
        if layer.score is None:
            raise InputError(
                "predictions need a confidence", where=f"layer {number}", remedy="give a score for every box"
            )
        if not ((layer.score >= 0) & (layer.score <= 1)).all():
            raise InputError(
                "a prediction's confidence is not in [0, 1]", where=f"layer {number}", remedy="rescale the scores"
            )
        rows = np.flatnonzero(layer.usable)
        # No result depends on the order in which predictions came.
        keys = (*layer.bbox[rows].T[::-1], layer.label[rows])
        rows = rows[order_by(layer.image[rows], -layer.score[rows], *keys)]
        seen = np.arange(n_images) if layer.covered is None else layer.covered[layer.covered < n_images]
        seen_by[seen] += 1.0
        keep.append((rows + offset, number, layer.take(rows)))
        offset += len(layer)
    parts = [part for _, _, part in keep]
    widths = {None if part.probabilities is None else part.probabilities.shape[1] for part in parts}
    empty = np.zeros(0, dtype=np.int64)
    stacked = Boxes(
        np.concatenate([empty, *(part.image for part in parts)]),
        np.concatenate([np.zeros((0, 4)), *(part.bbox for part in parts)]),
        np.concatenate([empty, *(part.label for part in parts)]),
        np.concatenate([np.zeros(0), *(part.score for part in parts if part.score is not None)]),
        # Kept only where every layer has the same; with several the votes say more than one model's probabilities.
        parts[0].probabilities if len(parts) == 1 and widths != {None} else None,
    )
    layer_of = np.concatenate([empty, *(np.full(len(part), number) for _, number, part in keep)])
    return stacked, layer_of, np.concatenate([empty, *(rows for rows, _, _ in keep)]), np.maximum(seen_by, 1.0)


def _best_per(keys: tuple[IntArray, ...], score: FloatArray) -> IntArray:
    """Rows with the highest score of each combination of keys, ordered by the keys (the first one most)."""
    order = np.lexsort((-score, *reversed(keys)))
    new = np.zeros(len(order), dtype=bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    return order[new]


def _per_layer(number: IntArray, layer: IntArray, score: FloatArray, n: int) -> FloatArray:
    """Sum over the layers of each one's highest score for each detection."""
    rows = _best_per((number, layer), score)
    return np.bincount(number[rows], score[rows], minlength=n).astype(np.float64)


def _votes(number: IntArray, layer: IntArray, boxes: Boxes) -> tuple[IntArray, IntArray, FloatArray]:
    """Detection, label and summed confidence of every label that a layer gave to a detection."""
    assert boxes.score is not None
    rows = _best_per((number, boxes.label, layer), boxes.score)
    detection, label = number[rows], boxes.label[rows]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (detection[1:] != detection[:-1]) | (label[1:] != label[:-1])
    total = np.bincount(np.cumsum(new) - 1, boxes.score[rows]) if len(rows) else np.zeros(0)
    return detection[new], label[new], total.astype(np.float64)


def _elected(votes: tuple[IntArray, IntArray, FloatArray], n: int) -> IntArray:
    detection, label, confidence = votes
    result = np.zeros(n, dtype=np.int64)
    rows = _best_per((detection,), confidence)
    result[detection[rows]] = label[rows]
    return result


def _mean_box(number: IntArray, layer: IntArray, boxes: Boxes, n: int) -> FloatArray:
    assert boxes.score is not None
    rows = _best_per((number, layer), boxes.score)
    weight = boxes.score[rows] + 1e-9
    total = np.bincount(number[rows], weight, minlength=n)
    sides = [np.bincount(number[rows], weight * boxes.bbox[rows, side], minlength=n) / total for side in range(4)]
    return np.stack(sides, axis=1)
