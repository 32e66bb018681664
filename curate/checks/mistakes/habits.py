"""What is usual for this detector and these labels: how sure it is of which objects, how well boxes fit, how classes are shaped.

All of it is estimated on what was observed, with the classes' own values shrunk towards the common one, so that a class of
which there are few is judged by all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from curate.checks.boxes import Boxes, FloatArray, IntArray
from curate.checks.mistakes.box_fit import BoxFit, fit_boxes
from curate.checks.mistakes.scene import Scene, bounded_logit, log_size

_RIDGE: Final = 10.0
_CLASS_WEIGHT: Final = 10.0
_ROUNDS: Final = 5
_LEAST_SPREAD: Final = 0.1
_MOST_TOLD: Final = 6.0


@dataclass(frozen=True)
class Habits:
    """What is usual.

    Attributes:
        middle_confidence: Median log-odds of the detections that lie on a box.
        middle_size: Median logarithm of the boxes' size.
        ease_weights: float64 array of shape (2,): intercept and size, of the log-odds with which a box is detected.
        ease_of_class: float64 array of shape (classes,), added for the class.
        found_of_class: float64 array of shape (classes,), the part of a class's boxes on which it is detected.
        rank_of_class: float64 array of shape (classes,): 0 for the class with the most boxes, 1 for the next, and so on.
        shape_middle: float64 array of shape (classes, 2), mean logarithm of width and height.
        shape_spread: float64 array of shape (classes, 2), their standard deviation.
        fit: How well boxes of one object usually agree.
    """

    middle_confidence: float
    middle_size: float
    ease_weights: FloatArray
    ease_of_class: FloatArray
    found_of_class: FloatArray
    rank_of_class: FloatArray
    shape_middle: FloatArray
    shape_spread: FloatArray
    fit: BoxFit

    def confidence(self, scores: FloatArray) -> FloatArray:
        """Log-odds of confidences, relative to the middle; shape (n,)."""
        return np.asarray(bounded_logit(scores) - self.middle_confidence)

    def size(self, boxes: Boxes, sizes: FloatArray | None) -> FloatArray:
        """Logarithms of sizes, relative to the middle; shape (n,). `sizes` are of the images."""
        return np.asarray(log_size(boxes, sizes) - self.middle_size)

    def ease(self, boxes: Boxes, size: FloatArray) -> FloatArray:
        """Log-odds with which an object of that class and size is usually detected, less the median; shape (n,)."""
        effects = self.ease_of_class[np.maximum(boxes.label, 0)]
        return np.asarray(self.ease_weights[0] + self.ease_weights[1] * size + effects)

    def shape_tells(self, bbox: FloatArray, given: IntArray, other: IntArray) -> FloatArray:
        """How much better the width and height suit the other class than the given one: a bounded log-ratio, shape (n,)."""
        shape = np.log(bbox[:, 2:])

        def density(label: IntArray) -> FloatArray:
            z = (shape - self.shape_middle[label]) / self.shape_spread[label]
            return np.asarray((-0.5 * z**2 - np.log(self.shape_spread[label])).sum(axis=1))

        return np.clip(density(other) - density(given), -_MOST_TOLD, _MOST_TOLD)

    def fit_features(self, confidence: FloatArray, size: FloatArray) -> FloatArray:
        """What the usual fit depends on, for `fit`; both relative to the middle."""
        return np.stack([np.ones(len(size)), confidence, size], axis=1)


def learn_habits(scene: Scene) -> Habits:
    """Estimate what is usual from a scene."""
    a, b, given = scene.pairs.first, scene.pairs.second, scene.truth.label[scene.pairs.first]
    n_classes = len(scene.classes)
    confidence = bounded_logit(scene.found.confidence[b])
    middle = float(np.median(confidence)) if len(confidence) else 0.0
    sizes = log_size(scene.truth, scene.sizes)
    middle_size = float(np.median(sizes)) if len(sizes) else 0.0
    size = sizes - middle_size
    weights, effects = _ease(size[a], given, confidence - middle, n_classes)
    same = np.flatnonzero(scene.same)
    x = np.stack([np.ones(len(a)), confidence - middle, size[a]], axis=1)
    found = np.bincount(given[scene.same & (scene.pairs.iou >= 0.5)], minlength=n_classes)
    count = np.bincount(scene.truth.label, minlength=n_classes)
    usual = found.sum() / max(count.sum(), 1)
    fit = fit_boxes(scene.pairs.iou[same], x[same], given[same], n_classes, weight=np.ones(len(same)))
    return Habits(
        middle,
        middle_size,
        weights,
        effects,
        (found + _CLASS_WEIGHT * usual) / (count + _CLASS_WEIGHT),
        np.argsort(np.lexsort((found, -count))).astype(np.float64),
        *_shapes(scene, count),
        fit,
    )


def _ease(size: FloatArray, group: IntArray, y: FloatArray, n_groups: int) -> tuple[FloatArray, FloatArray]:
    """Ridge regression on the size, and shrunken class effects."""
    mean = float(y.mean()) if len(y) else 0.0
    x, y = np.stack([np.ones(len(size)), size], axis=1), y - mean
    effects, count = np.zeros(n_groups), np.bincount(group, minlength=n_groups)
    weights: FloatArray = np.zeros(2)
    for _ in range(_ROUNDS):
        weights = np.asarray(
            np.linalg.solve(x.T @ x + _RIDGE * np.eye(2), x.T @ (y - effects[group])), dtype=np.float64
        )
        effects = np.bincount(group, y - x @ weights, minlength=n_groups) / (count + _CLASS_WEIGHT)
    return weights + mean * np.eye(2)[0], effects


def _shapes(scene: Scene, count: IntArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the logarithms of width and height, for every class; two arrays of shape (classes, 2)."""
    shape, label, n_classes = np.log(scene.truth.bbox[:, 2:]), scene.truth.label, len(count)
    weight = (count + _CLASS_WEIGHT)[:, None]

    def by_class(values: FloatArray) -> FloatArray:
        total = np.stack([np.bincount(label, column, minlength=n_classes) for column in values.T], axis=1)
        return np.asarray((total + _CLASS_WEIGHT * values.mean(axis=0)) / weight)

    middle = by_class(shape)
    return middle, np.sqrt(by_class((shape - middle[label]) ** 2) + _LEAST_SPREAD**2)
