"""Parameters from means of numbers, where the numbers are made up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.augment.fit.moments import Solution, Unknown, solve

FloatArray = npt.NDArray[np.float64]
UNKNOWN = (Unknown("a", 0.1, -5, 5, 3), Unknown("b", 0.1, -5, 5, 3), Unknown("c", 0.1, 0, 5, 3))
MIXING = np.random.default_rng(5).normal(size=(10, 10))
SLOPES = np.random.default_rng(6).normal(size=(3, 10))


def population(count: int, seed: int) -> FloatArray:
    """Numbers that vary together."""
    return np.random.default_rng(seed).normal(size=(count, 10)) @ MIXING


def changed(numbers: FloatArray, theta: FloatArray) -> FloatArray:
    """A change that is not quite linear."""
    shift = np.asarray(theta) @ SLOPES
    return numbers + shift + 0.05 * np.square(shift)


def solved(source: FloatArray, target: FloatArray, groups: npt.NDArray[np.int64] | None = None) -> Solution:
    own = np.arange(len(target)) if groups is None else groups
    return solve(
        lambda theta: changed(source, theta),
        target,
        UNKNOWN,
        (np.arange(len(source)), own),
        evidence=10.0,
        rng=np.random.default_rng(0),
        starts=[np.zeros(3)],
        wrong=0.0,
    )


def test_what_was_changed_is_found_and_nothing_else() -> None:
    planted = np.array([2.0, 0.0, 1.5])
    solution = solved(population(300, 1), changed(population(300, 2), planted))
    assert solution.chosen.tolist() == [True, False, True]
    assert solution.values == pytest.approx(planted, abs=0.4)
    low, high = np.quantile(solution.draws, [0.025, 0.975], axis=0)
    assert (low - 0.05 <= planted).all()
    assert (high + 0.05 >= planted).all()
    assert solution.misfit < 2.5


def test_nothing_is_found_between_samples_of_one_population() -> None:
    alarms = sum(solved(population(80, seed), population(80, seed + 100)).chosen.sum() for seed in range(20))
    assert alarms <= 1


def test_values_stay_in_their_range() -> None:
    solution = solved(population(200, 1), changed(population(200, 2), np.array([0.0, 0.0, -2.0])))
    assert solution.values[2] == 0
    assert not solution.chosen[2]


def test_copies_in_a_group_say_no_more_than_one() -> None:
    few = changed(population(25, 3), np.array([1.0, 0.0, 0.0]))
    many = np.repeat(few, 8, axis=0)
    alone, grouped, taken_apart = (
        solved(population(100, 1), few),
        solved(population(100, 1), many, np.repeat(np.arange(25), 8)),
        solved(population(100, 1), many),
    )
    assert grouped.draws[:, 0].std() == pytest.approx(alone.draws[:, 0].std(), rel=0.05)
    assert taken_apart.draws[:, 0].std() < 0.8 * grouped.draws[:, 0].std()


def test_spread_from_picture_to_picture() -> None:
    rng = np.random.default_rng(8)
    theta = np.column_stack([2.0 + rng.normal(0, 2.0, 300), np.zeros((300, 2))])
    assert solved(population(300, 1), changed(population(300, 2), theta)).spread[0] == pytest.approx(2.0, rel=0.35)
    assert solved(population(300, 1), changed(population(300, 2), np.array([2.0, 0.0, 0.0]))).spread[0] < 0.8
