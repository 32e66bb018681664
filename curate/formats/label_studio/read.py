"""Reading Label Studio's JSON; see `curate.formats.label_studio` for what becomes of what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from curate.errors import FormatError, ImageError, UsageError
from curate.formats.base import ClassInfo, ReadOptions, Records
from curate.formats.coco.decoder import collector_paused
from curate.formats.collect import Collector
from curate.formats.label_studio.config import CONFIG_FILE, Config, read_config
from curate.formats.label_studio.images import Places, TaskImage, image_of, images_of, own_of
from curate.formats.label_studio.shapes import Size, stated_size
from curate.formats.label_studio.tasks import Task, read_tasks, task_files
from curate.formats.label_studio.work import Work, WorkReader, score_and_attributes, task_metadata
from curate.formats.losses import LossReport
from curate.formats.values import is_shallow, mapping, number, sequence, text
from curate.imaging import read_header

METADATA: Final = "label_studio"
"""Key of an image's metadata, and of a dataset's info, for what the way back needs."""

_EXPORT: Final = re.compile(r"project-(\d+)-at-")
_LATER: Final = "the same annotation again, in an older export or another task; the first is kept"
T = TypeVar("T")


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Read a file of tasks, or a folder of such files.

    Raises:
        FormatError: There is no task in it, or none has an image.
        UsageError: The folder of images that the user named does not exist.
    """
    if options.images is not None and not options.images.is_dir():
        raise UsageError("there is no such folder of images", where=options.images, remedy="check --images")
    source = Path(source).absolute()
    root = source if source.is_dir() else source.parent
    reader = _Reader(root, options, losses)
    files = task_files(source)
    failures: list[FormatError] = []
    for path in _newest_first(files):
        try:
            with collector_paused():
                reader.add_file(path)
        except FormatError as error:
            # With --strict a loss is an error of the whole import; so is all that can be wrong with a single file.
            if losses.strict or len(files) == 1:
                raise
            failures.append(error)
    if len(failures) == len(files):
        raise (
            failures[0]
            if failures
            else FormatError(
                "no JSON file is in this folder", where=source, remedy="give the exported .json file, or its folder"
            )
        )
    for failure in failures:
        losses.dropped("files", failure.what, failure.where or source)
    return reader.records(source)


def _newest_first(files: Sequence[Path]) -> list[Path]:
    """Exports of a project carry their time in their names; of an annotation in several, the newest is right."""
    return (
        sorted(files, key=lambda path: path.name, reverse=True)
        if any(_EXPORT.match(path.name) for path in files)
        else [*files]
    )


