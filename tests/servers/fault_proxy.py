"""A proxy on this machine, between a client and its server, that makes the requests of its script fail.

Requests are counted from 0, over all servers that the proxy stands in front of, in the order in which they arrive. What is
said of a reply is kept as the server said it: one without a length stays one, so that a part of it may pass for the whole.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

Fault = Literal["cut", "halved", "lost", "truncated", "429", "500", "504", "slow", "held", "held late"]
"""What a request meets.

- cut: the connection, before the server has heard of it; halved: in the middle of the request
- lost: the connection is cut after the server has acted; truncated: in the middle of the reply
- 429, 500: the server is not asked; 504: it has acted, and the proxy says that it took too long
- slow: a fifth of a second passes
- held, held late: nothing goes on, before or after the server has acted, until `Proxy.release`; then the connection is cut
"""

FAULTS: tuple[Fault, ...] = get_args(Fault)

_SLOW_SECONDS = 0.2
_HELD_SECONDS = 60.0
_ANSWER_SECONDS = 120.0
_OF_THE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "proxy-connection"})


@dataclass
class Proxy:
    """What fails, and what has come by.

    Attributes:
        faults: What requests meet, by their number.
        down_from: From this request on the server cannot be reached; None for never.
        requests: 'METHOD /path' of each.
        credentials: Every secret that a client has sent, in a header or a query.
        held: Set while a request is being held.
    """

    faults: Mapping[int, Fault] = field(default_factory=dict)
    down_from: int | None = None
    requests: list[str] = field(default_factory=list)
    credentials: set[str] = field(default_factory=set)
    held: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _servers: dict[str, tuple[ThreadingHTTPServer, threading.Thread]] = field(default_factory=dict)

    def in_front_of(self, url: str) -> str:
        """The address at which a server is reached through the proxy; the same for the same server."""
        if url not in self._servers:
            server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, urlsplit(url).netloc))
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            self._servers[url] = server, thread
        return f"http://127.0.0.1:{self._servers[url][0].server_port}"

    def play(self, faults: Mapping[int, Fault] | None = None, *, down_from: int | None = None) -> None:
        """Begin anew with a script: counts from 0."""
        with self._lock:
            self.requests.clear()
            self.faults, self.down_from = dict(faults or {}), down_from
            self.held.clear()
            self._released.clear()

    def release(self) -> None:
        """Cut the connections that are being held, and hold no others."""
        self._released.set()

    def hold(self) -> None:
        """Wait for `release`."""
        self.held.set()
        self._released.wait(_HELD_SECONDS)

    def next_fault(self, request: str) -> Fault | None:
        """Count a request; what it meets."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            if self.down_from is not None and number >= self.down_from:
                return "cut"
            return self.faults.get(number)

    def close(self) -> None:
        """Stop listening."""
        self.release()
        for server, thread in self._servers.values():
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def running() -> Iterator[Proxy]:
    """A proxy that lets everything pass, until the block ends."""
    proxy = Proxy()
    try:
        yield proxy
    finally:
        proxy.close()


@dataclass(frozen=True)
class _Reply:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    content: bytes
    is_measured: bool


def _handler(proxy: Proxy, upstream: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            _note_credentials(proxy, self)
            fault = proxy.next_fault(f"{self.command} {urlsplit(self.path).path}")
            if fault in ("429", "500"):
                headers = [("Retry-After", "0")] if fault == "429" else []
                self.give(_Reply(int(fault), "", headers, b'{"detail": "try again"}', True))
                return
            if fault == "held":
                proxy.hold()
            if fault == "slow":
                time.sleep(_SLOW_SECONDS)
            reply = None
            if fault not in ("cut", "held"):
                try:
                    reply = self.ask(body, len(body) // 2 if fault == "halved" else None)
                except (OSError, http.client.HTTPException):
                    reply = None  # the server is down
            if fault == "held late":
                proxy.hold()
            if reply is None or fault in ("lost", "held late"):
                self.close_connection = True
            elif fault == "504":
                self.give(_Reply(504, "", [], b"<html>it took too long</html>", True))
            else:
                self.give(reply, whole=fault != "truncated")

        def ask(self, body: bytes, cut_at: int | None) -> _Reply | None:
            """The server's reply; none to a request that is cut in its body."""
            connection = http.client.HTTPConnection(upstream, timeout=_ANSWER_SECONDS)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _OF_THE_CONNECTION:
                        connection.putheader(name, value)
                connection.endheaders(body[:cut_at])
                if cut_at is not None:
                    return None
                reply = connection.getresponse()
                headers = [
                    (name, value) for name, value in reply.getheaders() if name.lower() not in _OF_THE_CONNECTION
                ]
                is_measured = reply.chunked or reply.length is not None
                return _Reply(reply.status, reply.reason, headers, reply.read(), is_measured)
            finally:
                connection.close()

        def give(self, reply: _Reply, *, whole: bool = True) -> None:
            has_content = self.command != "HEAD" and reply.status not in (204, 304)
            self.close_connection = self.close_connection or not (whole and reply.is_measured)
            if not whole and not reply.content:
                self.wfile.write(b"HTTP/1.1 ")  # in the middle of the head: there is nothing else to cut
                return
            self.send_response_only(reply.status, reply.reason)
            for name, value in reply.headers:
                if name.lower() != "content-length" or not has_content:
                    self.send_header(name, value)
            if has_content and reply.is_measured:
                self.send_header("Content-Length", str(len(reply.content)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if has_content:
                self.wfile.write(reply.content if whole else reply.content[: len(reply.content) // 2])

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - as http.server calls them

    return Handler


def _note_credentials(proxy: Proxy, request: BaseHTTPRequestHandler) -> None:
    authorization = request.headers.get("Authorization")
    if authorization:
        proxy.credentials.add(authorization.rpartition(" ")[2])
    proxy.credentials.update(parse_qs(urlsplit(request.path).query).get("api_key", ()))
