"""What part of an image the network sees, and how it gets the network's size: alike for pixels and for maps of channels.

In use, and in validation, an image is seen whole, fitted into the input as `onnx:` predictors do it. In training, half of the
time a window of it is seen larger instead, placed so that a rare class is in it: on a large image, what is small is then seen
as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.models.predictors.base import VOID
from curate.models.training.segment.regions import ChannelMap, nearest
from curate.runner import Placement

_MOST_ZOOM: Final = 2.0


@dataclass(frozen=True)
class Window:
    """A part of an image: rows from top, columns from left, in pixels; all inside the image."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The part of an array of shape (height, width, ...)."""
        return values[self.top : self.top + self.height, self.left : self.left + self.width]


def fit_channels(channels: ChannelMap, placement: Placement) -> ChannelMap:
    """A map as it lies in the network's input, void where the image is not; nothing is blended."""
    scaled, (top, left) = placement.scaled, placement.offset
    canvas = np.full(placement.input, VOID, dtype=np.int16)
    canvas[top : top + scaled[0], left : left + scaled[1]] = nearest(channels, scaled)
    return canvas


def random_window(channels: ChannelMap, rarity: npt.NDArray[np.float64], rng: np.random.Generator) -> Window:
    """A window of the image's own shape around some pixel of a channel that is there, rare ones more often.

    Args:
        channels: The image's map, of the size of its pixels.
        rarity: How much each channel is wanted; float64 of shape (channels,).
        rng: Decides.
    """
    height, width = channels.shape
    zoom = _MOST_ZOOM ** rng.random()
    tall, wide = max(1, round(height / zoom)), max(1, round(width / zoom))
    there = np.bincount(channels.ravel()[channels.ravel() != VOID], minlength=len(rarity)) > 0
    if there.any():
        share = np.where(there, rarity, 0)
        channel = rng.choice(len(rarity), p=share / share.sum())
        places = np.flatnonzero(channels == channel)
        y, x = divmod(int(places[rng.integers(len(places))]), width)
    else:
        y, x = int(rng.integers(height)), int(rng.integers(width))
    # The pixel is anywhere in the window, not always in its middle.
    top = y - int(rng.integers(tall))
    left = x - int(rng.integers(wide))
    return Window(min(max(top, 0), height - tall), min(max(left, 0), width - wide), tall, wide)
