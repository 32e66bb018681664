"""The contenders of `benchmarks.versus`, each run in a process of its own on an input that is there.

    python -m benchmarks.versus_methods ROW CONTENDER FOLDER

The last line printed is a JSON object: seconds of the processor (of threads, child processes and FiftyOne's database too) and
on the clock, the largest resident memory before and by the end, and how much came out. Imports, loading what is no part of the
work, and a small run that warms up come before. Nothing of curate is imported before a contender asks for it, so that a peer
may run in an interpreter that has only the peer.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

from benchmarks.usage import cpu_seconds, peak_mb
from benchmarks.versus_arrays import BOX_ERRORS, EVALUATION, LABEL_ERRORS, LEAKS, PAIRS
from benchmarks.versus_files import EXPORT, IMPORT, QUALITY, SYNC, Contender, Work

METHODS: Final[Mapping[str, Mapping[str, Contender]]] = {
    "import COCO": IMPORT,
    "export COCO": EXPORT,
    "app sync": SYNC,
    "hashes and quality": QUALITY,
    "near-duplicates": PAIRS,
    "leaks": LEAKS,
    "mistakes, classes": LABEL_ERRORS,
    "mistakes, boxes": BOX_ERRORS,
    "evaluate": EVALUATION,
}


def main() -> None:
    """Run one contender."""
    row, name, folder = sys.argv[1:]
    with _ready(METHODS[row][name], Path(folder)) as work:
        before, cpu, wall = peak_mb(), _cpu_seconds(), time.perf_counter()
        found = work()
        measured = {"cpu_s": _cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}
        print("\n" + json.dumps({**measured, "before_mb": before, "peak_mb": peak_mb(), "found": found}))


@contextmanager
def _ready(contender: Contender, folder: Path) -> Iterator[Work]:
    if contender.package == "fiftyone":
        from curate.connectors.fiftyone.environment import connected

        with connected():
            yield contender.prepare(folder)
    else:
        yield contender.prepare(folder)


def _cpu_seconds() -> float:
    """As `cpu_seconds`, and of children that still run (FiftyOne's database)."""
    spent = cpu_seconds()
    if "fiftyone" in sys.modules:
        psutil = import_module("psutil")  # comes with FiftyOne
        times = [each.cpu_times() for each in psutil.Process().children(recursive=True)]
        spent += sum(each.user + each.system for each in times)
    return float(spent)


if __name__ == "__main__":
    main()
