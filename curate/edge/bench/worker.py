"""The process that measures: `python -m curate.edge.bench.worker JOB OUTCOME`, both files of JSON.

It has in it what a device would have: the runner, numpy, Pillow and the runtime. Subjects take turns, in another order each
round, so that whatever else the machine does hits them alike.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from curate.edge.bench.job import STAGES, Job, Outcome, Samples
from curate.runner import PackageError, Runner, load_image

REFUSED: Final = 3
"""Exit status where a package cannot be used; the reason is on stderr."""

NO_MEMORY: Final = 4
"""Exit status where the memory did not suffice."""

_WARM: Final = 3


def measure(job: Job) -> Outcome:
    """Do a job within this process, whose limits are changed for good.

    Raises:
        PackageError: A package, its runtime or an image cannot be used.
        MemoryError: What may be allocated does not suffice.
    """
    cores = _limit_cores(job.cores)
    before = _memory("VmRSS")
    if job.memory is not None:
        _limit_memory(job.memory)
    runners = [Runner(each.package, threads=each.threads, backend=each.backend) for each in job.subjects]
    measured: list[tuple[dict[str, list[float]], list[float]]] = [({name: [] for name in STAGES}, []) for _ in runners]
    for runner, subject in zip(runners, job.subjects, strict=True):
        for start in range(_WARM):
            _call(runner, _chosen(job.images, start, subject.batch))
    order, chance = list(range(len(runners))), random.Random(job.seed)
    gc.disable()
    started, rounds = time.perf_counter(), 0
    while rounds < job.least or time.perf_counter() - started < job.seconds * len(runners):
        chance.shuffle(order)
        for number in order:
            spent, cpu = _call(runners[number], _chosen(job.images, rounds, job.subjects[number].batch))
            for name, seconds in zip(STAGES, spent, strict=True):
                measured[number][0][name].append(seconds)
            measured[number][1].append(cpu)
        rounds += 1
        gc.collect(0)
    gc.enable()
    return Outcome([Samples(*each) for each in measured], before, _memory("VmHWM"), cores)


def _call(runner: Runner, paths: Sequence[str]) -> tuple[list[float], float]:
    """One batch: seconds of each stage, and of all cores together."""
    clock, cpu = time.perf_counter, time.process_time()
    times = [clock()]
    images = [load_image(path) for path in paths]
    times.append(clock())
    prepared = [runner.prepare(pixels) for pixels in images]
    times.append(clock())
    outputs = runner.infer([each.array for each in prepared])
    times.append(clock())
    runner.read(outputs, prepared)
    times.append(clock())
    return [after - before for before, after in pairwise(times)], time.process_time() - cpu


def _chosen(images: Sequence[str], turn: int, count: int) -> list[str]:
    """The images of a turn: the next ones, from the start again after the last."""
    return [images[(turn * count + each) % len(images)] for each in range(count)]


def _limit_cores(cores: int | None) -> int:
    """Keep to so many of the cores; how many there are then."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    mine = sorted(os.sched_getaffinity(0))
    if cores is not None:
        os.sched_setaffinity(0, mine[:cores])
    return len(os.sched_getaffinity(0))


def _limit_memory(size: int) -> None:
    """Refuse to allocate more: data, heap and private mappings count; program code and files that are mapped do not."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


def _memory(name: str) -> int | None:
    """A line of /proc/self/status in bytes; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, StopIteration, ValueError):
        return None


def main() -> int:
    """Read a job, do it, write its outcome."""
    job = Job.from_json(json.loads(Path(sys.argv[1]).read_bytes()))
    try:
        outcome = measure(job)
    except MemoryError:
        return NO_MEMORY
    except PackageError as error:
        print(error, file=sys.stderr)
        return NO_MEMORY if job.memory is not None and _is_about_memory(error) else REFUSED
    Path(sys.argv[2]).write_text(json.dumps(outcome.to_json()))
    return 0


def _is_about_memory(error: PackageError) -> bool:
    """Whether a runtime says that it could not allocate."""
    text = str(error).lower()
    return any(word in text for word in ("alloc", "memory"))


if __name__ == "__main__":
    raise SystemExit(main())
