"""Wrong masks: planted in the defects of rendered parts, found with predictions from a small segmenter, out of fold.

    python -m benchmarks.mistakes_masks [--seeds 3] [--images 240] [--epochs N] [--keep FOLDER] [--json FILE]
    python -m benchmarks.mistakes_masks --simulate [--json FILE]
    python -m benchmarks.mistakes_masks --speed

The pictures are windows of 64 x 64 pixels around the scratches and dents of a `parts_v3` without faults, and half as many without
any. A tenth of the masks is then wrong, a fortieth each: dropped; eroded to 45% of their area; shifted until their IoU with
themselves is at most 0.4; given the other class. `curate train --task segment --folds 3` learns from these labels, errors and
all, and what its models say of the windows that they have not seen is what every method is given. With --simulate a segmenter is
made up from the clean masks in place of it, good, mediocre or poor: outlines waver, objects are missed and confused, and others
are seen where there are none.

A dropped mask is found by a suggested region that it overlaps with an IoU of at least 0.2, the others by a finding that names
them. `any` is one list of all kinds. `curate` is what `curate mistakes` lists, of which the looks of the crops are a part; `masks
only` does without these, `no model` without predictions too. With --speed: masks of 1000 x 1000 pixels, time and memory instead.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from benchmarks.planted_masks import (
    CLASSES,
    KINDS,
    QUALITIES,
    SHARE,
    WINDOW,
    Mask,
    Quality,
    Windows,
    cut_windows,
    drawn,
    load,
    own_first,
    plant,
    save,
    simulate,
    write_coco,
)
from benchmarks.report import Report, markdown, options, require_cleanlab, run
from curate.checks.base import Settings
from curate.checks.findings import Finding
from curate.checks.labels import Labels, load_labels, load_predictions
from curate.checks.mistakes import run as mistakes
from curate.checks.mistakes.masks.run import compared_as_masks, judge_masks
from curate.dataset import Dataset, begin, open_dataset
from curate.dataset.home import datasets_folder
from curate.formats.base import ReadOptions
from curate.formats.importing import import_source
from curate.geometry import decode_rle, encode_rle, rle_boxes
from curate.models.predictors.layers import write_predictions

FOUND_AS: Final = {"dropped": "missing", "eroded": "bad_mask", "shifted": "bad_mask", "swapped": "mislabeled"}
METHODS: Final = ("curate", "curate, masks only", "plain", "cleanlab", "curate, no model")

_SAME: Final = 0.2
_LOWEST: Final = 0.001


@dataclass(frozen=True)
class Suspect:
    """Something that a method thinks is wrong: a mask by its number in the list (-1 for none) or a region of a window."""

    kind: str
    score: float
    window: int
    number: int = -1
    region: Mask | None = None


def main() -> None:
    """Every seed, or the speed test."""
    parser = options(__doc__, seeds=3)
    parser.add_argument("--images", type=int, default=240, help="size of parts_v3 (default 240)")
    parser.add_argument("--epochs", type=int, help="of each of the three models (default: what curate train chooses)")
    parser.add_argument("--simulate", action="store_true", help="made-up segmenters in place of trained ones")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep datasets and predictions here; used where there"
    )
    parser.add_argument("--speed", action="store_true", help="masks of large pictures: time and memory")
    run(lambda arguments: speed(arguments.images) if arguments.speed else measure(arguments), parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every seed, kind and method."""
    require_cleanlab()
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = arguments.keep or Path(temporary)
        os.environ["CURATE_HOME"] = str(folder / "home")
        results: list[dict[str, Any]] = []
        for seed in range(arguments.seeds):
            clean = windows_of(folder, arguments.images, seed)
            windows = plant(clean, seed)
            for quality in QUALITIES if arguments.simulate else ("out of fold",):
                name = f"windows-{seed}-{quality.replace(' ', '-')}"
                if not (datasets_folder() / name).is_dir():
                    store(windows, clean, folder / name, name, QUALITIES.get(quality), arguments.epochs, seed)
                key = {"segmenter": quality, "seed": seed}
                results += [key | row for row in compare(windows, clean, open_dataset(name))]
                print(f"# {key | results[-1]}", file=sys.stderr)
    settings = {name: getattr(arguments, name) for name in ("seeds", "images", "epochs", "simulate")} | {
        "planted": SHARE
    }
    return Report(settings, results, table(results))


