"""How unsure class probabilities are, and how much several say different things.

Each measure is in [0, 1] and takes probabilities of shape (m, K), rows summing to 1. With several objects on an image, the
image's uncertainty is the sum of its objects': a budget counts images, and an image with three doubtful objects answers three
questions (of sum, mean and maximum, the sum did best in Brust, Kaeding and Denzler, *Active Learning for Deep Object
Detection*, 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Measure = Literal["uncertainty", "margin", "entropy"]


def least_confidence(p: Floats) -> FloatArray:
    """1 where all classes are equally probable, 0 where one is certain (Lewis and Gale 1994)."""
    classes = p.shape[1]
    return np.asarray((1 - p.max(axis=1)) * (classes / max(classes - 1, 1)), dtype=np.float64)


def margin(p: Floats) -> FloatArray:
    """1 less the difference between the two most probable classes (Scheffer, Decomain and Wrobel 2001)."""
    if p.shape[1] < 2:
        return np.zeros(len(p))
    second, first = np.partition(p, -2, axis=1)[:, -2:].T
    return np.asarray(1 - (first - second), dtype=np.float64)


def entropy(p: Floats) -> FloatArray:
    """Shannon entropy, as a part of the largest that K classes can have."""
    return np.asarray(_entropy(p) / np.log(max(p.shape[1], 2)), dtype=np.float64)


MEASURES: Final[Mapping[Measure, Callable[[Floats], FloatArray]]] = {
    "uncertainty": least_confidence,
    "margin": margin,
    "entropy": entropy,
}


def disagreement(members: Sequence[Floats]) -> FloatArray:
    """How much a committee disagrees, beyond how unsure each member is.

    Entropy of their mean less the mean of their entropies (BALD, Houlsby et al. 2011; the Jensen-Shannon divergence), as a
    part of the largest that it can be.

    Args:
        members: Probabilities (m, K) of each of at least two members.
    """
    together = _entropy(np.mean(members, axis=0)) - np.mean([_entropy(p) for p in members], axis=0)
    most = np.log(max(2, min(len(members), members[0].shape[1])))
    return np.asarray(np.clip(together / most, 0, 1), dtype=np.float64)


def binary(p: Floats) -> Floats:
    """Probabilities of a thing as distributions over 'no' and 'yes'; shape (m, 2) from (m,)."""
    return np.stack([1 - p, p], axis=1)


def per_image(values: FloatArray, image: IntArray, n: int) -> FloatArray:
    """Sum of the values of each of n images' objects, float64 of shape (n,)."""
    return np.bincount(image, weights=values, minlength=n).astype(np.float64)


def _entropy(p: Floats) -> FloatArray:
    safe = np.maximum(p, np.finfo(np.float32).tiny)
    return np.asarray(-(p * np.log(safe)).sum(axis=1), dtype=np.float64)
