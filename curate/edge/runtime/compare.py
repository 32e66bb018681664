"""Which of two is better, by a test that may be looked at after every pair and stopped at any.

Each pair is one image on which both were measured, and its difference lies in [-1, 1]. A gambler who starts with 1 and bets on
"the mean is above m" at fair odds cannot expect to win where it is not; by Ville's inequality he reaches 1/a with a probability
of at most a, whenever one looks. Wealth is the mean over many fixed bets, so nothing is tuned. Means that the gamblers on both
sides have not ruled out form the interval. Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
2024.

What this asks of the pairs: that each is a fresh draw. Frames of one video are not, since the next frame shows the same thing;
whoever has several of a kind gives their mean as one pair.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError

FloatArray = npt.NDArray[np.float64]

_BETS: Final = np.concatenate([np.geomspace(0.01, 0.9, 20), [0.97]])
_MEANS: Final = 401


class Comparison:
    """Pairs so far, and what they prove.

    Args:
        alpha: Probability, at most, of calling one better where they are alike, however often one looks.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        if not 0 < alpha < 1:
            raise UsageError(f"{alpha:g} is no probability of error", where="--alpha", remedy="such as 0.05")
        self.alpha, self.count, self._sum = alpha, 0, 0.0
        self._means = np.linspace(-1, 1, _MEANS)[1:-1]
        self._above = np.zeros((len(self._means), len(_BETS)))  # logarithms of wealth, by mean and bet
        self._below = np.zeros_like(self._above)
        self._alive = np.ones(len(self._means), np.bool_)

    def add(self, difference: float) -> None:
        """One more pair: by how much the first was better, in [-1, 1].

        Raises:
            UsageError: It lies outside.
        """
        if not -1 <= difference <= 1:
            raise UsageError(f"a difference of {difference:g} is not in [-1, 1]", where="comparison")
        self.count += 1
        self._sum += difference
        off = (difference - self._means)[:, None]
        self._above += np.log1p(_BETS * off / (1 + self._means)[:, None])
        self._below += np.log1p(-_BETS * off / (1 - self._means)[:, None])
        limit = np.log(2 / self.alpha)
        self._alive &= (_wealth(self._above) < limit) & (_wealth(self._below) < limit)

    @property
    def mean(self) -> float | None:
        """Of the differences; None without pairs."""
        return self._sum / self.count if self.count else None

    @property
    def interval(self) -> tuple[float, float]:
        """What the mean may be, at all times together with a probability of 1 - alpha; to the next 0.005."""
        left = self._means[self._alive]
        step = 2 / (_MEANS - 1)
        return (float(left[0] - step), float(left[-1] + step)) if len(left) else (-1.0, 1.0)

    @property
    def better(self) -> Literal["first", "second"] | None:
        """Which one is, if that is proven: no mean on the other side, nor 0, is left."""
        if self._alive[len(self._means) // 2] or not self._alive.any():
            return None
        return "first" if self._means[self._alive][0] > 0 else "second"

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        low, high = self.interval
        mean = self.mean
        return {
            "pairs": self.count,
            "mean_difference": None if mean is None else round(mean, 6),
            "interval": [round(low, 4), round(high, 4)],
            "alpha": self.alpha,
            "better": self.better,
        }


def _wealth(logs: FloatArray) -> FloatArray:
    """Logarithm of the mean over bets; shape (means, bets) to (means,)."""
    top = logs.max(axis=1)
    return np.asarray(top + np.log(np.exp(logs - top[:, None]).mean(axis=1)))
