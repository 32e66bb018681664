"""curate beside its peers and beside the limit: the same work, in the same run, in turns.

    python -m benchmarks.versus [--only ROW ...] [--repeats 3] [--scale 1] [--json FILE]

Every contender runs in a process of its own with one thread on the same prepared input, with a home of its own; contenders take
turns, and the table has medians. Seconds of the processor are those of threads, child processes and FiftyOne's database too.
Imports, loading what is no part of the work, and a small run that warms up are not counted; memory is the largest that the
process ever had, its libraries and its input with it, FiftyOne's database without. The limit is the least that must be done:
parsing the JSON alone, decoding the pictures alone, the encoder alone, one reading of the matrix.

A peer runs in this interpreter if it is installed here, else in the one that the environment variable CURATE_PEERS names; one
that is in neither is left out, with a note. `--scale` multiplies the sizes.
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
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import versus_inputs as inputs
from benchmarks.report import Report, markdown, options, run
from benchmarks.startup import COMMANDS, start
from benchmarks.versus_methods import METHODS

ROOT: Final = Path(__file__).parents[1]
CURATE: Final = "curate"
LIMIT: Final = "limit"
_SLOW: Final = ("FiftyOne", "supervision")


@dataclass(frozen=True)
class Row:
    """One kind of work.

    Attributes:
        methods: Whose contenders these are, in METHODS.
        size: How many images, vectors, labels.
        unit: What they are.
        prepare: Makes the input in a folder, with that size.
        limit: What the limit is.
        bound: What must at least be done, with its unit's number: of which rate (`versus_inputs.rates`), how many for a size,
            and what that is; None where nothing but the encoder or a driver can tell.
        without: Contenders left out, which would take most of an hour.
    """

    methods: str
    size: int
    unit: str
    prepare: Callable[[Path, int], None]
    limit: str
    bound: tuple[str, Callable[[int], float], str] | None = None
    without: Sequence[str] = ()


_JSON: Final = ("json_mb", lambda n: n * 1.5e-3, "1.5 kB of JSON an image, parsed")
_WRITTEN: Final = ("json_mb", lambda n: n * 1.5e-3, "1.5 kB of JSON an image, at the rate of parsing")
_DECODED: Final = ("jpeg_mp", lambda n: n * 0.3072, "0.31 megapixels an image, decoded")
_PAIRS: Final = ("matmul_gflop", lambda n: n * n * inputs.DIMENSIONS / 1e9, "half of n^2 products of 256 coordinates")
_MATRIX: Final = ("memory_gb", lambda n: n * inputs.CLASSES * 4 / 1e9, "400 bytes a label, read once")

ROWS: Final[Mapping[str, Row]] = {
    "start-up": Row("start-up", 1, "`--help`", inputs.nothing, "`python -c pass`"),
    "import COCO": Row("import COCO", 5_000, "images", inputs.coco, "msgspec parses the file", _JSON),
    "import COCO, large": Row("import COCO", 50_000, "images", inputs.coco, "msgspec parses the file", _JSON, _SLOW),
    "export COCO": Row("export COCO", 2_000, "images", inputs.imported, "msgspec formats the same JSON", _WRITTEN),
    "export COCO, large": Row("export COCO", 50_000, "images", inputs.imported, "the same", _WRITTEN, _SLOW),
    "app sync": Row("app sync", 1_000, "images", inputs.imported, "the driver inserts bare samples"),
    "hashes and quality": Row("hashes and quality", 300, "images", inputs.pictures, "decoding", _DECODED),
    "embed": Row("embed", 96, "images", inputs.embedding, "the encoder alone"),
    "near-duplicates": Row("near-duplicates", 20_000, "vectors", inputs.vectors, "faiss, exact (IndexFlatIP)", _PAIRS),
    "leaks": Row("leaks", 20_000, "vectors", inputs.vectors, "faiss, exact (IndexFlatIP)", _PAIRS),
    "mistakes, classes": Row("mistakes, classes", 200_000, "labels", inputs.labels, "the matrix read once", _MATRIX),
    "mistakes, classes, large": Row(
        "mistakes, classes", 1_000_000, "labels", inputs.labels, "the matrix read once", _MATRIX
    ),
    "mistakes, boxes": Row("mistakes, boxes", 1_000, "images", inputs.boxes, "overlaps alone"),
    "evaluate": Row("evaluate", 5_000, "images", inputs.boxes, "overlaps alone"),
}
FIGURES: Final = ("cpu_s", "wall_s", "peak_mb", "found")
EMBED: Final = {CURATE: "curate", "FiftyOne": "FiftyOne", LIMIT: "model alone"}
"""The methods of `benchmarks.embed_methods`."""


def main() -> None:
    """Run every row."""
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), help="these rows only")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="sizes are multiplied by it (default 1)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every row, contenders in turn."""
    notes: list[str] = []
    results: list[dict[str, Any]] = []
    for name in arguments.only:
        row = ROWS[name]
        size = max(row.size if row.size == 1 else 8, round(row.size * arguments.scale))
        with tempfile.TemporaryDirectory() as folder:
            row.prepare(Path(folder), size)
            found = compare(row, Path(folder), arguments.repeats, notes)
        results += [{"row": name, "size": size, "unit": row.unit, "contender": each, **found[each]} for each in found]
        for line in results[-len(found) :]:
            print(line, file=sys.stderr)
    rates = inputs.rates()
    settings = {"repeats": arguments.repeats, "scale": arguments.scale, "threads": 1, "rates": rates}
    return Report(settings, results, f"{table(results)}\n\n{bounds(results, rates)}", notes)


