"""Noise and compression artefacts of one luma plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

FloatArray = npt.NDArray[np.float64]

# Across and down; their product is the difference of two Laplacians.
_KERNEL: Final = np.array([1, -2, 1], dtype=np.float32)
_BLOCK: Final = 8
# Few blocks of a picture of grass are free of texture. White noise has this part of its mean in the flattest of its own.
_FLATTEST: Final = 0.04
_OF_MEAN: Final = 0.74
# Mean absolute response of the kernel to white noise of standard deviation 1, and what the flattest blocks have of it.
_RESPONSE: Final = _OF_MEAN * 6 * math.sqrt(2 / math.pi)
_CLIPPED: Final = (8, 247)
# Steps higher than this (grey levels) are edges of things, not of JPEG's blocks.
_STEP: Final = 16
# The largest of 8 normal variables is expected at 1.42 standard deviations.
_LARGEST_OF_8: Final = 1.42
# Slow frequencies, (down, across), that JPEG quantises about alike.
_SLOW: Final = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
_LEVELS: Final = 256
# As many blocks as tell the step of quantisation.
_BLOCKS: Final = 512
# Steps that are looked for: JPEG's at quality 50 are about 12. A step that is one off still explains.
_STEPS: Final = np.arange(8, 160, 2)
# How far from a multiple of the step rounding to 8 bits, clipping and one more, good JPEG may move a coefficient.
_BESIDE: Final = 1.5 + _STEPS / 16
# Coefficients that must be at multiples of a step, the part of all that may lie between, and frequencies that must say so.
_AT_LEAST: Final = 12
_BETWEEN: Final = 0.2
_AGREEING: Final = 2
# The three lowest frequencies of the orthonormal cosine transform of 8 values (type II); shape (3, 8).
_COSINES: Final = np.array(
    [math.sqrt((2 if f else 1) / _BLOCK) * np.cos(np.pi / _BLOCK * f * (np.arange(_BLOCK) + 0.5)) for f in range(3)],
    dtype=np.float32,
)


def noise_level(luma: Pixels) -> float:
    """Standard deviation of the noise, grey levels.

    Immerkaer (1996): the difference of two Laplacians responds to noise but not to edges and slopes. What texture adds is
    kept out by looking at the flattest blocks only, and clipped areas, which hide noise, are left out.

    Args:
        luma: Shape (height, width), at least 16 pixels each way.
    """
    size = (luma.shape[1] // _BLOCK, luma.shape[0] // _BLOCK)
    whole = luma[: size[1] * _BLOCK, : size[0] * _BLOCK]
    response = cv2.convertScaleAbs(cv2.sepFilter2D(whole, cv2.CV_16S, _KERNEL, _KERNEL))
    blocks = cv2.resize(response.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    means = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    usable = blocks[cv2.inRange(means, *_CLIPPED) > 0]
    return quantile(usable, _FLATTEST) / _RESPONSE if len(usable) else 0.0


def step_profiles(luma: Pixels) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean step from each column to the next, and from each row; what `blockiness` needs.

    Args:
        luma: Shape (height, width).

    Returns:
        Arrays of shape (width - 1,) and (height - 1,), grey levels.
    """
    across = cv2.min(cv2.absdiff(luma[:, 1:], luma[:, :-1]), _STEP)
    down = cv2.min(cv2.absdiff(luma[1:], luma[:-1]), _STEP)
    columns = cv2.reduce(across, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    rows = cv2.reduce(down, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    return np.asarray(columns, np.float32).ravel(), np.asarray(rows, np.float32).ravel()


def blockiness(profiles: Sequence[npt.NDArray[np.float32]]) -> FloatArray:
    """How much higher steps are at the borders of 8 x 8 blocks than between them, as a part of the mean step.

    After Wang, Bovik and Evans (2000): second differences of the mean step per column or per row, by their place in a
    period of 8. The place is not given, for images are cropped and turned; what chance would give is taken off, so that
    about 0 means no blocks.

    Args:
        profiles: n profiles of steps as `step_profiles` gives them, of any lengths.

    Returns:
        Array of shape (n,); 0 for profiles of fewer than two periods.
    """
    padded, lengths = padded_rows(profiles)
    excess = padded[:, 1:-1] - (padded[:, :-2] + padded[:, 2:]) / 2
    periods = np.maximum(lengths - 2, 0) // _BLOCK
    most = max(int(periods.max()), 1) * _BLOCK
    excess = np.pad(excess, ((0, 0), (0, max(0, most - excess.shape[1]))))[:, :most]
    excess = np.where(np.arange(most) < periods[:, None] * _BLOCK, excess, 0)
    enough = np.maximum(periods, 1)
    mean = excess.sum(axis=1) / (enough * _BLOCK)
    deviation = np.sqrt(np.maximum((excess**2).sum(axis=1) / (enough * _BLOCK) - mean**2, 0))
    strongest = excess.reshape(len(excess), -1, _BLOCK).sum(axis=1).max(axis=1) / enough
    chance = _LARGEST_OF_8 * deviation / np.sqrt(enough)
    found = (strongest - chance) / (padded.sum(axis=1) / lengths + 0.5)
    return np.asarray(np.where(periods >= 2, found, 0.0))


def coefficient_counts(luma: Pixels) -> npt.NDArray[np.int64]:
    """How often slow DCT coefficients of the 8 x 8 blocks have each size; what `quantization` needs.

    Args:
        luma: Shape (height, width), at least 8 pixels each way.

    Returns:
        Array of shape (5, 256): by frequency and rounded absolute value.
    """
    height, width = (side // _BLOCK for side in luma.shape)
    every = -(-height * width // _BLOCKS)
    rows = luma[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, -1)[::every].astype(np.float32)
    down = _COSINES @ rows
    both = down.reshape(-1, _BLOCK) @ _COSINES.T
    frequencies = both.reshape(len(rows), 3, width, 3)
    slow = np.stack([frequencies[:, y, :, x] for y, x in _SLOW])
    chosen = np.minimum(abs(slow) + np.float32(0.5), _LEVELS - 1).astype(np.int64)
    chosen += _LEVELS * np.arange(len(_SLOW))[:, None, None]
    return np.bincount(chosen.ravel(), minlength=len(_SLOW) * _LEVELS).reshape(len(_SLOW), _LEVELS)


def quantization(counts: npt.NDArray[np.int64]) -> FloatArray:
    """The step that slow frequencies were once rounded to by JPEG, though the image was decoded and saved anew since.

    Fan and de Queiroz (2003): coefficients then lie at multiples of the step only. The largest step that explains those which
    are not zero is taken. Where the image was scaled or cropped after compression there is no such step.

    Args:
        counts: What `coefficient_counts` gave, array of shape (n, 5, 256).

    Returns:
        Array of shape (n,): median step of the frequencies that have one, grey levels; 1 where none is found.
    """
    levels = np.arange(_LEVELS - 1)[:, None]  # the last level is all that is larger
    multiple = np.rint(levels / _STEPS)
    beside = abs(levels - multiple * _STEPS) > _BESIDE
    at = ~beside & (multiple > 0)
    seen = counts[..., :-1].astype(np.float32).reshape(-1, _LEVELS - 1)
    both = seen @ np.concatenate([beside, at], axis=1).astype(np.float32)
    between, there = np.split(both.reshape(*counts.shape[:2], -1), 2, axis=2)
    explains = (there >= _AT_LEAST) & (between <= _BETWEEN * (between + there))
    # The largest that explains the first multiples is too large by about half of what they may be moved.
    largest = np.where(explains, _STEPS - _BESIDE / 2, 0).max(axis=2)
    agreeing = (largest > 0).sum(axis=1) >= _AGREEING
    found = largest[agreeing]
    steps = np.ones(len(counts))
    steps[agreeing] = np.nanmedian(np.where(found > 0, found, np.nan), axis=1)
    return steps


def quantile(values: npt.NDArray[np.float32], share: float) -> float:
    """A value that this share of the others lies below; several times faster on small arrays than `np.quantile`."""
    rank = int(share * (values.size - 1) + 0.5)
    return float(np.partition(values, rank, axis=None)[rank])


def padded_rows(rows: Sequence[npt.NDArray[np.float32]]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Rows of any lengths as one array with zeros behind, shape (n, longest), and the lengths, shape (n,)."""
    lengths = np.array([len(row) for row in rows])
    padded = np.zeros((len(rows), int(lengths.max())), np.float32)
    for to, row in zip(padded, rows, strict=True):
        to[: len(row)] = row
    return padded, lengths
