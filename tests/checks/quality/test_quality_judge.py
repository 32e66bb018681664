"""How probable a fault is, from numbers alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.quality.judge import FloatArray, fault_odds, size_odds


def probabilities(severity: FloatArray, groups: FloatArray | None = None) -> FloatArray:
    numbers = None if groups is None else groups.astype(np.int64)
    return fault_odds(severity, harmless=1.0, hopeless=5.0, spread=0.2, groups=numbers).probability


def test_a_clean_set_has_nothing_flagged() -> None:
    rng = np.random.default_rng(0)
    flagged = sum(int((probabilities(rng.normal(2.0, 0.4, 2000)) >= 0.5).sum()) for _ in range(20))
    assert flagged <= 2


def test_the_unusual_is_flagged_where_it_is_not_harmless() -> None:
    rng = np.random.default_rng(0)
    usual = rng.normal(0.5, 0.2, 500)
    assert probabilities(np.append(usual, 3.0))[-1] > 0.9
    harmless = rng.normal(-3.0, 0.1, 500)
    assert probabilities(np.append(harmless, 0.5))[-1] < 0.1


def test_a_set_that_is_dark_by_design_is_not_flagged() -> None:
    rng = np.random.default_rng(0)
    by_day, by_night = rng.normal(0.5, 0.3, 600), rng.normal(3.0, 0.3, 300)
    assert (probabilities(np.concatenate([by_day, by_night])) < 0.5).all()


def test_the_hopeless_is_flagged_however_usual() -> None:
    assert (probabilities(np.full(100, 6.0)) > 0.5).all()


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=60), st.randoms())
@settings(max_examples=60, deadline=None)
def test_probabilities_grow_with_severity_and_do_not_depend_on_order(values: list[float], random: object) -> None:
    severity = np.array(values)
    found = probabilities(severity)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(severity, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()
    np.testing.assert_allclose(probabilities(severity[order]), found[order], rtol=1e-12)


def test_groups_are_judged_by_themselves_and_small_ones_with_all() -> None:
    rng = np.random.default_rng(0)
    severity = np.concatenate([rng.normal(0.5, 0.1, 200), rng.normal(3.0, 0.1, 60), [3.0]])
    groups = np.repeat([0.0, 1.0, 2.0], [200, 60, 1])
    found = probabilities(severity, groups)
    assert found[200:260].max() < 0.5
    assert probabilities(np.append(severity[:200], 3.0))[-1] > 0.9


def test_no_picture_has_no_odds() -> None:
    assert probabilities(np.empty(0)).shape == (0,)
    assert size_odds(np.empty(0), np.empty(0))[0].probability.shape == (0,)


def test_sizes_and_shapes() -> None:
    width, height = np.full(300, 640.0), np.full(300, 480.0)
    width[:4], height[:4] = (80, 480, 2000, 12), (60, 640, 480, 9)
    size, aspect = size_odds(width, height)
    assert size.probability[[0, 3]].min() > 0.9
    assert size.probability[4:].max() < 0.01
    assert aspect.probability[2] > 0.9
    assert aspect.probability[[0, 1]].max() < 0.01  # smaller, turned: the same shape


@pytest.mark.parametrize("seed", range(3))
def test_a_set_of_many_sizes_has_no_odd_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = 2.0 ** rng.normal(9.5, 0.7, (2, 400))
    size, aspect = size_odds(width, height)
    assert (size.probability >= 0.5).sum() + (aspect.probability >= 0.5).sum() == 0
