"""The contenders of `benchmarks.versus`, each run in a process of its own on an input that is there.

    python -m benchmarks.versus_methods ROW CONTENDER FOLDER

The last line printed is a JSON object: seconds of the processor (of threads, child processes and FiftyOne's database too) and
on the clock, the largest resident memory before and by the end, and how much came out. Imports, loading what is no part of the
work, and a small run that warms up come before. Nothing of curate is imported before a contender asks for it, so that a peer
may run in an interpreter that has only the peer.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

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
        before, cpu, wall = peak_mb(), cpu_seconds(), time.perf_counter()
        found = work()
        measured = {"cpu_s": cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}
        print("\n" + json.dumps({**measured, "before_mb": before, "peak_mb": peak_mb(), "found": found}))


@contextmanager
def _ready(contender: Contender, folder: Path) -> Iterator[Work]:
    if contender.package == "fiftyone":
        from curate.connectors.fiftyone.environment import connected

        with connected():
            yield contender.prepare(folder)
    else:
        yield contender.prepare(folder)


def cpu_seconds() -> float:
    """User and system time of this process, of children that have ended, and of those that run (FiftyOne's database)."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    spent = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    if "fiftyone" in sys.modules:
        psutil = import_module("psutil")  # comes with FiftyOne
        times = [each.cpu_times() for each in psutil.Process().children(recursive=True)]
        spent += sum(each.user + each.system for each in times)
    return float(spent)


def peak_mb() -> float:
    """Largest resident memory of this process so far, in 2^20 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
