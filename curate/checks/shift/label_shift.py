"""Has the mixture of classes changed, or what the classes look like? Label shift, apart from covariate shift.

With labels on both sides the two are tested directly: p(y) by the classes on the images, and p(x | y) by what was measured
once the classes on the image are known. Where the incoming images have no labels, but a model's predictions are on both
sides, the incoming mixture is estimated from the model's confusions on the reference (black-box shift estimation, Lipton,
Wang and Smola 2018; here by counts of objects per image, solved with the constraint that no class is less than absent).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from curate.checks.shift.permutation import adjusted_p, combine, permutations_of, rank_p, upper_p
from curate.checks.shift.two_sample import FEWEST_GROUPS, unit_means, units_of

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

_RIDGE: Final = 1e-3


@dataclass(frozen=True)
class ClassShift:
    """How much of the objects are of a class.

    Attributes:
        label: The class.
        reference: Share of the objects there, in [0, 1].
        incoming: Share here; estimated where `estimated`.
        p_value: Of a difference like this, corrected for the number of classes.
        estimated: Whether it comes from predictions.
    """

    label: str
    reference: float
    incoming: float
    p_value: float
    estimated: bool = False


@dataclass(frozen=True)
class LabelShift:
    """What a test of the classes says.

    Attributes:
        p_value: Of the mixture of classes being the same.
        classes: Each class, smallest p-value first.
    """

    p_value: float
    classes: list[ClassShift]


def label_shift_test(
    counts: FloatArray,
    names: Sequence[str],
    incoming: BoolArray,
    groups: IntArray,
    *,
    permutations: int = 999,
    seed: int = 0,
) -> LabelShift | None:
    """Test whether the classes are mixed as in the reference.

    Args:
        counts: Objects of each class on each image, shape (n, c).
        names: Of the c classes.
        incoming: Shape (n,).
        groups: Shape (n,); groups are permuted.
        permutations: How many.
        seed: Of them.

    Returns:
        None if there are too few groups, or no objects on a side.
    """
    unit, side = units_of(groups, incoming)
    present = np.flatnonzero(counts.sum(axis=0) > 0)
    enough = min(side.sum(), (~side).sum()) >= FEWEST_GROUPS
    if not enough or not len(present) or not counts[incoming].any() or not counts[~incoming].any():
        return None
    # A crowded image has one voice, and so has one with a single object: shares say what is there, presence how often.
    objects = np.asarray(counts[:, present], np.float64)
    shares = objects / np.maximum(objects.sum(axis=1, keepdims=True), 1)
    means = unit_means(np.concatenate([shares, objects > 0], axis=1), unit)
    rows = permutations_of(side.astype(np.float32), permutations, np.random.default_rng(seed))
    p = upper_p(rows, np.concatenate([means, -means], axis=1))
    by_class = np.stack([combine(p[:, k :: len(present)]) for k in range(len(present))], axis=1)
    mixture = [objects[which].sum(axis=0) / objects[which].sum() for which in (~incoming, incoming)]
    classes = [
        ClassShift(names[k], float(before), float(now), float(p_value))
        for k, before, now, p_value in zip(present, *mixture, adjusted_p(by_class), strict=True)
    ]
    return LabelShift(rank_p(combine(p)), sorted(classes, key=lambda each: (each.p_value, each.label)))


def estimate_classes(true: FloatArray, predicted: FloatArray, incoming: FloatArray) -> FloatArray:
    """The mixture of classes on images without labels, from a model's predictions.

    Args:
        true: Objects of each class on the labelled reference images, shape (n, c).
        predicted: Objects of each class that the model sees there, shape (n, c).
        incoming: What it sees on the other images, shape (m, c).

    Returns:
        Shares of the classes, shape (c,), summing to 1.
    """
    classes = true.shape[1]
    ridge = _RIDGE * len(true) * np.eye(classes)
    # How many objects of each class the model sees for one of each class that is there.
    confusion = np.linalg.solve(true.T @ true + ridge, true.T @ predicted + ridge)
    found, _ = nnls(confusion.T, incoming.mean(axis=0))
    return np.asarray(found / found.sum() if found.sum() > 0 else np.full(classes, 1 / classes))


def without_classes(values: FloatArray, counts: FloatArray) -> FloatArray:
    """What is left of each column once the classes on the image are known, linearly; the same shape.

    What is tested on it is p(x | y).
    """
    present = counts[:, counts.any(axis=0)]
    known = np.concatenate([np.ones((len(counts), 1)), np.log2(1 + present), present > 0], axis=1)
    ridge = _RIDGE * len(known) * np.eye(known.shape[1])
    fitted = np.linalg.solve(known.T @ known + ridge, known.T @ values)
    return np.asarray(values - known @ fitted)
