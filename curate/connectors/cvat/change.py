"""Changes in place: the very shapes, tags and tracks of a job, after a look at whether they are still what they were."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from curate.connectors.base import Change, Note, Progress, Row
from curate.connectors.cvat.issues import PlacedNote, open_issues
from curate.connectors.cvat.items import read_annotations_of_job
from curate.connectors.cvat.jobs import Job, list_jobs, main_job
from curate.connectors.cvat.labels import Labels
from curate.connectors.cvat.read import read_annotations
from curate.connectors.cvat.server import Scope, Server
from curate.connectors.cvat.tracks import expand, keyframes
from curate.connectors.cvat.write import RowWriter, Written
from curate.connectors.http import UncertainError
from curate.formats.losses import LossReport
from curate.formats.values import mapping, sequence
from curate.names import GROUND_TRUTH

_KINDS: Final = ("tags", "shapes", "tracks")
_KIND_OF: Final = {"tag": "tags", "shape": "shapes", "track": "tracks"}
_TRIES: Final = 3
_GEOMETRY: Final = ("type", "label", "bbox", "rotated_box", "polygons", "rle", "rle_size", "keypoints")
_SKELETON: Final = "a skeleton's track cannot be changed on one frame"
_OF_ALL: Final = "on a track, the label and what is said of all of it cannot be changed on one frame"
_SOME: Final = "a track can be taken away only from all of its frames at once"
_ELSEWHERE: Final = "in no annotation job: only one annotator's version, or a ground truth job, has it"


@dataclass
class _Plan:
    """What is sent to a job.

    Attributes:
        created: Tags and shapes that are new, by kind.
        updated: Tags, shapes and tracks in their new form, by kind.
        deleted: Those to take away, by kind.
    """

    created: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    updated: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    deleted: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass
class Changer:
    """Changes items that are on the server.

    Attributes:
        server: The server.
        labels: The project's labels.
        losses: What CVAT cannot hold.
        progress: Told (done, total).
        left_alone: Ids of the images that nothing was changed of.
    """

    server: Server
    labels: Labels
    losses: LossReport
    progress: Progress | None
    left_alone: set[str] = field(default_factory=set, init=False)

    def change(self, changes: Sequence[Change]) -> None:
        """Change items in place; what was changed there since it was read is left alone, and so are its issues."""
        done = 0
        for task, own in _by_task(changes).items():
            scope = Scope("task", task)
            jobs = list_jobs(self.server, scope, {}).get(task, [])
            by_job: dict[int, dict[int, Change]] = {}
            for change in own:
                frame = _frame(change)
                job = main_job(jobs, frame)
                if job is None:
                    count = len(change.created) + len(change.updated) + len(change.deleted) + len(change.notes)
                    self.losses.dropped("changes", _ELSEWHERE, change.item.remote_id, count)
                    self.left_alone.add(change.image_id)
                else:
                    by_job.setdefault(job.id, {})[frame] = change
            for job in jobs:
                frames = by_job.get(job.id, {})
                self._change_job(job, {frame: frames[frame] for frame in sorted(frames)})
                done += len(frames)
                if self.progress is not None and frames:
                    self.progress(done, len(changes))

    def _change_job(self, job: Job, changes: Mapping[int, Change]) -> None:
        if any(each.created or each.updated or each.deleted for each in changes.values()):
            now = read_annotations_of_job(self.server, job.id)
            plan = self._plan(job, changes, now)
            self._create(job, plan.created, now)
            # Both may be sent again: an update takes away what has these ids before it writes them anew.
            self._send(job, "update", plan.updated)
            self._send(job, "delete", plan.deleted)
        notes = [
            PlacedNote(note, frame, _box(change, note), change.item.size or change.size)
            for frame, change in changes.items()
            if change.image_id not in self.left_alone
            for note in change.notes
        ]
        open_issues(self.server, job, notes)

    def _plan(self, job: Job, changes: Mapping[int, Change], now: Mapping[str, Any]) -> _Plan:
        """What to send, of the changes to what is still as it was."""
        sizes = {frame: change.item.size or change.size or (0, 0) for frame, change in changes.items()}
        place = f"job {job.id}"
        rows = read_annotations(now, sizes, self.labels, last=job.stop, place=place, losses=LossReport())
        known = {
            (each.get("id"), kind): each
            for kind in _KINDS
            for each in sequence(now.get(kind))
            if isinstance(each, dict)
        }
        current = {each.remote_id: each.row for each in (row for of_frame in rows.values() for row in of_frame)}
        plan, writer = _Plan(), RowWriter(self.labels, self.losses)
        gone: dict[int, set[int]] = {}
        for frame, change in changes.items():
            if self._is_outdated(change, current):
                continue
            at = change.item.location
            for row in change.created:
                _add(plan.created, writer.write(row, at), frame)
            for remote_id, row in change.updated.items():
                found = known.get(_key(remote_id))
                if found is None:
                    continue
                if remote_id.startswith("track:"):
                    self._move(plan, found, frame, row, at)
                else:
                    _replace(plan, remote_id, found, writer.write(row, at), frame)
            for remote_id in change.deleted:
                found = known.get(_key(remote_id))
                if found is not None and remote_id.startswith("track:"):
                    gone.setdefault(found["id"], set()).add(frame)
                elif found is not None:
                    plan.deleted.setdefault(_key(remote_id)[1], []).append(found)
        for track, frames in gone.items():
            self._take_away(plan, job, known[track, "tracks"], frames, changes)
        return plan

    def _is_outdated(self, change: Change, current: Mapping[str, Row]) -> bool:
        """Whether what is to be replaced is no longer what the item says; what is gone already needs no taking away."""
        there = {each.remote_id: each.row for each in change.item.annotations or () if each.layer == GROUND_TRUTH}
        touched = [*change.updated, *(each for each in change.deleted if each in current)]
        if all(each in current and _same(current[each], there.get(each)) for each in touched):
            return False
        self.left_alone.add(change.image_id)
        return True

    def _move(self, plan: _Plan, track: dict[str, Any], frame: int, row: Row, place: str) -> None:
        """Change a track on one frame, which becomes a keyframe if it is none, as in CVAT's own editor."""
        written = RowWriter(self.labels, self.losses).write(row, place, tracked=True)
        if written is None:
            return
        if sequence(track.get("elements")) or written.data.get("type") == "skeleton":
            self.losses.dropped("changes", _SKELETON, place)
            return
        before = next((each for each in expand(track, frame) if each["frame"] == frame), {})
        if written.label.id != track.get("label_id") or written.data.get("type") != before.get("type"):
            self.losses.dropped("changes", _OF_ALL, place)
            return
        # Attributes of the whole track stay where they are; those of its shapes change from this keyframe on.
        whole = {each.get("spec_id"): each.get("value") for each in sequence(track.get("attributes"))}
        mutable = [each for each in written.data["attributes"] if each["spec_id"] not in whole]
        if any(
            whole[each["spec_id"]] != each["value"] for each in written.data["attributes"] if each["spec_id"] in whole
        ):
            self.losses.dropped("changes", _OF_ALL, place)
        kept = ("type", "occluded", "outside", "z_order", "rotation", "points")
        shape = {name: written.data[name] for name in kept} | {"frame": frame, "attributes": mutable}
        planned = plan.updated.setdefault("tracks", [])
        if not any(each is track for each in planned):
            planned.append(track)
        track["shapes"] = [*(each for each in keyframes(track) if each["frame"] != frame), shape]
        track["shapes"].sort(key=lambda each: int(each["frame"]))

    def _take_away(
        self, plan: _Plan, job: Job, track: dict[str, Any], frames: set[int], changes: Mapping[int, Change]
    ) -> None:
        visible = {each["frame"] for each in expand(track, job.stop) if not each.get("outside")}
        if visible <= frames:
            plan.deleted.setdefault("tracks", []).append(track)
            return
        place = f"{changes[min(frames)].item.location}, track:{track['id']}"
        self.losses.dropped("changes", _SOME, place, len(frames))

    def _send(self, job: Job, action: str, data: Mapping[str, list[dict[str, Any]]]) -> None:
        if data:
            self.server.http.request("PATCH", f"/api/jobs/{job.id}/annotations/", {"action": action}, _body(data))

    def _create(self, job: Job, data: Mapping[str, list[dict[str, Any]]], before: Mapping[str, Any]) -> None:
        """Make annotations, once: after a lost reply they are looked for before they are sent again."""
        if not data:
            return
        body = json.dumps(_body(data)).encode()
        known = {(kind, each.get("id")) for kind in _KINDS for each in sequence(before.get(kind))}
        for last in [False] * (_TRIES - 1) + [True]:
            try:
                self.server.http.send(
                    "PATCH",
                    f"/api/jobs/{job.id}/annotations/",
                    {"action": "create"},
                    body,
                    {"Content-Type": "application/json"},
                    makes=True,
                )
                return
            except UncertainError:
                now = read_annotations_of_job(self.server, job.id)
                new = [
                    each for kind in _KINDS for each in sequence(now.get(kind)) if (kind, each.get("id")) not in known
                ]
                # The server makes all of them or none; an annotator may have drawn others meanwhile.
                if {_outline(each) for each in new} >= {_outline(each) for kind in data for each in data[kind]}:
                    return
                if last:
                    raise


