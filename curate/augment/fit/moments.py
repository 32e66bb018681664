"""Parameters of a change between two populations of different pictures, by the generalised method of moments.

Each picture is described by d numbers. The change is applied to the pictures of one side until the means of their numbers are
those of the other side. How the numbers vary from picture to picture says how much a difference of means weighs: what content
changes readily weighs little, and a combination of numbers that all content has alike weighs much (Hansen 1982; simulated
moments: McFadden 1989). Weights are the inverse covariance, shrunk (Ledoit and Wolf 2004), for there are few pictures.

Which parameters differ from nothing at all is chosen among all subsets: each must explain more than chance would. Intervals
are of means of pictures drawn anew, groups as one (bootstrap), by one linear step from the solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.covariance import LedoitWolf

FloatArray = npt.NDArray[np.floating[Any]]
Describe = Callable[[npt.NDArray[np.float64]], FloatArray]
"""From the parameters to numbers of the changed pictures: shape (p,) to (n, d)."""

_FAR: Final = 4.0
_ROUNDS: Final = 5
_STEPS: Final = 3
_CLOSE: Final = 0.02
_DRAWS: Final = 400
_RIVALS: Final = 3


@dataclass(frozen=True)
class Unknown:
    """A parameter that is looked for.

    Attributes:
        name: Of it.
        step: That it is changed by to see what follows; about what would matter.
        low: The least it can be.
        high: The most.
        doubt: Standard deviation of what it may be before anything is seen: keeps what cannot be told near nothing.
    """

    name: str
    step: float
    low: float
    high: float
    doubt: float


@dataclass(frozen=True)
class Solution:
    """What was found.

    Attributes:
        values: Of the parameters that were chosen, 0 for the others; shape (p,).
        chosen: Which differ from nothing; shape (p,).
        draws: Bootstrap of each parameter: of the chosen ones together, of another as if it were chosen too; shape (b, p).
        spread: How much each chosen parameter varies from picture to picture of the target beyond what the source's pictures
            vary, a standard deviation; shape (p,).
        misfit: What is left of the difference, in chi-square per degree of freedom.
        score: Chi-square, and what each chosen parameter costs.
    """

    values: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.bool_]
    draws: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]
    misfit: float
    score: float


def solve(
    describe: Describe,
    target: FloatArray,
    unknowns: Sequence[Unknown],
    groups: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    *,
    evidence: float,
    rng: np.random.Generator,
    starts: Sequence[FloatArray],
    wrong: float,
) -> Solution:
    """Find the change.

    Args:
        describe: Numbers of the source's pictures, changed.
        target: Numbers of the target's pictures, shape (m, d).
        unknowns: The p parameters.
        groups: Of the source's and of the target's pictures, which belong together; shapes (n,) and (m,).
        evidence: Chi-square that a parameter must explain to be chosen.
        rng: For the bootstrap.
        starts: Values to start from, each of shape (p,): the best of what they lead to is taken, and the doubt of it holds
            others that explain nearly as much.
        wrong: What the simulation may be wrong by in each number, however many pictures there are: a standard deviation.
    """
    there = grouped(target, groups[1])
    found = [_search(describe, there, unknowns, groups[0], evidence, wrong, start) for start in starts]
    by_choice = {chosen: (theta, score) for theta, chosen, score in sorted(found, key=lambda each: -each[2])}
    solutions = []
    for chosen, (theta, score) in sorted(by_choice.items(), key=lambda each: each[1][1])[:_RIVALS]:
        here = grouped(describe(theta), groups[0])
        slopes = _slopes(describe, theta, unknowns, groups[0], here)
        weight = weight_of(here, there, wrong)
        solutions.append(_solution(here, there, slopes, weight, theta, unknowns, chosen, score, wrong, rng))
    return _with_rivals(solutions)


def _with_rivals(solutions: Sequence[Solution]) -> Solution:
    """The best solution, doubted as far as others explain nearly as much by other parameters: bootstraps share its draws by
    their likelihood."""
    best = solutions[0]
    likely = np.array([math.exp((best.score - each.score) / 2) for each in solutions])
    counts = np.rint(_DRAWS * likely / likely.sum()).astype(int)
    rows = [np.where(each.chosen, each.draws, 0.0)[:count] for each, count in zip(solutions, counts, strict=True)][1:]
    return replace(best, draws=np.concatenate([best.draws[: counts[0]], *rows]))


def misfit(here: FloatArray, there: FloatArray, wrong: float) -> float:
    """How far apart two populations' means are, in squared standard errors, each number by itself; shapes (n, d), (m, d)."""
    gap = np.median(there, axis=0) - np.median(here, axis=0)
    return float((np.square(gap) / (here.var(axis=0) / len(here) + there.var(axis=0) / len(there) + wrong**2)).sum())


