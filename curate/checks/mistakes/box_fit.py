"""How well a detector's boxes usually fit, and how likely a box that fits worse is misplaced in the ground truth.

The logit of the IoU of a matched pair is taken as Student-t distributed (4 degrees: detectors slip now and then) around what is
usual for the detection's confidence, the object's size and its class, with a spread that depends on the same. A share of the
boxes is misplaced: their IoU spreads over the low and middle range. The share and the usual fit are found by
expectation-maximisation, so that misplaced boxes do not pull what is usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta, t

from curate.checks.boxes import FloatArray, IntArray

_DEGREES: Final = 4.0
_MISPLACED: Final = beta(2.5, 3.0)
"""IoU of a misplaced box with the object's own: below 0.1 nobody would call it the same, above 0.8 nobody would mind."""

_CLASS_WEIGHT: Final = 10.0
"""Boxes' worth of trust in the common value against a class's own."""

_USUAL_RATE: Final = 0.04
"""Share of misplaced boxes that is expected before any is seen."""

_STRENGTH: Final = 100.0
"""Boxes' worth of trust in the usual share of misplaced ones."""

_FIT_ROWS: Final = 60_000
_ROUNDS: Final = 25


@dataclass(frozen=True)
class BoxFit:
    """The usual fit.

    Attributes:
        share: Share of misplaced boxes.
        centre: float64 array of shape (features,), weights of the usual logit IoU.
        spread: float64 array of shape (features,), weights of the logarithm of its spread.
        class_centre: float64 array of shape (groups,), added for the class.
        class_spread: float64 array of shape (groups,), added for the class.
    """

    share: float
    centre: FloatArray
    spread: FloatArray
    class_centre: FloatArray
    class_spread: FloatArray

    def usual(self, x: FloatArray, group: IntArray) -> tuple[FloatArray, FloatArray]:
        """Centre and spread of the logit IoU of well placed boxes, two float64 arrays of shape (n,)."""
        log_spread = np.clip(x @ self.spread + self.class_spread[group], np.log(0.15), np.log(2.0))
        return x @ self.centre + self.class_centre[group], np.exp(log_spread)

    def usual_iou(self, x: FloatArray, group: IntArray) -> FloatArray:
        """Median IoU of well placed boxes like these, float64 array of shape (n,)."""
        return np.asarray(expit(self.usual(x, group)[0]), dtype=np.float64)

    def misplaced(self, iou: FloatArray, x: FloatArray, group: IntArray) -> FloatArray:
        """Probability that a box is misplaced, float64 array of shape (n,)."""
        centre, spread = self.usual(x, group)
        value = logit_iou(iou)
        usual = (1.0 - self.share) * t.pdf((value - centre) / spread, _DEGREES) / spread
        odd = self.share * _MISPLACED.pdf(expit(value)) * expit(value) * expit(-value)
        # A box that fits better than usual is not misplaced, however heavy the tails.
        return np.where(value < centre, odd / (usual + odd), 0.0)


def fit_boxes(iou: FloatArray, x: FloatArray, group: IntArray, n_groups: int, *, weight: FloatArray) -> BoxFit:
    """Fit by expectation-maximisation.

    Args:
        iou: float64 array of shape (n,), IoU of matched pairs.
        x: float64 array of shape (n, features), the first column being 1.
        group: int64 array of shape (n,), the class of each row.
        n_groups: Number of classes.
        weight: float64 array of shape (n,), in [0, 1]: how much each row counts.

    Returns:
        The model; with no rows, that of boxes with an IoU of 0.8 or so.
    """
    if len(iou) > _FIT_ROWS:
        rows = np.random.default_rng(0).choice(len(iou), _FIT_ROWS, replace=False)
        iou, x, group, weight = iou[rows], x[rows], group[rows], weight[rows]
    features = x.shape[1]
    value, first = logit_iou(iou), np.eye(features)[0]
    middle = float(np.median(value)) if len(value) else float(logit(0.8))
    model = BoxFit(0.05, middle * first, np.log(0.5) * first, np.zeros(n_groups), np.zeros(n_groups))
    ridge = np.diag([1e-3] + [5.0] * (features - 1))
    for _ in range(_ROUNDS if len(value) else 0):
        odd = model.misplaced(iou, x, group)
        good = weight * (1.0 - odd)
        share = (float((weight * odd).sum()) + _STRENGTH * _USUAL_RATE) / (float(weight.sum()) + _STRENGTH)
        centre, spread = model.usual(x, group)
        z = (value - centre) / spread
        tail = good * (_DEGREES + 1.0) / (_DEGREES + z**2)
        by_centre = tail / spread**2
        step = np.linalg.solve((x * by_centre[:, None]).T @ x + ridge, x.T @ (by_centre * (value - centre)))
        rest = value - centre - x @ step
        class_step = _shrunk(group, by_centre * rest, by_centre, _CLASS_WEIGHT * float(np.mean(by_centre)), n_groups)
        # Fisher scoring of the log-spread; halved, as the weights of a t make it overshoot.
        surplus = tail * z**2 - good
        scale_step = np.linalg.solve(2.0 * ((x * good[:, None]).T @ x) + ridge, x.T @ surplus)
        class_scale = _shrunk(group, surplus - 2.0 * good * (x @ scale_step), 2.0 * good, 2.0 * _CLASS_WEIGHT, n_groups)
        model = BoxFit(
            share,
            model.centre + step,
            model.spread + scale_step,
            0.9 * model.class_centre + class_step,
            0.9 * model.class_spread + class_scale,
        )
    return model


def _shrunk(group: IntArray, gradient: FloatArray, weight: FloatArray, prior: float, n: int) -> FloatArray:
    total = np.bincount(group, weight, minlength=n) + prior
    return np.asarray(np.bincount(group, gradient, minlength=n) / total, dtype=np.float64)


def logit_iou(iou: FloatArray) -> FloatArray:
    """Logit of the IoU, held where a pixel more or less would otherwise be everything."""
    return np.asarray(logit(np.clip(iou, 0.02, 0.97)), dtype=np.float64)
