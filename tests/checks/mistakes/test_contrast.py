"""Density ratios, shares and calibration, on distributions whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.mistakes.contrast import Examples, contrast, share_of_errors

IMAGES = 200


def cases(values: np.ndarray, seed: int = 0) -> Examples:
    """Cases with one number each, on random images."""
    rng = np.random.default_rng(seed)
    n = len(values)
    linear = np.stack([np.ones(n), values], axis=1)
    return Examples(linear, values[:, None], np.zeros(n, dtype=np.int64), rng.integers(0, IMAGES, n))


def mixture(n: int, share: float, gap: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Numbers around 0, a share of them around `gap`; and which."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < share
    return rng.normal(0.0, 1.0, n) + gap * wrong, wrong


def errors(gap: float, n: int = 1000) -> Examples:
    return cases(np.random.default_rng(2).normal(gap, 1.0, n), seed=3)


def test_probabilities_are_those_of_the_mixture() -> None:
    values, wrong = mixture(4000, 0.05, 4.0)
    found = contrast(cases(values), [errors(4.0)], 1, IMAGES)
    true = 0.05 * np.exp(4.0 * values - 8.0)
    true = true / (0.95 + true)
    assert found.share[0] == pytest.approx(0.05, abs=0.015)
    assert np.abs(found.probability[:, 0] - true).mean() < 0.02
    assert found.probability[:, 0].sum() == pytest.approx(wrong.sum(), rel=0.25)


def test_the_ratio_says_how_much_likelier_an_error_is() -> None:
    values, _ = mixture(4000, 0.0, 0.0)
    found = contrast(cases(values), [errors(1.0)], 1, IMAGES)
    middle = np.abs(values) < 1.0
    assert np.corrcoef(np.log(found.ratio[middle, 0]), values[middle])[0, 1] > 0.9


def test_where_errors_look_like_all_else_nothing_is_certain() -> None:
    values, _ = mixture(2000, 0.0, 0.0)
    found = contrast(cases(values), [errors(0.0)], 1, IMAGES)
    assert found.share[0] <= 0.1
    assert found.probability.max() < 0.3


def test_of_a_clean_set_little_is_said() -> None:
    values, _ = mixture(4000, 0.0, 0.0)
    found = contrast(cases(values), [errors(6.0)], 1, IMAGES)
    assert found.probability.sum() < 15


def test_kinds_are_told_apart_and_share_what_there_is() -> None:
    values, _ = mixture(2000, 0.05, 5.0)
    values[:100] = np.random.default_rng(4).normal(-5.0, 1.0, 100)
    found = contrast(cases(values), [errors(5.0), errors(-5.0)], 1, IMAGES)
    assert (found.probability.sum(axis=1) < 1.0).all()
    assert found.probability[:100, 1].mean() > 0.7
    assert found.probability[:100, 0].max() < 0.2


def test_of_a_kind_with_few_examples_nothing_is_learned() -> None:
    values, _ = mixture(500, 0.05, 5.0)
    found = contrast(cases(values), [errors(5.0), errors(5.0, n=8)], 1, IMAGES)
    assert (found.probability[:, 1] == 0.0).all()
    assert found.probability[:, 0].max() > 0.5
    nothing = contrast(cases(values), [errors(5.0, n=3)], 1, IMAGES)
    assert (nothing.probability == 0.0).all()
    assert (contrast(cases(values[:4]), [errors(5.0)], 1, IMAGES).probability == 0.0).all()


def test_no_row_is_judged_by_what_was_learned_on_its_image() -> None:
    # All that sets the errors apart is which image they are on: learned by heart it would tell them all.
    rng = np.random.default_rng(0)
    image = rng.integers(0, IMAGES, 3000)
    noise = rng.normal(size=IMAGES)
    observed = Examples(np.ones((3000, 1)), noise[image][:, None], np.zeros(3000, dtype=np.int64), image)
    odd = observed.take(image < 20)
    found = contrast(observed, [odd], 1, IMAGES)
    assert found.probability[image < 20].mean() < 3 * found.probability[image >= 20].mean()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.0, 0.02, 0.1, 0.3]))
def test_the_share_is_what_the_scores_allow(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    n = 3000
    wrong = int(share * n)
    observed = np.concatenate([rng.normal(5.0, 1.0, wrong), rng.normal(0.0, 1.0, n - wrong)])
    bound = share_of_errors(observed, rng.normal(5.0, 1.0, 1000))
    assert 0.6 * share - 0.005 <= bound <= share + 0.03
    stretched = share_of_errors(3.0 * observed, 3.0 * np.sort(rng.normal(5.0, 1.0, 1000)))
    assert stretched == pytest.approx(bound, abs=0.03 + 0.3 * share)


def test_equal_scores_bound_nothing() -> None:
    assert share_of_errors(np.zeros(100), np.zeros(50)) == 1.0


def test_what_was_never_seen_is_not_beyond_all_odds() -> None:
    values = np.concatenate([np.random.default_rng(4).normal(0.0, 0.1, 150), [50.0]])
    found = contrast(cases(values), [errors(50.0)], 1, IMAGES)
    assert found.ratio.max() <= len(values)
    assert found.ratio[:, 0].argmax() == 150


@pytest.mark.parametrize("spread", [1e-3, 1e-7, 2e-9])
def test_columns_that_hardly_vary_and_go_together_are_harmless(spread: float) -> None:
    """As the confidences of a detector that gives nearly the same one to every box."""

    def alike(found: Examples, seed: int) -> Examples:
        rng = np.random.default_rng(seed)
        a, b = 12.0 + spread * rng.normal(size=len(found)), rng.normal(size=len(found))
        linear = np.column_stack([found.linear, a, np.maximum(a, 0.0), b, a - b])
        return Examples(linear, found.raw, found.group, found.image)

    values, wrong = mixture(4000, 0.05, 4.0)
    found = contrast(alike(cases(values), 4), [alike(errors(4.0), 5)], 1, IMAGES)
    probability = found.probability[:, 0]
    assert np.isfinite(probability).all()
    assert probability[wrong].mean() > 0.6 > 0.05 > probability[~wrong].mean()
