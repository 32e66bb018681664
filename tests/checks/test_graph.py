"""Connected components and joined groups."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curate.checks.graph import components, joined_groups

N = 9
LINKS = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=8)


def columns(links: list[tuple[int, int]]) -> np.ndarray:
    return np.array(links, dtype=np.int64).reshape(-1, 2).T


def spread(numbers: list[int], links: list[tuple[int, int]]) -> list[int]:
    """The slow way: along every link the smaller number wins, until none does."""
    while True:
        before = list(numbers)
        for a, b in links:
            low, high = sorted((numbers[a], numbers[b]))
            numbers = [low if number == high else number for number in numbers]
        if numbers == before:
            return numbers


@given(LINKS)
def test_components_are_numbered_by_their_first_rows(links: list[tuple[int, int]]) -> None:
    first, second = columns(links)
    found = components(first, second, N).tolist()
    expected = spread(list(range(N)), links)
    assert found == [sorted(set(expected)).index(number) for number in expected]


@given(st.lists(st.integers(-3, 3), min_size=N, max_size=N), LINKS)
def test_groups_are_joined_by_links_of_their_rows(groups: list[int], links: list[tuple[int, int]]) -> None:
    found = joined_groups(np.array(groups), *columns(links)).tolist()
    within = [(groups.index(number), row) for row, number in enumerate(groups)]
    expected = spread(list(range(N)), [*links, *within])
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


def test_nothing_hangs_together() -> None:
    none = np.zeros(0, np.int64)
    assert components(none, none, 3).tolist() == [0, 1, 2]
    assert components(none, none, 0).tolist() == []
    assert joined_groups(none, none, none).tolist() == []
