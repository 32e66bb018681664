"""What images are scored by: a value each, and why in words. Values are arrays; words are made only for what is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Scores of n images.

    Attributes:
        values: Higher is more worth a label, NaN where nothing is known; float64 of shape (n,).
        why: Says in words why a row has its score.
        source: What says so.
    """

    values: FloatArray
    why: Callable[[int], str]
    source: str


def wavering(p: npt.NDArray[np.floating], classes: Sequence[str], *, several: bool = False) -> str:
    """The classes that a model wavers between, in words.

    Args:
        p: Probabilities of one image, shape (K,).
        classes: Their names.
        several: Whether each class is there or not for itself; the most doubtful are named then.
    """
    order = np.argsort(np.abs(p - 0.5) if several else -p, kind="stable")[:2]
    return f"{', ' if several else ' or '}".join(f"'{classes[k]}' {p[k]:.2f}" for k in order)


def by_image(image: IntArray, n: int) -> Callable[[int], IntArray]:
    """What is on one image, at once for any of n: a function from its row to places in `image`, shape (m,)."""
    order = np.argsort(image, kind="stable")
    first = np.searchsorted(image[order], np.arange(n + 1))
    return lambda row: order[first[row] : first[row + 1]]
