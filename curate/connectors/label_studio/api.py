"""The requests that the connector makes of a Label Studio server, as functions of what they are about."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeVar

from curate.connectors.http import ForbiddenError, Http, Part, RefusedError, UncertainError
from curate.errors import InputError, UnavailableError
from curate.formats.values import mapping, sequence, text

K = TypeVar("K")
V = TypeVar("V")

_PAGE: Final = 250
_IDS_OF_A_QUERY: Final = 200
_PROJECTS_OF_A_PAGE: Final = 100
_LOOKS: Final = (0.0, 1.0, 3.0)
_LONGEST_IMPORT: Final = 300.0
_PAUSE: Final = 0.5
_NOT_FOUND: Final = 404
_STATE: Final = ("id", "updated_at", "total_annotations", "cancelled_annotations", "total_predictions", "data", "meta")
_WORK: Final = ("annotations", "predictions", "drafts", "draft_exists", "is_labeled", "inner_id")
# What is asked for of a task is also all that comes of its annotations.
_OF_ANNOTATION: Final = (
    *("result", "completed_by", "was_cancelled", "ground_truth", "created_at", "draft_created_at", "lead_time"),
    *("parent_prediction", "parent_annotation", "import_id", "updated_by"),
)


@dataclass(frozen=True)
class Api:
    """A project on a server.

    Attributes:
        http: The server.
        project: The project's number.
    """

    http: Http
    project: int

    def read_project(self) -> dict[str, Any]:
        """The project, with its configuration. Raises `InputError` if there is none of its number."""
        try:
            return mapping(self.http.get(f"/api/projects/{self.project}/"))
        except RefusedError as error:
            if error.status != _NOT_FOUND:
                raise
            raise InputError(
                "there is no such project",
                where=f"{self.http.base}/projects/{self.project}",
                remedy="check the number in the address, and that the token's user is a member of the project's workspace",
            ) from None

    def change_project(self, values: Mapping[str, Any]) -> None:
        """Change fields of the project."""
        self.http.request("PATCH", f"/api/projects/{self.project}/", None, dict(values))

    def users(self) -> dict[int, str]:
        """Email by number of everybody who may have worked here; nobody, where the token may not ask."""
        try:
            users = self.http.get("/api/users/")
        except (RefusedError, ForbiddenError):
            return {}
        listed = sequence(users) or sequence(mapping(users).get("results"))
        return {user["id"]: user["email"] for user in listed if text(mapping(user).get("email"))}

    def annotators(self) -> list[str]:
        """Emails of those who have handed in something."""
        try:
            users = sequence(self.http.get(f"/api/projects/{self.project}/annotators/"))
        except RefusedError:  # older servers do not tell
            return []
        return sorted(filter(None, (text(mapping(user).get("email")) for user in users)))

    def pages(self, *, work: bool, after: int = 0) -> Iterator[tuple[list[dict[str, Any]], int]]:
        """All tasks by number, in pages, each with how many tasks there are from it on.

        Each page begins after the last task of the one before, not at a place in the list: a task that is taken away
        meanwhile hides no other.

        Args:
            work: With annotations and predictions, which takes four times as long.
            after: Only tasks with a higher number.
        """
        while True:
            later = {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}
            query = {"filters": {"conjunction": "and", "items": [later]}, "ordering": ["tasks:id"]}
            reply = self._tasks(query, work=work)
            tasks = [task for task in sequence(reply.get("tasks")) if isinstance(mapping(task).get("id"), int)]
            if not tasks:
                return
            yield tasks, int(reply.get("total") or len(tasks))
            after = max(task["id"] for task in tasks)
            if len(tasks) < _PAGE:
                return

    def tasks(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Some tasks with their annotations and predictions, by number; without those that are not there."""
        found: dict[int, dict[str, Any]] = {}
        for start in range(0, len(ids), _IDS_OF_A_QUERY):
            some = list(ids[start : start + _IDS_OF_A_QUERY])
            reply = self._tasks({"selectedItems": {"all": False, "included": some}}, work=True)
            found |= {task["id"]: task for task in sequence(reply.get("tasks"))}
        return found

    def last_task(self) -> int:
        """The highest number of a task; 0 without tasks."""
        query = {
            "project": self.project,
            "page_size": 1,
            "include": "id",
            "query": json.dumps({"ordering": ["-tasks:id"]}),
        }
        tasks = sequence(mapping(self.http.get("/api/tasks", query)).get("tasks"))
        return int(tasks[0]["id"]) if tasks else 0

    def uploads(self, ids: Sequence[int] | None = None) -> list[str]:
        """Files that were uploaded with this token, as ``upload/PROJECT/NAME``: those with some numbers, or all."""
        query = {"all": "true"} if ids is None else {"ids": json.dumps(list(ids))}
        listed = self.http.get(f"/api/projects/{self.project}/file-uploads", query)
        return [text(mapping(each).get("file")) for each in sequence(listed)]

    def upload(self, files: Mapping[str, bytes]) -> list[str]:
        """Upload files by name, at most 100; what they are called there. Raises `UncertainError` if the reply is lost."""
        # Of several files in one field the server keeps the last.
        parts = [Part(f"file{place}", name, content) for place, (name, content) in enumerate(files.items())]
        path = f"/api/projects/{self.project}/import"
        reply = self.http.post(path, query={"commit_to_project": "false"}, body={}, parts=parts)
        return self.uploads(mapping(reply).get("file_upload_ids") or [])

    def import_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make tasks; the server's account of it: ``task_ids``, ``annotation_count``, ``prediction_count``.

        Without these the server goes on with it by itself (enterprise edition). Raises `UncertainError` if the reply is lost.
        """
        path = f"/api/projects/{self.project}/import"
        return mapping(self.http.post(path, query={"return_task_ids": "true"}, body=list(tasks)))

    def import_predictions(self, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Add predictions to tasks that have none; after a lost reply that is looked up."""
        numbers = sorted({prediction["task"] for prediction in predictions})

        def find() -> bool | None:
            return True if any(task.get("predictions") for task in self.tasks(numbers).values()) else None

        path = f"/api/projects/{self.project}/import/predictions"
        self.http.create(path, body=list(predictions), find=find, made=lambda _: True)

    def change_task(self, task: int, values: Mapping[str, Any]) -> None:
        """Change fields of a task."""
        self.http.request("PATCH", f"/api/tasks/{task}/", None, dict(values))

    def change_annotation(self, annotation: int, result: Sequence[Any]) -> dict[str, Any]:
        """Replace what an annotation says; it as it is then."""
        return mapping(self.http.request("PATCH", f"/api/annotations/{annotation}/", None, {"result": list(result)}))

    def create_annotation(self, task: int, result: Sequence[Any]) -> dict[str, Any]:
        """Hand in an annotation; after a lost reply one with the same regions is looked for. It as it is then."""
        path = f"/api/tasks/{task}/annotations/"
        ids = {each.get("id") for each in result}

        def find() -> dict[str, Any] | None:
            known = [mapping(each) for each in sequence(self.http.get(path))]
            same = (each for each in known if ids & {mapping(part).get("id") for part in sequence(each.get("result"))})
            return next(same, None)

        return self.http.create(path, body={"result": list(result)}, find=find, made=mapping)

    def drafts(self, task: int) -> list[dict[str, Any]]:
        """What anybody is at work on in a task, and has not handed in."""
        return [mapping(each) for each in sequence(self.http.get(f"/api/tasks/{task}/drafts"))]

    def views(self) -> list[dict[str, Any]]:
        """The tabs of the project."""
        return [mapping(each) for each in sequence(self.http.get("/api/dm/views", {"project": self.project}))]

    def create_view(self, data: Mapping[str, Any]) -> None:
        """Make a tab, unless there is one with its title."""

        def find() -> bool | None:
            return (
                True if any(mapping(view.get("data")).get("title") == data["title"] for view in self.views()) else None
            )

        if find() is None:
            body = {"project": self.project, "data": dict(data)}
            self.http.create("/api/dm/views", body=body, find=find, made=lambda _: True)

    def _tasks(self, query: Mapping[str, Any], *, work: bool) -> dict[str, Any]:
        asked = {
            "project": self.project,
            "page_size": _PAGE,
            "resolve_uri": "false",
            "include": ",".join((*_STATE, *_WORK, *_OF_ANNOTATION) if work else _STATE),
            "query": json.dumps(query),
        }
        return mapping(self.http.get("/api/tasks", asked | ({"fields": "all"} if work else {})))


