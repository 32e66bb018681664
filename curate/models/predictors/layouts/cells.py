"""Detectors that say something of every cell of a few grids: YOLO and its relatives, and NanoDet."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import Size
from curate.models.predictors.layouts.numbers import Array, Outputs, misfit
from curate.models.predictors.postprocess import Masks, Proposals, best_class
from curate.models.predictors.sidecar import NanoDet, Yolov5, Yolov8, Yolox
from curate.runner import activate, grid, to_corners

LARGEST_LOG: Final = 20.0
"""Of a box's side: exp of more is no box, and would overflow."""


def decode_yolox(layout: Yolox, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.Yolox`; proposals below the score are left out."""
    rows = outputs[layout.output or ""]
    cells = grid(size, layout.strides)
    if rows.ndim != 2 or len(rows) != len(cells) or rows.shape[1] < 6:
        misfit("yolox", f"[{len(cells)}, 5 + classes]", rows)
    objectness = activate(rows[:, 4], layout.activation)
    sure = np.flatnonzero(objectness >= min_score)  # no class is surer than that there is something
    rows, cells = rows[sure], cells[sure]
    strides = cells[:, 2:]
    middles = (rows[:, :2] + cells[:, :2]) * strides
    sides = np.exp(np.minimum(rows[:, 2:4], LARGEST_LOG)) * strides
    boxes = to_corners(np.concatenate([middles, sides], axis=1), "cxcywh", False, size)
    return best_class(boxes, activate(rows[:, 5:], layout.activation) * objectness[sure, None])


def decode_yolov5(layout: Yolov5, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.Yolov5`; proposals below the score are left out."""
    rows = outputs[layout.output or ""]
    if rows.ndim != 2 or rows.shape[1] < 6:
        misfit("yolov5", "[k, 5 + classes]", rows)
    rows = rows[rows[:, 4] >= min_score]
    boxes = to_corners(rows[:, :4], layout.form, layout.normalised, size)
    return best_class(boxes, rows[:, 5:] * rows[:, 4:5])


def decode_yolov8(layout: Yolov8, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.Yolov8`; proposals below the score are left out."""
    columns = outputs[layout.output or ""]
    prototypes = None if layout.prototypes is None else outputs[layout.prototypes]
    weights = 0 if prototypes is None else len(prototypes)
    if columns.ndim != 2:
        misfit("yolov8", "[4 + classes, k]", columns)
    columns = columns if features_first(columns, size) else columns.T
    if len(columns) < 5 + weights:
        misfit("yolov8", f"[4 + classes{f' + {weights}' if weights else ''}, k]", columns)
    end = len(columns) - weights
    columns = columns[:, columns[4:end].max(axis=0) >= min_score]
    boxes = to_corners(columns[:4].T, layout.form, layout.normalised, size)
    probabilities = columns[4:end].T
    if prototypes is None:
        return best_class(boxes, probabilities)
    if prototypes.ndim != 3:
        misfit("yolov8", "prototypes [m, h, w]", prototypes)

    def masks_of(chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        flat = columns[end:, chosen].T @ prototypes.reshape(weights, -1)
        return activate(flat, "sigmoid").reshape(len(chosen), *prototypes.shape[1:]).astype(np.float32)

    return best_class(boxes, probabilities, masks=Masks(masks_of, over="input", cropped=True))


def decode_nanodet(layout: NanoDet, outputs: Outputs, size: Size, min_score: float) -> Proposals:
    """See `curate.models.predictors.sidecar.NanoDet`; proposals below the score are left out."""
    rows = outputs[layout.output or ""]
    cells = grid(size, layout.strides)
    bins = layout.reg_max + 1
    classes = rows.shape[-1] - 4 * bins
    if rows.ndim != 2 or len(rows) != len(cells) or classes < 1:
        misfit("nanodet", f"[{len(cells)}, classes + {4 * bins}]", rows)
    probabilities = activate(rows[:, :classes], layout.activation)
    sure = np.flatnonzero(probabilities.max(axis=1) >= min_score)
    strides = cells[sure, 2:]
    distribution = activate(rows[sure, classes:].reshape(len(sure), 4, bins), "softmax")
    distances = distribution @ np.arange(bins, dtype=distribution.dtype) * strides  # left, top, right, bottom
    middles = (cells[sure, :2] + np.float32(layout.centre)) * strides
    boxes = np.concatenate([middles - distances[:, :2], middles + distances[:, 2:]], axis=1)
    return best_class(boxes, probabilities[sure])


def features_first(columns: Array, size: Size) -> bool:
    """Whether YOLOv8's output is [4 + classes, k], and not [k, 4 + classes]."""
    cells = len(grid(size, (8, 16, 32)))
    if cells in columns.shape and columns.shape[0] != columns.shape[1]:
        return bool(columns.shape[1] == cells)
    return bool(columns.shape[0] < columns.shape[1])
