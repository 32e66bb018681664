"""Which predictions overlap which true objects, of whatever class, in COCO's arithmetic: boxes, or masks.

With a crowd region the overlap is the share of the prediction that lies inside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pycocotools import mask as coco_mask

from curate.checks.boxes import BoolArray, Boxes, FloatArray, IntArray
from curate.checks.evaluation.objects import Objects
from curate.checks.mistakes.matching import Pairs, overlapping_pairs

LOWEST: Final = 0.5
"""Pairs that overlap less match at none of COCO's thresholds."""

_TOGETHER: Final = 200_000
"""Images searched at once: the search puts an image's number and a position into one float."""

_SPARE: Final = 1e-9


def box_overlaps(predicted: Objects, truth: Objects) -> Pairs:
    """Pairs of a predicted and a true box on one image that overlap by at least `LOWEST`.

    Returns:
        Rows of `predicted` (`first`) and of `truth` (`second`), and COCO's overlap of each pair.
    """
    single = _pairs(predicted, truth, ~truth.crowd, LOWEST * (1 - _SPARE))
    crowded = _pairs(predicted, truth, truth.crowd, 0.0)
    first = np.concatenate([single.first, crowded.first])
    second = np.concatenate([single.second, crowded.second])
    iou = coco_iou(predicted.bbox[first], truth.bbox[second], truth.crowd[second])
    kept = iou >= LOWEST
    return Pairs(first[kept], second[kept], iou[kept])


def mask_overlaps(
    predicted: Objects, truth: Objects, predicted_masks: Sequence[str], true_masks: Sequence[str], sizes: IntArray
) -> Pairs:
    """The same of masks.

    Args:
        predicted: n objects.
        truth: m objects.
        predicted_masks: COCO compressed run lengths of each; valid ones (`curate.geometry.valid_rles`).
        true_masks: The same.
        sizes: [height, width] of the images; int64 of shape (images, 2).
    """
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    both = np.intersect1d(predicted.image, truth.image)
    bounds = [np.searchsorted(each.image, both, side) for each in (predicted, truth) for side in ("left", "right")]
    for image, a, b, c, d in zip(both.tolist(), *(each.tolist() for each in bounds), strict=True):
        size = sizes[image].tolist()
        iou = coco_mask.iou(
            _rles(predicted_masks[a:b], size), _rles(true_masks[c:d], size), truth.crowd[c:d].astype(np.uint8).tolist()
        )
        i, j = np.nonzero(iou >= LOWEST)
        found.append((a + i, c + j, iou[i, j]))
    if not found:
        return _NO_PAIRS
    return Pairs(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def coco_iou(predicted: FloatArray, truth: FloatArray, crowd: BoolArray) -> FloatArray:
    """Overlap of n pairs of boxes, to the last bit as `pycocotools.mask.iou` has it; shape (n,).

    Args:
        predicted: [x, y, width, height]; shape (n, 4).
        truth: The same.
        crowd: Whether the true box stands for many objects; then the intersection's share of the predicted box.
    """
    sides = [
        np.minimum(predicted[:, 2 + axis] + predicted[:, axis], truth[:, 2 + axis] + truth[:, axis])
        - np.maximum(predicted[:, axis], truth[:, axis])
        for axis in (0, 1)
    ]
    there = (sides[0] > 0) & (sides[1] > 0)
    intersection = np.where(there, sides[0] * sides[1], 0.0)
    area, true_area = predicted[:, 2] * predicted[:, 3], truth[:, 2] * truth[:, 3]
    union = np.where(crowd, area, area + true_area - intersection)
    return np.divide(intersection, union, out=np.zeros_like(union), where=there)


def _pairs(predicted: Objects, truth: Objects, chosen: BoolArray, min_iou: float) -> Pairs:
    """Pairs of overlapping boxes, the images taken some at a time."""
    rows = np.flatnonzero(chosen)
    mine = np.flatnonzero(np.isin(predicted.image, truth.image[rows]))
    parts = [_NO_PAIRS]
    for start in range(0, int(truth.image[rows].max(initial=-1)) + 1, _TOGETHER):
        ours, theirs = (
            side[(each.image[side] >= start) & (each.image[side] < start + _TOGETHER)]
            for each, side in ((predicted, mine), (truth, rows))
        )
        found = overlapping_pairs(
            Boxes(predicted.image[ours] - start, predicted.bbox[ours], predicted.label[ours]),
            Boxes(truth.image[theirs] - start, truth.bbox[theirs], truth.label[theirs]),
            min_iou=min_iou,
        )
        parts.append(Pairs(ours[found.first], theirs[found.second], found.iou))
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "second", "iou")))


def _rles(masks: Sequence[str], size: list[int]) -> list[dict[str, Any]]:
    return [{"counts": mask.encode(), "size": size} for mask in masks]


_NO_PAIRS: Final = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
