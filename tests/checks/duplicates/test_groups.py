from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.duplicates.conflicts import conflicts, label_conflicts, matched_boxes
from curate.checks.duplicates.keepers import move_boxes
from curate.checks.duplicates.pairs import NEAR, Pairs, certain_pairs, concatenate, groups_of


def pairs(edges: dict[tuple[int, int], float]) -> Pairs:
    first, second = np.array(list(edges), dtype=np.int64).reshape(-1, 2).T
    return replace(certain_pairs(first, second, NEAR), score=np.array(list(edges.values())))


def test_one_wrong_link_does_not_join_two_groups() -> None:
    edges = dict.fromkeys([*combinations(range(4), 2), *combinations(range(4, 8), 2)], 0.99)
    edges |= {(a, b): 0.01 for a in range(4) for b in range(4, 8)}
    edges[0, 4] = 0.9
    assert groups_of(pairs(edges), 9).tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 8]


def test_a_chain_of_small_steps_is_cut() -> None:
    edges = {(a, b): 0.9 if b - a == 1 else 0.0 for a, b in combinations(range(30), 2)}
    assert np.bincount(groups_of(pairs(edges), 30)).max() <= 3


def test_copies_without_doubt_are_one_group_whatever_their_links() -> None:
    edges = {(k, k + 1): 0.9 for k in range(49)}
    assert set(groups_of(pairs(edges), 50).tolist()) == {0}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_groups_do_not_depend_on_the_order_of_images(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    edges = {pair: float(rng.random()) for pair in combinations(range(n), 2) if rng.random() < 0.6}
    if not edges:
        return
    order = rng.permutation(n)
    moved = {(min(order[a], order[b]), max(order[a], order[b])): value for (a, b), value in edges.items()}
    plain, permuted = groups_of(pairs(edges), n), groups_of(pairs(moved), n)
    assert (plain[:, None] == plain).tolist() == (permuted[order][:, None] == permuted[order]).tolist()


def test_a_pair_in_several_sets_is_taken_from_the_first() -> None:
    joined = concatenate([pairs({(0, 1): 1.0}), pairs({(0, 1): 0.2, (1, 2): 0.3})])
    assert joined.score.tolist() == [1.0, 0.3]


def test_boxes_move_with_a_mirror_image_of_half_the_size() -> None:
    boxes = np.array([[10.0, 20.0, 30.0, 40.0]])
    moved = move_boxes(boxes, np.eye(2, 3), True, np.array([200.0, 100.0]), np.array([100.0, 50.0]))
    assert np.allclose(moved, [[80.0, 10.0, 15.0, 20.0]])


def test_the_label_that_fewer_copies_have_is_suspect() -> None:
    rows = [{"label": label, "bbox": None} for label in ("cat", "cat", "dog")]
    found = label_conflicts([[row] for row in rows])
    assert [(k, each.other, round(each.share, 2)) for k, each in found.items()] == [
        (0, "dog", 0.33),
        (1, "dog", 0.33),
        (2, "cat", 0.67),
    ]
    assert label_conflicts([[rows[0]], [rows[1]], []]) == {}


def test_boxes_of_one_thing_are_matched_and_compared() -> None:
    kept = [{"label": "nut", "bbox": [10, 10, 20, 20]}, {"label": "bolt", "bbox": [60, 60, 20, 30]}]
    copied = [{"label": "gear", "bbox": [11, 10, 20, 20]}, {"label": "bolt", "bbox": [60, 61, 20, 30]}]
    size = np.array([[100.0, 100.0], [100.0, 100.0]])
    found = matched_boxes(kept, copied, np.eye(2, 3), False, size)
    assert {(a["label"], b["label"]) for a, b in found} == {("nut", "gear"), ("bolt", "bolt")}
    assert [(each.other, each.share) for each in conflicts([kept[0], copied[0]])] == [("gear", 0.5), ("nut", 0.5)]
