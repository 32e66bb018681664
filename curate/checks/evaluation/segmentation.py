"""A segmenter that gives each pixel a class: IoU and Dice of every class, pixel accuracy, confusion, the worst images.

Pixels are counted image by image; what stays is a row of counts for each class on each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pycocotools import mask as coco_mask

from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray
from curate.checks.evaluation.base import (
    Asked,
    Evaluation,
    Hard,
    Key,
    Part,
    Unlabelled,
    Weights,
    mean,
    ratio,
    ratios,
    row_means,
    worst,
)
from curate.checks.evaluation.confusion import CONFUSION, confusion_rows
from curate.formats.mask_images import paint, split_labels

COVERED: Final = 0.95
"""If people labelled at least this share of all pixels, those that are left were left on purpose, and do not count."""

_LISTED: Final = 5


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of each class on each image, n rows.

    Attributes:
        image: Place of the image; (n,).
        label: Class; (n,).
        both: Pixels that are of it and predicted so; (n,).
        truth: That are of it; (n,).
        predicted: That are predicted so; (n,).
        on_labelled: Those of them that people gave any class; (n,).
        confusion: By true and predicted class, the last of each for none; (classes + 1, classes + 1).
    """

    image: IntArray
    label: IntArray
    both: FloatArray
    truth: FloatArray
    predicted: FloatArray
    on_labelled: FloatArray
    confusion: IntArray


@dataclass
class PixelCounter:
    """Counts pixels as images come in.

    Attributes:
        classes: How many there are.
    """

    classes: int
    _rows: list[IntArray] = field(default_factory=list)
    _confusion: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self._confusion = np.zeros((self.classes + 1, self.classes + 1), dtype=np.int64)

    def add(
        self, image: int, size: Sequence[int], truth: Sequence[tuple[int, str]], predicted: Sequence[tuple[int, str]]
    ) -> None:
        """Count the pixels of one image.

        Args:
            image: Its place.
            size: [height, width].
            truth: Class and COCO compressed run lengths of each mask that people drew; where two overlap, the smaller one
                is on top.
            predicted: The same of the model.
        """
        pixels = int(size[0]) * int(size[1])
        labels, areas, masks = _of_classes(truth, size)
        said, said_areas, said_masks = _of_classes(predicted, size)
        counts = np.zeros((len(labels) + 1, len(said) + 1), dtype=np.int64)
        if masks and said_masks:
            # With a crowd, COCO's overlap is the share of the other mask that lies inside it.
            inside = coco_mask.iou(said_masks, masks, [1] * len(masks))
            counts[:-1, :-1] = np.rint(inside * said_areas[:, None]).T
        counts[:-1, -1] = areas - counts[:-1, :-1].sum(axis=1)
        counts[-1, :-1] = said_areas - counts[:-1, :-1].sum(axis=0)
        counts[-1, -1] = pixels - counts.sum()
        rows, columns = np.append(labels, self.classes), np.append(said, self.classes)
        self._confusion[np.ix_(rows, columns)] += counts
        present = np.union1d(labels, said)
        own, other = np.full((2, self.classes + 1), NOWHERE)  # where each class stands in the small matrix
        own[labels], other[said] = np.arange(len(labels)), np.arange(len(said))
        a, b = own[present], other[present]
        both = np.where((a >= 0) & (b >= 0), counts[a, b], 0)
        given = np.where(b >= 0, counts.sum(axis=0)[b], 0)
        unlabelled = np.where(b >= 0, counts[-1][b], 0)
        there = np.where(a >= 0, counts.sum(axis=1)[a], 0)
        place = np.full(len(present), image)
        self._rows.append(np.stack([place, present, both, there, given, given - unlabelled]))

    def counts(self) -> PixelCounts:
        """What was counted."""
        columns = np.concatenate([np.zeros((6, 0), np.int64), *self._rows], axis=1)
        both, truth, predicted, on_labelled = columns[2:].astype(np.float64)
        return PixelCounts(columns[0], columns[1], both, truth, predicted, on_labelled, self._confusion.copy())


def evaluate_pixels(counts: PixelCounts, asked: Asked) -> Evaluation:
    """Evaluate classes of pixels.

    Args:
        counts: Of all images.
        asked: What is wanted.
    """
    matrix = counts.confusion
    labelled = ratio(float(matrix[:-1].sum()), float(matrix.sum())) or 0.0
    unlabelled: Unlabelled = asked.unlabelled or ("ignore" if labelled >= COVERED else "background")
    counts_as = "count as background" if unlabelled == "background" else "are not counted"
    notes = [f"{labelled:.1%} of the pixels are labelled; the others {counts_as}"]
    if unlabelled == "ignore":
        matrix = np.concatenate([matrix[:-1], np.zeros_like(matrix[-1:])])
    columns = _Columns.of(counts, unlabelled, len(asked.classes))
    every = columns.per_class(np.ones(asked.images))
    iou, dice, accuracy = (each[0] for each in _scores(every[None]))
    metrics = {
        "mIoU": mean(iou),
        "mDice": mean(dice),
        "mean_accuracy": mean(accuracy),
        "pixel_accuracy": ratio(float(np.trace(matrix)), float(matrix.sum())),
    }
    present = np.flatnonzero(every[1] + every[2]).tolist()
    return Evaluation(
        "segment",
        metrics,
        "IoU",
        "mIoU",
        [_class_part(columns, every, label, asked) for label in present],
        [_slice_part(columns, images, name) for name, images in asked.slices.items()],
        {CONFUSION: confusion_rows(matrix, asked.classes, "pixels")},
        lambda weights: _resample(columns, asked, weights),
        _hard(columns, asked),
        notes,
    )


