"""Copies are never chosen together, and never copies of what is labelled."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.loop import choose as module
from curate.loop.choose import Pool, choose
from curate.loop.copies import copy_distance, distinct
from curate.loop.strategies.registry import STRATEGIES

Vectors = npt.NDArray[np.float32]


def set_with_copies(copies: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """40 points, each with some copies that differ by rounding; and the number of each row's point."""
    rng = np.random.default_rng(0)
    original = np.tile(np.arange(40), copies + 1)
    vectors = rng.normal(size=(40, 16))[original] + rng.normal(0, 1e-3, (len(original), 16))
    return vectors.astype(np.float32), original


def pool_of(vectors: Vectors, labelled: list[int] | None = None) -> Pool:
    known = np.zeros(len(vectors), dtype=bool)
    known[labelled or []] = True
    return Pool(vectors, ~known, known, np.arange(len(vectors)))


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_two_copies(name: str) -> None:
    vectors, original = set_with_copies(6)
    pool = pool_of(vectors, labelled=[0, 1, 2])
    score = np.random.default_rng(1).random(40)[original]  # copies follow one another in the ranking
    found = choose(STRATEGIES[name], pool, score, 20, seed=0)
    assert len(found.rows) == 20
    assert len(np.unique(original[found.rows])) == 20
    assert not np.isin(original[found.rows], [0, 1, 2]).any()


@pytest.mark.parametrize("name", ["mix", "margin", "random"])
def test_it_ends_when_only_copies_are_left(name: str) -> None:
    vectors, original = set_with_copies(6)
    found = choose(STRATEGIES[name], pool_of(vectors, labelled=list(range(38))), np.ones(len(vectors)), 10, seed=0)
    assert sorted(original[found.rows]) == [38, 39]


def test_known_copies_count_whatever_they_look_like() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    pool = Pool(vectors, np.arange(30) > 0, np.arange(30) == 0, np.arange(30) // 3)
    found = choose(STRATEGIES["random"], pool, None, 30, seed=0)
    assert sorted(found.rows // 3) == list(range(1, 10))


def test_distinct_keeps_the_first() -> None:
    vectors = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]], np.float32)
    rows = np.array([4, 3, 1, 0, 2, 5])
    kept = distinct(rows, np.array([], dtype=np.int64), vectors, np.arange(6), 0.0121)
    assert rows[kept].tolist() == [4, 1, 5]  # 0 and 2 are next to 1, and not to each other
    assert not distinct(rows, np.array([5]), vectors, np.arange(6), 0.0121)[-1]


def test_what_is_a_copy_depends_on_the_set() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    assert copy_distance(vectors * 3, seed=0) == pytest.approx(9 * copy_distance(vectors, seed=0), rel=1e-3)
    assert copy_distance(vectors[:1], seed=0) > 0


def test_very_large_sets_are_sampled_with_the_doubtful_ones_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 50)
    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    score = np.zeros(400)
    score[:10] = 1.0
    found = choose(STRATEGIES["mix"], pool_of(vectors), score, 10, seed=0)
    assert len(found.rows) == 10
    assert (found.rows < 10).sum() >= 5
