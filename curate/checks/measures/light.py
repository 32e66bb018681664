"""Where the light comes from: the slow part of an image's luminance."""

from __future__ import annotations

from functools import cache, reduce
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LAYOUT: Final = 4
"""Cells on each side of the `layout` column."""

CUES: Final = (5, 5, 4)
"""How many columns of `light_cues` tell `light_x`, `light_y` and `light_center`."""

# Keeps the logarithm of black finite, and noise in the dark from counting.
_FLOOR: Final = 0.03
# Thumbnail pixels that a step spans; and how much of the fitted plane counts.
_STEP: Final = 2
_OF_PLANE: Final = 1 / 6
# Cells on each side that cues are taken of.
_CELLS: Final = 8


def light(luminance: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
    """Columns of light.

    A lamp at one side multiplies what an image shows by a slope; in the logarithm that is a plane. Things on it make large
    steps in few places and a lamp small ones everywhere, so the median step tells the lamp; a part of the plane fitted to
    all is added, for shadows with a hard edge.

    Args:
        luminance: Thumbnails in [0, 1], array of shape (n, k, k); k is a multiple of 8.

    Returns:
        Arrays by name: `light_x` and `light_y` of shape (n,), how much brighter, in octaves, the right border and the lower
        border are than the middle (negative: light from the left, from above); `light_center` of shape (n,), how many
        octaves the middle is brighter than the border (negative: back light; positive: vignette, spot); `layout` of shape
        (n, 16), mean luminance of 4 x 4 cells, row by row; `light_cues` of shape (n, 14), the same three in different ways:
        5 of `light_x`, 5 of `light_y` and 4 of `light_center`.
    """
    n, side = len(luminance), luminance.shape[1]
    octaves = np.log2(luminance + np.float32(_FLOOR))
    across, down = octaves[:, :, _STEP:] - octaves[:, :, :-_STEP], octaves[:, _STEP:] - octaves[:, :-_STEP]
    per_border = side / 2 / _STEP
    step_x, step_y = (per_border * _medians(steps.reshape(n, -1)) for steps in (across, down))
    plane_x, plane_y, center = (octaves.reshape(n, -1) @ _slopes_and_center(side)).T
    cells = luminance.reshape(n, LAYOUT, side // LAYOUT, LAYOUT, side // LAYOUT)
    cues_x, cues_y, cues_center = np.moveaxis(_cues(luminance), 2, 0)
    return {
        "light_x": step_x + _OF_PLANE * plane_x,
        "light_y": step_y + _OF_PLANE * plane_y,
        "light_center": center,
        "layout": cells.mean(axis=(2, 4)).reshape(n, -1),
        "light_cues": np.column_stack([step_x, cues_x, step_y, cues_y, cues_center]),
    }


def _cues(luminance: npt.NDArray[np.float32]) -> FloatArray:
    """Slope across, slope down, and middle against border, of four things that light multiplies; shape (n, 4, 3).

    These are the mean, the lightest, the darkest and the contrast of cells of a picture. Light changes all alike, a thing on
    the picture seldom does: a bright sky has a high mean and no contrast.
    """
    steps = np.zeros_like(luminance)
    steps[:, :, :-1] = abs(np.diff(luminance, axis=2))
    steps[:, :-1] += abs(np.diff(luminance, axis=1))
    pixels = (luminance.shape[1] // _CELLS) ** 2
    mean, contrast = _by_cell(luminance, np.add) / pixels, _by_cell(steps, np.add) / pixels
    parts = np.stack([mean, _by_cell(luminance, np.maximum), _by_cell(luminance, np.minimum), contrast], axis=1)
    floors = np.array([_FLOOR, _FLOOR, _FLOOR, _FLOOR / 3], np.float32)
    octaves = np.log2(parts + floors[:, None, None])
    return np.asarray(octaves.reshape(*octaves.shape[:2], -1) @ _slopes_and_center(_CELLS))


def _by_cell(values: npt.NDArray[np.float32], combine: np.ufunc) -> npt.NDArray[np.float32]:
    """Combine the pixels of each cell; shape (n, k, k) to (n, 8, 8). By slices, which is faster than over short axes."""
    size = values.shape[1] // _CELLS
    columns = reduce(combine, [values[:, :, start::size] for start in range(size)])
    return reduce(combine, [columns[:, start::size] for start in range(size)])


def _medians(values: npt.NDArray[np.float32]) -> FloatArray:
    """Medians of rows, an even number in each; sorting is several times faster than `np.median`."""
    middle = values.shape[1] // 2
    return np.asarray(np.sort(values, axis=1)[:, middle - 1 : middle + 1].mean(axis=1, dtype=np.float64))


@cache
def _slopes_and_center(side: int) -> FloatArray:
    """Weights of k x k pixels that give the slopes of the fitted plane, and the middle against the border; shape (k * k, 3)."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = (each.ravel() for each in np.meshgrid(axis, axis))
    ring, middle = np.maximum(abs(x), abs(y)) > 0.75, np.hypot(x, y) < 0.5
    return np.column_stack([x / (x @ x), y / (y @ y), middle / middle.sum() - ring / ring.sum()])