def windows_of(folder: Path, images: int, seed: int) -> Windows:
    """Windows with right masks; cut unless they are there."""
    kept = folder / f"clean-{images}-{seed}.npz"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as parts:
            save(cut_windows(Path(parts) / "parts", images, seed), kept)
    return load(kept)


def store(
    windows: Windows, clean: Windows, folder: Path, name: str, quality: Quality | None, epochs: int | None, seed: int
) -> None:
    """Make a dataset of the windows, with the predictions of a trained or simulated segmenter."""
    write_coco(windows, folder)
    import_source(name, folder, command="benchmark")
    if quality is None:
        train(name, epochs)
        return
    images = open_dataset(name).table("images", columns=["image_id", "location"]).to_pylist()
    maps = simulate(clean, quality, np.random.default_rng([seed, 3]))
    with begin(name, command="benchmark") as transaction:
        order = [maps[int(Path(row["location"]).stem)] for row in images]
        write_predictions(
            transaction, "predictions/simulated", [row["image_id"] for row in images], order, CLASSES, model="simulated"
        )


def compare(windows: Windows, clean: Windows, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """What every method makes of the labels, and how well the predictions fit the right ones."""
    labels = load_labels(dataset, "ground_truth", None)
    models = compared_as_masks(labels, load_predictions(dataset, labels, None, []))
    said = predicted(dataset, labels, models, len(windows.pixels))
    shown = drawn(windows)
    methods = {
        "curate": ours(everything(dataset.name)),
        "curate, masks only": ours(judge_masks(dataset, labels, models, min_score=_LOWEST, check="benchmark")),
        "curate, no model": ours(judge_masks(dataset, labels, {}, min_score=_LOWEST, check="benchmark")),
        "plain": plain(windows, said[0], said[1]),
        "cleanlab": peer(windows, shown, said[0], said[1]),
    }
    right_labels = drawn(clean)
    quality = [_iou(right_labels == k, said[0] == k) for k in (0, 1)]
    for method, suspects in methods.items():
        for kind in (*KINDS, "any"):
            right, score, total = hits(windows, suspects, kind)
            yield {
                "kind": kind, "method": method, "planted": total, "ap": average_precision(right, score, total),
                "flagged": int((score >= 0.5).sum()), "right": int((right & (score >= 0.5)).sum()),
                "expected": float(score[score <= 1].sum()), "auroc": image_auroc(windows, suspects), "iou": quality,
            }  # fmt: skip


def everything(name: str) -> Sequence[Finding]:
    """What `curate mistakes` finds: masks against the predictions, and the looks of the crops."""
    with begin(name, command="benchmark") as transaction:
        return mistakes.judge(transaction, Settings(min_score=_LOWEST)).findings


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Means over the seeds."""
    rows = []
    for segmenter, kind in dict.fromkeys((row["segmenter"], row["kind"]) for row in results):
        chosen = [row for row in results if (row["segmenter"], row["kind"]) == (segmenter, kind)]
        by_method = [[row["ap"] for row in chosen if row["method"] == method] for method in METHODS]
        own = [row for row in chosen if row["method"] == "curate"]
        counts = [sum(row[name] for row in own) for name in ("planted", "right", "flagged")]
        figures = [f"{np.mean(each):.3f}" for each in by_method]
        rows.append([segmenter, kind, counts[0], *figures, f"{counts[1]} of {counts[2]}"])
        if kind == "any":
            by_method = [[row["auroc"] for row in chosen if row["method"] == method] for method in METHODS]
            rows.append([segmenter, "image (AUROC)", "", *(f"{np.mean(each):.3f}" for each in by_method), ""])
    return markdown(["segmenter", "planted", "masks", *METHODS, "right of flagged"], rows)


def train(name: str, epochs: int | None) -> None:
    """Learn from a dataset in three folds, as `curate train` chooses but for what is said here, and write what each model says of
    its own.
    """
    from curate.models.training.train import Asked
    from curate.models.training.train import train as learn

    settings: dict[str, Any] = {
        "task": "segment", "epochs": epochs, "device": "cpu", "amp": True, "workers": 0, "options": {"flips": "any"},
    }  # fmt: skip
    asked = Asked(dataset=name, empty=True, folds=3, settings=settings)
    learn(
        asked, name=name, command="benchmark", report=lambda *told: None, say=lambda text: print(text, file=sys.stderr)
    )


def speed(images: int) -> Report:
    """CPU time and memory for each image of 1000 x 1000 pixels with eight masks, and against a map of four classes.

    Each in a process of its own. Labels and map have nothing to do with one another: much is suspected, and drawn again.
    """
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CURATE_HOME"] = folder
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            pool.submit(_fill, Path(folder), images).result()
            rows = [pool.submit(_judge, compared).result() for compared in (False, True)]
    cells = [
        ["against a map" if row["compared"] else "alone", images, row["findings"], f"{row['cpu_ms']:.1f}",
         f"{row['before_mb']:.0f}", f"{row['peak_mb']:.0f}"]
        for row in rows
    ]  # fmt: skip
    columns = ["masks", "images", "findings", "CPU ms an image", "MB before", "MB at most"]
    return Report({"images": images}, rows, markdown(columns, cells))


def _fill(folder: Path, images: int) -> None:
    """A dataset of ragged ellipses, and a layer of others."""
    rng, side = np.random.default_rng(0), 1000
    y, x = np.mgrid[:side, :side]
    shapes = []
    for _ in range(64):
        (cx, cy), (rx, ry) = rng.uniform(200, 800, 2), rng.uniform(20, 150, 2)
        shapes.append(encode_rle(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + 0.2 * np.sin(x / 9) < 1))
    boxes = rle_boxes(shapes, [[side, side]] * len(shapes))
    content: dict[str, Any] = {
        "images": [{"id": k, "file_name": f"{k:06d}.jpg", "width": side, "height": side} for k in range(images)],
        "categories": [{"id": k, "name": f"class {k}"} for k in range(4)],
    }
    for layer, count in (("ground_truth", 8), ("predictions/map", 4)):
        chosen = rng.integers(0, len(shapes), (images, count)).tolist()
        content["annotations"] = [
            {
                "id": image * count + k, "image_id": image, "category_id": k % 4, "bbox": boxes[shape].tolist(), "iscrowd": 0,
                "segmentation": {"counts": shapes[shape], "size": [side, side]}, "score": 0.9,
            }
            for image, own in enumerate(chosen) for k, shape in enumerate(own)
        ]  # fmt: skip
        path = folder / f"{Path(layer).name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        import_source("speed", path, format="coco", options=ReadOptions(layer=layer), command="benchmark")


def _judge(compared: bool) -> dict[str, Any]:
    dataset = open_dataset("speed")
    labels = load_labels(dataset, "ground_truth", None)
    models = compared_as_masks(labels, load_predictions(dataset, labels, None, [])) if compared else {}
    start, before = time.process_time(), _peak()
    found = judge_masks(dataset, labels, models, min_score=0.1, check="benchmark")
    cpu = 1e3 * (time.process_time() - start) / labels.images.num_rows
    return {"compared": compared, "findings": len(found), "cpu_ms": cpu, "before_mb": before, "peak_mb": _peak()}


def _peak() -> float:
    """Highest resident memory so far, MB."""
    scale = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


def predicted(
    dataset: Dataset, labels: Labels, models: Mapping[str, Labels], count: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """What the layer says of each pixel: class (-1 for none) and confidence, shape (n, 64, 64)."""
    said = np.full((count, WINDOW, WINDOW), -1, dtype=np.int8)
    sure = np.full(said.shape, 0.9, dtype=np.float32)
    (name,) = models
    rows = dataset.table(
        "annotations", columns=["image_id", "label", "rle", "score"], where=f"layer = '{name}'"
    ).to_pylist()
    number = {row["image_id"]: int(Path(row["location"]).stem) for row in labels.images.to_pylist()}
    for row in rows:
        mask = decode_rle(row["rle"], [WINDOW, WINDOW]) > 0
        said[number[row["image_id"]]][mask] = CLASSES.index(row["label"])
        sure[number[row["image_id"]]][mask] = row["score"]
    return said, sure


def ours(findings: Sequence[Finding]) -> list[Suspect]:
    """The findings."""
    found = []
    for each in findings:
        region = each.evidence.get("region")
        mask = None if region is None else decode_rle(region["rle"], region["size"]) > 0
        number = -1 if each.source_annotation_id is None else int(each.source_annotation_id)
        found.append(Suspect(each.kind, each.score, int(Path(each.image).stem), number, mask))
    return found


def plain(windows: Windows, said: npt.NDArray[np.int8], sure: npt.NDArray[np.float32]) -> list[Suspect]:
    """Masks by how little of the prediction that touches them has their class; regions with no label by their confidence."""
    found, shown = [], drawn(windows)
    for number, item in enumerate(windows.masks):
        if item.fault == "dropped":
            continue
        own, other = (_iou_of_touching(said[item.window] == k, item.mask) for k in own_first(item.label))
        found.append(Suspect("mislabeled", other, item.window, number))
        found.append(Suspect("bad_mask", 1.0 - own, item.window, number))
    for window, kind in ((w, k) for w in range(len(said)) for k in (0, 1)):
        parts, count = label(said[window] == kind, np.ones((3, 3)))
        for part in range(1, count + 1):
            region = parts == part
            if region.sum() >= 4 and not (shown[window][region] == kind).any():
                found.append(Suspect("missing", float(sure[window][region].mean()), window, -1, region))
    return found


def peer(
    windows: Windows, shown: npt.NDArray[np.int8], said: npt.NDArray[np.int8], sure: npt.NDArray[np.float32]
) -> list[Suspect]:
    """cleanlab's score of each pixel, averaged over masks and over the regions that it calls issues and that have no label."""
    from cleanlab.segmentation.rank import get_label_quality_scores

    probabilities = np.repeat(((1 - sure) / 2)[:, None], 3, axis=1)
    np.put_along_axis(probabilities, (said + 1)[:, None].astype(np.int64), sure[:, None], axis=1)
    _, pixels = get_label_quality_scores((shown + 1).astype(np.int64), probabilities, verbose=False)
    found = []
    for number, item in enumerate(windows.masks):
        if item.fault != "dropped":
            score = 1.0 - float(pixels[item.window][item.mask].mean())
            found += [Suspect(kind, score, item.window, number) for kind in ("mislabeled", "bad_mask")]
    for window in range(len(said)):
        parts, count = label((said[window] >= 0) & (shown[window] < 0), np.ones((3, 3)))
        for part in range(1, count + 1):
            region = parts == part
            if region.sum() >= 4:
                found.append(Suspect("missing", 1.0 - float(pixels[window][region].mean()), window, -1, region))
    return found


def hits(
    windows: Windows, suspects: Sequence[Suspect], kind: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], int]:
    """Which suspects of a kind are right, highest score first; each error is found once, those of other kinds are passed over.

    `any`: each mask is listed once, with its highest score.
    """
    wanted = {number for number, item in enumerate(windows.masks) if item.fault and kind in ("any", item.fault)}
    dropped = [(number, item) for number, item in enumerate(windows.masks) if item.fault == "dropped"]
    right, scores, seen = [], [], set()
    for suspect in sorted(suspects, key=lambda each: -each.score):
        if kind != "any" and suspect.kind != FOUND_AS[kind]:
            continue
        number = suspect.number
        if number < 0 and suspect.region is not None:
            number = next(
                (
                    k
                    for k, item in dropped
                    if item.window == suspect.window and _iou(item.mask, suspect.region) >= _SAME
                ),
                -1,
            )
        if number >= 0 and (number in seen or (windows.masks[number].fault and number not in wanted)):
            continue
        seen.add(number)
        right.append(number in wanted)
        scores.append(suspect.score)
    return np.array(right, dtype=np.bool_), np.array(scores), len(wanted)


def average_precision(right: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], total: int) -> float:
    """Area under precision over recall; what is not found counts as 0. Ties are broken by order."""
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(precision[right].sum() / max(total, 1))


def image_auroc(windows: Windows, suspects: Sequence[Suspect]) -> float:
    """How well the highest score of a window tells whether anything on it is wrong."""
    score, wrong = np.zeros(len(windows.pixels)), np.zeros(len(windows.pixels), dtype=np.bool_)
    for suspect in suspects:
        score[suspect.window] = max(score[suspect.window], suspect.score)
    wrong[[item.window for item in windows.masks if item.fault]] = True
    return float(roc_auc_score(wrong, score))


def _iou_of_touching(said: Mask, mask: Mask) -> float:
    """IoU of a mask with the regions of a prediction that touch it."""
    parts, _ = label(said, np.ones((3, 3)))
    touching = np.isin(parts, np.unique(parts[mask & said]))
    return _iou(touching & said, mask) if (mask & said).any() else 0.0


def _iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


if __name__ == "__main__":
    main()
