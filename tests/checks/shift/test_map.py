"""The map of a set."""

from __future__ import annotations

import numpy as np
import pytest

from curate.checks.shift import map as maps
from curate.checks.shift.map import make_map


def kinds(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.arange(n) % 3
    return (0.3 * rng.normal(size=(n, 24)) + 3 * np.eye(24)[truth]).astype(np.float32), truth


def neighbours_agree(placed: np.ndarray, truth: np.ndarray) -> float:
    distance = np.square(placed[:, None] - placed[None]).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(np.mean(truth[distance.argmin(axis=1)] == truth))


def test_what_is_alike_lies_together_and_the_map_is_the_same_again() -> None:
    vectors, truth = kinds(120)
    placed = make_map(vectors, seed=1)
    assert placed.shape == (120, 2)
    assert np.abs(placed).max() <= 1
    assert neighbours_agree(placed, truth) > 0.95
    np.testing.assert_array_equal(placed, make_map(vectors, seed=1))


def test_more_images_than_landmarks_are_placed_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "LANDMARKS", 90)
    vectors, truth = kinds(300)
    assert neighbours_agree(make_map(vectors), truth) > 0.95


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_hardly_any_images(n: int) -> None:
    placed = make_map(np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32))
    assert placed.shape == (n, 2)
    assert np.isfinite(placed).all()
