"""Accuracy against severity: one curve for each corruption, and where on it a model breaks.

As in Hendrycks and Dietterich (ICLR 2019) every corruption comes in graded severities, and as in Michaelis et al. (2019) what
is left of the clean accuracy is averaged over them. A curve breaks at the first severity where more is lost than may be, and
where that is more than chance: the interval of the loss, on the same resamples of the images, lies above 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from curate.augment.stress.cells import covering
from curate.checks.boxes import FloatArray
from curate.checks.evaluation.bootstrap import percentiles

CLEAN: Final = "clean"
"""Name of the images as they are."""

MAX_DROP: Final = 0.1
"""Share of the clean accuracy that may be lost unless somebody says otherwise."""


@dataclass(frozen=True)
class Point:
    """How good a model is at one severity.

    Attributes:
        severity: In [0, 1]; 0 for images as they are.
        value: The metric; None where there is nothing to measure.
        low: Lower end of its 95% interval; None where there are too few images for one.
        high: Upper end.
        drop: Clean value minus value.
        drop_low: Lower end of the drop's own interval, on the same resamples.
        drop_high: Upper end.
    """

    severity: float
    value: float | None
    low: float | None = None
    high: float | None = None
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None


@dataclass(frozen=True)
class Curve:
    """What one corruption does to a model.

    Attributes:
        corruption: Its name.
        points: By severity, ascending, without the clean one.
        kept: Mean value over the severities as a share of the clean one; None of nothing.
        breaks_at: Lowest severity at which too much is lost; None for none.
        sure: Whether that is more than these few images may differ by chance.
        recipes: Named recipes that would cover it.
    """

    corruption: str
    points: tuple[Point, ...]
    kept: float | None
    breaks_at: float | None
    sure: bool
    recipes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stress:
    """What a model makes of corrupted images.

    Attributes:
        dataset: Name of it.
        commit: Of it that was looked at.
        model: Name of the model, unique to its numbers.
        task: What it does.
        metric: What is measured.
        layer: Of the labels.
        images: How many.
        chosen: Which, in words.
        clean: The images as they are.
        curves: One for each corruption.
        max_drop: Share of the clean value that may be lost.
        notes: What has to be known of it.
    """

    dataset: str
    commit: int
    model: str
    task: str
    metric: str
    layer: str
    images: int
    chosen: str
    clean: Point
    curves: tuple[Curve, ...]
    max_drop: float
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def broken(self) -> list[Curve]:
        """Curves that break, beyond chance, the earliest and deepest first."""
        found = [curve for curve in self.curves if curve.sure]
        return sorted(found, key=lambda curve: (curve.breaks_at or 0.0, curve.kept or 0.0))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def clean_point(value: float | None, draws: FloatArray | None) -> Point:
    """The images as they are; arguments as for `point`."""
    interval = None if draws is None or value is None else percentiles(draws)
    return Point(0.0, value, *(interval or (None, None)))


def point(
    severity: float, value: float | None, draws: FloatArray | None, clean: Point, clean_draws: FloatArray | None
) -> Point:
    """One severity.

    Args:
        severity: In (0, 1].
        value: The metric.
        draws: The same on resamples of the images; None where they are too few.
        clean: The images as they are.
        clean_draws: Theirs, on the same resamples.
    """
    if value is None or clean.value is None:
        return Point(severity, value)
    if draws is None or clean_draws is None:
        return Point(severity, value, drop=clean.value - value)
    low, high = percentiles(draws) or (None, None)
    # A resample without any object of a class has no number for it in either; a difference needs both.
    drop_low, drop_high = percentiles(np.asarray(clean_draws - draws)) or (None, None)
    return Point(severity, value, low, high, clean.value - value, drop_low, drop_high)


def curve(
    corruption: str, points: Sequence[Point], clean: Point, max_drop: float, recipes: Sequence[str] = ()
) -> Curve:
    """Say where a corruption breaks a model.

    Args:
        corruption: Its name.
        points: At severities of it.
        clean: The images as they are.
        max_drop: Share of the clean value that may be lost.
        recipes: Those that would cover it.
    """
    ordered = tuple(sorted(points, key=lambda each: each.severity))
    known = [each.value for each in ordered if each.value is not None]
    if clean.value is None or clean.value <= 0 or not known:
        return Curve(corruption, ordered, None, None, False, tuple(recipes))
    lost = [each for each in ordered if each.drop is not None and each.drop > max_drop * clean.value]
    beyond = [each for each in lost if each.drop_low is not None and each.drop_low > 0]
    first = next(iter(beyond or lost), None)
    return Curve(
        corruption,
        ordered,
        float(np.mean(known)) / clean.value,
        None if first is None else first.severity,
        bool(beyond),
        tuple(recipes),
    )


def from_points(points: Mapping[str, Sequence[Point]], clean: Point, max_drop: float) -> tuple[Curve, ...]:
    """Curves by the name of their corruption, in that order, with the recipes that would cover them."""
    return tuple(curve(name, each, clean, max_drop, covering(name)) for name, each in points.items())
