"""Networks that say something of the whole image, or of each of its pixels."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import VOID, Classes, ClassMap, DepthMap
from curate.models.predictors.layouts.numbers import Array, Outputs, misfit
from curate.models.predictors.sampling import strips
from curate.models.predictors.sidecar import ClassMapLayout, DepthMapLayout, LabelMap, Logits
from curate.runner import Placement, activate, best_channel

_EITHER: Final = 0.5
_NEAREST: Final = 1e-6  # metres, or their inverse: less is no measurement


def read_logits(layout: Logits, outputs: Outputs) -> Classes:
    """See `curate.models.predictors.sidecar.Logits`."""
    scores = outputs[layout.output or ""]
    if scores.ndim != 1:
        misfit("logits", "[classes]", scores)
    return Classes(activate(scores.astype(np.float32), layout.activation))


def read_class_map(layout: ClassMapLayout, outputs: Outputs, placement: Placement) -> ClassMap:
    """See `curate.models.predictors.sidecar.ClassMapLayout`. Scores are brought to the image's size, then compared.

    What the network did not see of the image is void, with confidence 0.
    """
    scores = outputs[layout.output or ""]
    first = int(layout.background)
    if scores.ndim != 3 or len(scores) <= first:
        misfit("class_map", "[channels, h, w]", scores)
    apart = layout.activation == "sigmoid" or len(scores) == 1
    labels = np.full(placement.image, VOID, np.int16)
    confidence = np.zeros(placement.image, np.float32)
    for rows, columns, planes in strips(scores, placement):
        best, value = best_channel(planes)
        if layout.activation == "softmax" and not apart:
            value = 1 / np.exp(planes - value).sum(axis=0)
        elif apart and layout.activation != "none":
            value = activate(value, "sigmoid")
        if apart:
            # Any class may be there or not, and none where all are less likely than not.
            labels[rows, columns] = np.where(value >= _EITHER, best - first, VOID)
            value = np.maximum(value, 1 - value)
        else:
            labels[rows, columns] = np.where(best >= first, best - first, VOID)
        confidence[rows, columns] = value
    return ClassMap(labels, confidence)


def read_label_map(layout: LabelMap, outputs: Outputs, placement: Placement, classes: int) -> ClassMap:
    """See `curate.models.predictors.sidecar.LabelMap`. Numbers that are no class's are void; all are taken for certain."""
    given = _plane("label_map", outputs[layout.output or ""])
    top, left, bottom, right = placement.seen
    rows = _nearest(top, bottom, placement, axis=0, length=given.shape[0])
    columns = _nearest(left, right, placement, axis=1, length=given.shape[1])
    numbers = np.round(given[np.ix_(rows, columns)]).astype(np.int64) - int(layout.background)
    labels = np.full(placement.image, VOID, np.int16)
    labels[top:bottom, left:right] = np.where((numbers >= 0) & (numbers < classes), numbers, VOID)
    confidence = np.zeros(placement.image, np.float32)
    confidence[top:bottom, left:right] = 1
    return ClassMap(labels, confidence)


def read_depth_map(layout: DepthMapLayout, outputs: Outputs, placement: Placement) -> DepthMap:
    """See `curate.models.predictors.sidecar.DepthMapLayout`. What the network did not see of the image is NaN."""
    given = _plane("depth_map", outputs[layout.output or ""])
    depth = np.full(placement.image, np.nan, np.float32)
    for rows, columns, planes in strips(given[None], placement):
        depth[rows, columns] = planes[0]
    if layout.metric:
        depth[~(depth > _NEAREST)] = np.nan
        return DepthMap(np.float32(1) / depth if layout.nearer_is_larger else depth, metric=True)
    seen = depth[~np.isnan(depth)]
    low, high = float(seen.min(initial=np.inf)), float(seen.max(initial=-np.inf))
    scaled = (depth - np.float32(low)) / np.float32(max(high - low, _NEAREST))
    return DepthMap(np.float32(1) - scaled if layout.nearer_is_larger else scaled, metric=False)


def _plane(layout: str, given: Array) -> Array:
    if given.ndim == 3 and len(given) == 1:
        given = given[0]
    if given.ndim != 2:
        misfit(layout, "[h, w]", given)
    return given


def _nearest(first: int, last: int, placement: Placement, *, axis: int, length: int) -> npt.NDArray[np.int64]:
    """Which of a map's rows (or columns) the middles of the image's rows from first to last are in."""
    middles = np.arange(first, last) + 0.5
    on_input = middles * placement.scale[axis] + placement.offset[axis]
    return np.clip(np.floor(on_input * length / placement.input[axis]).astype(np.int64), 0, length - 1)
