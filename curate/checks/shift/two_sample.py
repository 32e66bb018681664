"""Is the incoming data drawn as the reference was? One permutation test over what was measured, and over the content.

Drift seldom moves everything. Mostly a part of the new images comes from another lamp, camera or place, and lies at the end
of some axis. So beside the mean of every axis, its ends are tested: whether more incoming images than would be by chance are
among the most extreme, at the places where 5, 10, 20 and 40% of the incoming images would be. Axes are taken as they were
measured, as what is left of them once the content is known (a dark picture of a dark thing is no news), and along their
principal directions, where what always went together and no longer does shows; the content by the principal
directions of the embedding, and by how far from the bulk an image is. Every view (lighting, color, focus ...) has one voice,
however many axes it has.

What is permuted are groups: near-duplicates and the frames of a burst are not independent, and tests that take them for
independent images give false alarms in every third case. A group with images on both sides counts once on each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from curate.checks.shift.permutation import adjusted_p, combine, permutations_of, rank_p, upper_p

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CONTENT: Final = "content"
"""Name of what the semantic embedding says, beside the measured axes."""

FEWEST_GROUPS: Final = 8
"""Fewer independent groups on a side say nothing."""

_PARTS: Final = (0.05, 0.10, 0.20, 0.40)
_DIRECTIONS: Final = 16
_TESTED_DIRECTIONS: Final = 10
_MOST: Final = 20_000


@dataclass(frozen=True)
class AxisTest:
    """What a test says of one axis.

    Attributes:
        axis: Its name, or `CONTENT`.
        p_value: Corrected for the number of axes.
        effect: How much higher the median of the incoming images is, in robust standard deviations of the reference; 0
            for the content.
        low: p-value, not corrected, of more incoming images at the lower end than by chance; 1 for the content.
        high: The same of the upper end.
    """

    axis: str
    p_value: float
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class TwoSample:
    """What a two-sample test says.

    Attributes:
        p_value: Of the whole.
        axes: One for each axis and one for the content, smallest p-value first.
        views: p-values of groups of axes, corrected for their number.
        reference: Independent groups on that side.
        incoming: The same.
    """

    p_value: float
    axes: list[AxisTest]
    views: Mapping[str, float]
    reference: int
    incoming: int


def two_sample_test(
    measured: FloatArray,
    axes: Sequence[str],
    views: Sequence[str],
    content: FloatArray,
    incoming: BoolArray,
    groups: IntArray,
    *,
    strata: IntArray | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> TwoSample | None:
    """Test whether two sets of images are drawn from the same source.

    Memory for 50,000 images and 40 axes: 0.5 GB; of more than 20,000 groups that many are drawn.

    Args:
        measured: Shape (n, k).
        axes: Names of the k axes.
        views: Which group of axes each belongs to: 'lighting', 'color' ...
        content: Embedding, shape (n, d); d may be 0.
        incoming: Which rows are the incoming ones, shape (n,); the others are the reference.
        groups: Numbers that images share which are not independent, shape (n,).
        strata: Kinds of images, shape (n,): how many there are of each is no difference then. None: all are of one kind.
        permutations: How many.
        seed: Of the permutations.

    Returns:
        The p-value, exact under permutation of groups; None if there are too few groups to say anything.
    """
    rng = np.random.default_rng(seed)
    unit, side = units_of(groups, incoming)
    if min(side.sum(), (~side).sum()) < FEWEST_GROUPS:
        return None
    rows, unit, side = _draw(unit, side, rng)
    scores = _scores(_columns(measured[rows], content[rows]), unit, float(side.mean()), len(axes))
    if strata is not None:  # a group is of the kind of its first image
        strata = strata[rows][np.unique(unit, return_index=True)[1]]
    p = upper_p(permutations_of(side.astype(np.float32), permutations, rng, strata), scores.values)
    names, owners = [*axes, CONTENT], np.array([*views, CONTENT])
    by_axis = np.stack([combine(p[:, scores.axis == k]) for k in range(len(names))], axis=1)
    kinds = list(dict.fromkeys(owners.tolist()))
    by_view = np.stack([combine(p[:, np.isin(scores.axis, np.flatnonzero(owners == kind))]) for kind in kinds], axis=1)
    ends = [combine(p[:1, (scores.axis == k) & (scores.end == end)])[0] for k in range(len(axes)) for end in (-1, 1)]
    told = (adjusted_p(by_axis), [*_effects(measured, incoming), 0.0], [*ends[::2], 1.0], [*ends[1::2], 1.0])
    tested = [AxisTest(name, *(float(value) for value in row)) for name, *row in zip(names, *told, strict=True)]
    return TwoSample(
        rank_p(combine(np.stack([*by_view.T, combine(p[:, scores.axis == -1])], axis=1))),
        sorted(tested, key=lambda each: (each.p_value, min(each.low, each.high))),
        dict(zip(kinds, adjusted_p(by_view).tolist(), strict=True)),
        int((~side).sum()),
        int(side.sum()),
    )


def units_of(groups: IntArray, incoming: BoolArray) -> tuple[IntArray, BoolArray]:
    """Groups, apart on each side: the number of each image's, shape (n,), and the side of each of the u units."""
    keys, unit = np.unique(2 * groups + incoming, return_inverse=True)
    return unit.astype(np.int64), (keys % 2).astype(bool)


