"""Numbers that tell how thumbnails look: levels, contrasts, colours, and the fall of the light.

Many say the same of different parts of a picture: how they vary together from picture to picture tells what content does to
them, so that the fit (`curate.augment.fit.moments`) can weigh what content does not do. Levels are octaves of stored values.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.recipes.light import CELLS, fall_of_light

FloatArray = npt.NDArray[np.floating[Any]]

_FLOOR: Final = 0.02
_QUANTILES: Final = (0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 0.99)
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
# The cell that is near the maximum, by its place from the top.
_BRIGHTEST: Final = 4


def looks(small: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """How n thumbnails look.

    Args:
        small: RGB in [0, 1], float32 of shape (n, k, k, 3), k a multiple of 16.

    Returns:
        Array of shape (n, d): quantiles of luma and the mean; the highest of the channels' near-maxima; the spread of luma, of
        colour and of steps; red and blue over green five ways (mean, median ratio, strong light, steps, near-maxima); slopes
        and bowl of the light.
    """
    n = len(small)
    luma = small @ _LUMA
    flat = np.sort(luma.reshape(n, -1), axis=1)
    octaves = np.log2(luma + _FLOOR)
    ranks = [round(share * (flat.shape[1] - 1)) for share in _QUANTILES]
    levels = np.log2(flat[:, ranks] + _FLOOR)
    mean = np.log2(flat.mean(axis=1) + _FLOOR)
    steps = np.abs(np.diff(octaves, axis=2)).mean(axis=(1, 2)) + np.abs(np.diff(octaves, axis=1)).mean(axis=(1, 2))
    colors, whitest, chroma = _colors(small)
    spread = np.stack([flat.std(axis=1), octaves.std(axis=(1, 2)), steps, chroma], axis=1)
    columns = [levels, mean[:, None], whitest[:, None], np.log2(spread + 0.01), colors, fall_of_light(octaves)]
    return np.concatenate(columns, axis=1).astype(np.float64)


def _colors(small: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Red and blue over green, shape (n, 10); the near-maximum of the brightest channel; the spread of colour.

    Of cells that are larger than the blocks of a JPEG's colours, which it smooths and rounds.
    """
    n = len(small)
    cell = small.shape[1] // CELLS
    small = small.reshape(n, CELLS, cell, CELLS, cell, 3).mean(axis=(2, 4))
    planes = np.moveaxis(small, 3, 1).reshape(n, 3, -1)
    logs = np.log2(planes + _FLOOR)
    near = np.partition(planes, -_BRIGHTEST, axis=2)[:, :, -_BRIGHTEST]
    fourth = np.square(np.square(planes)).mean(axis=2) ** 0.25
    across = np.abs(np.diff(small, axis=2)).mean(axis=(1, 2)) + np.abs(np.diff(small, axis=1)).mean(axis=(1, 2))
    ratios = logs[:, [0, 2]] - logs[:, [1]]
    guesses = [
        np.log2(planes.mean(axis=2) + _FLOOR),
        np.log2(fourth + _FLOOR),
        np.log2(across + 0.002),
        np.log2(near + _FLOOR),
    ]
    middle = np.partition(ratios, ratios.shape[2] // 2, axis=2)[:, :, ratios.shape[2] // 2]
    columns = [middle, *(guess[:, [0, 2]] - guess[:, [1]] for guess in guesses)]
    return np.concatenate(columns, axis=1), guesses[3].max(axis=1), ratios.std(axis=2).mean(axis=1)
