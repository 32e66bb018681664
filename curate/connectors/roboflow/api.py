"""The requests of Roboflow's REST API, as its own package sends them, and what the service does that no page tells.

- Searching by pages is not steady: one pass repeats some images and leaves others out, while the index catches up. Passes are
  repeated until as many different images were seen as the service counts.
- An image that was just uploaded may be unknown for a moment to the requests that follow.
- Texts in metadata that look like numbers become numbers: ids have a word before them (`text_id`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote

from curate.connectors.http import TRIES, Http, Part, RefusedError, UncertainError
from curate.errors import InputError, UnavailableError
from curate.formats.values import mapping, number, sequence, text

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE: Final = 4
_PAGE: Final = 250
_PASSES: Final = 8
_ASKED: Final = 6


class Api:
    """A workspace.

    Args:
        http: Its server, with the api_key.
        workspace: Its name in addresses.
        pause: Seconds to wait for what the service does in its own time; doubled each time.
    """

    def __init__(self, http: Http, workspace: str, *, pause: float) -> None:
        self._http = http
        self._workspace = quote(workspace, safe="")
        self.pause = pause

    def projects(self) -> list[dict[str, Any]]:
        """The workspace's projects."""
        with self._there("workspace"):
            reply = mapping(self._http.get(f"/{self._workspace}"))
        return [mapping(each) for each in sequence(mapping(reply.get("workspace")).get("projects"))]

    def project(self, project: str) -> dict[str, Any]:
        """What the service says of a project."""
        with self._there("project", project):
            reply = mapping(self._http.get(self._path(project)))
        found = mapping(reply.get("project"))
        if not found:
            raise self._missing("project", project)
        return found

    def create_project(self, body: Mapping[str, str], find: Callable[[], str | None]) -> str:
        """Make a project, once; 'workspace/project'."""
        path = f"/{self._workspace}/projects"
        return self._http.create(path, find=find, made=lambda reply: text(mapping(reply).get("id")), body=dict(body))

    def images(self, project: str, **filters: object) -> list[str]:
        """Ids of a project's images, the oldest first.

        Raises:
            UnavailableError: The search never listed all that it counts.
            InputError: There is no such project.
        """
        found: dict[str, float] = {}
        total = 0
        for attempt in range(_PASSES):
            if attempt:
                time.sleep(min(self.pause * 2**attempt, 10.0))
            offset, total = 0, 0
            while True:
                body = {"offset": offset, "limit": _PAGE, "fields": ["id", "created"], **filters}
                with self._there("project", project):
                    page = self._post(self._path(project, "search"), body=body)
                results = [mapping(each) for each in sequence(page.get("results"))]
                found |= {str(each["id"]): number(each.get("created")) or 0.0 for each in results if "id" in each}
                offset += len(results)
                total = max(total, int(number(page.get("total")) or 0))
                if not results or offset >= total:
                    break
            if len(found) >= total:
                return sorted(found, key=lambda key: (found[key], key))
        raise UnavailableError(
            f"the service's search lists {len(found)} of {total} images",
            where=project,
            remedy="its index is catching up: run the command again in a minute",
        )

    def image(self, project: str, image: str) -> dict[str, Any]:
        """What the service says of an image."""
        reply = mapping(self._http.get(self._path(project, "images", image)))
        return mapping(reply.get("image"))

    def upload(self, project: str, query: Mapping[str, Any], fields: Mapping[str, str], file: Part) -> tuple[str, bool]:
        """Upload an image; its id, and whether the service had its bytes already.

        What has been uploaded by a request whose reply was lost is told as had already by the next one.
        """
        path = f"/dataset/{quote(project, safe='')}/upload"
        reply = self._post(path, query=query, body=fields, parts=[file])
        if not text(reply.get("id")):
            raise InputError(f"the service did not take the image: {str(reply)[:200]}", where=file.name)
        return text(reply.get("id")), bool(reply.get("duplicate"))

    def annotate(self, project: str, image: str, query: Mapping[str, str], file: str) -> bool:
        """Send an annotation file; False if the image has annotations, and `query` does not say to overwrite them."""
        path = f"/dataset/{quote(project, safe='')}/annotate/{quote(image, safe='')}"
        for attempt in range(_ASKED):
            try:
                reply = self._post(path, query=query, body={"annotationFile": file, "labelmap": None})
            except RefusedError as error:
                if error.status in (400, 409) and "already annotated" in error.body:
                    return False
                if error.status != 404 or attempt == _ASKED - 1:
                    raise
                time.sleep(self.pause * 2**attempt)
                continue
            if not reply.get("success"):
                raise InputError(f"the service did not take the annotations: {str(reply)[:200]}", where=image)
            return True
        raise AssertionError("unreachable")

    def update(self, image: str, *, metadata: Mapping[str, str], add: Sequence[str], remove: Sequence[str]) -> None:
        """Set metadata of an image, and put tags on it or take them off; sent again, it changes nothing."""
        body = {"metadata": dict(metadata), "addTags": list(add), "removeTags": list(remove)}
        path = f"/{self._workspace}/images/{quote(image, safe='')}/metadata"
        said = {key: value for key, value in body.items() if value}
        if said:
            self._post(path, body=said)

    def batches(self, project: str) -> list[dict[str, Any]]:
        """The project's batches of uploaded images."""
        reply = mapping(self._http.get(self._path(project, "batches")))
        return [mapping(each) for each in sequence(reply.get("batches"))]

    def jobs(self, project: str) -> list[dict[str, Any]]:
        """The project's annotation jobs."""
        reply = mapping(self._http.get(self._path(project, "jobs")))
        return [mapping(each) for each in sequence(reply.get("jobs"))]

    def create_job(self, project: str, body: Mapping[str, Any]) -> str:
        """Make an annotation job of a batch, once: its name must be like no other's; its id."""

        def find() -> str | None:
            named = (job for job in self.jobs(project) if job.get("name") == body["name"])
            return next((text(job.get("id")) for job in named), None)

        return find() or self._http.create(
            self._path(project, "jobs"), find=find, made=lambda reply: text(mapping(reply).get("id")), body=dict(body)
        )

    def version(self, project: str, version: str) -> dict[str, Any]:
        """What the service says of a version."""
        with self._there("version", project, version):
            reply = mapping(self._http.get(self._path(project, version), {"nocache": "true"}))
        return mapping(reply.get("version"))

    def export(self, project: str, version: str, kind: str) -> str | None:
        """Address of a version's export; None while the service makes it."""
        reply = mapping(self._http.get(self._path(project, version, kind), {"nocache": "true"}))
        return text(mapping(reply.get("export")).get("link")) or None

    def _post(self, path: str, **request: Any) -> dict[str, Any]:
        """A POST that may be sent again after its reply was lost: it reads, or leaves the same behind."""
        for attempt in range(TRIES):
            try:
                return mapping(self._http.post(path, **request))
            except UncertainError:
                if attempt == TRIES - 1:
                    raise
                time.sleep(self.pause * 2**attempt)
        raise AssertionError("unreachable")

    @contextmanager
    def _there(self, kind: str, *names: str) -> Iterator[None]:
        """Say of what a request names that there is no such thing, if that is what the service says."""
        try:
            yield
        except RefusedError as error:
            if error.status != 404:
                raise
            raise self._missing(kind, *names) from None

    def _missing(self, kind: str, *names: str) -> InputError:
        return InputError(
            f"there is no such {kind}",
            where="/".join([f"roboflow://{self._workspace}", *names]),
            remedy="check the address, as it is in the browser, and that the key is one of that workspace",
        )

    def _path(self, *parts: str) -> str:
        return "/" + "/".join([self._workspace, *(quote(part, safe="") for part in parts)])


def text_id(kind: str, value: str) -> str:
    """An id as metadata that stays a text, even if it consists of digits."""
    return f"{kind}-{value}"


def id_of(kind: str, value: object) -> str | None:
    """The inverse of `text_id`; None for anything else."""
    said = text(value)
    return said.removeprefix(f"{kind}-") if said.startswith(f"{kind}-") else None


def at_once(work: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
    """Results in order, with a few requests in flight, and no more things in memory than are being worked on."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(work, thing))
                if len(waiting) >= 2 * AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
