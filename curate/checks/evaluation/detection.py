"""A detector, or a segmenter of instances, as a whole: COCO's numbers, thresholds, calibration, confusion, the worst images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import numpy as np

from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray
from curate.checks.evaluation.average_precision import coco_scores, mean_over_classes, resampled_precision
from curate.checks.evaluation.base import Asked, Evaluation, Hard, Key, Part, Rows, Weights, worst
from curate.checks.evaluation.calibration import calibration
from curate.checks.evaluation.confusion import CONFUSION, confusion_matrix, confusion_rows
from curate.checks.evaluation.matching import AREAS, FALSE, HIT, LEFT_OUT, Matches, match_objects
from curate.checks.evaluation.objects import Objects
from curate.checks.evaluation.thresholds import SHOWN, Curve, Operating, curve
from curate.checks.mistakes.matching import Pairs
from curate.wording import counted

Names = Callable[[int], str]
"""Id of an annotation by its row."""

_LISTED: Final = 20
"""Objects named in the evidence of one finding, of each sort."""

_RESAMPLED: Final = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}


def evaluate_objects(
    task: Literal["detect", "instances"],
    predicted: Objects,
    truth: Objects,
    pairs: Pairs,
    asked: Asked,
    predicted_id: Names,
    true_id: Names,
) -> Evaluation:
    """Evaluate objects that a model found.

    Args:
        task: What overlaps: boxes, or masks.
        predicted: What was found.
        truth: What is there.
        pairs: Which of both overlap (`curate.checks.evaluation.overlaps`).
        asked: What is wanted.
        predicted_id: Names `predicted.row`.
        true_id: Names `truth.row`.
    """
    matches = match_objects(predicted, truth, pairs)
    scores = coco_scores(matches, len(asked.classes))
    notes: list[str] = []
    found = _curve(matches)
    used, thresholds = _thresholds(found, asked, notes)
    scored = matches.outcome[0, :, 0] != LEFT_OUT
    reliable = calibration(matches.score[scored], matches.outcome[0, scored, 0] == HIT)
    error = reliable.error if scored.any() else None
    confused = confusion_matrix(predicted, truth, pairs, len(asked.classes), used.threshold)
    _note_unknown(matches, asked, notes)
    parts = {name: matches.of_images(images) for name, images in asked.slices.items()}
    return Evaluation(
        task,
        {**scores.summary(), "F1": used.f1, "precision": used.precision, "recall": used.recall, "ECE": error},
        "AP",
        "AP",
        [_class_part(matches, label, scores.of_class(label), asked) for label in _present(matches)],
        [_slice_part(part, asked.slices[name], name, len(asked.classes)) for name, part in parts.items()],
        {
            "Sizes": _size_rows(matches, scores.summary()),
            "Thresholds": thresholds,
            "Calibration": reliable.rows(),
            CONFUSION: confusion_rows(confused, asked.classes, "objects"),
        },
        lambda weights: _resample(matches, parts, asked, weights),
        _hard(predicted, truth, matches, used, asked, predicted_id, true_id),
        notes,
    )


def image_quality(matches: Matches, threshold: float, images: int) -> tuple[FloatArray, IntArray, FloatArray]:
    """How well each image is done: mean overlap of its objects, what is missed or false counting half an object with none.

    That is panoptic quality (Kirillov et al. 2019) of all classes together. One object of the quality of all images together
    is added to each, so that of two images on which everything is wrong the one with more objects is the worse.

    Args:
        matches: Of all images.
        threshold: Predictions with a lower score are not looked at.
        images: How many there are.

    Returns:
        Quality of each image in [0, 1], how many mistakes there are on it, and the quality of all together, of shape ().
    """
    outcome = matches.outcome[0, :, 0]
    used = matches.score >= threshold
    hit, false = used & (outcome == HIT), used & (outcome == FALSE)
    right = np.bincount(matches.image[hit], minlength=images)
    overlap = np.bincount(matches.image[hit], weights=matches.iou[hit], minlength=images)
    there = np.bincount(matches.truth_image[matches.counted[0]], minlength=images)
    mistakes = there - right + np.bincount(matches.image[false], minlength=images)
    size = right + mistakes / 2
    overall = np.asarray(overlap.sum() / max(size.sum(), 1.0))
    return (overlap + overall) / (size + 1), mistakes, overall


def _resample(matches: Matches, parts: Mapping[str, Matches], asked: Asked, weights: Weights) -> dict[Key, FloatArray]:
    classes = len(asked.classes)
    precision = resampled_precision(matches, classes, weights)
    found: dict[Key, FloatArray] = {
        ("all", name): mean_over_classes(precision, chosen) for name, chosen in _RESAMPLED.items()
    }
    found |= {("class", asked.classes[label]): precision[:, label].mean(axis=1) for label in _present(matches)}
    for name, part in parts.items():
        found["slice", name] = mean_over_classes(resampled_precision(part, classes, weights))
    return found


def _present(matches: Matches) -> list[int]:
    """Classes with objects or predictions."""
    present: list[int] = np.union1d(matches.label, matches.truth_label).tolist()
    return present


def _curve(matches: Matches, label: int | None = None) -> Curve:
    """Precision and recall at an overlap of 0.5, of all classes together or of one."""
    rows = matches.outcome[0, :, 0] != LEFT_OUT
    true = matches.counted[0]
    if label is not None:
        rows, true = rows & (matches.label == label), true & (matches.truth_label == label)
    return curve(matches.score[rows], matches.outcome[0, rows, 0] == HIT, int(true.sum()))


def _thresholds(found: Curve, asked: Asked, notes: list[str]) -> tuple[Operating, Rows]:
    """The operating point that is used from here on, and a table of some."""
    best = found.best()
    rows = [best.row("highest F1")]
    used = best
    if asked.precision is not None:
        wanted, most = found.for_precision(asked.precision), found.most_precise()
        if wanted is not None:
            interval = wanted.precision_interval()
            between = f", 95% interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
            rows.insert(0, wanted.row(f"precision {asked.precision:g}"))
            notes.append(
                f"precision {asked.precision:g} from a score of {wanted.threshold:.4g} on: "
                f"{wanted.precision:.3f}{between}; recall {wanted.recall or 0:.3f}"
            )
            used = wanted
        else:
            reached = "there are no predictions" if most is None else (
                f"the highest is {most.precision:.3f}, from a score of {most.threshold:.4g} on"
            )  # fmt: skip
            notes.append(f"no score gives a precision of {asked.precision:g}: {reached}")
    return used, [*rows, *(found.at(threshold).row("") for threshold in SHOWN)]


def _note_unknown(matches: Matches, asked: Asked, notes: list[str]) -> None:
    """Tell of classes that the model never gives."""
    unknown = np.setdiff1d(matches.truth_label[matches.counted[0]], matches.label)
    if len(unknown):
        objects = int(np.isin(matches.truth_label[matches.counted[0]], unknown).sum())
        names = ", ".join(asked.classes[label] for label in unknown[:10].tolist()) + (
            ", ..." if len(unknown) > 10 else ""
        )
        notes.append(
            f"the model gives no prediction of {counted(len(unknown), 'classes')} that {counted(objects, 'objects')} "
            f"are of, each of which counts with an AP of 0: {names}"
        )


def _class_part(matches: Matches, label: int, scores: Mapping[str, float | None], asked: Asked) -> Part:
    true = matches.counted[0] & (matches.truth_label == label)
    numbers: dict[str, float | int | None] = {
        "objects": int(true.sum()),
        "predictions": int((matches.label == label).sum()),
        **scores,
    }
    if asked.precision is not None:
        at = _curve(matches, label).for_precision(asked.precision)
        numbers["threshold"] = None if at is None else at.threshold
        numbers["recall_there"] = None if at is None else at.recall
    return Part(asked.classes[label], np.unique(matches.truth_image[true]), numbers)


def _slice_part(matches: Matches, images: BoolArray, name: str, classes: int) -> Part:
    summary = coco_scores(matches, classes).summary()
    counts = {"images": int(images.sum()), "objects": int(matches.counted[0].sum())}
    kept = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_100")
    return Part(name, np.unique(matches.truth_image), {**counts, **{key: summary[key] for key in kept}})


def _size_rows(matches: Matches, summary: Mapping[str, float | None]) -> list[dict[str, Any]]:
    return [
        {
            "size": size,
            "objects": int(matches.counted[area].sum()),
            "AP": summary[f"AP_{size}"],
            "AR": summary[f"AR_{size}"],
        }
        for area, size in enumerate(AREAS)
        if size != "all"
    ]


def _hard(
    predicted: Objects,
    truth: Objects,
    matches: Matches,
    used: Operating,
    asked: Asked,
    predicted_id: Names,
    true_id: Names,
) -> Hard:
    """Images with mistakes on which the model does no better than on all together."""
    quality, mistakes, overall = image_quality(matches, used.threshold, asked.images)
    chosen = worst(1 - quality, np.flatnonzero((mistakes > 0) & (quality <= overall)), asked.limit)
    outcome, at = matches.outcome[0, :, 0], matches.score >= used.threshold
    found = np.zeros(len(truth), dtype=np.bool_)
    found[matches.found[at & (matches.found != NOWHERE)]] = True
    hits = np.flatnonzero(at & (outcome == HIT))
    false = np.flatnonzero(at & (outcome == FALSE))
    missed = np.flatnonzero(~found & ~truth.crowd)

    def on(rows: IntArray, images: IntArray, image: int) -> IntArray:
        return np.asarray(rows[images[rows] == image])

    def evidence(image: int) -> dict[str, Any]:
        lost, wrong, right = (
            on(missed, truth.image, image), on(false, matches.image, image), on(hits, matches.image, image)
        )  # fmt: skip
        overlap = float(matches.iou[right].mean()) if len(right) else None
        fit = "" if overlap is None else f", and fits {len(right)} with a mean IoU of {overlap:.2f}"
        return {
            "why": f"the model misses {len(lost)} and makes up {counted(len(wrong), 'objects')}{fit}",
            "missed": [_named(truth, row, asked, true_id) for row in lost[:_LISTED].tolist()],
            "false": [_named(predicted, row, asked, predicted_id) for row in matches.row[wrong[:_LISTED]].tolist()],
            "counts": {"missed": len(lost), "false": len(wrong), "right": len(right)},
            "mean_iou": overlap,
            "threshold": used.threshold,
        }

    return Hard(
        chosen, 1 - quality[chosen], np.full(len(chosen), NOWHERE), [evidence(image) for image in chosen.tolist()]
    )


def _named(objects: Objects, row: int, asked: Asked, name: Names) -> dict[str, Any]:
    return {
        "annotation_id": name(int(objects.row[row])),
        "label": asked.classes[int(objects.label[row])],
        "score": float(objects.score[row]),
        "bbox": [round(value, 2) for value in objects.bbox[row].tolist()],
    }
