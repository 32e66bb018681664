"""Tasks, as the server gives them, as items: one for each image, with what people and models say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from curate.connectors.base import Item, RemoteAnnotation, Row
from curate.connectors.label_studio.config import FINDING, is_boolean
from curate.dataset.schema import ANNOTATIONS
from curate.formats.label_studio.config import Config
from curate.formats.label_studio.images import OWN, TaskImage, image_of, images_of, location_of, own_of
from curate.formats.label_studio.keypoints import POINTS
from curate.formats.label_studio.read import METADATA
from curate.formats.label_studio.regions import Region
from curate.formats.label_studio.results import POINT_WIDTH
from curate.formats.label_studio.shapes import Size, stated_size
from curate.formats.label_studio.tasks import Task
from curate.formats.label_studio.work import Work, WorkReader, is_cancelled, score_and_attributes, task_metadata
from curate.formats.losses import LossReport
from curate.formats.shape_columns import shape_columns
from curate.formats.values import mapping, number, sequence, text, whole
from curate.names import ANNOTATORS, GROUND_TRUTH

SCORE: Final = "curate_score"
"""Field of a task's data that says how urgent it is."""

WRITTEN: Final = "written"
"""Key in a task's ``meta.curate`` of when curate has saved which annotation, by number: what nobody has touched since."""

_ID: Final = re.compile(r"[0-9a-f]{16}")
_AT_ONCE_SECONDS: Final = 0.1
# What changes by itself or with every touch (`Item.version` and `Item.work` say that it did), and what nobody has said.
_FLEETING: Final = frozenset(
    {
        *("created_ago", "created_username", "updated_at", "updated_by", "last_action", "last_created_by", "project"),
        *("cluster", "neighbors", "mislabeling", "model", "model_run"),
    }
)
_OF_TASK: Final = frozenset({"inner_id", "is_labeled", "meta"})


@dataclass(frozen=True)
class ItemTask:
    """A task that was taken apart.

    Attributes:
        content: As the server gives it.
        task: As the format reads it.
        images: Those it shows.
        sizes: Width and height of each; None where nobody says.
        work: Annotations that were handed in, and predictions; empty in a listing without.
    """

    content: Mapping[str, Any]
    task: Task
    images: list[TaskImage]
    sizes: list[Size | None]
    work: list[Work] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The task's number."""
        return int(self.task.id)

    @property
    def submitted(self) -> list[Work]:
        """The annotations that were handed in, not skipped."""
        return [work for work in self.work if work.layer is None]

    @property
    def answers(self) -> list[Work]:
        """The annotations of people: without what curate has put there and nobody has touched."""
        own = mapping(mapping(self.content.get("meta")).get(OWN))
        given = {mapping(each).get("id"): mapping(each) for each in sequence(self.content.get("annotations"))}
        written = mapping(own.get(WRITTEN))
        return [work for work in self.submitted if not _is_untouched(work, given[work.content["id"]], written)]

    @property
    def chosen(self) -> Work | None:
        """The annotation that holds: one marked as ground truth, else a person's, else curate's; of several the first.

        Another annotator's version of the same image comes beside it, and the ids of what holds stay what they were.
        """
        marked = [work for work in self.submitted if work.content.get("ground_truth") is True]
        return min(marked or self.answers or self.submitted, key=lambda work: int(work.content["id"]), default=None)

    @property
    def is_unlabelled(self) -> bool:
        """Whether nothing is handed in any more, of a task that somebody has been at: all was skipped or taken away."""
        skipped = any(map(is_cancelled, sequence(self.content.get("annotations"))))
        return not self.submitted and (skipped or not _at_once(self.content))

    def remote_id(self, image: int) -> str:
        """The id of an image's item."""
        return str(self.number) if len(self.images) == 1 else f"{self.number}/{self.images[image].name}"


