"""The App's server: one process on 127.0.0.1, which ends with curate's, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from curate.connectors.fiftyone.database import INSTEAD, LOCAL, app_folder
from curate.errors import UnavailableError

_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 10


@contextmanager
def server(port: int) -> Iterator[None]:
    """The App's server on a free port, for as long as the block lasts; its log lies in curate's folder for FiftyOne.

    Raises:
        UnavailableError: It does not start.
    """
    log = app_folder() / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "curate.connectors.fiftyone.serve", str(port)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for curate, which ends it in its own time
        )
    try:
        _wait(process, port, log)
        yield
    finally:
        if process.stdin is not None:
            process.stdin.close()  # which it ends at, without waiting for browsers that are still connected
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when the server answers."""
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(f"http://{LOCAL}:{port}/fiftyone", timeout=5):
            return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise UnavailableError(
        f"the App's server does not start: {lines[-1] if lines else 'it does not answer'}",
        where=log,
        remedy=f"say another --port; {INSTEAD}",
    )
