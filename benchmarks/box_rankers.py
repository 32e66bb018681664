"""What finds wrong boxes, as rankings that can be compared: curate, a plain matcher, ObjectLab and FiftyOne's mistakenness.

All of them get the same predictions. FiftyOne runs in the interpreter that the environment variable CURATE_PEERS names, or in
this one, by `benchmarks.box_mistakenness`, with arrays in a file and back.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted_boxes import KINDS, Planted
from curate.checks.boxes import BoolArray, Boxes, FloatArray, IntArray
from curate.checks.mistakes.matching import largest, overlapping_pairs
from curate.checks.mistakes.tables import Suspects


@dataclass(frozen=True)
class Ranking:
    """Suspects of one kind: rows of the ground truth, or boxes, and a score for each."""

    score: FloatArray
    annotation: IntArray | None = None
    boxes: Boxes | None = None


Rankings = Mapping[str, Ranking]


def curate_rankings(found: Suspects) -> dict[str, Ranking]:
    """Suspects of curate: every suspicious box by its probability of each kind, as other methods rank them."""
    boxes, missing = found.take(found.annotation >= 0), found.of_kind("missing")
    rankings = {"missing": Ranking(missing.score, boxes=Boxes(missing.image, missing.bbox, missing.label))}
    for kind in KINDS:
        if kind != "missing":
            # A box that two suspects are about is in once.
            probability = np.full(int(boxes.annotation.max(initial=-1)) + 1, -1.0)
            np.maximum.at(probability, boxes.annotation, np.nan_to_num(boxes.evidence[f"p_{kind}"], nan=-1.0))
            rows = np.flatnonzero(probability >= 0)
            rankings[kind] = Ranking(probability[rows], rows)
    return rankings


def review_list(found: Suspects, planted: Planted) -> BoolArray:
    """Which suspects are right about what is wrong, in the order in which a person would see them: by score, whatever kind."""
    right, score = [np.zeros(0, dtype=bool)], [np.zeros(0)]
    for kind in KINDS:
        own = found.of_kind(kind)
        boxes = Boxes(own.image, own.bbox, own.label) if kind == "missing" else None
        is_right, scores, _ = hits(Ranking(own.score, own.annotation if boxes is None else None, boxes), planted, kind)
        right, score = [*right, is_right], [*score, scores]
    return np.asarray(np.concatenate(right)[np.argsort(-np.concatenate(score), kind="stable")])


def plain_matcher(truth: Boxes, predictions: Boxes) -> dict[str, Ranking]:
    """Matching class by class at IoU 0.5, the most confident prediction first; what is left over, by confidence.

    mislabeled: an unmatched prediction of another class lies on the box (IoU 0.5), by its confidence. spurious: no prediction
    was matched; one less the confidence of the best prediction there. mislocated: one less the IoU with the best prediction
    of the class that touches the box, times its confidence. missing: a prediction is not matched, by its confidence.
    """
    assert predictions.score is not None
    pairs = overlapping_pairs(truth, predictions, min_iou=0.1)
    same = truth.label[pairs.first] == predictions.label[pairs.second]
    confidence = predictions.score[pairs.second]
    matched_truth, matched = np.zeros(len(truth), dtype=bool), np.zeros(len(predictions), dtype=bool)
    close = np.flatnonzero(same & (pairs.iou >= 0.5))
    for p in close[np.lexsort((-pairs.iou[close], -confidence[close]))]:
        if not matched_truth[pairs.first[p]] and not matched[pairs.second[p]]:
            matched_truth[pairs.first[p]] = matched[pairs.second[p]] = True
    n, every = len(truth), np.arange(len(truth))
    other = ~same & (pairs.iou >= 0.5) & ~matched[pairs.second]
    there = pairs.iou >= 0.5
    spurious = np.where(matched_truth, 0.0, 1.0 - largest(n, pairs.first[there], confidence[there]))
    return {
        "mislabeled": Ranking(largest(n, pairs.first[other], confidence[other]), every),
        "spurious": Ranking(spurious, every),
        "mislocated": Ranking(largest(n, pairs.first[same], ((1.0 - pairs.iou) * confidence)[same]), every),
        "missing": Ranking(np.where(matched, 0.0, predictions.score), boxes=predictions),
    }


def objectlab(truth: Boxes, predictions: Boxes, n_images: int, n_classes: int) -> dict[str, Ranking]:
    """ObjectLab (Tkachenko et al. 2023) as cleanlab ships it; it has no score for spurious boxes."""
    rank = import_module("cleanlab.object_detection.rank")
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


def mistakenness(truth: Boxes, predictions: Boxes, sizes: FloatArray) -> dict[str, Ranking] | str:
    """FiftyOne's `compute_mistakenness`; or why it cannot run.

    It marks boxes as spurious and predictions as missing without a score: boxes marked are taken in any order, and
    predictions by their confidence.
    """
    assert predictions.score is not None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "boxes.npz", Path(folder) / "found.npz"
        relative, said = (each.bbox / np.tile(sizes[each.image], 2) for each in (truth, predictions))
        columns: dict[str, Any] = {"truth_image": truth.image, "truth_bbox": relative, "truth_label": truth.label}
        columns |= {"image": predictions.image, "bbox": said, "label": predictions.label, "score": predictions.score}
        np.savez(source, n_images=len(sizes), **columns)
        environment = os.environ | {
            "FIFTYONE_DATABASE_DIR": str(Path(folder) / "database"),
            "FIFTYONE_DO_NOT_TRACK": "true",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        python = os.environ.get("CURATE_PEERS", sys.executable)
        command = [python, "-m", "benchmarks.box_mistakenness", str(source), str(target)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        found = dict(np.load(target))
    every = np.arange(len(truth))
    kinds = ("mislabeled", "spurious", "mislocated")
    rankings = {kind: Ranking(found[kind], every) for kind in kinds}
    return rankings | {"missing": Ranking(found["missing"], boxes=predictions)}


def hits(ranking: Ranking, planted: Planted, kind: str) -> tuple[BoolArray, FloatArray, int]:
    """Which suspects are right, best first, their scores, and how many errors there are.

    A missing box is found by a suggested box with IoU 0.5 or more, one each.
    """
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
    """Average precision, recall among the first, and expected calibration error (ten bins, from a score of 0.05)."""
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    bins = np.minimum((score * 10).astype(int), 9)
    shown = score >= 0.05
    gap = [abs(score[shown & (bins == b)].sum() - right[shown & (bins == b)].sum()) for b in range(10)]
    return {
        "ap": float(precision[right].sum() / max(total, 1)),
        "recall@50": float(right[:50].sum() / max(min(total, 50), 1)),
        "recall@100": float(right[:100].sum() / max(min(total, 100), 1)),
        "found@100": float(right[:100].sum()),
        "ece": float(sum(gap) / max(shown.sum(), 1)),
        "expected": float(score.sum()),
        "right": float(right.sum()),
    }


def _corners(bbox: FloatArray) -> FloatArray:
    return np.concatenate([bbox[:, :2], bbox[:, :2] + bbox[:, 2:]], axis=1)


def _object_array(items: list[FloatArray]) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    result = np.empty(len(items), dtype=object)
    result[:] = items
    return result


def image_scores_of(rankings: Rankings, truth: Boxes, n_images: int) -> FloatArray:
    """Every image's most suspicious suspect, float64 array of shape (n_images,)."""
    result = np.zeros(n_images)
    for ranking in rankings.values():
        boxes = truth.take(ranking.annotation) if ranking.annotation is not None else ranking.boxes
        assert boxes is not None
        result = np.maximum(result, largest(n_images, boxes.image, ranking.score))
    return result


def image_auroc(score: FloatArray, wrong: BoolArray, count: IntArray) -> float:
    """How often a wrong image scores above a right one that has as many boxes; ties count half."""
    above = pairs = 0.0
    for boxes in np.unique(count):
        bad, good = score[wrong & (count == boxes)], score[~wrong & (count == boxes)]
        above += (bad[:, None] > good).sum() + 0.5 * (bad[:, None] == good).sum()
        pairs += len(bad) * len(good)
    return float(above / pairs) if pairs else float("nan")
