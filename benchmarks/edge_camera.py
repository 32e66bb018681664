"""`curate run` looking at a camera in the network, in a process of its own: for an hour, or until it is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HARVEST_MEGABYTES: Final = 20
"""That hard frames may take: in an hour they are many times that."""


@dataclass
class Watched:
    """`curate run` in a process of its own, and what it has said so far.

    Attributes:
        process: It.
        told: Frames that had a line.
        gaps: Numbers of frames that had none, before the last that had one.
        disorder: Lines whose frame does not come after the one before.
        summary: Its last line; None before it comes.
    """

    process: subprocess.Popen[str]
    told: int = 0
    gaps: int = 0
    disorder: int = 0
    summary: dict[str, Any] | None = None
    _thread: threading.Thread | None = None

    def listen(self) -> None:
        """Begin to take its lines."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> int:
        """Its exit status, when all of its lines are taken."""
        assert self._thread is not None
        self._thread.join()
        return self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        last = -1
        with self.process.stdout as lines:
            for text in lines:
                try:
                    line = json.loads(text)
                except ValueError:  # cut off: the process was killed
                    continue
                if line["kind"] == "frame":
                    self.told += 1
                    self.gaps += max(line["frame"] - last - 1, 0)
                    self.disorder += line["frame"] <= last
                    last = line["frame"]
                elif line["kind"] == "summary":
                    self.summary = line


def start(package: Path, url: str, harvest: Path, *, seconds: float | None, output: Path | None = None) -> Watched:
    """Start `curate run --harvest` on one core.

    Args:
        package: What looks.
        url: At which camera.
        harvest: Folder of the hard frames.
        seconds: After which it ends; None for never.
        output: File of JSON lines, begun anew at one megabyte.
    """
    words = ["run", str(package), "--source", url, "--harvest", str(harvest), "--json"]
    words += ["--harvest-size", str(HARVEST_MEGABYTES)]
    words += [] if seconds is None else ["--seconds", str(seconds)]
    words += [] if output is None else ["--output", str(output), "--output-limit", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_ONE_CORE, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if output is None else None,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    watched = Watched(process)
    watched.listen()
    return watched


_ON_ONE_CORE: Final = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
from curate.cli import main
main()
"""
