"""What synthetic images did for a part of the images: the difference of paired trainings, with an interval.

Two things make such a difference uncertain. Other images would have given another one: a paired bootstrap draws them again,
whole groups at a time, the same for all models. Other seeds would have, too: the differences of the seeds spread, and what
their mean may be off by follows Student's t with one degree of freedom less than there are seeds. Draws of both are added,
and the middle 95% of the sums are the interval. Of one seed the second part is unknown, and said to be.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from curate.checks.boxes import FloatArray
from curate.checks.evaluation.bootstrap import percentiles
from curate.checks.evaluation.compare import FEWEST

Verdict = Literal["gain", "loss", "no gain", "cannot tell"]

TARGET: Final = "target"
ELSEWHERE: Final = "elsewhere"


@dataclass(frozen=True)
class Effect:
    """What training with synthetic images changed on a part of the real ones.

    Attributes:
        part: 'target' or 'elsewhere'.
        images: How many are measured on.
        groups: How many independent ones that is.
        before: Mean metric over seeds without synthetic images; None where nothing is there to measure.
        after: With them.
        gain: after - before.
        low: Lower end of its 95% interval; None where there are too few groups for one.
        high: Upper end.
        verdict: 'no gain' where the interval holds 0.
        seeds: The gain of each seed.
    """

    part: str
    images: int
    groups: int
    before: float | None
    after: float | None
    gain: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    seeds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def effect(
    part: str,
    images: int,
    groups: int,
    before: FloatArray,
    after: FloatArray,
    draws: FloatArray,
    *,
    seed: int = 0,
) -> Effect:
    """Judge a part of the images.

    Args:
        part: Its name.
        images: How many there are.
        groups: How many independent ones.
        before: The metric without synthetic images, of each of s seeds; NaN where there is nothing to measure; shape (s,).
        after: With them, the same.
        draws: after - before on b resamples of the images; shape (s, b).
        seed: Of the draws of what other seeds would give.
    """
    gains = np.asarray(after - before)
    known = np.isfinite(gains)
    if not known.all():
        return Effect(part, images, groups, None, None, None, None, None, "cannot tell", ())
    interval = None
    if groups >= FEWEST:
        drawn = np.asarray(draws.mean(axis=0))
        interval = percentiles(drawn + _of_other_seeds(gains, len(drawn), seed))
    low, high = interval or (None, None)
    return Effect(
        part, images, groups, float(before.mean()), float(after.mean()), float(gains.mean()), low, high, _verdict(interval),
        tuple(gains.tolist()),
    )  # fmt: skip


def _of_other_seeds(gains: FloatArray, count: int, seed: int) -> FloatArray:
    """By how much the mean of so many seeds may be off, drawn so often; zeros where one seed tells nothing of it."""
    if len(gains) < 2:
        return np.zeros(count)
    rng = np.random.default_rng([seed, len(gains)])
    error = float(gains.std(ddof=1)) / np.sqrt(len(gains))
    return np.asarray(error * rng.standard_t(len(gains) - 1, count))


def _verdict(interval: tuple[float, float] | None) -> Verdict:
    if interval is None:
        return "cannot tell"
    if interval[0] > 0:
        return "gain"
    return "loss" if interval[1] < 0 else "no gain"
