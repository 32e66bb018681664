"""A live project on Roboflow, or one of its versions."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

from curate.connectors.addresses import Address, is_this_machine
from curate.connectors.base import Change, Item, NewItem, Progress, Project, ProjectSpec
from curate.connectors.http import Http, RefusedError
from curate.connectors.roboflow.api import Api, at_once
from curate.connectors.roboflow.details import Details
from curate.connectors.roboflow.downloads import Downloads
from curate.connectors.roboflow.drawing import Classes
from curate.connectors.roboflow.jobs import assign, batch_name, tell_unassigned
from curate.connectors.roboflow.sending import Sender
from curate.connectors.roboflow.version import Version
from curate.connectors.tokens import token_for
from curate.errors import InputError, UsageError
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from curate.formats.values import mapping, text
from curate.redaction import hide

T = TypeVar("T")

TOKEN: Final = "ROBOFLOW_API_KEY"
"""Environment variable of the key."""

_API: Final = "https://api.roboflow.com"
_APP: Final = "https://app.roboflow.com"
_PAUSE: Final = 0.5
_OUTLINED: Final = frozenset({"polygon", "mask", "rotated_box"})


def connect(address: Address) -> Roboflow:
    """The connector for an address; see `curate.connectors.base.ConnectorSpec.connect`."""
    base = os.environ.get("API_URL", "").rstrip("/") or _API
    parts = urlsplit(base)
    if parts.scheme != "https" and not is_this_machine(parts.netloc):
        raise UsageError("Roboflow is asked over TLS only", where="API_URL", remedy="give an address with https://")
    if len([part for part in address.path.split("/") if part]) > 2:
        raise UsageError(
            "not an address of a Roboflow project", where=address, remedy="for example roboflow://workspace/project/3"
        )
    return Roboflow(address, base=base, token=token_for(address, TOKEN))


class Roboflow:
    """A project, or a version of one; see `curate.connectors.base.Connector`.

    Args:
        address: Where it is.
        base: Address of the service's API.
        token: The api_key.
        pause: Seconds before the second try of a request, doubled each time.
    """

    def __init__(self, address: Address, *, base: str, token: str, pause: float = _PAUSE) -> None:
        self.address = address
        self._api = Api(Http(base, query={"api_key": hide(token)}, pause=pause), address.host, pause=pause)
        self._downloads = Downloads(plain=urlsplit(base).scheme == "http", pause=pause)
        self._project, _, version = address.path.partition("/")
        self._version = Version(self._api, self._downloads, address, self._project, version) if version else None
        self._given: Classes | None = None
        self._accepted: set[str] | None = None
        self._lock = threading.Lock()
        self._written: dict[str, None] = {}

    def project(self) -> Project:
        """What the service says of the project."""
        said = self._api.project(self._named())
        colors = mapping(said.get("colors"))
        names = mapping(said.get("classes"))
        shown: dict[str, Any] = {
            key: said[key] for key in ("type", "images", "unannotated", "splits", "updated") if key in said
        }
        return Project(
            self.address,
            text(said.get("name")) or self._project,
            [ClassInfo(name, color=text(colors.get(name)) or None) for name in names],
            shown if self._version is None else shown | {"version": self._version.name},
        )

    def ensure_project(self, spec: ProjectSpec, losses: LossReport) -> Project:
        """Make the project, or find it by its annotation group, which is made of the marker.

        Classes come with the annotations that use them: there is no request that adds one. Batches that a push has filled
        before it was cut off become annotation jobs.
        """
        self._writable()
        if not self._project:
            group = f"curate{hashlib.blake2b(spec.marker.encode(), digest_size=8).hexdigest()}"
            found = self._with_group(group) or self._create_project(spec, group)
            self._project = found.rpartition("/")[2]
            self.address = replace(self.address, path=self._project)
        assign(self._api, self._project)
        return self.project()

    def items(
        self, *, unless: Mapping[str, str], losses: LossReport, progress: Progress | None = None
    ) -> Iterator[Item]:
        """Every image, the oldest first; of a version, in the export's order."""
        if self._version is not None:
            yield from self._version.items(unless, losses, progress)
            return
        project = self._named()
        self._accepted = set(self._api.images(project, in_dataset=True))
        # What this connector has just written may not be in the index yet.
        listed = list(dict.fromkeys([*self._api.images(project), *self._written]))
        for done, found in enumerate(at_once(self._details, listed), 1):
            if found is not None:
                yield found.item(losses, known_version=unless.get(text(found.said.get("id"))))
            if progress is not None:
                progress(done, len(listed))

    def download(self, item: Item) -> bytes:
        """The image as it was uploaded; of a version, as it was exported."""
        if self._version is not None:
            return self._version.content(item)
        urls = mapping(self._api.image(self._named(), item.remote_id).get("urls"))
        url = text(urls.get("original"))
        if not url:
            raise InputError("the service does not say where the image is", where=item.location)
        return self._downloads.content(url)

    def create(self, items: Sequence[NewItem], *, losses: LossReport, progress: Progress | None = None) -> None:
        """Upload images, the highest score first, as one batch, and make an annotation job of it."""
        self._writable()
        if not items:
            return
        tell_unassigned(losses, self.address)
        ordered = sorted(items, key=lambda item: -item.priority)
        batch = batch_name(ordered)
        sender = self._sender()

        def send(item: NewItem) -> LossReport:
            report = LossReport(strict=losses.strict)
            image = sender.create(item, batch, report)
            if image is not None:
                self._remember(image)
            return report

        _carry_out(send, ordered, losses, progress)
        assign(self._api, self._named(), batch)

    def change(
        self, changes: Sequence[Change], *, losses: LossReport, progress: Progress | None = None
    ) -> Collection[str]:
        """Replace the annotations of images: changed ones as they are here, all others as they are there now."""
        self._writable()
        sender = self._sender()
        left_alone: set[str] = set()

        def send(change: Change) -> LossReport:
            report = LossReport(strict=losses.strict)
            if not sender.change(change, report):
                left_alone.add(change.image_id)
            self._remember(change.item.remote_id)
            return report

        _carry_out(send, changes, losses, progress)
        return left_alone

    def link_of(self, item: Item) -> str:
        """Address of the image in a browser."""
        app = os.environ.get("APP_URL", "").rstrip("/") or _APP
        place = [self.address.host, self._project]
        rest = ["images", item.remote_id] if self._version is None else [self._version.name]
        return "/".join([app, *(quote(part, safe="") for part in [*place, *rest])])

    # ------------------------------------------------------------------------------------------------ projects

    def _with_group(self, group: str) -> str | None:
        named = (project for project in self._api.projects() if project.get("annotation") == group)
        return next((text(project.get("id")) for project in named), None)

    def _create_project(self, spec: ProjectSpec, group: str) -> str:
        kind = "object-detection"
        if spec.types & _OUTLINED:
            kind = "instance-segmentation"
        elif spec.types == {"label"}:
            kind = "single-label-classification"
        body = {"name": spec.title, "type": kind, "license": "Private", "annotation": group}
        try:
            return self._api.create_project(body, lambda: self._with_group(group))
        except RefusedError as error:
            raise InputError(
                f"the service does not make a private project: {error.body}",
                where=self.address,
                remedy=f"make one there, and name it: {self.address}/PROJECT",
            ) from None

    def _named(self) -> str:
        if not self._project:
            raise UsageError("the address names no project", where=self.address, remedy=f"give {self.address}/PROJECT")
        return self._project

    def _writable(self) -> None:
        if self._version is not None:
            raise UsageError(
                "a version is frozen: nothing can be sent to it",
                where=self.address,
                remedy=f"use the project's address, {replace(self.address, path=self._project)}",
            )

    def _classes(self) -> Classes:
        """What the project's images are given instead of boxes."""
        with self._lock:
            if self._given is None:
                said = self._api.project(self._named())
                kind = text(said.get("type"))
                several = bool(said.get("multilabel")) or kind.startswith("multi")
                self._given = ("several" if several else "one") if kind.endswith("classification") else "none"
            return self._given

    # ------------------------------------------------------------------------------------------------ images

    def _details(self, image: str) -> Details | None:
        """What the service says of an image; None if it is not in the project."""
        try:
            said = self._api.image(self._named(), image)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return Details(said, self._classes() != "none", image in (self._accepted or ()))

    def _sender(self) -> Sender:
        if self._accepted is None:
            self._accepted = set(self._api.images(self._named(), in_dataset=True))
        return Sender(self._api, self._named(), self._classes(), self._details)

    def _remember(self, image: str) -> None:
        with self._lock:
            self._written[image] = None


def _carry_out(
    send: Callable[[T], LossReport], things: Sequence[T], losses: LossReport, progress: Progress | None
) -> None:
    """Send things, a few at a time; their losses are told in order."""
    for done, report in enumerate(at_once(send, things), 1):
        losses.include(report.losses)
        if progress is not None:
            progress(done, len(things))
