"""A classifier of images: top-1 and top-k, every class, calibration, confusion, the images it is surest to get wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import NOWHERE, BoolArray, FloatArray, IntArray
from curate.checks.evaluation.base import (
    Asked,
    Evaluation,
    Hard,
    Key,
    Part,
    Weights,
    mean,
    ratio,
    ratios,
    row_means,
    worst,
)
from curate.checks.evaluation.calibration import brier_score, calibration, log_loss
from curate.checks.evaluation.confusion import CONFUSION, NOTHING, confusion_rows
from curate.checks.evaluation.thresholds import SHOWN, curve
from curate.wording import counted

Probabilities = npt.NDArray[np.float32]

_LISTED: Final = 3


@dataclass(frozen=True)
class Guesses:
    """What is said of n images.

    Attributes:
        truth: Class of each image; (n,).
        label: The class that the model gives, -1 for none; (n,).
        score: Its confidence in that; NaN where it gives none; (n,).
        probabilities: Of all classes; (n, classes); None where the model does not tell.
        annotation: Row of each image's true label; (n,).
    """

    truth: IntArray
    label: IntArray
    score: FloatArray
    probabilities: Probabilities | None
    annotation: IntArray


def evaluate_labels(guesses: Guesses, asked: Asked) -> Evaluation:
    """Evaluate labels of whole images, one for each of `asked.images` images."""
    classes, truth = len(asked.classes), guesses.truth
    right = guesses.label == truth
    said = np.where(guesses.label == NOWHERE, classes, guesses.label)
    matrix = np.bincount(truth * (classes + 1) + said, minlength=(classes + 1) ** 2).reshape(classes + 1, -1)
    present = np.flatnonzero(matrix.sum(axis=0)[:-1] + matrix.sum(axis=1)[:-1]).tolist()
    notes: list[str] = []
    silent = int((guesses.label == NOWHERE).sum())
    if silent:
        notes.append(f"{counted(silent, 'images')} without a prediction count as wrong")
    metrics = _metrics(guesses, matrix, asked)
    rated = np.isfinite(guesses.score)
    reliable = calibration(guesses.score[rated], right[rated])
    metrics["ECE"] = reliable.error if rated.any() else None
    found = curve(guesses.score[rated], right[rated], len(truth))
    rows = [found.best().row("highest F1")]
    if asked.precision is not None:
        wanted, most = found.for_precision(asked.precision), found.most_precise()
        if wanted is not None:
            rows.insert(0, wanted.row(f"precision {asked.precision:g}"))
        else:
            highest = "no prediction has a score" if most is None else f"the highest is {most.precision:.3f}"
            notes.append(f"no score gives a precision of {asked.precision:g}: {highest}")
    return Evaluation(
        "classify",
        metrics,
        "F1",
        "top1",
        [_class_part(matrix, label, truth, asked) for label in present],
        [_slice_part(guesses, images, name, asked) for name, images in asked.slices.items()],
        {
            "Thresholds": [*rows, *(found.at(threshold).row("") for threshold in SHOWN)] if rated.any() else [],
            "Calibration": reliable.rows(),
            CONFUSION: confusion_rows(matrix, asked.classes, "images"),
        },
        lambda weights: _resample(guesses, asked, weights),
        _hard(guesses, asked),
        notes,
    )


def class_f1(truth: IntArray, label: IntArray, classes: int, weights: Weights) -> tuple[FloatArray, FloatArray]:
    """Recall and F1 of every class on weighted images; NaN where there is nothing; both (b, classes)."""
    recall, f1 = np.empty((2, len(weights), classes))
    for row, weight in enumerate(weights):
        there = np.bincount(truth, weights=weight, minlength=classes)
        given = np.bincount(label + 1, weights=weight, minlength=classes + 1)[1:]
        hits = np.bincount(truth, weights=weight * (label == truth), minlength=classes)
        recall[row], f1[row] = ratios(hits, there), ratios(2.0 * hits, there + given)
    return recall, f1


def _metrics(guesses: Guesses, matrix: IntArray, asked: Asked) -> dict[str, float | None]:
    truth, n = guesses.truth, len(guesses.truth)
    hits = np.diag(matrix)[:-1].astype(np.float64)
    there, given = matrix.sum(axis=1)[:-1].astype(np.float64), matrix.sum(axis=0)[:-1].astype(np.float64)
    recall, f1 = ratios(hits, there), ratios(2 * hits, there + given)
    metrics: dict[str, float | None] = {"top1": ratio(float(hits.sum()), n)}
    if guesses.probabilities is not None:
        # The rank counts those that are more probable, so that classes of equal probability all get the better one.
        given_p = guesses.probabilities[np.arange(n), truth]
        rank = (guesses.probabilities > given_p[:, None]).sum(axis=1)
        k = min(asked.top_k, len(asked.classes))
        metrics[f"top{asked.top_k}"] = float((rank < k).mean()) if n else None
    metrics["balanced_accuracy"] = mean(recall)
    metrics["macro_F1"] = mean(f1)
    if guesses.probabilities is not None and n:
        metrics["log_loss"] = log_loss(guesses.probabilities, truth)
        metrics["Brier"] = brier_score(guesses.probabilities, truth)
    return metrics


def _class_part(matrix: IntArray, label: int, truth: IntArray, asked: Asked) -> Part:
    hits, there, given = (
        int(matrix[label, label]), int(matrix[label].sum()), int(matrix[:, label].sum())
    )  # fmt: skip
    numbers: dict[str, float | int | None] = {
        "images": there,
        "predictions": given,
        "recall": ratio(hits, there),
        "precision": ratio(hits, given),
        "F1": ratio(2 * hits, there + given),
    }
    return Part(asked.classes[label], np.flatnonzero(truth == label), numbers)


def _slice_part(guesses: Guesses, images: BoolArray, name: str, asked: Asked) -> Part:
    one = images[None].astype(np.float32)
    recall, f1 = class_f1(guesses.truth, guesses.label, len(asked.classes), one)
    right = float((guesses.label == guesses.truth)[images].sum())
    return Part(
        name,
        np.flatnonzero(images),
        {
            "images": int(images.sum()),
            "top1": ratio(right, int(images.sum())),
            "balanced_accuracy": mean(recall),
            "macro_F1": mean(f1),
        },
    )


def _resample(guesses: Guesses, asked: Asked, weights: Weights) -> dict[Key, FloatArray]:
    right = (guesses.label == guesses.truth).astype(np.float32)
    recall, f1 = class_f1(guesses.truth, guesses.label, len(asked.classes), weights)
    found: dict[Key, FloatArray] = {
        ("all", "top1"): weights @ right / weights.sum(axis=1),
        ("all", "balanced_accuracy"): row_means(recall),
        ("all", "macro_F1"): row_means(f1),
    }
    found |= {("class", name): f1[:, label] for label, name in enumerate(asked.classes)}
    for name, images in asked.slices.items():
        inside = weights * images
        found["slice", name] = ratios((inside @ right).astype(np.float64), inside.sum(axis=1).astype(np.float64))
    return found


def _hard(guesses: Guesses, asked: Asked) -> Hard:
    """Images whose class the model gets wrong: the less it thinks of the true one, the harder."""
    wrong = np.flatnonzero(guesses.label != guesses.truth)
    if guesses.probabilities is not None:
        score = 1 - guesses.probabilities[np.arange(len(guesses.truth)), guesses.truth].astype(np.float64)
    else:
        score = np.where(np.isfinite(guesses.score), guesses.score, 1.0)
    chosen = worst(score, wrong, asked.limit)
    names = [*asked.classes, NOTHING]

    def evidence(image: int) -> dict[str, Any]:
        said, true = names[guesses.label[image]], names[guesses.truth[image]]
        found: dict[str, Any] = {"why": f"the model says '{said}', and the label is '{true}'", "predicted": said}
        if guesses.probabilities is not None:
            likely = guesses.probabilities[image]
            first = np.argsort(-likely, kind="stable")[:_LISTED].tolist()
            found["probabilities"] = {names[label]: float(likely[label]) for label in first}
            found["p_true"] = float(likely[guesses.truth[image]])
        elif np.isfinite(guesses.score[image]):
            found["score"] = float(guesses.score[image])
        return found

    return Hard(
        chosen,
        np.clip(score[chosen], 0, 1),
        guesses.annotation[chosen],
        [evidence(image) for image in chosen.tolist()],
    )
