"""Measuring packages side by side, in processes of their own; what comes of it as numbers for people."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.edge.bench.job import STAGES, Job, Outcome, Samples, Subject
from curate.edge.bench.worker import NO_MEMORY
from curate.errors import CurateError, InputError

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

LEAST: Final = 20
"""Rounds that are made whatever they take: below, a 95th percentile is no more than the slowest."""

_MODULE: Final = "curate.edge.bench.worker"
_ALONE: Final = 5
_STOPPED: Final = frozenset({-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -getattr(signal, "SIGKILL", 9)})


@dataclass(frozen=True)
class Limits:
    """A device that is smaller than this machine, as far as that can be had here.

    Attributes:
        cores: That may be used.
        memory: Bytes that may be allocated.
    """

    cores: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Measured:
    """One subject's speed and size.

    Attributes:
        subject: Which.
        samples: Of each call, as they came.
        before: Bytes in use before the package was opened, in a process that runs it alone; None where it is not told.
        peak: The most it used; None where that is not told, or the memory did not suffice.
        fits: Whether it ran within the memory that it may have.
        first: The same of the first subject, which all are compared with.
    """

    subject: Subject
    samples: Samples
    before: int | None
    peak: int | None
    fits: bool
    first: tuple[Subject, Samples]

    @cached_property
    def stages(self) -> dict[str, FloatArray]:
        """Seconds of each stage, of n calls: shape (n,)."""
        return {name: np.array(self.samples.seconds[name]) for name in STAGES}

    @cached_property
    def latency(self) -> FloatArray:
        """Seconds from files to results, of n calls: shape (n,)."""
        return _sum(self.samples, STAGES)

    @property
    def throughput(self) -> float:
        """Images a second, one call after another."""
        return float(self.subject.batch * len(self.latency) / self.latency.sum())

    def against_first(self, stages: Sequence[str] = STAGES) -> tuple[float, float, float]:
        """How long an image takes, as a part of the first subject's, and an interval of 95 per cent: median of the rounds.

        The interval is that of the sign test (Hahn and Meeker, 1991), which asks nothing of how times are distributed.

        Args:
            stages: Which are compared.
        """
        first, samples = self.first
        ratios = np.sort(_sum(self.samples, stages) / _sum(samples, stages) * first.batch / self.subject.batch)
        n = len(ratios)
        reach = 0.98 * np.sqrt(n)  # half of 1.96 standard deviations of a count of n coins
        low, high = max(int(np.floor(n / 2 - reach)), 0), min(int(np.ceil(n / 2 + reach)), n - 1)
        return float(np.median(ratios)), float(ratios[low]), float(ratios[high])

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; times in milliseconds, sizes in bytes."""
        ratios = {name: self.against_first(stages) for name, stages in (("all", STAGES), ("infer", ("infer",)))}
        return {
            **asdict(self.subject),
            "calls": len(self.latency),
            "latency_ms": percentiles(self.latency),
            "stages_ms": {name: percentiles(values) for name, values in self.stages.items()},
            "cpu_ms_per_image": float(1e3 * np.median(self.samples.cpu) / self.subject.batch),
            "images_per_second": self.throughput,
            "against_first": {
                name: dict(zip(("ratio", "low", "high"), values, strict=True)) for name, values in ratios.items()
            },
            "peak_memory": self.peak,
            "memory_before": self.before,
            "fits": self.fits,
        }


def _sum(samples: Samples, stages: Sequence[str]) -> FloatArray:
    """Seconds of some stages together, of n calls: shape (n,)."""
    return np.asarray(np.sum([samples.seconds[name] for name in stages], axis=0), dtype=np.float64)


def percentiles(seconds: FloatArray) -> dict[str, float]:
    """Milliseconds: the middle, the slow end, the fastest and the mean."""
    values = 1e3 * np.percentile(seconds, (50, 95, 99))
    names = ("p50", "p95", "p99")
    return {
        **dict(zip(names, map(float, values), strict=True)),
        "min": float(1e3 * seconds.min()),
        "mean": float(1e3 * seconds.mean()),
    }


def bench(
    subjects: Sequence[Subject],
    images: Sequence[Path],
    *,
    seconds: float = 5.0,
    limits: Limits | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Measured]:
    """Measure subjects side by side.

    Speed is measured in one process in which they take turns; memory in a process for each, which runs it alone.

    Args:
        subjects: The first is what the others are compared with.
        images: Files to run them on; at least one.
        seconds: Of measuring for each subject.
        limits: Cores and memory that the processes may use.
        seed: Of the order in which they take turns.
        progress: Told (done, total) of processes.

    Raises:
        InputError: A package, its runtime or an image cannot be used.
    """
    limits = limits or Limits()
    paths = [str(path.absolute()) for path in images]
    told = progress or (lambda done, total: None)
    together = _run(Job(subjects, paths, seconds, LEAST, cores=limits.cores, seed=seed))
    assert together is not None  # memory is not limited
    told(1, len(subjects) + 1)
    first = (subjects[0], together.samples[0])
    measured = []
    for number, (subject, samples) in enumerate(zip(subjects, together.samples, strict=True)):
        alone = _run(Job([subject], paths, 0.0, _ALONE, cores=limits.cores, memory=limits.memory))
        before, peak = (None, None) if alone is None else (alone.before, alone.peak)
        measured.append(Measured(subject, samples, before, peak, alone is not None, first))
        told(number + 2, len(subjects) + 1)
    return measured


def _run(job: Job) -> Outcome | None:
    """Do a job in a process; None if its memory did not suffice."""
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as folder:
        said, outcome = Path(folder) / "job.json", Path(folder) / "outcome.json"
        said.write_text(json.dumps(job.to_json()))
        done = subprocess.run(
            [sys.executable, "-m", _MODULE, str(said), str(outcome)], capture_output=True, text=True, check=False
        )
        if outcome.is_file():
            return Outcome.from_json(json.loads(outcome.read_bytes()))
    # A library that is refused memory often aborts, instead of saying so.
    if job.memory is not None and (done.returncode == NO_MEMORY or done.returncode in _STOPPED):
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    raise _refusal(lines[-1] if lines else f"the process that measures ended with status {done.returncode}", job)


def _refusal(line: str, job: Job) -> CurateError:
    folders = ", ".join(dict.fromkeys(Path(each.package).name for each in job.subjects))
    return InputError(line, where=folders, remedy="check the package with 'curate run', or choose another --backend")
