"""The App while it runs: shown on this machine alone, and kept equal with the dataset both ways."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from typing import Any, Final
from urllib.parse import quote

from filelock import FileLock, Timeout

from curate.connectors.fiftyone import PORT
from curate.connectors.fiftyone.database import LOCAL, app_folder, free_port, is_listening
from curate.connectors.fiftyone.environment import connected
from curate.connectors.fiftyone.publish import Progress
from curate.connectors.fiftyone.server import server
from curate.connectors.fiftyone.sync import Link, Synced
from curate.dataset import open_dataset
from curate.errors import DatasetLocked, UsageError

_EVERY: Final = 1.0
"""Seconds between two looks at what has changed."""


def run_app(
    name: str,
    *,
    port: int = PORT,
    anew: bool = False,
    command: str,
    progress: Progress | None = None,
    opened: Callable[[str, Synced], None],
    synced: Callable[[Synced], None],
    waiting: Callable[[str], None],
    until: threading.Event | None = None,
) -> None:
    """Show a dataset in the App until the user interrupts it (Ctrl-C, or a signal to end).

    Args:
        name: The dataset.
        port: Where the App is served, on 127.0.0.1; 0 for any that is free.
        anew: Make the FiftyOne dataset anew.
        command: The command line, for the history.
        progress: Told (done, total) of the samples that are brought to the App first.
        opened: Told the App's address, and what was synced before.
        synced: Told what was synced while it runs, and at the end.
        waiting: Told why nothing can be taken over for now: another process is writing to the dataset.
        until: Ends it as well.

    Raises:
        MissingExtra: FiftyOne is not installed.
        UnavailableError: Its database cannot be used, or the App's server does not start.
        UsageError: The port is taken, the dataset is in the App already, or FiftyOne has another one of this name.
    """
    open_dataset(name)  # one that is not there is told before anything is started
    if port and is_listening(port):
        raise UsageError(
            "the port is taken", where=f"{LOCAL}:{port}", remedy="close what listens there, or say another with --port"
        )
    until = until or threading.Event()
    with opened_once(name), connected() as fiftyone:
        link = Link(fiftyone, name, command)
        first = link.open(anew=anew, progress=progress)
        assert link.target is not None  # the sync has made it
        port = port or free_port()
        with _ended_by_signals(until), server(port):
            session = _session(fiftyone, link.target.dataset, port)
            opened(f"http://{LOCAL}:{port}/datasets/{quote(name)}", first)
            try:
                _watch(link, session, until, synced, waiting)
            finally:
                with _silent():
                    fiftyone.close_app()


def pull_app(name: str, *, command: str) -> Synced:
    """Take over what was done in the App since the last time, without opening it.

    Raises:
        MissingExtra: FiftyOne is not installed.
        UnavailableError: Its database cannot be used.
        UsageError: The dataset has not been in the App, or is in it now.
        DatasetLocked: Another process is writing to the dataset.
    """
    open_dataset(name)
    with opened_once(name), connected() as fiftyone:
        return Link(fiftyone, name, command).pull()


def _watch(
    link: Link,
    session: Any,
    until: threading.Event,
    synced: Callable[[Synced], None],
    waiting: Callable[[str], None],
) -> None:
    """Keep both sides equal until the end, and once more then."""
    told = False
    last = False
    while not last:
        last = until.wait(_EVERY)
        try:
            done = link.poll()
        except DatasetLocked as error:
            if last:
                raise
            if not told:
                waiting(error.what)
            told = True
            continue
        told = False
        if done is not None and (done or done.losses.losses):
            synced(done)
            _refresh(session)


def _session(fiftyone: Any, dataset: Any, port: int) -> Any:
    """FiftyOne's connection with the server, by which the pages are told to look again."""
    no_server_of_its_own = {"FIFTYONE_DISABLE_SERVICES": "1"}
    os.environ.update(no_server_of_its_own)
    try:
        with _silent():
            session = fiftyone.launch_app(dataset, port=port, address=LOCAL, remote=True)
    finally:
        for name in no_server_of_its_own:
            del os.environ[name]
    session._disable_wait_warning = True  # it would say on stdout that it ended soon
    return session


def _refresh(session: Any) -> None:
    """Tell the pages to look again. One that cannot is not worth ending for: its user reloads it."""
    with suppress(RuntimeError, OSError):
        session.refresh()


def _silent() -> AbstractContextManager[Any]:
    """Keeps what FiftyOne prints for people at a Python prompt off stdout."""
    return redirect_stdout(io.StringIO())


@contextmanager
def opened_once(name: str) -> Iterator[None]:
    """Keeps a second process from showing a dataset: both would take over each edit."""
    folder = app_folder() / "open"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{name}.lock", blocking=False):
            yield
    except Timeout as error:
        raise UsageError(
            f"'{name}' is in the App already, which takes over what is done there",
            remedy="use that one, or end it with Ctrl-C first",
        ) from error


@contextmanager
def _ended_by_signals(until: threading.Event) -> Iterator[None]:
    """Ctrl-C and a request to end set the event instead of stopping the process half-way; a second one stops it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        if until.is_set():
            raise KeyboardInterrupt
        until.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
