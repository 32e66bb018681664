"""A local stand-in for a CVAT server (CVAT itself needs containers): it answers the REST calls of cvat-sdk over real HTTP.

The replies have the shapes of CVAT's OpenAPI document, which the SDK's own models check. Of what was recorded of real servers
(2.80) it follows: tokens as ``Bearer`` or, older, ``Token``; 401, 403 and 404 with a ``detail``; two files of one basename in an
upload are 500; work in the background stays queued for a moment; a failed upload leaves an empty task. Where nothing was
recorded it does what CVAT's published source says: lists in pages, the newest first unless sorted; files that are sent again
are appended to. `cvat_calls` and `cvat_uploads` have the calls, and `cvat_model` what they are about.

It is strict: an unknown path is 404 and is kept in `Cvat.unknown`, where the fixture sees it; JSON that is none is 400.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from tests.servers import cvat_uploads as cvat_uploads  # registers its calls
from tests.servers.cvat_calls import ROUTES, Asked, Reply
from tests.servers.cvat_model import Model, Refused

TOKEN = "pat-3f9c2e.of-a-server-that-only-this-machine-sees"
OLD_KEY = "0123456789abcdef0123456789abcdef01234567"
READ_ONLY = "pat-7a1b2c.may-only-read-what-is-there"

Fault = Literal["before", "after"] | int
"""The connection is cut before the server acts or after it has; or a status, and nothing is done."""


@dataclass
class Cvat:
    """A running stand-in.

    Attributes:
        url: Its address.
        token: A personal access token.
        model: What it holds.
        fault: Asked before each request, with its method and path; None for no fault.
        seen: Method and path, with its query, of each request.
        unknown: Paths that it does not know.
    """

    url: str = ""
    token: str = TOKEN
    model: Model = field(default_factory=Model)
    fault: Callable[[str, str], Fault | None] = lambda method, path: None
    seen: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)


@contextmanager
def running() -> Iterator[Cvat]:
    """A stand-in on a free port of this machine, until the block ends."""
    cvat = Cvat()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Requests", (_Requests,), {"cvat": cvat}))
    server.daemon_threads = True
    cvat.url = cvat.model.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield cvat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Requests(BaseHTTPRequestHandler):
    cvat: Cvat
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.cvat.seen.append(f"{self.command} {self.path}")
        fault = self.cvat.fault(self.command, parts.path)
        if fault == "before":
            return self._cut()
        if isinstance(fault, int):
            reply = Reply(fault, {"detail": "told to"}, {"Retry-After": "0"})
        else:
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            asked = Asked(self.command, parts.path, query, self.headers, body)
            with self.cvat.lock:
                reply = self._handle(asked)
        return self._cut() if fault == "after" else self._send(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815 - the names that the base class calls

    def _handle(self, asked: Asked) -> Reply:
        try:
            self._authorize(asked)
            for method, pattern, handler in ROUTES:
                match = pattern.fullmatch(asked.path)
                if method == asked.method and match:
                    found = handler(self.cvat.model, asked, [int(each) for each in match.groups() if each.isdigit()])
                    return found if isinstance(found, Reply) else Reply(201 if method == "POST" else 200, found)
            self.cvat.unknown.append(f"{asked.method} {asked.path}")
            raise Refused(404, {"detail": "Not found."})
        except Refused as refused:
            return Reply(refused.status, refused.body)

    def _authorize(self, asked: Asked) -> None:
        given = asked.headers.get("Authorization", "")
        if given not in {f"Bearer {TOKEN}", f"Token {OLD_KEY}", f"Bearer {READ_ONLY}"}:
            raise Refused(401, {"detail": "Authentication credentials were not provided."})
        if given.endswith(READ_ONLY) and asked.method not in {"GET", "HEAD"}:
            raise Refused(403, {"detail": "You do not have permission to perform this action."})

    def _send(self, reply: Reply) -> None:
        is_bytes = isinstance(reply.body, bytes)
        data = reply.body if is_bytes else b"" if reply.body is None else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "image/jpeg" if is_bytes else "application/vnd.cvat+json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""
