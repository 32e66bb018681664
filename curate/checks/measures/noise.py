"""Noise and compression artefacts of one luma plane."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

_KERNEL: Final = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
# Mean absolute response of the kernel to white noise of standard deviation 1.
_RESPONSE: Final = 6 * math.sqrt(2 / math.pi)
_BLOCK: Final = 8
_FLATTEST: Final = 0.15
_CLIPPED: Final = (8, 247)
_PERIOD: Final = 8
# Steps higher than this (grey levels) are edges of things, not of JPEG's blocks.
_STEP: Final = 16
# The largest of 8 normal variables is expected at 1.42 standard deviations.
_LARGEST_OF_8: Final = 1.42


def noise_level(luma: Pixels) -> float:
    """Standard deviation of the noise, grey levels.

    Immerkaer (1996): the difference of two Laplacians responds to noise but not to edges and slopes. What texture adds is
    kept out by looking at the flattest blocks only, and clipped areas, which hide noise, are left out.

    Args:
        luma: Shape (height, width), at least 16 pixels each way.
    """
    size = (luma.shape[1] // _BLOCK, luma.shape[0] // _BLOCK)
    whole = luma[: size[1] * _BLOCK, : size[0] * _BLOCK]
    response = cv2.convertScaleAbs(cv2.filter2D(whole, cv2.CV_16S, _KERNEL))
    blocks = cv2.resize(response.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    means = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    usable = blocks[(means >= _CLIPPED[0]) & (means <= _CLIPPED[1])]
    return quantile(usable, _FLATTEST) / _RESPONSE if len(usable) else 0.0


def blockiness(luma: Pixels) -> float:
    """How much higher steps are at the borders of 8 x 8 blocks than between them, as a part of the mean step.

    After Wang, Bovik and Evans (2000): second differences of the mean step per column and per row, by their place in a
    period of 8. The place is not given, for images are cropped and turned; what chance would give is taken off, so that
    about 0 means no blocks.

    Args:
        luma: Shape (height, width), at least 16 pixels each way.
    """
    across = cv2.absdiff(luma[:, 1:], luma[:, :-1])
    down = cv2.absdiff(luma[1:], luma[:-1])
    columns = cv2.reduce(cv2.min(across, _STEP), 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    rows = cv2.reduce(cv2.min(down, _STEP), 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    return (_periodic(columns) + _periodic(rows)) / 2


def quantile(values: npt.NDArray[np.float32], share: float) -> float:
    """A value that this share of the others lies below; several times faster on small arrays than `np.quantile`."""
    rank = int(share * (values.size - 1) + 0.5)
    return float(np.partition(values, rank, axis=None)[rank])


def _periodic(profile: npt.NDArray[np.float32]) -> float:
    excess = profile[1:-1] - (profile[:-2] + profile[2:]) / 2
    periods = len(excess) // _PERIOD
    if periods < 2:
        return 0.0
    folded = excess[: periods * _PERIOD].reshape(periods, _PERIOD)
    # Sums and dot products: for short rows `mean` and `std` cost more than all else.
    flat = folded.ravel()
    mean = float(flat.sum()) / flat.size
    deviation = math.sqrt(max(float(flat @ flat) / flat.size - mean**2, 0.0))
    strongest = float(folded.sum(axis=0).max()) / periods
    chance = _LARGEST_OF_8 * deviation / math.sqrt(periods)
    return (strongest - chance) / (float(profile.sum()) / profile.size + 0.5)
