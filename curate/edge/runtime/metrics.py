"""Numbers of a run for Prometheus: counters, gauges and histograms, in its text format 0.0.4, over HTTP.

Enough for one process and no more; the labels' values are names of classes, stages and lines, so memory does not grow.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from curate.errors import UnavailableError, UsageError

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LATENCIES: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends, in seconds, of the ranges in which latencies are counted."""

_CLIENT_TIMEOUT: Final = 5.0

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """All numbers of a run; any thread may change and read them.

    Args:
        prefix: Of every name.
    """

    def __init__(self, prefix: str = "curate_") -> None:
        self._prefix = prefix
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, Histogram] = {}

    def describe(self, kind: str, names: Mapping[str, str]) -> None:
        """Say what numbers there are, 'counter' or 'gauge', and what they mean."""
        with self._lock:
            for name, meaning in names.items():
                self._help[name] = (kind, meaning)
                self._values.setdefault(name, {})

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Count more of something."""
        with self._lock:
            values, key = self._values[name], tuple(sorted(labels.items()))
            values[key] = values.get(key, 0.0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """What something is now."""
        with self._lock:
            self._values[name][tuple(sorted(labels.items()))] = value

    def histogram(self, name: str, meaning: str, ends: Sequence[float] = LATENCIES) -> Histogram:
        """A histogram of that name."""
        with self._lock:
            self._help[name] = ("histogram", meaning)
            return self._histograms.setdefault(name, Histogram(ends))

    def render(self) -> str:
        """Everything as Prometheus reads it."""
        with self._lock:
            lines = []
            for name, (kind, meaning) in self._help.items():
                full = self._prefix + name
                lines += [f"# HELP {full} {_escaped(meaning, quotes=False)}", f"# TYPE {full} {kind}"]
                if kind == "histogram":
                    lines += self._histograms[name].lines(full)
                else:
                    lines += [f"{full}{_braces(labels)} {value!r}" for labels, value in self._values[name].items()]
            return "\n".join(lines) + "\n"


class Histogram:
    """How many values fall into ranges.

    Args:
        ends: Upper ends of the ranges, ascending.
    """

    def __init__(self, ends: Sequence[float]) -> None:
        self._ends, self._counts, self._sum = tuple(ends), [0] * (len(ends) + 1), 0.0
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Count one more."""
        with self._lock:
            self._counts[bisect.bisect_left(self._ends, value)] += 1
            self._sum += value

    def quantile(self, part: float) -> float | None:
        """About the value below which a part of them lies, evenly within its range; None where there are none."""
        with self._lock:
            wanted, below = part * sum(self._counts), 0
            for row, count in enumerate(self._counts):
                if count and below + count >= wanted:
                    low = self._ends[row - 1] if row else 0.0
                    high = self._ends[row] if row < len(self._ends) else low
                    return low + (high - low) * (wanted - below) / count
                below += count
            return None

    def lines(self, name: str) -> list[str]:
        """As Prometheus reads it."""
        with self._lock:
            told, below = [], 0
            for end, count in zip((*map(repr, self._ends), "+Inf"), self._counts, strict=True):
                below += count
                told.append(f'{name}_bucket{{le="{end}"}} {below}')
            return [*told, f"{name}_sum {self._sum!r}", f"{name}_count {below}"]


@contextmanager
def serving(metrics: Callable[[], str], address: str, *, healthy: Callable[[], bool]) -> Iterator[str]:
    """Serve `/metrics`, and `/healthz` (200, or 503 where something is wrong), within the block.

    Args:
        metrics: Gives the text.
        address: `HOST:PORT`; a port alone is on 127.0.0.1, and port 0 is any that is free.
        healthy: Whether all is well.

    Yields:
        Where it is served: `http://127.0.0.1:9464/metrics`.

    Raises:
        UsageError: The address is none.
        UnavailableError: The port is taken, or not allowed.
    """
    host, port = parse_address(address)

    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_TIMEOUT

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, metrics().encode(), CONTENT_TYPE)
            elif path == "/healthz":
                well = healthy()
                self._answer(200 if well else 503, b"ok\n" if well else b"no frames\n", "text/plain")
            else:
                self._answer(404, b"/metrics and /healthz\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    try:
        server = _Server((host, port), Handler)
    except OSError as error:
        raise UnavailableError(
            f"metrics cannot be served: {error.strerror or error}", where=f"{host}:{port}", remedy="take another port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nobody's trouble."""


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, or a port on 127.0.0.1.

    Raises:
        UsageError: It is neither.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"'{text}' is no address", where="--metrics", remedy="as in 127.0.0.1:9464, or 9464")
    return host or "127.0.0.1", int(port)


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels) + "}"


def _escaped(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
