"""Fields of many decoded objects as columns, and ids looked up whole columns at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from curate.formats.coco.objects import Id, same_id
from curate.formats.columns import Flags, Ints

_DENSE: Final = 4


def column(items: Sequence[msgspec.Struct], name: str) -> list[Any]:
    """One field of each of n objects."""
    return list(map(attrgetter(name), items))


class Ids:
    """An id of each of n objects.

    Args:
        values: As decoded.

    Attributes:
        values: The same.
        numbers: As int64, null where there is none; None where some id is a text or too large.
    """

    def __init__(self, values: list[Id | None]) -> None:
        self.values = values
        self.numbers: pa.Array | None = None
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            self.numbers = pa.array(values, pa.int64())

    @cached_property
    def given(self) -> Flags:
        """Which of the objects have an id; shape (n,)."""
        if self.numbers is not None:
            return np.asarray(self.numbers.is_valid())
        return np.fromiter((value is not None for value in self.values), np.bool_, len(self.values))

    def texts(self) -> pa.Array:
        """The ids as text."""
        if self.numbers is not None:
            return self.numbers.cast(pa.string())
        return pa.array([None if value is None else str(value) for value in self.values], pa.string())

    def chosen(self, flags: Flags) -> Ids:
        """Those of some of the objects."""
        return Ids([value for value, use in zip(self.values, flags.tolist(), strict=True) if use])


class Lookup:
    """What ids mean, as numbers.

    Args:
        meanings: Number of each id, at least 0; ids that are numbers are numbers here (`same_id`).
    """

    def __init__(self, meanings: Mapping[Id, int]) -> None:
        self._meanings = meanings
        known = [(key, value) for key, value in meanings.items() if isinstance(key, int) and -(2**63) <= key < 2**63]
        pairs = np.array(known, dtype=np.int64).reshape(-1, 2)
        pairs = pairs[np.argsort(pairs[:, 0])]
        self._keys, self._values = pairs[:, 0], pairs[:, 1]
        self._first, span = (int(self._keys[0]), int(self._keys[-1]) - int(self._keys[0]) + 1) if len(pairs) else (0, 0)
        self._table: Ints | None = None
        if 0 < span <= _DENSE * len(pairs):  # numbered from one on, as most files are: no search is needed
            self._table = np.full(span + 2, -1, dtype=np.int64)
            self._table[self._keys - self._first + 1] = self._values

    def find(self, ids: Ids) -> Ints:
        """The number of each of n ids, -1 where there is none; shape (n,)."""
        if ids.numbers is None:
            get = self._meanings.get
            values = (get(value, get(same_id(value), -1)) for value in ids.values)  # type: ignore[arg-type]
            return np.fromiter(values, np.int64, len(ids.values))
        numbers = np.asarray(ids.numbers.fill_null(0) if ids.numbers.null_count else ids.numbers)
        if self._table is not None:
            inside = (numbers >= self._first) & (numbers < self._first + len(self._table) - 2)
            found = self._table[np.where(inside, numbers - self._first + 1, 0)]
        elif len(self._keys):
            place = np.minimum(np.searchsorted(self._keys, numbers), len(self._keys) - 1)
            found = np.where(self._keys[place] == numbers, self._values[place], -1)
        else:
            found = np.full(len(numbers), -1, dtype=np.int64)
        return found if not ids.numbers.null_count else np.where(ids.given, found, -1)


def truths(values: list[int | bool | None]) -> pa.Array:
    """Flags of n objects that are numbers or booleans; null where there is none."""
    try:
        return pa.array(np.fromiter(values, np.int8, len(values)) != 0)
    except (TypeError, OverflowError):
        return pa.array([None if value is None else bool(value) for value in values], pa.bool_())


def numbers(values: list[float | None]) -> pa.Array:
    """Finite numbers of n objects; null where there is none."""
    array = np.fromiter(values, np.float64, len(values))
    missing = np.isnan(array)
    return pa.array(array, mask=missing) if missing.any() else pa.array(array)
