"""A detector that is made from the right boxes, as good or poor as is asked for.

Every object has a difficulty, which small objects have more of, and which drives whether it is found, how confidently, how well
the box fits and whether its class is taken for another; false positives and double detections come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from curate.checks.boxes import Boxes, FloatArray


@dataclass(frozen=True)
class Quality:
    """How good a simulated detector is."""

    found: float  # Mean logit of finding an object.
    confident: float  # Mean logit of the confidence of what is found.
    jitter: float  # Standard deviation of an edge, in box sides.
    confused: float  # Share of objects of medium difficulty given another class.
    false_positives: float  # Per object.
    false_confident: float  # Mean logit of their confidence.


QUALITIES: Final = {
    "good": Quality(4.0, 2.5, 0.03, 0.01, 0.2, -2.5),
    "mediocre": Quality(2.5, 1.5, 0.06, 0.04, 0.6, -1.8),
    "poor": Quality(1.0, 0.5, 0.10, 0.10, 1.2, -1.2),
}


def simulate(clean: Boxes, sizes: FloatArray, quality: Quality, rng: Generator) -> Boxes:
    """Predictions of a detector of that quality on the clean boxes."""
    n, n_classes = len(clean), int(clean.label.max()) + 1
    class_effect = rng.normal(0, 0.7, n_classes)
    size = np.log(np.sqrt(clean.bbox[:, 2] * clean.bbox[:, 3]))
    ease = rng.normal(0, 1, n) + class_effect[clean.label] + 0.7 * (size - size.mean()) / max(size.std(), 1e-9)
    found = rng.random(n) < _expit(quality.found + 1.5 * ease)
    confused = (rng.random(n) < 2 * quality.confused * _expit(-ease)) & (n_classes > 1)
    logit = quality.confident + ease + rng.normal(0, 0.7, n) - 1.2 * confused
    sigma = quality.jitter * np.exp(-0.35 * ease + 0.4 * class_effect[clean.label])
    bbox = _jitter(clean.bbox, sigma, rng)
    label = np.where(confused, (clean.label + rng.integers(1, max(n_classes, 2), n)) % n_classes, clean.label)

    extra = rng.integers(0, n, rng.poisson(quality.false_positives * n))
    image = rng.integers(0, len(sizes), len(extra))
    false_box = place(clean.bbox[extra, 2:] * rng.uniform(0.6, 1.4, (len(extra), 2)), sizes[image], rng)
    false_logit = rng.normal(quality.false_confident, 1.0, len(extra))
    # Double detections: the same object again, worse placed and less sure.
    twice = np.flatnonzero(found & (rng.random(n) < 0.06))
    again = _jitter(clean.bbox[twice], np.full(len(twice), 0.22), rng)
    return Boxes(
        np.concatenate([clean.image[found], image, clean.image[twice]]),
        np.concatenate([bbox[found], false_box, again]),
        np.concatenate([label[found], clean.label[extra], clean.label[twice]]),
        _expit(np.concatenate([logit[found], false_logit, logit[twice] - rng.uniform(1, 3, len(twice))])),
        covered=np.arange(len(sizes)),
    )


def _expit(x: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


def _jitter(bbox: FloatArray, sigma: FloatArray, rng: Generator) -> FloatArray:
    """Every edge moved by a normal step of that many sides, heavy-tailed (Student, 5 degrees)."""
    corners = _corners(bbox) + rng.standard_t(5, bbox.shape) * sigma[:, None] * np.tile(bbox[:, 2:], 2)
    extent = np.maximum(corners[:, 2:] - corners[:, :2], 0.2 * bbox[:, 2:])
    return np.concatenate([corners[:, :2], extent], axis=1)


def place(extent: FloatArray, sizes: FloatArray, rng: Generator) -> FloatArray:
    """Boxes of that extent at random places of their images."""
    extent = np.minimum(extent, 0.95 * sizes)
    return np.concatenate([rng.random(extent.shape) * (sizes - extent), extent], axis=1)


def _corners(bbox: FloatArray) -> FloatArray:
    return np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1)
