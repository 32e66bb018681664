"""New images, as tasks: found again after a lost reply or a kill, so that nothing is made twice.

A task is named after its images and is called unfinished until its annotations and issues are there as well. Unfinished tasks
are no items yet: the next push goes on with them. An upload that broke off leaves an empty task, which is removed; files are
never sent into it again, since the server would append them to what it has.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from curate.connectors.base import NewItem, Progress
from curate.connectors.cvat.issues import PlacedNote, open_issues
from curate.connectors.cvat.jobs import Frames, Job, Task, main_job, parse_frames, parse_job, parse_task
from curate.connectors.cvat.labels import Labels
from curate.connectors.cvat.names import UNFINISHED, file_name, image_id_of, is_unfinished, task_name
from curate.connectors.cvat.server import Scope, Server
from curate.connectors.cvat.write import RowWriter
from curate.connectors.http import RefusedError, UncertainError
from curate.dataset.home import home
from curate.errors import InputError, UnavailableError
from curate.formats.cvat.source import split_of_subset
from curate.formats.losses import LossReport
from curate.formats.values import mapping

IMAGES_OF_TASK: Final = 500
"""Tasks have no more images: larger uploads run into time-outs of proxies."""

IMAGES_OF_JOB: Final = 100
"""Jobs have no more: several people can share a task, and the first job has the hardest images."""

_TRIES: Final = 3
_SUBSETS: Final[Mapping[str, str]] = {"val": "validation"}
_LONGEST_SUBSET: Final = 64
_NO_PREDICTIONS: Final = "CVAT has no place for them beside annotations"
_NO_TAGS: Final = "CVAT has tags for classes only, not for images"
_NO_GROUPS: Final = "CVAT knows no groups of images but the frames of a video"
_NO_SUBSET: Final = "CVAT has no subset of this name"


@dataclass
class Uploader:
    """Makes tasks of images.

    Attributes:
        server: The server.
        scope: The project.
        labels: Its labels.
        losses: What CVAT cannot hold.
        progress: Told (done, total).
        total: How many images there are.
        done: How many of them are there, with all that belongs to them.
    """

    server: Server
    scope: Scope
    labels: Labels
    losses: LossReport
    progress: Progress | None
    total: int = 0
    done: int = field(default=0, init=False)

    def upload(self, items: Sequence[NewItem]) -> None:
        """Put images on the server, the most urgent first."""
        left = {item.image_id: item for item in sorted(items, key=lambda item: (-item.priority, item.image_id))}
        self.total = len(left)
        for item in left.values():
            self._tell_unheld(item)
        for task in self._unfinished():
            frames = self._frames(task)
            held = [image_id for name in frames.names.values() if (image_id := image_id_of(name)) in left]
            if held:
                self._fill(task, frames, {image_id: left.pop(image_id) for image_id in held if image_id is not None})
        for part in _parts(left.values()):
            task = self._make(part)
            self._fill(task, self._frames(task), {item.image_id: item for item in part})

    def _tell_unheld(self, item: NewItem) -> None:
        """Tell what of an image has no place in CVAT."""
        self.losses.dropped("tags", _NO_TAGS, item.location, len(item.tags or ()))
        self.losses.dropped("groups", _NO_GROUPS, item.location, int(item.group is not None or item.frame is not None))
        self.losses.dropped("splits", _NO_SUBSET, item.location, int(bool(item.split) and not _subset(item)))

    def _unfinished(self) -> Iterator[Task]:
        """The tasks that an earlier push has left, with their frames."""
        for task in [parse_task(each) for each in self.server.pages("/api/tasks", self.scope.query)]:
            if is_unfinished(task.name) and (task.size or self.server.settle(task.id)):
                yield parse_task(self.server.get(f"/api/tasks/{task.id}"))

    def _make(self, items: Sequence[NewItem]) -> Task:
        """A task with the images, which are of one split, as its frames; an empty one of the same name is removed."""
        name = UNFINISHED + task_name(items)
        body = {"name": name, "project_id": self.scope.id, "segment_size": IMAGES_OF_JOB, "overlap": 0}
        subset = _subset(items[0])
        if subset:
            body["subset"] = subset
        lost: UncertainError | None = None
        for _ in range(_TRIES):
            left_over = self._find(name)
            if left_over is not None:
                if self.server.settle(left_over):
                    return self._task(left_over)
                self._remove(left_over)
            made = self.server.http.create(
                "/api/tasks",
                find=lambda: self._find(name),
                made=lambda reply: int(mapping(reply)["id"]),
                query=self.server.organization,
                body=body,
            )
            try:
                # Beside the datasets: where they lie, there is room, and files that were downloaded need no copy.
                home().mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(prefix=".upload-", dir=home()) as folder:
                    self.server.upload(made, [_place(item, Path(folder)) for item in items])
                return self._task(made)
            except UncertainError as error:
                lost = error
            except InputError:
                self._remove(made)
                raise
        raise lost or UnavailableError("the upload failed", where=self.server.http.base)

    def _find(self, name: str) -> int | None:
        query = {**self.scope.query, "name": name}
        return next((each["id"] for each in self.server.pages("/api/tasks", query) if each.get("name") == name), None)

    def _remove(self, task: int) -> None:
        try:
            self.server.http.request("DELETE", f"/api/tasks/{task}", self.server.organization)
        except RefusedError as error:
            if error.status != 404:  # gone: an earlier reply was lost
                raise

    def _task(self, task: int) -> Task:
        return parse_task(self.server.get(f"/api/tasks/{task}"))

    def _frames(self, task: Task) -> Frames:
        return parse_frames(self.server.get(f"/api/tasks/{task.id}/data/meta"), task)

    def _fill(self, task: Task, frames: Frames, items: Mapping[str, NewItem]) -> None:
        """Give frames their annotations and issues, and call the task finished. May be done again from the start."""
        numbers = {image_id_of(name): number for number, name in frames.names.items()}
        lost = [item.location for image_id, item in items.items() if image_id not in numbers]
        self.losses.dropped("images", "CVAT made no frame of them", lost, len(lost))
        placed = {numbers[image_id]: item for image_id, item in items.items() if image_id in numbers}
        jobs = [parse_job(each) for each in self.server.pages("/api/jobs", {"task_id": task.id, "type": "annotation"})]
        for job in jobs:
            data = self._data(job, placed)
            if data["tags"] or data["shapes"]:
                # Replaces what is there: sent twice, it is there once.
                self.server.http.request("PUT", f"/api/jobs/{job.id}/annotations/", None, data)
        notes: dict[int, list[PlacedNote]] = {}
        for frame in sorted(placed):
            item, main = placed[frame], main_job(jobs, frame)
            if main is not None:
                own = (PlacedNote(note, frame, note.finding.bbox, item.size) for note in item.notes)
                notes.setdefault(main.id, []).extend(own)
        for job in jobs:
            open_issues(self.server, job, notes.get(job.id, []))
        name = task.name.removeprefix(UNFINISHED)
        self.server.http.request("PATCH", f"/api/tasks/{task.id}", None, {"name": name})
        self.losses.carried("images", len(placed))
        self.done += len(items)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def _data(self, job: Job, placed: Mapping[int, NewItem]) -> dict[str, Any]:
        data: dict[str, Any] = {"version": 0, "tags": [], "shapes": [], "tracks": []}
        writer = RowWriter(self.labels, self.losses)
        for frame in sorted(frame for frame in placed if job.holds(frame)):
            item = placed[frame]
            rows, source = (item.rows, None) if item.rows else (item.predictions, "auto")
            if item.rows:
                self.losses.dropped("predictions", _NO_PREDICTIONS, item.location, len(item.predictions))
            for row in rows:
                written = writer.write(row, item.location, source=source)
                if written is not None:
                    data[written.kind].append(written.on(frame))
                    self.losses.carried("annotations")
        return data


def _parts(items: Iterable[NewItem]) -> list[list[NewItem]]:
    """The images of each task: of one split, and not too many; the tasks with the most urgent images first."""
    by_subset: dict[str, list[NewItem]] = {}
    for item in items:
        by_subset.setdefault(_subset(item), []).append(item)
    parts = [
        group[start : start + IMAGES_OF_TASK]
        for group in by_subset.values()
        for start in range(0, len(group), IMAGES_OF_TASK)
    ]
    return sorted(parts, key=lambda part: -part[0].priority)


def _subset(item: NewItem) -> str:
    """The subset that stands for an image's split; empty where there is none that does."""
    split = item.split or ""
    subset = _SUBSETS.get(split, split).strip()
    return subset if len(subset) <= _LONGEST_SUBSET and split_of_subset(subset) == split else ""


def _place(item: NewItem, folder: Path) -> Path:
    """The image's file under the name that it is to have: the uploader takes names from the disk."""
    path = folder / file_name(item)
    source = os.path.realpath(item.path)
    try:
        try:
            os.link(source, path)
        except OSError:  # another disk, or one without hard links
            shutil.copyfile(source, path)
    except OSError as error:
        raise InputError(
            f"the image cannot be read: {error.strerror or error}",
            where=item.path,
            remedy="check that the file is there",
        ) from None
    return path
