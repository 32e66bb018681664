"""From what a detector proposes to what it found: sure enough, no doubles, on the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import Objects
from curate.models.predictors.sampling import Region, sample
from curate.runner import Placement

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK: Final = 256
_MASK_THRESHOLD: Final = 0.5


@dataclass(frozen=True)
class Masks:
    """Masks of proposals, made for those that are kept.

    Attributes:
        of: Given numbers of proposals, shape (k,): probabilities, float32 of shape (k, h, w).
        over: What a mask covers: the whole input, or its proposal's box.
        cropped: Whether what is outside of the box does not count, as it never does where a mask covers the box only.
    """

    of: Callable[[Integers], npt.NDArray[np.float32]]
    over: Literal["input", "box"]
    cropped: bool


@dataclass(frozen=True)
class Proposals:
    """What a network says before it is decided what counts. One class each: its likeliest.

    Attributes:
        boxes: Corners [x1, y1, x2, y2] in pixels of the input; shape (k, 4).
        scores: Shape (k,).
        labels: Shape (k,).
        probabilities: Of all classes, shape (k, classes), where the network tells.
        masks: Of instances.
        has_doubles: Whether one object may have several, so that they have to be suppressed.
    """

    boxes: Array
    scores: Array
    labels: Array
    probabilities: Array | None = None
    masks: Masks | None = None
    has_doubles: bool = True


@dataclass(frozen=True)
class Limits:
    """What counts: as in `curate.models.predictors.base.Options`."""

    min_score: float
    nms_iou: float
    most_objects: int


def best_class(boxes: Array, probabilities: Array, **others: Any) -> Proposals:
    """Proposals from a box and the probabilities of all classes for each."""
    labels = probabilities.argmax(axis=1)
    scores = probabilities[np.arange(len(labels)), labels]
    return Proposals(boxes, scores, labels, probabilities, **others)


def finish(proposals: Proposals, placement: Placement, limits: Limits) -> Objects:
    """What was found on the image.

    Args:
        proposals: In pixels of the input.
        placement: Where the image lies in the input.
        limits: What counts.

    Returns:
        Surest first; of equally sure ones the first. Boxes are clipped to the image, and left out where nothing of them is on
        it, or where they are not finite.
    """
    height, width = placement.image
    chosen = np.flatnonzero((proposals.scores >= limits.min_score) & np.isfinite(proposals.boxes).all(axis=1))
    chosen = chosen[np.argsort(-proposals.scores[chosen], kind="stable")]
    corners = placement.to_image(proposals.boxes[chosen]).clip(0, [width, height, width, height])
    on_image = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    chosen, corners = chosen[on_image], corners[on_image]
    if proposals.has_doubles:
        kept = suppress(proposals.boxes[chosen], proposals.labels[chosen], limits.nms_iou, limits.most_objects)
        chosen, corners = chosen[kept], corners[kept]
    chosen, corners = chosen[: limits.most_objects], corners[: limits.most_objects]
    probabilities = proposals.probabilities
    return Objects(
        size=placement.image,
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        labels=proposals.labels[chosen].astype(np.int64),
        scores=proposals.scores[chosen].astype(np.float64).clip(0, 1),
        probabilities=None if probabilities is None else probabilities[chosen].astype(np.float32).clip(0, 1),
        masks=None if proposals.masks is None else _paste(proposals.masks, chosen, proposals.boxes[chosen], placement),
    )


def suppress(boxes: Array, labels: Array, iou: float, most: int | None = None) -> Integers:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: Corners [x1, y1, x2, y2], shape (k, 4), surest first.
        labels: Classes, shape (k,).
        iou: A box that overlaps a surer one of its class more than this is left out.
        most: How many boxes are wanted; None for all.

    Returns:
        Numbers of the boxes that stay, ascending.
    """
    boxes = boxes.astype(np.float64)
    kept: Integers = np.zeros(0, np.int64)
    for start in range(0, len(boxes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if len(kept):
            block = block[~_doubles(boxes, labels, kept, block, iou).any(axis=0)]
        doubles = np.triu(_doubles(boxes, labels, block, block, iou), 1)
        stays = np.ones(len(block), bool)
        for row in np.flatnonzero(doubles.any(axis=1)):
            if stays[row]:
                stays &= ~doubles[row]
        kept = np.concatenate([kept, block[stays]])
        if most is not None and len(kept) >= most:
            break
    return kept[:most]


def _doubles(boxes: Floats, labels: Array, rows: Integers, columns: Integers, iou: float) -> npt.NDArray[np.bool_]:
    """Which boxes of two lists are of one class and overlap more than `iou`; shape (rows, columns)."""
    left, top, right, bottom = (boxes[rows, axis, None] for axis in range(4))
    others = boxes[columns].T
    across = np.minimum(right, others[2]) - np.maximum(left, others[0])
    down = np.minimum(bottom, others[3]) - np.maximum(top, others[1])
    common = across.clip(0) * down.clip(0)
    areas = (boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0)
    union = areas[rows, None] + areas[columns] - common
    return np.asarray((common > iou * union) & (labels[rows, None] == labels[columns]))


def _paste(masks: Masks, chosen: Integers, boxes: Array, placement: Placement) -> npt.NDArray[np.bool_]:
    """Masks of chosen proposals (corners on the input, shape (k, 4)) on the image; bool of shape (k, height, width)."""
    height, width = placement.image
    pasted = np.zeros((len(chosen), height, width), bool)
    if not len(chosen):
        return pasted
    everything = np.array([0, 0, placement.input[1], placement.input[0]])
    for mask, box, target in zip(masks.of(chosen), boxes, pasted, strict=True):
        left, top, right, bottom = _pixels_in(box, placement) if masks.cropped else (0, 0, width, height)
        if right > left and bottom > top:
            covered = box if masks.over == "box" else everything
            region = _region(mask, covered, placement.to_input([[left, top, right, bottom]])[0])
            probability = sample(mask, region, (bottom - top, right - left))
            target[top:bottom, left:right] = probability > _MASK_THRESHOLD
    return pasted


def _pixels_in(box: Array, placement: Placement) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the image's pixels whose middles are in a box on the input."""
    height, width = placement.image
    left, top, right, bottom = (int(edge) for edge in np.ceil(placement.to_image(box[None])[0] - 0.5))
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _region(mask: Array, covered: Array, wanted: Floats) -> Region:
    """Where some part of the input (corners) lies in a mask that covers another part (corners), in the mask's pixels."""
    x1, y1, x2, y2 = wanted - [covered[0], covered[1], covered[0], covered[1]]
    per_y, per_x = mask.shape[0] / (covered[3] - covered[1]), mask.shape[1] / (covered[2] - covered[0])
    return y1 * per_y, x1 * per_x, y2 * per_y, x2 * per_x
