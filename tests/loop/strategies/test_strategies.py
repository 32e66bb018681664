"""Every strategy on points whose right answer can be counted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from curate.loop.strategies import herding
from curate.loop.strategies.distances import nearest_squared, squared_distances, usual_squared_distance
from curate.loop.strategies.herding import herd, kernel_width
from curate.loop.strategies.k_center import k_center
from curate.loop.strategies.ranked import at_random, by_score
from curate.loop.strategies.registry import STRATEGIES, Strategy, Task
from curate.loop.strategies.typicality import typical

Vectors = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
NONE = np.zeros(0, np.int64)


def points(n: int, d: int = 4, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def blobs(sizes: list[int], spread: float = 0.1) -> tuple[Vectors, IntArray]:
    """Blobs far from one another, and the number of each point's."""
    rng = np.random.default_rng(3)
    centres = 10 * np.eye(len(sizes), dtype=np.float32)
    blob = np.repeat(np.arange(len(sizes)), sizes)
    return (centres[blob] + rng.normal(0, spread, (len(blob), len(sizes)))).astype(np.float32), blob


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_what_holds_for_all(strategy: Strategy) -> None:
    vectors = points(120)
    score = np.random.default_rng(1).random(120)
    candidates, covered = np.arange(20, 120), np.arange(20)
    task = Task(vectors, candidates, covered, score, seed=5)
    found = strategy.choose(task, 30)
    assert len(found.rows) == len(found.value) == 30
    assert len(np.unique(found.rows)) == 30
    assert np.isin(found.rows, candidates).all()
    again = strategy.choose(task, 30)
    np.testing.assert_array_equal(found.rows, again.rows)
    everything = strategy.choose(task, 500)
    assert sorted(everything.rows) == candidates.tolist()


@pytest.mark.parametrize("name", [name for name, each in STRATEGIES.items() if each.whole or name == "random"])
def test_a_cold_start_needs_nothing(name: str) -> None:
    found = STRATEGIES[name].choose(Task(points(50), np.arange(50), NONE, None, seed=0), 7)
    assert len(np.unique(found.rows)) == 7


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
def test_equal_points_are_no_trouble(strategy: Strategy) -> None:
    task = Task(np.ones((30, 3), np.float32), np.arange(30), NONE, np.ones(30), seed=0)
    assert len(np.unique(strategy.choose(task, 12).rows)) == 12


def test_by_score_takes_the_highest_and_leaves_the_unknown() -> None:
    score = np.array([0.1, np.nan, 0.9, 0.5, np.nan, 0.7])
    assert by_score(score, np.arange(6), 3, seed=0).rows.tolist() == [2, 5, 3]
    assert by_score(score, np.arange(6), 6, seed=0).rows.tolist() == [2, 5, 3, 0]
    assert by_score(score, np.array([0, 1, 3]), 3, seed=0).rows.tolist() == [3, 0]


def test_ties_are_broken_by_the_seed() -> None:
    orders = {tuple(by_score(np.ones(20), np.arange(20), 20, seed=seed).rows) for seed in range(4)}
    assert len(orders) == 4
    assert len({tuple(at_random(np.arange(20), 5, seed=seed).rows) for seed in range(4)}) == 4


def test_k_center_is_the_farthest_first_traversal() -> None:
    vectors = points(60)
    covered = np.array([0, 1])
    found = k_center(vectors, np.arange(2, 60), covered, 10, seed=0)
    chosen = covered.tolist()
    for row, value in zip(found.rows, found.value, strict=True):
        distances = np.linalg.norm(vectors[:, None] - vectors[chosen], axis=2).min(axis=1)
        assert distances[row] == pytest.approx(distances.max(), rel=1e-3)
        assert value == pytest.approx(distances[row], rel=1e-3, abs=1e-3)
        chosen.append(int(row))


def test_k_center_visits_every_blob_before_any_twice() -> None:
    vectors, blob = blobs([100, 5, 30, 2])
    found = k_center(vectors, np.arange(len(vectors)), NONE, 4, seed=1)
    assert sorted(blob[found.rows]) == [0, 1, 2, 3]


def test_typicality_takes_the_middle_of_uncovered_clusters() -> None:
    vectors, blob = blobs([60, 40, 20], spread=0.5)
    covered = np.flatnonzero(blob == 0)[:1]
    candidates = np.setdiff1d(np.arange(len(vectors)), covered)
    found = typical(vectors, candidates, covered, 2, seed=0)
    assert blob[found.rows].tolist() == [1, 2]  # the larger first, and not the covered one
    assert found.value.tolist() == [40, 20]
    for row in found.rows:
        own = vectors[blob == blob[row]]
        from_middle = np.linalg.norm(own - own.mean(axis=0), axis=1)
        assert np.linalg.norm(vectors[row] - own.mean(axis=0)) < np.median(from_middle)


