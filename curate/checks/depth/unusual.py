"""Objects that are larger or smaller than their class is at their depth, or farther away or nearer than it ever is.

A camera sees a thing of one size at twice the distance half as large. Where depths are metres, the logarithm of size is
therefore a straight line in the logarithm of depth, with a slope of about -1, which is fitted within limits since models press
together what is far. Where depths are relative, only their order counts: size falls with depth, whichever way, and a class of
which it does not is not judged. Trends are fitted to medians, so that what is wrong does not move them.

What deviates is measured in the class's own scatter. How probable such a deviation is by chance, among as many objects, is told
by the tails of all deviations, upwards and downwards apart (`curate.checks.outliers.tail`): what hides a thing need not be
annotated, so that the lower tail is the longer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.outliers.tail import p_outlier, tail_p_values

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FEWEST: Final = 20
"""Objects of a class with fewer do not say what is usual for it."""

_SLOPES: Final = (-1.5, -0.5)
_SLOPE: Final = -1.0
_NARROW: Final = float(np.log(1.5))
"""A class whose depths differ by less has a slope that cannot be told."""

_IN_BIN: Final = 10
_MOST_BINS: Final = 12
_FALLS: Final = 0.2
"""Rank correlation of size with relative depth, downwards, from which on depth says something of size."""

_SHRINK: Final = 10
"""So many objects of the others' scatter are added to a class's own."""

_LEAST_SCATTER: Final = 0.05
"""Of logarithms. Boxes are not drawn, and depths not estimated, any better."""

_FELLOWS: Final = 2
"""From so many others on an image on, they say something of it."""

_MEDIAN: Final = float(np.pi / 2)
"""Variance of a median of normal values by that of their mean."""

_HIDDEN: Final = 0.7
"""Downward deviations count to this power: things are half hidden more often than a normal distribution has it."""

_ALIKE: Final = 1e-6
_TO_SIGMA: Final = 1.4826


@dataclass(frozen=True)
class Trend:
    """What is usual for a class.

    Attributes:
        x: Logarithms of metres, or relative depths, ascending; shape (k,).
        y: Logarithms of sizes at these; straight lines between them; shape (k,).
        count: Of how many objects.
        scatter: Standard deviation around it, that of whole images not counted.
    """

    x: FloatArray
    y: FloatArray
    count: int
    scatter: float

    def at(self, x: FloatArray) -> FloatArray:
        """Usual logarithm of size at these depths."""
        return np.asarray(np.interp(x, self.x, self.y))

    def sigma(self, pixels: FloatArray) -> FloatArray:
        """Standard deviation for things with sides of so many pixels: they are not drawn to a part of one."""
        return np.hypot(self.scatter, 1 / pixels)


@dataclass(frozen=True)
class Unusual:
    """How unusual each of n objects is; arrays of shape (n,).

    Attributes:
        deviation: In standard deviations of the class, above 0 for too large or too far; NaN of what is not judged.
        p_value: Probability that one of the set's own deviates as much; 1 of what is not judged.
        p_outlier: Probability that it is none of the set's own; 0 of what is not judged.
        usual: Sizes: what is usual for the class at this depth, on this image. NaN of what is not judged, and of distances.
    """

    deviation: FloatArray
    p_value: FloatArray
    p_outlier: FloatArray
    usual: FloatArray


@dataclass(frozen=True)
class Sized:
    """n objects of which depth and size are known; arrays of shape (n,).

    Attributes:
        size: Square root of the box's area, as a part of that of its image; above 0.
        pixels: The same in pixels: what is small is not drawn to a part of a pixel.
        depth: Metres, above 0, or relative.
        label: Number of the class.
        image: Number of the image.
        group: Number that objects share which are no independent evidence.
        hidden: Whether it may be half hidden, so that being small says nothing.
    """

    size: FloatArray
    pixels: FloatArray
    depth: FloatArray
    label: IntArray
    image: IntArray
    group: IntArray
    hidden: npt.NDArray[np.bool_]

    def take(self, rows: IntArray) -> Sized:
        """The chosen ones."""
        return Sized(*(getattr(self, field.name)[rows] for field in fields(self)))


def unusual_sizes(objects: Sized, *, metric: bool) -> tuple[Unusual, dict[int, Trend]]:
    """Which objects are larger or smaller than their class is at their depth.

    If all on an image deviate alike, it was taken with another lens, or its depths are off by a factor: what the other objects
    of an image say of it is taken out first, as far as images differ (best linear unbiased prediction).

    Args:
        objects: n objects.
        metric: Whether depths are metres.

    Returns:
        How unusual they are, and what is usual for each class that has `FEWEST` objects and of which it can be told.
    """
    x, y = np.log(objects.depth) if metric else objects.depth, np.log(objects.size)
    knots = _trends(x, y, objects.label, metric=metric)
    residual = np.full(len(x), np.nan)
    for number, line in knots.items():
        own = objects.label == number
        residual[own] = y[own] - np.interp(x[own], *line)
    rows = np.flatnonzero(~np.isnan(residual))
    effect, widening = np.zeros(len(x)), np.ones(len(x))
    effect[rows], widening[rows] = _image_effects(residual[rows], objects.image[rows])
    left = (residual - effect) / widening
    scatter = _scatters({number: left[objects.label == number] for number in knots})
    trends: dict[int, Trend] = {}
    deviation = np.full(len(x), np.nan)
    for number, line in knots.items():
        own = objects.label == number
        trends[number] = Trend(*line, int(own.sum()), scatter[number])
        deviation[own] = left[own] / trends[number].sigma(objects.pixels[own])
    deviation[objects.hidden & (deviation < 0)] = np.nan
    return _judged(deviation, objects.group, np.exp(y - residual + effect)), trends


def unusual_distances(depth: FloatArray, label: IntArray, groups: IntArray) -> Unusual:
    """Which objects are farther away, or nearer, than those of their class are.

    Args:
        depth: Metres, above 0; shape (n,).
        label: Numbers of the classes; those with fewer than `FEWEST` objects are not judged; shape (n,).
        groups: As for `unusual_sizes`.
    """
    x = np.log(depth)
    numbers, counts = np.unique(label, return_counts=True)
    offsets = {number: x[label == number] for number in numbers[counts >= FEWEST].tolist()}
    offsets = {number: own - np.median(own) for number, own in offsets.items()}
    # A class may reach far and begin near, so that each side has a scatter of its own.
    sides = [_scatters({number: own[sign * own >= 0] for number, own in offsets.items()}) for sign in (-1, 1)]
    deviation = np.full(len(x), np.nan)
    for number, own in offsets.items():
        deviation[label == number] = own / np.where(own < 0, sides[0][number], sides[1][number])
    return _judged(deviation, groups, np.full(len(x), np.nan))


def _judged(deviation: FloatArray, groups: IntArray, usual: FloatArray) -> Unusual:
    """From deviations to probabilities, upwards and downwards apart."""
    p_value, probability = np.ones(len(deviation)), np.zeros(len(deviation))
    rows = np.flatnonzero(~np.isnan(deviation))
    if len(rows):
        up, down = deviation[rows], -deviation[rows]
        one_sided = np.minimum(tail_p_values(up), tail_p_values(np.sign(down) * np.abs(down) ** _HIDDEN))
        p_value[rows] = np.minimum(2 * one_sided, 1.0)
        probability[rows] = p_outlier(p_value[rows], groups[rows])
    return Unusual(deviation, p_value, probability, usual)


def _trends(x: FloatArray, y: FloatArray, label: IntArray, *, metric: bool) -> dict[int, tuple[FloatArray, FloatArray]]:
    """The lines that sizes follow, by class; of classes that are frequent enough, and of which there is one."""
    numbers, counts = np.unique(label, return_counts=True)
    found = {}
    for number in numbers[counts >= FEWEST].tolist():
        own = label == number
        line = _line(x[own], y[own]) if metric else _falling(x[own], y[own])
        if line is not None:
            found[number] = line
    return found


def _image_effects(residual: FloatArray, image: IntArray) -> tuple[FloatArray, FloatArray]:
    """What the other objects on its image say of each one's size, and by how much more it may deviate as they say little.

    Returns:
        To be taken off the residuals, and to divide them by; float64 arrays of shape (n,).
    """
    order = np.lexsort((residual, image))
    starts = np.flatnonzero(np.diff(image[order], prepend=-1))
    lengths = np.diff(np.append(starts, len(order)))
    count, first = np.repeat(lengths, lengths), np.repeat(starts, lengths)
    rank = np.arange(len(order)) - first
    # The middle one, or two, of the others: behind an object's own rank, each stands one place later.
    others = np.maximum(count - 1, 1)
    middle = [(others - 1) // 2, others // 2]
    places = [np.minimum(first + at + (at >= rank), len(order) - 1) for at in middle]
    medians = np.zeros(len(order))
    medians[order] = np.where(count > 1, (residual[order][places[0]] + residual[order][places[1]]) / 2, 0.0)
    fellows = np.zeros(len(order))
    fellows[order] = count - 1
    told = fellows >= _FELLOWS
    if not told.any():
        return np.zeros(len(residual)), np.ones(len(residual))
    # Between two objects lies twice the scatter within images; of one alone, that between them is added.
    error = 1 + _MEDIAN / np.maximum(fellows, 1)
    within = _variance((residual[told] - medians[told]) / np.sqrt(error[told]))
    between = max(_variance(residual) - within, 0.0)
    if not within > 0:
        return np.zeros(len(residual)), np.ones(len(residual))
    weight = np.where(told, between / (between + _MEDIAN * within / np.maximum(fellows, 1)), 0.0)
    return weight * medians, np.sqrt(1 + between * (1 - weight) / within)


def _variance(values: FloatArray) -> float:
    return float((_TO_SIGMA * np.median(np.abs(values))) ** 2)


def _line(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A straight line through medians, by two points far apart (Theil, 1950; Sen, 1968)."""
    slope = _SLOPE
    if np.subtract(*np.quantile(x, [0.9, 0.1])) >= _NARROW:
        middle, height = _medians(x, y)
        first, second = np.triu_indices(len(middle), 1)
        apart = middle[second] > middle[first]
        rises = (height[second] - height[first])[apart] / (middle[second] - middle[first])[apart]
        slope = float(np.clip(np.median(rises), *_SLOPES))
    ends = np.array([-50.0, 50.0])
    return ends, slope * ends + np.median(y - slope * x)


