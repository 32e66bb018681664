"""Wrong boxes, found with out-of-fold predictions: curate, a plain matcher, ObjectLab and FiftyOne on the same predictions.

    python -m benchmarks.mistakes_detection [--data FOLDER] [--seeds 3] [--images 240] [--detector trained] [--json FILE]
    python -m benchmarks.mistakes_detection --predictions FOLDER ...

Sets: raccoon and BCCD (where the data folder is given) and a `parts_v3` without faults. 5% of the boxes each are swapped,
deleted, added and shifted (`benchmarks.planted_boxes`). Then a detector learns from these labels, errors and all, and predicts
every image out of fold: `curate train --task detect --folds 3` (--detector trained; minutes for a set and seed), or a
simulated one (good, mediocre, poor: `benchmarks.simulated_detector`). --predictions keeps what was predicted in files
NAME-SEED-LAYER.npz, LAYER 0, 1, ..., and takes it from there where it is: columns image, bbox, label, score and, if there are
any, probabilities; images are numbered in the order of their ids, labels in that of the set's classes. Of several layers curate
is given the first, and all of them as an ensemble. `curate, and looks` is all of `curate mistakes`: with the first, and the
crops of the boxes by the built-in encoder.

AP counts every planted error, also those that the detector gives no chance to find; a missing box is found by a suggested box
with IoU 0.5 or more, one each. The sets have errors of their own, BCCD many boxes that are missing: finding those counts as
wrong, for every method. Every method ranks each kind by itself: a box may be in several of these lists. `one list` is how many
planted errors are among the first 100 of curate's suspects, where a box is in once, as the likeliest kind; beside the most in
the first 100 of one kind. AUROC is of images with any error, among images with equally many boxes. A
million boxes: `benchmarks.boxes_scale`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.box_looks import with_looks
from benchmarks.box_rankers import (
    Rankings,
    curate_rankings,
    hits,
    image_auroc,
    image_scores_of,
    measures,
    mistakenness,
    objectlab,
    plain_matcher,
    review_list,
)
from benchmarks.planted_boxes import KINDS, SHARE, Planted, plant
from benchmarks.report import Report, markdown, options, real_set, require_cleanlab, run
from benchmarks.sets import read_voc, render_parts
from benchmarks.simulated_detector import QUALITIES, simulate
from curate.checks.boxes import Boxes, IntArray
from curate.checks.labels import Labels
from curate.checks.mistakes.detection import detection_errors

TRAINED: Final = "trained"
COLUMNS: Final = ("image", "bbox", "label", "score", "probabilities")
METHODS: Final = ("curate", "curate, and looks", "curate, all layers", "plain", "ObjectLab", "FiftyOne")


def main() -> None:
    """Run every set."""
    parser = options(__doc__, data=True, seeds=3)
    parser.add_argument("--images", type=int, default=240, help="size of parts_v3 (default 240)")
    parser.add_argument("--detector", choices=[TRAINED, *QUALITIES], default=TRAINED, help="(default trained)")
    parser.add_argument("--predictions", type=Path, metavar="FOLDER", help="keep predictions here; used where there")
    parser.add_argument("--sets", nargs="+", default=["raccoon", "bccd", "parts_v3"], metavar="NAME", help="which sets")
    run(measure, parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every set, seed, kind and method."""
    require_cleanlab()
    notes: list[str] = []
    results: list[dict[str, Any]] = []
    for name, labels in clean_sets(arguments, notes):
        for seed in range(arguments.seeds):
            boxes = labels.boxes()
            clean = boxes.take(boxes.usable & (boxes.label >= 0))
            planted = plant(clean, labels.sizes, seed)
            layers = predictions(arguments, name, labels, clean, planted, seed)
            rows = compare(planted, layers, labels, notes)
            results += [{"data": name, "seed": seed} | row for row in rows]
            print(f"# {name}, seed {seed}", file=sys.stderr)
    settings = {"seeds": arguments.seeds, "images of parts_v3": arguments.images, "planted": SHARE}
    settings["detector"] = arguments.detector
    if arguments.detector != TRAINED:
        settings["quality"] = asdict(QUALITIES[arguments.detector])
    return Report(settings, results, table(results), list(dict.fromkeys(notes)))


def clean_sets(arguments: argparse.Namespace, notes: list[str]) -> Iterator[tuple[str, Labels]]:
    """Names and labels."""
    for name in arguments.sets:
        if name == "parts_v3":
            with tempfile.TemporaryDirectory() as folder:
                yield name, render_parts(Path(folder), images=arguments.images, seed=0)
        elif (source := real_set(arguments.data, name, notes)) is not None:
            yield name, read_voc(source)


