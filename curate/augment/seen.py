"""Whether anything can still be seen on an image that was changed: nobody learns from a black one, whatever its labels say."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from curate.imaging import Pixels

LEAST_RANGE: Final = 8.0
"""Grey levels of 256 between which nearly all of a picture lies where it shows nothing."""

_LEAST_LEFT: Final = 0.5
_SMALL: Final = 64
_TAILS: Final = (0.5, 99.5)


def shows_nothing(child: Pixels, parent: Pixels) -> bool:
    """Whether hardly any light and shade is left of what the parent shows, or all of it is black now.

    A parent that is plain or black itself may have such children.

    Args:
        child: uint8 of shape (height, width, 3).
        parent: The same, of any size.
    """
    low, high = tones(child)
    if high - low >= LEAST_RANGE:
        return False
    darkest, lightest = tones(parent)
    return high < LEAST_RANGE <= lightest or high - low < _LEAST_LEFT * (lightest - darkest)


def tones(pixels: Pixels) -> tuple[float, float]:
    """The grey levels that all but the outermost hundredth of a picture lies between; grain, no picture, is averaged away."""
    # Every n-th pixel is as good a mean as all of them, and much faster on large images.
    step = max(min(pixels.shape[:2]) // (2 * _SMALL), 1)
    gray = cv2.cvtColor(np.ascontiguousarray(pixels[::step, ::step]), cv2.COLOR_RGB2GRAY).astype(np.float32)
    low, high = np.percentile(cv2.resize(gray, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA), _TAILS)
    return float(low), float(high)
