"""Logistic regression with a slip: tell errors of the labels from errors of the detector, without knowing the truth.

Label and detector either agree (y = 1) or not (y = 0). They disagree for one of two reasons: the detector is wrong, which its
own confidence, the class and the size foretell; or it is right and the label slipped, which nothing foretells. So

    P(y = 1 | x) = (1 - slip) * sigmoid(x . w)

where the sigmoid is the probability that the detector is right and ``slip`` the share of wrong labels. The slip is what keeps
the most certain detections from agreeing always, and it is estimated with w by maximum a posteriori. By Bayes,

    P(label wrong | y = 0, x) = slip * sigmoid / (1 - (1 - slip) * sigmoid).

This is item response theory's upper asymptote (Barton and Lord, 1981, "An upper asymptote for the three-parameter logistic
item-response model"), with class effects shrunk towards a common value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from curate.checks.boxes import FloatArray, IntArray

_FIT_ROWS: Final = 60_000
"""Rows that a fit looks at: the estimates move by less than their use can tell beyond that."""

USUAL_RATE: Final = 0.04
"""Share of wrong labels that is expected before any is seen."""

STRENGTH: Final = 100.0
"""How many labels' worth that expectation is."""


@dataclass(frozen=True)
class Slip:
    """A fitted model.

    Attributes:
        slip: Share of labels that are wrong although the detector is right.
        weights: float64 array of shape (features,).
        effects: float64 array of shape (groups,), added for the row's group.
    """

    slip: float
    weights: FloatArray
    effects: FloatArray

    def right(self, x: FloatArray, group: IntArray) -> FloatArray:
        """Probability that the detector is right, float64 array of shape (n,)."""
        return np.asarray(expit(x @ self.weights + self.effects[group]), dtype=np.float64)

    def wrong_label(self, x: FloatArray, group: IntArray) -> FloatArray:
        """Probability that the label is wrong where detector and label disagree, float64 array of shape (n,)."""
        right = self.right(x, group)
        return self.slip * right / (1.0 - (1.0 - self.slip) * right)


def fit_slip(
    x: FloatArray,
    y: FloatArray,
    group: IntArray,
    n_groups: int,
    *,
    centre: FloatArray,
    spread: FloatArray,
    group_spread: float = 1.0,
    rate: float = USUAL_RATE,
    strength: float = STRENGTH,
    with_slip: bool = True,
) -> Slip:
    """Fit by maximum a posteriori.

    Args:
        x: float64 array of shape (n, features), the first column being 1.
        y: float64 array of shape (n,), in [0, 1]: 1 where detector and label agree.
        group: int64 array of shape (n,), the group (class) of each row.
        n_groups: Number of groups.
        centre: float64 array of shape (features,), prior mean of the weights.
        spread: float64 array of shape (features,), prior standard deviation of the weights.
        group_spread: Prior standard deviation of the groups' effects around 0.
        rate: Prior mean of the slip.
        strength: How many labels' worth the prior mean is.
        with_slip: False holds the slip at 0: a plain logistic regression.

    Returns:
        The model; with no rows, the prior's.
    """
    features = x.shape[1]
    if len(x) > _FIT_ROWS:
        rows = np.random.default_rng(0).choice(len(x), _FIT_ROWS, replace=False)
        x, y, group = x[rows], y[rows], group[rows]

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        w, effects, slip = theta[:features], theta[features:-1], float(expit(theta[-1])) if with_slip else 0.0
        right = np.clip(expit(x @ w + effects[group]), 1e-12, 1.0 - 1e-12)
        agree = (1.0 - slip) * right
        value = -np.sum(y * np.log(agree) + (1.0 - y) * np.log1p(-agree))
        by_agree = -(y / agree - (1.0 - y) / (1.0 - agree))
        by_score = by_agree * (1.0 - slip) * right * (1.0 - right)
        gradient = np.empty_like(theta)
        gradient[:features] = x.T @ by_score + (w - centre) / spread**2
        gradient[features:-1] = np.bincount(group, by_score, minlength=n_groups) + effects / group_spread**2
        gradient[-1] = 0.0
        value += 0.5 * np.sum(((w - centre) / spread) ** 2) + 0.5 * np.sum((effects / group_spread) ** 2)
        if with_slip:
            a, b = strength * rate, strength * (1.0 - rate)
            value -= a * np.log(slip) + b * np.log1p(-slip)
            gradient[-1] = -slip * (1.0 - slip) * np.sum(by_agree * right) - a * (1.0 - slip) + b * slip
        return float(value), gradient

    start = np.concatenate([centre, np.zeros(n_groups), [logit(0.03)]])
    bounds = [(None, None)] * (features + n_groups) + [(logit(1e-4), logit(0.5))]
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200}).x
    return Slip(float(expit(theta[-1])) if with_slip else 0.0, theta[:features], theta[features:-1])
