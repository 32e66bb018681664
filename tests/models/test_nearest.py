"""The nearest of many vectors, batch by batch, against sorting them all."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.models.nearest import Batch, Floats, cosines, nearest


def batches(ids: np.ndarray, vectors: Floats, size: int) -> Iterator[Batch]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size], vectors[start : start + size]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 17), st.integers(0, 9999))
def test_equals_sorting_all_whatever_the_batches(count: int, n: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.permutation(1000)[:count].astype(np.uint64)
    # Few different vectors, so that there are many ties.
    vectors = rng.integers(-1, 2, (count, 3)).astype(np.float16)
    query = rng.integers(-1, 2, 3).astype(np.float32)
    found = nearest(batches(ids, vectors, size), query, n)
    lengths = np.linalg.norm(vectors.astype(float), axis=1) * np.linalg.norm(query)
    exact = np.divide(vectors.astype(float) @ query, lengths, out=np.zeros(count), where=lengths > 0)
    order = sorted(range(count), key=lambda row: (-exact[row].round(9), ids[row]))[:n]
    assert found.ids.tolist() == ids[order].tolist()
    np.testing.assert_allclose(found.cosines, exact[order], atol=1e-8)
    assert found.searched == count


def test_copies_tie_in_whichever_batch_they_come() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 512)).astype(np.float16)
    vectors[[1999, 77, 500]] = vectors[3]
    ids = rng.permutation(2000).astype(np.uint64)
    copies = sorted(ids[[3, 77, 500, 1999]].tolist())
    for size in (7, 999, 2000):
        found = nearest(batches(ids, vectors, size), vectors[3].astype(np.float32) * 5, 6)
        assert found.ids[:4].tolist() == copies
        assert found.cosines[:4].tolist() == [1.0] * 4


def test_lowest_leaves_out() -> None:
    vectors = np.array([[1, 0], [1, 1], [0, 1], [-1, 0]], np.float16)
    ids = np.arange(4, dtype=np.uint64)
    assert nearest(batches(ids, vectors, 2), np.array([1.0, 0.0]), 9, lowest=0.5).ids.tolist() == [0, 1]
    assert nearest(batches(ids, vectors, 2), np.array([1.0, 0.0]), 9).cosines.tolist() == pytest.approx(
        [1, 0.5**0.5, 0, -1]
    )


def test_cosines_of_vectors_without_length_are_zero() -> None:
    found = cosines(np.array([[0, 0], [3, 4]], np.float16), np.array([[1, 0], [0, 0]]))
    assert found.tolist() == [[0, 0], [pytest.approx(0.6), 0]]


def test_memory_does_not_grow_with_the_vectors() -> None:
    rng = np.random.default_rng(0)
    block = rng.normal(size=(2048, 64)).astype(np.float16)

    def peak(blocks: int) -> int:
        numbered = ((np.arange(k * 2048, (k + 1) * 2048, dtype=np.uint64), block * (1 + k % 3)) for k in range(blocks))
        tracemalloc.start()
        assert nearest(numbered, block[0], 50).searched == blocks * 2048
        return tracemalloc.get_traced_memory()[1]

    small = peak(4)
    tracemalloc.stop()
    large = peak(40)
    tracemalloc.stop()
    assert large < 1.2 * small
