"""How unsure a layer of predictions is of each image, and how much layers disagree.

An image's doubt is the sum of its objects'. A box has its class probabilities, or else its confidence against there being
nothing. An image on which a model has looked and found nothing has no doubt; one that it has not seen has no score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from curate.checks.labels import Labels
from curate.loop.scores import FloatArray, Scores, by_image, wavering
from curate.loop.strategies.probabilities import MEASURES, Measure, binary, disagreement, per_image

Floats = npt.NDArray[np.floating]


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
    if not len(model.image):  # it has found nothing anywhere
        values[model.covered_by(model)] = 0.0
    elif len(boxes) and boxes.score is not None:
        p = boxes.probabilities if boxes.probabilities is not None else binary(boxes.score)
        doubt = MEASURES[measure](p)
        seen = model.covered_by(model)
        values[seen] = per_image(doubt, boxes.image, n)[seen]
    whole = model.image_predictions()
    said = np.zeros(n, dtype=bool) if whole is None else whole.sum(axis=1) > 0
    if whole is not None:
        values[said] = MEASURES[measure](whole[said])

    on_image = by_image(boxes.image, n)

    def why(row: int) -> str:
        if whole is not None and said[row]:
            return f"{model.layer} wavers: {wavering(whole[row], model.classes)}"
        own = on_image(row)
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
        seen = np.all([found.sum(axis=1) > 0 for found in whole], axis=0)
        values[seen] = disagreement([found[seen] for found in whole])
        sure: list[Callable[[int], Floats]] = [found.__getitem__ for found in whole]
    else:
        times = np.bincount(np.concatenate([model.covered_by(model) for model in models]), minlength=n)
        seen = times == len(models)
        total = np.zeros(n)
        for k in range(len(classes)):
            total += disagreement([binary(_surest(model, k)) for model in models])
        values[seen] = total[seen]
        sure = [_surest_of_image(model) for model in models]

    def why(row: int) -> str:
        table = np.stack([each(row) for each in sure])
        k = int(np.ptp(table, axis=0).argmax())
        said = [f"{model.layer} {value:.2f}" for model, value in zip(models, table[:, k], strict=True)]
        return f"layers disagree on '{classes[k]}': {', '.join(said)}"

    return Scores(values, why, " and ".join(model.layer for model in models))


def _surest(model: Labels, k: int) -> FloatArray:
    """The highest confidence of a class's boxes on each of the n images, 0 where there is none."""
    boxes = model.boxes()
    best = np.zeros(model.images.num_rows)
    if boxes.score is not None:
        own = boxes.label == k
        np.maximum.at(best, boxes.image[own], boxes.score[own])
    return best


def _surest_of_image(model: Labels) -> Callable[[int], Floats]:
    """The same for one image and all classes: from its row to shape (K,)."""
    boxes = model.boxes()
    on_image = by_image(boxes.image, model.images.num_rows)

    def surest(row: int) -> Floats:
        best = np.zeros(len(model.classes))
        own = on_image(row)
        own = own[boxes.label[own] >= 0]
        if boxes.score is not None:
            np.maximum.at(best, boxes.label[own], boxes.score[own])
        return best

    return surest


def _name(model: Labels, label: int) -> str:
    return f"'{model.classes[label]}'" if label >= 0 else "something"