def _search(
    describe: Describe,
    there: FloatArray,
    unknowns: Sequence[Unknown],
    groups: npt.NDArray[np.int64],
    evidence: float,
    wrong: float,
    start: FloatArray,
) -> tuple[npt.NDArray[np.float64], tuple[int, ...], float]:
    """Parameters, which of them are chosen, and chi-square with what choosing costs, from one start."""
    theta = np.asarray(start, np.float64)
    chosen: tuple[int, ...] = tuple(int(k) for k in np.flatnonzero(theta))
    here = grouped(describe(theta), groups)
    for _ in range(_ROUNDS):
        slopes = _slopes(describe, theta, unknowns, groups, here)
        weight = weight_of(here, there, wrong)
        before, chosen = chosen, _choose(here, there, slopes, weight, theta, unknowns, evidence)
        moved = theta
        for _ in range(_STEPS):
            aim = _step(here, there, slopes, weight, moved, unknowns, chosen)
            small = _moved(aim - moved, unknowns) < _CLOSE
            moved = aim
            here = grouped(describe(moved), groups)
            if small:
                break
        done = before == chosen and _moved(moved - theta, unknowns) < 5 * _CLOSE
        theta = moved
        if done:
            break
    # What was pushed to the end of its range that means nothing is none.
    chosen = tuple(int(k) for k in np.flatnonzero(theta))
    gap = there.mean(axis=0) - here.mean(axis=0)
    score = float(gap @ weight_of(here, there, wrong) @ gap) + evidence * len(chosen)
    return theta, chosen, score