def predictions(
    arguments: argparse.Namespace, name: str, labels: Labels, clean: Boxes, planted: Planted, seed: int
) -> list[Boxes]:
    """The layers of one set and seed."""
    everywhere = np.arange(len(labels.sizes))
    kept: Path | None = arguments.predictions
    if kept is not None and (files := sorted(kept.glob(f"{name}-{seed}-*.npz"))):
        return [_read_layer(file, everywhere) for file in files]
    if arguments.detector == TRAINED:
        from benchmarks.trained_detector import out_of_fold

        layer = out_of_fold(name, labels, planted.truth, seed)
        if kept is not None:
            _write_layer(layer, kept / f"{name}-{seed}-0.npz")
        return [layer]
    rng = np.random.default_rng([seed, 1])
    return [simulate(clean, labels.sizes, QUALITIES[arguments.detector], rng)]


def _read_layer(file: Path, covered: IntArray) -> Boxes:
    with np.load(file) as columns:
        return Boxes(**{name: columns[name] for name in COLUMNS if name in columns}, covered=covered)


def _write_layer(layer: Boxes, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: column for name in COLUMNS if (column := getattr(layer, name)) is not None}
    np.savez_compressed(file, **columns)


def compare(planted: Planted, layers: Sequence[Boxes], labels: Labels, notes: list[str]) -> Iterator[dict[str, Any]]:
    """Rank the suspects by every method; one row for every kind and method, and for the images."""
    truth, first, sizes = planted.truth, layers[0], labels.sizes
    start = time.process_time()
    found = detection_errors(truth, layers[:1], sizes=sizes, min_score=0.001)
    seconds = time.process_time() - start
    own = {"curate": found}
    if len(layers) > 1:
        own["curate, all layers"] = detection_errors(truth, layers, sizes=sizes, min_score=0.001)
    if len(labels.classes) > 1:
        own["curate, and looks"] = with_looks(first, truth, labels)
    methods: dict[str, Rankings] = {method: curate_rankings(suspects) for method, suspects in own.items()}
    methods["plain"] = plain_matcher(truth, first)
    methods["ObjectLab"] = objectlab(truth, first, len(sizes), len(labels.classes))
    peer = mistakenness(truth, first, sizes)
    if isinstance(peer, str):
        notes.append(f"FiftyOne is left out: {peer}")
    else:
        methods["FiftyOne"] = peer
    wrong_image = np.zeros(len(sizes), dtype=bool)
    wrong_image[planted.deleted.image] = True
    for rows in planted.wrong.values():
        wrong_image[truth.image[rows]] = True
    count = np.bincount(truth.image, minlength=len(sizes))
    for method, rankings in methods.items():
        judged = {kind: hits(ranking, planted, kind) for kind, ranking in rankings.items()}
        for kind, (right, score, total) in judged.items():
            if total:
                yield {"kind": kind, "method": method} | measures(right, score, total)
        per_image = image_scores_of(rankings, truth, len(sizes))
        row: dict[str, Any] = {"kind": "any", "method": method, "auroc": image_auroc(per_image, wrong_image, count)}
        if method in own:
            row["one list"] = int(review_list(own[method], planted)[:100].sum())
            row["best own list"] = max(int(each[0][:100].sum()) for each in judged.values())
            row["cpu_s"] = round(seconds, 2)
        yield row


def table(results: list[dict[str, Any]]) -> str:
    """Means over the seeds: kinds, then images."""
    present = [name for name in METHODS if any(row["method"] == name for row in results)]

    def mean(data: str, kind: str, method: str, measure: str) -> float:
        key = {"data": data, "kind": kind, "method": method}
        values = [row[measure] for row in results if key.items() <= row.items() and measure in row]
        return float(np.mean(values)) if values else float("nan")

    def shown(values: Sequence[float], digits: int = 2) -> str:
        return " / ".join("-" if np.isnan(value) else f"{value:.{digits}f}" for value in values)

    kinds, images = [], []
    for data in dict.fromkeys(row["data"] for row in results):
        for kind in KINDS:
            ap = [mean(data, kind, method, "ap") for method in present]
            if np.isnan(ap[0]):
                continue
            plain = mean(data, kind, "plain", "ap")
            recall = [[mean(data, kind, method, f"recall@{n}") for method in present] for n in (50, 100)]
            gone = (ap[0] - plain) / (1.0 - plain)
            ece = mean(data, kind, "curate", "ece")
            kinds.append([data, kind, shown(ap), f"{gone:.0%}", shown(recall[0]), shown(recall[1]), f"{ece:.2f}"])
        lists = [mean(data, "any", "curate", name) for name in ("one list", "best own list")]
        auroc = [mean(data, "any", method, "auroc") for method in present]
        cpu = mean(data, "any", "curate", "cpu_s")
        images.append([data, shown(auroc), shown(lists, 1), f"{cpu:.1f}"])
    names = " / ".join(present)
    columns = [
        "set",
        "kind",
        f"AP: {names}",
        "of the plain matcher's error gone",
        "recall@50",
        "recall@100",
        "ECE curate",
    ]
    of_images = ["set", f"AUROC of images: {names}", "first 100: one list / best kind's own", "CPU s"]
    return f"{markdown(columns, kinds)}\n\n{markdown(of_images, images)}"


if __name__ == "__main__":
    main()
