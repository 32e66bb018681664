"""Out-of-fold class probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.mistakes.probe import assign_folds, fit_probe, neighbor_scores

Array = npt.NDArray[Any]


def rings(n: int = 600, seed: int = 0) -> tuple[Array, Array]:
    """Two classes that no line separates: a disc within a ring, in two of eight columns."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    angle, radius = rng.uniform(0, 2 * np.pi, n), np.where(labels, 3, 1) + rng.normal(0, 0.2, n)
    vectors = rng.normal(0, 0.1, (n, 8))
    vectors[:, 0], vectors[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    return vectors.astype(np.float32), labels


def test_the_pool_finds_the_probe_that_fits() -> None:
    vectors, labels = rings()
    probe = fit_probe(vectors, labels, 2, assign_folds(labels, np.arange(600)))
    probabilities = probe.probabilities(np.arange(600))
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(600), abs=1e-5)
    assert (probabilities.argmax(1) == labels).mean() > 0.98


def test_a_row_has_no_say_in_its_own_probabilities() -> None:
    """Random labels cannot be predicted out of fold; a leak would make them look predictable."""
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(500, 100)).astype(np.float32), rng.integers(0, 4, 500)
    probabilities = fit_probe(vectors, labels, 4, assign_folds(labels, np.arange(500))).probabilities(np.arange(500))
    assert (probabilities.argmax(1) == labels).mean() < 0.33
    assert np.log(probabilities[np.arange(500), labels]).mean() < np.log(0.25) + 0.03


def test_copies_in_one_fold_do_not_vouch_for_one_another() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(150, 20)), 3, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 3, 150), 3)
    together, apart = np.repeat(np.arange(150), 3), np.arange(450)
    accuracy = {}
    for name, groups in (("together", together), ("apart", apart)):
        probe = fit_probe(vectors, labels, 3, assign_folds(labels, groups))
        accuracy[name] = (probe.probabilities(apart).argmax(1) == labels).mean()
    assert accuracy["together"] < 0.5
    assert accuracy["apart"] > 0.9


def test_extra_columns_help() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    vectors = rng.normal(size=(400, 30)).astype(np.float32)
    extra = (labels[:, None] * 5 + rng.normal(0, 0.5, (400, 1))).astype(np.float32)
    folds = assign_folds(labels, np.arange(400))
    probabilities = fit_probe(vectors, labels, 3, folds, extra=extra).probabilities(np.arange(400))
    assert (probabilities.argmax(1) == labels).mean() > 0.95


def test_same_seed_same_answer() -> None:
    vectors, labels = rings(300)
    folds = assign_folds(labels, np.arange(300))
    first, second = (fit_probe(vectors, labels, 2, folds, seed=3).probabilities(np.arange(300)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 8), st.integers(1, 60), st.integers(0, 999))
def test_folds_keep_groups_and_balance_classes(n: int, classes: int, group_count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, classes, n), rng.integers(0, group_count, n)
    folds = assign_folds(labels, groups, folds=5, seed=seed)
    present = len(np.unique(groups))
    assert len(np.unique(folds)) == min(5, present)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in np.unique(groups))
    single = assign_folds(labels, np.arange(n), folds=5, seed=seed)
    for label in np.unique(labels):
        counts = np.bincount(single[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_neighbours_of_the_own_group_have_no_vote() -> None:
    scores = neighbor_scores(np.array([[1, 2, -1]]), np.array([0, 0, 1]), np.array([7, 7, 8]), 2)
    assert np.exp(scores(np.array([0]))) == pytest.approx(np.array([[1 / 3, 2 / 3]]))
