"""From scores to probabilities: next to nothing on clean sets, what is far out on others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from curate.checks.outliers.tail import FEWEST, p_outlier, tail_p_values


@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_at_most_one_in_a_thousand_is_far_out_where_all_are_of_a_kind(draw: str) -> None:
    flagged = 0
    for seed in range(60):
        scores = getattr(np.random.default_rng(seed), draw)(size=300)
        flagged += int((p_outlier(tail_p_values(scores), np.arange(300)) >= 0.5).sum())
    assert flagged <= 18


def test_what_is_far_out_is_found_though_it_is_a_twentieth() -> None:
    scores = np.random.default_rng(0).normal(size=1000)
    scores[:30] += 8
    p = p_outlier(tail_p_values(scores), np.arange(1000))
    assert (p[:30] >= 0.5).all()
    assert (p[30:] < 0.5).all()


def test_p_values_fall_with_the_score() -> None:
    scores = np.random.default_rng(1).normal(size=500)
    p = tail_p_values(scores)
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p[np.argsort(scores)]) <= 1e-12).all()


def test_p_values_below_the_tail_are_ranks() -> None:
    scores = np.random.default_rng(1).normal(size=500)
    low = scores < np.quantile(scores, 0.7)
    assert tail_p_values(scores)[low] == pytest.approx((1 - (rankdata(scores) - 1) / 500)[low])


def test_a_group_counts_once() -> None:
    scores = np.random.default_rng(2).normal(size=400)
    p = tail_p_values(scores)
    p[:3] = 0.002  # alone too many to be chance, as one nothing to speak of
    apart = p_outlier(p, np.arange(400))
    together = p_outlier(p, np.r_[np.zeros(3, int), np.arange(1, 398)])
    assert together[:3].max() < apart[:3].min()


def test_few_or_equal_scores_tell_nothing() -> None:
    assert (tail_p_values(np.arange(FEWEST - 1.0)) == 1).all()
    assert (tail_p_values(np.ones(100)) == 1).all()
    assert len(p_outlier(np.ones(0), np.zeros(0, int))) == 0
