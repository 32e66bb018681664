"""Findings where annotators work: columns of the task, what they are about in its ``meta``, a tab in their order, and with
the region in question a text, which the editor shows when the region is selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from curate.connectors.base import Note
from curate.connectors.label_studio.api import Api
from curate.connectors.label_studio.config import FINDING
from curate.connectors.label_studio.tasks import SCORE, WRITTEN
from curate.formats.label_studio.images import OWN
from curate.formats.label_studio.regions import NOTE, drawn_result
from curate.formats.values import mapping, sequence

TAB: Final = "curate"
"""Title of the tab."""

_FINDINGS: Final = "findings"
_BETWEEN: Final = "; "
_LINE: Final = "\n"
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


def with_texts(results: Sequence[Any], notes: Sequence[Note]) -> list[Any]:
    """The results of an annotation, with the text of each note on the region that it is about.

    What people have written with a region stays, and nothing is added to it.

    Args:
        results: Of one annotation.
        notes: Those about something else are not used.
    """
    texts: dict[str, list[str]] = {}
    for note in notes:
        remote = (note.remote_annotation_id or "").partition(":")[2]
        for id_ in {remote, note.finding.annotation_id or ""} - {""}:
            texts.setdefault(id_, []).append(note.text)
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("id"), str) and result["id"] in texts:
            groups.setdefault(result["id"], []).append(result)
    drawn = {id(result): texts[id_] for id_, group in groups.items() if (result := drawn_result(group)) is not None}
    return [_with_text(result, drawn[id(result)]) if id(result) in drawn else result for result in results]


def with_saved(meta: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A task's meta with when curate has saved some annotations, so that they do not pass for a person's."""
    if not annotations:
        return dict(meta)
    own = mapping(meta.get(OWN))
    times = {str(each.get("id")): each.get("updated_at") for each in annotations}
    return {**meta, OWN: {**own, WRITTEN: {**mapping(own.get(WRITTEN)), **times}}}


def ensure_tab(api: Api) -> None:
    """Make the tab with the most urgent tasks first, unless it is there.

    Before the tasks that it is for: a push that is cut off may not be made again if it has put all tasks there.
    """
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


def _with_text(result: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    meta = mapping(result.get("meta"))
    own = mapping(meta.get(OWN))
    before = [own[NOTE]] if isinstance(own.get(NOTE), str) else []
    if meta.get("text", before) != before:
        return result
    lines = dict.fromkeys([*(line for text in before for line in text.split(_LINE)), *texts])
    note = _LINE.join(lines)
    return {**result, "meta": {**meta, "text": [note], OWN: {**own, NOTE: note}}}


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
