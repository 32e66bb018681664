"""Tasks, their jobs and their frames, as far as they matter here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.connectors.cvat.read import Sizes
from curate.connectors.cvat.server import Scope, Server
from curate.formats.cvat.images import frame_name
from curate.formats.cvat.source import split_of_subset
from curate.formats.locations import safe_location
from curate.formats.values import mapping, sequence, text, whole
from curate.names import ANNOTATORS, GROUND_TRUTH


@dataclass(frozen=True)
class Job:
    """A piece of a task that one person works on.

    Attributes:
        id: The server's.
        task: Its task.
        type: 'annotation', 'ground_truth' or 'replica'.
        start: First frame.
        stop: Last frame.
        stage: 'annotation', 'validation' or 'acceptance'.
        state: 'new', 'in progress', 'completed' or 'rejected'.
        assignee: Name of the user.
        updated: When anything in it was changed.
        has_issues: Whether there may be any.
    """

    id: int
    task: int
    type: str
    start: int
    stop: int
    stage: str
    state: str
    assignee: str | None
    updated: str
    has_issues: bool

    @property
    def work(self) -> str:
        """What its people have handed in; empty as long as they have not, or are told to do it again."""
        is_done = self.state == "completed" or (self.stage == "acceptance" and self.state != "rejected")
        return f"{self.stage} {self.state}" if is_done else ""

    def holds(self, frame: int) -> bool:
        """Whether a frame is in its range."""
        return self.start <= frame <= self.stop


@dataclass(frozen=True)
class Task:
    """Some images, or a video.

    Attributes:
        id: The server's.
        name: For people.
        size: Number of frames, those that were taken out among them.
        subset: The project's subset that it is in.
        is_video: Whether its frames are cut from a video.
        is_flat: Whether its frames are images: not point clouds, not sound.
        has_honeypots: Whether frames of its validation pool are shown again in its jobs.
    """

    id: int
    name: str
    size: int
    subset: str
    is_video: bool
    is_flat: bool
    has_honeypots: bool

    @property
    def split(self) -> str | None:
        """The split that its subset stands for."""
        return split_of_subset(self.subset)


@dataclass(frozen=True)
class Frames:
    """The frames of a task.

    Attributes:
        names: Names by number, without those that were taken out.
        sizes: Width and height by number.
        group: Name of the video; None for images.
    """

    names: Mapping[int, str]
    sizes: Sizes
    group: str | None = None

    def only(self, numbers: Collection[int]) -> Frames:
        """Those of the frames that have one of these numbers."""
        kept = {number: name for number, name in self.names.items() if number in numbers}
        return Frames(kept, {number: self.sizes[number] for number in kept}, self.group)


def list_tasks(server: Server, scope: Scope, found: Mapping[str, Any]) -> list[Task]:
    """The tasks of a scope, oldest first.

    Args:
        server: The server.
        scope: What is asked about.
        found: It, as the server has it.
    """
    if scope.kind == "project":
        return [parse_task(each) for each in server.pages("/api/tasks", scope.query)]
    if scope.kind == "task":
        return [parse_task(found)]
    return [parse_task(server.get(f"/api/tasks/{found.get('task_id')}"))]


def list_jobs(server: Server, scope: Scope, found: Mapping[str, Any]) -> dict[int, list[Job]]:
    """The jobs of a scope by task, oldest first; arguments as for `list_tasks`."""
    entries: Iterable[Mapping[str, Any]] = [found]
    if scope.kind != "job":
        entries = server.pages("/api/jobs", scope.query)
    jobs: dict[int, list[Job]] = {}
    for each in entries:
        job = parse_job(each)
        jobs.setdefault(job.task, []).append(job)
    return jobs


def parse_task(found: Mapping[str, Any]) -> Task:
    """A task as the API has it."""
    return Task(
        _integer(found.get("id")),
        text(found.get("name")),
        whole(found.get("size")),
        text(found.get("subset")),
        found.get("mode") == "interpolation",
        found.get("dimension") in (None, "", "2d") and found.get("media_type") != "audio",
        found.get("validation_mode") == "gt_pool",
    )


def parse_job(found: Mapping[str, Any]) -> Job:
    """A job as the API has it."""
    return Job(
        _integer(found.get("id")),
        _integer(found.get("task_id")),
        text(found.get("type")) or "annotation",
        _integer(found.get("start_frame")),
        _integer(found.get("stop_frame")),
        text(found.get("stage")),
        text(found.get("state")),
        text(mapping(found.get("assignee")).get("username")) or None,
        text(found.get("updated_date")),
        mapping(found.get("issues")).get("count") != 0,
    )


def parse_frames(meta: Mapping[str, Any], task: Task) -> Frames:
    """The frames of a task from its ``data/meta``."""
    listed = [mapping(each) for each in sequence(meta.get("frames"))]
    deleted = set(sequence(meta.get("deleted_frames")))
    count = whole(meta.get("size")) or task.size
    video = None
    if task.is_video and listed:
        # All frames are alike, and only the video is named.
        video = safe_location(text(listed[0].get("name"))) or task.name
        folder = video.rpartition(".")[0] or video
        names = {number: f"{folder}/{frame_name(number)}.png" for number in range(count)}
    else:
        names = {
            number: safe_location(text(each.get("name"))) or frame_name(number) for number, each in enumerate(listed)
        }
    last = len(listed) - 1
    sizes = {
        number: (whole(listed[min(number, last)].get("width")), whole(listed[min(number, last)].get("height")))
        for number in names
    }
    kept = {number: name for number, name in names.items() if number not in deleted and all(sizes[number])}
    return Frames(kept, {number: sizes[number] for number in kept}, video)


def main_job(jobs: Sequence[Job], frame: int) -> Job | None:
    """The job whose annotations of a frame are its ground truth: where jobs overlap, the first."""
    return next((job for job in jobs if job.type == "annotation" and job.holds(frame)), None)


def layers(jobs: Sequence[Job]) -> dict[int, str]:
    """The layer of each job of a task: people who work on the same frames have one each."""
    names: dict[int, str] = {}
    taken: set[tuple[str, int]] = set()
    for job in jobs:
        name = GROUND_TRUTH
        if job.type == "ground_truth":
            name = f"{ANNOTATORS}ground_truth"
        elif job.type != "annotation":
            name = f"{ANNOTATORS}{job.assignee or f'{job.type}-{job.id}'}"
            if (name, job.start) in taken:
                name = f"{name}-{job.id}"
            taken.add((name, job.start))
        names[job.id] = name
    return names


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 0
