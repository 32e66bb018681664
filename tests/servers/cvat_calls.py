"""The REST calls that the stand-in for a CVAT server answers, with replies in the shapes of CVAT's OpenAPI document."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cvat_sdk.api_client import Configuration, models
from cvat_sdk.api_client.exceptions import OpenApiException
from cvat_sdk.api_client.model_utils import validate_and_convert_types

from tests.servers.cvat_model import Json, Model, Refused

_LEVEL = logging.getLogger("urllib3").level
_SDK = Configuration()  # makes that logger silent, for every client in the process
logging.getLogger("urllib3").setLevel(_LEVEL)


@dataclass
class Asked:
    """A request, taken apart."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes

    def json(self, schema: str) -> Json:
        """The JSON object that was sent, if it is what the OpenAPI document asks for.

        Args:
            schema: Name of the SDK's model of it.
        """
        try:
            found = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refused(400, {"detail": f"JSON parse error - {error}"}) from None
        if not isinstance(found, dict):
            raise Refused(400, {"non_field_errors": ["Invalid data. Expected a dictionary."]})
        try:
            validate_and_convert_types(found, (getattr(models, schema),), [schema], True, True, _SDK)
        except (OpenApiException, TypeError) as error:
            raise Refused(400, {"detail": str(error)}) from None
        return found


@dataclass
class Reply:
    """What is sent back."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Model, Asked, list[int]], Any]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
"""Every call that is known: its method, the pattern of its path, and what answers it."""


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Register a handler; each ``#`` of the pattern is a number."""

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(pattern.replace("#", r"(\d+)")), handler))
        return handler

    return register


def get(things: dict[int, Json], number: int) -> Json:
    """One of the things by its id, else 404."""
    if number not in things:
        raise Refused(404, {"detail": "Not found."})
    return things[number]


def page(asked: Asked, model: Model, found: Iterable[Json]) -> Json:
    """A page of a list."""
    size, page = int(asked.query.get("page_size", 10)), int(asked.query.get("page", 1))
    listed = sorted(found, key=lambda each: each["id"], reverse=asked.query.get("sort") != "id")
    part = listed[(page - 1) * size : page * size]
    if page > 1 and not part:
        raise Refused(404, {"detail": "Invalid page."})
    more = f"{model.url}{asked.path}?page={page + 1}&page_size={size}" if len(listed) > page * size else None
    return {"count": len(listed), "next": more, "previous": None, "results": part}


def matches(asked: Asked, **values: Any) -> bool:
    """Whether a thing has what the query asks for."""
    return all(asked.query.get(name, str(value)) == str(value) for name, value in values.items())


def organization(model: Model, asked: Asked) -> int | None:
    """The organization that a request is about, which it may name in one way only, as CVAT's published source has it."""
    header, slug, number = asked.headers.get("X-Organization"), asked.query.get("org"), asked.query.get("org_id")
    if number is not None and (header is not None or slug is not None):
        raise Refused(400, ['You cannot specify "org_id" together with "org" or "X-Organization".'])
    if number is not None:
        return int(number)
    name = slug if slug is not None else header
    if not name:
        return None
    if name not in model.organizations:
        raise Refused(404, {"detail": "Organization not found."})
    return model.organizations[name]


def visible(model: Model, asked: Asked, found: Iterable[Json]) -> list[Json]:
    """What is of the organization that the request is about; everything where it names none."""
    number = organization(model, asked)
    return [each for each in found if number is None or each["organization"] == number]


# -------------------------------------------------------------------------------------------------------------- projects


def _project(model: Model, found: Json) -> Json:
    tasks = [each for each in model.tasks.values() if each["project_id"] == found["id"]]
    return {
        **found,
        "url": f"{model.url}/api/projects/{found['id']}",
        "owner": model.owner(),
        "assignee": None,
        "guide_id": None,
        "task_subsets": sorted({each["subset"] for each in tasks} - {""}),
        "status": "annotation",
        "dimension": "2d" if tasks else None,
        "organization_id": found["organization"],
        "target_storage": None,
        "source_storage": None,
        "tasks": {"count": len(tasks), "url": f"{model.url}/api/tasks?project_id={found['id']}"},
        "labels": {"url": f"{model.url}/api/labels?project_id={found['id']}"},
        "assignee_updated_date": None,
    }


@route("GET", "/api/server/about")
def _about(model: Model, asked: Asked, ids: list[int]) -> Json:
    return {"name": "stand-in", "description": "", "version": "2.80.0", "logo_url": "", "subtitle": ""}


