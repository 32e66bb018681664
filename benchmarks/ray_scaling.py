"""Work on a Ray cluster of this machine, by one and by two workers of one core, against the local engine.

    python -m benchmarks.ray_scaling [--images 2000] [--vectors 60000] [--repeats 3] [--json FILE]

Two kinds of work: the built-in encoder over pictures (a pass), and pairs of near-duplicates among vectors (jobs). Each way of
running it is measured in turn, several times; medians. The cluster is up and the model loaded before the clock starts; how long
that takes is told apart. Efficiency is the time of one worker over twice the time of two. CPU seconds are of all processes that
take part, Ray's own among them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from benchmarks.report import Report, markdown, options, run
from curate.checks.duplicates.search import pairs_above
from curate.engine.engines import current_engine, use_engine
from curate.engine.stage import Item
from curate.models.embedding import Embedding
from curate.models.encoders.registry import load_encoder

_SIZE: Final = (640, 480)
_DIMENSIONS: Final = 512
_THRESHOLD: Final = 0.95
_WAYS: Final = {
    "local, 1 thread": ("local", 1),
    "ray, 1 worker": ("ray:local?workers=1&store=1000", 1),
    "local, 2 threads": ("local", 2),
    "ray, 2 workers": ("ray:local?workers=2&store=1000", 2),
}


@dataclass(frozen=True)
class Timing:
    """One run of some work.

    Attributes:
        wall: Seconds.
        cpu: Seconds of all processes.
        result: What came out, to be the same everywhere.
    """

    wall: float
    cpu: float
    result: Any


def main() -> None:
    """Parse, measure, report."""
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=2000, help="pictures (default 2000)")
    parser.add_argument("--vectors", type=int, default=60_000, help="vectors (default 60000)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is run (default 3)")
    run(_measure, parser)


def _measure(arguments: argparse.Namespace) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        items = _pictures(Path(folder), arguments.images)
        vectors = _vectors(arguments.vectors)
        work: dict[str, Callable[[int], Any]] = {
            "embed": lambda threads: _embed(items, threads),
            "near-duplicates": lambda threads: _pairs(vectors),
        }
        timings: dict[tuple[str, str], list[Timing]] = {}
        starts: list[float] = []
        for _ in range(arguments.repeats):
            for way, (spec, threads) in _WAYS.items():
                begun = time.perf_counter()
                with use_engine(spec), _cores(threads):
                    _embed(items[:256], threads)
                    if spec != "local":
                        starts.append(time.perf_counter() - begun)
                    for name, do in work.items():
                        timings.setdefault((name, way), []).append(_timed(lambda do=do, n=threads: do(n)))  # type: ignore[misc]
    return _report(arguments, timings, starts)


def _report(arguments: argparse.Namespace, timings: dict[tuple[str, str], list[Timing]], starts: list[float]) -> Report:
    results: list[dict[str, Any]] = []
    for (name, way), runs in timings.items():
        same = all(np.array_equal(runs[0].result, timings[name, other][0].result) for other in _WAYS)
        wall, cpu = median(each.wall for each in runs), median(each.cpu for each in runs)
        results.append({"work": name, "way": way, "seconds": wall, "cpu_s": cpu, "same": same})
    at = {(row["work"], row["way"]): row for row in results}
    lines, efficiency = [], {}
    for row in results:
        one, two = (at[row["work"], f"{kind}"]["seconds"] for kind in _pair(row["way"]))
        efficiency[f"{row['work']}, {row['way'].partition(',')[0]}"] = one / 2 / two
        told = f"{100 * one / 2 / two:.0f}%" if row["way"] == _pair(row["way"])[1] else ""
        lines.append(
            [
                row["work"],
                row["way"],
                f"{row['seconds']:.2f}",
                f"{row['cpu_s']:.2f}",
                told,
                "yes" if row["same"] else "no",
            ]
        )
    columns = ["work", "engine", "s", "CPU s", "efficiency of 2", "same result"]
    settings = {"images": arguments.images, "vectors": arguments.vectors, "repeats": arguments.repeats}
    settings |= {"size": _SIZE, "dimensions": _DIMENSIONS, "threshold": _THRESHOLD, "efficiency": efficiency}
    note = f"starting a cluster, and its first images: {median(starts):.1f} s (median of {len(starts)})"
    return Report({**settings, "start_s": median(starts)}, results, markdown(columns, lines), [note])


def _pair(way: str) -> tuple[str, str]:
    """The ways of the same engine with one and with two."""
    first, second = (other for other in _WAYS if other.partition(",")[0] == way.partition(",")[0])
    return first, second


def _pictures(folder: Path, count: int) -> list[Item]:
    dice = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(dice.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        small.resize(_SIZE, Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg", quality=90)
    return [Item(path) for path in sorted(folder.iterdir())]


def _vectors(count: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Vectors around a thousand directions, a tenth of them close copies of others."""
    dice = np.random.default_rng(0)
    centres = dice.standard_normal((1000, _DIMENSIONS), dtype=np.float32)
    vectors = centres[dice.integers(0, 1000, count)] + dice.standard_normal((count, _DIMENSIONS), dtype=np.float32)
    copies = count // 10
    vectors[-copies:] = vectors[:copies] + 0.1 * dice.standard_normal((copies, _DIMENSIONS), dtype=np.float32)
    return vectors.astype(np.float16)


def _embed(items: list[Item], threads: int) -> Any:
    rows = current_engine().run(Embedding(load_encoder("builtin")), items, threads=threads if _is_local() else None)
    with threadpool_limits(1, user_api="blas"):
        vectors = [batch.columns.column("vector").flatten().to_numpy(zero_copy_only=False) for batch in rows]
    return np.concatenate(vectors).view(np.uint16)


def _pairs(vectors: Any) -> Any:
    return np.stack(pairs_above(vectors, _THRESHOLD)[:2])


def _is_local() -> bool:
    return not current_engine().distributed


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """Let this process use so many cores, where the system allows to say."""
    if not _is_local() or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:count]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _timed(do: Callable[[], Any]) -> Timing:
    cpu, wall = _cpu_seconds(), time.perf_counter()
    result = do()
    return Timing(time.perf_counter() - wall, _cpu_seconds() - cpu, result)


def _cpu_seconds() -> float:
    """Of this process and all that it has started, by /proc."""
    ticks, found = 0, [os.getpid()]
    for number in found:
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            children = [path.read_text().split() for path in Path(f"/proc/{number}/task").glob("*/children")]
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
        found += [int(child) for some in children for child in some]
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