def greedy_coverage(kernel: Vectors, weights: Vectors, known: Vectors, count: int) -> list[int]:
    """The greedy choice, every gain computed anew."""
    chosen: list[int] = []
    for _ in range(count):
        gains = np.maximum(kernel - known, 0) @ weights
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        known = np.maximum(known, kernel[chosen[-1]])
    return chosen


@pytest.mark.parametrize("labelled", [0, 15])
def test_herding_is_the_greedy_choice(labelled: int) -> None:
    vectors = points(150, seed=2)
    weights = np.random.default_rng(0).random(150)
    covered, candidates = np.arange(labelled), np.arange(labelled, 150)
    found = herd(vectors, candidates, covered, 20, weights=weights, seed=0)
    kernel = np.exp(squared_distances(vectors, vectors) / -kernel_width(vectors, candidates, covered, 20, 0))
    known = kernel[labelled:, :labelled].max(axis=1, initial=0.0)
    inside = kernel[labelled:, labelled:]
    expected = greedy_coverage(inside, weights[labelled:].astype(np.float32), known, 20)
    assert sorted(found.rows - labelled) == sorted(expected)
    assert (found.rows - labelled)[:3].tolist() == expected[:3]


def test_herding_goes_where_the_doubt_is() -> None:
    vectors = points(300, d=2)
    right = vectors[:, 0] > 0
    doubt = np.where(right, 0.9, 0.001)
    assert right[herd(vectors, np.arange(300), NONE, 10, weights=doubt, seed=0).rows].sum() >= 9
    assert 3 <= right[herd(vectors, np.arange(300), NONE, 10, seed=0).rows].sum() <= 7


def test_herding_stands_for_every_blob() -> None:
    vectors, blob = blobs([50, 20, 30])
    found = herd(vectors, np.arange(100), NONE, 3, seed=0)
    assert blob[found.rows].tolist() == [0, 2, 1]
    assert found.value.tolist() == [50, 30, 20]


def test_herding_counts_unknown_doubt_as_the_median() -> None:
    vectors = points(40)
    some = np.random.default_rng(0).random(40)
    some[::2] = np.nan
    filled = np.where(np.isnan(some), np.nanmedian(some), some)
    rows = [herd(vectors, np.arange(40), NONE, 8, weights=weights, seed=0).rows for weights in (some, filled)]
    np.testing.assert_array_equal(rows[0], rows[1])


def test_herding_in_blocks_covers_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = points(600, seed=4)
    whole = herd(vectors, np.arange(600), NONE, 40, seed=0).rows
    monkeypatch.setattr(herding, "_BLOCK", 100)
    parts = herd(vectors, np.arange(600), NONE, 40, seed=0).rows
    assert len(np.unique(parts)) == 40
    width = kernel_width(vectors, np.arange(600), NONE, 40, 0)
    kernel = np.exp(squared_distances(vectors, vectors) / -width)
    covers = [kernel[rows].max(axis=0).mean() for rows in (whole, parts)]
    by_chance = kernel[np.arange(40)].max(axis=0).mean()
    assert by_chance < covers[1] <= covers[0] + 1e-3
    assert covers[0] - covers[1] < (covers[0] - by_chance) / 2


def test_the_kernel_shrinks_as_labels_come_in() -> None:
    vectors = points(400)
    widths = [kernel_width(vectors, np.arange(400), NONE, count, 0) for count in (5, 20, 80, 300)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]


def test_distances() -> None:
    vectors = points(30)
    expected = ((vectors[:, None].astype(np.float64) - vectors) ** 2).sum(axis=2)
    np.testing.assert_allclose(squared_distances(vectors, vectors), expected, atol=1e-4)
    rows, others = np.arange(10), np.arange(10, 30)
    np.testing.assert_allclose(nearest_squared(vectors, rows, others), expected[:10, 10:].min(axis=1), atol=1e-4)
    assert np.isinf(nearest_squared(vectors, rows, NONE)).all()
    nearest = np.sort(expected, axis=1)[:, 2]
    assert usual_squared_distance(vectors, rank=2, seed=0) == pytest.approx(np.median(nearest), rel=1e-3)