@dataclass(frozen=True)
class _Columns:
    """Rows of counts as they are to be counted; (n,)."""

    image: IntArray
    label: IntArray
    counts: FloatArray  # both, truth, predicted: (3, n)
    classes: int

    @classmethod
    def of(cls, counts: PixelCounts, unlabelled: Unlabelled, classes: int) -> _Columns:
        predicted = counts.predicted if unlabelled == "background" else counts.on_labelled
        return cls(counts.image, counts.label, np.stack([counts.both, counts.truth, predicted]), classes)

    def per_class(self, weight: FloatArray) -> FloatArray:
        """Counts of each class on weighted images, (3, classes)."""
        own = weight[self.image]
        return np.stack([np.bincount(self.label, weights=own * row, minlength=self.classes) for row in self.counts])


def _scores(counts: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """IoU, Dice and accuracy from (b, 3, classes) counts; each (b, classes), NaN where there is nothing."""
    both, truth, predicted = counts[:, 0], counts[:, 1], counts[:, 2]
    return ratios(both, truth + predicted - both), ratios(2 * both, truth + predicted), ratios(both, truth)


def _class_part(columns: _Columns, every: FloatArray, label: int, asked: Asked) -> Part:
    both, truth, predicted = every[:, label].tolist()
    on = (columns.label == label) & (columns.counts[1] > 0)
    return Part(
        asked.classes[label],
        np.unique(columns.image[on]),
        {
            "images": int(on.sum()),
            "share_of_pixels": ratio(truth, float(every[1].sum())),
            "IoU": ratio(both, truth + predicted - both),
            "Dice": ratio(2 * both, truth + predicted),
            "recall": ratio(both, truth),
            "precision": ratio(both, predicted),
        },
    )


def _slice_part(columns: _Columns, images: BoolArray, name: str) -> Part:
    iou, dice, _ = (each[0] for each in _scores(columns.per_class(images.astype(np.float64))[None]))
    numbers = {"images": int(images.sum()), "mIoU": mean(iou), "mDice": mean(dice)}
    return Part(name, np.flatnonzero(images), numbers)


def _resample(columns: _Columns, asked: Asked, weights: Weights) -> dict[Key, FloatArray]:
    iou, dice, accuracy = _scores(np.stack([columns.per_class(weight) for weight in weights.astype(np.float64)]))
    found: dict[Key, FloatArray] = {
        ("all", "mIoU"): row_means(iou),
        ("all", "mDice"): row_means(dice),
        ("all", "mean_accuracy"): row_means(accuracy),
    }
    found |= {("class", name): iou[:, label] for label, name in enumerate(asked.classes)}
    for name, images in asked.slices.items():
        inside = weights.astype(np.float64) * images
        found["slice", name] = row_means(_scores(np.stack([columns.per_class(weight) for weight in inside]))[0])
    return found


def _hard(columns: _Columns, asked: Asked) -> Hard:
    """Images on which classes overlap no better than on all together: IoU of all their pixels, whatever the class."""
    both, truth, predicted = (np.bincount(columns.image, weights=row, minlength=asked.images) for row in columns.counts)
    union = truth + predicted - both
    quality = np.divide(both, union, out=np.ones(asked.images), where=union > 0)
    overall = both.sum() / max(float(union.sum()), 1.0)
    chosen = worst(1 - quality, np.flatnonzero((quality < 1) & (quality <= overall)), asked.limit)

    def evidence(image: int) -> dict[str, Any]:
        rows = np.flatnonzero(columns.image == image)
        own, true, said = columns.counts[:, rows]
        total = true + said - own
        order = np.argsort(own - total, kind="stable")[:_LISTED]
        listed = [
            {
                "label": asked.classes[int(columns.label[rows[k]])],
                "iou": ratio(float(own[k]), float(total[k])),
                "missed_pixels": int(true[k] - own[k]),
                "false_pixels": int(said[k] - own[k]),
            }
            for k in order.tolist()
        ]
        first = listed[0]
        why = f"IoU {quality[image]:.2f}; of '{first['label']}' {first['missed_pixels']:,} pixels are missed"
        return {"why": f"{why} and {first['false_pixels']:,} are false", "classes": listed}

    none = np.full(len(chosen), NOWHERE)
    return Hard(chosen, 1 - quality[chosen], none, [evidence(image) for image in chosen.tolist()])


def _of_classes(
    masks: Sequence[tuple[int, str]], size: Sequence[int]
) -> tuple[IntArray, FloatArray, list[dict[str, Any]]]:
    """One mask for each class, none of them over another: classes, areas, run lengths."""
    shape = (int(size[0]), int(size[1]))
    joined: dict[int, list[dict[str, Any]]] = {}
    for label, counts in masks:
        joined.setdefault(label, []).append({"counts": counts.encode(), "size": list(shape)})
    merged = {label: each[0] if len(each) == 1 else coco_mask.merge(each) for label, each in sorted(joined.items())}
    rles = list(merged.values())
    areas = np.array([int(coco_mask.area(each)) for each in rles], dtype=np.float64)
    if len(rles) > 1 and int(coco_mask.area(coco_mask.merge(rles))) < areas.sum():
        painted, _ = paint(list(masks), shape, NOWHERE)
        regions = split_labels(painted, skip={NOWHERE})
        rles = [{"counts": region.counts.encode(), "size": list(shape)} for region in regions]
        return (
            np.array([region.value for region in regions]),
            np.array([region.area for region in regions], float),
            rles,
        )
    kept = areas > 0
    labels = np.array(list(merged), dtype=np.int64)
    return labels[kept], areas[kept], [each for each, there in zip(rles, kept.tolist(), strict=True) if there]
