"""How good the findings have been so far, how many errors are left among the rest, and when to stop looking.

People's verdicts are the sample. Of each check and kind they give a precision, with Jeffreys' interval (Brown, Cai and DasGupta
2001). For the findings that nobody has decided on, a check's scores are recalibrated by the verdicts: a logistic regression on
the logit of the score (Platt 1999), held by its prior to the scores as they are, so that three verdicts change little and
three hundred much. Its uncertainty goes into every estimate, by draws from Laplace's approximation of the posterior; so does
that each finding is either right or wrong.

All of it speaks of errors that the checks have found something about. What no check suspects, no verdict tells of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from curate.checks.findings import Finding

FloatArray = npt.NDArray[np.float64]

RIGHT: Final = frozenset({"confirmed", "fixed"})
WRONG: Final = frozenset({"rejected"})

_PRIOR_MEAN: Final = np.array([0.0, 1.0])
_PRIOR_DEVIATION: Final = np.array([2.0, 0.5])
_DRAWS: Final = 2000
_LEAST: Final = 1e-4
_NEXT: Final = 10
_LEVEL: Final = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval of 95%."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """What the verdicts say of one check's findings of one kind.

    Attributes:
        check: The check.
        kind: The kind.
        right: Findings that people confirmed or fixed.
        wrong: Findings that people rejected.
        undecided: Findings that nobody has decided on.
        precision: Part of the decided findings that are right; of all such findings, with the interval. None without
            verdicts.
        remaining: Errors among the undecided findings.
        next_ten: Reviews, the most probable first, that find the next ten errors; None where there are not that many left.
        yield_: Part of the next ten reviews that find an error.
    """

    check: str
    kind: str
    right: int
    wrong: int
    undecided: int
    precision: Estimate | None
    remaining: Estimate
    next_ten: Estimate | None
    yield_: Estimate | None

    def stops(self, worth: float) -> bool:
        """Whether going on is not worth it: the next reviews find an error less often than that.

        Args:
            worth: In (0, 1]: 0.1 where one error found is worth ten reviews.
        """
        return self.yield_ is None or self.yield_.value < worth


def audit(findings: Sequence[Finding], *, seed: int = 0) -> list[Audit]:
    """What the verdicts say, by check and kind; those with the most errors left come first.

    Args:
        findings: All of a dataset's.
        seed: Of the draws.
    """
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.check, finding.kind].append(finding)
    rng = np.random.default_rng(seed)
    found = [_audit(check, kind, group, rng) for (check, kind), group in sorted(groups.items())]
    return sorted(found, key=lambda each: -each.remaining.value)


def recalibrated(scores: FloatArray, right: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draws of the recalibration's two coefficients, given verdicts.

    Args:
        scores: Of the decided findings, in [0, 1]; shape (n,).
        right: 1 where they were right, 0 where not; shape (n,).
        rng: Draws.

    Returns:
        float64 array of shape (draws, 2): intercept and slope on the logit of the score.
    """
    x = np.stack([np.ones(len(scores)), _logit(scores)], axis=1)
    precision = 1 / np.square(_PRIOR_DEVIATION)

    def loss(beta: FloatArray) -> tuple[float, FloatArray]:
        z = x @ beta
        away = beta - _PRIOR_MEAN
        value = np.sum(np.logaddexp(0, z) - right * z) + 0.5 * np.sum(precision * away**2)
        return float(value), x.T @ (special.expit(z) - right) + precision * away

    mode = np.asarray(optimize.minimize(loss, _PRIOR_MEAN, jac=True, method="BFGS").x)
    p = special.expit(x @ mode)
    covariance = np.linalg.inv((x * (p * (1 - p))[:, None]).T @ x + np.diag(precision))
    draws: FloatArray = rng.multivariate_normal(mode, covariance, size=_DRAWS, method="cholesky")
    draws[:, 1] = np.maximum(draws[:, 1], 0)  # a check whose higher scores are wrong more often is a coincidence
    return draws


def _audit(check: str, kind: str, findings: Sequence[Finding], rng: np.random.Generator) -> Audit:
    decided = [each for each in findings if each.status in RIGHT | WRONG]
    right = np.array([float(each.status in RIGHT) for each in decided])
    draws = recalibrated(np.array([each.score for each in decided]), right, rng)
    rest = np.sort([each.score for each in findings if each.status not in RIGHT | WRONG])[::-1].astype(np.float64)
    p = special.expit(draws[:, :1] + draws[:, 1:] * _logit(rest)[None])
    hits = np.cumsum(rng.random(p.shape) < p, axis=1, dtype=np.int64)
    remaining = hits[:, -1] if len(rest) else np.zeros(_DRAWS)
    return Audit(
        check,
        kind,
        int(right.sum()),
        int(len(right) - right.sum()),
        len(rest),
        _precision(int(right.sum()), len(right)),
        _estimate(remaining),
        _next_ten(hits),
        _estimate(hits[:, min(_NEXT, len(rest)) - 1] / min(_NEXT, len(rest))) if len(rest) else None,
    )


def _precision(right: int, of: int) -> Estimate | None:
    """Jeffreys' interval; at 0 and at all, its outer end is the bound."""
    if not of:
        return None
    posterior = stats.beta(right + 0.5, of - right + 0.5)
    low, high = posterior.interval(_LEVEL)
    return Estimate(right / of, 0.0 if right == 0 else float(low), 1.0 if right == of else float(high))


def _next_ten(hits: npt.NDArray[np.int64]) -> Estimate | None:
    """Reviews until ten errors are found, over the draws; None if half of them have fewer left."""
    if not hits.shape[1]:
        return None
    enough = hits[:, -1] >= _NEXT
    if enough.mean() < 0.5:
        return None
    needed = np.where(enough, (hits >= _NEXT).argmax(axis=1) + 1, hits.shape[1] + 1)
    low, middle, high = np.quantile(needed, [(1 - _LEVEL) / 2, 0.5, (1 + _LEVEL) / 2])
    return Estimate(float(middle), float(low), float(high))


def _estimate(draws: npt.NDArray[Any]) -> Estimate:
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(float(draws.mean()), float(low), float(high))


def _logit(scores: FloatArray) -> FloatArray:
    return np.asarray(special.logit(np.clip(scores, _LEAST, 1 - _LEAST)))
