"""Asking a CVAT server: the SDK's headers and uploads, sent by `curate.connectors.http`; and what an address stands for."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, urlsplit

import urllib3

from curate.connectors.addresses import Address
from curate.connectors.http import Http, RefusedError
from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.formats.values import mapping, sequence, text

IMAGE_QUALITY: Final = 95
"""Of the compressed frames that annotators see; the originals are kept beside them."""

_ORGANIZATION: Final = re.compile(r"orgs/([A-Za-z0-9_-]+)(?:/|$)")
_PATH: Final = re.compile(r"(projects|tasks|jobs)/([1-9]\d{0,17})")
_OLD_KEY: Final = re.compile(r"[0-9a-f]{40}")
_PAGE: Final = 500
_LARGEST_REQUEST: Final = 32 * 2**20
_SHOWN: Final = 300


@dataclass(frozen=True)
class Scope:
    """What an address stands for.

    Attributes:
        kind: 'project', 'task' or 'job'.
        id: Its number.
    """

    kind: Literal["project", "task", "job"]
    id: int

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"/api/{self.kind}s/{self.id}"

    @property
    def query(self) -> dict[str, Any]:
        """What restricts a list of tasks, jobs or labels to it."""
        return {f"{self.kind}_id": self.id}


def scope_of(address: Address) -> Scope | None:
    """What an address stands for; None for a project that is still to be made.

    Raises:
        UsageError: It is no address of CVAT's.
    """
    path = _ORGANIZATION.sub("", address.path, count=1) if organization_of(address) else address.path
    if not path:
        return None
    match = _PATH.fullmatch(path)
    if match is None:
        raise UsageError(
            "not an address of CVAT's",
            where=address,
            remedy="for example cvat://host/projects/3, or /tasks/12, or /jobs/5, or /orgs/NAME/projects/3",
        )
    kinds: dict[str, Literal["project", "task", "job"]] = {"projects": "project", "tasks": "task", "jobs": "job"}
    return Scope(kinds[match[1]], int(match[2]))


def organization_of(address: Address) -> str | None:
    """Short name of the organization that an address names: 'acme' of cvat://host/orgs/acme/projects/3."""
    match = _ORGANIZATION.match(address.path)
    return match[1] if match else None


