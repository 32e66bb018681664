"""Work given to processes that die: nothing is lost, order is kept, and what kills is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import pytest

from curate.engine.retrying import TRIES_ALONE, Fate, Unit, cut, in_order
from curate.errors import UnavailableError

Outcome = tuple[Fate, Any]


class Pretended:
    """Workers that do what a test says, and finish in any order."""

    def __init__(self, outcome: Callable[[Unit], Outcome], capacity: int = 3, seed: int = 0) -> None:
        self.given: list[list[int]] = []
        self._outcome = outcome
        self._capacity = capacity
        self._random = random.Random(seed)
        self._units: dict[int, Unit] = {}

    def submit(self, unit: Unit) -> Hashable:
        self.given.append(list(unit.items))
        self._units[len(self.given)] = unit
        return len(self.given)

    def wait(self, given: Sequence[Hashable]) -> tuple[Hashable, Fate, Any]:
        handle = self._random.choice(given)
        assert isinstance(handle, int)
        return handle, *self._outcome(self._units[handle])

    def capacity(self) -> int:
        return self._capacity


def units(count: int, size: int) -> Iterator[Unit]:
    return cut(range(count), lambda _: 1, size)


def done(unit: Unit) -> Outcome:
    return "done", [10 * item for item in unit.items]


def results(yielded: Sequence[Unit]) -> list[int]:
    return [number for unit in yielded if unit.fate == "done" for number in unit.result]


@pytest.mark.parametrize("seed", range(5))
def test_results_come_in_order(seed: int) -> None:
    yielded = list(in_order(Pretended(done, seed=seed), units(100, 7)))
    assert results(yielded) == [10 * item for item in range(100)]
    assert [unit.first for unit in yielded] == list(range(0, 100, 7))


@pytest.mark.parametrize("seed", range(5))
def test_what_dies_now_and_then_is_done_again(seed: int) -> None:
    dice = random.Random(seed)

    def outcome(unit: Unit) -> Outcome:
        fate = dice.choice(["done", "done", "done", "died", "lost"])
        return done(unit) if fate == "done" else (fate, "killed")  # type: ignore[return-value]

    yielded = list(in_order(Pretended(outcome, seed=seed), units(60, 10)))
    given_up = {unit.first for unit in yielded if unit.fate == "given up"}
    assert results(yielded) == [10 * item for item in range(60) if item not in given_up]
    assert len(given_up) < 5


def test_the_item_that_kills_is_found_and_all_else_done() -> None:
    workers = Pretended(lambda unit: ("died", "killed") if 37 in unit.items else done(unit))
    yielded = list(in_order(workers, units(100, 50)))
    assert results(yielded) == [10 * item for item in range(100) if item != 37]
    assert [(unit.first, unit.items) for unit in yielded if unit.fate == "given up"] == [(37, [37])]
    assert workers.given.count([37]) == TRIES_ALONE
    assert [unit.first for unit in yielded] == sorted(unit.first for unit in yielded)


def test_workers_that_die_of_everything_are_told_of_soon() -> None:
    workers = Pretended(lambda _: ("died", "killed by signal 9"))
    with pytest.raises(UnavailableError, match="die of whatever they are given: killed by signal 9"):
        list(in_order(workers, units(10_000, 100)))
    assert len(workers.given) < 100


def test_what_is_lost_for_ever_is_an_error() -> None:
    workers = Pretended(lambda unit: ("lost", "the node is gone") if 3 in unit.items else done(unit))
    with pytest.raises(UnavailableError, match="the node is gone"):
        list(in_order(workers, units(10, 1)))


def test_units_are_taken_only_a_little_ahead() -> None:
    taken: list[Unit] = []

    def endless() -> Iterator[Unit]:
        while True:
            taken.append(Unit(len(taken), [len(taken)]))
            yield taken[-1]

    running = in_order(Pretended(lambda unit: done(unit) if unit.first else ("lost", "slow"), capacity=2), endless())
    with pytest.raises(UnavailableError):
        next(running)  # the first never comes, and what waits behind it is bounded
    assert len(taken) <= 16


@pytest.mark.parametrize("seed", range(5))
def test_what_waits_behind_a_unit_that_takes_long_is_not_all_there_is(seed: int) -> None:
    tries = iter(["lost"] * 19)

    def outcome(unit: Unit) -> Outcome:
        return done(unit) if unit.first or not next(tries, None) else ("lost", "slow")

    workers = Pretended(outcome, capacity=2, seed=seed)
    assert results(list(in_order(workers, units(200, 1)))) == [10 * item for item in range(200)]


def test_units_have_the_rows_asked_for_or_somewhat_more() -> None:
    assert [len(unit.items) for unit in cut(range(1000), lambda _: 1, 256)] == [256, 256, 256, 232]
    found = list(cut(range(500), lambda _: 3, 256))
    assert [3 * len(unit.items) for unit in found[:-1]] == [258] * (len(found) - 1)
    assert [item for unit in found for item in unit.items] == list(range(500))
    assert [unit.first for unit in found] == [86 * number for number in range(len(found))]
