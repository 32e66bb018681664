"""`curate mistakes` through the command line, on sets with known wrong labels: are the targets met?

    python -m benchmarks.mistakes_end_to_end [--data FOLDER] [--seeds 3] [--images 400] [--json FILE]

Sets: BCCD (Pascal VOC) with 5% of its boxes' classes swapped, where the data folder is given; scikit-learn's digits as an
ImageFolder with 5% uniformly wrong labels; `parts_v3` as it is rendered, every kind of label fault. Each is imported and checked
by the installed command, and its JSON is all that is looked at. AP counts a wrong label that is not listed as never found; F1
is of what scores at least 0.5; ECE (15 bins) takes a label that is not listed as certainly right.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.report import Report, markdown, options, real_set, run
from curate.checks.findings import Finding
from curate.demo import make_parts
from curate.demo.score import average_precision

PLANTED = 0.05
BINS = 15


@dataclass(frozen=True)
class Result:
    """How one kind of wrong label was found in one set.

    Attributes:
        set: Name and seed.
        kind: Kind of finding.
        labels: How many labels there are.
        wrong: How many of them are wrong.
        flagged: How many findings score at least 0.5.
        ap: Average precision.
        f1: Of the flagged set.
        ece: Expected calibration error over all labels; None for kinds that are not about every label.
        cpu_s: User and system time of import and check.
    """

    set: str
    kind: str
    labels: int
    wrong: int
    flagged: int
    ap: float
    f1: float
    ece: float | None
    cpu_s: float


def main() -> None:
    """Run every set."""
    parser = options(__doc__, data=True, seeds=3)
    parser.add_argument("--images", type=int, default=400, help="size of parts_v3 (default 400)")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every set with every seed."""
    notes: list[str] = []
    cells = real_set(arguments.data, "bccd", notes)
    results: list[Result] = []
    for seed in range(arguments.seeds):
        new = [] if cells is None else [bccd(cells, seed)]
        new += [digits(seed), *parts(seed, arguments.images)]
        results += new
        for result in new:
            print(f"# {result}", file=sys.stderr)
    settings = {"seeds": arguments.seeds, "images of parts_v3": arguments.images, "planted": PLANTED}
    return Report(settings, [asdict(result) for result in results], table(results), notes)


def table(results: list[Result]) -> str:
    """One row per result."""
    rows = []
    for r in results:
        figures = f"{r.ap:.3f}", f"{r.f1:.3f}", "" if r.ece is None else f"{r.ece:.3f}", f"{r.cpu_s:.0f}"
        rows.append([r.set, r.kind, r.labels, r.wrong, r.flagged, *figures])
    return markdown(["set", "kind", "labels", "wrong", "flagged", "AP", "F1", "ECE", "CPU s"], rows)


def bccd(root: Path, seed: int) -> Result:
    """BCCD with 5% of its boxes' classes swapped for one of the other two."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "bccd"
        (source / "Annotations").mkdir(parents=True)
        (source / "JPEGImages").symlink_to(root.resolve() / "JPEGImages")
        trees = {path: ElementTree.parse(path) for path in sorted((root / "Annotations").glob("*.xml"))}
        names = [
            (path, place, name)
            for path, tree in trees.items()
            for place, name in enumerate(tree.iterfind("object/name"))
        ]
        classes = sorted({str(name.text) for _, _, name in names})
        wrong = set()
        for row in random.choice(len(names), round(PLANTED * len(names)), replace=False):
            path, place, name = names[row]
            name.text = str(random.choice([other for other in classes if other != name.text]))
            wrong.add((path.stem, place))
        for path, tree in trees.items():
            tree.write(source / "Annotations" / path.name)
        findings, cpu = check(source, Path(folder), "--format", "voc")
        boxes = {path.stem: [_box(item) for item in tree.iterfind("object/bndbox")] for path, tree in trees.items()}
        found = [
            (finding, (Path(finding["image"]).stem, boxes)) for finding in findings if finding["kind"] == "mislabeled"
        ]
        hits = [
            any((stem, place) in wrong for place in _places(all_[stem], finding["bbox"]))
            for finding, (stem, all_) in found
        ]
    return _result(f"BCCD, seed {seed}", hits, [finding["score"] for finding, _ in found], len(wrong), len(names), cpu)


def _box(item: ElementTree.Element) -> tuple[float, ...]:
    x0, y0, x1, y1 = (float(item.findtext(name, "nan")) for name in ("xmin", "ymin", "xmax", "ymax"))
    return (x0, y0, x1 - x0, y1 - y0)


def _places(boxes: list[tuple[float, ...]], bbox: list[float]) -> Iterator[int]:
    return (place for place, box in enumerate(boxes) if np.allclose(box, bbox, atol=0.5))


def digits(seed: int) -> Result:
    """1,797 handwritten digits of 8 x 8 pixels, 5% of them in another digit's folder."""
    random = np.random.default_rng(seed)
    data = load_digits()
    given = data.target.copy()
    rows = random.choice(len(given), round(PLANTED * len(given)), replace=False)
    given[rows] = (given[rows] + random.integers(1, 10, len(rows))) % 10
    wrong = {f"{row:04d}" for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for row, (pixels, label) in enumerate(zip(data.images, given, strict=True)):
            place = Path(folder) / "digits" / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15.9).astype(np.uint8)).save(place / f"{row:04d}.png")
        findings, cpu = check(Path(folder) / "digits", Path(folder))
    found = [finding for finding in findings if finding["kind"] == "mislabeled"]
    hits = [Path(finding["image"]).stem in wrong for finding in found]
    return _result(f"digits, seed {seed}", hits, [finding["score"] for finding in found], len(wrong), len(given), cpu)


