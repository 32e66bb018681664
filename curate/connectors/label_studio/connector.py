"""The connector: a project on a Label Studio server."""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlsplit

from curate.connectors.addresses import Address
from curate.connectors.base import Change, Item, NewItem, Progress, Project, ProjectSpec
from curate.connectors.http import Http
from curate.connectors.label_studio.api import Api
from curate.connectors.label_studio.change import Changer
from curate.connectors.label_studio.config import classes_of
from curate.connectors.label_studio.create import Creator
from curate.connectors.label_studio.login import Login
from curate.connectors.label_studio.notes import ensure_tab
from curate.connectors.label_studio.projects import ProjectConfig, fit_to, made_or_found, read_config
from curate.connectors.label_studio.tasks import TaskReader, number_of
from curate.connectors.tokens import token_for
from curate.errors import InputError, UnavailableError, UsageError
from curate.formats.base import ClassInfo
from curate.formats.label_studio.read import METADATA
from curate.formats.losses import LossReport
from curate.formats.values import mapping, sequence, text

TOKEN: Final = "LABEL_STUDIO_API_KEY"
"""Environment variable of the token."""

_PATH: Final = re.compile(r"(?:projects/([0-9]{1,18})(?:/data)?)?")
_READ_SECONDS: Final = 300.0
_COUNTS: Final = {
    "tasks": "task_number",
    "finished": "finished_task_number",
    "annotations": "total_annotations_number",
    "skipped": "skipped_annotations_number",
    "predictions": "total_predictions_number",
}


def connect(address: Address) -> LabelStudio:
    """The connector for an address; nothing is asked of the server yet.

    Raises:
        UsageError: It names no project of Label Studio's.
        UnavailableError: There is no token.
    """
    return LabelStudio(address, token_for(address, TOKEN))


