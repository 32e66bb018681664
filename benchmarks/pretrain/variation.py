"""Numbers that a category fixes, and numbers that vary from thing to thing."""

from __future__ import annotations

import numpy as np


class Parameters:
    """Draws numbers: each is fixed for the category and varies a little from thing to thing.

    Args:
        category: The same for all things of a category.
        variation: Different for each.
    """

    def __init__(self, category: np.random.Generator, variation: np.random.Generator) -> None:
        self._category = category
        self._variation = variation

    def size(self, low: float, high: float, *, spread: float = 0.12) -> float:
        """A length, log-uniform over categories; things differ from their category's by about `spread`."""
        typical = np.exp(self._category.uniform(np.log(low), np.log(high)))
        return float(typical * np.exp(self._variation.normal(0, spread)))

    def level(self, low: float, high: float, *, spread: float = 0.08) -> float:
        """A number, uniform over categories; things differ by about `spread` times the range."""
        typical = self._category.uniform(low, high)
        return float(typical + self._variation.normal(0, spread * (high - low)))

    def count(self, low: int, high: int) -> int:
        """A whole number from low to high, the same for all things of a category."""
        return int(self._category.integers(low, high + 1))

    def has(self, chance: float) -> bool:
        """Whether a category has something."""
        return bool(self._category.random() < chance)

    def choice(self, options: int, chances: list[float] | None = None) -> int:
        """One of a number of options, the same for all things of a category."""
        return int(self._category.choice(options, p=chances))

    def pose(self, low: float, high: float) -> float:
        """A number that has nothing to do with the category."""
        return float(self._variation.uniform(low, high))
