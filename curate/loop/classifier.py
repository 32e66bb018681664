"""A light classifier on the vectors of what is labelled: logistic regression, of images with one label or with several."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from curate.checks.mistakes.probe import assign_folds

Vectors = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FOLDS: Final = 5
"""Members of a committee, each fitted without a part of the labels."""

_MOST_ROWS: Final = 20_000  # more of them make it hardly better, only slower
_WEAKNESS: Final = 100.0  # of the penalty, for vectors of mean square length 1
_STEPS: Final = 1000


@dataclass(frozen=True)
class Targets:
    """What some rows are labelled with.

    Attributes:
        rows: int64 of shape (r,).
        there: Which of K classes is on each, bool of shape (r, K).
        several: Whether a row may have several classes, or none; else it has exactly one.
    """

    rows: IntArray
    there: BoolArray
    several: bool

    def take(self, kept: IntArray | BoolArray) -> Targets:
        """Some of the rows."""
        return Targets(self.rows[kept], self.there[kept], self.several)

    @property
    def enough(self) -> bool:
        """Whether there is anything to tell apart: a class that is on some rows and not on others."""
        return bool((self.there.any(axis=0) & ~self.there.all(axis=0)).any())


@dataclass(frozen=True)
class Classifier:
    """A fitted model; a class that it cannot know of has probability 0.

    Attributes:
        weights: Shape (d, K).
        bias: Shape (K,).
        several: As in `Targets`.
    """

    weights: Vectors
    bias: Vectors
    several: bool

    def __call__(self, vectors: Vectors) -> Vectors:
        """Class probabilities, shape (m, K), from vectors (m, d); with `several`, each class for itself."""
        scores = vectors @ self.weights + self.bias
        if self.several:
            return np.asarray(1 / (1 + np.exp(-np.clip(scores, -80, 80))), dtype=np.float32)
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        return np.asarray(scores / scores.sum(axis=1, keepdims=True), dtype=np.float32)


def fit(vectors: Vectors, targets: Targets, *, seed: int) -> Classifier:
    """Fit to what is labelled (20,000 rows of it at most).

    Args:
        vectors: Shape (n, d), centred, of mean square length 1.
        targets: With `enough` to tell apart.
        seed: Of the sample.
    """
    if len(targets.rows) > _MOST_ROWS:
        sample = np.random.default_rng(seed).choice(len(targets.rows), _MOST_ROWS, replace=False)
        targets = targets.take(np.sort(sample))
    x = vectors[targets.rows]
    classes = targets.there.shape[1]
    weights, bias = np.zeros((x.shape[1], classes)), np.full(classes, -np.inf)
    if targets.several:
        share = targets.there.mean(axis=0)
        bias[share == 1] = np.inf
        for k in np.flatnonzero((share > 0) & (share < 1)):
            model = _regression(x, targets.there[:, k])
            weights[:, k], bias[k] = model.coef_[0], model.intercept_[0]
    else:
        label = targets.there.argmax(axis=1)
        present = np.unique(label)
        if len(present) == 1:
            bias[present] = 0
        else:
            model = _regression(x, label)
            two = len(present) == 2  # then there is one column, for the second class
            weights[:, present[1:] if two else present] = model.coef_.T
            bias[present] = [0, *model.intercept_] if two else model.intercept_
    return Classifier(weights.astype(np.float32), bias.astype(np.float32), targets.several)


def committee(vectors: Vectors, targets: Targets, *, seed: int) -> tuple[list[Classifier], IntArray]:
    """Fit several, each without one fold of the labels.

    Args:
        vectors: As for `fit`.
        targets: The same.
        seed: Of the folds.

    Returns:
        The members, and the fold of each labelled row, which the member of that number has not seen.
    """
    kind = np.unique(targets.there, axis=0, return_inverse=True)[1].reshape(-1)
    folds = assign_folds(kind, np.arange(len(kind)), folds=FOLDS, seed=seed)
    return [fit(vectors, targets.take(folds != k), seed=seed) for k in range(int(folds.max()) + 1)], folds


def _regression(x: Vectors, y: npt.NDArray[np.generic]) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # nearly there is as good
        return LogisticRegression(C=_WEAKNESS, max_iter=_STEPS).fit(x, y)