class LabelStudio:
    """A project on a Label Studio server; see `curate.connectors.base.Connector`.

    Args:
        address: Of the project, or of the server for a new one.
        token: Legacy or personal access token.
        http: The server, for tests; None for the address's.

    Attributes:
        address: The project's.

    Raises:
        UsageError: The address names something else.
    """

    def __init__(self, address: Address, token: str, http: Http | None = None) -> None:
        match = _PATH.fullmatch(address.path)
        if match is None:
            raise UsageError(
                "not the address of a Label Studio project",
                where=address,
                remedy=f"for example {replace(address, path='projects/7')}",
            )
        self.address = replace(address, path=f"projects/{match[1]}" if match[1] else "")
        login = Login(address.url, token)
        # Label Studio without a proxy before it answers in two parts, and on a kept connection holds the second back until
        # the first is acknowledged: 40 ms, longer than most answers take.
        reuse = address.url.startswith("https:")
        self._http = http or Http(
            address.url, headers=login.headers, renew=login.renew, read_seconds=_READ_SECONDS, reuse=reuse
        )
        # Of a whole file the server does not say how long it is, of a part it does: only so is a cut reply seen.
        self._files = http or Http(
            address.url, headers=lambda: {**login.headers(), "Range": "bytes=0-"}, renew=login.renew, reuse=reuse
        )
        self._classes: Sequence[ClassInfo] = ()
        self._elsewhere: dict[str, Http] = {}

    def project(self) -> Project:
        """What the server says of the project."""
        content, project = read_config(self._api())
        counts = {name: content[key] for name, key in _COUNTS.items() if isinstance(content.get(key), int)}
        details = {**counts, "annotators": self._api().annotators()}
        return Project(self.address, text(content.get("title")), classes_of(project.config), details)

    def ensure_project(self, spec: ProjectSpec, losses: LossReport) -> Project:
        """Make the project, or find it by its marker and add controls and labels that it lacks.

        The configuration of a project that the address names is somebody's work: of what is sent it gets what it lacks, when
        that is sent, and nothing else.
        """
        if not self.address.path:
            self.address = replace(self.address, path=f"projects/{made_or_found(self._http, spec)}")
            fit_to(self._project(), spec, losses)
        self._classes = spec.classes
        return self.project()

    def items(
        self, *, unless: Mapping[str, str], losses: LossReport, progress: Progress | None = None
    ) -> Iterator[Item]:
        """Every task's images, by the task's number; only tasks that have changed are read with what is on them."""
        api = self._api()
        reader = TaskReader(self._project().config, api.users(), losses)
        total = done = 0
        for page, left in api.pages(work=not unless):
            total = total or left
            if unless:
                yield from self._changed(page, reader, unless)
            else:
                yield from reader.items([reader.taken_apart(each, work=True) for each in page], work=True)
            done += len(page)
            if progress is not None:
                progress(done, max(total, done))

    def download(self, item: Item) -> bytes:
        """The image's bytes: from the server, or from where a plain address says that it is.

        Raises:
            InputError: It is kept where only the server can read it, or cannot be had.
        """
        reference = self._reference(item)
        parts = urlsplit(reference)
        if reference.startswith("data:"):
            return _inline(reference, item)
        if not parts.scheme and reference.startswith("/"):
            return self._file(quote(reference, safe="/?&=%+:,;@~"), item)
        if parts.scheme not in ("http", "https"):
            raise InputError(
                "the image is in a storage that only the server can read",
                where=f"{item.location} ({parts.scheme or 'no address'})",
                remedy="import the images from that storage, then pull: they are matched by location",
            )
        path = quote(parts.path or "/", safe="/%+:,;@~") + (f"?{parts.query}" if parts.query else "")
        base = f"{parts.scheme}://{parts.netloc}"
        if base.lower() == self.address.url:
            return self._file(path, item)
        # Another host: nobody's token goes there.
        try:
            return self._elsewhere.setdefault(base, Http(base)).get_bytes(path)
        except UnavailableError as error:
            raise InputError(error.what, where=item.location, remedy="check the image's address in the task") from None

    def create(self, items: Sequence[NewItem], *, losses: LossReport, progress: Progress | None = None) -> None:
        """Upload images and make tasks of them."""
        if any(item.notes or item.priority for item in items):
            ensure_tab(self._api())
        Creator(self._api(), self._project(), losses).create(items, progress)

    def change(
        self, changes: Sequence[Change], *, losses: LossReport, progress: Progress | None = None
    ) -> Collection[str]:
        """Change annotations in place, and tell of findings."""
        if any(change.notes or change.priority for change in changes):
            ensure_tab(self._api())
        return Changer(self._api(), self._project(), losses).change(changes, progress)

    def link_of(self, item: Item) -> str:
        """The task in the project's list."""
        return f"{self.address.url}/{self.address.path}/data?task={number_of(item)}"

    def _api(self) -> Api:
        if not self.address.path:
            raise UsageError(
                "the address names no project",
                where=self.address,
                remedy=f"for example {replace(self.address, path='projects/7')}",
            )
        return Api(self._http, int(self.address.path.removeprefix("projects/")))

    def _project(self) -> ProjectConfig:
        _, project = read_config(self._api())
        project.classes = self._classes
        return project

    def _file(self, path: str, item: Item) -> bytes:
        """A file from the server, which fails (500) for one that is no longer there."""
        try:
            return self._files.get_bytes(path)
        except UnavailableError as error:
            self._api().read_project()  # if this fails as well, it is the server
            raise InputError(error.what, where=item.location, remedy="the image may have been deleted there") from None

    def _changed(
        self, page: Sequence[Mapping[str, Any]], reader: TaskReader, unless: Mapping[str, str]
    ) -> Iterator[Item]:
        """The items of a page of a listing without work; those that have changed are read again with it."""
        listing = TaskReader(reader.config, {}, LossReport())  # what cannot be read is told with the work
        listed = {each["id"]: listing.items([listing.taken_apart(each, work=False)], work=False) for each in page}
        moved = [
            number
            for number, items in listed.items()
            if any(unless.get(each.remote_id) != each.version for each in items)
        ]
        now = self._api().tasks(moved)
        full: dict[int, list[Item]] = defaultdict(list)
        for item in reader.items([reader.taken_apart(task, work=True) for task in now.values()], work=True):
            full[number_of(item)].append(item)
        for number, items in listed.items():
            if number in now:
                yield from full[number]
            elif number not in moved:  # else it was taken away meanwhile
                yield from items

    def _reference(self, item: Item) -> str:
        """Where a task says that its image is."""
        said = mapping(item.metadata.get(METADATA))
        key, place = (*sequence(said.get("image")), "image", None)[:2]
        data = mapping(said.get("data"))
        if key not in data:  # an image inside the task is not in the metadata
            number = number_of(item)
            data = mapping(mapping(self._api().tasks([number]).get(number)).get("data"))
        value = data.get(key)
        value = value[place] if isinstance(value, list) and isinstance(place, int) and place < len(value) else value
        if isinstance(value, dict):
            value = next((each for each in value.values() if isinstance(each, str)), "")
        return text(value)


def _inline(reference: str, item: Item) -> bytes:
    head, _, content = reference.partition(",")
    try:
        return base64.b64decode(content, validate=True) if head.endswith(";base64") else content.encode()
    except (binascii.Error, ValueError):
        raise InputError("the image inside the task cannot be read", where=item.location) from None
