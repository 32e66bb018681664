"""How probable it is that a picture is faulty: unusual within its own set, or hopeless by itself.

Two sources are joined. **Relative**: how far the picture is from the set's median, in robust deviations, turned into the
number of pictures that chance alone would put that far in a set of this size. A set that is dark by design has a wide
distribution or a dark median, and nothing in it is unusual. **Absolute**: between a value that nobody would call a fault
and one that is a fault in any set. An unusual picture is a finding only as far as its value is not harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_ndtr

FloatArray = npt.NDArray[np.float64]

# Of how many false alarms per set and fault a flag (probability 0.5) stands for: ten faults in 2,000 images give less than
# one.
_FALSE_ALARMS: Final = 0.05
LONGER_TAIL: Final = 1.25
"""How much longer the tails of real sets are than a normal one's."""

# The upper quantile that tells the spread: a sixth of a set may be faulty without being taken for its custom.
_UPPER: Final = 0.8
_UPPER_DEVIATE: Final = 0.8416
# The least deviation of sizes, octaves.
_ALIKE: Final = 0.1
# Logits from the middle between harmless and hopeless to either.
_SLOPE: Final = 4.0
# Octaves: an image of fewer than 16 pixels shows nothing.
_TINY: Final = 4.0
# A group (objects of one class and size) is judged by itself from this many on.
_GROUP: Final = 20


@dataclass(frozen=True)
class Odds:
    """How probable a fault is, for n pictures.

    Attributes:
        severity: What was judged.
        probability: In [0, 1].
        relative: What being unusual in the set says, before harmless values are let off; in [0, 1].
        absolute: What the value says by itself; in [0, 1].
        typical: The median it was compared with.
    """

    severity: FloatArray
    probability: FloatArray
    relative: FloatArray
    absolute: FloatArray
    typical: FloatArray


def fault_odds(
    severity: FloatArray,
    *,
    harmless: float,
    hopeless: float,
    spread: float,
    groups: npt.NDArray[np.int64] | None = None,
) -> Odds:
    """Judge n pictures by a number that grows with a fault.

    Args:
        severity: Shape (n,), finite.
        harmless: Below this it is no fault.
        hopeless: From here on it is one.
        spread: Standard deviation below which a set's own is not believed.
        groups: Pictures are compared with those of the same number; None to compare all. Shape (n,).
    """
    everyone = np.zeros(len(severity), np.int64)
    relative, typical = relative_odds(severity, everyone if groups is None else groups, spread)
    middle, half = (harmless + hopeless) / 2, (hopeless - harmless) / 2
    absolute = expit(_SLOPE * (severity - hopeless) / half)
    plausible = expit(_SLOPE * (severity - (harmless + middle) / 2) / (half / 2))
    return Odds(severity, 1 - (1 - relative * plausible) * (1 - absolute), relative, absolute, typical)


def size_odds(width: FloatArray, height: FloatArray) -> tuple[Odds, Odds]:
    """Judge sizes and shapes of images against those of their set; a turned image has the same shape.

    Args:
        width: Pixels, shape (n,).
        height: The same.

    Returns:
        Odds of an odd size (half or twice as wide and high as usual at the least; below 16 pixels in any set), and of an odd
        aspect.
    """
    size = (np.log2(width) + np.log2(height)) / 2
    tiny = expit(8 * (_TINY - np.log2(np.minimum(width, height))))
    unusual = _odd(size, 1.0)
    odd_size = Odds(size, 1 - (1 - unusual.probability) * (1 - tiny), unusual.relative, tiny, unusual.typical)
    return odd_size, _odd(abs(np.log2(width) - np.log2(height)), 0.7)


def relative_odds(severity: FloatArray, groups: npt.NDArray[np.int64], spread: float) -> tuple[FloatArray, FloatArray]:
    """Odds against chance, by the number of pictures it would put that far out; and the medians compared with.

    Args:
        severity: Shape (n,), finite.
        groups: As for `fault_odds`.
        spread: The same.
    """
    typical, deviation = _customs(severity, groups, spread)
    return against_chance(_normal_tail((severity - typical) / deviation)), typical


def against_chance(tail: FloatArray) -> FloatArray:
    """Probability of more than chance, by how many pictures of n chance would put that far out.

    Args:
        tail: Logarithm of the share that chance puts there, shape (n,).
    """
    return np.asarray(expit(np.log(_FALSE_ALARMS) - np.log(max(len(tail), 1)) - tail))


def _odd(octaves: FloatArray, least: float) -> Odds:
    """Unusual in either direction, by `least` octaves at the least; however unusual, never wrong by itself."""
    median = np.median(octaves) if len(octaves) else 0.0
    distance = abs(octaves - median)
    deviation = max(np.quantile(distance, _UPPER) / _UPPER_DEVIATE, _ALIKE) if len(octaves) else _ALIKE
    unusual = against_chance(_normal_tail(distance / deviation))
    probability = unusual * expit(8 * (distance - least) / least)
    nothing = np.zeros(len(octaves))
    return Odds(octaves, probability, unusual, nothing, nothing + median)


def _normal_tail(deviates: FloatArray) -> FloatArray:
    """Logarithm of the share of pictures that chance puts that many deviations out, or more."""
    return np.asarray(log_ndtr(-deviates / LONGER_TAIL))


def _customs(severity: FloatArray, groups: npt.NDArray[np.int64], spread: float) -> tuple[FloatArray, FloatArray]:
    """Median and robust standard deviation on the side of the fault, of each picture's group; those of all for small groups."""
    typical, deviation = np.empty(len(severity)), np.empty(len(severity))
    order = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(np.diff(groups[order])) + 1
    overall = _custom(severity, spread) if len(severity) else (0.0, spread)
    for rows in np.split(order, ends):
        typical[rows], deviation[rows] = _custom(severity[rows], spread) if len(rows) >= _GROUP else overall
    return typical, deviation


def _custom(severity: FloatArray, spread: float) -> tuple[float, float]:
    lower, median, upper = np.quantile(severity, [1 - _UPPER, 0.5, _UPPER])
    return float(median), float(max((upper - median) / _UPPER_DEVIATE, (median - lower) / 2 / _UPPER_DEVIATE, spread))
