"""How well a model's masks usually fit, and how likely a mask that fits worse is badly drawn.

Two numbers tell how an object and what the model takes for it fit: the share of the object that the model agrees with, and the
share of the model's region that is labelled so. A mask that is too small lacks the second, one too large the first, one that is
beside the thing both. Their logits are taken as Student-t distributed (4 degrees: models slip now and then) around what is usual
for the region's size and class and the model's confidence, with a spread that depends on the same; both usually vary together.
A share of the masks is drawn badly: one number, or both, spread over the low and middle range. The share and the usual fit are
found by expectation-maximisation, so that bad masks do not pull what is usual.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta, t

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.mistakes.slip import STRENGTH, USUAL_RATE

_DEGREES: Final = 4.0
_BAD: Final = beta(2.5, 4.0)
_WORST: Final = float(logit(0.1))
_CLEARLY: Final = 3.0
_PIXELS: Final = 2.0
"""Shares of a mask that is drawn badly: mostly as of things that were cut or moved. Else, where outlines are this many pixels
apart on average (as of large regions that lack a piece), anywhere from 0.1 up to so many spreads below what is usual."""

_MOST_BAD: Final = 0.3
"""Where more of the masks than this seem bad, it is the model that draws otherwise."""

_CLASS_WEIGHT: Final = 10.0
_ROUNDS: Final = 25
_SPREADS: Final = (np.log(0.35), np.log(3.0))


def badly_drawn(
    agree: FloatArray, precise: FloatArray, thickness: FloatArray, x: FloatArray, group: IntArray, n_groups: int
) -> tuple[FloatArray, FloatArray, float]:
    """How likely each of n masks is drawn badly.

    Args:
        agree: Share of each mask that the model gives its class; float64 array of shape (n,), in (0, 1).
        precise: Share of the model's region that the mask covers; the same.
        thickness: Of that region, 2 * area / length of the outline, pixels; the same.
        x: float64 array of shape (n, features), the first column being 1.
        group: The class of each, int64 array of shape (n,).
        n_groups: Number of classes.

    Returns:
        The probabilities, shape (n,); what both shares usually are for masks like it, shape (n, 2); and the share of masks
        that seem to be drawn badly.
    """
    share_of = np.stack([agree, precise], axis=1)
    value = logit(share_of)
    n = len(value)
    bad, rate = np.zeros(n), USUAL_RATE
    centre, spread = np.zeros((n, 2)), np.ones((n, 2))
    apart = 0.5 * (1.0 - share_of) * thickness[:, None] >= _PIXELS
    cut = _BAD.pdf(share_of) * share_of * (1.0 - share_of)  # densities of the logits
    for _ in range(_ROUNDS if n else 0):
        good = np.maximum(1.0 - bad, 1e-6)
        for side in (0, 1):
            centre[:, side], spread[:, side] = _usual(value[:, side], x, group, n_groups, good)
        z = (value - centre) / spread
        one = t.pdf(z, _DEGREES) / spread
        highest = centre - _CLEARLY * spread
        low = apart & (value > _WORST) & (value < highest)
        odd = 0.75 * cut + 0.25 * low / np.maximum(highest - _WORST, 1.0)
        # Too small, too large, or beside the thing.
        wrong = rate * (odd[:, 0] * odd[:, 1] + odd[:, 0] * one[:, 1] + one[:, 0] * odd[:, 1]) / 3.0
        right = (1.0 - rate) * _together(z, good) / spread.prod(axis=1)
        # What fits as usual, or better, is drawn well, however heavy the tails.
        bad = np.where(z.min(axis=1) < -0.5, wrong / (wrong + right), 0.0)
        rate = min((float(bad.sum()) + STRENGTH * USUAL_RATE) / (n + STRENGTH), _MOST_BAD)
    return bad, expit(centre), rate


def _usual(
    value: FloatArray, x: FloatArray, group: IntArray, n_groups: int, good: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Centre and spread of well drawn masks, two float64 arrays of shape (n,), by a robust ridge regression."""
    middle = float(np.median(value))
    centre, spread = (
        np.full(len(value), middle),
        np.full(len(value), max(float(np.median(np.abs(value - middle))) * 1.48, 0.3)),
    )
    ridge = np.diag([1e-3] + [2.0] * (x.shape[1] - 1))
    for _ in range(5):
        weight = good * (_DEGREES + 1.0) / (_DEGREES + ((value - centre) / spread) ** 2)
        by = weight / spread**2
        slope = np.linalg.solve((x * by[:, None]).T @ x + ridge, x.T @ (by * value))
        rest = value - x @ slope
        pull = _CLASS_WEIGHT * float(by.mean())
        effect = np.bincount(group, by * rest, minlength=n_groups) / (np.bincount(group, by, minlength=n_groups) + pull)
        centre = x @ slope + effect[group]
        # The spread: a regression of the logarithm of the distance, then scaled to what the distances are.
        size = np.log(np.abs(value - centre) + 0.05)
        lean = np.linalg.solve((x * good[:, None]).T @ x + 5.0 * ridge, x.T @ (good * size))
        relative = np.exp(np.clip(x @ lean - np.average(x @ lean, weights=good), -1.5, 1.5))
        scale = np.sqrt((weight * ((value - centre) / relative) ** 2).sum() / good.sum())
        spread = np.exp(np.clip(np.log(np.maximum(relative * scale, 1e-3)), *_SPREADS))
    return centre, spread


def _together(z: FloatArray, good: FloatArray) -> FloatArray:
    """Density of two numbers that vary together as those of good masks do: bivariate Student-t."""
    power = np.sqrt((good[:, None] * z**2).sum(axis=0).prod())
    correlation = float(np.clip((good * z[:, 0] * z[:, 1]).sum() / power, -0.9, 0.9)) if power > 0 else 0.0
    rest = 1.0 - correlation**2
    distance = (z[:, 0] ** 2 - 2.0 * correlation * z[:, 0] * z[:, 1] + z[:, 1] ** 2) / rest
    return np.asarray((1.0 + distance / _DEGREES) ** (-(_DEGREES + 2.0) / 2.0) / (2.0 * np.pi * np.sqrt(rest)))
