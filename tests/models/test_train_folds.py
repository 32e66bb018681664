"""Parts of a set: everything in exactly one of them, groups whole, classes in proportion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import UsageError
from curate.models.training.folds import deal, hold_out, make_folds


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(-1, 4)), min_size=1, max_size=60),
    st.integers(2, 5),
    st.integers(0, 3),
)
def test_every_image_is_in_one_fold_and_no_group_is_split(images: list[tuple[int, int]], folds: int, seed: int) -> None:
    groups, strata = np.array(images).T
    if len(np.unique(groups)) < folds:
        with pytest.raises(UsageError, match="groups of images cannot make"):
            make_folds(groups, strata, folds, seed)
        return
    fold = make_folds(groups, strata, folds, seed)
    assert fold.shape == groups.shape
    assert set(fold) <= set(range(folds))
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1
    np.testing.assert_array_equal(fold, make_folds(groups, strata, folds, seed))


def test_single_images_are_dealt_out_class_by_class() -> None:
    strata = np.repeat([0, 1, 2, -1], [50, 20, 7, 3])
    fold = make_folds(np.arange(80), strata, 5, seed=0)
    for stratum in np.unique(strata):
        counts = np.bincount(fold[strata == stratum], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.bincount(fold).tolist() == [16] * 5
    assert (fold != make_folds(np.arange(80), strata, 5, seed=1)).any()


def test_large_groups_are_spread_and_single_images_fill_up() -> None:
    """Ten videos of ten frames, two of each class, and a hundred single images of the first class."""
    groups = np.concatenate([np.repeat(np.arange(10), 10), 100 + np.arange(100)])
    strata = np.concatenate([np.repeat(np.arange(10) % 5, 10), np.zeros(100, np.int64)])
    fold = make_folds(groups, strata, 2, seed=0)
    assert np.bincount(fold).tolist() == [100, 100]
    for stratum in range(5):
        assert np.bincount(fold[strata == stratum]).tolist() == ([60, 60] if stratum == 0 else [10, 10])


def test_what_is_held_out_has_its_share_of_every_class_and_leaves_rare_ones() -> None:
    strata = np.repeat([0, 1, 2], [100, 40, 2])
    held = hold_out(np.arange(142), strata, 0.2, seed=3)
    assert [int(held[strata == stratum].sum()) for stratum in range(3)] == [20, 8, 0]
    # A class that is in one video alone is learnt from.
    groups = np.where(strata == 2, -1, np.arange(142))
    assert not hold_out(groups, strata, 0.2, seed=3)[strata == 2].any()


def test_nothing_to_deal() -> None:
    assert deal(np.zeros(0, np.int64), np.zeros(0, np.int64), [0.5, 0.5], seed=0).shape == (0,)


def test_one_fold_is_none() -> None:
    with pytest.raises(UsageError, match="1 cannot be a number of folds"):
        make_folds(np.arange(9), np.zeros(9, np.int64), 1, seed=0)


def test_many_images_of_many_classes_are_even() -> None:
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.arange(30_000), rng.integers(0, 300, 3000)])
    strata = rng.integers(0, 200, len(groups))
    fold = make_folds(groups, strata, 5, seed=0)
    assert np.bincount(fold).max() - np.bincount(fold).min() < 0.01 * len(groups)