def _falling(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """A line that falls, or stays, from median to median; None where sizes do not fall with depth."""
    from scipy.optimize import isotonic_regression
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(x), rankdata(y)])
    if not (np.ptp(ranks, axis=1) > 0).all():
        return None
    if np.corrcoef(ranks)[0, 1] > -max(_FALLS, 2 / np.sqrt(len(x))):
        return None
    middle, height = _medians(x, y)
    height = np.asarray(isotonic_regression(height, increasing=False).x)
    # Before the first median and behind the last one it goes on as steeply.
    steps = [(height[k + 1] - height[k]) / max(middle[k + 1] - middle[k], _ALIKE) for k in (0, len(middle) - 2)]
    ends = np.array([x.min(), x.max()])
    outside = height[[0, -1]] + steps * (ends - middle[[0, -1]])
    return np.concatenate([ends[:1], middle, ends[1:]]), np.concatenate([outside[:1], height, outside[1:]])


def _medians(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Medians of x and y of about equally many objects each, ascending in x."""
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, np.clip(len(x) // _IN_BIN, 2, _MOST_BINS))
    return np.array([np.median(x[rows]) for rows in bins]), np.array([np.median(y[rows]) for rows in bins])


def _scatters(residual: Mapping[int, FloatArray]) -> dict[int, float]:
    """Robust standard deviations of each class's residuals, drawn towards that of all."""
    if not residual:
        return {}
    everything = _variance(np.concatenate(list(residual.values())))
    drawn = {}
    for number, own in residual.items():
        mean = (len(own) * _variance(own) + _SHRINK * everything) / (len(own) + _SHRINK)
        drawn[number] = max(float(np.sqrt(mean)), _LEAST_SCATTER)
    return drawn
