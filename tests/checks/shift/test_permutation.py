"""Permutation tests of many statistics at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from curate.checks.shift import permutation
from curate.checks.shift.permutation import adjusted_p, combine, permutations_of, rank_p, upper_p


def all_permutations(*arguments: Any) -> Any:
    return np.concatenate(list(permutations_of(*arguments)))


def test_the_first_row_is_as_observed_and_the_others_hold_the_same_values() -> None:
    values = np.arange(20.0)
    rows = all_permutations(values, 30, np.random.default_rng(0))
    assert rows.shape == (31, 20)
    np.testing.assert_array_equal(rows[0], values)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(values, (31, 1)).astype(np.float32))
    assert len(np.unique(rows, axis=0)) == 31


def test_values_are_exchanged_within_their_stratum_only() -> None:
    strata = np.array([2, 0, 1, 0, 2, 2, 1, 0, 2, 0])
    values = np.arange(10.0)
    rows = all_permutations(values, 40, np.random.default_rng(0), strata)
    np.testing.assert_array_equal(rows[0], values)
    for kind in range(3):
        own = rows[:, strata == kind]
        np.testing.assert_array_equal(np.sort(own, axis=1), np.tile(values[strata == kind], (41, 1)))
        assert len(np.unique(own, axis=0)) > 1


def test_p_values_follow_those_of_a_known_test() -> None:
    rng = np.random.default_rng(1)
    side = (np.arange(200) < 80).astype(float)
    score = rng.exponential(size=200) + 0.4 * side
    rows = all_permutations(side, 10, rng)
    p = upper_p([rows], score[:, None])[0, 0]
    expected = stats.permutation_test(
        (score[:80], score[80:]), lambda a, b: a.mean() - b.mean(), alternative="greater", n_resamples=50000, rng=0
    ).pvalue
    assert abs(np.log(p / expected)) < 0.7


def test_p_values_of_counts_are_those_of_the_hypergeometric_distribution() -> None:
    for images, inside, errors, wrong in ((40, 12, 6, 2), (40, 12, 6, 4), (200, 30, 20, 6), (5000, 300, 50, 6)):
        error, part = np.zeros(images), np.zeros(images)
        error[:wrong] = error[inside : inside + errors - wrong] = 1
        part[:inside] = 1
        p = upper_p(permutations_of(error, 3999, np.random.default_rng(0)), part[:, None])
        exact = stats.hypergeom.sf(wrong - 1, images, inside, errors)
        assert adjusted_p(p)[0] == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4000))


def test_many_permutations_come_in_blocks_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    side, scores = (np.arange(50) < 20).astype(float), rng.normal(size=(50, 6)).astype(np.float32)
    whole = upper_p(permutations_of(side, 99, np.random.default_rng(0)), scores)
    monkeypatch.setattr(permutation, "_NUMBERS", 7 * 50)
    blocks = list(permutations_of(side, 99, np.random.default_rng(0)))
    assert [len(each) for each in blocks] == [7] * 14 + [2]
    np.testing.assert_allclose(upper_p(blocks, scores), whole, rtol=1e-4)


def test_a_constant_statistic_says_nothing() -> None:
    rows = permutations_of(np.arange(10.0), 50, np.random.default_rng(0))
    np.testing.assert_array_equal(upper_p(rows, np.ones((10, 1))), 0.5)


def test_combined_and_ranked_p_values_are_uniform_without_effect() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        scores = rng.normal(size=(60, 12)) + rng.normal(size=(60, 1))  # correlated statistics
        rows = permutations_of((np.arange(60) < 20).astype(float), 99, rng)
        found.append(rank_p(combine(upper_p(rows, scores))))
    assert stats.kstest(found, "uniform").pvalue > 0.001
    assert np.mean(np.array(found) <= 0.05) < 0.09


def test_of_nothing_the_combined_p_value_is_one() -> None:
    np.testing.assert_array_equal(combine(np.zeros((3, 0))), 1.0)


def test_the_correction_pays_for_the_number_of_statistics() -> None:
    rng = np.random.default_rng(3)
    side = (np.arange(100) < 50).astype(float)
    scores = rng.normal(size=(100, 40))
    scores[:, 7] += 1.5 * side
    p = upper_p(permutations_of(side, 999, rng), scores)
    adjusted = adjusted_p(p)
    assert adjusted[7] <= 0.01
    assert (adjusted >= p[0] - 1e-3).all()
    assert np.delete(adjusted, 7).min() > 0.05
