"""Vectors that belong to nothing, among those that do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.checks.outliers import isolation
from curate.checks.outliers.isolation import find_outliers

Floats = npt.NDArray[np.float32]


def clusters(n: int, centres: int, seed: int = 0, d: int = 24) -> tuple[Floats, npt.NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    middle = rng.normal(0, 1, (centres, d))
    labels = rng.integers(0, centres, n)
    vectors: Floats = (middle[labels] + rng.normal(0, 0.3, (n, d))).astype(np.float32)
    return vectors, labels


def with_strangers(count: int) -> Floats:
    vectors, _ = clusters(600, 3)
    strangers = np.random.default_rng(9).normal(0, 1.2, (count, 24))
    return np.concatenate([vectors, strangers.astype(np.float32)])


def test_strangers_are_found_and_the_others_are_not() -> None:
    found = find_outliers(with_strangers(6))
    assert (found.p_outlier[600:] >= 0.5).all()
    assert (found.p_outlier[:600] >= 0.5).sum() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_clean_sets_have_next_to_no_outliers(seed: int) -> None:
    vectors, labels = clusters(800, 4, seed)
    assert (find_outliers(vectors).p_outlier >= 0.5).sum() <= 1
    assert (find_outliers(vectors, labels=labels).p_outlier >= 0.5).sum() <= 1


def test_strangers_that_resemble_one_another_do_not_vouch_for_one_another() -> None:
    vectors = with_strangers(1)
    clump = np.r_[vectors, vectors[-1:] + np.random.default_rng(3).normal(0, 0.02, (7, 24))].astype(np.float32)
    assert (find_outliers(clump).p_outlier[600:] >= 0.5).all()


def test_copies_of_an_outlier_do_not_hide_it() -> None:
    vectors = with_strangers(1)
    copies = np.r_[vectors, np.repeat(vectors[-1:], 60, axis=0)]
    groups = np.r_[np.arange(601), np.full(60, 600)]
    weights = np.r_[np.ones(600), np.full(61, 1 / 61)]
    assert (find_outliers(copies, groups=groups, weights=weights).p_outlier[600:] >= 0.5).all()


def test_the_order_of_the_rows_does_not_matter() -> None:
    vectors = with_strangers(5)
    place = np.random.default_rng(4).permutation(len(vectors))
    straight, shuffled = find_outliers(vectors), find_outliers(vectors[place])
    # Two that are equally far but for rounding may change ranks, of which there are 605.
    assert shuffled.p_value == pytest.approx(straight.p_value[place], rel=3e-3)
    assert (place[shuffled.nearest] == straight.nearest[place]).mean() > 0.99


def test_one_between_tight_classes_is_far_from_each() -> None:
    rng = np.random.default_rng(5)
    # Two tight classes and a wide one: by plain distance the wide one's own members are further out.
    basis = np.eye(12)
    tight = [basis[k] + rng.normal(0, 0.01, (300, 12)) for k in (0, 1)]
    wide = basis[2] + rng.normal(0, 0.35, (300, 12))
    between = basis[0] + 0.35 * basis[1][None, :].repeat(4, axis=0) + rng.normal(0, 0.01, (4, 12))
    vectors = np.concatenate([*tight, wide, between]).astype(np.float32)
    labels = np.r_[np.repeat([0, 1, 2], 300), np.zeros(4, int)].astype(np.int64)
    known = find_outliers(vectors, labels=labels).p_value
    blind = find_outliers(vectors).p_value
    assert known[-4:].max() < blind[-4:].min()
    assert known[-4:].max() < np.quantile(known[:-4], 0.05)


def test_large_sets_are_compared_with_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = with_strangers(6)
    whole = find_outliers(vectors)
    monkeypatch.setattr(isolation, "POOL", 300)
    sampled = find_outliers(vectors, seed=1)
    assert (sampled.p_value == find_outliers(vectors, seed=1).p_value).all()
    assert (sampled.p_outlier[600:] >= 0.5).all()
    assert np.corrcoef(sampled.distance, whole.distance)[0, 1] > 0.95


def test_nearest_are_of_other_groups() -> None:
    vectors, _ = clusters(90, 2)
    groups = np.arange(90) // 3
    found = find_outliers(vectors, groups=groups)
    assert (groups[found.nearest] != groups[:, None]).all()
    assert (np.diff(found.similarity, axis=1) <= 1e-6).all()


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_rows(n: int) -> None:
    found = find_outliers(np.ones((n, 4), np.float32))
    assert found.p_outlier.tolist() == [0.0] * n
    assert found.nearest.shape == (n, 5)


def test_rows_of_zeros_and_equal_rows() -> None:
    vectors, _ = clusters(100, 2)
    vectors[:3] = 0
    vectors[3:40] = vectors[3]
    found = find_outliers(vectors)
    assert np.isfinite(found.p_outlier).all()
    assert np.isfinite(found.distance).all()


def test_one_group_alone_has_nothing_to_compare_with() -> None:
    vectors, _ = clusters(60, 2)
    found = find_outliers(vectors, groups=np.zeros(60, int))
    assert (found.p_outlier == 0).all()
    assert (found.nearest == -1).all()
