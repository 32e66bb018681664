"""A stand-in for Roboflow's service, in memory, for tests: no part of it is Roboflow's.

It answers the requests of the package ``roboflow`` 1.7.3 (which was run against it by hand: workspace, project, upload,
annotate, search, image, tags and metadata, batches, jobs, version download) and refuses all others with 404. Facts that it
follows, from that package, the documentation, and what users of the service have written down:

- every request carries ``api_key`` in its query, 401 without the right one; files lie on another host, which needs none
- an upload of bytes that the workspace has is answered by ``duplicate`` and the id of the image that has them; its tags and
  metadata are not taken
- annotations have no ids; boxes are told by their centre, and numbers as texts; ``points`` is an outline
- annotating an annotated image is 409 "Image was already annotated." unless ``overwrite=true`` is said
- ``annotations`` in a search is a list where nobody has annotated, else counts of classes
- a search's pages may repeat and leave out images; an image may be unknown shortly after its upload
- tags are 1 to 64 of certain characters; texts in metadata that look like numbers become numbers
- an export answers 202 while it is made; it has several copies of an image, named ``<stem>_<ext>.rf.<hash>.jpg``

`Service.fail` makes requests fail: 429, 500, the connection cut before the request is carried out, or after it, or in the
middle of the reply.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image as Picture

from tests.servers.roboflow_files import Image, boxes_of, export

KEY = "rf-test-0123456789abcdef"
WORKSPACE = "acme"

Failure = Literal["429", "500", "cut", "lost", "truncated"]
_TAG = re.compile(r"[A-Za-z0-9\-_:/.\[\]<>{}@]{1,64}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE]-?\d+)?")
Reply = tuple[int, Any]


@dataclass
class Project:
    """A project; versions are zip files by number and format."""

    slug: str
    name: str
    type: str
    annotation: str
    images: dict[str, Image] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    exports_made_after: int = 0


@dataclass
class Service:
    """The service's state, and what tests do to it."""

    projects: dict[str, Project] = field(default_factory=dict)
    base: str = ""
    files: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    file_requests: list[str] = field(default_factory=list)
    failures: list[tuple[re.Pattern[str], Failure]] = field(default_factory=list)
    spared: int = 0
    redirects: dict[str, str] = field(default_factory=dict)
    unsteady: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    _count: int = 0

    def add_project(self, slug: str, kind: str = "object-detection") -> Project:
        """Make a project."""
        self.projects[slug] = Project(slug, slug.title(), kind, f"group-{slug}")
        return self.projects[slug]

    def fail(self, pattern: str, *failures: Failure, after: int = 0) -> None:
        """Make requests whose 'METHOD /path' matches fail, one after the other, when so many requests went well."""
        self.failures += [(re.compile(pattern), failure) for failure in failures]
        self.spared = after

    def failure_of(self, request: str) -> Failure | None:
        """The failure that a request meets; it is used up."""
        if self.spared > 0:
            self.spared -= 1
            return None
        for number, (pattern, failure) in enumerate(self.failures):
            if pattern.search(request):
                del self.failures[number]
                return failure
        return None

    def put(self, project: str, name: str, content: bytes, **values: Any) -> Image:
        """An image that a person uploaded."""
        with Picture.open(io.BytesIO(content)) as picture:
            size = picture.size
        self._count += 1
        image = Image(f"img{self._count:017d}", name, content, size, 1_700_000_000_000 + self._count, **values)
        self.projects[project].images[image.id] = image
        return image

    def freeze(self, project: str, *, copies: int = 2, kinds: tuple[str, ...] = ("coco", "coco-segmentation")) -> str:
        """Make a version of the images in the dataset; its number."""
        owner = self.projects[project]
        content = export([image for image in owner.images.values() if image.accepted], copies)
        number = str(len(owner.versions) + 1)
        owner.versions[number] = dict.fromkeys(kinds, content)
        return number

    def count(self, pattern: str) -> int:
        """How many requests 'METHOD /path' matched so far."""
        return sum(re.search(pattern, f"{method} {path}") is not None for method, path in self.requests)


