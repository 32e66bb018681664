"""The light that an image was taken in, as far as the image tells.

It is told by its edges rather than by its mean (van de Weijer, Gevers and Gijsenij, *Edge-based color constancy*, IEEE TIP 2007):
a wooden floor makes the mean brown, and edges much less so.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels
from curate.recipes.light import decode

_SMOOTHING: Final = 1.0
_NORM: Final = 6
_LEAST_LIGHT: Final = 1e-3
_SMALL: Final = 8


def light_of(pixels: Pixels) -> npt.NDArray[np.float32]:
    """The light that an image was taken in: linear RGB up to a factor that all images share; shape (3,)."""
    if min(pixels.shape[:2]) > _SMALL:
        pixels = np.asarray(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    smooth = cv2.GaussianBlur(decode(pixels), (0, 0), _SMOOTHING)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    edges = cv2.magnitude(across.reshape(-1, 3), down.reshape(-1, 3))
    return np.asarray((edges**_NORM).mean(axis=0) ** (1 / _NORM) + _LEAST_LIGHT, dtype=np.float32)
