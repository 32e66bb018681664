"""A mixture of Gaussians that share one covariance, fitted to weighted points, and how many of them there are.

Sharing the covariance is what makes this find set-ups of lamps: how the axes spread within a set-up (other contents, other
places) is learnt from all of them, and set-ups are told apart in units of that spread, as in linear discriminant analysis.
Points weigh what they are worth, so that a burst counts once. How many components there are is chosen by the integrated
completed likelihood (Biernacki, Celeux and Govaert 2000), which asks for clusters rather than for a good density; what is not
clearly apart is joined again, so that a continuum is not cut into pieces that nobody can name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.cluster import KMeans

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]

_RIDGE: Final = 1e-3
_ITERATIONS: Final = 200
_TOLERANCE: Final = 1e-5
_STARTS: Final = 6
# Distance of two means, in standard deviations along their line, at which one in twenty points is misplaced between them.
APART: Final = 3.3
_FEWEST: Final = 8.0


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture.

    Attributes:
        means: Shape (k, d).
        shares: Weight of each component, shape (k,).
        covariance: Of all, shape (d, d).
        log_likelihood: Of the weighted points.
    """

    means: FloatArray
    shares: FloatArray
    covariance: FloatArray
    log_likelihood: float

    def responsibilities(self, points: FloatArray) -> FloatArray:
        """Probability of each component, shape (n, k)."""
        joint = _log_joint(points, self.means, self.shares, self.covariance)
        return np.asarray(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))


def fit_mixture(points: FloatArray, weights: FloatArray, components: int, *, seed: int = 0) -> Mixture:
    """Fit by expectation maximisation, the best of several starts.

    Args:
        points: Shape (n, d), about standardised.
        weights: Positive, shape (n,).
        components: How many.
        seed: Of the starts.
    """
    fits = []
    for start in range(_STARTS if components > 1 else 1):
        found = KMeans(components, n_init=1, random_state=seed + start).fit(points, sample_weight=weights)
        fits.append(_maximise(points, weights, np.eye(components)[found.labels_]))
    return max(fits, key=lambda fit: fit.log_likelihood)


def find_clusters(points: FloatArray, weights: FloatArray, *, most: int = 12, seed: int = 0) -> IntArray:
    """How many clusters there are, and which each point is in; int64 array of shape (n,), 0 for the largest."""
    total = float(weights.sum())
    best, lowest = np.zeros(len(points), np.int64), np.inf
    worse = 0
    for components in range(1, min(most, int(total / _FEWEST), len(np.unique(points, axis=0))) + 1):
        mixture = fit_mixture(points, weights, components, seed=seed)
        share = mixture.responsibilities(points)
        criterion = _completed_likelihood(mixture, share, weights)
        worse = 0 if criterion < lowest else worse + 1
        if criterion < lowest:
            best, lowest = share.argmax(axis=1), criterion
        if worse == 3:
            break
    return by_size(join_close(points, weights, best), weights)


def join_close(points: FloatArray, weights: FloatArray, labels: IntArray) -> IntArray:
    """Join clusters until each pair is apart: along the line that tells them best, one point in twenty is misplaced."""
    labels = labels.copy()
    while True:
        present = np.unique(labels)
        pairs = [(a, b) for k, a in enumerate(present) for b in present[k + 1 :]]
        if not pairs:
            return labels
        distances = [_distance(points, weights, labels == a, labels == b) for a, b in pairs]
        nearest = int(np.argmin(distances))
        if distances[nearest] >= APART:
            return labels
        labels[labels == pairs[nearest][1]] = pairs[nearest][0]


def by_size(labels: IntArray, weights: FloatArray) -> IntArray:
    """Labels renumbered from the heaviest; those below 0 stay."""
    present, inverse = np.unique(labels, return_inverse=True)
    mass = np.where(present < 0, np.inf, np.bincount(inverse, weights=weights))
    rank = np.empty(len(present), np.int64)
    rank[np.argsort(-mass, kind="stable")] = np.arange(len(present)) - np.count_nonzero(present < 0)
    return rank[inverse]


def _maximise(points: FloatArray, weights: FloatArray, share: FloatArray) -> Mixture:
    """Expectation maximisation from given responsibilities of shape (n, k)."""
    total, before = weights.sum(), -np.inf
    ridge = _RIDGE * np.eye(points.shape[1])
    for _ in range(_ITERATIONS):
        mass = share * weights[:, None]
        sizes = np.maximum(mass.sum(axis=0), 1e-9)
        means = mass.T @ points / sizes[:, None]
        covariance = (points * weights[:, None]).T @ points - (means * sizes[:, None]).T @ means
        covariance = covariance / total + ridge
        shares = sizes / total
        joint = _log_joint(points, means, shares, covariance)
        norm = logsumexp(joint, axis=1, keepdims=True)
        likelihood = float(weights @ norm[:, 0])
        if likelihood - before < _TOLERANCE * total:
            break
        share, before = np.exp(joint - norm), likelihood
    return Mixture(means, shares, covariance, likelihood)


def _log_joint(points: FloatArray, means: FloatArray, shares: FloatArray, covariance: FloatArray) -> FloatArray:
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, points.T).T
    centres = np.linalg.solve(factor, means.T).T
    square = np.square(white).sum(axis=1)[:, None] - 2 * white @ centres.T + np.square(centres).sum(axis=1)
    constant = points.shape[1] * np.log(2 * np.pi) + 2 * np.log(np.diag(factor)).sum()
    return np.asarray(np.log(np.maximum(shares, 1e-300)) - 0.5 * (square + constant))


def _completed_likelihood(mixture: Mixture, share: FloatArray, weights: FloatArray) -> float:
    """Integrated completed likelihood, as a cost."""
    components, dimensions = mixture.means.shape
    free = components - 1 + components * dimensions + dimensions * (dimensions + 1) / 2
    doubt = -float(weights @ (share * np.log(np.maximum(share, 1e-300))).sum(axis=1))
    return -2 * mixture.log_likelihood + float(free * np.log(weights.sum())) + 2 * doubt


def _distance(
    points: FloatArray, weights: FloatArray, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> float:
    """Distance of two clusters along their discriminant, in standard deviations."""
    means, scatter = [], _RIDGE * 10 * np.eye(points.shape[1])
    total = float(weights[first].sum() + weights[second].sum())
    for rows in (first, second):
        mean = np.average(points[rows], axis=0, weights=weights[rows])
        off = points[rows] - mean
        scatter = scatter + (off * weights[rows, None]).T @ off / total
        means.append(mean)
    between = means[0] - means[1]
    return float(np.sqrt(between @ np.linalg.solve(scatter, between)))
