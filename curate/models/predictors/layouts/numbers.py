"""What the layouts share: probabilities of scores, corners of boxes, and saying that a shape does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.models.predictors.base import Size

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
"""What a network gave for one image, by the name of the output."""


def activate(scores: Array, activation: str) -> Array:
    """Scores to probabilities; softmax is over the last axis."""
    if activation == "sigmoid":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * scores)))
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    return scores


def corners(boxes: Array, form: str, normalised: bool, size: Size) -> Array:
    """Boxes of any form, shape (k, 4), as [x1, y1, x2, y2] in pixels of an input of that size."""
    if form == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif form == "xywh":
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    elif form == "cxcywh":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    if normalised:
        height, width = size
        boxes = boxes * np.array([width, height, width, height], boxes.dtype)
    return boxes


def misfit(layout: str, expected: str, *arrays: Array) -> NoReturn:
    """Say that outputs do not have the shape of a layout.

    Raises:
        InputError: Always; where it is, the caller knows.
    """
    shapes = " and ".join(str(array.shape) for array in arrays)
    raise InputError(f"layout '{layout}' wants {expected} for one image, and the model gives {shapes}")
