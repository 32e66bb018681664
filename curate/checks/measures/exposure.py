"""Exposure from histograms: how bright, how clipped, how contrasty, how many grey levels.

Luminance here is luma as stored (ITU-R BT.601, gamma-encoded, in [0, 1]), not linear light: clipping happens in stored
values, equal steps of it look about equal to people, and it is what models are fed.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

FloatArray = npt.NDArray[np.float64]

PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
"""Of luminance, in the columns `luminance_p01` and so on."""

_LEVELS: Final = 256
# JPEG spreads a clipped area over a few levels.
_DARK: Final = 5
_BRIGHT: Final = 250
# Levels on each side among which a level should be about as frequent as its neighbours.
_REACH: Final = 8


def histogram(plane: Pixels, channel: int = 0) -> npt.NDArray[np.float32]:
    """How many pixels have each of 256 values; float32 array of shape (256,)."""
    return np.asarray(cv2.calcHist([plane], [channel], None, [_LEVELS], [0, _LEVELS]), dtype=np.float32).ravel()


def exposure(counts: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
    """Columns of exposure from histograms of luminance.

    Args:
        counts: Array of shape (n, 256).

    Returns:
        Arrays of shape (n,) by name; luminance in [0, 1], entropy in bits.
    """
    share = counts.astype(np.float64) / counts.sum(axis=1, keepdims=True)
    values = np.arange(_LEVELS) / (_LEVELS - 1)
    mean = share @ values
    below = share.cumsum(axis=1)
    columns = {"brightness": mean}
    for percentile in PERCENTILES:
        # The first level below which lies that share of the pixels; a hair less, for sums of fractions are not exact.
        columns[f"luminance_p{percentile:02d}"] = values[(below >= percentile / 100 - 1e-9).argmax(axis=1)]
    columns["clipped_dark"] = below[:, _DARK]
    columns["clipped_bright"] = share[:, _BRIGHT:].sum(axis=1)
    columns["contrast"] = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
    columns["entropy"] = -(share * np.log2(np.maximum(share, 1e-12))).sum(axis=1)
    return columns


def banding(counts: npt.NDArray[np.float32]) -> FloatArray:
    """How much of a channel's tonal range is missing between levels that occur, as posterising leaves it.

    Every level is compared with the mean of its neighbourhood: smooth histograms give nearly 0, one with 32 equally spaced
    levels 7/8. All levels between the 1st and 99th percentile count the same, so that one spike (padding, a white ground)
    changes little. Clipped levels are left out.

    Args:
        counts: Histograms of one channel, array of shape (n, 256).

    Returns:
        Array of shape (n,), in [0, 1); 0 where fewer than 16 levels are spanned.
    """
    inner = counts.astype(np.float64).copy()
    inner[:, : _DARK + 1] = inner[:, _BRIGHT:] = 0
    total = inner.sum(axis=1, keepdims=True)
    padded = np.pad(inner, ((0, 0), (_REACH + 1, _REACH)))
    window = 2 * _REACH + 1
    sums = padded.cumsum(axis=1)
    local = (sums[:, window:] - sums[:, :-window]) / window
    below = inner.cumsum(axis=1)
    within = (below >= 0.01 * total) & (below - inner <= 0.99 * total) & (local > 0)
    missing = 1 - np.minimum(inner / np.maximum(local, 1e-9), 1)
    levels = within.sum(axis=1)
    # What counting few pixels leaves of a smooth histogram: 0.4 of its relative standard deviation.
    chance = 0.4 / np.sqrt(np.maximum(local, 0.2))
    mean = (np.maximum(missing - chance, 0) * within).sum(axis=1) / np.maximum(levels, 1)
    return np.asarray(np.where(levels >= 2 * _REACH, mean, 0.0))
