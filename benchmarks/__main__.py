"""Every benchmark, each in a process of its own, and one page with their tables.

    python -m benchmarks [--data FOLDER] [--quick] [--only NAME ...] [--out benchmarks/results]

Writes OUT/NAME.json for each, and OUT/README.md and the tables of docs/performance.md from all the JSON files that are there, so
that one benchmark can be run again by itself; with --quick into build/benchmarks, for its figures mean nothing, and no page but
that folder's. Exit status 1 if one of them failed; the others still run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True)
class Benchmark:
    """One script.

    Attributes:
        title: What it measures.
        about: How to read its table.
        quick: Options that make it a smoke test.
        data: Whether it takes --data.
    """

    title: str
    about: str
    quick: Sequence[str]
    data: bool = False


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "versus": Benchmark(
        "curate, its peers and the limit",
        "The same prepared input for all, in turns, one thread; medians, and how many times curate's they are. The limit is the "
        "least that must be done. Memory is of the whole process, libraries and input included, FiftyOne's database left out. "
        "Peers that are not installed here run in the interpreter that CURATE_PEERS names.",
        quick=[
            "--scale",
            "0.004",
            "--repeats",
            "1",
            "--only",
            "start-up",
            "import COCO",
            "near-duplicates",
            "evaluate",
        ],
    ),
    "growth": Benchmark(
        "How cost grows",
        "Each command on tables of so many images, in a process of its own, one thread: CPU seconds, and the largest resident "
        "memory. The exponent is fitted through the last three sizes.",
        quick=["--sizes", "200", "400", "--only", "info", "export", "findings"],
    ),
    "startup": Benchmark(
        "Starting up",
        "Medians; `ls` lists ten datasets. `python -c pass` is the limit.",
        quick=["--repeats", "1"],
    ),
    "label_errors": Benchmark(
        "Wrong labels, on the same probabilities",
        "curate / argmax / cleanlab, all on one matrix of out-of-fold probabilities; means over seeds. Of cleanlab's four "
        "filters and two rankings the best in each column, chosen with the truth at hand.",
        quick=["--seeds", "1", "--images", "40"],
        data=True,
    ),
    "label_errors_scale": Benchmark(
        "Wrong labels among a million",
        "Medians of runs in turn, one thread; memory beyond the probabilities themselves.",
        quick=["--rows", "100000", "--repeats", "1"],
    ),
    "formats_kept": Benchmark(
        "What readers keep of real exports",
        "Objects that came in of those in the files, which a few lines count that know nothing of the readers. `not read`: the "
        "tool has no reader, or raised. More than the files hold: masks counted beside their boxes, or attributes as objects. "
        "curate's seconds include storing a dataset, 0.05 s at least.",
        quick=[],
        data=True,
    ),
    "import_large": Benchmark(
        "Memory for a large file",
        "`curate import` of a generated JSON; 1.5 GB of resident memory is the limit for 2 GB of file.",
        quick=["--gigabytes", "0.02"],
    ),
    "million": Benchmark(
        "Questions about a million images",
        "Each a command in a process of its own, medians, start-up included; warm page cache. `findings --json` "
        "prints 200,000 lines.",
        quick=["--images", "2000", "--repeats", "1"],
    ),
    "import_coco": Benchmark(
        "Importing a COCO file",
        "`curate import` reads, checks and stores, `curate read` only reads; the others load the file into memory.",
        quick=["--images", "2000"],
    ),
    "mistakes_end_to_end": Benchmark(
        "The command line",
        "`curate import` and `curate mistakes`, judged by their JSON; a wrong label that is not listed counts as not found.",
        quick=["--seeds", "1", "--images", "40"],
        data=True,
    ),
    "mistakes_detection": Benchmark(
        "Wrong boxes",
        "Errors planted in 5% of the boxes for each kind, and predictions out of fold by a detector that learned from these "
        "labels, the same for all. The plain matcher goes class by class at IoU 0.5, by confidence. `one list`: planted errors "
        "among the first 100 suspects of all kinds together, beside the most in the first 100 of any one kind.",
        quick=["--seeds", "1", "--images", "40", "--detector", "good"],
        data=True,
    ),
    "boxes_scale": Benchmark(
        "A million boxes",
        "The rows `mistakes, boxes` and `evaluate` of `versus` at growing sizes, one thread. An asterisk: the peer's seconds "
        "are those of fewer images, in proportion. The exponent is through the last three sizes.",
        quick=["--sizes", "100", "200", "--peers", "100"],
    ),
    "mistakes_masks": Benchmark(
        "Wrong masks",
        "Average precision for a tenth of the defect masks of rendered parts dropped, eroded, shifted or given the other class, "
        "on the same predictions; `plain` goes by the IoU with the prediction, cleanlab by its pixel scores, `curate alone` "
        "has no predictions. Right of flagged: of those with a probability of at least 0.5.",
        quick=["--simulate", "--seeds", "1", "--images", "24"],
    ),
    "quality": Benchmark(
        "Degraded images",
        "AUROC at three growing strengths, a tenth of the images degraded; in brackets CleanVision, where its interpreter is "
        "given by --python. Side and back light are told by measures; CleanVision's figure for them is its `dark`.",
        quick=["--images", "12", "--small", "60"],
        data=True,
    ),
    "duplicates": Benchmark(
        "Copies of images",
        "F1 over pairs, as found and after joining linked images, each tool at its own threshold.",
        quick=["--photos", "20", "--scenes", "4"],
        data=True,
    ),
    "pairs_search": Benchmark(
        "All pairs of similar vectors",
        "Against the whole matrix product, faiss and the peers; recall is of all pairs of a thousand near copies.",
        quick=["--size", "2000", "--methods", "curate", "whole matrix, float32"],
    ),
    "leaks_outliers": Benchmark(
        "Leaks and outliers",
        "Means over seeds. Flagged: with a probability of at least 0.5. The peers rank, and flag nothing.",
        quick=["--seeds", "1", "--images", "40"],
        data=True,
    ),
    "shift": Benchmark(
        "Lamps, drift and slices",
        "Set-ups of lamps recovered from rendered parts without knowing them; part of the draws in which drift is detected, and "
        "false alarms where nothing changed; a lamp under which a model fails.",
        quick=["--seeds", "1", "--images", "60", "--draws", "4"],
        data=True,
    ),
    "select": Benchmark(
        "What to label next",
        "Accuracy in per cent of logistic regression on frozen vectors of the built-in encoder, of images held out, with so many "
        "of the labels; means and standard errors over seeds. An asterisk: random, entropy, k-center or typicality is ahead.",
        quick=["--seeds", "1", "--images", "40"],
        data=True,
    ),
    "augment_recovery": Benchmark(
        "Recipes recovered",
        "What was planted in one half of a set, and what is fitted to it from the other half: relative errors, how often the "
        "interval holds the planted value, and what was claimed that nobody planted.",
        quick=["--images", "16", "--only", "parts_v3", "--plans", "exposure -1"],
        data=True,
    ),
    "augment": Benchmark(
        "Augmentation for another light",
        "Accuracy in per cent of crops of parts under lamps that no training image had, means over seeds and half of their 95% "
        "intervals, and how much of the gap to `real` (images of those lamps, labelled) each arm closes; `fitted` is what "
        "`curate augment` fits. Then CPU milliseconds for an image: albumentations and encoding alone, and `curate augment`, "
        "which also carries the labels and writes the file.",
        quick=["--seeds", "1", "--images", "200", "--steps", "5", "--repeats", "1", "--only", "ring"],
    ),
    "encoders": Benchmark(
        "Encoders",
        "In per cent. Classes: by a linear probe over five folds, and by the 10 nearest neighbours of other sources. Copies: how "
        "many whole pictures are the nearest to a changed copy of theirs. Domains: the class and the domain by the 10 nearest "
        "neighbours; `across`: the class by those of other domains only. Milliseconds are of CPU, per image, decoding left out.",
        quick=["--only", "places", "raccoon"],
        data=True,
    ),
    "runtimes": Benchmark(
        "Runtimes",
        "Images per CPU second on one thread, networks with random weights; the least cosine to torch's vectors.",
        quick=["--networks", "timm:test_resnet", "--images", "2", "--repeats", "1"],
    ),
    "embed": Benchmark(
        "From files to vectors in the store",
        "Milliseconds of CPU for a picture, child processes included, and pictures a second by the clock, on as many cores as "
        "told; all methods run the same encoder. ViT-B-32 has random weights. Peers run in the interpreter that CURATE_PEERS "
        "names. Then peak resident memory for growing numbers of small pictures and a network that does next to nothing.",
        quick=["--images", "8", "--encoders", "builtin", "--cores", "2", "--memory", "200"],
        data=True,
    ),
    "predict": Benchmark(
        "From files to predictions in the store",
        "Milliseconds of CPU for a picture. The model is what makes numbers of bytes, the network, and what makes objects of its "
        "outputs; before it comes what any pipeline does: decoding, scaling, padding. Then peak resident memory for growing "
        "numbers of small pictures with twenty objects each, of which each has twenty class probabilities.",
        quick=["--images", "8", "--repeats", "1", "--memory", "200"],
        data=True,
    ),
    "report_page": Benchmark(
        "A report of a large dataset",
        "`curate report` on a made dataset with eight objects an image; vectors, so that a map is laid out, and measures. "
        "`cards`: findings that are in it. Then headless Chromium opens the file from disk and turns the wheel through the "
        "findings, 120 pixels a frame; a frame has 16.7 ms where nothing is missed.",
        quick=["--images", "300", "--findings", "60", "--pictures", "20"],
    ),
    "edge": Benchmark(
        "To the edge and back",
        "INT8 models that `curate compress` made within one point of the metric and two of every slice, on the images of val "
        "and test; seconds are of the processor, one thread, float and INT8 in turn. Speed: of onnxruntime / of OpenVINO. "
        "Then single layers: the most that INT8 can win here, and where it wins nothing. The soak is `curate run` on one "
        "core, looking at a camera that gives 50 frames a second.",
        quick=["--only", "soak", "kill", "--images", "24", "--epochs", "1", "--minutes", "0.2", "--kills", "1"],
        data=True,
    ),
    "fiftyone_sync": Benchmark(
        "A dataset in the FiftyOne App",
        "The same COCO file brought to the same database by FiftyOne's own import and by curate; opening again after changes on "
        "either side. CPU seconds are of Python and the database together.",
        quick=["--images", "200"],
    ),
    "ray_scaling": Benchmark(
        "On a Ray cluster of this machine",
        "The same work by one and by two workers of one core each, and by the local engine; medians. Efficiency: the time of one "
        "over twice the time of two. CPU seconds are of all processes, Ray's own among them.",
        quick=["--images", "300", "--vectors", "3000", "--repeats", "1"],
    ),
}
PAGE: Final = "README.md"
DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "performance.md"
"""The page whose tables are these reports': between a comment `table: NAME` and a comment `end`."""
_TABLE: Final = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Run what was asked for; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder of public data (detection/bccd ...)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything run? about two minutes")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default benchmarks/results")
    arguments = parser.parse_args()
    root = Path(__file__).parents[1]
    out: Path = arguments.out or root / ("build/benchmarks" if arguments.quick else "benchmarks/results")
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in arguments.only:
        print(f"== {name}", file=sys.stderr, flush=True)
        if not run(name, out / f"{name}.json", arguments.data, quick=arguments.quick):
            failed.append(name)
    reports = {
        name: json.loads(file.read_text(encoding="utf-8"))
        for name in BENCHMARKS
        if (file := out / f"{name}.json").is_file()
    }
    (out / PAGE).write_text(page(reports), encoding="utf-8")
    if out.resolve() == root / "benchmarks/results":
        DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8"), reports), encoding="utf-8")
    for name in failed:
        print(f"error: {name} failed", file=sys.stderr)
    return 1 if failed else 0


