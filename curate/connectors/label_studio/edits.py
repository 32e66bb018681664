"""Changing some regions of an annotation; all others stay as they are, to the byte, and so do relations between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from curate.connectors.base import Row
from curate.connectors.label_studio.results import ResultWriter
from curate.connectors.label_studio.tasks import ids_key
from curate.connectors.sync.content import changed_fields, fields
from curate.formats.label_studio.config import default_control
from curate.formats.label_studio.images import OWN, TaskImage
from curate.formats.label_studio.regions import Region
from curate.formats.losses import LossReport
from curate.formats.values import mapping, sequence

_IDS: Final = ids_key(predicted=False)


@dataclass(frozen=True)
class Edit:
    """What to change of one annotation.

    Attributes:
        updated: The row there and the new row, by the key of the region.
        deleted: Keys of regions to take away.
        created: Rows that are new.
    """

    updated: Mapping[str, tuple[Row, Row]]
    deleted: Sequence[str]
    created: Sequence[Row]


def edited(
    results: Sequence[Any],
    regions: Mapping[str, Region],
    edit: Edit,
    writer: ResultWriter,
    image: TaskImage,
    size: tuple[int, int] | None,
    place: str,
) -> list[Any]:
    """The results of an annotation after a change.

    Args:
        results: Those before.
        regions: What they say, by key.
        edit: What to change.
        writer: Writes rows for the project.
        image: Where the task shows the image.
        size: Its width and height.
        place: What to call it in the loss report.
    """
    # By identity: what the server gave is what it gets back.
    instead: dict[int, list[Any]] = {}
    answers: dict[int, dict[str | None, Row | None]] = defaultdict(dict)
    again: list[Row] = []
    gone: set[str] = set()
    for key, (before, row) in edit.updated.items():
        region = regions[key]
        only_label = changed_fields(fields(before), fields(row)) == ["label"] and before["label"] and row["label"]
        if region.kind == "label":
            answers[id(region.results[0])][region.label] = row if only_label else None
            again += [] if only_label else [row]
        elif only_label:
            instead |= {id(result): [_relabelled(result, region, row, writer)] for result in region.results}
        elif region.id is None:  # nothing to be known by again
            instead |= {id(result): [] for result in region.results}
            again.append(row)
        else:
            others = [each for each in results if not any(each is result for result in region.results)]
            ids = {row["annotation_id"]: region.id}
            instead |= {id(result): [] for result in region.results}
            instead[id(region.results[0])] = writer.results(
                [row], image, size, place, ids=ids, before=_dictionaries(others)
            )
            if region.kind == "ellipse":
                writer.losses.converted("annotations", "an ellipse: written back as a polygon", place)
    for key in edit.deleted:
        region = regions[key]
        if region.kind == "label":
            answers[id(region.results[0])][region.label] = None
        else:
            instead |= {id(result): [] for result in region.results}
            gone.add(region.id or "")
    for result in results:
        if id(result) in answers:
            instead[id(result)] = _answered(result, answers[id(result)])
    kept = [new for result in results for new in instead.get(id(result), [result])]
    kept = _without_relations(kept, gone, writer.losses, place)
    return _with_labels(kept, writer.results([*again, *edit.created], image, size, place, before=_dictionaries(kept)))


def _relabelled(result: Mapping[str, Any], region: Region, row: Row, writer: ResultWriter) -> Mapping[str, Any]:
    """A result with another label, and nothing else changed; a region's own points have labels of their own."""
    value = mapping(result.get("value"))
    is_point = "keypointlabels" in value and region.kind != "keypoint"
    if is_point:
        return result
    new = {
        key: [row["label"] if each == region.label else each for each in said]
        if key.endswith("labels") and isinstance(said, list)
        else said
        for key, said in value.items()
    }
    changed = {**result, "value": new}
    controls = writer.config.controls
    control = controls.get(str(result.get("from_name")))
    if control is not None and new != value and row["label"] not in control.labels:
        other = default_control(controls, control.type, [row["label"]])
        if other is not None and row["label"] in controls[other].labels:
            changed["from_name"] = other
        else:
            name = str(result.get("from_name"))
            writer.controls.use(control.type, name, [row["label"]], (control.to_name, ""))
    return changed


def _answered(result: Mapping[str, Any], changes: Mapping[str | None, Row | None]) -> list[Any]:
    """An answer about the whole image with other choices, by those that it had; none if all are taken away."""
    value, meta = mapping(result.get("value")), mapping(result.get("meta"))
    own = mapping(meta.get(OWN))
    ids = dict(mapping(own.get(_IDS)))
    given = value.get("choices")
    choices: list[Any] = []
    for choice in [given] if isinstance(given, str) else sequence(given):
        label = "/".join(map(str, choice)) if isinstance(choice, list) else choice
        if label not in changes:
            choices.append(choice)
            continue
        ids.pop(label, None)
        row = changes[label]
        if row is not None:
            choices.append(row["label"])
    ids |= {row["label"]: row["annotation_id"] for row in changes.values() if row is not None}
    if not choices:
        return []
    return [{**result, "value": {**value, "choices": choices}, "meta": {**meta, OWN: {**own, _IDS: ids}}}]


def _with_labels(results: list[Any], added: Sequence[dict[str, Any]]) -> list[Any]:
    """Results with new ones; a label of the whole image joins the answer that its control has, if nothing else is said."""
    joined = list(results)
    for new in added:
        place = next((place for place, each in enumerate(joined) if _is_same_answer(mapping(each), new)), None)
        if place is None:
            joined.append(new)
            continue
        value, meta = mapping(joined[place]["value"]), mapping(joined[place].get("meta"))
        own = mapping(meta.get(OWN))
        choices = [*sequence(value.get("choices")), *new["value"]["choices"]]
        ids = {**mapping(own.get(_IDS)), **new["meta"][OWN][_IDS]}
        joined[place] = {
            **joined[place],
            "value": {**value, "choices": list(dict.fromkeys(choices))},
            "meta": {**meta, OWN: {**own, _IDS: ids}},
        }
    return joined


def _is_same_answer(result: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether new choices can join a result: the same control's, about the same image as a whole, with nothing else said."""
    same = all(result.get(key) == new.get(key) for key in ("type", "from_name", "to_name", "item_index"))
    value = mapping(result.get("value"))
    plain = all(isinstance(choice, str) for choice in sequence(value.get("choices")))
    said = mapping(mapping(new.get("meta")).get(OWN)).keys()
    return same and value.keys() == {"choices"} == new["value"].keys() and plain and said == {_IDS}


def _without_relations(results: Sequence[Any], gone: set[str], losses: LossReport, place: str) -> list[Any]:
    kept = [
        each
        for each in results
        if mapping(each).get("type") != "relation" or not gone & {each.get("from_id"), each.get("to_id")}
    ]
    losses.dropped("relations", "of a region that was taken away", place, len(results) - len(kept))
    return kept


def _dictionaries(results: Sequence[Any]) -> list[dict[str, Any]]:
    return [each for each in results if isinstance(each, dict)]
