"""A map of depth as a PNG file of 16 bits, and back.

A value of 0 stands for a depth that is not known. The others, 1 to 4,095, are steps from the nearest depth of the map to its
farthest: equal ratios where depths are metres, so that each step is the same percentage; equal differences where they are
relative. Twelve bits are finer than any model is right (0.1% of a step of metres from 1 to 80), and the noise that further
bits hold cannot be compressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.errors import InputError
from curate.models.predictors.base import DepthMap

LONGEST_SIDE: Final = 384
"""Pixels of a map's longer side, at most: models say little more, and a map takes about 80 KB so."""

STEPS: Final = 4095
"""The highest value in a file."""

_UNKNOWN: Final = 0
_NEAREST: Final = 1e-3
"""Metres. What is nearer is no measurement; an own shadow of the scale would stretch over the steps."""


@dataclass(frozen=True)
class EncodedMap:
    """A map as it is kept.

    Attributes:
        content: The PNG file.
        size: (height, width) in pixels.
        near: The least depth; None where none is known.
        far: The greatest, the same.
        metric: Whether depths are metres.
        known: Share of the pixels whose depth is known.
    """

    content: bytes
    size: tuple[int, int]
    near: float | None
    far: float | None
    metric: bool
    known: float


def encode_map(given: DepthMap) -> EncodedMap:
    """A map as a file, with `LONGEST_SIDE` pixels at most: of a larger one, those pixels that are nearest to the new centres.

    Means of neighbours would lie where nothing is, between a thing and what is behind it. Depths that are not finite, and metres
    that are not positive, are not known.
    """
    depth = _reduced(np.asarray(given.depth, dtype=np.float64))
    known = np.isfinite(depth) & ((depth >= _NEAREST) if given.metric else True)
    values = np.zeros(depth.shape, np.uint16)
    near = far = None
    if known.any():
        near, far = float(depth[known].min()), float(depth[known].max())
        values[known] = _to_steps(depth[known], near, far, given.metric)
    done, content = cv2.imencode(".png", values)
    if not done:
        raise InputError("a map of depth cannot be written as PNG", where=f"{depth.shape[1]} x {depth.shape[0]} pixels")
    size = depth.shape[0], depth.shape[1]
    return EncodedMap(content.tobytes(), size, near, far, given.metric, float(known.mean()))


def decode_map(content: bytes, near: float | None, far: float | None, *, metric: bool) -> npt.NDArray[np.float32]:
    """The inverse of `encode_map`, to half a step.

    Returns:
        float32 of shape (height, width), larger is farther; NaN where the depth is not known.

    Raises:
        InputError: It is no such file.
    """
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if values is None or values.dtype != np.uint16 or values.ndim != 2:
        raise InputError("a file of depths is broken", remedy="'curate predict --replace' makes it again")
    depths = np.full(STEPS + 1, np.nan, np.float32)
    if near is not None and far is not None:
        steps = np.arange(STEPS) / (STEPS - 1)
        depths[1:] = near * (far / near) ** steps if metric else near + (far - near) * steps
    return np.asarray(depths[np.minimum(values, STEPS)])


def _to_steps(depth: npt.NDArray[np.float64], near: float, far: float, metric: bool) -> npt.NDArray[np.float64]:
    if far <= near:
        return np.ones(depth.shape)
    share = np.log(depth / near) / np.log(far / near) if metric else (depth - near) / (far - near)
    return np.asarray(1 + np.round(share.clip(0, 1) * (STEPS - 1)))


def _reduced(depth: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if depth.ndim != 2 or not depth.size:
        raise InputError("a map of depth has height and width", where=f"one of shape {depth.shape}")
    height, width = depth.shape
    factor = max(height, width) / LONGEST_SIDE
    if factor <= 1:
        return depth
    rows, columns = (_nearest(max(1, round(side / factor)), side) for side in (height, width))
    return np.asarray(depth[np.ix_(rows, columns)])


def _nearest(wanted: int, given: int) -> npt.NDArray[np.int64]:
    """For each of so many pixels the number of the one, of those given, whose centre is nearest."""
    return np.asarray(((np.arange(wanted) + 0.5) * given / wanted).astype(np.int64))
