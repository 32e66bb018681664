from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.duplicates import candidates
from curate.checks.duplicates.candidates import (
    embedding_neighbors,
    group_pairs,
    hash_pairs,
    unique_pairs,
    without,
)
from curate.checks.duplicates.search import pairs_above


def brute_force(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    exact = exact / np.where(norms > 0, norms, 1)
    similar = np.triu(exact @ exact.T, 1)
    return set(zip(*(part.tolist() for part in np.nonzero(similar >= threshold)), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(0, 150), st.integers(1, 70), st.sampled_from([0.3, 0.8, 0.95]), st.booleans()
)
def test_all_pairs_are_found(seed: int, n: int, d: int, threshold: float, centred: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0 if centred else 2, 1, (n, d)).astype(np.float32)
    vectors[: n // 3] = vectors[n // 3 : 2 * (n // 3)] + 0.2 * rng.normal(size=(n // 3, d))
    vectors[-1:] = 0
    first, second, similarity = pairs_above(vectors, threshold, block=32)
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(found) == len(first)
    # What lies within rounding of the threshold may go either way.
    assert brute_force(vectors, threshold + 1e-6) <= found <= brute_force(vectors, threshold - 1e-6)
    assert (similarity >= threshold).all()


def test_a_set_of_copies_gives_all_its_pairs() -> None:
    vectors = np.repeat(np.random.default_rng(0).normal(size=(1, 16)), 100, axis=0)
    assert len(pairs_above(vectors, 0.99)[0]) == 4950


@pytest.mark.parametrize("most", [None, 4])
def test_a_row_that_is_not_finite_hides_no_pair_of_others(most: int | None) -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32)
    vectors = np.vstack([vectors, vectors + np.float32(1e-4)])
    vectors[3, 5], vectors[7, 0] = np.nan, np.inf
    first, second, _ = pairs_above(vectors, 0.9, most=most)
    assert first.tolist() == [row for row in range(100) if row not in {3, 7}]
    assert np.array_equal(second, first + 100)


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_lengths_of_vectors_do_not_matter(length: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 32)).astype(np.float32)
    expected = pairs_above(vectors, 0.5)
    found = pairs_above(vectors * np.float32(length), 0.5)
    assert len(expected[0])
    assert np.array_equal(found[:2], expected[:2])
    assert np.allclose(found[2], expected[2], atol=1e-6)


def test_large_sets_are_searched_for_what_is_similar(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 200)).astype(np.float32)
    vectors[30:] = vectors[:30] + 0.1 * rng.normal(size=(30, 200)).astype(np.float32)
    usual = embedding_neighbors(vectors)
    monkeypatch.setattr(candidates, "LARGEST_SEARCH", 10)
    near = embedding_neighbors(vectors)
    assert (near[:, 0] == usual[:, 0]).all()
    assert (near[:, 0] == (np.arange(60) + 30) % 60).all()
    assert (near[:, 1:] == -1).all()


@pytest.mark.parametrize("bits", [0, 1, 3])
def test_near_hashes_are_found(bits: int) -> None:
    rng = np.random.default_rng(bits)
    hashes = rng.integers(0, 2**64, 500, dtype=np.uint64)
    changed = hashes.copy()
    for k in range(500):
        for bit in rng.choice(64, bits, replace=False):
            changed[k] ^= np.uint64(1) << np.uint64(bit)
    found = hash_pairs(np.concatenate([hashes, changed]))
    assert {(k, k + 500) for k in range(500)} <= set(map(tuple, found.tolist()))
    assert len(found) < 600


def test_a_mirrored_copy_is_found_by_its_hash() -> None:
    rng = np.random.default_rng(0)
    hashes, mirrored = rng.integers(0, 2**64, (2, 50), dtype=np.uint64)
    hashes[7] = mirrored[31]
    assert hash_pairs(hashes, mirrored).tolist() == [[7, 31]]


def test_thousands_of_equal_hashes_stay_few_pairs() -> None:
    assert len(hash_pairs(np.zeros(5000, np.uint64))) < 5000 * 32


def test_small_groups_are_compared_all_with_all_and_large_ones_are_bounded() -> None:
    star = np.array([[0, k] for k in range(1, 10)])
    assert len(group_pairs(star, 20)) == 45
    chain = np.stack([np.arange(999), np.arange(1, 1000)], axis=1)
    assert len(group_pairs(chain, 1000)) < 12 * 1000


def test_pairs_are_unique_and_known_ones_left_out() -> None:
    pairs = unique_pairs(np.array([[3, 1], [1, 3], [2, 2], [0, 4]]))
    assert pairs.tolist() == [[0, 4], [1, 3]]
    assert without(pairs, np.array([[1, 3]])).tolist() == [[0, 4]]
