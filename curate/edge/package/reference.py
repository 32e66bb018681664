"""What training images look like, for the device to measure drift against: see `curate.runner.Reference`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.models.passes import Progress
from curate.runner import FEATURES, PackageError, Reference, Runner, features, load_image

FloatArray = npt.NDArray[np.float64]

FEWEST: Final = 40
"""Of fewer images nothing is summed up: a covariance of 17 numbers would be made up."""

_FOLDS: Final = 5
_LOG: Final = frozenset({"red_gain", "blue_gain", "sharpness", "steps_across", "steps_down", "noise"})
# What no camera keeps still: without it a number that never moved in training would make every image a drifted one.
_LEAST_SPREAD: Final = np.array([0.05 if name in _LOG else 0.01 for name in FEATURES])


def measure(runner: Runner, paths: Sequence[str], progress: Progress | None = None) -> FloatArray:
    """`features` of images as the device will see them; shape (k, d). Images that cannot be read are left out."""
    found = []
    for done, path in enumerate(paths, start=1):
        try:
            pixels = load_image(path)
        except PackageError:
            continue
        found.append(features(pixels, runner.run([pixels])[0]))
        if progress is not None:
            progress(done, len(paths))
    return np.array(found, np.float64).reshape(-1, len(FEATURES))


def make_reference(values: FloatArray, seed: int = 0, uncertainties: FloatArray | None = None) -> Reference:
    """Sum up features of n training images, shape (n, d), and how unsure the model is of m images that it has not learnt from.

    Distances are of images that had no part in the mean and covariance that they are measured by (five folds): those of the
    images themselves would be too small, and every new image would look drifted. In the same way a model is surer of what it has
    learnt than of anything new, so uncertainties, shape (m,), are of other images; fewer than `FEWEST` are not kept.
    """
    fold = np.random.default_rng(seed).permutation(len(values)) % _FOLDS
    apart = np.zeros(len(values))
    for number in range(_FOLDS):
        mean, precision = _fit(values[fold != number])
        held = fold == number
        apart[held] = Reference(mean, precision, apart).distance(values[held])
    kept = None if uncertainties is None or len(uncertainties) < FEWEST else np.sort(uncertainties)
    return Reference(*_fit(values), np.sort(apart), kept)


def write_reference(path: Path, reference: Reference) -> None:
    """Write `reference.npz`: arrays alone, nothing pickled."""
    arrays: dict[str, Any] = {name: value for name, value in vars(reference).items() if value is not None}
    np.savez(path, names=np.array(FEATURES), **arrays)


def _fit(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean, and inverse of the covariance as Ledoit and Wolf (2004) shrink it, of values brought to one scale first."""
    from sklearn.covariance import LedoitWolf

    mean = values.mean(axis=0)
    spread = np.maximum(values.std(axis=0), _LEAST_SPREAD)
    shrunk = LedoitWolf(assume_centered=True).fit((values - mean) / spread)
    floor = np.diag(np.maximum(_LEAST_SPREAD / spread, 0) ** 2)
    return mean, np.linalg.inv(shrunk.covariance_ + floor) / np.outer(spread, spread)
