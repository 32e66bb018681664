"""How good a detector is, as COCO measures it (Lin et al., ECCV 2014), by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from curate.models.predictors.base import Objects
from curate.models.training.base import Example
from curate.models.training.detect.data import labelled


def mean_average_precision(
    predictions: Sequence[Objects], examples: Sequence[Example], classes: Sequence[str]
) -> dict[str, float]:
    """mAP50 (at an overlap of 0.5) and mAP (mean over 0.5 to 0.95), over the classes that the examples have.

    Args:
        predictions: Of each image, in pixels of the full-size image.
        examples: With their boxes.
        classes: Names in the order of class numbers.

    Returns:
        'mAP50', 'mAP', and 'AP50/NAME' of each class that occurs; 0 where nothing was there to be found.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = _truth(predictions, examples, len(classes))
        found.dataset = {**truth.dataset, "annotations": _found(predictions)}
        truth.createIndex()
        found.createIndex()
        judged = COCOeval(truth, found, "bbox")
        judged.evaluate()
        judged.accumulate()
    # Of shape (overlaps, recalls, classes, areas, most detections); -1 for a class that does not occur.
    precision = judged.eval["precision"][:, :, :, 0, -1]
    occurs = (precision > -1).any(axis=(0, 1))
    if not occurs.any():
        return {"mAP50": 0.0, "mAP": 0.0}
    numbers = {"mAP50": float(precision[0][:, occurs].mean()), "mAP": float(precision[:, :, occurs].mean())}
    if len(classes) > 1:
        numbers |= {f"AP50/{classes[at]}": float(precision[0, :, at].mean()) for at in np.flatnonzero(occurs).tolist()}
    return numbers


def _truth(predictions: Sequence[Objects], examples: Sequence[Example], classes: int) -> dict[str, Any]:
    """As COCO's files have it; ids count from 1, since pycocotools takes 0 for none."""
    rows: list[dict[str, Any]] = []
    for image, (example, found) in enumerate(zip(examples, predictions, strict=True), 1):
        here = labelled(example, found.size)
        for box, label in zip(here.boxes.tolist(), here.labels.tolist(), strict=True):
            rows.append(_row(len(rows) + 1, image, label, box, iscrowd=0))
        for box in here.ignored.tolist():  # stands for many things: whatever is found in there is not counted
            rows += [_row(len(rows) + 1 + label, image, label, box, iscrowd=1) for label in range(classes)]
    images = [{"id": image, "height": p.size[0], "width": p.size[1]} for image, p in enumerate(predictions, 1)]
    return {"images": images, "categories": [{"id": number} for number in range(classes)], "annotations": rows}


def _found(predictions: Sequence[Objects]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, found in enumerate(predictions, 1):
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            rows.append(_row(len(rows) + 1, image, label, box, score=score))
    return rows


def _row(number: int, image: int, label: int, box: list[float], **more: float) -> dict[str, Any]:
    return {
        "id": number, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], **more
    }  # fmt: skip
