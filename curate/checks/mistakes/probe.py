"""Out-of-fold class probabilities from embeddings.

Several probes are fitted and pooled: ridge regression to one-hot labels, linear and with a Gaussian kernel (Nystroem
approximation, Williams and Seeger 2001), each on the vectors as they are and on power-normalised columns (standardised, then
their signed square root, Perronnin et al. 2010), and a vote of the nearest neighbours. Which of them is good depends on the
encoder and the data; the pool (a product of experts, Hinton 2002: softmax of a weighted sum of their scores) finds out, its
weights and each probe's regularisation being those under which the out-of-fold labels are most likely.

Ridge regression needs one pass over the data for all folds: a fold's solution comes from the sum of the Gram matrices of the
others, so that k folds cost hardly more than one fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Scores = Callable[[Integers], Floats]
"""Rows (m,) to out-of-fold class scores (m, K)."""

_LANDMARKS: Final = (1024, 2048)  # at least and at most; in between a quarter of the rows
_TRAINING_ROWS: Final = 100_000  # more of them make the probes hardly better, only slower
_TUNING_SCORES: Final = 1_000_000  # rows x classes on which regularisation and pool weights are chosen
_TUNING_ROWS: Final = 20_000
_TUNING_FOLDS: Final = 3  # regularisation is chosen on these; it hardly differs between folds
_BLOCK: Final = 4096
_EXTRA_SHARE: Final = 0.5  # variance of the extra columns beside that of the vectors
_LINEAR_RIDGES: Final = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_KERNEL_RIDGES: Final = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_BIAS_PENALTY: Final = 1e-4


@dataclass(frozen=True)
class Probe:
    """Pooled out-of-fold probabilities, computed on demand so that n x K of them need never be in memory.

    Attributes:
        experts: Out-of-fold scores of each pooled expert.
        weights: Their weights, shape (len(experts),).
        bias: Added to the weighted sum, shape (K,).
    """

    experts: Sequence[Scores]
    weights: Floats
    bias: Floats

    def probabilities(self, rows: Integers) -> Floats:
        """Out-of-fold class probabilities of some rows, shape (len(rows), K); rows sum to 1."""
        logits = np.tile(self.bias, (len(rows), 1))
        for weight, expert in zip(self.weights, self.experts, strict=True):
            if weight > 0:
                logits += weight * expert(rows)
        return _softmax(logits)


def fit_probe(
    vectors: Floats,
    labels: Integers,
    classes: int,
    folds: Integers,
    *,
    extra: Floats | None = None,
    others: Sequence[Scores] = (),
    seed: int = 0,
) -> Probe:
    """Fit the probes and pool them.

    Args:
        vectors: Embeddings, finite float array of shape (n, d).
        labels: Integers in [0, classes), shape (n,); every class occurs.
        classes: K, at least 2.
        folds: Fold of each row, shape (n,), numbers from 0, at least two of them (`assign_folds`).
        extra: More columns, finite, shape (n, e): things an embedding does not show, such as the size of a box.
        others: Further experts to pool (`neighbor_scores`).
        seed: Chooses landmarks and, in large sets, the rows to learn from.
    """
    rng = np.random.default_rng(seed)
    n = len(labels)
    training = np.sort(rng.choice(n, _TRAINING_ROWS, replace=False)) if n > _TRAINING_ROWS else np.arange(n)
    size = min(len(training), _TUNING_ROWS, max(2000, _TUNING_SCORES // classes))
    tuning = np.sort(rng.choice(training, size, replace=False))
    count = min(len(training), int(np.clip(len(training) // 4, *_LANDMARKS)))
    landmarks = rng.choice(training, count, replace=False)
    experts = list(others)
    for normalise in (False, True):
        columns = _Columns.of(vectors, extra, training, normalise=normalise)
        kernel = _GaussianKernel.of(columns, columns(landmarks))
        for features, ridges in ((columns, _LINEAR_RIDGES), (kernel, _KERNEL_RIDGES)):
            experts.append(_fit_ridge(features, labels, classes, folds, training, tuning, ridges))
    weights, bias = _fit_pool([expert(tuning) for expert in experts], labels[tuning])
    return Probe(experts, weights, bias)


def assign_folds(labels: Integers, groups: Integers, *, folds: int = 10, seed: int = 0) -> npt.NDArray[np.int64]:
    """Deal whole groups out to folds so that each fold gets its share of every class.

    Args:
        labels: Class of each row, shape (n,).
        groups: Rows of one group go to one fold, shape (n,).
        folds: How many; fewer if there are fewer groups.
        seed: Chooses among the groups of a class.

    Returns:
        Fold of each row, shape (n,).
    """
    numbers, group = np.unique(groups, return_inverse=True)
    count = len(numbers)
    # A group stands for the rarest class it holds, so that rare classes spread first.
    frequency = np.bincount(labels, minlength=int(labels.max(initial=0)) + 1)
    order = np.lexsort((labels, frequency[labels], group))
    first = order[np.searchsorted(group[order], np.arange(count))]
    shuffled = np.random.default_rng(seed).permutation(count)
    size = np.bincount(group, minlength=count)
    deal = np.lexsort((shuffled, -size, labels[first]))
    fold_of_group = np.empty(count, dtype=np.int64)
    fold_of_group[deal] = np.arange(count) % max(1, min(folds, count))
    return fold_of_group[group]


def neighbor_scores(indices: Integers, labels: Integers, groups: Integers, classes: int) -> Scores:
    """An expert from the labels of nearest neighbours: log of their smoothed shares.

    Args:
        indices: Neighbours of each row, shape (n, k), -1 for none.
        labels: Class of each row, shape (n,).
        groups: Neighbours of a row's own group (its near-duplicates) have no vote, shape (n,).
        classes: K.
    """

    def scores(rows: Integers) -> Floats:
        near = indices[rows]
        voting = (near >= 0) & (groups[near] != groups[rows][:, None])
        cells = np.arange(len(rows))[:, None] * classes + labels[near]
        votes = np.bincount(cells[voting], minlength=len(rows) * classes).reshape(len(rows), classes)
        shares: Floats = ((votes + 1) / (votes.sum(axis=1, keepdims=True) + classes)).astype(np.float32)
        return np.log(shares)

    return scores


@dataclass(frozen=True)
class _Columns:
    """Centred, scaled columns of the vectors and the extra columns, for some rows; power-normalised if asked for."""

    vectors: Floats
    extra: Floats | None
    mean: Floats
    scale: Floats
    extra_mean: Floats
    extra_scale: Floats
    normalise: bool

    @classmethod
    def of(cls, vectors: Floats, extra: Floats | None, training: Integers, *, normalise: bool) -> _Columns:
        mean, deviation = _moments(vectors, training)
        varies = deviation > 1e-6 * max(1e-30, float(np.abs(mean).max(initial=0)), float(deviation.max(initial=0)))
        # Where columns are not standardised, one factor for all: kernels and ridges then see a total variance of d either way.
        spread = deviation if normalise else np.sqrt((deviation**2).mean())
        scale = np.where(varies, 1 / np.where(varies, spread, 1), 0).astype(np.float32)
        if extra is None or extra.shape[1] == 0:
            return cls(vectors, None, mean, scale, mean[:0], scale[:0], normalise)
        extra_mean, extra_deviation = _moments(extra, training)
        share = np.sqrt(_EXTRA_SHARE * max(1, int(varies.sum())) / extra.shape[1])
        varies = extra_deviation > 1e-6 * max(1e-30, float(np.abs(extra_mean).max()))
        extra_scale = np.where(varies, share / np.where(varies, extra_deviation, 1), 0).astype(np.float32)
        return cls(vectors, extra, mean, scale, extra_mean, extra_scale, normalise)

    def __call__(self, rows: Integers) -> Floats:
        columns = (np.asarray(self.vectors[rows], dtype=np.float32) - self.mean) * self.scale
        if self.normalise:
            columns = np.copysign(np.sqrt(np.abs(columns)), columns)
        if self.extra is None:
            return columns
        more = (np.asarray(self.extra[rows], dtype=np.float32) - self.extra_mean) * self.extra_scale
        return np.concatenate([columns, more], axis=1)


@dataclass(frozen=True)
class _GaussianKernel:
    """exp(-squared distance / its usual value) to each landmark."""

    columns: _Columns
    landmarks: Floats
    norms: Floats
    usual: float

    @classmethod
    def of(cls, columns: _Columns, landmarks: Floats) -> _GaussianKernel:
        norms = np.einsum("md,md->m", landmarks, landmarks)
        few = landmarks[:256]
        distances = norms[:256, None] + norms - 2 * few @ landmarks.T
        return cls(columns, landmarks, norms, max(float(np.median(distances)), 1e-12))

    def __call__(self, rows: Integers) -> Floats:
        points = self.columns(rows)
        distances: Floats = points @ self.landmarks.T
        distances *= -2
        distances += np.einsum("nd,nd->n", points, points)[:, None]
        distances += self.norms
        np.maximum(distances, 0, out=distances)
        distances *= np.float32(-1 / self.usual)
        np.exp(distances, out=distances)
        return distances


def _fit_ridge(
    features: Callable[[Integers], Floats],
    labels: Integers,
    classes: int,
    folds: Integers,
    training: Integers,
    tuning: Integers,
    ridges: Sequence[float],
) -> Scores:
    """Ridge regression to centred one-hot labels, each fold predicted from the others."""
    count = int(folds.max()) + 1
    sample = features(tuning)
    mean = sample.mean(axis=0)
    sample -= mean
    share = np.bincount(labels[training], minlength=classes) / len(training)
    grams, targets = _fold_sums(features, mean, labels, share, folds, training, count)
    total_gram, total_target = grams.sum(axis=0, dtype=np.float64), targets.sum(axis=0, dtype=np.float64)
    level = max(float(np.trace(total_gram)) / len(total_gram), 1e-12)

    def solve(ridge: float, some: int) -> Floats:
        weights = np.empty((some, *targets.shape[1:]), dtype=np.float32)
        for fold in range(some):
            gram = total_gram - grams[fold]
            gram[np.diag_indices_from(gram)] += ridge * level
            factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
            weights[fold] = cho_solve(factor, total_target - targets[fold], check_finite=False)
        return weights

    some = min(count, _TUNING_FOLDS)
    trial = folds[tuning] < some
    sample, answers, trial_folds = sample[trial], labels[tuning[trial]], folds[tuning[trial]]

    def loss(ridge: float) -> float:
        return _pool_loss([_apply(sample, solve(ridge, some), trial_folds)], answers)

    weights = solve(min(ridges, key=loss), count)

    def scores(rows: Integers) -> Floats:
        found = np.empty((len(rows), classes), dtype=np.float32)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            found[start : start + _BLOCK] = _apply(features(block) - mean, weights, folds[block])
        return found

    return scores


def _fold_sums(
    features: Callable[[Integers], Floats],
    mean: Floats,
    labels: Integers,
    share: Doubles,
    folds: Integers,
    training: Integers,
    count: int,
) -> tuple[Floats, Floats]:
    """Per fold, the Gram matrix (count, m, m) and the product with the targets (count, m, K), in one pass."""
    width, classes = len(mean), len(share)
    grams = np.zeros((count, width, width), dtype=np.float32)
    targets = np.zeros((count, width, classes), dtype=np.float32)
    for fold in range(count):
        members = training[folds[training] == fold]
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            x = features(block) - mean
            y = np.zeros((len(block), classes), dtype=np.float32)
            y[np.arange(len(block)), labels[block]] = 1
            grams[fold] += x.T @ x
            targets[fold] += x.T @ (y - share.astype(np.float32))
    return grams, targets


def _apply(x: Floats, weights: Floats, folds: Integers) -> Floats:
    """Scores (n, K) of features (n, m) under the weights (count, m, K) of each row's own fold."""
    found = np.empty((len(x), weights.shape[2]), dtype=np.float32)
    for fold in range(len(weights)):
        members = folds == fold
        found[members] = x[members] @ weights[fold]
    return found


