"""Values out of a JSON tree, which may be of any type: each is what was expected, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from curate.geometry import rle_from_counts

_LARGEST_SIDE: Final = 2**31
_DEEPEST: Final = 50
_MOST_PIXELS: Final = 2**32


def number(value: Any) -> float | None:
    """A number that a float can hold, NaN and infinity among them; None for anything else, true and false too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def numbers(values: Iterable[Any]) -> list[float] | None:
    """All of them as numbers; None if one is not."""
    given = list(values)
    if set(map(type, given)) <= {float}:  # nearly always, and ten times as fast
        return given
    found = [number(value) for value in given]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else None


def points(value: Any) -> list[float] | None:
    """``[[x0, y0], [x1, y1], ...]`` as [x0, y0, x1, y1, ...]; None if a point is not two numbers."""
    pairs = sequence(value)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        return None
    return numbers(side for pair in pairs for side in pair)


def whole(value: Any) -> int:
    """A width, height or count: 0 where it is not a whole number from 1 to 2147483647."""
    size = number(value)
    return int(size) if size is not None and 1 <= size < _LARGEST_SIDE and size == math.floor(size) else 0


def run_lengths(counts: Any, size: Any) -> tuple[str, list[int]] | None:
    """A COCO mask's compressed counts and [height, width]; None if this is none, or plain counts do not fill the size.

    Args:
        counts: A list of numbers, or compressed as a text, which is not looked into (`curate.geometry.valid_rles` does).
        size: [height, width].
    """
    sides = [side for side in sequence(size) if type(side) is int and 0 < side < _MOST_PIXELS]
    if len(sides) != 2 or len(size) != 2 or sides[0] * sides[1] >= _MOST_PIXELS:
        return None
    if isinstance(counts, list):
        runs = [run for run in counts if type(run) is int and run >= 0]
        is_full = len(runs) == len(counts) and sum(runs) == sides[0] * sides[1]
        return (rle_from_counts(runs, sides), sides) if is_full else None
    return (counts, sides) if isinstance(counts, str) else None


def text(value: Any) -> str:
    """A text without blanks around it; empty where it is none."""
    return value.strip() if isinstance(value, str) else ""


def mapping(value: Any) -> dict[str, Any]:
    """An object's members; empty where it is none."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """A list's items; empty where it is none."""
    return value if isinstance(value, list) else []


def is_shallow(value: Any) -> bool:
    """Whether a tree is nested no deeper than any real one, so that it can be written again."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return True
    return False