@contextmanager
def running() -> Iterator[Service]:
    """The service on two ports of this machine: the API, and the host of its files."""
    service = Service()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(service, answer)) for answer in (_api, _file)]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in servers]
    service.base, service.files = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for thread in threads:
        thread.start()
    try:
        yield service
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body or b"{}"))

    def one(self, name: str) -> str:
        return self.query.get(name, [""])[0]


def _handler(service: Service, answer: Callable[[Service, _Request], Reply]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each reply's body waits for its head to be acknowledged, 40 ms

        def log_message(self, *_: Any) -> None:
            pass

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = _Request(self.command, unquote(parts.path), parse_qs(parts.query), self.headers, body)
            failure = service.failure_of(f"{request.method} {request.path}")
            if failure == "cut":
                self.close_connection = True
                return
            if failure in ("429", "500"):
                self.send(int(failure), {"error": "try again"}, {"Retry-After": "0"} if failure == "429" else {})
                return
            with service.lock:
                status, reply = answer(service, request)
            if failure == "lost":
                self.close_connection = True
                return
            self.send(status, reply, {}, part=0.5 if failure == "truncated" else 1.0)

        def send(self, status: int, reply: Any, headers: dict[str, str], *, part: float = 1.0) -> None:
            content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            if status in (301, 302):
                self.send_header("Location", reply["location"])
            self.end_headers()
            self.wfile.write(content[: int(len(content) * part)])
            self.close_connection = self.close_connection or part < 1

        def do_GET(self) -> None:
            self.handle_any()

        def do_POST(self) -> None:
            self.handle_any()

    return Handler


def _file(service: Service, request: _Request) -> Reply:
    """The host of the files: images as they were uploaded, and exports."""
    service.file_requests.append(f"{request.path}?{request.query}")
    kind, *rest = request.path.strip("/").split("/")
    for project in service.projects.values():
        if kind == "images" and rest[0] in project.images:
            return 200, project.images[rest[0]].content
        if kind == "exports" and rest[0] == project.slug:
            return 200, project.versions[rest[1]][rest[2]]
    return 404, {"error": "no such file"}


def _api(service: Service, request: _Request) -> Reply:
    service.requests.append((request.method, request.path))
    if request.path in service.redirects:
        return 302, {"location": service.redirects[request.path]}
    if request.one("api_key") != KEY:
        return 401, {
            "error": {"message": "This API key does not exist (or has been revoked).", "key": request.one("api_key")}
        }
    for method, pattern, answer in _ROUTES:
        match = re.fullmatch(pattern, request.path)
        if match is not None and method == request.method:
            project = service.projects.get(match.groupdict().get("project", ""))
            if "project" in match.groupdict() and project is None:
                return 404, {"error": "Unsupported request: no such project"}
            return answer(service, project, request, match.groupdict())
    return 404, {"error": f"no such endpoint: {request.method} {request.path}"}


def _root(service: Service, _: Any, request: _Request, names: dict[str, str]) -> Reply:
    return 200, {"workspace": WORKSPACE, "welcome": "a stand-in"}


def _workspace(service: Service, _: Any, request: _Request, names: dict[str, str]) -> Reply:
    projects = [_said(project) for project in service.projects.values()]
    return 200, {"workspace": {"name": "Acme", "url": WORKSPACE, "members": 1, "projects": projects}}


def _create_project(service: Service, _: Any, request: _Request, names: dict[str, str]) -> Reply:
    said = request.json()
    if not all(said.get(key) for key in ("name", "type", "license", "annotation")):
        return 400, {"error": "name, type, license and annotation are needed"}
    if not re.fullmatch(r"[A-Za-z0-9 -]+", said["annotation"]):
        return 400, {"error": "annotation must be alphanumeric"}
    slug = re.sub(r"[^a-z0-9]+", "-", said["name"].lower()).strip("-")
    while slug in service.projects:
        slug += "-x"
    service.projects[slug] = Project(slug, said["name"], said["type"], said["annotation"])
    return 200, _said(service.projects[slug])


def _project(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    versions = [_version_said(project, number) for number in reversed(project.versions)]
    return 200, {"workspace": {"url": WORKSPACE}, "project": _said(project), "versions": versions}


def _said(project: Project) -> dict[str, Any]:
    classes = Counter(box["label"] for image in project.images.values() for box in image.boxes or ())
    return {
        "id": f"{WORKSPACE}/{project.slug}",
        "type": project.type,
        "name": project.name,
        "created": 1_700_000_000.5,
        "updated": 1_700_000_000.5,
        "images": len(project.images),
        "unannotated": sum(image.boxes is None for image in project.images.values()),
        "annotation": project.annotation,
        "versions": len(project.versions),
        "public": False,
        "splits": Counter(image.split for image in project.images.values()),
        "colors": {name: f"#{hashlib.md5(name.encode()).hexdigest()[:6]}" for name in classes},
        "classes": classes,
    }


def _version_said(project: Project, number: str) -> dict[str, Any]:
    return {
        "id": f"{WORKSPACE}/{project.slug}/{number}",
        "name": f"v{number}",
        "created": 1_700_000_000.5,
        "images": len(project.images),
        "splits": {},
        "preprocessing": {},
        "augmentation": {},
        "exports": [],
        "generating": False,
        "progress": 1,
    }


def _version(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    if names["version"] not in project.versions:
        return 404, {"error": "no such version"}
    return 200, {"version": _version_said(project, names["version"])}


def _export_of(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    if names["format"] not in project.versions.get(names["version"], {}):
        return 404, {"error": "no such version or format"}
    if project.exports_made_after > 0:
        project.exports_made_after -= 1
        return 202, {"progress": 0.5}
    link = f"{service.files}/exports/{project.slug}/{names['version']}/{names['format']}?signature=s3cr3t"
    return 200, {"export": {"format": names["format"], "link": link}}


def _upload(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    form = _form(request)
    name, content = form["name"].decode(), form["file"]
    tags = request.query.get("tag", [])
    invalid = [tag for tag in tags if not _TAG.fullmatch(tag)]
    if invalid:
        return 400, {"error": {"message": "Invalid tag", "invalid": invalid[0]}}
    for other in service.projects.values():
        for image in other.images.values():
            if image.content == content:
                return 200, {"duplicate": True, "id": image.id}
    image = service.put(
        project.slug,
        name,
        content,
        split=form.get("split", b"train").decode(),
        batch=request.one("batch"),
        tags=list(tags),
        metadata=_typed(json.loads(form.get("metadata", b"{}"))),
    )
    batch = project.batches.setdefault(
        image.batch, {"id": f"batch{len(project.batches)}", "name": image.batch, "numJobs": 0, "images": 0}
    )
    batch["images"] += 1
    return 200, {"success": True, "id": image.id}


def _annotate(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    image = project.images.get(names["image"])
    if image is None or image.unknown_for > 0:
        if image is not None:
            image.unknown_for -= 1
        return 404, {"error": {"message": "image not found"}}
    if (image.boxes is not None or image.labels) and request.one("overwrite") != "true":
        message = {"message": "Image was already annotated.", "type": "InvalidImageException"}
        return 409, {
            "error": message | {"hint": "to overwrite the annotation, pass overwrite=true as a query parameter."}
        }
    file = request.json()["annotationFile"]
    if project.type.endswith("classification"):
        image.labels = json.loads(file) if file.startswith("[") else [file]
        image.boxes = []
    elif request.one("name").endswith(".coco.json"):
        image.boxes = boxes_of(json.loads(file))
    else:
        return 400, {"error": {"message": "Unrecognized annotation format"}}
    if request.one("prediction") != "true" and request.one("addToDataset") != "false":
        image.accepted = True
    return 200, {"success": True}


def _search(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    said = request.json()
    found = [image for image in project.images.values() if image.accepted or not said.get("in_dataset")]
    found = [image for image in found if said.get("tag") is None or said["tag"] in image.tags]
    total, start, limit = len(found), said.get("offset", 0), min(said.get("limit", 50), 250)
    if service.unsteady > 0 and found:
        service.unsteady -= 1
        found = [*found[:1], *found[:-1]]
    fields = set(said.get("fields", ("id", "created"))) | {"id"}
    results = [
        {key: value for key, value in _listed(image).items() if key in fields} for image in found[start : start + limit]
    ]
    return 200, {"offset": start, "total": total, "results": results}


def _listed(image: Image) -> dict[str, Any]:
    classes = Counter(box["label"] for box in image.boxes or ())
    return {
        "id": image.id,
        "name": image.name,
        "created": image.created,
        "annotations": [] if image.boxes is None else {"count": len(image.boxes), "classes": classes},
        "labels": image.labels,
        "split": image.split,
        "tags": image.tags,
        "user_metadata": image.metadata,
    }


def _image(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    image = project.images.get(names["image"])
    if image is None:
        return 404, {"error": "image not found"}
    said = {key: value for key, value in _listed(image).items() if key not in ("annotations", "user_metadata")}
    if image.boxes is None:
        said["annotation"] = []
    else:
        width, height = image.size
        said["annotation"] = {"key": image.name, "width": width, "height": height, "boxes": image.boxes}
    urls = {kind: f"{service.files}/images/{image.id}/{kind}.jpg" for kind in ("original", "thumb", "annotation")}
    return 200, {"image": said | {"metadata": image.metadata, "urls": urls}}


def _metadata(service: Service, _: Any, request: _Request, names: dict[str, str]) -> Reply:
    image = next(
        (each.images[names["image"]] for each in service.projects.values() if names["image"] in each.images), None
    )
    if image is None:
        return 404, {"error": "image not found"}
    said = request.json()
    if not said or set(said) - {"metadata", "removeMetadata", "addTags", "removeTags"}:
        return 400, {"error": "nothing to do, or unknown fields"}
    add, remove = said.get("addTags", []), said.get("removeTags", [])
    if set(add) & set(remove) or not all(_TAG.fullmatch(tag) for tag in add):
        return 400, {"error": {"message": "Invalid tag"}}
    image.metadata |= _typed(said.get("metadata", {}))
    image.tags = [tag for tag in dict.fromkeys([*image.tags, *add]) if tag not in remove]
    return 200, {"success": True}


def _batches(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    return 200, {"batches": list(project.batches.values())}


def _jobs(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    return 200, {"jobs": project.jobs}


def _create_job(service: Service, project: Project, request: _Request, names: dict[str, str]) -> Reply:
    said = request.json()
    batch = next((each for each in project.batches.values() if each["id"] == said.get("batch")), None)
    if batch is None or not said.get("labelerEmail") or not said.get("reviewerEmail"):
        return 400, {"error": "batch, labelerEmail and reviewerEmail are needed"}
    batch["numJobs"] += 1
    job = {
        "id": f"job{len(project.jobs)}",
        "name": said["name"],
        "numImages": said["num_images"],
        "labeler": said["labelerEmail"],
        "reviewer": said["reviewerEmail"],
        "sourceBatch": f"{project.slug}/{batch['id']}",
        "status": "assigned",
    }
    project.jobs.append(job)
    return 200, job


_P = r"/acme/(?P<project>[^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., Reply]]] = [
    ("POST", r"/", _root),
    ("GET", r"/", _root),
    ("GET", r"/acme", _workspace),
    ("POST", r"/acme/projects", _create_project),
    ("POST", r"/acme/images/(?P<image>[^/]+)/metadata", _metadata),
    ("POST", r"/dataset/(?P<project>[^/]+)/upload", _upload),
    ("POST", r"/dataset/(?P<project>[^/]+)/annotate/(?P<image>[^/]+)", _annotate),
    ("POST", rf"{_P}/search", _search),
    ("GET", rf"{_P}/images/(?P<image>[^/]+)", _image),
    ("GET", rf"{_P}/batches", _batches),
    ("GET", rf"{_P}/jobs", _jobs),
    ("POST", rf"{_P}/jobs", _create_job),
    ("GET", _P, _project),
    ("GET", rf"{_P}/(?P<version>\d+)", _version),
    ("GET", rf"{_P}/(?P<version>\d+)/(?P<format>[^/]+)", _export_of),
]


def _form(request: _Request) -> dict[str, bytes]:
    """The parts of a multipart body."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    return {
        str(part.get_param("name", header="content-disposition")): bytes(part.get_payload(decode=True) or b"")
        for part in message.iter_parts()
    }


def _typed(metadata: dict[str, Any]) -> dict[str, Any]:
    """What looks like a number or a truth value becomes one."""
    return {
        key: json.loads(value)
        if isinstance(value, str)
        and (_NUMBER.fullmatch(value) or value in ("true", "false"))
        and not value.startswith("0")
        else value
        for key, value in metadata.items()
    }
