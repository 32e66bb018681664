"""Errors made on purpose: what would the detections say of a box that is swapped, shifted, added or deleted?

A few boxes at a time are spoiled in a copy of the ground truth, which is matched anew; what then speaks about them is an example
of that error, with this detector, on these images. That other labels are wrong already does no harm, as they are few.

A shifted box is moved and scaled at random until it overlaps itself by 0.15-0.75; an added one is a box of the set at a random
place of a random image, where no box is; a swapped label is any other class of the set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.random import Generator

from curate.checks.boxes import Boxes, FloatArray, IntArray, known_sizes
from curate.checks.mistakes.clues import Clues, read_clues
from curate.checks.mistakes.contrast import Examples
from curate.checks.mistakes.habits import Habits
from curate.checks.mistakes.matching import overlapping_pairs
from curate.checks.mistakes.scene import Scene

ERRORS: Final = ("mislabeled", "mislocated", "spurious", "missing")

_SHARE: Final = 0.06
"""Of the boxes that are spoiled in each way at a time: errors stay among right boxes, as in life."""

_EXAMPLES: Final = 2_000
_ENOUGH_BOXES: Final = int(_EXAMPLES / _SHARE)
"""On so many boxes all examples are made in one round; of more, the images are a sample."""

_MOST_ROUNDS: Final = 30
_STEP, _SCALE = 0.28, 0.3
_SHIFTED: Final = (0.15, 0.75)
_FREE: Final = 0.05
_TRIES: Final = 8


def rehearse(scene: Scene, habits: Habits, clues: Clues) -> Mapping[str, Examples]:
    """Examples of every kind of error, by name.

    Args:
        scene: Ground truth and detections.
        habits: What is usual.
        clues: What is observed.

    Returns:
        Boxes for mislabeled, mislocated and spurious, detections for missing. A kind that cannot be made is left out.
    """
    rng = np.random.default_rng(0)
    if len(scene.truth) > _ENOUGH_BOXES:
        scene = scene.of_images(rng.random(scene.n_images) < _ENOUGH_BOXES / len(scene.truth))
        clues = read_clues(scene, habits, scene.truth)
    rows = np.flatnonzero(scene.classes[scene.truth.label] >= 0)
    rounds = int(np.clip(_EXAMPLES / max(_SHARE * len(rows), 1.0), 1, _MOST_ROUNDS))
    made: dict[str, list[Examples]] = {kind: [] for kind in ERRORS}
    for _ in range(rounds if len(rows) >= len(ERRORS) else 0):
        count = max(int(_SHARE * len(rows)), 1)
        swapped, shifted, copied, deleted = rng.permutation(rows)[: count * len(ERRORS)].reshape(len(ERRORS), count)
        for kind, examples in _spoil(scene, habits, clues, swapped, shifted, copied, deleted, rng).items():
            made[kind].append(examples)
    return {kind: Examples.joined(parts) for kind, parts in made.items() if sum(map(len, parts))}


def _spoil(
    scene: Scene,
    habits: Habits,
    clues: Clues,
    swapped: IntArray,
    shifted: IntArray,
    copied: IntArray,
    deleted: IntArray,
    rng: Generator,
) -> dict[str, Examples]:
    """One ground truth with errors of every kind in the chosen rows, and what speaks about them."""
    truth, n = scene.truth, len(scene.truth)
    label, bbox = truth.label.copy(), truth.bbox.copy()
    label[swapped] = _other_class(label[swapped], np.unique(truth.label[scene.known(truth.label)]), rng)
    bbox[shifted], good = _shift(truth.take(shifted), scene.sizes, rng)
    added = _place(truth.take(copied), scene, rng)
    kept = np.setdiff1d(np.arange(n), deleted)
    spoiled = Boxes(
        np.concatenate([truth.image[kept], added.image]),
        np.concatenate([bbox[kept], added.bbox]),
        np.concatenate([label[kept], added.label]),
    )
    seen = read_clues(scene, habits, spoiled)
    at = np.searchsorted(kept, np.arange(n))
    # What is to be found of a deleted box is the detection that was on it, unless another box takes that.
    orphans = clues.detection_of[deleted]
    orphans = orphans[orphans >= 0]
    orphans = orphans[clues.good[orphans] & (seen.box_of[orphans] < 0)]
    return {
        "mislabeled": seen.boxes.take(at[swapped[label[swapped] != truth.label[swapped]]]),
        "mislocated": seen.boxes.take(at[shifted[good]]),
        "spurious": seen.boxes.take(np.arange(len(kept), len(spoiled))),
        "missing": seen.detections.take(orphans),
    }


def _other_class(label: IntArray, classes: IntArray, rng: Generator) -> IntArray:
    """Another of the classes for each label; the same where there is no other."""
    if len(classes) < 2:
        return label
    step = rng.integers(1, len(classes), len(label))
    return np.asarray(classes[(np.searchsorted(classes, label) + step) % len(classes)])


def _shift(boxes: Boxes, sizes: FloatArray | None, rng: Generator) -> tuple[FloatArray, np.ndarray]:
    """Boxes moved and scaled within their images, and which of them overlap what they were as they should."""
    extent = boxes.bbox[:, 2:] * np.exp(rng.normal(0.0, _SCALE, (len(boxes), 2)))
    centre = boxes.bbox[:, :2] + boxes.bbox[:, 2:] * (0.5 + rng.normal(0.0, _STEP, (len(boxes), 2)))
    low, high = centre - extent / 2, centre + extent / 2
    if sizes is not None:
        limit = np.where(known_sizes(sizes)[:, None], sizes, np.inf)[boxes.image]
        low, high = np.maximum(low, 0.0), np.minimum(high, limit)
    moved = np.concatenate([low, high - low], axis=1)
    own = np.arange(len(boxes))
    pairs = overlapping_pairs(Boxes(own, moved, own), Boxes(own, boxes.bbox, own), min_iou=_SHIFTED[0])
    good = np.zeros(len(boxes), dtype=bool)
    good[pairs.first[pairs.iou <= _SHIFTED[1]]] = True
    return np.where(good[:, None], moved, boxes.bbox), good


def _place(boxes: Boxes, scene: Scene, rng: Generator) -> Boxes:
    """The boxes at random places of random images, where they lie on no box; as many as there are, at most."""
    count, images = len(boxes), np.unique(scene.truth.image)
    boxes = boxes.take(np.repeat(np.arange(count), _TRIES))
    image = rng.choice(images, len(boxes))
    bbox = boxes.bbox.copy()
    random = rng.random((len(boxes), 2))
    if scene.sizes is not None:
        known = known_sizes(scene.sizes)
        both = known[boxes.image] & known[image]
        scale = np.divide(
            scene.sizes[image], scene.sizes[boxes.image], out=np.ones((len(boxes), 2)), where=both[:, None]
        )
        bbox *= np.tile(scale, 2)
        room = np.maximum(scene.sizes[image] - bbox[:, 2:], 0.0)
        bbox[:, :2] = np.where(known[image][:, None], random * room, bbox[:, :2])
    placed = Boxes(image, bbox, boxes.label)
    free = np.ones(len(boxes), dtype=bool)
    free[overlapping_pairs(placed, scene.truth, min_iou=_FREE).first] = False
    rows = np.flatnonzero(free)
    _, first = np.unique(image[rows], return_index=True)
    # Of the tries that found room, one on an image, in no order.
    return placed.take(np.sort(rng.permutation(rows[first])[:count]))
