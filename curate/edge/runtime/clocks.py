"""How long each stage of a run works, and whether one of them hangs."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

NOTIFY_VARIABLE: Final = "NOTIFY_SOCKET"
_LOOK: Final = 0.5


class StageClock:
    """One stage's time. One thread works in it; any may read.

    Attributes:
        name: Of the stage.
        seconds: That it has worked.
        frames: That it is done with.
    """

    def __init__(self, name: str) -> None:
        self.name, self.seconds, self.frames = name, 0.0, 0
        self._since: float | None = None

    @contextmanager
    def working(self, frames: int = 1) -> Iterator[None]:
        """Around the work on so many frames."""
        begun = self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None
            self.seconds += time.monotonic() - begun
            self.frames += frames

    def beat(self, ahead: float = 0.0) -> None:
        """A sign of life within long work; what comes now may take so many seconds more, for it ends by itself."""
        if self._since is not None:
            self._since = time.monotonic() + ahead

    @property
    def silent(self) -> float:
        """Seconds since it began to work, or last gave a sign of life; 0 while it waits."""
        since = self._since
        return 0.0 if since is None else max(0.0, time.monotonic() - since)


class Watchdog:
    """Calls somebody when a stage hangs, from a thread of its own; and tells systemd while none does.

    A thread that hangs in a driver or a full disk cannot be ended from within. So whoever is called ends the process, and
    whatever started it starts it again.

    Args:
        clocks: Of the stages.
        limit: Seconds of silence of a stage that works.
        act: Called once, with the stage's name and the seconds of its silence.
    """

    def __init__(self, clocks: list[StageClock], limit: float, act: Callable[[str, float], None]) -> None:
        self._clocks, self._limit, self._act = clocks, limit, act
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        notify("READY=1")
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()
        notify("STOPPING=1")

    def _watch(self) -> None:
        pause = min(_LOOK, self._limit / 4)
        looked = time.monotonic()
        while not self._stopped.wait(pause):
            late, looked = time.monotonic() - looked > self._limit / 2, time.monotonic()
            if late:  # the whole process slept, as after Ctrl-Z: that is no stage's fault
                for clock in self._clocks:
                    if clock.silent:
                        clock.beat()
            worst = max(self._clocks, key=lambda clock: clock.silent)
            if (silent := worst.silent) > self._limit:
                self._act(worst.name, silent)
                return
            notify("WATCHDOG=1")


def notify(message: str) -> None:
    """Tell systemd how a service is (sd_notify(3)); nothing where it is none."""
    address = os.environ.get(NOTIFY_VARIABLE)
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