@dataclass(frozen=True)
class _Said:
    """A region in a layer; whose it is, and its remote id."""

    layer: str
    region: Region
    work: Work
    remote_id: str


class TaskReader:
    """Reads tasks of one project.

    Args:
        config: Its configuration.
        users: Email by number.
        losses: What cannot be read.
    """

    def __init__(self, config: Config, users: Mapping[int, str], losses: LossReport) -> None:
        self.config = config
        self._users = users
        self._losses = losses
        self._work = WorkReader(config, losses, config.controls)

    def taken_apart(self, content: Mapping[str, Any], *, work: bool) -> ItemTask:
        """A task with its images and, where the listing has it, its work."""
        extra = {key: content[key] for key in _OF_TASK if key in content}
        data = mapping(content.get("data"))
        annotations = [self._lasting(each) for each in sequence(content.get("annotations")) if not is_cancelled(each)]
        predictions = [self._lasting(each) for each in sequence(content.get("predictions"))]
        task = Task(f"task {content['id']}", content["id"], data, annotations, predictions, extra)
        images = images_of(task, self.config)
        if not images:
            self._losses.dropped("tasks", "without an image", task.place)
        results = [result for each in (*annotations, *predictions) for result in sequence(each.get("result"))]
        sizes = [self._size(row, image, task, images, results) for row, image in enumerate(images)]
        taken = ItemTask(content, task, images, sizes)
        if not work or not images:
            return taken
        drafts = len(sequence(content.get("drafts")))
        self._losses.dropped("drafts", "not submitted by the annotator", task.place, drafts)
        done = [*self._work.annotations(task, images, sizes), *self._work.predictions(task, images, sizes)]
        return replace(taken, work=done)

    def items(self, tasks: Sequence[ItemTask], *, work: bool) -> list[Item]:
        """The items of tasks; with annotations, if they were taken apart with their work."""
        items = [self._item(task, image, work=work) for task in tasks for image in range(len(task.images))]
        if not work:
            return items
        said = [found for task in tasks for image in range(len(task.images)) for found in [self._said(task, image)]]
        flat = [each for found in said for each in found]
        shapes = shape_columns([each.region.shape for each in flat])
        table = pa.table({name: pa.array(values, ANNOTATIONS.field(name).type) for name, values in shapes.items()})
        rows = iter(table.to_pylist())
        return [
            replace(item, annotations=[self._annotation(each, next(rows)) for each in found])
            for item, found in zip(items, said, strict=True)
        ]

    def _item(self, task: ItemTask, image: int, *, work: bool) -> Item:
        content, shown = task.content, task.images[image]
        own = own_of(task.task, shown)
        image_id, frame = text(own.get("image_id")), own.get("frame")
        tags = [tag for tag in sequence(own.get("tags")) if isinstance(tag, str)]
        reference = f"task-{task.number}" if shown.is_inline else location_of(shown.reference)
        counts = [content.get(name) for name in ("total_annotations", "cancelled_annotations", "total_predictions")]
        return Item(
            task.remote_id(image),
            text(own.get("location")) or reference,
            " ".join(str(each) for each in (content.get("updated_at"), *counts)),
            image_id=image_id if _ID.fullmatch(image_id) else None,
            size=task.sizes[image],
            content_hash=text(own.get("content_hash")) or None,
            work=work_of(content) if work else "",
            unlabelled=work and task.is_unlabelled,
            split=text(own.get("split")) or None,
            tags=tags or None,
            group=text(own.get("group")) or (f"task-{task.number}" if len(task.images) > 1 else None),
            frame=frame if isinstance(frame, int) else shown.item,
            metadata={**mapping(own.get("metadata")), METADATA: self._metadata(task, image, work=work)},
        )

    def _metadata(self, task: ItemTask, image: int, *, work: bool) -> dict[str, Any]:
        data = {key: value for key, value in task.task.data.items() if key not in (SCORE, FINDING)}
        said = task_metadata(replace(task.task, data=data), task.images, task.work)
        skipped = [
            {"id": each.get("id"), "completed_by": self._who(each)}
            for each in sequence(task.content.get("annotations"))
            if is_cancelled(each)
        ]
        said |= {"skipped": skipped} if skipped else {}
        said |= {"unlabelled": True} if work and task.is_unlabelled else {}
        shown = task.images[image]
        if len(task.images) > 1 or shown.key != "image":
            said["image"] = [shown.key, shown.item]
        return said

    def _said(self, task: ItemTask, image: int) -> list[_Said]:
        """What is said of an image."""
        chosen, answers = task.chosen, task.answers
        found = [] if chosen is None else [(GROUND_TRUTH, chosen)]
        if any(work is not chosen for work in answers):
            self._losses.converted(
                "images",
                "annotated several times: each annotator's work is in a layer; the first, or the marked one, is ground truth",
                task.task.place,
            )
            found += zip(self._layers(answers), answers, strict=True)
        found += [(work.layer, work) for work in task.work if work.layer is not None]
        return [
            _Said(layer, region, work, f"{prefix_of(work)}{key}")
            for layer, work in found
            for key, region in regions_of(work, image).items()
        ]

    def _layers(self, answers: Sequence[Work]) -> list[str]:
        layers: list[str] = []
        for work in answers:
            who = self._who(work.content)
            name = ANNOTATORS + str(who.get("email") or f"user-{who.get('id')}")
            same = sum(layer == name or layer.startswith(f"{name}/") for layer in layers)
            layers.append(f"{name}/{same + 1}" if same else name)
        return layers

    def _annotation(self, said: _Said, geometry: Row) -> RemoteAnnotation:
        region = said.region
        score, attributes = score_and_attributes(region, said.work)
        row: Row = dict.fromkeys(ANNOTATIONS.names)
        row |= geometry
        row |= {
            "layer": said.layer,
            "label": region.label,
            "iscrowd": region.iscrowd,
            "score": score,
            "attributes": {name: self._value(name, value) for name, value in _said_of(region, attributes).items()},
        }
        is_copy = said.layer.startswith(ANNOTATORS)
        own = None if is_copy else own_id(region, predicted=said.work.layer is not None)
        return RemoteAnnotation(said.remote_id, row, said.layer, own)

    def _value(self, name: str, value: Any) -> Any:
        """An attribute's value; the answer to a control that asks for yes or no is that."""
        if value in ("true", "false") and is_boolean(self.config.controls.get(name)):
            return value == "true"
        return value

    def _size(
        self, row: int, image: TaskImage, task: Task, images: list[TaskImage], results: Sequence[Any]
    ) -> Size | None:
        own = [whole(side) for side in sequence(own_of(task, image).get("size"))]
        if len(own) == 2 and all(own):
            return own[0], own[1]
        mine = (each for each in results if isinstance(each, dict) and image_of(each, task, images, self.config) == row)
        return stated_size(mine)

    def _lasting(self, entry: Any) -> Any:
        """An annotation or prediction without what changes by itself, with its annotator's email."""
        if not isinstance(entry, dict):
            return entry
        kept = {key: value for key, value in entry.items() if key not in _FLEETING}
        if "completed_by" in kept:
            kept["completed_by"] = self._who(entry)
        return kept

    def _who(self, annotation: Mapping[str, Any]) -> dict[str, Any]:
        said = annotation.get("completed_by")
        if isinstance(said, dict):
            return {key: said[key] for key in ("id", "email") if key in said}
        email = self._users.get(said) if isinstance(said, int) else None
        return {"id": said} if email is None else {"id": said, "email": email}


