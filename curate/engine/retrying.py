"""Work given to processes that may die: done again, cut up where it kills them, and handed back in order.

What is given out is a unit: a run of items, or one job. A unit whose process dies is given out again; where it dies again the
unit is cut in two, until the one item is found that no process survives. That item is given up, and everything else is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from curate.errors import UnavailableError

TRIES_WHOLE: Final = 2
"""A unit of several items is cut in two when so many processes have died of it."""

TRIES_ALONE: Final = 3
"""A single item is given up when so many processes have died of it alone, unless somebody says otherwise."""

_LOST: Final = 20
_DEATHS_AT_FIRST: Final = 12
_WAITING: Final = 8

Fate = Literal["done", "died", "lost"]
"""What became of a unit: there is a result; its process died; its machine or its result was lost, through no fault of it."""


@dataclass
class Unit:
    """Some work that is done in one go.

    Attributes:
        first: Number of its first item.
        items: What it is of.
        died: How many processes have died of it.
        lost: How often it was lost.
        fate: 'done' with a `result`; 'given up'; or neither yet.
        result: What it came to.
    """

    first: int
    items: Sequence[Any]
    died: int = 0
    lost: int = 0
    fate: Literal["done", "given up"] | None = None
    result: Any = field(default=None, repr=False)


class Workers(Protocol):
    """Processes that do units of work."""

    def submit(self, unit: Unit) -> Hashable:
        """Give a unit out; what is returned stands for it."""

    def wait(self, given: Sequence[Hashable]) -> tuple[Hashable, Fate, Any]:
        """Wait for one of several units: which, what became of it, and its result, or why there is none."""

    def capacity(self) -> int:
        """How many units to have given out."""


def in_order(workers: Workers, units: Iterable[Unit], tries: int = TRIES_ALONE) -> Generator[Unit, None, None]:
    """Do units of work.

    Args:
        workers: Who does them.
        units: Taken from lazily: a few for each worker are given out, or wait for one before them.
        tries: How many processes may die of a single item.

    Yields:
        Every unit that is done or given up, in order; one that was cut up as its pieces.

    Raises:
        UnavailableError: Processes die of whatever they are given, or units are lost again and again.
    """
    source = iter(units)
    order: deque[Unit] = deque()
    given: dict[Hashable, Unit] = {}
    succeeded, deaths = False, 0
    while True:
        _give_out(workers, source, order, given)
        if not order:
            return
        while order and order[0].fate is not None:
            yield order.popleft()
        if not given:  # there is room again
            continue
        handle, fate, result = workers.wait(list(given))
        unit = given.pop(handle)
        if fate == "done":
            unit.fate, unit.result, succeeded = "done", result, True
            continue
        deaths += fate == "died"
        if not succeeded and deaths >= _DEATHS_AT_FIRST:
            raise UnavailableError(
                f"the engine's processes die of whatever they are given: {result}",
                remedy="see Ray's logs; with less work at a time (--engine 'ray?workers=1') it may be memory that lacks",
            )
        for piece in _after(unit, fate, result, order, tries):
            given[workers.submit(piece)] = piece


def _give_out(workers: Workers, source: Iterator[Unit], order: deque[Unit], given: dict[Hashable, Unit]) -> None:
    capacity = workers.capacity()
    while len(given) < capacity and len(order) < _WAITING * capacity:
        unit = next(source, None)
        if unit is None:
            return
        order.append(unit)
        given[workers.submit(unit)] = unit


def _after(unit: Unit, fate: Fate, why: Any, order: deque[Unit], tries: int) -> list[Unit]:
    """What to give out in the place of a unit that has no result."""
    if fate == "lost":
        unit.lost += 1
        if unit.lost >= _LOST:
            raise UnavailableError(
                f"the engine loses what it is given: {why}", remedy="see whether machines of the cluster go away"
            )
        return [unit]
    unit.died += 1
    if len(unit.items) == 1:
        if unit.died < tries:
            return [unit]
        unit.fate, unit.result = "given up", why
        return []
    if unit.died < TRIES_WHOLE:
        return [unit]
    middle = len(unit.items) // 2
    pieces = [Unit(unit.first, unit.items[:middle]), Unit(unit.first + middle, unit.items[middle:])]
    at = order.index(unit)
    del order[at]
    for number, piece in enumerate(pieces):
        order.insert(at + number, piece)
    return pieces


def cut(items: Iterable[Any], size: Callable[[Any], int], rows: int) -> Iterator[Unit]:
    """Items in units of so many rows, or somewhat more where the last item has several.

    Args:
        items: Taken from lazily.
        size: Rows of an item.
        rows: Of a unit.
    """
    first, count, held = 0, 0, list[Any]()
    for item in items:
        held.append(item)
        count += size(item)
        if count >= rows:
            yield Unit(first, held)
            first, count, held = first + len(held), 0, []
    if held:
        yield Unit(first, held)
