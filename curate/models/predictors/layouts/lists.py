"""Detectors that give a list of boxes: queries or anchors with scores, or detections that are finished."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import Size
from curate.models.predictors.layouts.cells import LARGEST_LOG
from curate.models.predictors.layouts.numbers import Array, Outputs, misfit
from curate.models.predictors.postprocess import Masks, Proposals, best_class
from curate.models.predictors.sidecar import BoxesScores, Detections, Detr, Priors, Rows
from curate.runner import activate, grid, to_corners


def decode_detr(layout: Detr, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.Detr`; proposals below the score are left out."""
    logits, boxes = outputs[layout.logits or ""], outputs[layout.boxes or ""]
    if logits.ndim != 2 or boxes.shape != (len(logits), 4):
        misfit("detr", "logits [queries, classes] and boxes [queries, 4]", logits, boxes)
    probabilities = activate(logits, layout.activation)
    if layout.activation == "softmax":
        probabilities = probabilities[:, :-1]
    sure = probabilities.max(axis=1) >= min_score
    return best_class(to_corners(boxes[sure], "cxcywh", True, size), probabilities[sure], has_doubles=False)


def decode_boxes_scores(layout: BoxesScores, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.BoxesScores`; proposals below the score are left out."""
    boxes, scores = outputs[layout.boxes or ""], outputs[layout.scores or ""]
    first = int(layout.background)
    if scores.ndim != 2 or scores.shape[1] <= first or boxes.shape != (len(scores), 4):
        misfit("boxes_scores", "boxes [anchors, 4] and scores [anchors, classes]", boxes, scores)
    probabilities = activate(scores, layout.activation)[:, first:]
    sure = probabilities.max(axis=1) >= min_score
    if layout.priors is None:
        found = to_corners(boxes[sure], layout.form, layout.normalised, size)
    else:
        priors = prior_boxes(layout.priors, size)
        if len(priors) != len(boxes):
            misfit("boxes_scores", f"boxes of {len(priors)} priors", boxes)
        found = _from_priors(boxes[sure], priors[sure], layout.priors.variances)
    return best_class(found, probabilities[sure])


def decode_detections(layout: Detections, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.Detections`; the background is left out."""
    boxes, labels = outputs[layout.boxes or ""], outputs[layout.labels or ""]
    scores = boxes[..., 4] if layout.scores is None and boxes.shape[-1] == 5 else outputs[layout.scores or ""]
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5) or not labels.shape == scores.shape == (len(boxes),):
        misfit("detections", "boxes [k, 4], labels [k] and scores [k]", boxes, labels, scores)
    numbers = np.round(labels).astype(np.int64) - int(layout.background)
    there = np.flatnonzero((numbers >= 0) & (scores >= min_score))
    masks = None if layout.masks is None else _given_masks(outputs[layout.masks], there, len(boxes), size)
    return Proposals(
        to_corners(boxes[there, :4], layout.form, layout.normalised, size),
        scores[there],
        numbers[there],
        masks=masks,
        has_doubles=False,
    )


def decode_rows(layout: Rows, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.Rows`."""
    rows = outputs[layout.output or ""]
    if rows.ndim != 2 or rows.shape[1] != 6:
        misfit("rows", "[k, 6]", rows)
    rows = rows[(rows[:, 4] >= min_score) & (rows[:, 5] >= 0)]
    boxes = to_corners(rows[:, :4], layout.form, layout.normalised, size)
    return Proposals(boxes, rows[:, 4], np.round(rows[:, 5]).astype(np.int64), has_doubles=False)


@lru_cache(maxsize=8)
def prior_boxes(priors: Priors, size: Size) -> npt.NDArray[np.float32]:
    """Middles and sides of an SSD's priors, [x, y, width, height] in input pixels, in the order of its outputs; shape (k, 4)."""
    grids = []
    for stride, sides in zip(priors.strides, priors.sizes, strict=False):
        middles = (grid(size, (stride,))[:, :2] + 0.5) * stride
        repeated = np.tile(np.array(sides, np.float32), (len(middles), 1))
        grids.append(np.concatenate([middles.repeat(len(sides), axis=0), repeated], axis=1))
    boxes = np.concatenate(grids)
    return boxes.clip(0, [size[1], size[0]] * 2).astype(np.float32) if priors.clip else boxes


def _from_priors(offsets: Array, priors: Array, variances: tuple[float, float]) -> Array:
    middles = priors[:, :2] + offsets[:, :2] * np.float32(variances[0]) * priors[:, 2:]
    half = priors[:, 2:] * np.exp(np.minimum(offsets[:, 2:] * np.float32(variances[1]), LARGEST_LOG)) / 2
    return np.concatenate([middles - half, middles + half], axis=1)


def _given_masks(masks: Array, there: npt.NDArray[np.int64], count: int, size: Size) -> Masks:
    if masks.ndim == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if masks.ndim != 3 or len(masks) != count:
        misfit("detections", f"masks [{count}, h, w]", masks)
    over_input = masks.shape[1:] == size
    return Masks(
        lambda chosen: masks[there[chosen]].astype(np.float32),
        over="input" if over_input else "box",
        cropped=not over_input,
    )
