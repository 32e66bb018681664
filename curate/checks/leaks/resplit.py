"""A split that keeps units whole (copies, frames of a video), and class balance and sizes as they should be.

After Sechidis, Tsoumakas & Vlahavas, *On the stratification of multi-label data* (2011), with units in place of examples:
units are dealt out by their rarest class in the proportions wanted. A local search then moves units from split to split while
that lowers a chi-square of sizes and classes, or takes images back to where they were. All of it works on whole columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

TOLERANCE: Final = 0.01
"""An image is moved for the balance's sake only where a split, or a class in it, is off by more than this part."""

_STEPS: Final = 5000
_LEAST_GAIN: Final = 1e-9


def suggest_split(
    split: IntArray, unit: IntArray, content: csr_array, splits: int, shares: Sequence[float] | None = None
) -> IntArray:
    """Assign each unit to one split.

    The result depends on the order of the images only where several are as good: give them in an order of their own.

    Args:
        split: Number of each image's split, int64 of shape (n,); -1 for none.
        unit: Number of each image's unit, from 0, the same shape.
        content: Which classes are on each image, counts or ones, shape (n, classes).
        splits: How many splits there are.
        shares: Part of the images that each split should have, shape (splits,), adding up to 1; classes are then spread
            alike, and images in no split are assigned as well. None: as it is now, for sizes and each class, and images in
            no split stay there.

    Returns:
        Split numbers, int64 of shape (n,).
    """
    new = split.copy()
    chosen = np.flatnonzero(split >= 0) if shares is None else np.arange(len(split))
    if not len(chosen):
        return new
    compact = np.unique(unit[chosen], return_inverse=True)[1].astype(np.int64)
    m, here = int(compact.max()) + 1, split[chosen]
    settled = here >= 0
    kept = np.zeros((m, splits))
    np.add.at(kept, (compact[settled], here[settled]), 1.0)
    measured = _with_images(content[chosen])
    amounts = _sums(measured, compact, m)
    if shares is None:
        wanted = _sums(measured, here, splits).toarray()
    else:
        wanted = np.outer(np.asarray(shares, dtype=np.float64), amounts.sum(axis=0))
    dealt = _deal(amounts, wanted[:, 0])
    assigned = np.where(kept.any(axis=1), kept.argmax(axis=1), dealt).astype(np.int64)
    new[chosen] = _improve(_Problem(amounts, wanted, kept), assigned)[compact]
    return new


@dataclass(frozen=True)
class _Problem:
    """What is to be dealt out: m units with c amounts each, the first of which is their images.

    Attributes:
        amounts: Shape (m, c).
        wanted: Of each split, shape (splits, c).
        kept: Images of each unit that are in each split now, shape (m, splits).
    """

    amounts: csr_array
    wanted: FloatArray
    kept: FloatArray

    @property
    def weights(self) -> FloatArray:
        """Of squared deviations, as chi-square has them; sizes count as much as all classes together."""
        weights: FloatArray = 1 / np.maximum(self.wanted, 1.0)
        weights[:, 0] *= max(self.wanted.shape[1] - 1, 1)
        return weights

    def excess(self, assigned: IntArray) -> FloatArray:
        """What each split has too much of, shape (splits, c)."""
        return np.asarray(_sums(self.amounts, assigned, len(self.wanted)).toarray() - self.wanted)

    def cost(self, assigned: IntArray) -> float:
        """Chi-square, and what it is worth to leave images where they are."""
        moved = self.kept.sum() - self.kept[np.arange(len(assigned)), assigned].sum()
        return float((self.weights * self.excess(assigned) ** 2).sum() + 2 * TOLERANCE * moved)


def _with_images(content: csr_array) -> csr_array:
    """The amounts of each image: itself, then its classes; shape (n, 1 + classes)."""
    n, classes = content.shape
    rows = np.concatenate([np.arange(n), np.repeat(np.arange(n), np.diff(content.indptr))])
    columns = np.concatenate([np.zeros(n, np.int64), content.indices + 1])
    values = np.concatenate([np.ones(n), content.data.astype(np.float64)])
    return csr_array((values, (rows, columns)), shape=(n, classes + 1))


def _sums(amounts: csr_array, part: IntArray, parts: int) -> csr_array:
    """Sums of rows (n, c) over the parts they belong to; shape (parts, c)."""
    n = len(part)
    return csr_array((np.ones(n), (part, np.arange(n))), shape=(parts, n)) @ amounts


def _deal(amounts: csr_array, wanted: FloatArray) -> IntArray:
    """Deal units out by their rarest class, largest first, each split in its turn as often as its share asks for.

    Returns:
        Split numbers, int64 of shape (m,).
    """
    m = amounts.shape[0]
    images = amounts[:, [0]].toarray()[:, 0]
    totals = np.asarray(amounts.sum(axis=0))
    rank = np.empty(len(totals), np.int64)
    rank[np.argsort(totals, kind="stable")] = np.arange(len(totals))
    rank[0] = len(totals)  # being an image is no class: units with nothing else come last
    rarest = np.minimum.reduceat(rank[amounts.indices], amounts.indptr[:-1])
    order = np.lexsort((np.arange(m), -images, rarest))
    # The j-th image of a split with share s is due at (j + 1/2) / s: an even mixture of all splits, without a loop.
    shares = wanted / wanted.sum()
    total = int(images.sum())
    counts = np.floor(shares * total).astype(np.int64) + 1
    due = np.concatenate([(np.arange(k) + 0.5) / max(s, 1e-12) for k, s in zip(counts, shares, strict=True)])
    turns = np.repeat(np.arange(len(shares)), counts)[np.argsort(due, kind="stable")][:total]
    middle = (np.cumsum(images[order]) - images[order] / 2).astype(np.int64)
    assigned = np.empty(m, np.int64)
    assigned[order] = turns[middle]
    return assigned


def _improve(problem: _Problem, assigned: IntArray) -> IntArray:
    """Move units while that lowers the cost; the best ones first, several at once while a split is far too large."""
    weights = problem.weights
    rows = np.arange(len(assigned))
    images = problem.amounts[:, [0]].toarray()[:, 0]
    own = problem.amounts.power(2) @ weights.T
    excess, cost = problem.excess(assigned), problem.cost(assigned)
    for _ in range(_STEPS):
        pull = 2 * (problem.amounts @ (weights * excess).T) - 2 * TOLERANCE * problem.kept
        change = own + own[rows, assigned][:, None] + pull - pull[rows, assigned][:, None]
        change[rows, assigned] = np.inf
        best = int(change.argmin())
        if not change.flat[best] < -_LEAST_GAIN:
            break
        source, target = int(assigned[best // len(weights)]), best % len(weights)
        fit = np.flatnonzero((assigned == source) & (change[:, target] < -_LEAST_GAIN))
        fit = fit[np.lexsort((fit, change[fit, target]))]
        spare = max(0.0, min(excess[source, 0], -excess[target, 0])) / 2
        count = max(1, int(np.searchsorted(np.cumsum(images[fit]), spare, "right")))
        while True:
            tried = assigned.copy()
            tried[fit[:count]] = target
            tried_cost = problem.cost(tried)
            if tried_cost < cost or count == 1:
                break
            count //= 2
        if not tried_cost < cost:
            break
        assigned, cost, excess = tried, tried_cost, problem.excess(tried)
    return assigned
