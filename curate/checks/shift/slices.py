"""Parts of the set on which a model, or the labelling, does worse than elsewhere, by a test that knows how many were tried.

The parts are chosen without a look at the errors: clusters, the ends of every measured axis, the values of the metadata.
So nothing has to be held out; what has to be paid for is their number, and the largest excess of errors is compared with the
largest among permutations of the errors over groups of images (maximum statistics, Westfall and Young 1993).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.checks.shift.permutation import adjusted_p, permutations_of, upper_p
from curate.checks.shift.two_sample import unit_means

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

ALPHA: Final = 0.05
"""Slices with a higher corrected p-value do not fail."""

FEWEST: Final = 8
"""Smaller slices are not tried."""


@dataclass(frozen=True)
class SliceTest:
    """How a slice does.

    Attributes:
        error: Mean error of its images, each group of images counting once.
        rest: Of the others.
        p_value: Of an excess like this, corrected for all slices that were tried; 1 for those that could not be.
    """

    error: float
    rest: float
    p_value: float

    @property
    def fails(self) -> bool:
        """Whether it does worse than chance allows."""
        return self.p_value <= ALPHA


def slice_errors(
    slices: BoolArray, errors: FloatArray, groups: IntArray, *, permutations: int = 1999, seed: int = 0
) -> list[SliceTest]:
    """Test slices for more errors than elsewhere.

    Args:
        slices: Which images are in each slice, shape (n, s).
        errors: Error of every image, in [0, 1], NaN where it is not known; shape (n,).
        groups: Numbers that images share which are not independent, shape (n,): errors are permuted group by group.
        permutations: How many.
        seed: Of them.

    Returns:
        One for each slice.
    """
    known = np.isfinite(errors)
    if not known.any() or not slices.shape[1]:
        return [SliceTest(float("nan"), float("nan"), 1.0)] * slices.shape[1]
    unit = np.unique(groups[known], return_inverse=True)[1]
    mean = unit_means(errors[known, None].astype(np.float64), unit)[:, 0]
    member = unit_means(slices[known].astype(np.float32), unit)
    size = member.sum(axis=0, dtype=np.float64)
    tried = np.flatnonzero((size >= FEWEST) & (len(mean) - size >= FEWEST))
    p_values = np.ones(slices.shape[1])
    if len(tried) and mean.std() > 0:
        rows = permutations_of(mean.astype(np.float32), permutations, np.random.default_rng(seed))
        p_values[tried] = adjusted_p(upper_p(rows, member[:, tried]))
    total = float(mean.sum())
    inside = [float(mean @ member[:, k].astype(np.float64)) for k in range(member.shape[1])]
    return [
        SliceTest(_share(inside[k], size[k]), _share(total - inside[k], len(mean) - size[k]), float(p_values[k]))
        for k in range(slices.shape[1])
    ]


def ends(values: FloatArray, *, part: float = 0.1) -> BoolArray:
    """The lower and the upper end of every axis, as slices; bool array of shape (n, 2 k), low before high."""
    low, high = np.quantile(values, [part, 1 - part], axis=0)
    slices = np.empty((len(values), 2 * values.shape[1]), dtype=bool)
    # An axis on which most images are equal has no end on that side.
    slices[:, ::2] = (values <= low) & (low < high)
    slices[:, 1::2] = (values >= high) & (low < high)
    slices[:, slices.mean(axis=0) > 2 * part] = False
    return slices


def _share(total: float, size: float) -> float:
    return float(total / size) if size > 0 else float("nan")
