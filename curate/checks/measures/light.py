"""Where the light comes from: the slow part of an image's luminance."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

LAYOUT: Final = 4
"""Cells on each side of the `layout` column."""

# Keeps the logarithm of black finite, and noise in the dark from counting.
_FLOOR: Final = 0.03
# Thumbnail pixels that a step spans; and how much of the fitted plane counts.
_STEP: Final = 2
_OF_PLANE: Final = 1 / 6


def light(luminance: npt.NDArray[np.float64]) -> dict[str, FloatArray]:
    """Columns of light.

    A lamp at one side multiplies what an image shows by a slope; in the logarithm that is a plane. Things on it make large
    steps in few places and a lamp small ones everywhere, so the median step tells the lamp; a part of the plane fitted to
    all is added, for shadows with a hard edge.

    Args:
        luminance: Thumbnails in [0, 1], array of shape (n, k, k); k is a multiple of 4.

    Returns:
        Arrays by name: `light_x` and `light_y` of shape (n,), how much brighter, in octaves, the right border and the lower
        border are than the middle (negative: light from the left, from above); `light_center` of shape (n,), how many
        octaves the middle is brighter than the border (negative: back light; positive: vignette, spot); `layout` of shape
        (n, 16), mean luminance of 4 x 4 cells, row by row.
    """
    n, side = len(luminance), luminance.shape[1]
    octaves = np.log2(luminance + _FLOOR)
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    plane = _OF_PLANE * axis / (axis @ axis) / side
    across, down = octaves[:, :, _STEP:] - octaves[:, :, :-_STEP], octaves[:, _STEP:] - octaves[:, :-_STEP]
    per_border = side / 2 / _STEP
    x, y = np.meshgrid(axis, axis)
    ring = np.maximum(abs(x), abs(y)) > 0.75
    middle = np.hypot(x, y) < 0.5
    cells = luminance.reshape(n, LAYOUT, side // LAYOUT, LAYOUT, side // LAYOUT)
    return {
        "light_x": per_border * np.median(across, axis=(1, 2)) + octaves.sum(axis=1) @ plane,
        "light_y": per_border * np.median(down, axis=(1, 2)) + octaves.sum(axis=2) @ plane,
        "light_center": octaves[:, middle].mean(axis=1) - octaves[:, ring].mean(axis=1),
        "layout": cells.mean(axis=(2, 4)).reshape(n, -1),
    }
