"""How much likelier an error is than what is at hand, learned from rehearsed errors; and how many errors there are.

Examples of each kind of error stand against what was observed, errors and all. A classifier between them gives density ratios

    r_k(x) = p(x | error of kind k) / p(x | observed)

and with the share of such errors among what was observed, pi_k, the probability of an error is pi_k * r_k(x) by Bayes' rule, with
no need to know which of the observed are right. The share is what the data leave room for: where errors would score above t in
a part s(t) of the cases, no more than (part of the observed above t) / s(t) can be errors (Elkan and Noto, 2008, "Learning
classifiers from only positive and unlabeled data"; Blanchard, Lee and Scott, 2010, "Semi-supervised novelty detection").

Two classifiers vote by the mean of their log-ratios: a logistic regression, which does with few examples, and boosted trees,
which see what belongs together. Every row is judged by classifiers that have seen nothing of its image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from curate.checks.boxes import FloatArray, IntArray

_FOLDS: Final = 3
_FIT_ROWS: Final = 30_000
_FEWEST: Final = 10
"""Examples of an error below which nothing is learned of it."""

_MOST: Final = 0.99
_COMMON: Final = 0.1
"""Share of the labels that are wrong in one way, at most, in sets that people work with."""

_FREE: Final = 0.005
"""Share of ambiguous errors that is believed where there are no others."""

_RIDGE: Final = 1.0
_CLASS_RIDGE: Final = 4.0
_STRETCH: Final = 5.0
_WEIGHT: Final = 0.5
"""What the examples of one kind weigh together, in what was observed."""

_QUANTILES: Final = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_TREES: Final = 25
_LEAVES: Final = 10
_LEARNING_RATE: Final = 0.2
_BINS: Final = 63


@dataclass(frozen=True)
class Examples:
    """Cases of one sort.

    Attributes:
        linear: float64 array of shape (n, a), features of which a weighted sum is taken.
        raw: float64 array of shape (n, b), features that are compared with thresholds.
        group: int64 array of shape (n,), class of each case.
        image: int64 array of shape (n,).
    """

    linear: FloatArray
    raw: FloatArray
    group: IntArray
    image: IntArray

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: IntArray | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Examples:
        """The chosen cases."""
        return Examples(self.linear[rows], self.raw[rows], self.group[rows], self.image[rows])

    @classmethod
    def joined(cls, parts: Sequence[Examples]) -> Examples:
        """All parts in one; there is at least one."""
        columns = zip(*((part.linear, part.raw, part.group, part.image) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class Contrast:
    """What was learned about n observed cases and k kinds of errors.

    Attributes:
        probability: float64 array of shape (n, k), of each kind; a row adds up to less than 1.
        ratio: float64 array of shape (n, k): how many times likelier the case is as that error than as what was observed.
        share: float64 array of shape (k,), the part of the observed that are such errors.
    """

    probability: FloatArray
    ratio: FloatArray
    share: FloatArray


Score = Callable[[Examples], FloatArray]


def contrast(
    observed: Examples,
    errors: Sequence[Examples],
    n_groups: int,
    n_images: int,
    *,
    labels: int | None = None,
    ambiguous: int | None = None,
) -> Contrast:
    """Tell errors from what was observed.

    Args:
        observed: n cases as they are at hand.
        errors: Cases of each kind of error. Of a kind with few nothing is learned: its probability is 0.
        n_groups: Number of classes.
        n_images: Number of images.
        labels: Number of labels, of which more than a tenth are hardly wrong in one way; by default n.
        ambiguous: The kind of error that looks like what detectors do to right labels anyway. Of these there are not many more
            than of the others: who is careless in one way is in others.
    """
    n = len(observed)
    log_ratio = np.full((n, len(errors)), -np.inf)
    share = np.zeros(len(errors))
    fold_of = np.random.default_rng(0).permutation(n_images) % _FOLDS
    usable = np.array([k for k, cases in enumerate(errors) if _enough(cases, fold_of)], dtype=np.int64)
    if len(usable) and _enough(observed, fold_of):
        kinds = [errors[k] for k in usable]
        of_errors = [np.zeros(len(cases)) for cases in kinds]
        for fold in range(_FOLDS):
            score = _learn(_other_folds(observed, fold_of, fold), _each_other(kinds, fold_of, fold), n_groups)
            rows = np.flatnonzero(fold_of[observed.image] == fold)
            log_ratio[np.ix_(rows, usable)] = score(observed.take(rows))
            for j, cases in enumerate(kinds):
                mine = np.flatnonzero(fold_of[cases.image] == fold)
                of_errors[j][mine] = score(cases.take(mine))[:, j]
        limit = _COMMON * (n if labels is None else labels) / n
        for k, own in zip(usable, of_errors, strict=True):
            share[k] = _believed(share_of_errors(log_ratio[:, k], own), limit)
            log_ratio[:, k] = _recalibrated(log_ratio[:, k], own)
        if ambiguous in usable:
            others = [share[k] for k in usable if k != ambiguous]
            share[ambiguous] = _believed(float(share[ambiguous]), _FREE + 2.0 * float(np.mean(others or [0.0])))
    ratio = np.exp(np.minimum(log_ratio, 20.0))
    # What was never seen among n may still be as frequent as 1 in n.
    ratio /= 1.0 + ratio / max(n, 1)
    probability = share * ratio
    total = probability.sum(axis=1, keepdims=True)
    return Contrast(probability * np.minimum(1.0, _MOST / np.maximum(total, _MOST)), ratio, share)


def share_of_errors(observed: FloatArray, errors: FloatArray) -> float:
    """The largest part of what was observed that can be errors, by how both score.

    Args:
        observed: float64 array, scores of what was observed; higher is more like the error.
        errors: float64 array, scores of errors; not empty.

    Returns:
        In (0, 1]. One case more than was observed is allowed for, and a standard error: the smallest of several numbers would
        be too small.
    """
    thresholds = np.quantile(errors, 1.0 - np.array(_QUANTILES))
    above = (observed[:, None] >= thresholds).sum(axis=0)
    # Ties make more of the errors pass than the quantile says.
    passed = np.maximum((errors[:, None] >= thresholds).mean(axis=0), _QUANTILES)
    allowed = (above + 1.0 + np.sqrt(above)) / passed
    return float(min(allowed.min() / max(len(observed), 1), 1.0))


def _believed(bound: float, limit: float) -> float:
    """A share up to a bound: where the bound says little, as errors look like much that is right, no more than a limit."""
    return bound / float(np.hypot(1.0, bound / limit))


def _recalibrated(observed: FloatArray, errors: FloatArray) -> FloatArray:
    """Log-ratios of what was observed, stretched and moved to what cases that were not learned from say (Platt, 1999)."""
    x = np.concatenate([observed, errors])
    y = np.repeat([0.0, 1.0], [len(observed), len(errors)])
    weight = np.where(y > 0, _WEIGHT * len(observed) / len(errors), 1.0)

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        stretch, move = np.exp(theta[0]), theta[1]
        z = stretch * x + move + np.log(_WEIGHT)
        rest = weight * (expit(z) - y)
        value = np.sum(weight * (np.logaddexp(0.0, z) - y * z)) + 0.5 * _STRETCH * theta[0] ** 2
        return float(value), np.array([np.sum(rest * x) * stretch + _STRETCH * theta[0], np.sum(rest)])

    stretch, move = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-1.5, 1.5), (-5, 5)]).x
    return np.asarray(np.exp(stretch) * observed + move)


def _enough(cases: Examples, fold_of: IntArray) -> bool:
    """Whether there is something to learn from in whatever folds are left."""
    per_fold = np.bincount(fold_of[cases.image], minlength=_FOLDS)
    return bool(len(cases) - per_fold.max() >= _FEWEST)


def _other_folds(cases: Examples, fold_of: IntArray, fold: int) -> Examples:
    rows = np.flatnonzero(fold_of[cases.image] != fold)
    if len(rows) > _FIT_ROWS:
        rows = np.sort(np.random.default_rng(fold).choice(rows, _FIT_ROWS, replace=False))
    return cases.take(rows)


def _each_other(kinds: Sequence[Examples], fold_of: IntArray, fold: int) -> list[Examples]:
    return [_other_folds(cases, fold_of, fold) for cases in kinds]


def _learn(observed: Examples, errors: Sequence[Examples], n_groups: int) -> Score:
    """A function from cases to log-ratios, float64 array of shape (n, k)."""
    cases = Examples.joined([observed, *errors])
    counts = [len(observed), *(len(each) for each in errors)]
    y = np.repeat(np.arange(len(counts)), counts)
    # Every kind of error weighs as much, however many cases were rehearsed.
    per_case = np.array([1.0, *(_WEIGHT * len(observed) / len(each) for each in errors)])
    weight = per_case[y]
    parts = [_regression(cases, y, weight, n_groups), _trees(cases, y, weight)]
    return lambda new: np.asarray(np.mean([part(new) for part in parts], axis=0) - np.log(_WEIGHT))


def _regression(cases: Examples, y: IntArray, weight: FloatArray, n_groups: int) -> Score:
    """Multinomial logistic regression with shrunken class effects; the log-odds against what was observed (class 0)."""
    features, kinds = cases.linear.shape[1], int(y.max())
    scale = cases.linear.std(axis=0)
    scale[scale < 1e-9] = 1.0
    # One row for each class: sums over a handful of columns would take most of the time.
    x, rows = np.ascontiguousarray((cases.linear / scale).T), np.arange(len(y))
    logits, split = np.zeros((kinds + 1, len(y))), features * kinds
    # Columns go together, and classes differ in size: without a curvature of about 1 all ways round L-BFGS takes long.
    curvature = 0.25 * (x * weight) @ x.T + _RIDGE * np.eye(features)
    along, directions = np.linalg.eigh(curvature)
    basis = directions / np.sqrt(np.maximum(along, 1e-12 * along[-1]))  # columns that are nearly the same stay harmless
    step = 1.0 / np.sqrt(0.25 * np.bincount(cases.group, weight, minlength=n_groups) + _CLASS_RIDGE)[:, None]

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        w, effects = basis @ theta[:split].reshape(features, kinds), step * theta[split:].reshape(n_groups, kinds)
        np.matmul(w.T, x, out=logits[1:])
        logits[1:] += effects.T[:, cases.group]
        highest = logits.max(axis=0)
        p = np.exp(logits - highest)
        total = p.sum(axis=0)
        value = (weight * (np.log(total) + highest - logits[y, rows])).sum()
        value += 0.5 * _RIDGE * (w**2).sum() + 0.5 * _CLASS_RIDGE * (effects**2).sum()
        p /= total
        p[y, rows] -= 1.0
        rest = p[1:] * weight
        by_group = np.stack([np.bincount(cases.group, row, minlength=n_groups) for row in rest], axis=1)
        gradient = [basis.T @ (x @ rest.T + _RIDGE * w), step * (by_group + _CLASS_RIDGE * effects)]
        return float(value), np.concatenate([part.ravel() for part in gradient])

    start = np.zeros((features + n_groups) * kinds)
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150, "ftol": 1e-7}).x
    w, effects = basis @ theta[:split].reshape(features, kinds), step * theta[split:].reshape(n_groups, kinds)
    w /= scale[:, None]
    return lambda new: np.asarray(new.linear @ w + effects[new.group])


def _trees(cases: Examples, y: IntArray, weight: FloatArray) -> Score:
    """Gradient-boosted trees on the raw features; the log-odds against what was observed (class 0)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=_TREES,
        learning_rate=_LEARNING_RATE,
        max_leaf_nodes=_LEAVES,
        max_bins=_BINS,
        min_samples_leaf=20,
        l2_regularization=5.0,
        early_stopping=False,
        random_state=0,
    ).fit(cases.raw, y, sample_weight=weight)

    def score(new: Examples) -> FloatArray:
        if not len(new):
            return np.zeros((0, int(y.max())))
        log_p = np.log(np.maximum(model.predict_proba(new.raw), 1e-6))
        return np.asarray(log_p[:, 1:] - log_p[:, :1])

    return score
