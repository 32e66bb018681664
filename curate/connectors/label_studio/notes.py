"""Findings where annotators work: columns of the task, what they are about in its ``meta``, and a tab in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from curate.connectors.base import Note
from curate.connectors.label_studio.api import Api
from curate.connectors.label_studio.tasks import FINDING, SCORE
from curate.formats.label_studio.images import OWN
from curate.formats.values import mapping, sequence

TAB: Final = "curate"
"""Title of the tab."""

_FINDINGS: Final = "findings"
_BETWEEN: Final = "; "
_DIGITS: Final = 4


def with_notes(
    task: Mapping[str, Any], notes: Sequence[Note], priority: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A task's data and meta with findings and a priority; whatever else is in them stays.

    Args:
        task: With its ``data`` and ``meta``.
        notes: Findings; those that the task has already stay, one of the same id is replaced.
        priority: How urgent it is; None to leave that.
    """
    data, meta = dict(mapping(task.get("data"))), dict(mapping(task.get("meta")))
    own = dict(mapping(meta.get(OWN)))
    if priority is not None:
        data[SCORE] = round(priority, _DIGITS)
    if notes:
        known = {each["id"]: each for each in map(mapping, sequence(own.get(_FINDINGS))) if "id" in each}
        known |= {note.finding.id: _finding(note) for note in notes}
        own[_FINDINGS] = list(known.values())
        data[FINDING] = _BETWEEN.join(str(each.get("text", "")) for each in known.values())
        meta[OWN] = own
    return data, meta


def ensure_tab(api: Api) -> None:
    """Make the tab with the most urgent tasks first, unless it is there."""
    api.create_view(
        {
            "title": TAB,
            "type": "list",
            "target": "tasks",
            "ordering": [f"-tasks:data.{SCORE}"],
            # Without this the server orders numbers as texts.
            "columnsDisplayType": {f"tasks:data.{SCORE}": "Number"},
        }
    )


def _finding(note: Note) -> dict[str, Any]:
    finding = note.finding
    said = {
        "id": finding.id,
        "kind": finding.kind,
        "score": finding.score,
        "text": note.text,
        "given": finding.given,
        "suggested": finding.suggested,
        "bbox": None if finding.bbox is None else [float(side) for side in finding.bbox],
        "annotation": note.remote_annotation_id or finding.annotation_id,
    }
    return {key: value for key, value in said.items() if value is not None}
