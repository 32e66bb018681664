"""Light from one side or from behind, against what is usual in the set. It is no fault; it is told, and not called dark.

`light_cues` has the slope of the light in several ways, each disturbed by what the pictures show: a bright sky, a white wall.
Light changes all of them by the same amount, so that amount is estimated by generalised least squares (Aitken 1936): the
covariance of the cues in the set says which of them its content disturbs, and which disturbances cancel. Pictures that are
lit differently change this covariance along the direction that is estimated only, which changes no weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from curate.checks.measures.light import CUES
from curate.checks.measures.table import Measures
from curate.checks.quality.judge import LONGER_TAIL, against_chance

FloatArray = npt.NDArray[np.float64]

# Octaves: the least deviation of a set of one scene in one light; and what is no unusual light in any set.
_ALIKE: Final = 0.05
_HARMLESS: Final = 0.3
# Standard deviation of a normal variable whose median absolute value is 1.
_PER_MEDIAN: Final = 1.4826
# Deviations beyond which a picture says no more about what is usual.
_FAR: Final = 4.0


@dataclass(frozen=True)
class Lighting:
    """How n pictures are lit, each against the usual of the set; arrays of shape (n,).

    Attributes:
        x: Octaves by which the right border gains on the middle (negative: light from the left).
        y: The same of the lower border (negative: from above).
        center: Octaves by which the middle gains on the border (negative: back light).
        side: Deviations of x and y together from the usual.
        back: Deviations of -center.
        is_side: Probability of unusual light from one side.
        is_back: Probability of unusual back light.
    """

    x: FloatArray
    y: FloatArray
    center: FloatArray
    side: FloatArray
    back: FloatArray
    is_side: FloatArray
    is_back: FloatArray


def lighting(measures: Measures) -> Lighting:
    """Judge the light of n pictures."""
    cues = np.split(measures.columns["light_cues"].astype(np.float64), np.cumsum(CUES)[:-1], axis=1)
    x, y, center = (_common_shift(each) for each in cues)
    side = np.hypot(x / _deviation(x), y / _deviation(y))
    back = -center / _deviation(center)
    # Of two normal variables, a share of exp(-r^2 / 2) is at a distance r or more.
    is_side = against_chance(-((side / LONGER_TAIL) ** 2) / 2) * (np.hypot(x, y) > _HARMLESS)
    is_back = against_chance(log_ndtr(-back / LONGER_TAIL)) * (-center > _HARMLESS)
    return Lighting(x, y, center, side, back, is_side, is_back)


def _common_shift(cues: FloatArray) -> FloatArray:
    """By what all cues of a picture differ from the usual of the set; shape (n, k) to (n,)."""
    n, k = cues.shape
    away = cues - np.median(cues, axis=0) if n else cues
    limit = _FAR * _deviation(away)
    inner = np.clip(away, -limit, limit)
    covariance = inner.T @ inner / max(n, 1)
    # Few pictures tell their covariance badly: it is shrunk towards that of cues which are disturbed independently.
    covariance = (n * covariance + k * np.diag(np.diag(covariance))) / (n + k) + _ALIKE**2 / 4 * np.eye(k)
    weights = np.linalg.solve(covariance, np.ones(k))
    return np.asarray(away @ (weights / weights.sum()))


def _deviation(away: FloatArray) -> FloatArray:
    """Robust standard deviation around 0 of each column, or of one."""
    return (
        np.maximum(_PER_MEDIAN * np.median(abs(away), axis=0), _ALIKE) if len(away) else np.full(away.shape[1:], _ALIKE)
    )
