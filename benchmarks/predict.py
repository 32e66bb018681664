"""Predicting from files to a layer: how much more it takes than the model alone, and how much memory.

A detector (YOLOX-nano, or the ONNX file that --model names) predicts on generated pictures of 640 x 480 and 4000 x 3000 pixels,
and on photographs of BCCD, in a process of its own for each method. Seconds are those of the processor, of all threads. `decoded
and prepared` is what comes before a model in any pipeline: reading and decoding the file, at a lower scale where the model needs
no more, and scaling, padding and ordering its bytes. The model is what makes numbers of bytes, the network, and what makes
objects of its outputs.

Memory is the largest resident set of a process that predicts on small pictures, of which each has twenty objects with twenty
class probabilities, found by next to no computation.

    python -m benchmarks.predict [--data FOLDER] [--model PATH] [--images 96] [--cores 1] [--repeats 5]
                                 [--memory 1000 10000 100000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.embed import copy_some, make_pictures, make_small
from benchmarks.report import Report, markdown, memory_table, milliseconds, options, real_set, run

STORES: Final = ("commit of one", "curate")
METHODS: Final = ("model", "decoded and prepared", *STORES)


def main() -> None:
    """Measure every method on both kinds of picture, then memory."""
    parser = options(__doc__, data=True)
    parser.add_argument(
        "--model", type=Path, metavar="PATH", help="an ONNX detector; default models/yolox_nano.onnx of --data"
    )
    parser.add_argument("--images", type=int, default=96, help="pictures of 640 x 480; a quarter of it of 4000 x 3000")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument(
        "--repeats", type=int, default=5, help="of every measurement; the least counts, as others only add"
    )
    parser.add_argument("--memory", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="numbers of pictures")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """One table with what each method takes for a picture, and one with memory."""
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = measure_time(arguments, root, notes)
        memory = [measure_memory(count, root / "memory") for count in arguments.memory]
    tables = ([time_table(rows)] if rows else []) + ([memory_table(memory)] if memory else [])
    settings = {"images": arguments.images, "cores": arguments.cores, "repeats": arguments.repeats}
    return Report(settings, [*rows, *memory], "\n\n".join(tables), notes)


def measure_time(arguments: argparse.Namespace, root: Path, notes: list[str]) -> list[dict[str, Any]]:
    """What each method takes, one object for each kind of picture."""
    model = arguments.model or (arguments.data and arguments.data / "models" / "yolox_nano.onnx")
    if model is None or not model.is_file():
        notes.append(
            "time is left out: there is no models/yolox_nano.onnx in the folder given by --data, and no --model"
        )
        return []
    pictures = make_pictures(root, arguments.images)
    if (bccd := real_set(arguments.data, "bccd", notes)) is not None:
        pictures["BCCD, 640 x 480"] = copy_some(bccd / "JPEGImages", root / "bccd", arguments.images)
    rows: list[dict[str, Any]] = []
    for kind, folder in pictures.items():
        request = {"model": f"onnx:{model.absolute()}", "folder": str(folder)}
        found: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
        for _ in range(arguments.repeats):  # in turn, so that what else the machine does is alike for all
            for method in METHODS:
                found[method].append(call({**request, "method": method}, root / "home", arguments.cores))
        least = {method: min(each, key=lambda one: one["cpu_s"]) for method, each in found.items()}
        rows.append({"pictures": kind, "cores": arguments.cores, **least})
        print(rows[-1], file=sys.stderr)
    return rows


def measure_memory(count: int, root: Path) -> dict[str, Any]:
    """Peak memory of predicting on so many pictures."""
    make_small(root / "pictures", count)
    request = {"method": "curate", "model": "crowd", "folder": str(root / "pictures")}
    found = {"pictures": count, **call(request, root / "home", 1)}
    shutil.rmtree(root)
    print(found, file=sys.stderr)
    return found


def call(request: Mapping[str, Any], home: Path, cores: int) -> dict[str, Any]:
    """What one method takes in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    shutil.rmtree(home, ignore_errors=True)
    environment = os.environ | {
        "CURATE_HOME": str(home),
        "OMP_NUM_THREADS": str(cores),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    for method in ("import", request["method"]) if request["method"] in STORES else (request["method"],):
        command = [
            sys.executable,
            "-m",
            "benchmarks.predict_methods",
            json.dumps({**request, "method": method, "cores": cores}),
        ]
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        if process.returncode:
            raise RuntimeError(f"'{method}' failed: {process.stderr}")
    found: dict[str, Any] = json.loads(process.stdout.strip().rpartition("\n")[2])
    return found


def time_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds of the processor for a picture, and of curate what is left beyond the model and what comes before it.

    A commit takes the same for any number of pictures: what the first one takes beyond its own is taken off.
    """
    lines = []
    for row in rows:
        model, before, commit, ours = (milliseconds(row[name]) for name in METHODS)
        each = ours - max(commit - model - before, 0) / row["curate"]["images"]
        beyond = each - model - before
        cells = [f"{value:.2f}" for value in (model, before, commit, ours, beyond)]
        lines.append([row["pictures"], row["cores"], *cells, f"{100 * beyond / model:.1f}%"])
    names = [f"{name}, CPU ms" for name in METHODS]
    return markdown(["pictures", "cores", *names, "curate beyond both, CPU ms", "of the model"], lines)


if __name__ == "__main__":
    main()
