"""The suggested split: units whole, sizes and classes as they should be, few images moved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from curate.checks.leaks.resplit import suggest_split
from curate.checks.leaks.splits import parse_ratios, rank_splits
from curate.errors import UsageError

IntArray = npt.NDArray[np.int64]


def one_class_each(labels: IntArray, classes: int) -> csr_array:
    return csr_array(np.eye(classes)[labels])


def counts(split: IntArray, labels: IntArray, classes: int = 4) -> npt.NDArray[np.float64]:
    return np.stack([np.bincount(labels[split == k], minlength=classes) for k in range(3)]).astype(float)


@pytest.fixture
def labels() -> IntArray:
    return np.random.default_rng(0).choice(4, 1000, p=[0.6, 0.25, 0.12, 0.03])


def test_a_set_without_leaks_stays_as_it_is(labels: IntArray) -> None:
    split = np.random.default_rng(1).choice(3, 1000, p=[0.7, 0.2, 0.1])
    assert (suggest_split(split, np.arange(1000), one_class_each(labels, 4), 3) == split).all()


def test_leaks_are_mended_with_few_moves_and_sizes_stay(labels: IntArray) -> None:
    split = np.random.default_rng(1).choice(3, 1000, p=[0.7, 0.2, 0.1])
    unit = np.arange(1000)
    pairs = [(a, b) for a, b in zip(np.flatnonzero(split == 0)[:40], np.flatnonzero(split == 2)[:40], strict=True)]
    for a, b in pairs:
        unit[b], labels[b] = unit[a], labels[a]
    new = suggest_split(split, unit, one_class_each(labels, 4), 3)
    assert all(new[a] == new[b] for a, b in pairs)
    assert (new != split).sum() <= 44  # 40 are needed
    assert np.abs(np.bincount(new) - np.bincount(split)).max() <= 2
    assert np.abs(counts(new, labels) - counts(split, labels)).max() <= 3


def test_a_set_with_no_split_is_divided_by_class(labels: IntArray) -> None:
    unit = np.arange(1000)
    unit[500:520] = 500
    new = suggest_split(np.full(1000, -1), unit, one_class_each(labels, 4), 3, [0.8, 0.1, 0.1])
    assert np.bincount(new).tolist() == [800, 100, 100]
    wanted = np.outer([0.8, 0.1, 0.1], np.bincount(labels))
    assert np.abs(counts(new, labels) - wanted).max() <= 2
    assert len(set(new[500:520].tolist())) == 1


def test_several_classes_on_an_image_are_balanced_together() -> None:
    rng = np.random.default_rng(2)
    content = (rng.random((2000, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]).astype(float)
    new = suggest_split(np.full(2000, -1), np.arange(2000), csr_array(content), 3, [0.7, 0.2, 0.1])
    found = np.stack([content[new == k].sum(axis=0) for k in range(3)])
    assert np.abs(found - np.outer([0.7, 0.2, 0.1], content.sum(axis=0))).max() <= 3


def test_images_in_no_split_stay_there_unless_shares_are_given(labels: IntArray) -> None:
    split = np.where(np.arange(1000) < 300, -1, np.arange(1000) % 3)
    content = one_class_each(labels, 4)
    assert (suggest_split(split, np.arange(1000), content, 3)[:300] == -1).all()
    assert (suggest_split(split, np.arange(1000), content, 3, [0.6, 0.2, 0.2]) >= 0).all()


def test_a_split_with_no_share_is_emptied(labels: IntArray) -> None:
    split = np.arange(1000) % 3
    new = suggest_split(split, np.arange(1000), one_class_each(labels, 4), 3, [0.7, 0.3, 0.0])
    assert (new != 2).all()
    assert abs(int((new == 0).sum()) - 700) <= 3


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10**6), st.booleans())
def test_units_are_whole_and_the_result_is_the_same_again(n: int, seed: int, keep: bool) -> None:
    rng = np.random.default_rng(seed)
    split, unit = rng.integers(0, 3, n), rng.integers(0, max(1, n // 2), n)
    content = csr_array((rng.random((n, 3)) < 0.4).astype(float))
    shares = None if keep else [0.5, 0.3, 0.2]
    new = suggest_split(split, unit, content, 3, shares)
    assert all(len(set(new[unit == k].tolist())) == 1 for k in set(unit.tolist()))
    assert ((new >= 0) & (new < 3)).all()
    assert (suggest_split(split, unit, content, 3, shares) == new).all()


def test_names_of_splits_are_ranked_by_what_they_are_for() -> None:
    sizes = {"test": 90, "valid": 5, "train": 80, "batch_2": 50}
    assert rank_splits(sizes) == ["train", "batch_2", "valid", "test"]


def test_ratios() -> None:
    assert parse_ratios("train=0.8, val=0.1,test=0.1") == {"train": 0.8, "val": 0.1, "test": 0.1}
    for wrong in ("train", "train=x", "train=0.5,test=0.4", "train=0.5,train=0.5", "train=1.5,test=-0.5", "=1"):
        with pytest.raises(UsageError) as error:
            parse_ratios(wrong)
        assert error.value.remedy is not None
