"""How unsure a light classifier is of each image, and how much several disagree: what is there without any other model.

Images with one label each are classified; where they have several (objects), the classifier says for each class whether it is
on the image, and an image's doubt is the sum over the classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.loop.classifier import Targets, committee, fit
from curate.loop.scores import FloatArray, Scores, wavering
from curate.loop.strategies.probabilities import MEASURES, Measure, binary, disagreement

Vectors = npt.NDArray[np.float32]

_BLOCK: Final = 4096


def classifier_doubt(
    vectors: Vectors, targets: Targets, classes: Sequence[str], measure: Measure, *, seed: int
) -> Scores:
    """How unsure a classifier is; labelled images are judged by one that has not seen their labels.

    Args:
        vectors: Of n images, as for `curate.loop.classifier.fit`.
        targets: What is labelled, with `enough` to tell apart.
        classes: Names.
        measure: Of doubt.
        seed: Of folds and samples.
    """
    model = fit(vectors, targets, seed=seed)
    values = np.concatenate([_doubt(model(block), measure, model.several) for block in _blocks(vectors)])
    members, folds = committee(vectors, targets, seed=seed)
    for k, member in enumerate(members):
        unseen = targets.rows[folds == k]
        values[unseen] = _doubt(member(vectors[unseen]), measure, model.several)

    def why(row: int) -> str:
        p = model(vectors[row : row + 1])[0]
        return f"the classifier wavers: {wavering(p, classes, several=model.several)}"

    return Scores(values, why, f"a classifier of {len(targets.rows):,} labelled images")


def classifier_disagreement(vectors: Vectors, targets: Targets, classes: Sequence[str], *, seed: int) -> Scores:
    """How much classifiers disagree that were each fitted without one fold; arguments as for `classifier_doubt`."""
    members, _ = committee(vectors, targets, seed=seed)
    values = []
    for block in _blocks(vectors):
        p = [member(block) for member in members]
        if targets.several:
            values.append(
                np.sum([disagreement([binary(each[:, k]) for each in p]) for k in range(len(classes))], axis=0)
            )
        else:
            values.append(disagreement(p))

    def why(row: int) -> str:
        p = np.stack([member(vectors[row : row + 1])[0] for member in members])
        if targets.several:
            k = int(np.ptp(p, axis=0).argmax())
            return f"{len(p)} folds disagree on '{classes[k]}': from {p[:, k].min():.2f} to {p[:, k].max():.2f}"
        votes = np.bincount(p.argmax(axis=1), minlength=len(classes))
        said = [f"{votes[k]} say '{classes[k]}'" for k in np.argsort(-votes, kind="stable")[:3] if votes[k]]
        return f"of {len(p)} folds {', '.join(said)}"

    return Scores(np.concatenate(values), why, f"{len(members)} folds of {len(targets.rows):,} labelled images")


def _doubt(p: Vectors, measure: Measure, several: bool) -> FloatArray:
    if several:
        return np.asarray(np.sum([MEASURES[measure](binary(column)) for column in p.T], axis=0), dtype=np.float64)
    return MEASURES[measure](p)


def _blocks(vectors: Vectors) -> Iterator[Vectors]:
    for start in range(0, len(vectors), _BLOCK):
        yield vectors[start : start + _BLOCK]