@route("POST", "/api/projects")
def _make_project(model: Model, asked: Asked, ids: list[int]) -> Json:
    return _project(model, model.make_project(asked.json("ProjectWriteRequest"), organization(model, asked)))


@route("GET", "/api/projects")
def _list_projects(model: Model, asked: Asked, ids: list[int]) -> Json:
    return page(asked, model, [_project(model, each) for each in visible(model, asked, model.projects.values())])


@route("GET", "/api/projects/#")
def _see_project(model: Model, asked: Asked, ids: list[int]) -> Json:
    return _project(model, get(model.projects, ids[0]))


@route("PATCH", "/api/projects/#")
def _change_project(model: Model, asked: Asked, ids: list[int]) -> Json:
    found, spec = get(model.projects, ids[0]), asked.json("PatchedProjectWriteRequest")
    model.set_labels(spec.get("labels", []), project=ids[0])
    found |= {name: spec[name] for name in ("name", "bug_tracker") if name in spec}
    found["updated_date"] = model.now()
    return _project(model, found)


@route("DELETE", "/api/projects/#")
def _remove_project(model: Model, asked: Asked, ids: list[int]) -> Reply:
    get(model.projects, ids[0])
    del model.projects[ids[0]]
    for task in [each["id"] for each in model.tasks.values() if each["project_id"] == ids[0]]:
        model.remove_task(task)
    return Reply(204)


@route("GET", "/api/labels")
def _list_labels(model: Model, asked: Asked, ids: list[int]) -> Json:
    task = asked.query.get("task_id")
    if "job_id" in asked.query:
        task = str(get(model.jobs, int(asked.query["job_id"]))["task_id"])
    project = asked.query.get("project_id")
    number = None if project is None else int(project)
    return page(asked, model, model.labels_of(number, None if task is None else int(task)))


# ----------------------------------------------------------------------------------------------------------------- tasks


def _task(model: Model, found: Json) -> Json:
    number = found["id"]
    jobs, project = model.jobs_of(number), model.projects.get(found["project_id"] or 0)
    frames = model.frames.get(number, [])
    return {
        **{name: value for name, value in found.items() if name != "replicas"},
        "url": f"{model.url}/api/tasks/{number}",
        "project_name": None if project is None else project["name"],
        "owner": model.owner(),
        "assignee": None,
        "overlap": found["overlap"] or 0,
        "initial_replicas": found["replicas"],
        "status": "annotation",
        "data_chunk_size": 36 if frames else None,
        "data_compressed_chunk_type": "imageset",
        "data_original_chunk_type": "imageset",
        "data_cloud_storage_id": None,
        "guide_id": None,
        "size": len(frames),
        "image_quality": 95,
        "data": number if frames else None,
        "dimension": "2d",
        "mode": "annotation" if frames else "",
        "media_type": "image",
        "organization_id": found["organization"],
        "target_storage": None,
        "source_storage": None,
        "assignee_updated_date": None,
        "validation_mode": "gt_pool" if number in model.layouts else None,
        "jobs": {"count": len(jobs), "completed": 0, "validation": 0, "url": f"{model.url}/api/jobs?task_id={number}"},
        "labels": {"url": f"{model.url}/api/labels?task_id={number}"},
    }


@route("POST", "/api/tasks")
def _make_task(model: Model, asked: Asked, ids: list[int]) -> Json:
    return _task(model, model.make_task(asked.json("TaskWriteRequest"), organization(model, asked)))


@route("GET", "/api/tasks")
def _list_tasks(model: Model, asked: Asked, ids: list[int]) -> Json:
    every = [_task(model, each) for each in visible(model, asked, model.tasks.values())]
    return page(
        asked, model, [each for each in every if matches(asked, project_id=each["project_id"], name=each["name"])]
    )


@route("GET", "/api/tasks/#")
def _see_task(model: Model, asked: Asked, ids: list[int]) -> Json:
    return _task(model, get(model.tasks, ids[0]))


@route("PATCH", "/api/tasks/#")
def _change_task(model: Model, asked: Asked, ids: list[int]) -> Json:
    found, spec = get(model.tasks, ids[0]), asked.json("PatchedTaskWriteRequest")
    model.set_labels(spec.get("labels", []), task=ids[0])
    found |= {name: spec[name] for name in ("name", "subset", "bug_tracker") if name in spec}
    model.touch(ids[0])
    return _task(model, found)


