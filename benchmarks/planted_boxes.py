"""Ground truth with known errors: boxes swapped, deleted, added and shifted, as annotators do it.

Each kind hits the same share of the boxes, and no box more than one. A deleted box is rather a small one: the chance falls with
the rank of its area, to a third for the largest. An added box is one of another image, of its class and at its place (which is
where objects lie in such pictures), that touches no object. A shifted box is moved and scaled until its IoU with itself is
0.3-0.65, and stays inside of the image. A swapped label is any other class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from curate.checks.boxes import Boxes, FloatArray, IntArray
from curate.checks.mistakes.matching import overlapping_pairs

SHARE: Final = 0.05
KINDS: Final = ("mislabeled", "spurious", "mislocated", "missing")

_FREE: Final = 0.1
_SHIFTED: Final = (0.3, 0.65)
_TRIES: Final = 50


@dataclass(frozen=True)
class Planted:
    """Ground truth with errors.

    Attributes:
        truth: n boxes, errors and all.
        wrong: Rows of `truth` that are wrong, by kind.
        deleted: The boxes that are missing.
    """

    truth: Boxes
    wrong: Mapping[str, IntArray]
    deleted: Boxes


def plant(clean: Boxes, sizes: FloatArray, seed: int, share: float = SHARE) -> Planted:
    """Plant errors of every kind.

    Args:
        clean: n boxes, as they are right.
        sizes: float64 array of shape (m, 2), width and height of the images.
        seed: The same seed plants the same errors.
        share: Of the boxes, for every kind; at least three boxes.
    """
    rng = np.random.default_rng([seed, len(clean)])
    n, k = len(clean), max(round(share * len(clean)), 3)
    n_classes = int(clean.label.max()) + 1
    rank = np.argsort(np.argsort(clean.bbox[:, 2] * clean.bbox[:, 3])) / n
    weight = 1.5 - rank
    deleted = np.sort(rng.choice(n, k, replace=False, p=weight / weight.sum()))
    rest = rng.permutation(np.setdiff1d(np.arange(n), deleted))
    swapped, shifted = rest[:k] if n_classes > 1 else rest[:0], rest[k : 2 * k]
    label, bbox = clean.label.copy(), clean.bbox.copy()
    label[swapped] = (label[swapped] + rng.integers(1, max(n_classes, 2), len(swapped))) % n_classes
    bbox[shifted], done = _shift(bbox[shifted], sizes[clean.image[shifted]], rng)
    added = _added(clean, sizes, k, rng)
    keep = np.setdiff1d(np.arange(n), deleted)
    truth = Boxes(
        np.concatenate([clean.image[keep], added.image]),
        np.concatenate([bbox[keep], added.bbox]),
        np.concatenate([label[keep], added.label]),
    )
    wrong = {
        "mislabeled": np.searchsorted(keep, np.sort(swapped)),
        "mislocated": np.searchsorted(keep, np.sort(shifted[done])),
        "spurious": np.arange(len(keep), len(truth)),
    }
    return Planted(truth, wrong, clean.take(deleted))


def _added(clean: Boxes, sizes: FloatArray, k: int, rng: Generator) -> Boxes:
    """Boxes copied to k other images, where they lie on nothing."""
    donor = rng.permutation(np.repeat(np.arange(len(clean)), 20))
    image = rng.integers(0, len(sizes), len(donor))
    bbox = clean.bbox[donor] * np.tile(sizes[image] / sizes[clean.image[donor]], 2)
    added = Boxes(image, bbox, clean.label[donor])
    touching = overlapping_pairs(added, clean, min_iou=0.0)
    free = np.ones(len(donor), dtype=bool)
    # IoU alone lets a small box lie in a large one; so no more than a tenth of either may be shared.
    a = bbox[touching.first, 2] * bbox[touching.first, 3]
    b = clean.bbox[touching.second, 2] * clean.bbox[touching.second, 3]
    common = touching.iou * (a + b) / (1.0 + touching.iou)
    free[touching.first[common > _FREE * np.minimum(a, b)]] = False
    chosen = added.take(np.flatnonzero(free))
    _, first = np.unique(chosen.image, return_index=True)  # one an image
    return chosen.take(np.sort(first)[:k])


def _shift(bbox: FloatArray, sizes: FloatArray, rng: Generator) -> tuple[FloatArray, IntArray]:
    """Boxes moved and scaled, inside of their images; and the rows of those for which a place was found."""
    result, left = bbox.copy(), np.arange(len(bbox))
    for _ in range(_TRIES):
        angle = rng.uniform(0, 2 * np.pi, len(left))
        step = rng.uniform(0.1, 0.6, (len(left), 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        extent = bbox[left, 2:] * rng.uniform(0.7, 1.4, (len(left), 2))
        centre = bbox[left, :2] + bbox[left, 2:] * (0.5 + step)
        low = np.maximum(centre - extent / 2, 0.0)
        high = np.minimum(centre + extent / 2, sizes[left])
        moved = np.concatenate([low, high - low], axis=1)
        pairs = overlapping_pairs(Boxes(left, moved, left), Boxes(left, bbox[left], left), min_iou=_SHIFTED[0])
        good = pairs.first[pairs.iou <= _SHIFTED[1]]
        result[left[good]] = moved[good]
        left = np.delete(left, good)
    return result, np.setdiff1d(np.arange(len(bbox)), left)
