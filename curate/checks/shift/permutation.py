"""Permutation tests of many statistics at once, as matrix products.

A linear statistic is a sum of scores over a sample; for all permutations and all statistics at once that is one product of
two matrices. Each statistic is turned into a p-value by the first three moments that it has over all permutations, which are
known (a Pearson type III curve, which follows skewed statistics into the tail where counting cannot reach), and these are
combined over statistics. The combination is compared with what it is under the permutations drawn, so that it is exact
whatever the curve and however the statistics hang together (Westfall and Young 1993).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.floating[Any]]

_LEAST: Final = 1e-15
_STRAIGHT: Final = 0.02
_ROUNDING: Final = 1e-6
_NUMBERS: Final = 1 << 24  # permuted at a time: 64 MiB


def permutations_of(
    values: FloatArray, count: int, rng: np.random.Generator, strata: npt.NDArray[np.int64] | None = None
) -> Iterator[npt.NDArray[np.float32]]:
    """The values as they are, then permuted `count` times; float32 arrays of shape (some, n), 1 + `count` rows in all.

    Args:
        values: Shape (n,).
        count: How many permutations.
        rng: Of them.
        strata: Values are exchanged only among those with the same number, shape (n,); None: among all.
    """
    step = max(1, _NUMBERS // max(len(values), 1))
    places = None if strata is None else np.argsort(strata, kind="stable")
    for start in range(0, 1 + count, step):
        rows = np.empty((min(step, 1 + count - start), len(values)), np.float32)
        for number, row in enumerate(rows, start):
            if number == 0:
                row[:] = values
            elif strata is None:
                row[:] = rng.permutation(values)
            else:
                row[places] = values[np.lexsort((rng.random(len(values)), strata))]
        yield rows


def upper_p(rows: Iterable[FloatArray], scores: FloatArray) -> FloatArray:
    """How unusually large the sums of scores are, for every permutation.

    Args:
        rows: What is permuted, arrays of shape (some, n), p rows in all; the observed first.
        scores: Shape (n, m).

    Returns:
        p-values, float64 array of shape (p, m); 0.5 for scores that are all the same.
    """
    n = len(scores)
    centred, third, varies = _standardised(scores)
    blocks = iter(rows)
    block = next(blocks)
    given = block[0].astype(np.float64) - block[0].mean(dtype=np.float64)
    deviation = np.sqrt(np.square(given).sum() / max(n - 1, 1))
    products = [np.asarray(each @ centred, dtype=np.float64) for each in chain([block], blocks)]
    standard = np.concatenate(products) / max(deviation, 1e-12)
    # Of counts, many permutations give just what was observed; products in float32 would put half of them below it.
    standard[0] -= _ROUNDING * (10 + np.sqrt(n))
    # Third moment of a linear permutation statistic (Hájek, Šidák and Sen 1999, chapter 3).
    cubes = (given**3).sum() * third * n / max((n - 1) * (n - 2), 1)
    skew = cubes / max(deviation, 1e-12) ** 3
    skew = np.where(np.abs(skew) < _STRAIGHT, _STRAIGHT, skew)
    shape = 4 / np.square(skew)
    place = np.maximum(standard * np.sqrt(shape) * np.sign(skew) + shape, 1e-9)
    p = np.where(skew > 0, special.gammaincc(shape, place), special.gammainc(shape, place))
    return np.where(varies & (deviation > 0), np.clip(p, _LEAST, 1.0), 0.5)


def _standardised(scores: FloatArray) -> tuple[npt.NDArray[np.float32], FloatArray, npt.NDArray[np.bool_]]:
    """Columns of mean 0 and length 1, float32 of shape (n, m); the sum of their cubes, and which are not constant, (m,)."""
    n, m = scores.shape
    centred, third, varies = np.empty((n, m), np.float32), np.zeros(m), np.zeros(m, bool)
    for k in range(m):  # one at a time: in float64, all of them are four times what was given
        column = scores[:, k].astype(np.float64)
        column -= column.mean()
        size = float(np.sqrt(np.square(column).sum()))
        varies[k] = size > 1e-9 * np.sqrt(n)
        column /= size if varies[k] else 1.0
        centred[:, k], third[k] = column, (column**3).sum()
    return centred, third, varies


def combine(p: FloatArray) -> FloatArray:
    """The p-values of each row as one: their harmonic mean (Wilson 2019), shape (p, m) to (p,).

    The smallest count, but the more of them the better. Only an order of the rows: whether it is small is for `rank_p` to
    say. Of no p-values at all it is 1.
    """
    if not p.shape[1]:
        return np.ones(len(p))
    return np.asarray(1 / np.mean(1 / p, axis=1))


def rank_p(values: FloatArray) -> float:
    """Part of the permutations in which a combined value is at most as large as the observed one, which is the first."""
    return float(np.mean(values <= values[0] * (1 + 1e-9)))


def adjusted_p(p: FloatArray) -> FloatArray:
    """p-values of the observed statistics, corrected for their number (step-down minimum p, Westfall and Young 1993).

    Args:
        p: Of shape (p, m), the observed first.

    Returns:
        Array of shape (m,): that of the smallest controls the chance of a single false alarm among all m.
    """
    order = np.argsort(p[0])
    smallest = np.minimum.accumulate(p[:, order[::-1]], axis=1)[:, ::-1]
    adjusted = np.maximum.accumulate(np.mean(smallest <= smallest[0] * (1 + 1e-9), axis=0))
    out = np.empty(len(order))
    out[order] = adjusted
    return out
