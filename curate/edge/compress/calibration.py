"""Which images the quantiser is shown: those that cover the data, not those that happen to be common.

Ranges that were measured on daylight alone cut off what a night looks like inside a network. So every class, every slice and
every strength of light gets its share first, the rarest first; the rest goes to whatever is least like all that was chosen
(farthest-first traversal: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from curate.checks.boxes import BoolArray, FloatArray, IntArray
from curate.imaging import Pixels
from curate.runner import Result, features

COUNT: Final = 64
"""Images that are enough for ranges; more take longer and change little."""

_SHARE_OF_PARTS: Final = 0.5
"""Of the images, that classes, slices and light may claim."""

_LIGHT_STEPS: Final = 5
_UNKNOWN: Final = Result("classify", (1, 1))
"""What a model says does not matter here: its part of the features is left out."""
_MEDIAN: Final = 3
"""Where in `features` the median of the luma is."""


def describe(images: Sequence[Pixels]) -> FloatArray:
    """Light, color, focus and noise of n images; float64 of shape (n, 16)."""
    return np.stack([features(pixels, _UNKNOWN)[:-1] for pixels in images])


def light_parts(described: FloatArray) -> dict[str, BoolArray]:
    """Images of alike light, by steps of equal width: rare light has a part of its own, however few images it has."""
    luma = described[:, _MEDIAN]
    low, high = float(luma.min()), float(luma.max())
    if high <= low:
        return {}
    step = np.minimum(((luma - low) / (high - low) * _LIGHT_STEPS).astype(np.int64), _LIGHT_STEPS - 1)
    return {f"light {number + 1} of {_LIGHT_STEPS}": step == number for number in np.unique(step).tolist()}


def cover(described: FloatArray, parts: Mapping[str, BoolArray], count: int, seed: int = 0) -> IntArray:
    """Choose images that cover what there is.

    Args:
        described: What images look like; shape (n, d). Columns are brought to one scale.
        parts: Classes, slices, light: which images are in each; bool of shape (n,).
        count: How many images are wanted.
        seed: Of the first image.

    Returns:
        At most `count` rows, in the order in which they were chosen: the first few cover as much as so few can.
    """
    total = len(described)
    if count >= total:
        return np.arange(total)
    points = _scaled(described)
    members = [inside for inside in parts.values() if inside.any()]
    each = max(1, int(count * _SHARE_OF_PARTS) // max(1, len(members)))
    wanted = np.array([min(each, int(inside.sum())) for inside in members], dtype=np.int64)
    rarity = np.array([int(inside.sum()) for inside in members])
    inside = np.array(members, dtype=np.bool_).reshape(len(members), total)
    chosen: list[int] = []
    distance = np.full(total, np.inf)
    middle = int(np.argmin(((points - np.median(points, axis=0)) ** 2).sum(axis=1)))
    candidates: BoolArray = np.arange(total) == middle
    while len(chosen) < count:
        far = np.where(candidates, distance, -1.0)
        row = int(np.random.default_rng(seed).choice(np.flatnonzero(far == far.max())))
        chosen.append(row)
        distance = np.minimum(distance, ((points - points[row]) ** 2).sum(axis=1))
        distance[row] = -1.0
        lacking = wanted - inside[:, chosen].sum(axis=1)
        candidates = _of_rarest(inside, lacking, rarity, total)
        candidates[chosen] = False
    return np.array(chosen, dtype=np.int64)


def _of_rarest(inside: BoolArray, lacking: IntArray, rarity: IntArray, total: int) -> BoolArray:
    """Images of the rarest part that has not got its share; all where every part has."""
    open_parts = np.flatnonzero(lacking > 0)
    if not len(open_parts):
        return np.ones(total, dtype=np.bool_)
    found: BoolArray = inside[open_parts[np.argmin(rarity[open_parts])]].copy()
    return found


def _scaled(described: FloatArray) -> FloatArray:
    """Columns about their medians, by their spread."""
    low, middle, high = np.quantile(described, [0.1, 0.5, 0.9], axis=0)
    scaled: FloatArray = np.clip((described - middle) / np.maximum(high - low, 1e-6), -5, 5)
    return scaled