def parts(seed: int, images: int) -> list[Result]:
    """`parts_v3` without predictions: what can be found with no detector."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_parts(Path(folder) / "parts", images=images, seed=seed)
        total = sum(len(json.loads(made.annotation_file(split).read_text())["annotations"]) for split in made.splits)
        rows, cpu = check(made.root / "annotations", Path(folder), "--images", str(made.root / "images"))
    findings = [Finding(**{key: row[key] for key in row if key not in {"id", "related"}}) for row in rows]
    wrong = made.truth.wrong_annotations("mislabeled")
    found = [finding for finding in findings if finding.kind == "mislabeled"]
    hits = [(f"images/{f.image.removeprefix('images/')}", int(f.source_annotation_id or 0)) in wrong for f in found]
    name = f"parts_v3, seed {seed}"
    impossible = [fault for fault in made.truth.faults if fault.detail in {"zero_area", "outside", "drawn_twice"}]
    keys = {
        (fault.image, number) for fault in impossible for number in (fault.annotation_id, fault.related_annotation_id)
    }
    boxes = [finding for finding in findings if finding.kind in {"mislocated", "spurious"}]
    box_hits = [(f"images/{f.image.removeprefix('images/')}", int(f.source_annotation_id or 0)) in keys for f in boxes]
    return [
        _result(name, hits, [f.score for f in found], len(made.truth.of_kind("mislabeled")), total, cpu),
        _result(name, box_hits, [f.score for f in boxes], len(impossible), total, cpu, kind="impossible box"),
    ]


def check(source: Path, home: Path, *options: str) -> tuple[list[dict[str, Any]], float]:
    """Import a source and look for mistakes; the findings, and CPU seconds."""
    environment = os.environ | {"CURATE_HOME": str(home / "home")}
    command = [sys.executable, "-c", "from curate.cli import main; main()"]
    before = os.times()
    subprocess.run(
        [*command, "import", str(source), "-d", "bench", "--json", *options],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    mistakes = [*command, "mistakes", "-d", "bench", "--encoder", "builtin", "--min-score", "0", "--json"]
    done = subprocess.run(
        mistakes, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return [json.loads(line) for line in done.stdout.splitlines()], cpu


def _result(
    name: str, hits: list[bool], scores: list[float], wrong: int, labels: int, cpu: float, kind: str = "mislabeled"
) -> Result:
    flagged = sum(score >= 0.5 for score in scores)
    right = sum(hit for hit, score in zip(hits, scores, strict=True) if score >= 0.5)
    ece = calibration_error(scores, hits, labels) if kind == "mislabeled" else None
    ap = average_precision(hits, wrong)
    return Result(name, kind, labels, wrong, flagged, ap, 2 * right / max(flagged + wrong, 1), ece, cpu)


def calibration_error(scores: list[float], hits: list[bool], labels: int) -> float:
    """Expected calibration error (Naeini et al. 2015) over all labels; those without a finding have probability 0."""
    p, y = np.zeros(labels), np.zeros(labels)
    p[: len(scores)], y[: len(hits)] = scores, hits
    bucket = np.minimum((p * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bucket, weights=p - y, minlength=BINS)
    return float(np.abs(gaps).sum() / labels)


if __name__ == "__main__":
    main()
