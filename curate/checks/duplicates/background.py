"""Images of a fixed camera share their whole background: they are copies only if what stands before it is the same, too.

A fixed camera shows itself by many images that lie on one another unmoved, most of which have something of their own. What
is common to them, the median of the pictures, is taken away, and pairs are judged by what is left. Small sets (a scene under
some lights) are left alone: there the median is not the background.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.checks.duplicates.features import SMALL
from curate.checks.graph import components

IntArray = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]

LEAST_IMAGES: Final = 12
"""Fewer images that lie on one another do not make a fixed camera."""

_SAMPLE: Final = 100
_OWN: Final = 0.005
"""Part of the picture from which on an image has something of its own."""

_SIGMAS: Final = 6.0
_LEAST_CONTRAST: Final = 0.25
_ALIKE: Final = 0.5


def background_only(
    pairs: IntArray, fixed: npt.NDArray[np.bool_], small: Callable[[int], npt.NDArray[np.uint8]], n: int
) -> npt.NDArray[np.bool_]:
    """Which pairs have only a background in common.

    Args:
        pairs: Pairs taken for copies, shape (m, 2).
        fixed: Whether the two lie on one another unmoved, shape (m,).
        small: Gives an image's grey picture.
        n: How many images.
    """
    found = np.zeros(len(pairs), dtype=bool)
    linked = pairs[fixed]
    component = components(linked[:, 0], linked[:, 1], n)
    sizes = np.bincount(component)
    for camera in np.flatnonzero(sizes >= LEAST_IMAGES):
        members = np.flatnonzero(component == camera)
        rows = np.flatnonzero(fixed & (component[pairs[:, 0]] == camera))
        found[rows] = _differ_in_front(pairs[rows], members, small)
    return found


def _differ_in_front(
    pairs: IntArray, members: IntArray, small: Callable[[int], npt.NDArray[np.uint8]]
) -> npt.NDArray[np.bool_]:
    """Which pairs of images of one camera differ in what stands before the background; shape (m,)."""
    sample = members[np.linspace(0, len(members) - 1, min(len(members), _SAMPLE)).astype(np.int64)]
    background = np.median([_normalised(small(row)) for row in sample], axis=0).astype(np.float32)
    noise = 1.4826 * float(np.median([np.abs(_normalised(small(row)) - background) for row in sample]))
    limit = max(_SIGMAS * noise, _LEAST_CONTRAST)

    def front(row: int) -> tuple[Float, npt.NDArray[np.bool_]]:
        rest = _normalised(small(row)) - background
        return rest, cv2.morphologyEx((np.abs(rest) > limit).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3))) > 0

    if np.median([front(row)[1].mean() for row in sample]) < _OWN:
        return np.zeros(len(pairs), dtype=bool)
    differ = np.zeros(len(pairs), dtype=bool)
    for k, (first, second) in enumerate(pairs.tolist()):
        (a, in_a), (b, in_b) = front(first), front(second)
        either = in_a | in_b
        if either.mean() >= _OWN:
            x, y = a[either], b[either]
            differ[k] = float(x @ y) < _ALIKE * float(np.sqrt((x @ x) * (y @ y)))
    return differ


def _normalised(picture: npt.NDArray[np.uint8]) -> Float:
    """One size for all, slightly smoothed, without gain and offset; float32 of shape (SMALL, SMALL)."""
    square = cv2.resize(picture, (SMALL, SMALL), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    square = cv2.GaussianBlur(square, (0, 0), 1.0)
    middle = np.median(square)
    spread = 1.4826 * np.median(np.abs(square - middle))
    return np.asarray((square - middle) / max(float(spread), 2.0), dtype=np.float32)
