"""From what a network gave for one image to a prediction, whatever the layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from curate.errors import InputError
from curate.models.predictors.base import Prediction, Size
from curate.models.predictors.layouts.cells import decode_nanodet, decode_yolov5, decode_yolov8, decode_yolox
from curate.models.predictors.layouts.lists import decode_boxes_scores, decode_detections, decode_detr, decode_rows
from curate.models.predictors.layouts.maps import read_class_map, read_depth_map, read_label_map, read_logits
from curate.models.predictors.layouts.numbers import Outputs
from curate.models.predictors.postprocess import Limits, Proposals, finish
from curate.models.predictors.sidecar import (
    BoxesScores,
    ClassMapLayout,
    DepthMapLayout,
    Detections,
    Detr,
    LabelMap,
    Logits,
    NanoDet,
    Output,
    Rows,
    Yolov5,
    Yolov8,
    Yolox,
)
from curate.runner import Placement

_DETECTORS: Final[dict[type[Output], Callable[[Any, Outputs, Size, float], Proposals]]] = {
    Yolox: decode_yolox,
    Yolov5: decode_yolov5,
    Yolov8: decode_yolov8,
    NanoDet: decode_nanodet,
    Detections: decode_detections,
    Rows: decode_rows,
    Detr: decode_detr,
    BoxesScores: decode_boxes_scores,
}


def read(layout: Output, outputs: Outputs, placement: Placement, limits: Limits, classes: int) -> Prediction:
    """What one image's outputs say.

    Args:
        layout: With the names of its outputs.
        outputs: By name, without the batch's axis.
        placement: Where the image lies in the input.
        limits: Which objects count.
        classes: How many there are.

    Raises:
        InputError: The outputs do not have the layout's shapes.
    """
    match layout:
        case Logits():
            return read_logits(layout, outputs)
        case ClassMapLayout():
            return read_class_map(layout, outputs, placement)
        case LabelMap():
            return read_label_map(layout, outputs, placement, classes)
        case DepthMapLayout():
            return read_depth_map(layout, outputs, placement)
    with np.errstate(over="ignore", invalid="ignore"):  # boxes without end are left out
        proposals = _DETECTORS[type(layout)](layout, outputs, placement.input, limits.min_score)
    highest = int(proposals.labels.max(initial=-1))
    if highest >= classes:
        raise InputError(
            f"the model gives class number {highest}, and there are {classes} names",
            remedy="list all of its classes in the sidecar's 'classes'",
        )
    return finish(proposals, placement, limits)


def count_classes(layout: Output, outputs: Outputs, size: Size) -> int | None:
    """How many classes one image's outputs tell apart; None where they hold class numbers only, or none.

    Raises:
        InputError: The outputs do not have the layout's shapes.
    """
    match layout:
        case Logits():
            return int(outputs[layout.output or ""].shape[-1])
        case ClassMapLayout():
            return len(outputs[layout.output or ""]) - int(layout.background)
        case LabelMap() | DepthMapLayout():
            return None
    probabilities = _DETECTORS[type(layout)](layout, outputs, size, 0.0).probabilities
    return None if probabilities is None else int(probabilities.shape[1])


def output_names(layout: Output) -> list[str]:
    """Names of the outputs that a layout reads."""
    keys = ("output", "boxes", "labels", "scores", "logits", "masks", "prototypes")
    names = [getattr(layout, key, None) for key in keys]
    return [name for name in names if name is not None]