class _Reader:
    """Takes tasks one at a time and gives `Records`."""

    def __init__(self, root: Path, options: ReadOptions, losses: LossReport) -> None:
        self._root = root
        self._losses = losses
        self._config: Config = read_config(root / CONFIG_FILE)
        self._places = Places(root, options)
        self._collector = Collector(options, losses)
        self._work = WorkReader(self._config, losses)
        self._images = 0
        self._common: dict[Any, Any] = {}
        self._seen: set[int] = set()

    def add_file(self, path: Path) -> None:
        """Take the tasks of a file."""
        name = path.relative_to(self._root).as_posix()
        rows_of_min = 0
        for task in read_tasks(path, name, self._config, self._losses):
            self._add_task(task, name)
            rows_of_min += task.is_min
        reason = (
            "JSON_MIN: regions have no ids, and there are no predictions and relations; export as JSON to keep them"
        )
        self._losses.converted("tasks", reason, name, rows_of_min)

    def records(self, source: Path) -> Records:
        """Everything that was taken."""
        if not self._images:
            raise FormatError("no task has an image", where=source, remedy="curate reads projects that label images")
        labels = self._collector.labels
        classes = self._config.classes(labels)
        known = {info.name for info in classes}
        classes += [ClassInfo(label) for label in sorted(labels) if label not in known]
        classes = [replace(info, keypoints=self._work.names.of(info.name)) for info in classes]
        info: dict[str, object] = {METADATA: {"controls": self._work.controls}} if self._work.controls else {}
        records = self._collector.records(classes, info)
        return replace(records, annotations=self._work.names.padded(records.annotations))

    def _add_task(self, task: Task, file: str) -> None:
        images = images_of(task, self._config)
        if not images:
            self._losses.dropped("tasks", "without an image", task.place)
            return
        found = [self._places.find(image, task) for image in images]
        given = [
            result
            for work in (*task.annotations, *task.predictions)
            for result in sequence(mapping(work).get("result"))
        ]
        sizes = [self._size(row, path, given, task, images) for row, (_, path) in enumerate(found)]
        work = [*self._work.annotations(task, images, sizes), *self._work.predictions(task, images, sizes)]
        self._report_annotators(task, work)
        source = self._same(_source(task, file))
        for row, (location, path) in enumerate(found):
            image = self._add_image(task, images, row, location, path, sizes[row], work, source)
            for each in work:
                if self._is_new(image, each):
                    self._add_regions(image, row, each, source)

    def _size(
        self, image: int, path: Path | None, results: Sequence[Any], task: Task, images: list[TaskImage]
    ) -> Size | None:
        """The size that an image's percentages refer to: the file's own, else the one stated."""
        stated = stated_size(
            each for each in results if isinstance(each, dict) and image_of(each, task, images, self._config) == image
        )
        try:
            header = read_header(path) if path is not None else None
        except ImageError:
            header = None  # the Collector says so
        if header is None:
            return stated
        size = (header.width, header.height)
        if stated is None or stated == size:
            return size
        if stated == header.stored_size:
            return stated  # labelled as stored: the Collector turns it
        reason = "the size stated is not the image's; percentages were taken of the image's"
        self._losses.converted("images", reason, f"{task.place}: {stated} stated, {size} found")
        return size

    def _report_annotators(self, task: Task, work: Sequence[Work]) -> None:
        annotations = sum(each.layer is None for each in work)
        if annotations > 1:
            reason = "annotated several times; all are kept, each with the attributes annotator and annotation_id"
            self._losses.converted("images", reason, f"{task.place}: {annotations} annotations")
        self._losses.dropped(
            "drafts", "not submitted by the annotator", task.place, len(sequence(task.extra.get("drafts")))
        )

    def _add_image(
        self,
        task: Task,
        images: list[TaskImage],
        row: int,
        location: str,
        path: Path | None,
        size: Size | None,
        work: Sequence[Work],
        source: str,
    ) -> int:
        if images[row].is_inline:
            self._losses.dropped("image files", "inside the JSON; not taken out", task.place)
        own = own_of(task, images[row])
        metadata = {**mapping(own.get("metadata")), METADATA: task_metadata(task, images, work)}
        if len(images) > 1 or images[row].key != "image":
            metadata[METADATA]["image"] = [images[row].key, images[row].item]
        if not is_shallow(metadata):
            self._losses.dropped("image metadata", "nested too deeply", task.place)
            metadata = {}
        tags = [tag for tag in sequence(own.get("tags")) if isinstance(tag, str)]
        frame = own.get("frame")
        image = self._collector.image(
            location,
            path,
            size=self._same(size),
            split=text(own.get("split")) or None,
            tags=tags or None,
            group=text(own.get("group")) or (f"task-{task.id}" if len(images) > 1 else None),
            frame=frame if isinstance(frame, int) and abs(frame) < 2**63 else None,
            timestamp=number(own.get("timestamp")),
            metadata=metadata,
            source_id=text(own.get("source_id")) or (str(task.id) if isinstance(task.id, int | str) else None),
            source=source,
        )
        if image < self._images:
            self._losses.converted("images", "in several tasks; what the first says of it is kept", task.place)
        self._images = max(self._images, image + 1)
        return image

    def _same(self, value: T) -> T:
        """The same object for equal values, which there are few of: a million images need no million of them."""
        same: T = self._common.setdefault(value, value)
        return same

    def _is_new(self, image: int, work: Work) -> bool:
        """Whether an annotation was not met on that image yet."""
        own = hash((image, work.layer, work.key))
        if own in self._seen:
            self._losses.converted("annotations", _LATER, work.place, len(work.found.regions))
            return False
        self._seen.add(own)
        return True

    def _add_regions(self, image: int, row: int, work: Work, source: str) -> None:
        for region in work.found.regions:
            if region.image != row:
                continue
            score, attributes = score_and_attributes(region, work)
            self._collector.add(
                image,
                region.label,
                region.shape,
                place=f"{work.place}, region {region.key}",
                iscrowd=region.iscrowd,
                score=score,
                attributes={**attributes, **_who(work)},
                layer=work.layer,
                key=f"{work.key}/{region.key}",
                source_id=region.source_id,
                source=source,
                salt=METADATA,
            )


def _who(work: Work) -> dict[str, Any]:
    """Attributes that say whose work a region is."""
    own = work.content.get("id")
    if work.layer is not None:
        return {"prediction_id": own} if isinstance(own, int | str) else {}
    who = work.content.get("completed_by")
    if isinstance(who, dict):
        who = text(who.get("email")) or who.get("id")
    said = {"annotator": who, "annotation_id": own}
    return {key: value for key, value in said.items() if isinstance(value, int | str) and value != ""}


def _source(task: Task, file: str) -> str:
    """The project, where the task or its file's name says so, since exports of one project have changing names."""
    project = task.extra.get("project")
    if isinstance(project, int | str) and not isinstance(project, bool) and project != "":
        return f"project-{project}"
    named = _EXPORT.match(Path(file).name)
    return f"project-{named.group(1)}" if named else file