@route("DELETE", "/api/tasks/#")
def _remove_task(model: Model, asked: Asked, ids: list[int]) -> Reply:
    get(model.tasks, ids[0])
    model.remove_task(ids[0])
    return Reply(204)


@route("GET", "/api/tasks/#/data/meta")
def _see_frames(model: Model, asked: Asked, ids: list[int]) -> Json:
    get(model.tasks, ids[0])
    return _meta(model, ids[0])


def _meta(model: Model, task: int, included: list[int] | None = None) -> Json:
    frames = [meta for meta, _ in model.frames.get(task, [])]
    return {
        "chunks_updated_date": model.tasks[task]["created_date"],
        "frames": frames,
        "deleted_frames": model.deleted.get(task, []),
        "chapters": None,
        "chunk_size": 36,
        "size": len(frames),
        "image_quality": 95,
        "start_frame": 0,
        "stop_frame": max(0, len(frames) - 1),
        "frame_filter": "",
        "included_frames": included,
        "storage": "local",
        "cloud_storage_id": None,
    }


@route("PATCH", "/api/tasks/#/data/meta")
def _delete_frames(model: Model, asked: Asked, ids: list[int]) -> Json:
    get(model.tasks, ids[0])
    model.deleted[ids[0]] = asked.json("PatchedDataMetaWriteRequest")["deleted_frames"]
    return _meta(model, ids[0])


@route("GET", "/api/tasks/#/data/")
def _see_frame(model: Model, asked: Asked, ids: list[int]) -> Reply:
    frames = model.frames.get(ids[0], [])
    number = int(asked.query.get("number", -1))
    if asked.query.get("type") != "frame" or not 0 <= number < len(frames):
        raise Refused(400, "Incorrect requested frame number")
    return Reply(200, model.frame(ids[0], number))


@route("GET", "/api/tasks/#/validation_layout")
def _see_layout(model: Model, asked: Asked, ids: list[int]) -> Json:
    get(model.tasks, ids[0])
    return model.layouts.get(ids[0], {"mode": None})


# ------------------------------------------------------------------------------------------- jobs, annotations, issues


def _job(model: Model, found: Json) -> Json:
    number, task = found["id"], model.tasks[found["task_id"]]
    project = model.projects.get(task["project_id"] or 0)
    issues = [each for each in model.issues.values() if each["job"] == number]
    count = len(found["frames"]) if found["frames"] is not None else found["stop_frame"] - found["start_frame"] + 1
    return {
        **{name: value for name, value in found.items() if name != "frames"},
        "url": f"{model.url}/api/jobs/{number}",
        "task_name": task["name"],
        "project_id": task["project_id"],
        "project_name": None if project is None else project["name"],
        "guide_id": None,
        "dimension": "2d",
        "mode": "annotation",
        "media_type": "image",
        "bug_tracker": None,
        "status": "annotation",
        "frame_count": count,
        "data_chunk_size": 36,
        "data_compressed_chunk_type": "imageset",
        "data_original_chunk_type": "imageset",
        "organization": task["organization"],
        "target_storage": None,
        "source_storage": None,
        "assignee_updated_date": None,
        "replicas_count": task["replicas"] if found["type"] == "annotation" else 0,
        "issues": {"count": len(issues), "url": f"{model.url}/api/issues?job_id={number}"},
        "labels": {"url": f"{model.url}/api/labels?job_id={number}"},
    }


@route("GET", "/api/jobs")
def _list_jobs(model: Model, asked: Asked, ids: list[int]) -> Json:
    every = visible(model, asked, [_job(model, each) for each in model.jobs.values()])
    names = ("task_id", "project_id", "type")
    return page(asked, model, [each for each in every if matches(asked, **{name: each[name] for name in names})])


@route("POST", "/api/jobs")
def _make_job(model: Model, asked: Asked, ids: list[int]) -> Json:
    spec = asked.json("JobWriteRequest")
    size = len(model.frames.get(get(model.tasks, spec["task_id"])["id"], []))
    if spec.get("type") != "ground_truth" or not set(spec["frames"]) <= set(range(size)):
        raise Refused(400, {"frames": ["The following frames are not included in the task"]})
    return _job(model, model.make_job(spec["task_id"], "ground_truth", 0, size - 1, spec["frames"]))


@route("GET", "/api/jobs/#")
def _see_job(model: Model, asked: Asked, ids: list[int]) -> Json:
    return _job(model, get(model.jobs, ids[0]))