def unit_means(values: FloatArray, unit: IntArray) -> FloatArray:
    """Means of the rows of each unit, shape (n, m) to (u, m)."""
    order = np.argsort(unit, kind="stable")
    starts = np.flatnonzero(np.diff(unit[order], prepend=-1))
    sums = np.add.reduceat(values[order], starts, axis=0)
    return np.asarray(sums / np.bincount(unit)[:, None].astype(values.dtype))


@dataclass(frozen=True)
class _Scores:
    """Scores of u units: values of shape (u, m); of which axis each of the m is (-1: of several); of which end, 0: mean."""

    values: FloatArray
    axis: IntArray
    end: IntArray


def _draw(unit: IntArray, side: BoolArray, rng: np.random.Generator) -> tuple[IntArray, IntArray, BoolArray]:
    """At most so many units that the matrices fit: the chosen rows, their units renumbered, and the units' sides."""
    if len(side) <= _MOST:
        return np.arange(len(unit)), unit, side
    chosen = np.zeros(len(side), dtype=bool)
    for which in (side, ~side):
        places = np.flatnonzero(which)
        chosen[rng.permutation(places)[: max(FEWEST_GROUPS, round(_MOST * len(places) / len(side)))]] = True
    rows = np.flatnonzero(chosen[unit])
    return rows, np.unique(unit[rows], return_inverse=True)[1], side[chosen]


def _columns(measured: FloatArray, content: FloatArray) -> tuple[FloatArray, list[tuple[str, int]]]:
    """What is tested, shape (n, c), and for each column whether it is an 'axis', its 'rest', 'several' or 'content'."""
    n = len(measured)
    spread = measured.std(axis=0)
    varies = np.flatnonzero(spread > 1e-9)
    axes = ((measured - measured.mean(axis=0)) / np.where(spread > 1e-9, spread, 1))[:, varies].astype(np.float64)
    centred = (content - content.mean(axis=0)).astype(np.float64)
    left, size, _ = np.linalg.svd(centred, full_matrices=False) if content.shape[1] else (np.zeros((n, 0)), (), ())
    basis = left[:, : min(_DIRECTIONS, n // 8)][:, : np.count_nonzero(np.asarray(size) > 1e-6)]
    rest = axes - basis @ (basis.T @ axes)
    oddness = np.sqrt(np.square(basis).sum(axis=1, keepdims=True))
    beyond = np.sqrt(
        np.maximum(np.square(centred).sum(axis=1) - np.square(basis * size[: basis.shape[1]]).sum(axis=1), 0)
    )
    semantic = (
        np.concatenate([basis[:, :_TESTED_DIRECTIONS], oddness, beyond[:, None]], axis=1) if basis.size else basis
    )
    parts = {"axis": axes, "rest": rest, "several": _principal(axes), "content": semantic}
    kinds = [
        (kind, int(varies[k]) if kind in ("axis", "rest") else -1)
        for kind, part in parts.items()
        for k in range(part.shape[1])
    ]
    return np.concatenate(list(parts.values()), axis=1), kinds


def _principal(axes: FloatArray) -> FloatArray:
    """Principal components, the small ones too: there shows what always went together and no longer does."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(axes.T)))
    kept = values > 1e-4
    return np.asarray(axes @ vectors[:, kept])


def _scores(columns: tuple[FloatArray, list[tuple[str, int]]], unit: IntArray, share: float, axes: int) -> _Scores:
    """Scores of every column: its normal scores, both ways, and being at either end."""
    values, kinds = columns
    size = np.bincount(unit)
    # The ranks of images, each weighing as its part of a unit, so that a burst of many frames does not move the quantiles.
    ranks = _weighted_ranks(values, 1 / size[unit])
    owner = np.array([axes if kind == "content" else axis for kind, axis in kinds], dtype=np.int64)
    parts = [stats.norm.ppf(ranks), -stats.norm.ppf(ranks)]
    ends = [0, 0]
    for part in _PARTS:
        parts += [(ranks > 1 - part * share), (ranks < part * share)]
        ends += [1, -1]
    scores = np.concatenate([unit_means(part.astype(np.float32), unit) for part in parts], axis=1)
    return _Scores(scores, np.tile(owner, len(parts)), np.repeat(np.array(ends, dtype=np.int64), len(owner)))


def _weighted_ranks(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Ranks within (0, 1) of each column, ties at their middle; shape (n, c)."""
    out = np.empty(values.shape)
    total = weight.sum()
    for k, column in enumerate(values.T):
        distinct, inverse = np.unique(column, return_inverse=True)
        mass = np.bincount(inverse, weights=weight, minlength=len(distinct))
        out[:, k] = ((np.cumsum(mass) - mass / 2) / total)[inverse]
    return np.clip(out, 1e-6, 1 - 1e-6)


def _effects(measured: FloatArray, incoming: BoolArray) -> FloatArray:
    """Difference of the medians in robust standard deviations of the reference; shape (k,)."""
    low, middle, high = np.quantile(measured[~incoming], [0.16, 0.5, 0.84], axis=0)
    spread = np.maximum((high - low) / 2, 1e-6 + 1e-3 * np.abs(middle))
    return np.asarray((np.median(measured[incoming], axis=0) - middle) / spread)
