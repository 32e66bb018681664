"""How unsure a layer of predictions is of each image, and how much layers disagree.

An image's doubt is the sum of its objects'. A box has its class probabilities, or else its confidence against there being
nothing. An image on which a model has looked and found nothing has no doubt; one that it has not seen has no score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from curate.checks.labels import Labels
from curate.loop.scores import FloatArray, Scores, wavering
from curate.loop.strategies.probabilities import MEASURES, Measure, binary, disagreement, per_image

Column = Callable[[int], FloatArray]
"""A class's number to how sure a model is that it is on each of the n images."""


def layer_doubt(model: Labels, measure: Measure) -> Scores:
    """How unsure a layer is of each of its n images.

    Args:
        model: The layer; boxes without a confidence are left out already (`curate.checks.labels.load_predictions`).
        measure: Of doubt.
    """
    n = model.images.num_rows
    values = np.full(n, np.nan)
    boxed = model.boxed & ~model.crowd
    boxes = model.boxes(boxed)
    doubt = np.zeros(0)
    if len(boxes) and boxes.score is not None:
        p = boxes.probabilities if boxes.probabilities is not None else binary(boxes.score)
        doubt = MEASURES[measure](p)
        seen = model.covered_by(model)
        values[seen] = per_image(doubt, boxes.image, n)[seen]
    whole = model.image_predictions()
    said = np.zeros(n, dtype=bool) if whole is None else whole.sum(axis=1) > 0
    if whole is not None:
        values[said] = MEASURES[measure](whole[said])

    def why(row: int) -> str:
        if whole is not None and said[row]:
            return f"{model.layer} wavers: {wavering(whole[row], model.classes)}"
        own = np.flatnonzero(boxes.image == row)
        if not len(own):
            return f"{model.layer} finds nothing"
        first = own[np.argsort(-doubt[own], kind="stable")[:3]]
        scores = np.asarray(boxes.score)
        named = [f"{_name(model, int(boxes.label[k]))} {scores[k]:.2f}" for k in first]
        return f"{model.layer} doubts {', '.join(named)} (of {len(own):,} found)"

    return Scores(values, why, model.layer)


def layer_disagreement(models: Sequence[Labels]) -> Scores:
    """How much layers disagree on what is on each image.

    Classes of whole images are compared as distributions. Of boxes, the surest of each class stands for the class, and the
    disagreements on the classes are added; where on the image an object is does not count.

    Args:
        models: At least two layers, on the same n images with the same classes.
    """
    n, classes = models[0].images.num_rows, models[0].classes
    values = np.full(n, np.nan)
    whole = [found for model in models if (found := model.image_predictions()) is not None]
    if len(whole) == len(models):
        columns = [_given(found) for found in whole]
        seen = np.all([found.sum(axis=1) > 0 for found in whole], axis=0)
        values[seen] = disagreement([found[seen] for found in whole])
    else:
        columns = [_surest(model) for model in models]
        times = np.bincount(np.concatenate([model.covered_by(model) for model in models]), minlength=n)
        seen = times == len(models)
        total = np.zeros(n)
        for k in range(len(classes)):
            total += disagreement([binary(column(k)) for column in columns])
        values[seen] = total[seen]

    def why(row: int) -> str:
        sure = np.array([[column(k)[row] for k in range(len(classes))] for column in columns])
        k = int(np.ptp(sure, axis=0).argmax())
        said = [f"{model.layer} {value:.2f}" for model, value in zip(models, sure[:, k], strict=True)]
        return f"layers disagree on '{classes[k]}': {', '.join(said)}"

    return Scores(values, why, " and ".join(model.layer for model in models))


def _given(found: npt.NDArray[np.float32]) -> Column:
    return lambda k: found[:, k].astype(np.float64)


def _surest(model: Labels) -> Column:
    """The highest confidence of a class's boxes on each image, 0 where there is none."""
    boxes = model.boxes()
    scores = np.zeros(len(boxes)) if boxes.score is None else boxes.score

    def column(k: int) -> FloatArray:
        best = np.zeros(model.images.num_rows)
        own = boxes.label == k
        np.maximum.at(best, boxes.image[own], scores[own])
        return best

    return column


def _name(model: Labels, label: int) -> str:
    return f"'{model.classes[label]}'" if label >= 0 else "something"
