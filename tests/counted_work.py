"""Counts what curate does as work that no machine and no neighbour changes: lines of Python, and bytes.

    python -m counted_work HOMES WORDS

HOMES is a JSON list of data folders, WORDS one of a command's arguments. The command runs in this process in every home, one
after the other; the first run is not counted: it imports. The last line printed is a JSON list with an object
for every other home: how many lines and calls were executed in all threads, the most bytes that numpy and Python held at once,
and the same of Arrow.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import tracemalloc
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa


class Lines:
    """Counts executed lines of Python and calls of its functions: of this thread, and of those that start from now on.

    A loop counts on each of its turns, though it be on one line.
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Lines:
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        return self

    def __exit__(self, *of_error: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        self.count += 1
        return self._execute

    def _execute(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.count += 1
        return self._execute


def run_in(home: str, words: list[str]) -> None:
    """Run a command in this process, on that data folder; what it writes to `{home}/target` is deleted.

    Raises:
        RuntimeError: It failed.
    """
    from curate.cli import main

    os.environ["CURATE_HOME"] = home
    sys.argv = ["curate", *(word.replace("{home}", home) for word in words)]
    with redirect_stdout(StringIO()):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"{words} ended with status {end.code}") from None
    shutil.rmtree(Path(home) / "target", ignore_errors=True)


def count(homes: list[str], words: list[str]) -> list[dict[str, int]]:
    """What the command takes in each home but the first."""
    run_in(homes[0], words)
    found = []
    with Lines() as lines:
        for home in homes[1:]:
            before = lines.count
            tracemalloc.start()
            run_in(home, words)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            executed = lines.count - before
            found.append({"lines": executed, "bytes": peak, "arrow": pa.default_memory_pool().max_memory()})
    return found


if __name__ == "__main__":
    print("\n" + json.dumps(count(json.loads(sys.argv[1]), json.loads(sys.argv[2]))))