def _box(change: Change, note: Note) -> Sequence[float] | None:
    """Where a finding is: where it says, else where its annotation is."""
    own = (each for each in change.item.annotations or () if each.remote_id == note.remote_annotation_id)
    return note.finding.bbox or next((each.row["bbox"] for each in own), None)


def _by_task(changes: Iterable[Change]) -> dict[int, list[Change]]:
    found: dict[int, list[Change]] = {}
    for change in changes:
        found.setdefault(int(change.item.remote_id.partition(":")[0]), []).append(change)
    return found


def _frame(change: Change) -> int:
    return int(change.item.remote_id.partition(":")[2])


def _key(remote_id: str) -> tuple[int, str]:
    """Id and kind of 'shape:17' or 'track:7@12'."""
    kind, _, rest = remote_id.partition(":")
    return int(rest.partition("@")[0]), _KIND_OF[kind]


def _same(first: Row, second: Row | None) -> bool:
    """Whether two rows say the same; what a track does on later frames is nothing that a frame's row says."""
    if second is None or any(first.get(name) != second.get(name) for name in _GEOMETRY):
        return False
    ours, theirs = ({**(row.get("attributes") or {}), "outside": None} for row in (first, second))
    return ours == theirs


def _add(data: dict[str, list[dict[str, Any]]], written: Written | None, frame: int) -> None:
    if written is not None:
        data.setdefault(written.kind, []).append(written.on(frame))


