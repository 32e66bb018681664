"""What labels are worth, without training a network: the accuracy of a linear model on frozen embeddings.

The usual yardstick of representations and of active learning where every round cannot train a detector (Kornblith et al.
2019): multinomial logistic regression on the embedding of each labelled object, or image. It moves with the labels, their
number and their errors; it is not the accuracy of a detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from curate.checks.labels import load_labels
from curate.checks.mistakes.probe import assign_folds
from curate.dataset import Transaction, begin
from curate.dataset.synthetic import real_only
from curate.errors import UsageError
from curate.models.passes import crop_items, image_items
from curate.models.spaces import choose_encoder, read_vectors, update_space
from curate.names import GROUND_TRUTH

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_HELD_OUT: Final = ("test", "val")
_FOLDS: Final = 5
_FEWEST: Final = 10
_ITERATIONS: Final = 2000


@dataclass(frozen=True)
class Samples:
    """The labelled objects of a dataset; of one without boxes, its images.

    Attributes:
        vectors: float32 array of shape (n, d).
        labels: int64 array of shape (n,), in [0, k).
        image: int64 array of shape (n,): numbers of their images.
        groups: int64 array of shape (n,): what belongs together (bursts, copies of one source) has one number.
        held_out: bool array of shape (n,): objects of the splits that a metric is measured on, the first of 'test' and
            'val' that has any; none where there is no such split.
        image_ids: Ids of the images, by number.
    """

    vectors: FloatArray
    labels: IntArray
    image: IntArray
    groups: IntArray
    held_out: BoolArray
    image_ids: list[str]


def probe_accuracy(name: str, *, seed: int = 0, command: str) -> float | None:
    """Accuracy of the probe on the held-out split, or by cross-validation where there is none.

    Args:
        name: The dataset; what is not embedded yet is embedded, in a commit.
        seed: Of the folds.
        command: The command line, for the history.

    Returns:
        In [0, 1]; None where there are too few labels to tell.
    """
    with begin(name, command=command) as transaction:
        samples = load_samples(transaction)
    if samples.held_out.any():
        learn = ~samples.held_out
        return accuracy(samples, learn, samples.held_out)
    folds = assign_folds(samples.labels, samples.groups, folds=_FOLDS, seed=seed)
    found = [accuracy(samples, folds != fold, folds == fold) for fold in np.unique(folds)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def accuracy(samples: Samples, learn: BoolArray, test: BoolArray) -> float | None:
    """Part of the tested labels that a linear model gets right which learnt from others; None without two classes to learn."""
    if len(np.unique(samples.labels[learn])) < 2 or learn.sum() < _FEWEST or not test.any():
        return None
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    model.fit(samples.vectors[learn], samples.labels[learn])
    return float(np.mean(model.predict(samples.vectors[test]) == samples.labels[test]))


def load_samples(transaction: Transaction) -> Samples:
    """The labelled objects (or images) and their vectors, which are computed where they are lacking.

    Raises:
        UsageError: Nothing is labelled.
    """
    labels = load_labels(transaction.base, GROUND_TRUTH, real_only(transaction.base, None))
    boxed = labels.boxed & ~labels.crowd & (labels.label >= 0)
    rows = np.flatnonzero(boxed) if boxed.any() else np.flatnonzero(labels.whole_image)
    if not len(rows):
        raise UsageError("nothing is labelled yet", where=transaction.base.name, remedy="label some images, then pull")
    encoder = choose_encoder(transaction.base, None)
    images = labels.images
    annotations = labels.annotations.take(pa.array(rows))
    if boxed.any():
        update = update_space(transaction, encoder, "crops", crop_items(annotations, images))
        ids = annotations["annotation_id"]
    else:
        update = update_space(transaction, encoder, "images", image_items(images))
        ids = annotations["image_id"]
    vectors, there = read_vectors(transaction, update.space, ids)
    rows = rows[there]
    image = labels.image[rows]
    split = np.array([each or "" for each in images["split"].to_pylist()])[image]
    held_out = next((split == name for name in _HELD_OUT if (split == name).any()), np.zeros(len(rows), dtype=bool))
    return Samples(
        vectors, labels.label[rows], image, labels.image_groups()[image], held_out, images["image_id"].to_pylist()
    )
