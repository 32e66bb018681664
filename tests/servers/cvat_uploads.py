"""Uploads to the stand-in for a CVAT server, by CVAT's own protocol and TUS, and the work in the background that they start."""

from __future__ import annotations

import base64
import re
import uuid
from email.header import Header
from pathlib import PurePosixPath
from urllib.parse import unquote

from tests.servers.cvat_calls import Asked, Reply, get, matches, page, route
from tests.servers.cvat_model import Json, Model, Refused

_BUSY_LOOKS = 2


@route("POST", "/api/tasks/#/data/")
def _upload(model: Model, asked: Asked, ids: list[int]) -> Reply:
    get(model.tasks, ids[0])
    if model.frames.get(ids[0]):
        raise Refused(400, "Adding more data is not supported")
    files = model.uploads[ids[0]]
    if "Upload-Length" in asked.headers:
        metadata = dict(each.split(" ") for each in asked.headers["Upload-Metadata"].split(","))
        name = PurePosixPath(base64.b64decode(metadata["filename"]).decode()).name
        files[name] = b""
        key = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{ids[0]}/{name}"))
        return Reply(201, None, {"Location": f"{model.url}{asked.path}{key}", "Upload-Filename": _header(name)})
    if "Upload-Multiple" in asked.headers:
        sent = _multipart(asked)
        if len({name for name, _ in sent}) < len(sent):
            raise Refused(500, "<h1>Server Error (500)</h1>")
        for name, content in sent:
            files[name] = files.get(name, b"") + content
        return Reply(200)
    if "Upload-Finish" in asked.headers:
        options = asked.json("DataRequest")
        if "image_quality" not in options:
            raise Refused(400, {"image_quality": ["This field is required."]})
        key = f"action=create&target=task&id={ids[0]}"
        model.requests[key] = {"id": key, "task": ids[0], "options": options, "looks": 0, "created_date": model.now()}
        return Reply(202, {"rq_id": key})
    if "Upload-Start" in asked.headers:
        return Reply(202)
    raise Refused(400, "no upload headers")


@route("PATCH", r"/api/tasks/#/data/[0-9a-f-]{36}")
def _append(model: Model, asked: Asked, ids: list[int]) -> Reply:
    files = model.uploads[ids[0]]
    key = asked.path.rpartition("/")[2]
    name = next((each for each in files if str(uuid.uuid5(uuid.NAMESPACE_URL, f"{ids[0]}/{each}")) == key), None)
    if name is None:
        raise Refused(404, {"detail": "Not found."})
    if int(asked.headers["Upload-Offset"]) != len(files[name]):
        raise Refused(409, None)
    files[name] += asked.body
    return Reply(204, None, {"Upload-Offset": str(len(files[name])), "Upload-Filename": _header(name)})


def _header(name: str) -> str:
    """A text as a header's value, as Django sends it."""
    return name if name.isascii() else Header(name, "utf-8", maxlinelen=10**6).encode()


def _multipart(asked: Asked) -> list[tuple[str, bytes]]:
    """Basenames and contents of the files of a multipart body."""
    boundary = re.search(r"boundary=(\S+)", asked.headers["Content-Type"])
    if boundary is None:
        raise Refused(400, {"detail": "Multipart form parse error - Invalid boundary in multipart: None"})
    files = []
    for part in asked.body.split(b"--" + boundary[1].encode())[1:-1]:
        head, _, content = part[2:-2].partition(b"\r\n\r\n")
        name = re.search(rb'filename="([^"]*)"', head)
        if name is not None:
            files.append((PurePosixPath(name[1].decode()).name, content))
    return files


@route("GET", "/api/requests/([^/]+)")
def _see_request(model: Model, asked: Asked, ids: list[int]) -> Json:
    found = model.requests.get(unquote(asked.path.rpartition("/")[2]))
    if found is None:
        raise Refused(404, {"detail": "Not found."})
    return _request(model, found)


@route("GET", "/api/requests")
def _list_requests(model: Model, asked: Asked, ids: list[int]) -> Json:
    found = [each for each in model.requests.values() if matches(asked, task_id=each["task"])]
    return page(asked, model, [_request(model, each) for each in found if each["task"] in model.tasks])


def _request(model: Model, found: Json) -> Json:
    """Work in the background: queued, then started, then done when it is looked at again."""
    found["looks"] += 1
    if found["looks"] > _BUSY_LOOKS and "state" not in found:
        try:
            model.make_frames(found["task"], found["options"])
            found["state"], found["message"] = "finished", ""
        except ValueError as error:
            found["state"], found["message"] = "failed", f"ValueError: {error}"
    busy = "queued" if found["looks"] < _BUSY_LOOKS else "started"
    return {
        "id": found["id"],
        "status": found.get("state", busy),
        "message": found.get("message", ""),
        "operation": {"type": "create:task", "target": "task", "task_id": found["task"], "project_id": None},
        "created_date": found["created_date"],
        "progress": None,
        "owner": {"id": 1, "username": "admin"},
    }
