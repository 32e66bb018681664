"""What gives a synthetic image away: clipped tones, bands, empty areas, blur that no target image has, seams.

Measures are compared with the range that the target's images and the image's own parent have: a night shot is dark, and a
flat wall is flat. A seam is a border of something pasted that is harder than the edges in the picture: of the step across the
border over some pixels, nearly all lies between two neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.augment.check.pictures import Picture
from curate.checks.boxes import BoolArray, FloatArray
from curate.checks.duplicates.features import find_padding
from curate.geometry import decode_rle
from curate.imaging import Pixels

KINDS: Final = ("clipped dark", "clipped bright", "bands", "blur", "empty", "seam")

# Column, and how much above the range a value has to be.
_MEASURED: Final[Mapping[str, tuple[str, float]]] = {
    "clipped dark": ("clipped_dark", 0.10),
    "clipped bright": ("clipped_bright", 0.05),
    "bands": ("banding", 0.10),
    "blur": ("edge_width", 0.75),
}
_HIGH: Final = 0.98
_EMPTY: Final = 0.03
_WHITE: Final = 0.99
_MOST_GAIN: Final = 16.0
_SMALL: Final = 128
# Grey levels that the pixels of a square differ by where there is nothing, its side, and how much of a cell such pixels fill.
_FLAT: Final = 0
_FLAT_SIDE: Final = 5
_MOSTLY: Final = 0.5
# Pixels on each side of a border across which a step is taken, and how much of it one pixel may have.
_ACROSS: Final = 4
_AT_ONCE: Final = 0.85
_STEP: Final = 12.0
_FEWEST_PIXELS: Final = 30


def beyond_range(
    synthetic: Mapping[str, npt.NDArray[Any]],
    parents: Mapping[str, npt.NDArray[Any]],
    target: Mapping[str, npt.NDArray[Any]],
) -> dict[str, BoolArray]:
    """Which images have a measure above what their parent has and the target's images have.

    Args:
        synthetic: Columns of `curate.checks.measures` of n images.
        parents: Of the parent of each, n rows.
        target: Of m images of the target; m may be 0.

    Returns:
        bool of shape (n,) by kind.
    """
    found = {}
    for kind, (column, margin) in _MEASURED.items():
        values, own = (np.asarray(each[column], dtype=np.float64) for each in (synthetic, parents))
        others = np.asarray(target[column], dtype=np.float64)
        high = float(np.quantile(others, _HIGH)) if len(others) else -np.inf
        found[kind] = np.asarray(values > np.maximum(own, high) + margin)
    return found


def empty_share(pixels: Pixels) -> float:
    """Part of an image that is of one value, to the pixel, and touches a corner; a dark image is first made as bright as others.

    What fog, rain or blur leaves of a scene is pale, but has its grain still: nothing was moved away there.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    around = np.ones((_FLAT_SIDE, _FLAT_SIDE), np.uint8)
    flat = cv2.subtract(cv2.dilate(gray, around), cv2.erode(gray, around)) <= _FLAT
    flat_small = cv2.resize(flat.astype(np.float32), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA) >= _MOSTLY
    small = cv2.resize(gray.astype(np.float32), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    gain = min(_MOST_GAIN, 255 / max(float(np.quantile(small, _WHITE)), 1.0))
    return float((find_padding(np.clip(small * gain, 0, 255).astype(np.uint8)).astype(bool) & flat_small).mean())


def is_emptier(child: Pixels, parent: Pixels) -> bool:
    """Whether more of an image is empty than of its parent."""
    return empty_share(child) > empty_share(parent) + _EMPTY


def has_seam(pixels: Pixels, picture: Picture) -> bool:
    """Whether a border of something that was pasted is a seam."""
    drawn = [_mask(thing.rle, pixels.shape[:2]) for thing in picture.things if thing.pasted and thing.rle is not None]
    masks = [mask for mask in drawn if mask is not None]
    if not masks:
        return False
    gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.float64)
    return any(_is_hard(gray, mask) for mask in masks)


def seam_hardness(gray: FloatArray, mask: BoolArray) -> float | None:
    """How much of the step across a mask's border lies between two neighbouring pixels.

    Args:
        gray: Shape (height, width).
        mask: The same shape.

    Returns:
        Median over the border; 1 for a cut, about half for an edge that a lens has drawn; None where there is no step.
    """
    ramp = _signed_distance(mask)
    rows, columns = _border(ramp, mask)
    normal_y, normal_x = np.gradient(cv2.GaussianBlur(ramp, (0, 0), 1.0))
    y, x = normal_y[rows, columns], normal_x[rows, columns]
    length = np.maximum(np.hypot(y, x), 1e-6)
    steps = np.arange(-_ACROSS, _ACROSS + 1)
    at_y = np.rint(rows[:, None] + steps * (y / length)[:, None]).astype(np.int64)
    at_x = np.rint(columns[:, None] + steps * (x / length)[:, None]).astype(np.int64)
    inside = ((at_y >= 0) & (at_y < gray.shape[0]) & (at_x >= 0) & (at_x < gray.shape[1])).all(axis=1)
    if inside.sum() < _FEWEST_PIXELS:
        return None
    across = gray[at_y[inside], at_x[inside]]
    whole = np.abs(across[:, -1] - across[:, 0])
    near = np.abs(np.diff(across[:, _ACROSS - 2 : _ACROSS + 3], axis=1)).max(axis=1)
    steep = whole > _STEP
    if steep.sum() < _FEWEST_PIXELS:
        return None
    return float(np.median(np.minimum(near[steep] / whole[steep], 1.0)))


def _is_hard(gray: FloatArray, mask: BoolArray) -> bool:
    hardness = seam_hardness(gray, mask)
    return hardness is not None and hardness > _AT_ONCE


def _border(ramp: FloatArray, mask: BoolArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pixels of the mask that touch what is outside."""
    rows, columns = np.nonzero(mask & (ramp < 1.5))
    return rows.astype(np.int64), columns.astype(np.int64)


def _signed_distance(mask: BoolArray) -> FloatArray:
    """Pixels to the border, inside positive, outside negative."""
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(inside - outside, dtype=np.float64)


def _mask(rle: str, shape: Sequence[int]) -> BoolArray | None:
    drawn = decode_rle(rle, (int(shape[0]), int(shape[1]))).astype(bool)
    return np.asarray(drawn) if drawn.any() else None
