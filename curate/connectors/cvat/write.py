"""Rows as annotations of CVAT's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from curate.connectors.base import Row
from curate.connectors.cvat.labels import SCORE, Label, Labels
from curate.connectors.cvat.shapes import to_json
from curate.formats.cvat.attributes import declared_text, declared_value, split_attributes
from curate.formats.cvat.write_shapes import ShapeWriter
from curate.formats.losses import LossReport
from curate.formats.values import number

Kind = Literal["tags", "shapes"]

_NOT_A_TRACK: Final = "only a track can be outside the picture"
_SINGLE: Final = "written as shapes of single frames: CVAT gives tracks their ids itself"
_OF_TRACKS: Final = ("track_id", "keyframe")
_SOURCES: Final = frozenset({"manual", "auto", "semi-auto", "file", "consensus"})
_LONGEST_VALUE: Final = 4096
_EMPTY: Final = "an empty text is no value in CVAT"
_TOO_LONG: Final = f"texts of more than {_LONGEST_VALUE} characters are cut"
_OTHERWISE: Final = "CVAT gives them back without their type, or without blanks around them"
_OTHER_SOURCE: Final = "CVAT knows no such source"


@dataclass(frozen=True)
class Written:
    """A row as the API takes it, without a frame and an id.

    Attributes:
        kind: Where it goes.
        label: Its label.
        data: What it says.
    """

    kind: Kind
    label: Label
    data: dict[str, Any]

    def on(self, frame: int) -> dict[str, Any]:
        """It on a frame, as the API takes it."""
        if self.kind == "tags":
            return {**self.data, "frame": frame}
        elements = [{**each, "frame": frame} for each in self.data.get("elements", [])]
        return {**self.data, "frame": frame, "elements": elements}


@dataclass(frozen=True)
class RowWriter:
    """Turns rows into annotations.

    Attributes:
        labels: The project's.
        losses: What CVAT cannot hold.
    """

    labels: Labels
    losses: LossReport

    def write(self, row: Row, place: str, *, source: str | None = None, tracked: bool = False) -> Written | None:
        """A row as CVAT holds it; None, and told, if it cannot.

        Args:
            row: An annotation.
            place: For the loss report.
            source: Who drew it, where the row does not say: 'auto' for a model.
            tracked: Whether it is on a track there already.
        """
        label = self.labels.by_name.get(row.get("label") or "")
        if label is None:
            self.losses.dropped(
                "annotations", "of a class that the project does not have", f"{place}: {row.get('label')}"
            )
            return None
        attributes = dict(row.get("attributes") or {})
        score = row.get("score")
        if SCORE not in label.attributes.values():
            score = number(attributes.pop(SCORE, None)) if score is None else score
        if not tracked and attributes.get("track_id") is not None:
            self.losses.converted("track ids", _SINGLE, place)
        if attributes.pop("outside", None) and not tracked:
            self.losses.dropped("attributes", _NOT_A_TRACK, place)
        if attributes.get("source", "manual") not in _SOURCES:
            self.losses.dropped("attributes", _OTHER_SOURCE, f"{place}: {attributes.pop('source')}")
        for name in _OF_TRACKS:
            attributes.pop(name, None)
        if row.get("iscrowd"):
            self.losses.dropped("crowd flags", "CVAT has no place for them", place)
        writer = ShapeWriter(self.labels.keypoints, self.losses)
        plain = {**row, "score": None}
        element = writer.element(plain, attributes, place)
        if element is None:
            return None
        writer.describe(element, plain, attributes, place)
        data = to_json(element, label, place, self.losses)
        self._tell_altered(split_attributes(attributes)[1], label, place)
        for each in data["attributes"]:
            each["value"] = each["value"][:_LONGEST_VALUE]
        kind: Kind = "tags" if element.tag == "tag" else "shapes"
        if source is not None:
            data.setdefault("source", source)
        if kind == "shapes" and score is not None:
            data[SCORE] = float(score)
        elif score is not None:
            self.losses.dropped("scores", "CVAT has no place for them on labels of the whole image", place)
        return Written(kind, label, data)

    def _tell_altered(self, declared: Mapping[str, Any], label: Label, place: str) -> None:
        """Tell which values of attributes will not come back as they are; JSON, and what has no place, is told elsewhere."""
        reads = label.reads
        for name, value in declared.items():
            if name not in reads or value is None or isinstance(value, list | dict):
                continue
            text = declared_text(value)
            back = declared_value(text.strip(), reads[name])
            if not text.strip():
                self.losses.dropped("attributes", _EMPTY, f"{place}: {name}")
            elif len(text) > _LONGEST_VALUE:
                self.losses.converted("attributes", _TOO_LONG, f"{place}: {name}")
            elif back != value or type(back) is not type(value):
                self.losses.converted("attributes", _OTHERWISE, f"{place}: {name}")
