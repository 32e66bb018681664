"""Every frame of a project as an item, moving only what has changed.

An item's version is in two parts: when the jobs that it is in were last changed, with its review issues, and a digest of its
annotations. As long as the first part is known, the annotations are not asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from curate.connectors.base import Item, Progress, RemoteAnnotation
from curate.connectors.cvat.issues import Issue, read_issues
from curate.connectors.cvat.jobs import Frames, Job, Task, layers, list_jobs, list_tasks, main_job, parse_frames
from curate.connectors.cvat.labels import Labels
from curate.connectors.cvat.names import image_id_of, is_unfinished
from curate.connectors.cvat.read import read_annotations
from curate.connectors.cvat.server import Scope, Server
from curate.formats.losses import LossReport
from curate.formats.values import sequence, text
from curate.names import GROUND_TRUTH

_AT_ONCE: Final = 4
_STEP: Final = re.compile(r"step=0*([1-9]\d{0,8})")
_OVERLAP: Final = "drawn in the overlap of two jobs, differently; those of the first job are kept"
_NOT_FLAT: Final = "point clouds and sound are no images"
_HONEYPOTS: Final = "honeypots show images of the task's validation pool again"


@dataclass(frozen=True)
class _Fetched:
    """What the server says of a task.

    Attributes:
        frames: Its frames.
        issues: By frame.
        prefixes: First parts of the frames' versions.
        wanted: Frames whose annotations are needed.
        annotations: Of the jobs that have wanted frames, as the API gives them, by job.
        honeypots: How many frames are left out, since they are others again.
    """

    frames: Frames
    issues: Mapping[int, Sequence[Issue]]
    prefixes: Mapping[int, str]
    wanted: frozenset[int]
    annotations: Mapping[int, Mapping[str, Any]]
    honeypots: int = 0


def list_items(
    server: Server,
    scope: Scope,
    found: Mapping[str, Any],
    labels: Labels,
    *,
    unless: Mapping[str, str],
    losses: LossReport,
    progress: Progress | None,
) -> Iterator[Item]:
    """Every item of a scope; see `curate.connectors.base.Connector.items`.

    Args:
        server: The server.
        scope: What is asked about.
        found: It, as the server has it.
        labels: Its labels.
        unless: Versions that are known.
        losses: What cannot be read.
        progress: Told (done, total).
    """
    jobs = list_jobs(server, scope, found)
    tasks = [task for task in list_tasks(server, scope, found) if task.size and not is_unfinished(task.name)]
    for task in tasks:
        losses.dropped("images", _NOT_FLAT, f"task {task.id}", 0 if task.is_flat else task.size)
    tasks = [task for task in tasks if task.is_flat]
    done, total = 0, sum(task.size for task in tasks)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(tasks), _AT_ONCE):
            part = tasks[start : start + _AT_ONCE]
            fetched = pool.map(lambda task: _fetch(server, scope, task, jobs.get(task.id, []), unless), part)
            for task, each in zip(part, fetched, strict=True):
                losses.dropped("frames", _HONEYPOTS, f"task {task.id}", each.honeypots)
                yield from _items(task, jobs.get(task.id, []), each, labels, unless, losses)
                done += task.size
                if progress is not None:
                    progress(done, total)


def read_annotations_of_job(server: Server, job: int) -> dict[str, Any]:
    """A job's annotations as the API has them."""
    return server.get(f"/api/jobs/{job}/annotations/")


def _fetch(server: Server, scope: Scope, task: Task, jobs: Sequence[Job], unless: Mapping[str, str]) -> _Fetched:
    frames = parse_frames(server.get(f"/api/tasks/{task.id}/data/meta"), task)
    if scope.kind == "job":
        frames = _of_job(server, frames, jobs[0])
    every = frames
    if task.has_honeypots:
        layout = server.get(f"/api/tasks/{task.id}/validation_layout")
        frames = frames.only(frames.names.keys() - set(sequence(layout.get("honeypot_frames"))))
    issues: dict[int, list[Issue]] = {}
    for job in jobs:
        for issue in read_issues(server, job.id) if job.has_issues else ():
            issues.setdefault(issue.frame, []).append(issue)
    prefixes = {frame: _prefix(frame, task, jobs, issues.get(frame, [])) for frame in frames.names}
    wanted = frozenset(
        frame for frame, prefix in prefixes.items() if unless.get(f"{task.id}:{frame}", "").split(".")[0] != prefix
    )
    needed = [job.id for job in jobs if any(job.holds(frame) for frame in wanted)]
    annotations = {job: read_annotations_of_job(server, job) for job in needed}
    return _Fetched(frames, issues, prefixes, wanted, annotations, len(every.names) - len(frames.names))


