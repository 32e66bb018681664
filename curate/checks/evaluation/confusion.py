"""What is taken for what: objects matched one to one, whatever their classes, with what is missed and what is made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from curate.checks.boxes import FloatArray, IntArray
from curate.checks.evaluation.objects import Objects
from curate.checks.mistakes.matching import Pairs, assign

CONFUSION: Final = "Confusion"
"""Title of the table of what is taken for what."""

NOTHING: Final = "(nothing)"
"""Stands for a class where there is none: a missed object, a detection of the background, a pixel of no class."""


def confusion_matrix(
    predicted: Objects, truth: Objects, pairs: Pairs, classes: int, scores: float | FloatArray
) -> IntArray:
    """Count which true class is predicted as which.

    Pairs of one class are matched first, those that overlap most before the others; what is left is matched across classes.

    Args:
        predicted: What the model found.
        truth: What is there; crowds are left out, and predictions inside of them.
        pairs: Which of them overlap by 0.5 or more.
        classes: How many there are, K.
        scores: Predictions below are not looked at: one number, or one for each class, (K,).

    Returns:
        int64 of shape (K + 1, K + 1), by true and predicted class; the last of each stands for nothing.
    """
    lowest = np.broadcast_to(np.asarray(scores, dtype=np.float64), classes)
    asked = predicted.score >= lowest[predicted.label] if len(predicted) else np.zeros(0, dtype=np.bool_)
    pairs = pairs.take(asked[pairs.first])
    crowded = truth.crowd[pairs.second]
    in_crowd = np.zeros(len(predicted), dtype=np.bool_)
    in_crowd[pairs.first[crowded]] = True
    single = pairs.take(~crowded)
    same = predicted.label[single.first] == truth.label[single.second]
    taken = single.take(assign(single, single.iou + same))
    matched, found = np.zeros(len(predicted), dtype=np.bool_), np.zeros(len(truth), dtype=np.bool_)
    matched[taken.first], found[taken.second] = True, True
    alone = predicted.label[asked & ~matched & ~in_crowd]
    missed = truth.label[~found & ~truth.crowd]
    given = np.concatenate([truth.label[taken.second], missed, np.full(len(alone), classes)])
    said = np.concatenate([predicted.label[taken.first], np.full(len(missed), classes), alone])
    counts = np.bincount(given * (classes + 1) + said, minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1)


def confusion_rows(matrix: IntArray, classes: Sequence[str], what: str) -> list[dict[str, Any]]:
    """What is not as it should be, most frequent first, JSON-ready: true class, predicted class, count, share of the true.

    Args:
        matrix: By true and predicted class, the last of each for nothing.
        classes: Their names.
        what: What is counted: 'objects', 'pixels', 'images'.
    """
    names = [*classes, NOTHING]
    wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    given, said = np.nonzero(wrong)
    order = np.lexsort((said, given, -wrong[given, said]))
    total = matrix.sum(axis=1)
    return [
        {
            "true": names[row],
            "predicted": names[column],
            what: int(matrix[row, column]),
            "share_of_true": float(matrix[row, column] / total[row]) if row < len(classes) else None,
        }
        for row, column in zip(given[order].tolist(), said[order].tolist(), strict=True)
    ]