def _fit_pool(scores: Sequence[Floats], labels: Integers) -> tuple[Floats, Floats]:
    """Weights and bias under which the labels are most likely."""
    found = _minimise_pool(scores, labels)
    return found.x[: len(scores)].astype(np.float32), found.x[len(scores) :].astype(np.float32)


def _pool_loss(scores: Sequence[Floats], labels: Integers) -> float:
    return float(_minimise_pool(scores, labels).fun)


def _minimise_pool(scores: Sequence[Floats], labels: Integers) -> Any:
    n, classes = scores[0].shape
    count = len(scores)
    rows = np.arange(n)

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        logits = np.tile(parameters[count:].astype(np.float32), (n, 1))
        for weight, expert in zip(parameters[:count].astype(np.float32), scores, strict=True):
            logits += weight * expert
        q = _softmax(logits)
        value = -np.log(np.maximum(q[rows, labels], 1e-30)).mean(dtype=np.float64)
        q[rows, labels] -= 1
        slopes = [np.einsum("nk,nk->", q, expert, dtype=np.float64) / n for expert in scores]
        bias = parameters[count:]
        return value + _BIAS_PENALTY * (bias**2).sum(), np.r_[slopes, q.mean(axis=0) + 2 * _BIAS_PENALTY * bias]

    start = np.r_[np.full(count, 5.0 / count), np.zeros(classes)]
    bounds = [(0.0, 200.0)] * count + [(-20.0, 20.0)] * classes
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100})


def _softmax(logits: Floats) -> Floats:
    """Softmax along rows, in place."""
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _moments(values: Floats, rows: Integers) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column over (a large sample of) some rows."""
    sample = np.asarray(values[rows[:: max(1, len(rows) // 20_000)]], dtype=np.float64)
    return sample.mean(axis=0).astype(np.float32), sample.std(axis=0).astype(np.float32)
