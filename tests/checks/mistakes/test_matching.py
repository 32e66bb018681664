from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.boxes import Boxes
from curate.checks.mistakes.matching import Pairs, assign, cluster, covered_share, overlapping_pairs, pairs_within


def random_boxes(rng: np.random.Generator, n: int, images: int = 3, spread: float = 60.0) -> Boxes:
    bbox = np.concatenate([rng.uniform(-10, spread, (n, 2)), rng.uniform(0.5, 40, (n, 2))], axis=1)
    return Boxes(rng.integers(0, images, n), bbox, rng.integers(0, 3, n))


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    return float(common / (a[2] * a[3] + b[2] * b[3] - common))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), min_iou=st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_finds_exactly_the_pairs_that_a_double_loop_finds(seed: int, min_iou: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, 25), random_boxes(rng, 30)
    pairs = overlapping_pairs(a, b, min_iou=min_iou)
    expected = {}
    for i in range(len(a)):
        for j in range(len(b)):
            iou = slow_iou(a.bbox[i], b.bbox[j])
            if a.image[i] == b.image[j] and iou > 0 and iou >= min_iou:
                expected[i, j] = iou
    got = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.iou, strict=True))
    assert got.keys() == expected.keys()
    assert list(got.values()) == pytest.approx([expected[key] for key in got])


def test_degenerate_and_far_boxes_neither_match_nor_disturb() -> None:
    bbox = np.array(
        [[0, 0, 10, 10], [np.nan, 0, 5, 5], [0, 0, 0, 10], [0, 0, -5, 5], [np.inf, 0, 1, 1], [1e9, 0, 10, 10]]
    )
    boxes = Boxes(np.zeros(6, dtype=np.int64), bbox, np.zeros(6, dtype=np.int64))
    pairs = overlapping_pairs(boxes, boxes, min_iou=0.5)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 0), (5, 5)]
    assert pairs.iou == pytest.approx([1.0, 1.0])


def test_thousands_of_boxes_on_one_image() -> None:
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 4000, images=1, spread=4000.0)
    moved = Boxes(boxes.image, boxes.bbox + np.array([0.1, 0.0, 0.0, 0.0]), boxes.label)
    pairs = overlapping_pairs(boxes, moved, min_iou=0.1)
    chosen = pairs.take(assign(pairs, pairs.iou))
    assert len(chosen) == 4000
    assert (chosen.first == chosen.second).mean() > 0.999


def test_no_boxes() -> None:
    none = Boxes(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
    assert len(overlapping_pairs(none, none)) == 0
    assert len(assign(overlapping_pairs(none, none), np.zeros(0))) == 0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_assignment_is_the_greedy_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 40
    pairs = Pairs(rng.integers(0, 12, n), rng.integers(0, 12, n), np.ones(n))
    weight = rng.permutation(n) / n
    expected: list[int] = []
    for p in np.argsort(-weight):
        if all(pairs.first[p] != pairs.first[q] and pairs.second[p] != pairs.second[q] for q in expected):
            expected.append(int(p))
    assert assign(pairs, weight).tolist() == expected


def test_cluster_follows_the_best_box_and_not_a_chain() -> None:
    # 0 overlaps 1, 1 overlaps 2, 0 does not overlap 2: 2 leads itself once 1 is gone.
    pairs = Pairs(np.array([0, 1]), np.array([1, 2]), np.array([0.7, 0.7]))
    assert cluster(pairs, np.array([0.9, 0.8, 0.7])).tolist() == [0, 0, 2]
    assert cluster(pairs, np.array([0.7, 0.9, 0.8])).tolist() == [1, 1, 1]


def test_pairs_within_lists_each_pair_once() -> None:
    boxes = Boxes(np.zeros(3, dtype=np.int64), np.array([[0, 0, 10, 10]] * 3, dtype=float), np.zeros(3, dtype=np.int64))
    pairs = pairs_within(boxes, min_iou=0.9)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 1), (0, 2), (1, 2)]


def test_covered_share_is_of_the_second_box() -> None:
    zero = np.zeros(1, dtype=np.int64)
    crowd = Boxes(zero, np.array([[0.0, 0, 100, 100]]), zero)
    inside = Boxes(zero, np.array([[95.0, 0, 10, 10]]), zero)
    pairs = overlapping_pairs(crowd, inside, min_iou=0.0)
    assert covered_share(pairs, crowd, inside) == pytest.approx([0.5])
