"""One kind of registry for everything that can be added: formats, encoders, predictors, checks, connectors.

Built-ins are named as entry points are (``module:attribute``) and loaded the same way, on first use, so that listing names
imports nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Generic, TypeVar, cast

from curate.errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for.

    Args:
        kind: What is registered, singular ("format"); the entry point group is ``curate.<kind>s``.
        builtins: ``module:attribute`` by name.
    """

    def __init__(self, kind: str, builtins: Mapping[str, str]) -> None:
        self.kind = kind
        self._builtins = dict(builtins)

    @property
    def builtins(self) -> list[str]:
        """Names of the built-ins alone: for help texts, since looking for plugins takes as long as starting does."""
        return list(self._builtins)

    def _targets(self) -> dict[str, str]:
        return {**self._builtins, **_plugins(f"curate.{self.kind}s", tuple(sys.path))}

    def names(self) -> list[str]:
        """Every registered name, built-ins first."""
        return list(self._targets())

    def get(self, name: str) -> T:
        """Load what a name stands for.

        Raises:
            UsageError: There is no such name.
        """
        target = self._targets().get(name)
        if target is None:
            _plugins.cache_clear()  # from a notebook it may have been installed just now
            target = self._targets().get(name)
        if target is None:
            raise UsageError(f"there is no {self.kind} named '{name}'", remedy=f"one of: {', '.join(self.names())}")
        module, _, attribute = target.partition(":")
        return cast(T, getattr(importlib.import_module(module), attribute))

    def __iter__(self) -> Iterator[tuple[str, T]]:
        for name in self.names():
            yield name, self.get(name)


@cache
def _plugins(group: str, path: tuple[str, ...]) -> Mapping[str, str]:
    """Entry points of a group, of whatever is installed on `path`: to look takes as long as to start, so it is done once.

    What is installed while the process runs is found by its name (`Registry.get`), and from then on listed.
    """
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=group)}
