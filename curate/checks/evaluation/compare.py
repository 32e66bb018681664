"""Is one model better than another? Differences on the same images, with intervals by a paired bootstrap.

Metrics of all images have percentile intervals. Classes and slices are many, and some would differ by chance alone: their
intervals hold all at once, by the largest standardised difference among all classes (among all slices) of each resample
(max-t; Romano and Wolf 2005), which takes into account that they go together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.evaluation.base import Evaluation, Key
from curate.checks.evaluation.bootstrap import LEVEL, draw, percentiles, resample
from curate.models.passes import Progress

RESAMPLES: Final = 1000

FEWEST: Final = 6
"""Of fewer independent groups of images nothing can be said: even if all agree, chance does so in 1 of 2^(n - 1) cases."""

CORRECTION: Final = "max-t bootstrap (Romano and Wolf 2005)"

_PARTS: Final = ("all", "class", "slice")

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Difference:
    """One number of two models.

    Attributes:
        part: Of all images, of a class, or of a slice.
        name: The metric, the class or the slice.
        value: Of the first model.
        other: Of the second.
        low: Lower end of the 95% interval of value - other; None where there is none.
        high: Its upper end.
        verdict: Whether the first is better.
        corrected: Whether the interval holds for all classes, or slices, at once.
    """

    part: str
    name: str
    value: float | None
    other: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    corrected: bool

    def row(self) -> dict[str, Any]:
        """JSON-ready."""
        both = self.value is not None and self.other is not None
        return {
            "of": self.part,
            "name": self.name,
            "value": self.value,
            "against": self.other,
            "difference": (self.value or 0.0) - (self.other or 0.0) if both else None,
            "low": self.low,
            "high": self.high,
            "verdict": self.verdict,
        }


def compare(
    first: Evaluation,
    second: Evaluation,
    groups: IntArray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Difference]:
    """Compare two evaluations of the same images in the same order.

    Args:
        first: Whether this one is better is asked.
        second: Than this one.
        groups: Numbers that images share which are not independent; (images,).
        resamples: How many.
        seed: Of them.
        progress: Told how many are done.

    Returns:
        Metrics of all images, then classes, then slices, those that both have; of classes and slices those first that
        differ.
    """
    values, others = first.values(), second.values()
    enough = len(np.unique(groups)) >= FEWEST

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, resamples)

    drawn = resample([first.resample, second.resample], draw(groups, resamples, seed), tell)
    shared = [key for key in drawn[0] if key in drawn[1] and key in values and key in others]
    draws = {key: drawn[0][key] - drawn[1][key] for key in shared}
    spread = {key: percentiles(draws[key]) if enough else None for key in shared if key[0] == "all"}
    for part in _PARTS[1:]:
        family = [key for key in shared if key[0] == part and _groups_of(first, second, key, groups) >= FEWEST]
        estimates = {key: (values[key] or 0.0) - (others[key] or 0.0) for key in family}
        spread |= simultaneous(estimates, draws)
    found = [_difference(key, values[key], others[key], spread.get(key)) for key in shared]
    return sorted(
        found, key=lambda each: (_PARTS.index(each.part), each.part != "all" and each.verdict == "cannot tell")
    )


def simultaneous(
    estimates: Mapping[Key, float], draws: Mapping[Key, FloatArray], level: float = LEVEL
) -> dict[Key, tuple[float, float] | None]:
    """Intervals that hold all at once with this probability.

    Args:
        estimates: Differences as they are.
        draws: The same of each resample, (resamples,), NaN where there is none; may have more keys.
        level: Probability.

    Returns:
        None for those that have a value in less than half of the resamples.
    """
    found: dict[Key, tuple[float, float] | None] = dict.fromkeys(estimates)
    known = [key for key in estimates if np.isfinite(draws[key]).mean() >= 1 / 2]
    keys = [key for key in known if np.nanstd(draws[key]) > 0]
    found |= {key: (estimates[key], estimates[key]) for key in known if key not in keys}
    if not keys:
        return found
    every = np.stack([draws[key] for key in keys])
    error = np.nanstd(every, axis=1, ddof=1)
    distance = np.abs(every - np.array([estimates[key] for key in keys])[:, None]) / error[:, None]
    reach = float(np.quantile(np.nan_to_num(distance).max(axis=0), level))
    for key, each in zip(keys, (error * reach).tolist(), strict=True):
        found[key] = (estimates[key] - each, estimates[key] + each)
    return found


def verdict(interval: tuple[float, float] | None) -> Verdict:
    """What an interval of a difference says."""
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "cannot tell"
    return "better" if interval[0] > 0 else "worse"


def _groups_of(first: Evaluation, second: Evaluation, key: Key, groups: IntArray) -> int:
    """How many independent groups of images tell anything of a class or slice."""
    parts: Sequence[Any] = [
        part
        for each in (first, second)
        for part in (each.classes if key[0] == "class" else each.slices)
        if part.name == key[1]
    ]
    return min((len(np.unique(groups[part.images])) for part in parts), default=0)


def _difference(key: Key, value: float | None, other: float | None, interval: tuple[float, float] | None) -> Difference:
    if value is None or other is None:
        interval = None
    low, high = interval or (None, None)
    return Difference(key[0], key[1], value, other, low, high, verdict(interval), key[0] != "all")
