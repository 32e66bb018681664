"""Which of the incoming images are shifted, and along which axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from curate.checks.shift.two_sample import CONTENT, TwoSample, units_of

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

ALPHA: Final = 0.05
_FOLDS: Final = 5
_DIRECTIONS: Final = 16
_STRENGTH: Final = 0.05


@dataclass(frozen=True)
class ShiftedImages:
    """What is thought of the incoming images.

    Attributes:
        probability: That each is not from where the reference is; shape (n,), 0 for the reference.
        axis: Place of the axis on which it is furthest out among those that tell, shape (n,); -1 for the content.
        high: Whether it is at the upper end of it.
    """

    probability: FloatArray
    axis: IntArray
    high: BoolArray


def shifted_images(
    measured: FloatArray,
    axes: Sequence[str],
    content: FloatArray,
    incoming: BoolArray,
    groups: IntArray,
    test: TwoSample,
    *,
    seed: int = 0,
) -> ShiftedImages:
    """How probably each incoming image is one that the reference would not have given.

    Of the incoming images at some place on an axis, as many are expected as of the reference; what is beyond that is shifted
    (the local false discovery rate of Efron 2004, with the reference for the null). This is asked of the ends of the axes
    that the test found to differ, and, where the content differs, of the odds that a classifier gives which has not seen the
    image.

    Args:
        measured: Shape (n, k).
        axes: Names of the k axes.
        content: Embedding, shape (n, d).
        incoming: Shape (n,).
        groups: Shape (n,); a group counts once on each side, and is never on both sides of the classifier's folds.
        test: What `two_sample_test` said of them.
        seed: Of the folds.
    """
    n = len(measured)
    unit = units_of(groups, incoming)[0]
    weight = 1 / np.bincount(unit)[unit]
    probability, axis, high = np.zeros(n), np.full(n, -1, np.int64), np.zeros(n, dtype=bool)
    ends: list[tuple[int, bool, FloatArray]] = []
    for result in test.axes:
        if result.p_value > ALPHA:
            continue
        if result.axis == CONTENT:
            ends.append((-1, True, _odds(content, incoming, groups, seed)))
            continue
        k = list(axes).index(result.axis)
        ends += [(k, upper, measured[:, k] * (1 if upper else -1)) for upper in (False, True) if _tells(result, upper)]
    for k, upper, score in ends:
        found = _excess(np.asarray(score, np.float64), incoming, weight)
        better = found > probability
        probability[better], axis[better], high[better] = found[better], k, upper
    return ShiftedImages(probability, axis, high)


def _tells(result: Any, upper: bool) -> bool:
    """Whether an end of an axis has too many incoming images."""
    return bool((result.high if upper else result.low) <= ALPHA)


def _excess(score: FloatArray, incoming: BoolArray, weight: FloatArray) -> FloatArray:
    """1 - (density of the reference) / (density of the incoming images), which rises with the score; shape (n,).

    The ratio comes from an isotonic regression of the side on the score. One more image of the reference is thought to lie
    furthest out, so that a few incoming ones there are no certainty.
    """
    here, there = weight[incoming].sum(), weight[~incoming].sum()
    side = np.append(incoming.astype(np.float64), 0.0)
    places = np.append(score, score.max())
    share = IsotonicRegression().fit(places, side, np.append(weight, 1.0)).predict(score)
    ratio = (1 - share) / np.maximum(share, 1e-12) * here / (there + 1)
    return np.where(incoming, np.clip(1 - ratio, 0, 1), 0.0)


def _odds(content: FloatArray, incoming: BoolArray, groups: IntArray, seed: int) -> FloatArray:
    """Log-odds of being an incoming image, by a classifier that was not shown the image's group; shape (n,)."""
    centred = content.astype(np.float64) - content.mean(axis=0)
    left = np.linalg.svd(centred, full_matrices=False)[0]
    points = left[:, :_DIRECTIONS] * np.sqrt(len(left))
    odds = np.zeros(len(points))
    shuffled = np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups]
    for fitted, held in GroupKFold(_FOLDS).split(points, groups=shuffled):
        if incoming[fitted].all() or not incoming[fitted].any():
            continue
        squares = [np.concatenate([part, np.square(part)], axis=1) for part in (points[fitted], points[held])]
        model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=500).fit(squares[0], incoming[fitted])
        odds[held] = model.decision_function(squares[1])
    return odds