@route("GET", "/api/jobs/#/data/meta")
def _see_job_frames(model: Model, asked: Asked, ids: list[int]) -> Json:
    found = get(model.jobs, ids[0])
    return _meta(model, found["task_id"], found["frames"])


@route("PATCH", "/api/jobs/#")
def _change_job(model: Model, asked: Asked, ids: list[int]) -> Json:
    found, spec = get(model.jobs, ids[0]), asked.json("PatchedJobWriteRequest")
    stage = spec.get("stage", found["stage"])
    found["state"] = spec.get("state", "new" if stage != found["stage"] else found["state"])
    found["stage"] = stage
    if "assignee" in spec:
        found["assignee"] = None if spec["assignee"] is None else model.owner()
    model.touch(found["task_id"], ids[0])
    return _job(model, found)


@route("GET", "/api/jobs/#/annotations/")
def _see_annotations(model: Model, asked: Asked, ids: list[int]) -> Json:
    return model.data_of(get(model.jobs, ids[0])["id"])


@route("PUT", "/api/jobs/#/annotations/")
def _put_annotations(model: Model, asked: Asked, ids: list[int]) -> Json:
    return model.patch(get(model.jobs, ids[0])["id"], "put", asked.json("LabeledDataRequest"))


@route("PATCH", "/api/jobs/#/annotations/")
def _patch_annotations(model: Model, asked: Asked, ids: list[int]) -> Json:
    action = asked.query.get("action", "")
    if action not in {"create", "update", "delete"}:
        raise Refused(400, "Please specify a correct 'action' for the request")
    return model.patch(get(model.jobs, ids[0])["id"], action, asked.json("PatchedLabeledDataRequest"))


def _issue(model: Model, found: Json) -> Json:
    comments = [each for each in model.comments.values() if each["issue"] == found["id"]]
    return {**found, "comments": {"count": len(comments), "url": f"{model.url}/api/comments?issue_id={found['id']}"}}


@route("POST", "/api/issues")
def _make_issue(model: Model, asked: Asked, ids: list[int]) -> Json:
    spec = asked.json("IssueWriteRequest")
    missing = {"frame", "position", "job", "message"} - spec.keys()
    if missing or not spec["position"] or not spec["message"]:
        raise Refused(400, {name: ["This field is required."] for name in missing or {"message"}})
    get(model.jobs, spec["job"])
    number, moment = model.new_id(), model.now()
    found = {"id": number, "frame": spec["frame"], "job": spec["job"], "position": spec["position"], "resolved": False}
    model.issues[number] = found | {"owner": model.owner(), "assignee": None}
    model.issues[number] |= {"created_date": moment, "updated_date": moment}
    _comment(model, number, spec["message"])
    return _issue(model, model.issues[number])


@route("GET", "/api/issues")
def _list_issues(model: Model, asked: Asked, ids: list[int]) -> Json:
    found = [each for each in model.issues.values() if matches(asked, job_id=each["job"])]
    return page(asked, model, [_issue(model, each) for each in found])


@route("GET", "/api/issues/#")
def _see_issue(model: Model, asked: Asked, ids: list[int]) -> Json:
    return _issue(model, get(model.issues, ids[0]))


@route("PATCH", "/api/issues/#")
def _change_issue(model: Model, asked: Asked, ids: list[int]) -> Json:
    found = get(model.issues, ids[0])
    found |= {
        name: value
        for name, value in asked.json("PatchedIssueWriteRequest").items()
        if name in {"resolved", "position"}
    }
    found["updated_date"] = model.now()
    return _issue(model, found)


def _comment(model: Model, issue: int, message: str) -> Json:
    number, moment = model.new_id(), model.now()
    model.comments[number] = {"id": number, "issue": issue, "owner": model.owner(), "message": message}
    model.comments[number] |= {"created_date": moment, "updated_date": moment}
    return model.comments[number]


@route("POST", "/api/comments")
def _make_comment(model: Model, asked: Asked, ids: list[int]) -> Json:
    spec = asked.json("CommentWriteRequest")
    return _comment(model, get(model.issues, spec["issue"])["id"], spec["message"])


@route("GET", "/api/comments")
def _list_comments(model: Model, asked: Asked, ids: list[int]) -> Json:
    found = [
        each
        for each in model.comments.values()
        if matches(asked, job_id=model.issues[each["issue"]]["job"], issue_id=each["issue"])
    ]
    return page(asked, model, found)
