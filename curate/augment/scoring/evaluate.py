"""What a model said of n images against what is on them, measured as `curate evaluate` measures a layer of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.augment.scoring.truth import Truth
from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray
from curate.checks.evaluation.base import Asked, Evaluation
from curate.checks.evaluation.classification import Guesses, evaluate_labels
from curate.checks.evaluation.detection import evaluate_objects
from curate.checks.evaluation.objects import Objects
from curate.checks.evaluation.overlaps import box_overlaps, mask_overlaps
from curate.checks.evaluation.segmentation import PixelCounter, PixelCounts, evaluate_pixels
from curate.errors import UsageError
from curate.geometry import rle_areas
from curate.models.predictors.base import Task

METRICS: Final[Mapping[Task, tuple[str, ...]]] = {
    "classify": ("top1", "balanced_accuracy", "macro_F1"),
    "detect": ("AP", "AP50", "AP75"),
    "instances": ("AP", "AP50", "AP75"),
    "segment": ("mIoU", "mDice", "mean_accuracy"),
}
"""Numbers that resamples of the images have too, the main one of each task first."""


def find_metric(task: Task, wanted: str | None) -> str:
    """The metric of that name, whatever its case; the task's main one for None.

    Raises:
        UsageError: There is none of which an interval is known.
    """
    if wanted is None:
        return METRICS[task][0]
    for name in METRICS[task]:
        if name.lower() == wanted.lower():
            return name
    raise UsageError(
        f"there is no metric '{wanted}' for '{task}'", where="--metric", remedy=f"one of: {', '.join(METRICS[task])}"
    )


def evaluate_results(
    task: Task,
    truth: Sequence[Truth],
    results: pa.Table,
    classes: Sequence[str],
    slices: Mapping[str, BoolArray] | None = None,
) -> Evaluation:
    """Evaluate what a model said of images.

    Args:
        task: What it gives: anything but depths.
        truth: Of each of n images, at the size that the model was given.
        results: n rows of `curate.models.predictors.results.RESULTS`, whose labels number `classes`.
        classes: Names.
        slices: Which images are in each part, bool of shape (n,) by its name.
    """
    asked = Asked(classes, len(truth), slices or {}, limit=0)
    said = _Said.of(results)
    if task == "classify":
        return evaluate_labels(_guesses(truth, said), asked)
    if task == "segment":
        return evaluate_pixels(_pixels(truth, said, len(classes)), asked)
    predicted, true = _predicted(said, truth, masks=task == "instances"), _true(truth)
    if task == "instances":
        sizes = np.array([each.size for each in truth], dtype=np.int64).reshape(-1, 2)
        drawn = [said.rles[row] or "" for row in predicted.row.tolist()]
        own = [rle for each in truth for rle in each.rles or ()]
        pairs = mask_overlaps(predicted, true, drawn, own, sizes)
        return evaluate_objects("instances", predicted, true, pairs, asked, str, str)
    return evaluate_objects("detect", predicted, true, box_overlaps(predicted, true), asked, str, str)


@dataclass(frozen=True)
class _Said:
    """The objects in all results, image by image; m of them.

    Attributes:
        image: Place of each one's image; (m,).
        label: Its class; (m,).
        score: Its confidence; (m,).
        boxes: NaN where there is none; (m, 4).
        rles: Its mask, None where there is none.
    """

    image: IntArray
    label: IntArray
    score: FloatArray
    boxes: FloatArray
    rles: list[str | None] = field(repr=False)

    @classmethod
    def of(cls, results: pa.Table) -> _Said:
        column = results["objects"].combine_chunks()
        image = np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy(zero_copy_only=False))
        objects = column.flatten()
        given = objects.field("bbox")
        boxes = np.full((len(given), 4), np.nan)
        boxes[np.asarray(given.is_valid())] = np.asarray(given.flatten(), dtype=np.float64).reshape(-1, 4)
        return cls(
            image.astype(np.int64),
            np.asarray(objects.field("label"), dtype=np.int64),
            np.asarray(objects.field("score"), dtype=np.float64),
            boxes,
            objects.field("rle").to_pylist(),
        )


def _guesses(truth: Sequence[Truth], said: _Said) -> Guesses:
    label, score = np.full(len(truth), NOWHERE), np.full(len(truth), np.nan)
    label[said.image], score[said.image] = said.label, said.score
    true = np.array([each.labels[0] for each in truth], dtype=np.int64)
    return Guesses(true, label, score, None, np.full(len(truth), NOWHERE))


def _pixels(truth: Sequence[Truth], said: _Said, classes: int) -> PixelCounts:
    counter = PixelCounter(classes)
    first = np.searchsorted(said.image, np.arange(len(truth) + 1)).tolist()
    for image, true in enumerate(truth):
        own = [(int(label), rle) for label, rle in zip(true.labels, true.rles or (), strict=True)]
        rows = range(first[image], first[image + 1])
        counter.add(
            image, true.size, own, [(int(said.label[k]), rle) for k in rows if (rle := said.rles[k]) is not None]
        )
    return counter.counts()


def _predicted(said: _Said, truth: Sequence[Truth], *, masks: bool) -> Objects:
    """Predicted objects; with masks only those that have one, whose pixels are then their area."""
    there = np.array([rle is not None for rle in said.rles], dtype=np.bool_) if masks else ~np.isnan(said.boxes[:, 0])
    rows = np.flatnonzero(there)
    boxes = said.boxes[rows]
    area = boxes[:, 2] * boxes[:, 3]
    if masks:
        sizes = np.array([truth[image].size for image in said.image[rows].tolist()]).reshape(-1, 2)
        drawn = [rle for rle in said.rles if rle is not None]
        area = rle_areas(drawn, sizes)
    nothing = np.zeros(len(rows), np.bool_)
    return Objects(said.image[rows], said.label[rows], boxes, area, said.score[rows], nothing, rows)


def _true(truth: Sequence[Truth]) -> Objects:
    counts = [len(each.boxes) for each in truth]
    boxes = np.concatenate([np.zeros((0, 4)), *(each.boxes for each in truth)])
    area = boxes[:, 2] * boxes[:, 3]
    if any(each.rles for each in truth):
        areas = [rle_areas(each.rles or (), np.tile(each.size, (len(each.boxes), 1))) for each in truth]
        area = np.concatenate([np.zeros(0), *areas])
    total = len(boxes)
    return Objects(
        np.repeat(np.arange(len(truth)), counts).astype(np.int64),
        np.concatenate([np.zeros(0, np.int64), *(each.labels[: len(each.boxes)] for each in truth)]),
        boxes,
        area,
        np.ones(total),
        np.concatenate([np.zeros(0, np.bool_), *(each.crowd[: len(each.boxes)] for each in truth)]),
        np.arange(total),
    )