def _replace(plan: _Plan, remote_id: str, found: dict[str, Any], written: Written | None, frame: int) -> None:
    """Put a row in the place of a shape or tag; a shape cannot become a tag, so that one is made and the other goes."""
    if written is None:
        return
    number, kind = _key(remote_id)
    if kind != written.kind:
        _add(plan.created, written, frame)
        plan.deleted.setdefault(kind, []).append(found)
        return
    plain = {"group": 0, "score": 1.0} if kind == "shapes" else {"group": 0}
    data = {**found, **plain, **written.on(frame), "id": number}
    ids = {each.get("label_id"): each.get("id") for each in _elements(found)}
    for each in _elements(data):
        each["id"] = ids.get(each["label_id"])
    plan.updated.setdefault(kind, []).append(data)


def _elements(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (each for each in sequence(found.get("elements")) if isinstance(each, dict))


def _body(data: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {"version": 0, **{kind: data.get(kind, []) for kind in _KINDS}}


def _outline(found: Any) -> str:
    """What tells a new annotation from others."""
    said = mapping(found)
    points = [round(float(value), 3) for value in sequence(said.get("points"))]
    inner = [_outline(each) for each in _elements(said)]
    return json.dumps([said.get("frame"), said.get("label_id"), said.get("type"), points, inner])
