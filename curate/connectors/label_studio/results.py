"""Rows as results of one annotation, or of one prediction, of a task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from curate.connectors.base import Row
from curate.connectors.label_studio.config import IMAGE, is_boolean, lacking
from curate.connectors.label_studio.tasks import id_key, ids_key
from curate.formats.label_studio.config import Config, Control
from curate.formats.label_studio.images import OWN, TaskImage
from curate.formats.label_studio.results import Controls, Writer
from curate.formats.losses import LossReport
from curate.formats.trees import xml_text
from curate.formats.values import mapping, number
from curate.geometry import polygon_area, rle_runs

_SAME_AREA: Final = 0.01
_NUMBERS: Final = frozenset({"number", "rating"})
_TEXTS: Final = frozenset({"choices", "textarea", "datetime"})


@dataclass
class ResultWriter:
    """Writes rows for one project.

    Attributes:
        config: Its configuration.
        keypoints: Names of the keypoints of each class.
        losses: What it cannot hold.
        controls: Which of the project's controls were used, and with which labels.
    """

    config: Config
    keypoints: Mapping[str, Sequence[str]]
    losses: LossReport
    controls: Controls = field(init=False)

    def __post_init__(self) -> None:
        self.controls = Controls(self.config.controls)

    def results(
        self,
        rows: Sequence[Row],
        image: TaskImage,
        size: tuple[int, int] | None,
        place: str,
        *,
        predicted: bool = False,
        ids: Mapping[str, str] | None = None,
        before: Sequence[Mapping[str, Any]] = (),
    ) -> list[dict[str, Any]]:
        """The results of some rows.

        Args:
            rows: On one image.
            image: Where the task shows it.
            size: Its width and height.
            place: What to call it in the loss report.
            predicted: Whether they are of a prediction.
            ids: Ids for the regions of some rows, by annotation id; that of others is the annotation's.
            before: Results that the annotation has.
        """
        object_name = next((name for name, key in self.config.images.items() if key == image.key), image.key)
        writer = Writer(
            size, (object_name, image.key), image.item, self.controls, self.keypoints, self.losses, place, 0, ()
        )
        taken = [each for each in before if each.get("id") is not None]
        results: list[dict[str, Any]] = []
        for row in rows:
            if row["bbox"] is None and not row["keypoints"]:
                continue
            id_ = (ids or {}).get(row["annotation_id"], row["annotation_id"])
            shown, held = self._attributes(row)
            written = writer.results([{**row, "source_id": id_, "attributes": shown}], [*taken, *results])
            if written:
                own = {id_key(predicted=predicted): id_} if id_ == row["annotation_id"] else {}
                _stamp(written[0], own, held)
            results += written
            self._report_unheld(row, place)
        labels = [row for row in rows if row["bbox"] is None and not row["keypoints"]]
        return results + self._labels(labels, writer, [*taken, *results], predicted=predicted)

    def lacking(self) -> dict[str, Control]:
        """The controls that were used and are not in the project's configuration, or lack labels that were used."""
        used: dict[str, Control] = {}
        for name, (control, said) in self.controls.used.items():
            labels = [xml_text(label) for label in said]
            changed = [label for label, clean in zip(said, labels, strict=True) if label != clean]
            self.losses.converted(
                "labels", "characters that XML cannot hold: changed in the configuration", changed, len(changed)
            )
            used[name] = Control(control.type, control.to_name, tuple(dict.fromkeys(labels)))
        return lacking(self.config, used)

    def _labels(
        self, rows: Sequence[Row], writer: Writer, taken: Sequence[Mapping[str, Any]], *, predicted: bool
    ) -> list[dict[str, Any]]:
        """Labels of the whole image: an annotator sees one answer to a control, so that they go into one result."""
        if not rows:
            return []
        together = [{**row, "source_id": rows[0]["annotation_id"]} for row in rows]
        written = writer.results(together, taken)
        waiting = list(rows)
        for result in written:
            ids = {}
            for label in result["value"]["choices"]:
                row = next(row for row in waiting if row["label"] == label)
                waiting.remove(row)
                ids[label] = row["annotation_id"]
            _stamp(result, {ids_key(predicted=predicted): ids}, {})
        return written

    def _attributes(self, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        """A row's attributes: those that the project may ask for, and those that are kept beside the region."""
        shown: dict[str, Any] = {}
        held: dict[str, Any] = {}
        for name, value in (row["attributes"] or {}).items():
            control = self.config.controls.get(name)
            if isinstance(value, bool) and is_boolean(control):
                shown[name] = "true" if value else "false"
            elif control is None or _suits(control.type, value):
                shown[name] = value
            else:
                held[name] = value
        return shown, held

    def _report_unheld(self, row: Row, place: str) -> None:
        unheld = {"areas": _has_own_area(row), "class probabilities": row.get("probabilities") is not None}
        for what, is_lost in unheld.items():
            self.losses.dropped(what, "Label Studio has no place for them", place, is_lost)


def image_of_new_task(config: Config) -> TaskImage:
    """Where a task of a project shows its image."""
    return TaskImage(next(iter(config.images.values()), IMAGE), None, "")


def _has_own_area(row: Row) -> bool:
    """Whether a row's area does not follow from its geometry: that of an outline that only its box is left of."""
    if row.get("area") is None:
        return False
    if row["rle"]:
        area = float(rle_runs(row["rle"])[1::2].sum())
    elif row["polygons"]:
        area = sum(map(polygon_area, row["polygons"]))
    elif row["rotated_box"]:
        area = math.prod(row["rotated_box"][2:4])
    else:
        area = math.prod(row["bbox"][2:]) if row["bbox"] else 0.0
    return not math.isclose(row["area"], area, rel_tol=_SAME_AREA)


def _suits(kind: str, value: Any) -> bool:
    """Whether a value is an answer to a control of some type."""
    if kind in _NUMBERS:
        return number(value) is not None
    if kind in _TEXTS:
        return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
    return True


def _stamp(result: dict[str, Any], own: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Note curate's own ids with a result, and attributes that it has no other place for."""
    if not own and not attributes:
        return
    meta = mapping(result.get("meta"))
    said = {**mapping(meta.get(OWN)), **own}
    if attributes:
        said["attributes"] = {**mapping(said.get("attributes")), **attributes}
    result["meta"] = {**meta, OWN: said}
