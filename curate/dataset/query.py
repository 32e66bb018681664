"""Small pieces of SQL for `where`."""

from __future__ import annotations

from collections.abc import Collection


def quote(text: str) -> str:
    """A text as an SQL literal."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def in_layer(layer: str) -> str:
    """The condition that chooses a layer's annotations."""
    return f"layer = {quote(layer)}"


def in_layers(layers: Collection[str]) -> str:
    """The condition that chooses the annotations of some layers, at least one."""
    return in_layer(*layers) if len(layers) == 1 else f"layer IN ({', '.join(map(quote, sorted(layers)))})"
