"""Files from the hosts that the service refers to: images, exports. They get no token, and no redirect loses TLS."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from curate.connectors.addresses import is_this_machine
from curate.connectors.http import TRIES
from curate.errors import InputError, UnavailableError
from curate.redaction import redact

_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 60.0
_BLOCK: Final = 1 << 20
_MOST_REDIRECTS: Final = 5
_AT_ONCE: Final = 4
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class Downloads:
    """Fetches files, whole or not at all.

    Args:
        plain: Whether this machine may be asked without TLS: it is where the service itself runs.
        pause: Seconds before the second try, doubled each time.
    """

    def __init__(self, *, plain: bool, pause: float) -> None:
        self._plain = plain
        self._pause = pause
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
        self._pool = urllib3.PoolManager(maxsize=_AT_ONCE, block=True, timeout=timeout, retries=False)

    def content(self, url: str) -> bytes:
        """A file's bytes.

        Raises:
            UnavailableError: The host cannot be reached, or cuts every reply short.
            InputError: It refuses, or the address is none that may be asked.
        """
        buffer = io.BytesIO()
        self._fetch(url, buffer)
        return buffer.getvalue()

    def save(self, url: str, path: Path) -> None:
        """Write a file's bytes to a path; otherwise as `content`."""
        with path.open("wb") as file:
            self._fetch(url, file)

    def _fetch(self, url: str, into: BinaryIO) -> None:
        for attempt in range(1, TRIES + 1):
            into.seek(0)
            into.truncate()
            failure = self._attempt(url, into)
            if failure is None:
                return
            if attempt < TRIES:
                time.sleep(self._pause * 2 ** (attempt - 1))
        raise UnavailableError(
            f"{failure}, {TRIES} times", where=_shown(url), remedy="run the command again later: nothing is doubled"
        )

    def _attempt(self, url: str, into: BinaryIO) -> str | None:
        """Why a try failed, where another may succeed."""
        for _ in range(_MOST_REDIRECTS + 1):
            self._check(url)
            try:
                # Compressed on the way, a file would not have the length that is announced.
                reply = self._pool.request(
                    "GET", url, headers={"Accept-Encoding": "identity"}, redirect=False, preload_content=False
                )
                try:
                    if reply.status in _REDIRECTS and "Location" in reply.headers:
                        url = urljoin(url, reply.headers["Location"])
                        continue
                    if reply.status in _AGAIN:
                        return f"the host answers {reply.status}"
                    if reply.status != 200:
                        raise InputError(f"the file cannot be had ({reply.status})", where=_shown(url))
                    if "Content-Length" not in reply.headers and not getattr(reply, "chunked", False):
                        return "the host does not say how long the file is, so that a part might pass for the whole"
                    for block in reply.stream(_BLOCK, decode_content=False):
                        into.write(block)
                    return None
                finally:
                    reply.close()
            except HTTPError as error:
                return f"the file did not come whole ({type(error).__name__})"
        raise InputError("too many redirects", where=_shown(url))

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "https" or (parts.scheme == "http" and self._plain and is_this_machine(parts.netloc)):
            return
        raise InputError("the service refers to an address without TLS", where=_shown(url))


def _shown(url: str) -> str:
    """The address without its query, which often is a key to the file."""
    parts = urlsplit(url)
    return redact(f"{parts.scheme}://{parts.netloc}{parts.path}")
