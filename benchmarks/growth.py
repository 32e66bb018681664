"""How what a command costs grows with the dataset: 10^3 to 10^6 images, seconds of the processor and memory.

    python -m benchmarks.growth [--only COMMAND ...] [--sizes 1000 10000 100000 1000000] [--limit 240] [--json FILE]

The datasets are tables (`benchmarks.growth_sets`): vectors, measures and what a detector said are there, as they are after the
passes over the pixels, and every command runs in a process of its own on a copy that no other command has changed. Those that are
called `pixels` decode small pictures, and stop at 10^4. The exponent is the slope of the logarithm of seconds over that of
images through the last three sizes (1: twice the images, twice the time); memory per million images is the slope of the largest
resident memory over the last two. A size that would take longer than the limit, or whose smaller one did, is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.embed import make_small
from benchmarks.growth_sets import make_set
from benchmarks.import_coco import generate
from benchmarks.report import Report, markdown, options, run

SET: Final = "grown"
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
PIXELS: Final = 10_000
LIMIT_S: Final = 240
_FILE: Final = "labels.json"
_CHILD: Final = """
import json, resource, sys
from curate.cli import main
words = json.loads(sys.argv[1])
sys.argv = ["curate", *words]
try:
    main()
except SystemExit as end:
    if end.code:
        raise
spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
peak = next((line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), 0)
print(json.dumps({"cpu_s": sum(u.ru_utime + u.ru_stime for u in spent), "peak_mb": int(peak) / 1024}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        words: Its arguments; `{file}`, `{pictures}`, `{target}` stand for paths.
        kind: Which dataset it runs on, one of `growth_sets`; or `file` (a COCO file, no dataset), or `pictures`.
        most: Images, at most.
    """

    words: Sequence[str]
    kind: str = "boxes"
    most: int = SIZES[-1]


COMMANDS: Final[Mapping[str, Command]] = {
    "import": Command(["import", "{file}", "-d", "new", "-f", "coco", "--json"], "file"),
    "export": Command(["export", "{target}", "-d", SET, "-f", "coco", "--json"]),
    "export --where": Command(["export", "{target}", "-d", SET, "-f", "coco", "--where", "split = 'val'", "--json"]),
    "info": Command(["info", SET]),
    "history": Command(["history", SET]),
    "findings": Command(["findings", "-d", SET]),
    "findings --where": Command(["findings", "-d", SET, "--where", "score > 0.9 AND kind = 'blurry'"]),
    "quality": Command(["quality", "-d", SET, "--no-objects"]),
    "duplicates": Command(["duplicates", "-d", SET]),
    "leaks": Command(["leaks", "-d", SET]),
    "outliers": Command(["outliers", "-d", SET]),
    "mistakes, labels": Command(["mistakes", "-d", SET], "labels"),
    "mistakes, boxes": Command(["mistakes", "-d", SET]),
    "evaluate": Command(["evaluate", "-d", SET]),
    "check": Command(["check", "-d", SET], "labels"),
    "report": Command(["report", "-d", SET, "--output", "{target}.html", "--json"]),
    "duplicates, pixels": Command(["duplicates", "-d", SET], "pictures", PIXELS),
    "quality, pixels": Command(["quality", "-d", SET], "pictures", PIXELS),
    "embed, pixels": Command(["embed", "-d", SET], "pictures", PIXELS),
}


def main() -> None:
    """Run every command at every size."""
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS), help="these commands only")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of images, growing")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help=f"seconds for one command (default {LIMIT_S})")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every size, every command in a process of its own."""
    points: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.only}
    notes: list[str] = []
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            made = Made(Path(folder), size)
            for name in arguments.only:
                command = COMMANDS[name]
                if size > command.most or not _worth(points[name], size, arguments.limit, name, notes):
                    continue
                found = made.run(command, 2 * arguments.limit)
                if isinstance(found, str):
                    notes.append(f"'{name}' is left out at {size:,} images: {found}")
                else:
                    points[name].append({"images": size, **found})
                    print(name, points[name][-1], file=sys.stderr, flush=True)
    results = [{"command": name, "points": each, **fitted(each)} for name, each in points.items() if each]
    return Report({"sizes": arguments.sizes, "limit_s": arguments.limit}, results, table(results), notes)


def _worth(points: Sequence[Mapping[str, float]], size: int, limit: float, name: str, notes: list[str]) -> bool:
    """Whether the next size is likely to end in time; a note where not."""
    if not points:
        return True
    last = points[-1]
    power = max(1.0, fitted(points)["exponent"] or 1.0) if len(points) > 1 and last["cpu_s"] > 5 else 1.0
    guess = last["cpu_s"] * (size / last["images"]) ** power
    if guess <= limit or last["cpu_s"] < 5:
        return True
    notes.append(f"'{name}' is left out at {size:,} images, where it would take about {guess:,.0f} s")
    return False


class Made:
    """What there is of one size: each kind is made when it is first asked for."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._makers: Mapping[str, Callable[[Path], None]] = {
            "boxes": lambda home: make_set(SET, size, folder, "boxes"),
            "labels": lambda home: make_set(SET, size, folder, "labels"),
            "file": lambda home: self._file(),
            "pictures": lambda home: self._pictures(),
        }

    def run(self, command: Command, timeout: float) -> dict[str, float] | str:
        """What a command takes; or why it cannot be told."""
        home = self._folder / f"home-{command.kind}"
        if not home.exists():
            home.mkdir()
            self._in_home(home, self._makers[command.kind])
        own = self._folder / "own"
        shutil.copytree(home, own, symlinks=True, copy_function=_link)
        paths = {"file": self._folder / _FILE, "target": self._folder / "target"}
        words = [word.format(**paths) if "{" in word else word for word in command.words]
        environment = os.environ | {"CURATE_HOME": str(own), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        call = [sys.executable, "-c", _CHILD, json.dumps(words)]
        try:
            done = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"it took more than {timeout:,.0f} s"
        finally:
            shutil.rmtree(own)
            shutil.rmtree(self._folder / "target", ignore_errors=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no word"])[-1]
        found: dict[str, float] = json.loads(done.stderr.strip().splitlines()[-1])
        return found

    def _in_home(self, home: Path, make: Callable[[Path], None]) -> None:
        before = os.environ.get("CURATE_HOME")
        os.environ["CURATE_HOME"] = str(home)
        try:
            make(home)
        finally:
            os.environ.pop("CURATE_HOME")
            if before is not None:
                os.environ["CURATE_HOME"] = before

    def _file(self) -> None:
        generate(self._folder / _FILE, self._size, 1.0, 0)

    def _pictures(self) -> None:
        from curate.formats.importing import import_source

        make_small(self._folder / "small", self._size)
        import_source(SET, self._folder / "small", command="benchmark")


def _link(source: str, target: str) -> None:
    """Tables are never changed in place: a link is a copy. What is no table is copied."""
    if source.endswith(".lance") or "/data/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def fitted(points: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Exponent of the seconds over the last three sizes, and memory per million images over the last two."""
    if len(points) < 2:
        return {"exponent": None, "mb_per_million": None}
    images, seconds = (np.array([each[name] for each in points[-3:]]) for name in ("images", "cpu_s"))
    memory = (points[-1]["peak_mb"] - points[-2]["peak_mb"]) / (points[-1]["images"] - points[-2]["images"])
    slope = np.polyfit(np.log(images), np.log(seconds), 1)[0]
    return {"exponent": round(float(slope), 2), "mb_per_million": round(1e6 * memory)}


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Seconds and memory at every size, and how they grow."""
    sizes = sorted({int(point["images"]) for row in results for point in row["points"]})
    lines = []
    for row in results:
        found = {int(point["images"]): point for point in row["points"]}
        cells = [f"{found[n]['cpu_s']:.2f} / {found[n]['peak_mb']:,.0f}" if n in found else "-" for n in sizes]
        grown = (("exponent", ".2f"), ("mb_per_million", ",.0f"))
        grows = ["-" if row[key] is None else f"{row[key]:{form}}" for key, form in grown]
        lines.append([row["command"], *cells, *grows])
    columns = ["command", *(f"{size:,}: CPU s / MB" for size in sizes), "exponent", "MB per million"]
    return markdown(columns, lines)


if __name__ == "__main__":
    main()
