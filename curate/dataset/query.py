"""Small pieces of SQL for `where`."""

from __future__ import annotations


def quote(text: str) -> str:
    """A text as an SQL literal."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def in_layer(layer: str) -> str:
    """The condition that chooses a layer's annotations."""
    return f"layer = {quote(layer)}"
