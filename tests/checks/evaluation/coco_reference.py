"""Random boxes, and what pycocotools says of them."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from curate.checks.evaluation.objects import Objects

NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
"""Of the twelve numbers, in pycocotools' order."""


def objects(image: Any, label: Any, bbox: Any, *, score: Any = None, crowd: Any = None, area: Any = None) -> Objects:
    """Objects in the order of their images."""
    order = np.argsort(np.asarray(image, dtype=np.int64), kind="stable")
    count = len(order)
    boxes = np.asarray(bbox, dtype=np.float64).reshape(-1, 4)[order]
    return Objects(
        np.asarray(image, dtype=np.int64)[order],
        np.asarray(label, dtype=np.int64)[order],
        boxes,
        boxes[:, 2] * boxes[:, 3] if area is None else np.asarray(area, dtype=np.float64)[order],
        np.ones(count) if score is None else np.asarray(score, dtype=np.float64)[order],
        np.zeros(count, dtype=np.bool_) if crowd is None else np.asarray(crowd, dtype=np.bool_)[order],
        np.arange(count)[order],
    )


def random_objects(
    rng: np.random.Generator, images: int, classes: int, *, ties: bool = True
) -> tuple[Objects, Objects]:
    """True objects, a few of them crowds, and predictions of most of them with some that are of nothing."""
    count = int(rng.integers(0, 6 * images))
    image, label = rng.integers(0, images, count), rng.integers(0, classes, count)
    grid = 4.0 if ties else 1e-3
    bbox = np.round(np.column_stack([rng.uniform(0, 200, (count, 2)), rng.gamma(2, 30, (count, 2)) + 4]) / grid) * grid
    crowd = rng.random(count) < 0.1
    chosen = rng.random(count) < 0.8
    extra = int(rng.integers(0, 3 * images + 1))
    moved = bbox[chosen] + rng.normal(0, 4, (int(chosen.sum()), 4))
    other = np.column_stack([rng.uniform(0, 200, (extra, 2)), rng.gamma(2, 30, (extra, 2)) + 4])
    boxes = np.round(np.concatenate([moved, other]) / grid) * grid
    boxes[:, 2:] = np.maximum(boxes[:, 2:], grid)
    images_of = np.concatenate([image[chosen], rng.integers(0, images, extra)])
    labels = np.concatenate([label[chosen], rng.integers(0, classes, extra)])
    score = np.round(rng.random(len(boxes)), 1 if ties else 6)
    return objects(image, label, bbox, crowd=crowd), objects(images_of, labels, boxes, score=score)


def reference(truth: Objects, predicted: Objects, images: int, classes: int) -> dict[str, float | None]:
    """The twelve numbers by pycocotools; None for its -1."""
    return {
        name: None if value == -1 else float(value)
        for name, value in zip(NAMES, evaluated(truth, predicted, images, classes).stats, strict=True)
    }


def evaluated(truth: Objects, predicted: Objects, images: int, classes: int) -> COCOeval:
    """What pycocotools computes of boxes."""
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": number} for number in range(images)],
            "categories": [{"id": number} for number in range(classes)],
            "annotations": _rows(truth, true=True),
        }
        dataset.createIndex()
        results = COCO()
        results.dataset = {**dataset.dataset, "annotations": _rows(predicted, true=False)}
        results.createIndex()
        evaluation = COCOeval(dataset, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _rows(objects: Objects, *, true: bool) -> list[dict[str, Any]]:
    rows = []
    for number in range(len(objects)):
        row = {
            "id": number + 1,
            "image_id": int(objects.image[number]),
            "category_id": int(objects.label[number]),
            "bbox": objects.bbox[number].tolist(),
            "area": float(objects.area[number]),
            "iscrowd": int(objects.crowd[number]),
        }
        rows.append(row if true else row | {"score": float(objects.score[number])})
    return rows