def grouped(numbers: FloatArray, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Means of groups, of numbers without the far ends."""
    middle = np.median(numbers, axis=0)
    scale = 1.4826 * np.median(np.abs(numbers - middle), axis=0) + 1e-6
    kept = np.clip(numbers, middle - _FAR * scale, middle + _FAR * scale)
    members = np.bincount(groups)
    sums = np.zeros((len(members), kept.shape[1]))
    np.add.at(sums, groups, kept)
    return sums / members[:, None]


def weight_of(here: FloatArray, there: FloatArray, wrong: float) -> npt.NDArray[np.float64]:
    """Inverse covariance of the difference of means, for so few pictures."""
    centred = np.concatenate([here - here.mean(axis=0), there - there.mean(axis=0)])
    scale = centred.std(axis=0) + 1e-9
    shrunk = LedoitWolf(assume_centered=True).fit(centred / scale).covariance_ * np.outer(scale, scale)
    count, numbers = centred.shape
    unbiased = max((count - 2 - numbers) / count, 0.2)
    error = shrunk * (1 / len(here) + 1 / len(there)) / unbiased + wrong**2 * np.eye(numbers)
    return np.asarray(np.linalg.inv(error))


def _slopes(
    describe: Describe,
    theta: npt.NDArray[np.float64],
    unknowns: Sequence[Unknown],
    groups: npt.NDArray[np.int64],
    here: FloatArray,
) -> npt.NDArray[np.float64]:
    """What the means change by for each parameter, shape (d, p)."""
    columns = []
    for k, unknown in enumerate(unknowns):
        step = unknown.step if theta[k] + unknown.step <= unknown.high else -unknown.step
        changed = theta.copy()
        changed[k] += step
        columns.append((grouped(describe(changed), groups).mean(axis=0) - here.mean(axis=0)) / step)
    return np.stack(columns, axis=1)


def _step(
    here: FloatArray,
    there: FloatArray,
    slopes: FloatArray,
    weight: FloatArray,
    theta: FloatArray,
    unknowns: Sequence[Unknown],
    chosen: Sequence[int],
) -> npt.NDArray[np.float64]:
    """Where the chosen parameters should go, the others to 0."""
    result = np.zeros(len(theta))
    if not chosen:
        return result
    rows = list(chosen)
    gap = there.mean(axis=0) - here.mean(axis=0) + slopes @ theta
    prior = np.diag([1 / unknowns[k].doubt ** 2 for k in rows])
    left = slopes[:, rows].T @ weight @ slopes[:, rows] + prior
    aim = np.linalg.solve(left, slopes[:, rows].T @ weight @ gap)
    result[rows] = [np.clip(value, unknowns[k].low, unknowns[k].high) for k, value in zip(rows, aim, strict=True)]
    return result


def _choose(
    here: FloatArray,
    there: FloatArray,
    slopes: FloatArray,
    weight: FloatArray,
    theta: FloatArray,
    unknowns: Sequence[Unknown],
    evidence: float,
) -> tuple[int, ...]:
    """The subset of parameters that explains most of the difference, less `evidence` for each of them."""
    gap = there.mean(axis=0) - here.mean(axis=0) + slopes @ theta
    info = slopes.T @ weight @ slopes + np.diag([1 / unknown.doubt**2 for unknown in unknowns])
    pull = slopes.T @ weight @ gap
    best: float = 0.0
    chosen: tuple[int, ...] = ()
    for size in range(1, len(unknowns) + 1):
        for rows in combinations(range(len(unknowns)), size):
            part = info[np.ix_(rows, rows)]
            aim = np.linalg.solve(part, pull[list(rows)])
            low, high = ([getattr(unknowns[k], end) for k in rows] for end in ("low", "high"))
            aim = np.clip(aim, low, high)
            gained = float(2 * pull[list(rows)] @ aim - aim @ part @ aim) - evidence * size
            if gained > best:
                best, chosen = gained, rows
    return chosen


def _moved(change: FloatArray, unknowns: Sequence[Unknown]) -> float:
    return float(max(abs(value) / unknown.step for value, unknown in zip(change, unknowns, strict=True)))


def _solution(
    here: FloatArray,
    there: FloatArray,
    slopes: FloatArray,
    weight: FloatArray,
    theta: npt.NDArray[np.float64],
    unknowns: Sequence[Unknown],
    chosen: tuple[int, ...],
    score: float,
    wrong: float,
    rng: np.random.Generator,
) -> Solution:
    """Bootstrap and spread about the solution."""
    drawn = [
        numbers[rng.integers(0, len(numbers), (_DRAWS, len(numbers)))].mean(axis=1) - numbers.mean(axis=0)
        for numbers in (here, there)
    ]
    left = there.mean(axis=0) - here.mean(axis=0)
    noise = drawn[1] - drawn[0] + rng.normal(0, wrong, (_DRAWS, len(left)))
    draws, spread = np.zeros((_DRAWS, len(theta))), np.zeros(len(theta))
    for k in range(len(theta)):
        rows = sorted({*chosen, k})
        of = rows.index(k)
        info = slopes[:, rows].T @ weight @ slopes[:, rows] + np.diag([1 / unknowns[j].doubt ** 2 for j in rows])
        reads = np.linalg.solve(info, slopes[:, rows].T @ weight)[of]
        middle = theta[k] if k in chosen else reads @ left
        draws[:, k] = middle + noise @ reads
        if k in chosen:
            # Only what is more than two such samples of one population would often show.
            chance = float(stats.f.ppf(0.95, len(there) - 1, len(here) - 1))
            spread[k] = np.sqrt(max(0.0, float((there @ reads).var() - chance * (here @ reads).var())))
    freedom = max(1, len(weight) - len(chosen))
    mask = np.isin(np.arange(len(theta)), chosen)
    return Solution(theta, mask, draws, spread, float(left @ weight @ left) / freedom, score)