def run(name: str, file: Path, data: Path | None, *, quick: bool) -> bool:
    """Run one benchmark into a JSON file; False if it failed."""
    benchmark = BENCHMARKS[name]
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(file)]
    command += benchmark.quick if quick else []
    command += ["--data", str(data)] if data is not None and benchmark.data else []
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return subprocess.run(command, env=environment).returncode == 0


def with_tables(text: str, reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A document with the tables and notes of those reports that there are, and by which command and when they were made."""

    def table(found: re.Match[str]) -> str:
        report = reports.get(found[2])
        if report is None:
            return found[0]
        notes = "".join(f"\nNote: {note}.\n" for note in report.get("notes", []))
        return f"{found[1]}`{report['command']}`, {report['date']}\n\n{report['table']}\n{notes}{found[3]}"

    return _TABLE.sub(table, text)


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """All reports as one Markdown page."""
    lines = ["# Benchmarks", "", "Made by `make bench`; each table's figures in full are in the JSON file of its name."]
    for name, report in reports.items():
        title, about = BENCHMARKS[name].title, BENCHMARKS[name].about
        lines += ["", f"## {title}", "", about, "", f"`{report['command']}`, {report['date']}", "", report["table"]]
        lines += [text for note in report["notes"] for text in ("", f"Note: {note}.")]
    lines += ["", "## Machine", ""]
    machines: dict[str, list[str]] = {}
    for name, report in reports.items():
        described = ", ".join(f"{key} {value}" for key, value in report["machine"].items())
        machines.setdefault(described, []).append(name)
    lines += [f"- {', '.join(names)}: {described}" for described, names in machines.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
