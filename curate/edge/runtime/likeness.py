"""How much two results of one image say the same, from 0 to 1; against the truth, how good one is.

classify: 1 for the same class, else 0. detect: F1 of objects of one class that overlap by half or more. segment: the mean, over
classes that either map has, of the intersection over union. Two results that both find nothing agree.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from curate.runner import VOID, Result

_OVERLAP: Final = 0.5


def likeness(one: Result, other: Result) -> float:
    """Of two results of one task on one image. Objects are taken as they are: leave out what is below a threshold first."""
    if one.probabilities is not None and other.probabilities is not None:
        return float(one.probabilities.argmax() == other.probabilities.argmax())
    if one.class_map is not None and other.class_map is not None:
        return _map_likeness(one.class_map, other.class_map)
    return _object_likeness(one, other)


def _map_likeness(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> float:
    names = np.union1d(one, other)
    names = names[names != VOID]
    if not len(names):
        return 1.0
    parts = [((one == name) & (other == name)).sum() / ((one == name) | (other == name)).sum() for name in names]
    return float(np.mean(parts))


def _object_likeness(one: Result, other: Result) -> float:
    boxes, labels = zip(*(_objects(each) for each in (one, other)), strict=True)
    total = len(labels[0]) + len(labels[1])
    if not total:
        return 1.0
    pairs = (box_overlaps(*boxes) >= _OVERLAP) & (labels[0][:, None] == labels[1][None, :])
    rows, columns = linear_sum_assignment(pairs, maximize=True)
    return float(2 * pairs[rows, columns].sum() / total)


def _objects(result: Result) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Boxes and classes; none where a result has none."""
    if result.boxes is None or result.labels is None:
        return np.zeros((0, 4)), np.zeros(0, np.int64)
    return result.boxes, result.labels


def box_overlaps(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes [x, y, width, height]: shapes (n, 4) and (k, 4) to (n, k)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum((one[:, :2] + one[:, 2:])[:, None], (other[:, :2] + other[:, 2:])[None])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    total = np.prod(one[:, 2:], axis=1)[:, None] + np.prod(other[:, 2:], axis=1)[None] - shared
    return np.asarray(np.divide(shared, total, out=np.zeros_like(shared), where=total > 0))
