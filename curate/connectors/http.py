"""Asking a server: few requests at a time, time-outs of our own, retries with backoff, and errors that hold no secret.

What may be asked again (GET, PUT, PATCH, DELETE) is retried after a broken connection, a time-out, 429 and 5xx. A POST makes
something, and its reply may have been lost after the server acted: it is sent again only if the server cannot have acted
(refused connection, 429, 503), else the caller's `find` tells whether it was done (see `Http.create`).
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError, SSLError

from curate.errors import CurateError, InputError, UnavailableError
from curate.redaction import redact

T = TypeVar("T")

TRIES: Final = 5
"""How often a request is sent at most."""

_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_DID_NOTHING: Final = frozenset({429, 503})
_AT_ONCE: Final = 4
_SHOWN: Final = 300
_REDIRECTS: Final = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)
"""A file may lie elsewhere (cloud storage). urllib3 takes Authorization off on the way to another host."""

_QUERY: Final = re.compile(r"\?[^\s\"']+")
_LATER: Final = "check that the server is up, then run the command again: nothing is doubled"


def _without_query(record: logging.LogRecord) -> bool:
    """urllib3 logs addresses whole, and a query may hold a token or a signature."""
    record.msg, record.args = redact(_QUERY.sub("?...", record.getMessage())), ()
    return True


for _name in ("connection", "connectionpool", "poolmanager", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_without_query)


class RefusedError(InputError):
    """The server understood, and says no.

    Attributes:
        status: Its status code.
        body: What it says, without secrets.
    """

    def __init__(self, what: str, *, where: object, remedy: str | None, status: int, body: str) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.status = status
        self.body = body


class ForbiddenError(UnavailableError):
    """The token may not do this; other requests may go on."""


class UncertainError(UnavailableError):
    """A request that makes something may have been carried out: its reply was lost."""


@dataclass(frozen=True)
class Part:
    """A file of a multipart request."""

    field: str
    name: str
    content: bytes
    type: str = "application/octet-stream"


class _FreshConnection(HTTPConnection):
    """Connects anew for every request."""

    def request(self, *args: Any, **options: Any) -> None:
        self.close()
        super().request(*args, **options)


class _FreshPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _FreshConnection


class Http:
    """A server.

    Args:
        base: Its address, without a slash at its end.
        headers: Called for the headers of each request: they may expire.
        renew: Called when the server says 401; whether `headers` will give something new.
        query: Goes with every request (an api_key).
        read_seconds: How long the server may be silent.
        reuse: Whether connections are kept for further requests, where they are not encrypted.
        pause: How long to wait before the second try, seconds; doubled each time.
    """

    def __init__(
        self,
        base: str,
        *,
        headers: Callable[[], Mapping[str, str]] = dict,
        renew: Callable[[], bool] = lambda: False,
        query: Mapping[str, str] | None = None,
        read_seconds: float = _READ_SECONDS,
        reuse: bool = True,
        pause: float = _FIRST_PAUSE,
    ) -> None:
        self.base = base
        self._headers = headers
        self._renew = renew
        self._query = dict(query or {})
        self._pause = pause
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds)
        self._pool = urllib3.PoolManager(maxsize=_AT_ONCE, block=True, timeout=timeout, retries=False)
        if not reuse:
            self._pool.pool_classes_by_scheme = {"http": _FreshPool, "https": urllib3.HTTPSConnectionPool}

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON that a GET gives."""
        return self.request("GET", path, query)

    def get_bytes(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """The bytes that a GET gives, all of them: fewer than announced count as a broken connection."""
        return bytes(self.send("GET", path, query).data)

    def request(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Send JSON, and give the JSON of the reply (None for an empty one); retried where that is harmless.

        Args:
            method: 'GET', 'PUT', 'PATCH', 'DELETE', or a 'POST' that makes nothing (or may do so twice).
            path: From the base, with its slash.
            query: Added to the address.
            body: JSON-ready; None for none.

        Raises:
            UnavailableError: The server cannot be reached, keeps failing, or refuses the token.
            RefusedError: It refuses the request.
            UncertainError: The reply to a POST was lost.
        """
        data, headers = (
            (None, {}) if body is None else (json.dumps(body).encode(), {"Content-Type": "application/json"})
        )
        return self._parsed(self.send(method, path, query, data, headers), path)

    def create(
        self,
        path: str,
        *,
        find: Callable[[], T | None],
        made: Callable[[Any], T],
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        parts: Sequence[Part] = (),
    ) -> T:
        """POST what makes something, once: after a lost reply it is looked for before it is sent again.

        Args:
            path: From the base, with its slash.
            find: Looks on the server for what the request makes; None if it is not there.
            made: What `find` would give, out of the reply.
            query: Added to the address.
            body: JSON-ready; or, with `parts`, a mapping of text fields.
            parts: Files, for a multipart request.

        Raises:
            UnavailableError, RefusedError: As for `request`.
        """
        for last in (False, False, True):
            try:
                return made(self.post(path, query=query, body=body, parts=parts))
            except UncertainError:
                found = find()
                if found is not None:
                    return found
                if last:
                    raise
        raise AssertionError("unreachable")

    def post(
        self, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None, parts: Sequence[Part] = ()
    ) -> Any:
        """POST JSON or files; sent again only where the server cannot have acted. Otherwise as `request`."""
        if not parts:
            return self.request("POST", path, query, body)
        fields = [*(body or {}).items(), *((part.field, (part.name, part.content, part.type)) for part in parts)]
        data, kind = urllib3.encode_multipart_formdata(fields)
        return self._parsed(self.send("POST", path, query, data, {"Content-Type": kind}), path)

    def _parsed(self, reply: urllib3.BaseHTTPResponse, path: str) -> Any:
        content = bytes(reply.data)
        if not content.strip():
            return None
        try:
            return json.loads(content)
        except ValueError:
            raise InputError(
                "the server's answer is not JSON",
                where=redact(self.base + path),
                remedy="check the address: another program may be listening there",
            ) from None

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        makes: bool | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """The server's reply to bytes, where it says yes.

        Args:
            method: 'GET', 'PATCH' ...
            path: From the base, with its slash.
            query: Added to the address.
            data: The body.
            headers: Beside those of every request.
            makes: Whether the request makes something anew each time it is carried out, so that it must not be sent again
                blindly; None for yes if it is a POST.

        Raises:
            UnavailableError, RefusedError, UncertainError: As for `request`.
        """
        makes = method == "POST" if makes is None else makes
        asked = urlencode({**self._query, **(query or {})}, doseq=True)
        url = f"{self.base}{path}{'&' if '?' in path else '?'}{asked}" if asked else self.base + path
        where = redact(f"{method} {self.base}{path}")
        may_renew = True
        for attempt in range(1, TRIES + 1):
            reply = self._reply(method, url, data, headers or {}, where, makes)
            if isinstance(reply, urllib3.BaseHTTPResponse) and reply.status == 401 and may_renew and self._renew():
                may_renew = False
                reply = self._reply(method, url, data, headers or {}, where, makes)
            wait: str | None = None
            if isinstance(reply, str):
                failure = reply
            elif reply.status < 400:
                return reply
            elif reply.status in (_DID_NOTHING if makes else _AGAIN):
                failure, wait = f"the server answers {reply.status}", reply.headers.get("Retry-After")
            else:
                raise _refusal(reply, where, made=makes)
            if attempt < TRIES:
                time.sleep(self._wait(attempt, wait))
        raise UnavailableError(f"{failure}, {TRIES} times", where=where, remedy=_LATER)

    def _reply(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], where: str, makes: bool
    ) -> urllib3.BaseHTTPResponse | str:
        """The server's reply, whatever it is; or why there is none, where the request may be sent again."""
        try:
            return self._pool.request(
                method,
                url,
                body=data,
                headers={**self._headers(), **headers},
                retries=_REDIRECTS if method == "GET" else False,
            )
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
            if isinstance(cause, SSLError):
                raise UnavailableError(
                    f"the server's certificate is not trusted: {redact(str(cause))[:_SHOWN]}",
                    where=where,
                    remedy="set SSL_CERT_FILE to your company's certificates; verification cannot be turned off",
                ) from None
            if makes and not isinstance(cause, NewConnectionError):
                raise UncertainError(
                    f"the reply was lost ({type(cause).__name__})", where=where, remedy=_LATER
                ) from None
            return f"the server cannot be reached ({type(cause).__name__})"

    def _wait(self, attempt: int, said: str | None) -> float:
        """Seconds before the next try: as the server says, else doubled each time, and spread by chance."""
        if said is not None and said.strip().isdigit():
            return min(float(said), _LONGEST_PAUSE)
        doubled: float = self._pause * 2 ** (attempt - 1)
        return min(doubled, _LONGEST_PAUSE) * random.uniform(0.8, 1.2)


def _refusal(reply: urllib3.BaseHTTPResponse, where: str, *, made: bool) -> CurateError:
    body = redact(bytes(reply.data).decode("utf-8", "replace"))[:_SHOWN].strip()
    if reply.status in (401, 403):
        refused = ForbiddenError if reply.status == 403 else UnavailableError
        return refused(
            f"the server refuses the token ({reply.status})",
            where=where,
            remedy="check the token and its rights; 'curate login' stores a new one",
        )
    if reply.status >= 500:
        kind = UncertainError if made else UnavailableError
        return kind(f"the server fails ({reply.status}): {body}", where=where, remedy=_LATER)
    remedy = "check the address" if reply.status == 404 else None
    text = f"the server refuses ({reply.status}): {body}" if body else f"the server refuses ({reply.status})"
    return RefusedError(text, where=where, remedy=remedy, status=reply.status, body=body)
