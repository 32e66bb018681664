"""A real Label Studio server: installed once, started for a test session, and ended with it.

The package has a virtual environment of its own, because its pins and ours do not agree. That environment and a data
folder with every migration done are kept between runs, under `$CURATE_TEST_SERVERS` or the user's cache folder, and are
each made aside and then renamed, under a lock: a run that is killed, or two at once, leave nothing half made. A session
works on a copy of the data folder.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

VERSION = "1.23.2"
USER, PASSWORD = "admin@example.com", "correct horse battery"
TOKEN = "c0ffee" + "0123456789" * 3 + "cafe"  # of a server that only this machine sees, and that holds only test data

INSTALL_SECONDS = 1200
MIGRATE_SECONDS = 600
START_SECONDS = 180
ANSWER_SECONDS = 120
STOP_SECONDS = 15

# The server as the command `label-studio` starts it, but ended with the process at the other end of its input: a test
# run that is killed leaves no server behind.
LAUNCH = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
from label_studio.server import main
"""
# The database need not outlive the machine: not waiting for the disk makes a write five to ten times as fast.
HASTY = """
from django.db.backends.signals import connection_created
connection_created.connect(lambda connection, **_: connection.cursor().execute("PRAGMA synchronous=OFF"), weak=False)
"""


class NotInstalled(Exception):
    """The package cannot be installed here; the message says why."""


class NotStarted(Exception):
    """The server ended or did not answer; the message ends with the last of its log."""


@dataclass(frozen=True)
class LabelStudio:
    """A running server.

    Args:
        url: Its address, without a slash at the end.
        token: The administrator's legacy token.
        folder: Its data folder: the database, `media/` with the uploads, `files/` for local file serving, `server.log`.
        pid: Its process.
    """

    url: str
    token: str = field(repr=False)
    folder: Path
    pid: int

    def request(self, method: str, path: str, body: object = None, *, authorization: str | None = None) -> Any:
        """The JSON reply of one call, sent with the legacy token unless `authorization` is given ("" sends none).

        Raises:
            urllib.error.HTTPError: The server said no.
        """
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, sent, method=method)
        if sent is not None:
            request.add_header("Content-Type", "application/json")
        authorization = f"Token {self.token}" if authorization is None else authorization
        if authorization:
            request.add_header("Authorization", authorization)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as reply:
            content = reply.read()
        return json.loads(content) if content else None

    def personal_token(self) -> str:
        """The administrator's personal access token. A user has one at a time, so that every call gives the same."""
        return _personal_token(self)

    def annotator(self, email: str, password: str = PASSWORD) -> str:
        """Legacy token of a new user, who signs up by the invitation link as a person would."""
        cookies = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        page = self.url + self.request("GET", "/api/invite")["invite_url"]
        browser.open(page, timeout=ANSWER_SECONDS).close()
        csrf = next(str(cookie.value) for cookie in cookies if cookie.name == "csrftoken")
        filled = urllib.parse.urlencode({"email": email, "password": password, "csrfmiddlewaretoken": csrf})
        form = urllib.request.Request(page, filled.encode(), {"Referer": page})
        browser.open(form, timeout=ANSWER_SECONDS).close()
        with browser.open(self.url + "/api/current-user/token", timeout=ANSWER_SECONDS) as reply:
            return str(json.load(reply)["token"])


@cache
def _personal_token(server: LabelStudio) -> str:
    return str(server.request("POST", "/api/token/", {})["token"])


@contextmanager
def running(folder: Path, *, durable: bool = False) -> Iterator[LabelStudio]:
    """A server with an empty database, on a free port of 127.0.0.1, until the context ends.

    Args:
        folder: A new folder for its data.
        durable: Every write waits for the disk, as it does on a server in use: for timings.

    Raises:
        NotInstalled: The package is not here and cannot be had.
        NotStarted: The server did not come up.
    """
    python, data = installed()
    shutil.copytree(data, folder, dirs_exist_ok=True)
    with _started(python, folder, START_SECONDS, durable) as server:
        yield server


def installed() -> tuple[Path, Path]:
    """Interpreter of the kept environment and the kept data folder; both are made where they are missing."""
    kept = kept_folder() / f"label-studio-{VERSION}-py{sys.version_info.major}.{sys.version_info.minor}"
    kept.mkdir(parents=True, exist_ok=True)
    environment, data = kept / "environment", kept / "data"
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    with FileLock(kept / "lock", timeout=INSTALL_SECONDS + MIGRATE_SECONDS):
        made_once(environment, _install)
        made_once(data, lambda folder: _migrate(python, folder))
    return python, data


def kept_folder() -> Path:
    """Folder that test servers are kept in."""
    given = os.environ.get("CURATE_TEST_SERVERS")
    return Path(given).absolute() if given else user_cache_path("curate-tests", appauthor=False)


def made_once(target: Path, make: Callable[[Path], None]) -> None:
    """Make a folder aside and give it its name when it is whole. The caller holds the lock."""
    if target.is_dir():
        return
    for leftover in target.parent.glob(f"{target.name}-unfinished-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # what a killed run installs may still be written
    aside = Path(tempfile.mkdtemp(prefix=f"{target.name}-unfinished-", dir=target.parent))
    try:
        make(aside)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _install(folder: Path) -> None:
    """A virtual environment with the package; its scripts name this folder, so that only the interpreter is used."""
    pip = "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--retries", "1", "--timeout", "30"
    interpreter = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", folder],
        [interpreter, *pip, f"label-studio=={VERSION}"],
    ]
    for command in commands:
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"label-studio {VERSION} was not installed in {INSTALL_SECONDS} s") from None
        if result.returncode:
            lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or [result.stderr.strip()]
            raise NotInstalled(f"label-studio {VERSION} cannot be installed: {lines[-1]}")


def _migrate(python: Path, folder: Path) -> None:
    """A data folder with every migration done and the administrator in it."""
    with _started(python, folder, MIGRATE_SECONDS, durable=False):
        pass


@contextmanager
def _started(python: Path, folder: Path, seconds: float, durable: bool) -> Iterator[LabelStudio]:
    """The server on a data folder, healthy, and ended when the context ends."""
    (folder / "home").mkdir(exist_ok=True)
    (folder / "files").mkdir(exist_ok=True)
    port = _free_port()
    launch = LAUNCH + ("" if durable else HASTY) + "main()"
    command = [str(python), "-c", launch, "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder, port),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process, log, seconds)
        yield LabelStudio(url, TOKEN, folder, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _environment(folder: Path, port: int) -> dict[str, str]:
    """All that the server sees of the world: nothing of the user's settings, and no host to call."""
    home = str(folder / "home")
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": home,
        "XDG_CONFIG_HOME": home,
        "XDG_DATA_HOME": home,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": PASSWORD,
        "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "FEATURE_FLAGS_OFFLINE": "true",
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(folder / "files"),
        "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}",
    }


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Return when the server is healthy and listens where it was told to.

    Where the port was taken meanwhile, Label Studio moves to the next one, and another session's server may answer at
    ours: the log tells.
    """
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url + "/health", timeout=5) as reply:
                healthy = reply.status == 200
        except OSError:
            healthy = False
        said = log.read_text(errors="replace")
        if healthy and f"{url}/\n" in said:
            return
        time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise NotStarted(f"Label Studio did not come up at {url} in {seconds:.0f} s; the end of its log:\n{tail}")
