"""What the stand-in for a CVAT server knows: projects, tasks, jobs, annotations, issues, in memory.

Recorded of real servers: a frame out of range is dropped without a word, coordinates outside the image are kept, an unknown
label is refused, a failed upload leaves an empty task. From CVAT's published source: an update takes away what has the ids and
writes it anew under them, attributes that an annotation lacks have their default, a label that is changed without naming its
color gets another, and every change of annotations moves the dates of the job, the task and the project; values of attributes
lose the blanks around them, and longer ones than 4096 characters are refused. Of a task with a validation pool the jobs begin
with their own images and end with honeypots, which are images of the pool again, and the pool's images are the task's last; a
frame that is turned by its EXIF orientation is upright and encoded anew, also where the original is asked for.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import ExifTags, Image, ImageOps

Json = dict[str, Any]
KINDS = ("tags", "shapes", "tracks")


class Refused(Exception):
    """A reply other than success: its status and what it says."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


@dataclass
class Model:
    """All that the server holds, each by its id."""

    url: str = ""
    projects: dict[int, Json] = field(default_factory=dict)
    labels: dict[int, Json] = field(default_factory=dict)
    tasks: dict[int, Json] = field(default_factory=dict)
    jobs: dict[int, Json] = field(default_factory=dict)
    issues: dict[int, Json] = field(default_factory=dict)
    comments: dict[int, Json] = field(default_factory=dict)
    requests: dict[str, Json] = field(default_factory=dict)
    annotations: dict[int, dict[str, list[Json]]] = field(default_factory=dict)
    uploads: dict[int, dict[str, bytes]] = field(default_factory=dict)
    frames: dict[int, list[tuple[Json, bytes]]] = field(default_factory=dict)
    deleted: dict[int, list[int]] = field(default_factory=dict)
    layouts: dict[int, Json] = field(default_factory=dict)
    organizations: dict[str, int] = field(default_factory=dict)
    user: Json = field(default_factory=lambda: {"id": 1, "username": "admin", "first_name": "", "last_name": ""})

    def __post_init__(self) -> None:
        self._ids = itertools.count(1)
        self._moments = itertools.count(1)

    def new_id(self) -> int:
        return next(self._ids)

    def now(self) -> str:
        """A moment that is later than any before."""
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=next(self._moments))
        return moment.isoformat().replace("+00:00", "Z")

    def owner(self) -> Json:
        return {**self.user, "url": f"{self.url}/api/users/1"}

    # ------------------------------------------------------------------------------------------------- projects, labels

    def make_project(self, spec: Json, organization: int | None = None) -> Json:
        if not spec.get("name"):
            raise Refused(400, {"name": ["This field is required."]})
        number = self.new_id()
        self.projects[number] = {"id": number, "name": spec["name"], "bug_tracker": spec.get("bug_tracker", "")}
        self.projects[number] |= {"created_date": self.now(), "updated_date": self.now(), "organization": organization}
        self.set_labels(spec.get("labels", []), project=number)
        return self.projects[number]

    def set_labels(self, specs: Iterable[Json], *, project: int | None = None, task: int | None = None) -> None:
        """Add labels, or attributes to those whose id is given; those that are not named stay."""
        for spec in specs:
            known = self.labels_of(project, task)
            if spec.get("id") is not None:
                label = self.labels.get(spec["id"])
                if label is None or label not in known:
                    raise Refused(404, {"detail": f"Not found label with id #{spec['id']} to change"})
                if spec.get("deleted"):
                    del self.labels[spec["id"]]
                label |= {"name": spec.get("name") or label["name"], "color": spec.get("color") or "#12ab34"}
            else:
                if not spec.get("name"):
                    raise Refused(400, {"labels": [{"name": ["This field is required."]}]})
                if any(each["name"] == spec["name"] for each in known):
                    raise Refused(400, [f"label '{spec['name']}' already exists"])
                label = self._new_label(spec, project, task)
            self._set_attributes(label, spec.get("attributes", []))

    def _new_label(self, spec: Json, project: int | None, task: int | None) -> Json:
        number = self.new_id()
        label = {"id": number, "name": spec["name"], "color": spec.get("color") or "#12ab34", "attributes": []}
        label |= {"type": spec.get("type") or "any", "sublabels": [], "has_parent": False, "parent_id": None}
        label |= {"project_id": project} if project is not None else {"task_id": task}
        svg = spec.get("svg", "")
        for inner in spec.get("sublabels", []):
            point = {"id": self.new_id(), "name": inner["name"], "color": "#12ab34", "attributes": []}
            point |= {"type": inner.get("type") or "points", "has_parent": True}
            self._set_attributes(point, inner.get("attributes", []))
            label["sublabels"].append(point)
            svg = svg.replace(f'data-label-name="{inner["name"]}"', f'data-label-id="{point["id"]}"')
        if label["type"] == "skeleton":
            label["svg"] = svg
        self.labels[number] = label
        return label

    def _set_attributes(self, label: Json, specs: Iterable[Json]) -> None:
        for spec in specs:
            missing = {"name", "mutable", "input_type", "values"} - spec.keys()
            if missing and spec.get("id") is None:
                raise Refused(400, {"attributes": [{name: ["This field is required."] for name in missing}]})
            named = next((each for each in label["attributes"] if each["name"] == spec["name"]), None)
            if named is None:
                label["attributes"].append({"default_value": "", **spec, "id": self.new_id()})
            else:
                named |= {name: value for name, value in spec.items() if name != "id"}

    def labels_of(self, project: int | None, task: int | None) -> list[Json]:
        """The labels of a project, or of a task: its project's, if it is in one."""
        if task is not None and self.tasks[task]["project_id"] is not None:
            project, task = self.tasks[task]["project_id"], None
        key, number = ("project_id", project) if project is not None else ("task_id", task)
        return [label for label in self.labels.values() if label.get(key) == number]

    # ---------------------------------------------------------------------------------------------------- tasks and jobs

    def make_task(self, spec: Json, organization: int | None = None) -> Json:
        if not spec.get("name"):
            raise Refused(400, {"name": ["This field is required."]})
        if len(spec["name"]) > 256:
            raise Refused(400, {"name": ["Ensure this field has no more than 256 characters."]})
        project = spec.get("project_id")
        if project is not None and project not in self.projects:
            raise Refused(404, {"detail": "Not found."})
        if project is not None and spec.get("labels"):
            raise Refused(400, ["Project must have only one of Label set or project_id"])
        if project is not None and self.projects[project]["organization"] != organization:
            raise Refused(400, ["The task and its project should be in the same organization."])
        if len(spec.get("subset") or "") > 64:
            raise Refused(400, {"subset": ["Ensure this field has no more than 64 characters."]})
        number = self.new_id()
        self.tasks[number] = {
            "id": number,
            "name": spec["name"],
            "project_id": project,
            "subset": spec.get("subset", ""),
            "organization": organization,
            "segment_size": spec.get("segment_size") or 0,
            "overlap": spec.get("overlap"),
            "replicas": spec.get("consensus_replicas") or 0,
            "bug_tracker": spec.get("bug_tracker", ""),
            "created_date": self.now(),
            "updated_date": self.now(),
        }
        self.uploads[number] = {}
        self.set_labels(spec.get("labels", []), task=number)
        return self.tasks[number]

    def remove_task(self, task: int) -> None:
        del self.tasks[task]
        for job in self.jobs_of(task):
            del self.jobs[job["id"]], self.annotations[job["id"]]

    def make_frames(self, task: int, options: Json) -> None:
        """Turn what was uploaded into frames and jobs; raises ValueError where it cannot, and leaves the task empty."""
        files = self.uploads[task]
        names = options.get("upload_file_order") if options.get("sorting_method") == "predefined" else sorted(files)
        if not files:
            raise ValueError("No media data found")
        frames = []
        for name in names or list(files):
            try:
                with Image.open(io.BytesIO(files[name])) as image:
                    image.load()
                    width, height = ImageOps.exif_transpose(image).size
            except Exception as error:
                raise ValueError(f"cannot identify image file '{name}'") from error
            meta = {"name": name, "width": width, "height": height, "related_files": 0, "has_related_context": False}
            frames.append((meta, files[name]))
        if options.get("validation_params", {}).get("mode") == "gt_pool":
            self._make_pool(task, frames, options["validation_params"])
        else:
            self.frames[task] = frames
            self._make_jobs(task, len(frames))
        self.touch(task)

    def _make_pool(self, task: int, frames: list[tuple[Json, bytes]], params: Json) -> None:
        """Jobs with honeypots at their ends, and then the validation pool, which a ground truth job has."""
        pool = [frame for frame in frames if frame[0]["name"] in params["frames"]]
        own = [frame for frame in frames if frame not in pool]
        shown, honeypots, size = (
            list[tuple[Json, bytes]](),
            dict[int, int](),
            self.tasks[task]["segment_size"] or len(own),
        )
        count = params["frames_per_job_count"]
        for start in range(0, len(own), size):
            first = len(shown)
            shown += own[start : start + size]
            for index in range(count):
                honeypots[len(shown)] = index % len(pool)
                shown.append(deepcopy(pool[index % len(pool)]))
            self.make_job(task, "annotation", first, len(shown) - 1)
        self.frames[task] = [*shown, *pool]
        numbers = list(range(len(shown), len(shown) + len(pool)))
        self.make_job(task, "ground_truth", numbers[0], numbers[-1], numbers)
        self.layouts[task] = {
            "mode": "gt_pool",
            "frames_per_job_count": count,
            "validation_frames": numbers,
            "disabled_frames": [],
            "honeypot_count": len(honeypots),
            "honeypot_frames": list(honeypots),
            "honeypot_real_frames": [numbers[index] for index in honeypots.values()],
        }

    def frame(self, task: int, number: int) -> bytes:
        """A frame's bytes: as they were uploaded, unless that is turned."""
        content = self.frames[task][number][1]
        with Image.open(io.BytesIO(content)) as image:
            if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
                return content
            upright = io.BytesIO()
            ImageOps.exif_transpose(image).save(upright, image.format, quality=100, subsampling=0)
        return upright.getvalue()

    def _make_jobs(self, task: int, count: int) -> None:
        found = self.tasks[task]
        segment = min(found["segment_size"] or count, count)
        overlap = min(found["overlap"] or 0, segment // 2)
        start = 0
        while True:
            stop = min(start + segment, count) - 1
            parent = self.make_job(task, "annotation", start, stop)
            for _ in range(found["replicas"]):
                self.make_job(task, "replica", start, stop)["parent_job_id"] = parent["id"]
            if stop == count - 1:
                return
            start += segment - overlap

    def make_job(self, task: int, kind: str, start: int, stop: int, frames: list[int] | None = None) -> Json:
        number = self.new_id()
        self.jobs[number] = {
            "id": number,
            "task_id": task,
            "type": kind,
            "start_frame": start,
            "stop_frame": stop,
            "frames": frames,
            "stage": "annotation",
            "state": "new",
            "assignee": None,
            "parent_job_id": None,
            "created_date": self.now(),
            "updated_date": self.now(),
        }
        self.annotations[number] = {kind: [] for kind in KINDS}
        return self.jobs[number]

    def jobs_of(self, task: int) -> list[Json]:
        return [job for job in self.jobs.values() if job["task_id"] == task]

    def touch(self, task: int, job: int | None = None) -> None:
        """Move the dates of a job, its task and its project."""
        moment = self.now()
        if job is not None:
            self.jobs[job]["updated_date"] = moment
        self.tasks[task]["updated_date"] = moment
        project = self.tasks[task]["project_id"]
        if project is not None:
            self.projects[project]["updated_date"] = moment

    # ------------------------------------------------------------------------------------------------------- annotations

    def data_of(self, job: int) -> Json:
        """A job's annotations, with the defaults of the attributes that they lack."""
        specs = self._specs(self.jobs[job]["task_id"])
        data: Json = {"version": 0, **deepcopy(self.annotations[job])}
        for annotation in _each(data):
            label = specs[annotation["label_id"]]
            is_track = "shapes" in annotation
            wanted = [each for each in label.values() if not (is_track and each["mutable"])]
            _extend(annotation["attributes"], wanted)
            known = [each for each in label.values() if each["mutable"]]
            for shape in annotation.get("shapes", []):
                _extend(shape["attributes"], known)
        return data

    def patch(self, job: int, action: str, data: Json) -> Json:
        """Create, update or delete annotations of a job; 'put' replaces all of them."""
        found = self.jobs[job]
        parsed = {kind: [self._parsed(each, kind, job) for each in data.get(kind, [])] for kind in KINDS}
        within = range(found["start_frame"], found["stop_frame"] + 1)
        own = {kind: [each for each in parsed[kind] if each["frame"] in within] for kind in KINDS}
        for kind in KINDS:
            gone = {each["id"] for each in own[kind]} if action in {"update", "delete"} else set()
            kept = [each for each in self.annotations[job][kind] if each["id"] not in gone and action != "put"]
            self.annotations[job][kind] = kept + ([] if action == "delete" else own[kind])
            for each in own[kind] if action != "delete" else ():
                self._number(each, anew=action in {"create", "put"})
        if any(own.values()) or action == "put":
            self.touch(found["task_id"], job)
        return {"version": 0, **own}

    def _number(self, annotation: Json, *, anew: bool) -> None:
        if anew or annotation.get("id") is None:
            annotation["id"] = self.new_id()
        for inner in [*annotation.get("elements", []), *annotation.get("shapes", [])]:
            self._number(inner, anew=anew)

    def _specs(self, task: int) -> dict[int, dict[int, Json]]:
        """Attribute specifications by id, by label, points of skeletons among them."""
        labels = self.labels_of(None, task)
        every = [*labels, *(point for label in labels for point in label["sublabels"])]
        return {label["id"]: {each["id"]: each for each in label["attributes"]} for label in every}

    def _parsed(self, given: Json, kind: str, job: int) -> Json:
        specs = self._specs(self.jobs[job]["task_id"])
        for name in ("frame", "label_id"):
            if not isinstance(given.get(name), int):
                raise Refused(400, {kind: [{name: ["This field is required."]}]})
        if given["label_id"] not in specs:
            raise Refused(400, [f"label_id `{given['label_id']}` is invalid"])
        found = {"id": given.get("id"), "frame": given["frame"], "label_id": given["label_id"]}
        found |= {"group": given.get("group") or 0, "source": given.get("source") or "manual"}
        found["attributes"] = self._values(given, specs[given["label_id"]])
        if kind == "shapes":
            found |= _shape(given) | {"score": float(given.get("score", 1.0))}
            found["elements"] = [self._parsed(each, "shapes", job) for each in given.get("elements", [])]
            for each in found["elements"]:
                del each["elements"]
        if kind == "tracks":
            found["shapes"] = [
                {"id": each.get("id"), "frame": each["frame"], **_shape(each)}
                | {"attributes": self._values(each, specs[given["label_id"]])}
                for each in given.get("shapes", [])
            ]
            found["elements"] = [self._parsed(each, "tracks", job) for each in given.get("elements", [])]
            for each in found["elements"]:
                del each["elements"]
        return found

    def _values(self, given: Json, specs: dict[int, Json]) -> list[Json]:
        values = []
        for each in given.get("attributes", []):
            if each.get("spec_id") not in specs:
                raise Refused(400, [f"spec_id `{each.get('spec_id')}` is invalid"])
            if len(str(each["value"]).strip()) > 4096:
                raise Refused(400, [{"value": ["Ensure this field has no more than 4096 characters."]}])
            values.append({"spec_id": each["spec_id"], "value": str(each["value"]).strip()})
        return values


def _shape(given: Json) -> Json:
    kinds = {"rectangle", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"}
    if given.get("type") not in kinds:
        raise Refused(400, {"shapes": [{"type": [f'"{given.get("type")}" is not a valid choice.']}]})
    turn = given.get("rotation", 0)
    if not 0 <= turn <= 360:
        raise Refused(400, {"shapes": [{"rotation": ["Ensure this value is less than or equal to 360."]}]})
    points = [] if given["type"] == "skeleton" else given.get("points", [])
    if any(type(value) not in (int, float) for value in points):
        raise Refused(400, {"shapes": [{"points": ["Value must be a float or an integer"]}]})
    shape = {"type": given["type"], "points": [float(value) for value in points], "rotation": float(turn)}
    return shape | {
        "occluded": bool(given.get("occluded")),
        "outside": bool(given.get("outside")),
        "z_order": int(given.get("z_order") or 0),
    }


def _extend(values: list[Json], specs: Iterable[Json]) -> None:
    known = {each["spec_id"] for each in values}
    values += [{"spec_id": each["id"], "value": each["default_value"]} for each in specs if each["id"] not in known]


def _each(data: Json) -> Iterator[Json]:
    for kind in KINDS:
        for annotation in data[kind]:
            yield annotation
            yield from annotation.get("elements", [])
