"""From a score to the probability that it is none of the set's own: the tail of a distribution, and what is beyond it.

Excesses over the upper quartile follow a Weibull distribution whose scale is fitted with the highest scores censored, so that
outliers among them do not widen the tail that they are judged by. Its shape is not fitted: a few hundred scores do not tell
it, and one that is too large calls the ends of every set outliers. The p-values are uniform, or larger, if nothing is amiss;
where there are more small ones than that, and than chance alone might give, the surplus is outliers: the local false discovery
rate with Grenander's decreasing density (Strimmer, *A unified approach to false discovery rate estimation*, 2008).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

FloatArray = npt.NDArray[np.float64]

FEWEST: Final = 30
"""With fewer scores there is no tail to speak of."""

_START: Final = 0.75
_CENSORED: Final = 0.95
_SHAPE: Final = 1.25
"""Between an exponential tail (1) and that of excesses of a normal distribution over its quartile (about 1.3)."""

_DOUBT: Final = 0.9
"""So many standard deviations of their number (Poisson) are taken off the small p-values: the smallest of n is often half of
what it should be, and no outlier."""

_LOWEST: Final = 1e-150
"""P-values are not told apart below it."""


def tail_p_values(scores: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Probability that one of the set's own would score as high.

    Args:
        scores: Float array of shape (n,); higher is further out.
        weights: How much each counts for what is usual, in (0, 1], the same shape; None: each counts 1.

    Returns:
        float64 array of shape (n,) in (0, 1]; ones if less than `FEWEST` scores count, or most are equal.
    """
    n = len(scores)
    weights = np.ones(n) if weights is None else weights
    if weights.sum() < FEWEST:
        return np.ones(n)
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(weights[order]) - weights[order]
    start, end = (scores[order][np.searchsorted(below / weights.sum(), q, "right") - 1] for q in (_START, _CENSORED))
    if not end > start:
        return np.ones(n)
    excess = np.maximum(scores - start, 0.0)
    known, censored = (excess > 0) & (scores < end), scores >= end
    # Maximum likelihood for the scale under right censoring, in closed form.
    total = weights[known] @ excess[known] ** _SHAPE + weights[censored].sum() * (end - start) ** _SHAPE
    scale = total / max(float(weights[known].sum()), np.finfo(float).tiny)
    beyond = (1 - _START) * np.exp(-(excess**_SHAPE) / max(scale, np.finfo(float).tiny))
    ranked = 1 - below[np.searchsorted(scores[order], scores, "left")] / weights.sum()
    return np.asarray(np.where(excess > 0, np.maximum(beyond, _LOWEST), ranked))


def p_outlier(p_values: FloatArray, groups: npt.NDArray[np.integer]) -> FloatArray:
    """Probability that each of n is an outlier, by how many more small p-values there are than chance gives.

    Args:
        p_values: In (0, 1], shape (n,).
        groups: Numbers that copies, or frames of a video, share, shape (n,): a group counts once, with its smallest.

    Returns:
        float64 array of shape (n,), not increasing in the p-value; 0 from 0.05 on, where the tail was fitted.
    """
    if not len(p_values):
        return np.zeros(0)
    compact = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(compact)
    smallest = np.ones(len(sizes))
    np.minimum.at(smallest, compact, p_values)
    knots, density = _grenander(np.sort(_smallest_of(smallest, sizes)))
    own = _smallest_of(p_values, sizes[compact])
    place = np.minimum(np.searchsorted(knots, own, "left"), len(density) - 1)
    surplus = 1 - 1 / np.maximum(density[place], 1.0)
    return np.asarray(np.where(p_values < 1 - _CENSORED, surplus, 0.0))


def _smallest_of(p_values: FloatArray, count: npt.NDArray[np.integer]) -> FloatArray:
    """Probability that the smallest of so many independent p-values is as small (Sidak)."""
    return np.asarray(-np.expm1(count * np.log1p(-np.minimum(p_values, 1 - 1e-12))))


def _grenander(sorted_p: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The decreasing density of p-values: slopes of the least concave majorant of their distribution.

    Returns:
        Right ends of its steps, and the density on each; float64 arrays of shape (k,).
    """
    n = len(sorted_p)
    x = np.concatenate([[0.0], sorted_p, [1.0]])
    ranks = np.arange(1, n + 1)
    y = np.concatenate([[0.0], (ranks - _DOUBT * np.sqrt(ranks)) / n, [1.0]])
    last = np.append(x[1:] > x[:-1], True)  # the highest of those above one another
    x, y = x[last], y[last]
    width = np.diff(x)
    # The slopes of the majorant are the decreasing regression of those between neighbours (Barlow et al., 1972).
    fitted = isotonic_regression(np.diff(y) / width, weights=width, increasing=False)
    return x[fitted.blocks[1:]], fitted.x[fitted.blocks[:-1]]
