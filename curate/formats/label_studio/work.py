"""What people and models did on a task, as regions, with what else is said of it; files and live projects are read alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from curate.formats.label_studio.config import Config, Control, default_control
from curate.formats.label_studio.images import OWN, TaskImage, image_of
from curate.formats.label_studio.keypoints import KeypointNames, join_keypoints
from curate.formats.label_studio.regions import Found, Region, is_said, read_regions
from curate.formats.label_studio.shapes import Size
from curate.formats.label_studio.tasks import Task
from curate.formats.losses import LossReport
from curate.formats.values import mapping, number, sequence, text
from curate.names import PREDICTIONS

UNNAMED_MODEL: Final = "label_studio"
"""Name of the layer of predictions whose model has none."""

# What follows from the rest, and what is elsewhere in the tables.
_LEFT_OUT: Final = frozenset(
    {
        "total_annotations",
        "cancelled_annotations",
        "total_predictions",
        "result_count",
        "result",
        "was_cancelled",
        "task",
    }
)


@dataclass(frozen=True)
class Work:
    """An annotation or a prediction of a task.

    Attributes:
        key: What it is known by for good.
        content: As given.
        found: What it holds.
        layer: Where it goes; None for the layer asked for.
        place: For the loss report.
    """

    key: str
    content: dict[str, Any]
    found: Found
    layer: str | None
    place: str


class WorkReader:
    """Reads the annotations and predictions of tasks, one task at a time.

    Args:
        config: The project's configuration, as far as it is known.
        losses: What cannot be read.
        controls: The project's controls, where regions are to say which drew them only if it is not the one that would be
            taken for their type and label; without, only if it is not the first of its type that was met.

    Attributes:
        names: Names of keypoints.
        controls: Type and object of each control that was met, by name.
    """

    def __init__(self, config: Config, losses: LossReport, controls: Mapping[str, Control] | None = None) -> None:
        self.names = KeypointNames(config.keypoints, config.keypoints_of)
        self.controls: dict[str, dict[str, str]] = {}
        self._config = config
        self._losses = losses
        self._known = controls or {}
        self._first_of_type: dict[str, str] = {}

    def annotations(self, task: Task, images: list[TaskImage], sizes: Sequence[Size | None]) -> list[Work]:
        """What people did; what they cancelled is dropped.

        Args:
            task: The task.
            images: Those it shows.
            sizes: Width and height of each; None where it is not known.
        """
        work = []
        for row, content in enumerate(task.annotations):
            place = f"{task.place}, annotation {mapping(content).get('id', row)}"
            if not isinstance(content, dict):
                self._losses.dropped("annotations", "not an object", place)
            elif is_cancelled(content):
                self._losses.dropped(
                    "annotations", "cancelled by the annotator", place, max(1, len(sequence(content.get("result"))))
                )
            else:
                work.append(self._work(content, task, row, images, sizes, None, place))
        return work

    def predictions(self, task: Task, images: list[TaskImage], sizes: Sequence[Size | None]) -> list[Work]:
        """What models did; arguments as for `annotations`."""
        work = []
        for row, content in enumerate(task.predictions):
            place = f"{task.place}, prediction {mapping(content).get('id', row)}"
            if not isinstance(content, dict):
                self._losses.dropped("annotations", "not an object", place)
                continue
            layer = PREDICTIONS + (text(content.get("model_version")).strip("/ ") or UNNAMED_MODEL)
            work.append(self._work(content, task, row, images, sizes, layer, place))
        return work

    def _work(
        self,
        content: dict[str, Any],
        task: Task,
        row: int,
        images: list[TaskImage],
        sizes: Sequence[Size | None],
        layer: str | None,
        place: str,
    ) -> Work:
        def which(result: Mapping[str, Any]) -> int | str:
            return image_of(result, task, images, self._config)

        found = read_regions(sequence(content.get("result")), which, sizes, place, self._losses)
        regions = [self._with_control(region) for region in found.regions]
        for result in found.kept:
            self._use_control(*(text(result.get(name)) for name in ("type", "from_name", "to_name")))
        found = replace(found, regions=join_keypoints(regions, self.names))
        own = content.get("id")
        key = str(own) if isinstance(own, int | str) else f"{task.id} #{row}"
        for what in ("drafts", "history"):
            self._losses.dropped(
                what, "earlier states of an annotation are not kept", place, len(sequence(content.get(what)))
            )
        return Work(key if layer is None else f"prediction {key}", content, found, layer, place)

    def _with_control(self, region: Region) -> Region:
        """A region with the attributes that say which control drew it, where it is not the first of its type; its parent."""
        for answer in region.answers:
            self._use_control(*answer)
        kind, name, to_name = region.control
        self._use_control(kind, name, to_name)
        attributes = {"parent": region.parent} if region.parent else {}
        if name and not self._is_default(region):
            attributes["from_name"] = name
        return replace(region, attributes={**region.attributes, **attributes}) if attributes else region

    def _is_default(self, region: Region) -> bool:
        """Whether the control that drew a region would be taken if nobody said which."""
        kind, name, _ = region.control
        if not self._known:
            return self._first_of_type.get(self.controls[name]["type"]) == name
        several = region.attributes.get("labels")
        labels = several if isinstance(several, list) else [region.label] if region.label is not None else []
        return default_control(self._known, kind, labels) == name

    def _use_control(self, kind: str, name: str, to_name: str) -> None:
        if name and name not in self.controls:
            self.controls[name] = {"type": kind, "to_name": to_name}
            self._first_of_type.setdefault(kind, name)


def is_cancelled(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotator has skipped the task: what the annotation holds is no answer."""
    return annotation.get("was_cancelled") is True or annotation.get("skipped") is True


def score_and_attributes(region: Region, work: Work) -> tuple[float | None, dict[str, Any]]:
    """A region's score, and its attributes: of an annotation, which has no score, the score is one."""
    if work.layer is not None:
        return (number(work.content.get("score")) if region.score is None else region.score), region.attributes
    return None, region.attributes if region.score is None else {**region.attributes, "score": region.score}


def task_metadata(task: Task, images: Sequence[TaskImage], work: Sequence[Work]) -> dict[str, Any]:
    """What the way back needs of a task; empty values are left out."""
    inline = {image.key for image in images if image.is_inline}
    extra = _said(task.extra, leave_out={"drafts"})
    meta = {key: value for key, value in mapping(task.extra.get("meta")).items() if key != OWN}
    if "meta" in extra:
        extra["meta"] = meta
    predictions = [_entry(each) for each in work if each.layer is not None]
    # Some servers repeat the prediction that an annotation began with.
    repeated = [entry["id"] for entry in predictions if "id" in entry]
    annotations = [_entry(each) for each in work if each.layer is None]
    for entry in annotations:
        if mapping(entry.get("prediction")).get("id") in repeated:
            del entry["prediction"]
        if entry.get("project") == task.extra.get("project"):
            entry.pop("project", None)
    content = {
        **extra,
        "data": {key: value for key, value in task.data.items() if key not in inline},
        "annotations": annotations,
        "predictions": predictions,
    }
    return {key: value for key, value in content.items() if value not in ({}, [])}


def _entry(work: Work) -> dict[str, Any]:
    entry = _said(work.content, leave_out={"drafts", "history"})
    if work.found.kept:
        entry["results"] = work.found.kept
    return entry


def _said(content: Mapping[str, Any], leave_out: set[str]) -> dict[str, Any]:
    return {
        key: value
        for key, value in content.items()
        if is_said(value) and key not in _LEFT_OUT and key not in leave_out and (value or not key.endswith("_count"))
    }
