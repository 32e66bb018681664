"""Synthetic images that are their parent over again, from which nothing more is learnt.

A change of light is meant to leave a picture recognisable, so that being a near-duplicate is no fault in itself. A child is of
no use where also its light, colour, focus and grain are the parent's: the mean colour difference of small pictures is below
what people just notice (2.3 in CIELAB; Mahy, Van Eycken and Oosterlinck, 1994), fine structure is as strong, and the check for
duplicates finds the same picture in the same place.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from curate.checks.boxes import FloatArray
from curate.checks.duplicates.features import extract, features_of
from curate.checks.duplicates.probability import FIXED
from curate.checks.duplicates.verify import compare
from curate.imaging import Pixels

JUST_NOTICED: Final = 2.3
"""Colour difference."""

_SMALL: Final = 128
_SAME_DETAIL: Final = 0.9
_LITTLE: Final = 0.02
# Fine structure within this factor looks as sharp and as noisy.
_ABOUT: Final = 1.15


def is_copy(child: Pixels, parent: Pixels) -> bool:
    """Whether an image shows nothing that its parent does not; uint8 of shape (height, width, 3) each."""
    if colour_difference(child, parent) >= JUST_NOTICED or not 1 / _ABOUT < _sharper(child, parent) < _ABOUT:
        return False
    found = compare(features_of(extract(parent)), features_of(extract(child)))
    same = found.detail > _SAME_DETAIL and found.differing < _LITTLE
    return not found.mirrored and same and found.displacement < FIXED


def colour_difference(first: Pixels, second: Pixels) -> float:
    """Mean difference in CIELAB of two images, scaled to 128 pixels."""
    a, b = (_small_lab(each) for each in (first, second))
    return float(np.sqrt(np.square(a - b).sum(axis=2)).mean())


def _small_lab(pixels: Pixels) -> FloatArray:
    small = cv2.resize(np.ascontiguousarray(pixels), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    return np.asarray(lab, dtype=np.float64)


def _sharper(child: Pixels, parent: Pixels) -> float:
    """How much stronger fine structure is, edges and grain alike, as a ratio of standard deviations."""
    height, width = parent.shape[:2]
    if child.shape[:2] != (height, width):
        child = np.asarray(
            cv2.resize(np.ascontiguousarray(child), (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
    own, other = (
        float(cv2.Laplacian(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std()) for each in (child, parent)
    )
    return (own + 0.5) / (other + 0.5)
