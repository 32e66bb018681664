"""To the edge and back, measured: INT8 against float, inspection in two stages, a cascade, an hour's soak, kill -9.

    python -m benchmarks.edge [--data FOLDER] [--runs FOLDER] [--only PART ...] [--minutes 60] [--images 400] [--epochs N]
                              [--steps 600] [--frames 200] [--kills 10] [--add FILE ...] [--json FILE]

int8         four models are trained, a classifier and a segmenter of rendered parts, one of their defects, and a detector of
             BCCD, made smaller by `curate compress`, and compared on val and test; then single layers, for what is to be won here
inspection   a packaged segmenter finds defects while a reader, which learns to read drawn serial numbers first, reads the label
cascade      a light classifier of parts, and a heavy one for what it is unsure of, against the heavy one alone
soak         `curate run` on one core at a camera that is faster than it, for so many minutes: memory, and every frame
kill         `curate run --harvest` killed with signal 9 again and again; what was kept must be there, whole, and be imported

One thread, processor time, float and INT8 in turn. Datasets and models are kept in --runs, and taken from there if they are
there; without it they are made anew. --add takes the rows of reports that were made before, an hour's soak for one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from benchmarks.edge_cascade import measure_cascade
from benchmarks.edge_inspect import measure_inspection
from benchmarks.edge_int8 import measure_machine, measure_model
from benchmarks.edge_runs import CLASSIFIER, DEFECTS, DETECTOR, HEAVY, NEW, SEGMENTER, Wanted, import_dataset, obtain
from benchmarks.edge_serial import measure_reader
from benchmarks.edge_soak import kill_and_restart, soak
from benchmarks.edge_table import table
from benchmarks.report import Report, options, run
from curate.dataset import open_dataset
from curate.dataset.home import HOME_VARIABLE
from curate.edge.package.build import Asked, make_package
from curate.models.training.runs import run_names

_READER: Final = "reader.onnx"
_ASK: Final = (0.4, 0.6)
_PICTURES: Final = 150
_ROUNDS: Final = 3
_ORDER: Final = ("int8", "layer", "inspection", "cascade", "soak", "kill")


@dataclass
class _Bench:
    """What the parts share: options, a folder for what is not kept, and notes."""

    asked: argparse.Namespace
    home: Path
    scratch: Path
    notes: list[str] = field(default_factory=list)

    def run(self, wanted: Wanted) -> str | None:
        """The name of a trained run; None where there is no data for it."""
        return obtain(wanted, self.asked.data, self.asked.images, self.asked.epochs, self.notes)

    def rendered(self, wanted: Wanted) -> str:
        """The name of a run whose data are rendered."""
        name = self.run(wanted)
        assert name is not None
        return name

    def package(self, name: str) -> Path:
        """A package of a run, of its INT8 version where there is one."""
        chosen = f"{name}-int8" if f"{name}-int8" in run_names() else name
        return self.package_as_it_is(chosen)

    def package_as_it_is(self, name: str) -> Path:
        """A package of this very run. It is no part's business here whether it lost anything: `int8` tells."""
        folder = self.scratch / "packages" / name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            asked = Asked(f"run:{name}", output=folder, ask=_ASK, max_drop=1.0, max_slice_drop=1.0)
            made = make_package(asked, command="benchmark")
            self.notes += [note for note in made.notes if note not in self.notes]
        return folder

    def pictures(self, dataset: str) -> list[Path]:
        """Images that no model has learnt from."""
        rows = open_dataset(dataset).table("images", columns=["path"], where="split IN ('val', 'test')")
        return [Path(path) for path in sorted(rows["path"].to_pylist())]

    def closeups(self) -> dict[Path, bool]:
        """Close-ups that no model has learnt from, and whether there is a defect on each."""
        dataset = open_dataset(DEFECTS.dataset)
        faulty = set(dataset.table("annotations", columns=["image_id"])["image_id"].to_pylist())
        images = dataset.table("images", columns=["image_id", "path"], where="split IN ('val', 'test')")
        rows = zip(images["path"].to_pylist(), images["image_id"].to_pylist(), strict=True)
        return {Path(path): image in faulty for path, image in sorted(rows)}

    def film(self) -> tuple[Path, list[bytes]]:
        """The detector's package and what a camera shows it; the segmenter's where there is no BCCD."""
        name, dataset = self.run(DETECTOR), DETECTOR.dataset
        if name is None:
            name, dataset = self.rendered(SEGMENTER), SEGMENTER.dataset
        return self.package(name), [path.read_bytes() for path in self.pictures(dataset)[:_PICTURES]]