def find_project(http: Http, marker: str) -> int | None:
    """The number of the project whose description holds a marker; the oldest, if there are several."""
    found: list[int] = []
    whole = re.compile(rf"(?<!\S){re.escape(marker)}(?!\S)")
    for page in count(1):
        query = {"page": page, "page_size": _PROJECTS_OF_A_PAGE, "include": "id,description"}
        reply = mapping(http.get("/api/projects/", query))
        projects = [mapping(each) for each in sequence(reply.get("results"))]
        found += [each["id"] for each in projects if whole.search(text(each.get("description")))]
        if not reply.get("next") or not projects:
            break
    return min(found, default=None)


def create_project(http: Http, marker: str, values: Mapping[str, Any]) -> int:
    """Make a project whose description holds a marker; its number."""
    return http.create(
        "/api/projects/", body=dict(values), find=lambda: find_project(http, marker), made=lambda made: int(made["id"])
    )


def send_once(
    wanted: Mapping[K, V], send: Callable[[Mapping[K, V]], Mapping[K, Any] | None], look: Callable[[], Mapping[K, Any]]
) -> dict[K, Any]:
    """Make things on the server, each once: where a reply is lost, only what is not there is sent again.

    Args:
        wanted: What to make, by what it is found again by.
        send: Sends some of it; what was made, or None where the server goes on with it by itself.
        look: What is there.

    Raises:
        UncertainError: The reply was lost three times.
    """
    done: dict[K, Any] = {}
    for last in (False, False, True):
        missing = {key: value for key, value in wanted.items() if key not in done}
        if not missing:
            break
        try:
            made = send(missing)
        except UncertainError:
            # The server may still be at it.
            for pause in _LOOKS:
                time.sleep(pause)
                done |= look()
                if done.keys() & missing.keys():
                    break
            if last and not missing.keys() <= done.keys():
                raise
        else:
            done |= _awaited(missing, look) if made is None else made
    return done


def _awaited(wanted: Mapping[K, V], look: Callable[[], Mapping[K, Any]]) -> dict[K, Any]:
    until = time.monotonic() + _LONGEST_IMPORT
    while time.monotonic() < until:
        found = look()
        if wanted.keys() <= found.keys():
            return dict(found)
        time.sleep(_PAUSE)
    raise UnavailableError(
        f"the server has not finished an import in {_LONGEST_IMPORT:.0f} s",
        remedy="run the command again later: nothing is doubled",
    )
