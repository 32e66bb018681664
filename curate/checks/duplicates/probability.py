"""From how two images compare to the probability that they are copies.

A logistic regression on measures that mean the same for every pair of images gives a log-odds. How far those of unrelated
images reach up differs from set to set, though: pictures of one kind of wagon are more alike than holiday photographs. So
the log-odds of all pairs verified in a set are seen as a mixture of two normal distributions, fitted by expectation
maximisation (Dempster et al., 1977) with a prior on both components that keeps them in place where a set has no copies, or
nothing else; the probability is the posterior of the upper one (Efron, *Large-Scale Inference*, 2010, on empirical nulls).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

WEIGHTS: Final = (5.6, 2.6, 0.85, -8.2, -15.0, 5.2)
BIAS: Final = -8.35
"""Of correlation of detail, agreement, log(1 + inliers), differing area, how far that is above `MUCH`, and whether nothing
moved: fitted on photographs with eight transforms each, rendered scenes under four lights, and scenes that share only their
background; but for the fifth, which is set."""

MUCH: Final = 0.25
"""Where more than this part of the picture differs, the rest is a shared background, frame or overlay."""

FIXED: Final = 0.015
"""A model that moves no corner further than this part of the frame moves nothing."""


@dataclass(frozen=True)
class _Component:
    """A normal distribution, and how many observations its prior is worth."""

    mean: float
    deviation: float
    strength: float


_NULL: Final = _Component(-5.0, 2.2, 40.0)
_COPIES: Final = _Component(5.0, 3.0, 20.0)
_LEAST_DEVIATION: Final = 1.0
_STEPS: Final = 200
_LARGEST_ODDS: Final = 30.0


def log_odds(
    detail: FloatArray, agreement: FloatArray, inliers: FloatArray, differing: FloatArray, displacement: FloatArray
) -> FloatArray:
    """Log-odds that pairs are copies, the same for every set; all arrays of shape (m,)."""
    columns = np.stack(
        [
            np.clip(detail, 0, 1),
            np.clip(agreement, 0, 1),
            np.log1p(inliers),
            np.minimum(differing, 0.5),
            np.maximum(differing - MUCH, 0),
            displacement < FIXED,
        ],
        axis=1,
    )
    return np.asarray(columns @ np.array(WEIGHTS) + BIAS, dtype=np.float64)


def probabilities(odds: FloatArray) -> FloatArray:
    """Probability of each pair to be one of copies, given all pairs verified in a set.

    Args:
        odds: From `log_odds`, shape (m,).

    Returns:
        Shape (m,), in [0, 1]; never falls where the log-odds rise.
    """
    if not len(odds):
        return np.zeros(0)
    values = np.clip(odds, -12, 12)
    means, deviations = (
        np.array([_NULL.mean, _COPIES.mean]),
        np.array([_NULL.deviation, _COPIES.deviation]),
    )
    share = np.array([0.5, 0.5])
    for _ in range(_STEPS):
        before = means.copy()
        posterior = np.exp(_log_posterior(values, means, deviations, share))
        means, deviations, share = _update(values, posterior)
        if np.abs(means - before).max() < 1e-6:
            break
    grid = np.linspace(values.min(), values.max(), 2001)
    curve = _log_posterior(grid, means, deviations, share)
    ratio = np.clip(curve[1] - curve[0], -_LARGEST_ODDS, _LARGEST_ODDS)
    # Two normals of different width cross twice: only the crossing between them means something.
    between = int(np.searchsorted(grid, means.mean()))
    ratio[between:] = np.maximum.accumulate(ratio[between:])
    ratio[:between] = np.minimum.accumulate(ratio[:between][::-1])[::-1]
    ratio = np.maximum.accumulate(ratio)
    # A set can only ask for more than the regression does: that its other pairs differ a lot makes no copies.
    return np.asarray(1 / (1 + np.exp(-np.minimum(np.interp(values, grid, ratio), values))), dtype=np.float64)


def _update(values: FloatArray, posterior: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means, deviations and shares of both components that are most probable, prior included."""
    means, deviations, counts = np.zeros(2), np.zeros(2), np.zeros(2)
    for k, prior in enumerate((_NULL, _COPIES)):
        weight = posterior[k]
        counts[k] = weight.sum() + prior.strength / 20
        total = weight.sum() + prior.strength
        means[k] = (weight @ values + prior.strength * prior.mean) / total
        spread = weight @ (values - means[k]) ** 2 + prior.strength * (
            prior.deviation**2 + (prior.mean - means[k]) ** 2
        )
        deviations[k] = max(float(np.sqrt(spread / total)), _LEAST_DEVIATION)
    return means, deviations, counts / counts.sum()


def _log_posterior(values: FloatArray, means: FloatArray, deviations: FloatArray, share: FloatArray) -> FloatArray:
    """Log-probability of both components, shape (2, m)."""
    scaled = (values - means[:, None]) / deviations[:, None]
    joint = np.log(share / deviations)[:, None] - 0.5 * scaled**2
    return np.asarray(joint - np.logaddexp(joint[0], joint[1]), dtype=np.float64)
