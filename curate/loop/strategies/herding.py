"""Rows that stand for as much of what is uncertain as possible: one rule for small and for large budgets.

The rule is uncertainty coverage (Bae, Oliveira and Sutherland, *Uncertainty Herding: One Active Learning Method for All Label
Budgets*, ICLR 2025): a row counts as covered as its most similar labelled or chosen row is similar to it, by a Gaussian kernel,
and each counts as much as a model is uncertain of it. With few labels the kernel is wide and the rows chosen are typical of
what is not covered; with many it is narrow, and they are the uncertain ones, still none beside another. Without a model all
rows count alike (MaxHerding: Bae, Noh and Sutherland, *Generalized Coverage for More Robust Low-Budget Active Learning*, 2024).

The kernel's radius is twice the usual distance to the neighbour at which each label would have reached an equal part of the
rows, so that it shrinks as labels come in; nothing is tuned to a data set. The objective is monotone and submodular: greedy
choice is within 1 - 1/e of the best, and what a row was worth before bounds what it is worth now (Minoux 1978), so that few
rows are looked at again for each choice.

Rows are taken in blocks, each with its share of the budget and what was chosen from those before as covered. Memory is one
kernel of a block (100 MB); time is n x (block + covered + count) x d.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from curate.loop.strategies.distances import nearest_squared, squared_distances, usual_squared_distance
from curate.loop.strategies.ranked import FloatArray, IntArray, Ranked, Vectors

_BLOCK: Final = 5000
_AT_ONCE: Final = 32  # rows whose worth is computed again together
_REACH: Final = 2.0  # radius of the kernel, in units of the usual distance to that neighbour
_CELLS: Final = 1 << 23  # distances in memory at a time
_LEAST_WEIGHT: Final = 1e-6  # what a model is sure of still counts, where there is nothing else


def herd(
    vectors: Vectors,
    candidates: IntArray,
    covered: IntArray,
    count: int,
    *,
    weights: FloatArray | None = None,
    seed: int,
) -> Ranked:
    """Choose rows that cover the most of the candidates' weight.

    Args:
        vectors: Shape (n, d).
        candidates: Rows that may be chosen, and that are to be covered, shape (m,).
        covered: Rows that are labelled already, shape (k,).
        count: How many are wanted.
        weights: How much each of the n rows counts, not negative; NaN where that is not known, which counts as the median.
            None: all alike.
        seed: Of the blocks and of the sample that gives the kernel its width.

    Returns:
        The rows, those that cover the most weight first; their value is how many candidates each stands for: those that are
        nearer to it than to any other that is chosen or covered.
    """
    count = min(count, len(candidates))
    if count == 0:
        return Ranked(candidates[:0], np.zeros(0))
    width = kernel_width(vectors, candidates, covered, count, seed)
    counts_as = _weights(weights, candidates)
    blocks = max(1, round(len(candidates) / _BLOCK))
    order = np.random.default_rng(seed).permutation(len(candidates))
    parts: list[tuple[IntArray, FloatArray]] = []
    taken = covered
    for block, wanted in zip(np.array_split(order, blocks), np.array_split(np.arange(count), blocks), strict=True):
        places = np.sort(block)
        rows = candidates[places]
        known = np.exp(nearest_squared(vectors, rows, taken) / -width)
        chosen, worth = _greedy(vectors[rows], counts_as[places], known, len(wanted), width)
        parts.append((rows[chosen], worth))
        taken = np.concatenate([taken, rows[chosen]])
    found, worth = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = found[np.argsort(-worth, kind="stable")]
    return Ranked(found, _stands_for(vectors, candidates, covered, found))


def kernel_width(vectors: Vectors, candidates: IntArray, covered: IntArray, count: int, seed: int) -> float:
    """What squared distances are divided by: twice the square of the kernel's radius.

    Arguments as for `herd`.
    """
    rows = np.concatenate([candidates, covered])
    if len(rows) < 2:
        return 1.0
    share = 1 / (len(covered) + count)
    usual = usual_squared_distance(vectors[rows], share=share, seed=seed)
    return 2 * _REACH**2 * usual if usual > 0 else 1.0


def _stands_for(vectors: Vectors, candidates: IntArray, covered: IntArray, chosen: IntArray) -> FloatArray:
    distance = nearest_squared(vectors, candidates, covered)
    count = np.zeros(len(chosen))
    step = max(1, _CELLS // len(chosen))
    for start in range(0, len(candidates), step):
        found = squared_distances(vectors[candidates[start : start + step]], vectors[chosen])
        nearest = found.argmin(axis=1)
        nearer = found[np.arange(len(found)), nearest] < distance[start : start + step]
        count += np.bincount(nearest[nearer], minlength=len(chosen))
    return count


def _weights(weights: FloatArray | None, candidates: IntArray) -> npt.NDArray[np.float32]:
    if weights is None:
        return np.ones(len(candidates), np.float32)
    own = weights[candidates]
    known = ~np.isnan(own)
    middle = float(np.median(own[known])) if known.any() else 1.0
    return np.maximum(np.where(known, own, middle), _LEAST_WEIGHT).astype(np.float32)


def _greedy(
    points: Vectors, weights: npt.NDArray[np.float32], known: npt.NDArray[np.float32], count: int, width: float
) -> tuple[IntArray, FloatArray]:
    """Places chosen in one block, and the weight that each newly covered."""
    kernel = squared_distances(points, points)
    kernel /= -width
    np.exp(kernel, out=kernel)
    places, worth = np.zeros(count, np.int64), np.zeros(count)
    bound = np.concatenate(
        [_gains(kernel[at : at + _AT_ONCE], known, weights) for at in range(0, len(points), _AT_ONCE)]
    )
    for step in range(count):
        place = _best(kernel, known, weights, bound)
        places[step], worth[step] = place, bound[place]
        bound[place] = -np.inf
        np.maximum(known, kernel[place], out=known)
    return places, worth


def _best(
    kernel: Vectors, known: npt.NDArray[np.float32], weights: npt.NDArray[np.float32], bound: npt.NDArray[np.float32]
) -> int:
    """The place that covers the most now; `bound` holds what each covered at some time before, and is brought up to date.

    A bound of minus infinity is that of a place that was chosen.
    """
    best, most = -1, -np.inf
    order = np.argsort(-bound, kind="stable")
    for start in range(0, len(order), _AT_ONCE):
        at = order[start : start + _AT_ONCE]
        at = at[np.isfinite(bound[at])]
        if not len(at) or bound[at[0]] <= most:
            break
        bound[at] = _gains(kernel[at], known, weights)
        first = int(at[bound[at].argmax()])
        if bound[first] > most:
            best, most = first, float(bound[first])
    return best


def _gains(
    kernel: Vectors, known: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The weight that each row of the kernel newly covers, shape (len(kernel),)."""
    return np.asarray(np.maximum(kernel - known, 0) @ weights, dtype=np.float32)
