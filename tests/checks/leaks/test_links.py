"""Pairs across splits: all of them, each once, whatever the order of the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.checks.duplicates.pairs import NEAR, SAME_BYTES, SAME_PIXELS, SAME_SOURCE, Pairs, certain_pairs, concatenate
from curate.checks.leaks.links import CHAINED, MOST_MATES, SOURCE_SCORE, Links, links_across, units_of

IntArray = npt.NDArray[np.int64]
TRAIN, VAL, TEST = range(3)


def pairs_of(*rows: tuple[int, int, float, int]) -> Pairs:
    """Pairs from (first, second, score, kind)."""
    parts = [
        replace(certain_pairs(np.array([a]), np.array([b]), kind), score=np.array([score]))
        for a, b, score, kind in rows
    ]
    return concatenate([certain_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), NEAR), *parts])


def find(pairs: Pairs, split: list[int], source: list[int] | None = None, order: list[float] | None = None) -> Links:
    n = len(split)
    return links_across(
        pairs,
        np.array(split),
        np.full(n, -1) if source is None else np.array(source),
        np.arange(n, dtype=np.float64) if order is None else np.array(order),
    )


def rows(links: Links) -> list[tuple[int, int]]:
    return list(zip(links.first.tolist(), links.second.tolist(), strict=True))


def test_every_copy_is_linked_not_the_nearest_alone() -> None:
    pairs = pairs_of((0, 3, 0.9, NEAR), (1, 3, 0.8, NEAR), (2, 3, 0.7, NEAR), (0, 1, 0.9, NEAR))
    links = find(pairs, [TRAIN, TRAIN, VAL, TEST])
    assert rows(links)[-2:] == [(1, 3), (2, 3)]
    assert set(rows(links)) == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    assert dict(zip(rows(links), links.kind.tolist(), strict=True))[0, 2] == CHAINED


def test_pairs_within_a_split_and_images_in_none_are_no_leaks() -> None:
    pairs = pairs_of((0, 1, 1.0, SAME_BYTES), (1, 2, 1.0, SAME_BYTES))
    assert len(find(pairs, [TRAIN, TRAIN, -1])) == 0


def test_what_was_found_to_be_no_copy_is_none() -> None:
    assert len(find(pairs_of((0, 1, 0.3, NEAR)), [TRAIN, TEST])) == 0


def test_equal_images_are_equal_though_each_is_linked_to_the_first_alone() -> None:
    pairs = pairs_of((0, 1, 1.0, SAME_BYTES), (0, 2, 1.0, SAME_BYTES), (0, 3, 1.0, SAME_PIXELS), (0, 4, 0.7, NEAR))
    links = find(pairs, [TRAIN, TRAIN, TEST, TEST, VAL])
    kinds = dict(zip(rows(links), links.kind.tolist(), strict=True))
    assert kinds[1, 2] == SAME_BYTES
    assert kinds[1, 3] == SAME_PIXELS
    scores = dict(zip(rows(links), links.score.tolist(), strict=True))
    assert (kinds[1, 4], scores[1, 4]) == (CHAINED, 0.7)


def test_one_source_in_two_splits_is_a_leak_with_a_lower_score() -> None:
    links = find(pairs_of((0, 2, 0.95, NEAR), (1, 2, 0.1, NEAR)), [TRAIN, TRAIN, TEST, TEST], source=[7, 7, 7, -1])
    assert rows(links) == [(0, 2), (1, 2)]
    assert links.kind.tolist() == [NEAR, SAME_SOURCE]
    assert links.score.tolist() == [0.95, SOURCE_SCORE]
    assert links.pair.tolist() == [0, -1]


def test_of_a_long_video_the_nearest_frames_are_linked() -> None:
    n = 4 * MOST_MATES
    links = find(pairs_of(), [TRAIN] * n + [TEST] * n, source=[0] * 2 * n, order=[*map(float, range(n))] * 2)
    apart = np.abs(links.first - (links.second - n))
    assert len(links) < 2 * n * MOST_MATES
    assert all((apart == k).sum() >= n - k for k in range(MOST_MATES // 2 - 1))
    assert apart.max() <= MOST_MATES


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_order_of_the_images_does_not_matter(data: st.DataObject) -> None:
    n = 12
    edges = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=8))
    known = {(min(a, b), max(a, b)): 0.55 + 0.03 * k for k, (a, b) in enumerate(edges) if a != b}
    split = data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
    source = data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    place = np.array(data.draw(st.permutations(range(n))))

    def as_set(links: Links, name: IntArray) -> set[tuple[int, int, float, int]]:
        ends = np.sort(np.stack([name[links.first], name[links.second]]), axis=0).tolist()
        return set(zip(*ends, links.score.tolist(), links.kind.tolist(), strict=True))

    straight = find(pairs_of(*((a, b, s, NEAR) for (a, b), s in known.items())), split, source)
    moved = [(min(place[a], place[b]), max(place[a], place[b]), s, NEAR) for (a, b), s in known.items()]
    turned = pairs_of(*((int(a), int(b), s, kind) for a, b, s, kind in moved))
    back = np.argsort(place)
    shuffled = find(turned, [split[k] for k in back], [source[k] for k in back], [float(k) for k in back])
    assert as_set(straight, np.arange(n)) == as_set(shuffled, back)


def test_units_join_copies_and_sources() -> None:
    units = units_of(pairs_of((0, 1, 0.9, NEAR), (3, 4, 0.2, NEAR)), np.array([-1, 5, 5, -1, -1]))
    assert units[0] == units[1] == units[2]
    assert len(set(units.tolist())) == 3
