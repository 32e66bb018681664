"""Box label errors: planted in real ground truth, found with a simulated detector, against a plain matcher and ObjectLab.

    python -m benchmarks.mistakes_boxes [--data FOLDER] [--seeds 3] [--images 200] [--json FILE]
    python -m benchmarks.mistakes_boxes --speed

Sets: BCCD, raccoon (where the data folder is given) and a `parts_v3` without faults. The detector is made from the clean boxes:
every object has a difficulty, which small objects have more of, and which drives whether it is found, how confidently, how well
the box fits and whether its class is taken for another; false positives come on top. 5% of the boxes each are then swapped to
another class, deleted, added at random and shifted to an IoU of 0.2-0.6.

Average precision counts every planted error, also those that the detector gives no chance to find; a missing box is found by a
suggested box with IoU 0.5 or more, one each. With --speed: a million boxes, time and memory instead.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from benchmarks.report import Report, markdown, options, real_set, require_cleanlab, run
from benchmarks.sets import read_voc, render_parts
from curate.checks.boxes import BoolArray, Boxes, FloatArray, IntArray
from curate.checks.labels import Labels
from curate.checks.mistakes.detection import detection_errors
from curate.checks.mistakes.matching import largest, overlapping_pairs
from curate.checks.mistakes.tables import Suspects

KINDS: Final = ("mislabeled", "missing", "spurious", "mislocated")
SHARE: Final = 0.05


@dataclass(frozen=True)
class Quality:
    """How good a simulated detector is."""

    found: float  # Mean logit of finding an object.
    confident: float  # Mean logit of the confidence of what is found.
    jitter: float  # Standard deviation of an edge, in box sides.
    confused: float  # Share of objects of medium difficulty given another class.
    false_positives: float  # Per object.
    false_confident: float  # Mean logit of their confidence.


QUALITIES: Final = {
    "good": Quality(4.0, 2.5, 0.03, 0.01, 0.2, -2.5),
    "mediocre": Quality(2.5, 1.5, 0.06, 0.04, 0.6, -1.8),
    "poor": Quality(1.0, 0.5, 0.10, 0.10, 1.2, -1.2),
}


@dataclass(frozen=True)
class Planted:
    """Ground truth with errors: the rows that are wrong by kind, and the boxes that were deleted."""

    truth: Boxes
    wrong: Mapping[str, IntArray]
    deleted: Boxes


@dataclass(frozen=True)
class Ranking:
    """Suspects of one kind: a row of the ground truth or a box, and a score."""

    score: FloatArray
    annotation: IntArray | None = None
    boxes: Boxes | None = None


def main() -> None:
    """Run every set, or the speed test."""
    parser = options(__doc__, data=True, seeds=3)
    parser.add_argument("--images", type=int, default=200, help="size of parts_v3 (default 200)")
    parser.add_argument("--speed", action="store_true", help="a million boxes: time and memory")
    run(lambda arguments: speed() if arguments.speed else measure(arguments), parser)


def measure(arguments: argparse.Namespace) -> Report:
    """Every set, quality of the detector, seed, kind and method."""
    require_cleanlab()
    notes: list[str] = []
    results: list[dict[str, Any]] = []
    for name, labels in clean_sets(arguments.data, arguments.images, notes):
        boxes = labels.boxes()
        clean, sizes = boxes.take(boxes.usable & (boxes.label >= 0)), labels.sizes
        for quality, seed in ((q, s) for q in QUALITIES for s in range(arguments.seeds)):
            key = {"data": name, "quality": quality, "seed": seed}
            results += [key | row for row in compare(clean, sizes, QUALITIES[quality], seed)]
    settings = {"seeds": arguments.seeds, "images of parts_v3": arguments.images, "planted": SHARE}
    settings["detectors"] = {name: asdict(quality) for name, quality in QUALITIES.items()}
    return Report(settings, results, table(results), notes)


def clean_sets(data: Path | None, images: int, notes: list[str]) -> Iterator[tuple[str, Labels]]:
    """Names and labels."""
    with tempfile.TemporaryDirectory() as folder:
        yield "parts_v3", render_parts(Path(folder), images=images, seed=0)
    for name in ("bccd", "raccoon"):
        source = real_set(data, name, notes)
        if source is not None:
            yield name, read_voc(source)


def compare(clean: Boxes, sizes: FloatArray, quality: Quality, seed: int) -> Iterator[dict[str, Any]]:
    """Plant errors, simulate a detector, and rank the suspects by every method."""
    rng = np.random.default_rng(seed)
    predictions = simulate(clean, sizes, quality, rng)
    planted = plant(clean, sizes, rng)
    methods = {
        "curate": ours(detection_errors(planted.truth, [predictions], sizes=sizes, min_score=0.001)),
        "plain": plain_matcher(planted.truth, predictions),
        "objectlab": objectlab(planted.truth, predictions, len(sizes), int(clean.label.max()) + 1),
    }
    for method, rankings in methods.items():
        for kind, ranking in rankings.items():
            right, score, total = hits(ranking, planted, kind)
            if total:
                yield {"kind": kind, "method": method} | measures(right, score, total)


def table(results: list[dict[str, Any]]) -> str:
    """Means over the seeds."""
    columns = [
        "set",
        "detector",
        "kind",
        "AP curate / plain / ObjectLab",
        "recall@50",
        "ECE curate",
        "expected / right",
    ]
    rows = []
    for key in dict.fromkeys((r["data"], r["quality"], r["kind"]) for r in results):
        chosen = [r for r in results if (r["data"], r["quality"], r["kind"]) == key]

        def mean(method: str, measure: str, chosen: list[dict[str, Any]] = chosen) -> float:
            values = [r[measure] for r in chosen if r["method"] == method]
            return float(np.mean(values)) if values else float("nan")

        compared = [
            " / ".join(f"{mean(method, name):.3f}" for method in ("curate", "plain", "objectlab")).replace("nan", "-")
            for name in ("ap", "recall@50")
        ]
        counts = f"{mean('curate', 'expected'):.0f} / {mean('curate', 'right'):.0f}"
        rows.append([*key, *compared, f"{mean('curate', 'ece'):.3f}", counts])
    return markdown(columns, rows)


def simulate(clean: Boxes, sizes: FloatArray, quality: Quality, rng: Generator) -> Boxes:
    """Predictions of a detector of that quality on the clean boxes."""
    n, n_classes = len(clean), int(clean.label.max()) + 1
    class_effect = rng.normal(0, 0.7, n_classes)
    size = np.log(np.sqrt(clean.bbox[:, 2] * clean.bbox[:, 3]))
    ease = rng.normal(0, 1, n) + class_effect[clean.label] + 0.7 * (size - size.mean()) / max(size.std(), 1e-9)
    found = rng.random(n) < _expit(quality.found + 1.5 * ease)
    confused = (rng.random(n) < 2 * quality.confused * _expit(-ease)) & (n_classes > 1)
    logit = quality.confident + ease + rng.normal(0, 0.7, n) - 1.2 * confused
    sigma = quality.jitter * np.exp(-0.35 * ease + 0.4 * class_effect[clean.label])
    bbox = _jitter(clean.bbox, sigma, rng)
    label = np.where(confused, (clean.label + rng.integers(1, max(n_classes, 2), n)) % n_classes, clean.label)

    extra = rng.integers(0, n, rng.poisson(quality.false_positives * n))
    image = rng.integers(0, len(sizes), len(extra))
    false_box = _place(clean.bbox[extra, 2:] * rng.uniform(0.6, 1.4, (len(extra), 2)), sizes[image], rng)
    false_logit = rng.normal(quality.false_confident, 1.0, len(extra))
    # Double detections: the same object again, worse placed and less sure.
    twice = np.flatnonzero(found & (rng.random(n) < 0.06))
    again = _jitter(clean.bbox[twice], np.full(len(twice), 0.22), rng)
    return Boxes(
        np.concatenate([clean.image[found], image, clean.image[twice]]),
        np.concatenate([bbox[found], false_box, again]),
        np.concatenate([label[found], clean.label[extra], clean.label[twice]]),
        _expit(np.concatenate([logit[found], false_logit, logit[twice] - rng.uniform(1, 3, len(twice))])),
        covered=np.arange(len(sizes)),
    )


def plant(clean: Boxes, sizes: FloatArray, rng: Generator) -> Planted:
    """5% each of swapped, deleted, shifted and added boxes."""
    n, n_classes = len(clean), int(clean.label.max()) + 1
    k = max(round(SHARE * n), 3)
    swapped, deleted, shifted = rng.permutation(n)[: 3 * k].reshape(3, k)
    label, bbox = clean.label.copy(), clean.bbox.copy()
    if n_classes > 1:
        label[swapped] = (label[swapped] + rng.integers(1, n_classes, k)) % n_classes
    bbox[shifted] = _shift(bbox[shifted], rng)
    keep = np.delete(np.arange(n), deleted)
    donor = rng.integers(0, n, 4 * k)
    image = rng.integers(0, len(sizes), 4 * k)
    place = _place(clean.bbox[donor, 2:], sizes[image], rng)
    # An added box lies on nothing.
    added = Boxes(image, place, clean.label[donor])
    free = np.setdiff1d(np.arange(4 * k), overlapping_pairs(added, clean, min_iou=0.1).first)[:k]
    truth = Boxes(
        np.concatenate([clean.image[keep], image[free]]),
        np.concatenate([bbox[keep], place[free]]),
        np.concatenate([label[keep], clean.label[donor[free]]]),
    )
    wrong = {
        "mislabeled": np.searchsorted(keep, np.sort(swapped)) if n_classes > 1 else np.zeros(0, dtype=np.int64),
        "mislocated": np.searchsorted(keep, np.sort(shifted)),
        "spurious": np.arange(len(keep), len(keep) + len(free)),
    }
    return Planted(truth, wrong, clean.take(deleted))


def plain_matcher(truth: Boxes, predictions: Boxes) -> dict[str, Ranking]:
    """The opponent: class-aware matching at IoU 0.5 in the order of confidence, what is left over scored by confidence."""
    assert predictions.score is not None
    pairs = overlapping_pairs(truth, predictions, min_iou=0.1)
    same = truth.label[pairs.first] == predictions.label[pairs.second]
    confidence = predictions.score[pairs.second]
    matched_truth, matched = np.zeros(len(truth), dtype=bool), np.zeros(len(predictions), dtype=bool)
    close = np.flatnonzero(same & (pairs.iou >= 0.5))
    for p in close[np.lexsort((-pairs.iou[close], -confidence[close]))]:
        if not matched_truth[pairs.first[p]] and not matched[pairs.second[p]]:
            matched_truth[pairs.first[p]] = matched[pairs.second[p]] = True
    left = ~matched_truth[pairs.first]
    other = left & ~same & (pairs.iou >= 0.5)
    off = left & same & (pairs.iou < 0.5)
    mislabeled = largest(len(truth), pairs.first[other], confidence[other])
    mislocated = np.where(mislabeled > 0, 0.0, largest(len(truth), pairs.first[off], confidence[off]))
    explained = np.zeros(len(predictions), dtype=bool)
    explained[pairs.second[other]] = True
    spurious = np.where(matched_truth | (mislabeled > 0), 0.0, 1.0 - mislocated)
    every = np.arange(len(truth))
    missing = np.where(matched | explained, 0.0, predictions.score)
    return {
        "mislabeled": Ranking(mislabeled, every),
        "mislocated": Ranking(mislocated, every),
        "spurious": Ranking(spurious, every),
        "missing": Ranking(missing, boxes=predictions),
    }


def objectlab(truth: Boxes, predictions: Boxes, n_images: int, n_classes: int) -> dict[str, Ranking]:
    """ObjectLab (Tkachenko et al. 2023) as cleanlab ships it; it has no score for spurious boxes."""
    from cleanlab.object_detection import rank

    assert predictions.score is not None
    labels, predicted, truth_rows, predicted_rows = [], [], [], []
    for i in range(n_images):
        rows = np.flatnonzero(truth.image == i)
        if not len(rows):
            continue
        labels.append({"bboxes": _corners(truth.bbox[rows]), "labels": truth.label[rows]})
        truth_rows.append(rows)
        mine = np.flatnonzero(predictions.image == i)
        by_class = [mine[predictions.label[mine] == c] for c in range(n_classes)]
        predicted.append(_object_array([np.c_[_corners(predictions.bbox[r]), predictions.score[r]] for r in by_class]))
        predicted_rows.append(np.concatenate(by_class))
    order, boxes = np.concatenate(truth_rows), np.concatenate(predicted_rows)
    quality = {
        "mislabeled": rank.compute_swap_box_scores(labels=labels, predictions=predicted),
        "mislocated": rank.compute_badloc_box_scores(labels=labels, predictions=predicted),
    }
    found = {kind: Ranking(1.0 - np.concatenate(values), order) for kind, values in quality.items()}
    overlooked = np.concatenate(rank.compute_overlooked_box_scores(labels=labels, predictions=predicted))
    found["missing"] = Ranking(np.nan_to_num(1.0 - overlooked, nan=0.0), boxes=predictions.take(boxes))
    return found


def ours(found: Suspects) -> dict[str, Ranking]:
    """The suspects of `detection_errors` by kind."""
    rankings = {kind: Ranking(found.of_kind(kind).score, found.of_kind(kind).annotation) for kind in KINDS}
    missing = found.of_kind("missing")
    rankings["missing"] = Ranking(missing.score, boxes=Boxes(missing.image, missing.bbox, missing.label))
    return rankings


def hits(ranking: Ranking, planted: Planted, kind: str) -> tuple[BoolArray, FloatArray, int]:
    """Which suspects are right, best first, their scores, and how many errors there are."""
    shuffle = np.random.default_rng(0).permutation(len(ranking.score))  # Ties in no order.
    order = shuffle[np.argsort(-ranking.score[shuffle], kind="stable")]
    score = ranking.score[order]
    if ranking.annotation is not None:
        return np.isin(ranking.annotation[order], planted.wrong[kind]), score, len(planted.wrong[kind])
    assert ranking.boxes is not None
    pairs = overlapping_pairs(ranking.boxes.take(order), planted.deleted, min_iou=0.5)
    right, seen = np.zeros(len(order), dtype=bool), set()
    for suspect, target in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        if target not in seen and not right[suspect]:
            seen.add(target)
            right[suspect] = True
    return right, score, len(planted.deleted)


def measures(right: BoolArray, score: FloatArray, total: int) -> dict[str, float]:
    """Average precision, recall among the first, and expected calibration error (ten bins)."""
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    bins = np.minimum((score * 10).astype(int), 9)
    shown = score >= 0.05
    gap = [abs(score[shown & (bins == b)].sum() - right[shown & (bins == b)].sum()) for b in range(10)]
    return {
        "ap": float(precision[right].sum() / max(total, 1)),
        "recall@50": float(right[:50].sum() / max(min(total, 50), 1)),
        "recall@100": float(right[:100].sum() / max(min(total, 100), 1)),
        "ece": float(sum(gap) / max(shown.sum(), 1)),
        "expected": float(score.sum()),
        "right": float(right.sum()),
    }


def speed(n_images: int = 100_000) -> Report:
    """Ten boxes and fifteen predictions an image."""
    rng = np.random.default_rng(0)
    n = 10 * n_images
    sizes = np.tile([640.0, 480.0], (n_images, 1))
    extent = rng.gamma(2.0, 25.0, (n, 2)) + 4
    image = rng.integers(0, n_images, n)
    clean = Boxes(image, _place(extent, sizes[image], rng), rng.integers(0, 80, n))
    predictions = simulate(clean, sizes, replace(QUALITIES["mediocre"], false_positives=0.62), rng)
    planted = plant(clean, sizes, rng)
    before, start, cpu = _peak_mb(), time.perf_counter(), time.process_time()
    found = detection_errors(planted.truth, [predictions], sizes=sizes, min_score=0.05)
    result = {
        "truth": len(planted.truth),
        "predictions": len(predictions),
        "found": len(found),
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mb_before": round(before),
        "peak_mb": round(_peak_mb()),
    }
    return Report({"images": n_images}, [result], markdown(list(result), [list(result.values())]))


def _peak_mb() -> float:
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


def _expit(x: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


def _corners(bbox: FloatArray) -> FloatArray:
    return np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1)


def _object_array(items: list[FloatArray]) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    result = np.empty(len(items), dtype=object)
    result[:] = items
    return result


def _jitter(bbox: FloatArray, sigma: FloatArray, rng: Generator) -> FloatArray:
    """Every edge moved by a normal step of that many sides, heavy-tailed (Student, 5 degrees)."""
    corners = _corners(bbox) + rng.standard_t(5, bbox.shape) * sigma[:, None] * np.tile(bbox[:, 2:], 2)
    extent = np.maximum(corners[:, 2:] - corners[:, :2], 0.2 * bbox[:, 2:])
    return np.concatenate([corners[:, :2], extent], axis=1)


def _place(extent: FloatArray, sizes: FloatArray, rng: Generator) -> FloatArray:
    """Boxes of that extent at random places of their images."""
    extent = np.minimum(extent, 0.95 * sizes)
    return np.concatenate([rng.random(extent.shape) * (sizes - extent), extent], axis=1)


def _shift(bbox: FloatArray, rng: Generator) -> FloatArray:
    """Boxes moved and scaled until their IoU with themselves is 0.2-0.6."""
    result, left = bbox.copy(), np.arange(len(bbox))
    while len(left):
        angle = rng.uniform(0, 2 * np.pi, len(left))
        step = rng.uniform(0.1, 0.8, (len(left), 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        extent = bbox[left, 2:] * rng.uniform(0.7, 1.4, (len(left), 2))
        centre = bbox[left, :2] + bbox[left, 2:] * (0.5 + step)
        moved = np.concatenate([centre - extent / 2, extent], axis=1)
        pairs = overlapping_pairs(Boxes(left, moved, left), Boxes(left, bbox[left], left), min_iou=0.2)
        good = pairs.first[pairs.iou <= 0.6]
        result[left[good]] = moved[good]
        left = np.delete(left, good)
    return result


if __name__ == "__main__":
    main()