class Server:
    """A CVAT server; nothing is asked of it before a method is called.

    Args:
        url: Its address, without a slash at its end.
        token: A personal access token, or a key as CVAT gave them before.
        organization: Short name of the organization that every request is about; None for whatever the token may see.
        pause: How long to wait before a request is sent again, seconds.
        poll: How long to wait between two looks at work in the background, seconds.
        patience: How long work in the background may show no progress, seconds.

    Attributes:
        http: Sends the requests.
        organization: What tells a request which organization it is about, unless the address names it; see `enter`.

    Raises:
        MissingExtra: cvat-sdk is not installed.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        organization: str | None = None,
        pause: float = 0.5,
        poll: float = 0.2,
        patience: float = 600.0,
    ) -> None:
        try:
            from cvat_sdk.core.client import AccessTokenCredentials, Client, Config
            from cvat_sdk.core.helpers import make_request_headers
        except ImportError:
            raise MissingExtra("cvat-sdk", "cvat") from None
        silent = logging.Logger("cvat", level=logging.CRITICAL + 1)
        shared = logging.getLogger("urllib3")
        level = shared.level
        config = Config(status_check_period=poll, verify_ssl=True)
        self._client = Client(url, logger=silent, config=config, check_server_version=False)
        shared.setLevel(level)  # which the SDK has changed for the whole program
        self._client.organization_slug = organization
        if _OLD_KEY.fullmatch(token):
            self._client.api_client.configuration.api_key["tokenAuth"] = token
        else:
            self._client.login(AccessTokenCredentials(token))
        self.http = Http(url, headers=lambda: make_request_headers(self._client.api_client), pause=pause)
        self._client.api_client.rest_client = _Transport(self.http)
        self.organization: dict[str, Any] = {}
        self._poll, self._patience = poll, patience

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One thing."""
        return mapping(self.http.get(path, query))

    def pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Every entry of a list, oldest first."""
        page = 1
        while True:
            reply = self.get(path, {**query, **self.organization, "sort": "id", "page": page, "page_size": _PAGE})
            yield from (each for each in sequence(reply.get("results")) if isinstance(each, dict))
            if not reply.get("next"):
                return
            page += 1

    def enter(self, scope: Scope) -> dict[str, Any]:
        """What a scope stands for, as the server has it; lists and what is made are from then on of its organization."""
        try:
            found = self.get(scope.path)
        except RefusedError as error:
            if error.status != 404:
                raise
            raise InputError(
                f"there is no such {scope.kind}",
                where=f"{self.http.base}{scope.path.removeprefix('/api')}",
                remedy="check the number in the address, and that the token's owner may see it there",
            ) from None
        number = found.get("organization_id") or found.get("organization")
        # A request may name its organization only once, and one that the address names is in every request's headers.
        is_told = self._client.organization_slug is not None or not isinstance(number, int)
        self.organization = {} if is_told else {"org_id": number}
        return found

    def upload(self, task: int, files: Iterable[Path]) -> None:
        """Upload images to an empty task, in this order, and wait until it has them as frames.

        Raises:
            InputError: The server cannot make frames of them.
        """
        from cvat_sdk.core.uploading import DataUploader

        reply = DataUploader(self._client, max_request_size=_LARGEST_REQUEST).upload_files(
            f"{self.http.base}/api/tasks/{task}/data/",
            list(files),
            image_quality=IMAGE_QUALITY,
            sorting_method="predefined",
            use_zip_chunks=True,
            use_cache=True,
        )
        self.wait(text(mapping(json.loads(reply.data)).get("rq_id")))

    def settle(self, task: int) -> bool:
        """Wait for whatever makes a task's frames just now; whether the task has frames then."""
        running = [
            text(each.get("id"))
            for each in sequence(self.get("/api/requests", {"task_id": task, "page_size": _PAGE}).get("results"))
            if isinstance(each, dict) and each.get("status") in ("queued", "started")
        ]
        for request in running:
            try:
                self.wait(request)
            except InputError:
                continue  # it failed, which its task will show: it has no frames
        return bool(self.get(f"/api/tasks/{task}").get("size"))

    def wait(self, request: str) -> None:
        """Wait for work in the background.

        Raises:
            InputError: It failed.
            UnavailableError: Nothing goes on with it.
        """
        path = f"/api/requests/{quote(request, safe='')}"
        seen, since = None, time.monotonic()
        while True:
            found = self.get(path)
            state = found.get("status"), found.get("progress"), found.get("message")
            if state[0] == "finished":
                return
            if state[0] == "failed":
                raise InputError(
                    f"the server could not do it: {text(state[2])[-_SHOWN:]}",
                    where=self.http.base,
                    remedy="mend what it names, then run the command again: nothing is doubled",
                )
            if state != seen:
                seen, since = state, time.monotonic()
            elif time.monotonic() - since > self._patience:
                raise UnavailableError(
                    f"the server has not gone on with '{request}' for {self._patience:.0f} s",
                    where=self.http.base,
                    remedy="check that CVAT's workers are running, then run the command again: nothing is doubled",
                )
            time.sleep(self._poll)


class _Transport:
    """Sends what the SDK's uploader has to send, instead of the SDK's own client: with our time-outs, retries and errors.

    Only the path of an address is taken: what the server says of its own host may be wrong behind a proxy, and the token goes
    nowhere else.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    def POST(self, url: str, **options: Any) -> urllib3.BaseHTTPResponse:  # noqa: N802 - the SDK's name
        return self._request("POST", url, **options)

    def PATCH(self, url: str, **options: Any) -> urllib3.BaseHTTPResponse:  # noqa: N802 - the SDK's name
        return self._request("PATCH", url, **options)

    def _request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        query_params: Mapping[str, Any] | None = None,
        post_params: Any = None,
        body: bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        sent = dict(headers)
        data = body
        if sent.get("Content-Type") == "multipart/form-data":
            data, sent["Content-Type"] = urllib3.encode_multipart_formdata(post_params)
        elif post_params is not None:
            data, sent["Content-Type"] = json.dumps(post_params).encode(), "application/json"
        parts = urlsplit(url)
        query = {**dict(parse_qsl(parts.query)), **(query_params or {})}
        # Files are appended to what is there, so that none of these may be sent twice: the whole upload is begun anew.
        return self._http.send(method, parts.path, query, data, sent, makes=True)