def number_of(item: Item) -> int:
    """The number of the task that an item is an image of."""
    return int(item.remote_id.partition("/")[0])


def prefix_of(work: Work) -> str:
    """What the remote ids of an annotation's or prediction's regions begin with."""
    return f"{'' if work.layer is None else 'prediction-'}{work.content.get('id')}:"


def regions_of(work: Work, image: int) -> dict[str, Region]:
    """The regions on one of a task's images, by what they are known by for good.

    A label of the whole image is known by its control and its place among the answers: neither its result's id nor, of
    course, what it says outlives an annotator's changing it.
    """
    found: dict[str, Region] = {}
    answers: dict[str, int] = {}
    for region in work.found.regions:
        if region.image != image:
            continue
        key = region.key
        if region.kind == "label":
            name = region.control[1]
            answers[name] = answers.get(name, -1) + 1
            key = f"{name}/{answers[name]}"
        found[key] = region
    return found


def _said_of(region: Region, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes without what `curate.formats.label_studio.results` would write of keypoints if nothing were said."""
    said = dict(attributes)
    if said.get("point_width") == POINT_WIDTH:
        del said["point_width"]
    points = said.pop(POINTS, None)
    details = {
        name: {
            key: value
            for key, value in mapping(point).items()
            if (key, value) not in [("id", f"{region.id}-{name}"), ("point_width", POINT_WIDTH)]
        }
        for name, point in mapping(points).items()
    }
    if any(details.values()):
        said[POINTS] = details
    return said


def own_id(region: Region, *, predicted: bool) -> str | None:
    """curate's own id of a region, where curate wrote it.

    A copy of a region keeps its ``meta``, and a prediction that an annotator starts from keeps its regions' ids as well: so
    the id is that of this region only if both agree, and it says of which of the two it is.
    """
    if region.kind == "label":
        id_ = text(mapping(region.own.get(ids_key(predicted=predicted))).get(region.label or ""))
        return id_ if _ID.fullmatch(id_) else None
    id_ = text(region.own.get(id_key(predicted=predicted)))
    return id_ if _ID.fullmatch(id_) and id_ == region.id else None


def id_key(*, predicted: bool) -> str:
    """Key in a region's ``meta.curate`` of the annotation's id."""
    return "predicted_id" if predicted else "id"


def ids_key(*, predicted: bool) -> str:
    """Key in the ``meta.curate`` of a whole image's labels of their annotations' ids, by label."""
    return f"{id_key(predicted=predicted)}s"


def work_of(content: Mapping[str, Any]) -> str:
    """What tells one state of what was handed in on a task from another: numbers and times. To skip is to hand in nothing."""
    given = [each for each in map(mapping, sequence(content.get("annotations"))) if not is_cancelled(each)]
    given.sort(key=lambda each: number(each.get("id")) or 0)
    return "; ".join(f"{each.get('id')}@{each.get('updated_at')}" for each in given)


def stamps_of(work: str) -> dict[str, str]:
    """When each annotation was handed in, by number, out of what `work_of` gives."""
    pairs = (stamp.partition("@") for stamp in work.split("; ") if stamp)
    return {number_: time for number_, _, time in pairs}


def _is_untouched(work: Work, given: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    """Whether an annotation is as curate wrote it: imported with its ids and never saved since, or last saved by curate.

    Args:
        work: The annotation.
        given: The same, as the server gives it.
        written: When curate has saved which annotation in place.
    """
    saved = text(given.get("updated_at"))
    if saved and written.get(str(given.get("id"))) == saved:
        return True
    regions = work.found.regions
    is_own = bool(regions) and all(own_id(region, predicted=False) for region in regions)
    return is_own and not given.get("updated_by") and _at_once(given)


def _at_once(content: Mapping[str, Any]) -> bool:
    """Whether something has not been changed since it was made."""
    return abs(_seconds(content.get("updated_at")) - _seconds(content.get("created_at"))) <= _AT_ONCE_SECONDS


def _seconds(time: Any) -> float:
    try:
        return datetime.fromisoformat(text(time)).timestamp()
    except ValueError:
        return 0.0