def main() -> None:
    """Measure the parts that were asked for."""
    parser = options(__doc__, data=True)
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="keeps datasets and trained models")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--minutes", type=float, default=60, help="of the soak")
    parser.add_argument("--images", type=int, default=400, help="of parts that are rendered")
    parser.add_argument("--epochs", type=int, help="at most so many for each model; for trying the benchmark out")
    parser.add_argument("--steps", type=int, default=600, help="of training the reader")
    parser.add_argument("--frames", type=int, default=200, help="that are inspected")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--add", type=Path, nargs="+", default=[], metavar="FILE", help="reports whose rows are taken")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Make what is missing, and measure."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        home = (arguments.runs or Path(folder, "home")).absolute()
        with patch.dict(os.environ, {HOME_VARIABLE: str(home)}):
            bench = _Bench(arguments, home, Path(folder))
            found = [row for name in arguments.only for row in _part(name, bench)]
    added = [json.loads(file.read_text(encoding="utf-8")) for file in arguments.add]
    rows = sorted(
        [*found, *(row for report in added for row in report["results"])], key=lambda row: _ORDER.index(row["part"])
    )
    notes = [*bench.notes, *(note for report in added for note in report["notes"])]
    settings = {name: getattr(arguments, name) for name in ("minutes", "images", "epochs", "steps", "frames", "kills")}
    return Report(settings, rows, table(rows), list(dict.fromkeys(notes)))


def _part(name: str, bench: _Bench) -> Sequence[dict[str, Any]]:
    print(f"- {name}", file=sys.stderr, flush=True)
    rows = PARTS[name](bench)
    for row in rows:
        print(
            {key: value for key, value in row.items() if key not in ("samples", "refused")}, file=sys.stderr, flush=True
        )
    return rows


def _int8(bench: _Bench) -> list[dict[str, Any]]:
    names = [name for wanted in (CLASSIFIER, DETECTOR, SEGMENTER, DEFECTS) if (name := bench.run(wanted)) is not None]
    return [*(measure_model(name) for name in names), *measure_machine()]


def _inspection(bench: _Bench) -> list[dict[str, Any]]:
    name, reader = bench.rendered(DEFECTS), bench.home / _READER
    about = reader.with_suffix(".json")
    if not about.exists():
        about.write_text(json.dumps(measure_reader(reader, steps=bench.asked.steps)))
    row = measure_inspection(bench.package(name), reader, bench.closeups(), count=bench.asked.frames, seed=0)
    return [{**row, "model": bench.package(name).name, "reader": json.loads(about.read_text())}]


def _cascade(bench: _Bench) -> list[dict[str, Any]]:
    light, heavy = bench.rendered(CLASSIFIER), bench.rendered(HEAVY)
    packages = [bench.package_as_it_is(name) for name in (light, heavy)]
    import_dataset(NEW, bench.asked.data, bench.asked.images, bench.notes)
    return [{**measure_cascade(NEW, *packages, rounds=_ROUNDS), "light": light, "heavy": heavy}]


def _soak(bench: _Bench) -> list[dict[str, Any]]:
    film = bench.film()
    return [{**soak(*film, bench.scratch / "soak", bench.asked.minutes), "model": film[0].name}]


def _kill(bench: _Bench) -> list[dict[str, Any]]:
    film = bench.film()
    return [{**kill_and_restart(*film, bench.scratch / "killed", bench.asked.kills, seed=0), "model": film[0].name}]


PARTS: Final[Mapping[str, Callable[[_Bench], Sequence[dict[str, Any]]]]] = {
    "int8": _int8,
    "inspection": _inspection,
    "cascade": _cascade,
    "soak": _soak,
    "kill": _kill,
}

if __name__ == "__main__":
    main()
