"""Nearest neighbours and near-duplicate groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks import neighbors as module
from curate.checks.neighbors import near_duplicate_groups, nearest_neighbors

Array = npt.NDArray[Any]


def brute_force(vectors: Array, k: int, groups: Array) -> tuple[Array, Array]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    cosines[groups[:, None] == groups] = -np.inf
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 70), st.integers(1, 6), st.integers(0, 9999), st.integers(1, 30))
def test_equals_brute_force_over_many_tiles(n: int, k: int, seed: int, group_count: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8)).astype(np.float32)
    groups = rng.integers(0, group_count, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", 16)
        patch.setattr(module, "_COLUMNS", 13)
        found = nearest_neighbors(vectors, k, groups=groups)
    _, cosines = brute_force(vectors, k, groups)
    width = cosines.shape[1]
    expected = np.where(np.isneginf(cosines), -1, cosines)
    np.testing.assert_allclose(found.similarities[:, :width], expected, atol=1e-5)
    known = found.indices >= 0
    assert (known[:, :width] == ~np.isneginf(cosines)).all()
    assert not known[:, width:].any()
    rows = np.nonzero(known)[0]
    assert (groups[rows] != groups[found.indices[known]]).all()


def test_search_among_a_sample() -> None:
    vectors = np.eye(6, dtype=np.float32) + 0.1
    found = nearest_neighbors(vectors, 2, pool=np.array([0, 3]))
    assert not found.exact
    assert found.indices[0].tolist() == [3, -1]
    assert sorted(found.indices[1].tolist()) == [0, 3]


def test_copies_are_grouped_and_look_alikes_are_not() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 32)).astype(np.float32) + 2  # all alike: cosines about 0.8
    vectors[10] = vectors[200] * 3
    vectors[11] = vectors[200] + rng.normal(size=32).astype(np.float32) * 0.01
    groups = near_duplicate_groups(nearest_neighbors(vectors, 10), largest=20)
    assert groups[10] == groups[11] == groups[200]
    assert len(np.unique(groups)) == 298


def test_given_groups_are_joined_by_a_copy() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 16)).astype(np.float32)
    images = np.arange(60) // 3
    vectors[0] = vectors[59]
    found = near_duplicate_groups(nearest_neighbors(vectors, 10, groups=images), images, largest=20)
    assert len(np.unique(found)) == 19
    assert len(set(found[[0, 1, 2, 57, 58, 59]])) == 1


def test_a_set_of_equal_images_is_not_one_group() -> None:
    vectors = np.ones((50, 4), dtype=np.float32)
    assert len(np.unique(near_duplicate_groups(nearest_neighbors(vectors, 5), largest=10))) == 50


def test_zero_vectors_have_no_direction() -> None:
    vectors = np.zeros((3, 4), dtype=np.float32)
    vectors[0, 0] = 1
    assert nearest_neighbors(vectors, 2).similarities == pytest.approx(np.zeros((3, 2)))


def test_nothing() -> None:
    found = nearest_neighbors(np.zeros((0, 4), dtype=np.float32), 3)
    assert found.indices.shape == (0, 3)
    assert near_duplicate_groups(found, largest=2).shape == (0,)


def test_neighbors_of_some_rows_are_theirs_among_all() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    rows = np.array([5, 250, 17])
    every, some = nearest_neighbors(vectors, 4), nearest_neighbors(vectors, 4, rows=rows)
    np.testing.assert_array_equal(some.indices, every.indices[rows])
    assert some.similarities == pytest.approx(every.similarities[rows], abs=1e-6)
