"""CVAT as a `curate.connectors.base.Connector`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from curate.connectors.addresses import Address
from curate.connectors.base import Change, Item, NewItem, Progress, Project, ProjectSpec
from curate.connectors.cvat.change import Changer
from curate.connectors.cvat.items import list_items
from curate.connectors.cvat.jobs import list_jobs, list_tasks
from curate.connectors.cvat.labels import Labels, missing_labels, parse_labels
from curate.connectors.cvat.server import Scope, Server
from curate.connectors.cvat.upload import Uploader
from curate.connectors.http import RefusedError
from curate.errors import InputError, UsageError
from curate.formats.cvat.meta import LABELS
from curate.formats.losses import LossReport
from curate.formats.values import mapping, text

_LONGEST_NAME: Final = 256


class CvatConnector:
    """A project, task or job on a CVAT server.

    Args:
        address: Where it is.
        server: The server.
        scope: What the address stands for; None for a project that `ensure_project` is to make.
    """

    def __init__(self, address: Address, server: Server, scope: Scope | None) -> None:
        self.address = address
        self._server = server
        self._scope = scope

    def project(self) -> Project:
        """See `Connector.project`."""
        scope = self._known()
        return self._project(scope, self._server.enter(scope))

    def ensure_project(self, spec: ProjectSpec, losses: LossReport) -> Project:
        """See `Connector.ensure_project`. A task or job of a project gives the project's labels what they lack."""
        scope = self._scope or self._find_or_make(spec, losses)
        if self._scope is None:
            self._scope = scope
            self.address = replace(self.address, path=f"{self.address.path}/projects/{scope.id}".lstrip("/"))
        found = self._server.enter(scope)
        missing = missing_labels(spec, self._labels(scope), losses)
        if missing:
            # The labels and attributes that are not named stay; naming one that is there already would be refused.
            self._server.http.request("PATCH", _owner(scope, found).path, None, {"labels": missing})
        return self._project(scope, found)

    def items(
        self, *, unless: Mapping[str, str], losses: LossReport, progress: Progress | None = None
    ) -> Iterator[Item]:
        """See `Connector.items`."""
        scope = self._known()
        found = self._server.enter(scope)
        labels = self._labels(scope)
        yield from list_items(self._server, scope, found, labels, unless=unless, losses=losses, progress=progress)

    def download(self, item: Item) -> bytes:
        """See `Connector.download`."""
        task, frame = _numbers(item)
        query = {"type": "frame", "number": frame, "quality": "original"}
        return self._server.http.get_bytes(f"/api/tasks/{task}/data/", query)

    def create(self, items: Sequence[NewItem], *, losses: LossReport, progress: Progress | None = None) -> None:
        """See `Connector.create`.

        Raises:
            UsageError: The address is that of a task or job, which cannot be given images.
        """
        scope = self._known()
        if scope.kind != "project":
            raise UsageError(
                f"images cannot be added to a {scope.kind} of CVAT's",
                where=self.address,
                remedy="give the address of its project: cvat://host/projects/3",
            )
        self._server.enter(scope)
        Uploader(self._server, scope, self._labels(scope), losses, progress).upload(items)

    def change(
        self, changes: Sequence[Change], *, losses: LossReport, progress: Progress | None = None
    ) -> Collection[str]:
        """See `Connector.change`."""
        scope = self._known()
        self._server.enter(scope)
        changer = Changer(self._server, self._labels(scope), losses, progress)
        changer.change(changes)
        return changer.left_alone

    def link_of(self, item: Item) -> str:
        """See `Connector.link_of`."""
        task, frame = _numbers(item)
        job = item.metadata.get("job")
        place = f"/jobs/{job}?frame={frame}" if job is not None else ""
        return f"{self.address.url}/tasks/{task}{place}"

    def _known(self) -> Scope:
        if self._scope is None:
            raise UsageError("no project is named", where=self.address, remedy="for example cvat://host/projects/3")
        return self._scope

    def _labels(self, scope: Scope) -> Labels:
        return parse_labels(self._server.pages("/api/labels", scope.query))

    def _find_or_make(self, spec: ProjectSpec, losses: LossReport) -> Scope:
        """The project with the marker, which is made if there is none."""

        def find() -> int | None:
            return next(
                (
                    each["id"]
                    for each in self._server.pages("/api/projects", {})
                    if spec.marker in text(each.get("name")) or spec.marker in text(each.get("bug_tracker"))
                ),
                None,
            )

        try:
            number = find()
        except RefusedError as error:
            if error.status != 404:
                raise
            raise InputError(
                "there is no such organization",
                where=self.address,
                remedy="check its short name in the address, and that the token's owner is a member of it",
            ) from None
        if number is None:
            end = "" if spec.marker in spec.title else f" ({spec.marker})"
            body = {
                "name": spec.title[: _LONGEST_NAME - len(end)] + end,
                "labels": missing_labels(spec, parse_labels([]), losses),
            }
            number = self._server.http.create(
                "/api/projects", find=find, made=lambda reply: int(mapping(reply)["id"]), body=body
            )
        return Scope("project", number)

    def _project(self, scope: Scope, found: Mapping[str, Any]) -> Project:
        labels = self._labels(scope)
        jobs = [job for of_task in list_jobs(self._server, scope, found).values() for job in of_task]
        tasks = list_tasks(self._server, scope, found)
        details: dict[str, Any] = {
            "tasks": len(tasks),
            "images": sum(task.size for task in tasks),
            "jobs": dict(Counter(f"{job.stage}: {job.state}" for job in jobs)),
            "annotators": sorted({job.assignee for job in jobs if job.assignee}),
        }
        fields = {name: each for name, each in labels.meta.labels.items() if each}
        if fields:
            details[LABELS] = fields
        title = text(found.get("name")) or text(found.get("task_name")) or str(self.address)
        return Project(self.address, title, labels.classes(), details)


def _owner(scope: Scope, found: Mapping[str, Any]) -> Scope:
    """What the labels of a scope belong to: the project, or a task that is in none."""
    project = found.get("project_id")
    if scope.kind == "project":
        return scope
    if isinstance(project, int):
        return Scope("project", project)
    return scope if scope.kind == "task" else Scope("task", int(found.get("task_id") or 0))


def _numbers(item: Item) -> tuple[int, int]:
    """Task and frame."""
    task, _, frame = item.remote_id.partition(":")
    return int(task), int(frame)