def compare(row: Row, folder: Path, repeats: int, notes: list[str]) -> dict[str, dict[str, Any]]:
    """Medians of each contender that can run."""
    able = {name: python for name in contenders(row) if (python := interpreter(row, name, notes))}
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(repeats):
        for name in list(able) if number % 2 == 0 else reversed(list(able)):
            try:
                runs.setdefault(name, []).append(call(row, name, able[name], folder))
            except RuntimeError as error:
                if name in (CURATE, LIMIT):
                    raise
                notes.append(f"{name} is left out of {row.methods}: {str(error).strip().splitlines()[-1]}")
                able.pop(name)
    return {
        name: {key: median(each[key] for each in own) for key in FIGURES if key in own[0]} for name, own in runs.items()
    }


def contenders(row: Row) -> list[str]:
    """curate, the peers, the limit."""
    every = {"start-up": [CURATE, LIMIT], "embed": list(EMBED)}.get(row.methods) or list(METHODS[row.methods])
    return [name for name in every if name not in row.without]


def interpreter(row: Row, name: str, notes: list[str]) -> str | None:
    """Which one has what the contender needs; None, and a note, where none has."""
    own = METHODS[row.methods][name].package if row.methods in METHODS else CURATE
    package = "fiftyone" if name == "FiftyOne" else own
    if find_spec(package) is not None:
        return sys.executable
    peers = os.environ.get("CURATE_PEERS")
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    if peers and subprocess.run([peers, "-c", code]).returncode == 0:
        return peers
    note = f"{name} is left out: {package} is not installed, and CURATE_PEERS names no interpreter that has it"
    if note not in notes:
        notes.append(note)
    return None


def call(row: Row, name: str, python: str, folder: Path) -> dict[str, Any]:
    """What one run of one contender took.

    Raises:
        RuntimeError: It failed.
    """
    if row.methods == "start-up":
        words = COMMANDS["curate --help" if name == CURATE else "python -c pass"]
        return start(words)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        home = Path(own) / "home"
        if (folder / "home").is_dir():
            shutil.copytree(folder / "home", home, symlinks=True)
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment |= {"CURATE_HOME": str(home), "PYTHONPATH": str(ROOT), "FIFTYONE_DO_NOT_TRACK": "true"}
        environment["FIFTYONE_DATABASE_DIR"] = str(Path(own) / "fiftyone")
        words = ["benchmarks.versus_methods", row.methods, name, str(folder)]
        if row.methods == "embed":
            request = {"method": EMBED[name], "encoder": "builtin", "folder": str(folder / "pictures"), "cores": 1}
            words = ["benchmarks.embed_methods", json.dumps(request)]
        done = subprocess.run([python, "-m", *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{name} failed at {row.methods}: {done.stderr}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said if "found" in said else {**said, "found": said["images"]}


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Medians, and how many times those of curate they are."""
    own = {row["row"]: row for row in results if row["contender"] == CURATE}
    lines = []
    for row in results:
        base = own[row["row"]]
        is_limit = row["contender"] == LIMIT
        what = f"{row['row']}, {row['size']:,} {row['unit']}" if row["contender"] == CURATE else ""
        cells = [f"limit: {ROWS[row['row']].limit}" if is_limit else row["contender"]]
        for key, digits in (("cpu_s", 3), ("wall_s", 3), ("peak_mb", 0)):
            there = key in row
            cells += [f"{row[key]:.{digits}f}", f"{row[key] / max(base[key], 1e-9):.2f}"] if there else ["-", "-"]
        lines.append([what, *cells])
    columns = ["work", "by", "CPU s", "of curate's", "wall s", "of curate's", "peak MB", "of curate's"]
    return markdown(columns, lines)


def bounds(results: Sequence[Mapping[str, Any]], rates: Mapping[str, float]) -> str:
    """By arithmetic: what must be done over the rate at which this machine does it."""
    units = {"memory_gb": "GB/s", "matmul_gflop": "GFLOP/s", "json_mb": "MB/s", "jpeg_mp": "MP/s"}
    lines = []
    for row in results:
        bound = ROWS[row["row"]].bound
        if row["contender"] != CURATE or bound is None:
            continue
        rate, amount, what = bound
        seconds = amount(row["size"]) / rates[rate]
        limit = next(
            (f"{each['cpu_s']:.3f}" for each in results if (each["row"], each["contender"]) == (row["row"], LIMIT)), "-"
        )
        cells = [f"{rates[rate]:,.0f} {units[rate]}", f"{seconds:.4f}", limit, f"{row['cpu_s']:.3f}"]
        lines.append([row["row"], what, *cells, f"{row['cpu_s'] / seconds:.0f}"])
    columns = ["work", "at least", "rate", "seconds", "the limit as measured", "curate's", "of the arithmetic's"]
    return markdown(columns, lines)


if __name__ == "__main__":
    main()