def _of_job(server: Server, frames: Frames, job: Job) -> Frames:
    """The frames of one job; a ground truth job has some of its task's, which are listed by their numbers in the source."""
    included = None
    if job.type == "ground_truth":
        meta = server.get(f"/api/jobs/{job.id}/data/meta")
        match = _STEP.search(text(meta.get("frame_filter")))
        step, first = int(match[1]) if match else 1, meta.get("start_frame") or 0
        included = {(number - first) // step for number in sequence(meta.get("included_frames"))}
    return frames.only(
        {number for number in frames.names if job.holds(number) and (included is None or number in included)}
    )


def _items(
    task: Task,
    jobs: Sequence[Job],
    fetched: _Fetched,
    labels: Labels,
    unless: Mapping[str, str],
    losses: LossReport,
) -> Iterator[Item]:
    annotations = _annotations(task, jobs, fetched, labels, losses)
    for frame, name in fetched.frames.names.items():
        remote_id = f"{task.id}:{frame}"
        job = main_job(jobs, frame) or next((job for job in jobs if job.holds(frame)), None)
        issues = fetched.issues.get(frame, [])
        settled = [issue for issue in issues if issue.resolved]
        work = [
            *(each.work for each in jobs if each.holds(frame) and each.work),
            *(f"issue {issue.id}" for issue in settled),
        ]
        own = annotations.get(frame, []) if frame in fetched.wanted else None
        yield Item(
            remote_id,
            name,
            unless[remote_id] if own is None else f"{fetched.prefixes[frame]}.{_digest(own)}",
            own,
            image_id=image_id_of(name),
            size=fetched.frames.sizes[frame],
            work=", ".join(work),
            resolved=frozenset(issue.finding for issue in settled if issue.finding is not None),
            split=task.split,
            group=fetched.frames.group,
            frame=None if fetched.frames.group is None else frame,
            metadata=_metadata(task, job, issues),
        )


def _annotations(
    task: Task, jobs: Sequence[Job], fetched: _Fetched, labels: Labels, losses: LossReport
) -> dict[int, list[RemoteAnnotation]]:
    """The annotations of the wanted frames, of all layers."""
    names = layers(jobs)
    found: dict[int, list[RemoteAnnotation]] = {}
    for job in jobs:
        data = fetched.annotations.get(job.id)
        if data is None:
            continue
        sizes = {frame: fetched.frames.sizes[frame] for frame in fetched.wanted if job.holds(frame)}
        place = f"task {task.id}, job {job.id}"
        layer = names[job.id]
        for frame, rows in read_annotations(
            data, sizes, labels, last=job.stop, place=place, losses=losses, layer=layer
        ).items():
            main = main_job(jobs, frame)
            if layer == GROUND_TRUTH and main is not None and main.id != job.id:
                others = [_content(row) for row in found.get(frame, []) if row.layer == GROUND_TRUTH]
                missed = [row for row in rows if _content(row) not in others]
                losses.dropped("annotations", _OVERLAP, f"{place}, frame {frame}", len(missed))
                continue
            found.setdefault(frame, []).extend(rows)
    return found


def _content(annotation: RemoteAnnotation) -> dict[str, Any]:
    """What an annotation says, apart from the track it is on, which each job has for itself."""
    attributes = {
        name: value for name, value in annotation.row["attributes"].items() if name not in {"track_id", "keyframe"}
    }
    return {**annotation.row, "attributes": attributes}


def _metadata(task: Task, job: Job | None, issues: Sequence[Issue]) -> dict[str, Any]:
    said: dict[str, Any] = {"task": task.name, "task_id": task.id}
    if task.subset:
        said["subset"] = task.subset
    if job is not None:
        said |= {"job": job.id, "stage": job.stage, "state": job.state, "assignee": job.assignee}
    # A list that is empty says that issues which were there are gone.
    return {**said, "issues": [issue.to_json() for issue in issues]}


def _prefix(frame: int, task: Task, jobs: Sequence[Job], issues: Sequence[Issue]) -> str:
    changed = [[job.id, job.updated] for job in jobs if job.holds(frame)]
    return _digest([task.name, task.subset, changed, [issue.to_json() for issue in issues]])


def _digest(said: Any) -> str:
    said_so = json.dumps(said, sort_keys=True, default=vars)
    return hashlib.blake2b(said_so.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
