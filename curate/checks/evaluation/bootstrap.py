"""How sure a number is: the same number on images drawn again and again with replacement (Efron 1979).

Images of one group (a video, a burst) are drawn together, as they say much the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.evaluation.base import Key, Resample, Weights

LEVEL: Final = 0.95

_ELEMENTS: Final = 1 << 22
"""Weights held at once."""


def draw(groups: IntArray, resamples: int, seed: int) -> Iterator[Weights]:
    """How often each image counts in each resample, some resamples at a time; each of shape (b, images).

    Args:
        groups: Numbers that images share which are drawn together; (images,).
        resamples: How many.
        seed: Of the draws.
    """
    unit = np.unique(groups, return_inverse=True)[1]
    units = int(unit.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    step = max(1, _ELEMENTS // max(len(unit), 1))
    for start in range(0, resamples, step):
        times = rng.multinomial(units, np.full(units, 1 / units), size=min(step, resamples - start))
        yield times.astype(np.float32)[:, unit]


def resample(
    measures: Sequence[Resample], draws: Iterator[Weights], told: Callable[[int], None] = lambda done: None
) -> list[Mapping[Key, FloatArray]]:
    """Numbers on every resample, by each of the measures on the same ones; each of shape (resamples,).

    Args:
        measures: What is measured.
        draws: How often each image counts (`draw`).
        told: How many resamples are done.
    """
    done = 0
    found: list[dict[Key, list[FloatArray]]] = [{} for _ in measures]
    for weights in draws:
        for measure, columns in zip(measures, found, strict=True):
            for key, values in measure(weights).items():
                columns.setdefault(key, []).append(np.asarray(values, dtype=np.float64))
        done += len(weights)
        told(done)
    return [{key: np.concatenate(parts) for key, parts in columns.items()} for columns in found]


def percentiles(values: FloatArray, level: float = LEVEL) -> tuple[float, float] | None:
    """The middle part of resampled values; None where less than half of the resamples have one."""
    known = values[np.isfinite(values)]
    if len(known) < len(values) / 2 or not len(known):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
