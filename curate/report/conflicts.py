"""Conflicts of a pull or push: what was changed on both sides, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from curate.report.terminal import console, print_table
from curate.wording import counted

_SHOWN: Final = 20


class Conflicting(Protocol):
    """One annotation that was changed on both sides; a row is None where it was taken away."""

    @property
    def local_id(self) -> str: ...
    @property
    def remote_id(self) -> str: ...
    @property
    def here(self) -> Mapping[str, Any] | None: ...
    @property
    def there(self) -> Mapping[str, Any] | None: ...


def conflicts_to_json(conflicts: Sequence[tuple[str, Conflicting]]) -> list[dict[str, Any]]:
    """Conflicts, JSON-ready: the image's location, both ids, and label and box on either side."""
    return [
        {
            "image": image,
            "annotation_id": each.local_id,
            "remote_id": each.remote_id,
            "here": _said(each.here),
            "there": _said(each.there),
        }
        for image, each in conflicts
    ]


def print_conflicts(conflicts: Sequence[tuple[str, Conflicting]], *, dataset: str) -> None:
    """A table of conflicts; nothing if there are none.

    Args:
        conflicts: With the location of their image.
        dataset: Its name, for what to do about them.
    """
    if not conflicts:
        return
    rows = [
        {"image": image, "annotation": each.local_id, "here": _words(each.here), "there": _words(each.there)}
        for image, each in conflicts[:_SHOWN]
    ]
    print_table(rows, title=f"{counted(len(conflicts), 'annotations')} changed on both sides, and left alone")
    if len(conflicts) > _SHOWN:
        console().print(f"... and {len(conflicts) - _SHOWN:,} more; --json gives all")
    console().print(
        f"'curate pull -d {dataset} --theirs' takes what is there; 'curate push -d {dataset} --ours' sends what is here"
    )


def _said(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {name: row.get(name) for name in ("type", "label", "bbox", "attributes")}


def _words(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "taken away"
    box = "" if row.get("bbox") is None else " at " + ", ".join(f"{value:.0f}" for value in row["bbox"])
    return f"{row.get('label') or row.get('type')}{box}"
