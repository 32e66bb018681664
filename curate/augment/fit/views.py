"""What is kept of each image for fitting: a thumbnail, which light and colours are told by, and crops at full resolution,
which blur and noise are told by.

Crops lie on the grid of JPEG's blocks. They are chosen by what is left after shrinking four times, where neither blur nor noise
shows: so the same places are chosen whether or not an image is blurred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.augment.fit.jpeg import quality_of_file, quality_of_pixels
from curate.imaging import Pixels, load_pixels
from curate.recipes.light import LIGHT_SIDE, thumbnail

FloatArray = npt.NDArray[np.floating[Any]]
Source = Pixels | str | Path
"""An image: its pixels, or its file, which says more of its compression."""

SIDE: Final = LIGHT_SIDE
"""Pixels on each side of a thumbnail."""

CROP: Final = 96
"""Pixels on each side of a crop."""

TEXTURED: Final = 3
"""Crops with the strongest edges, of each image."""

FLAT: Final = 3
"""Crops with the fewest, of each image: one where it is dark, one in between, one where it is bright."""

_COARSE: Final = 4
_STRIDE: Final = 24
_CLIPPED: Final = (0.04, 0.96)
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Views:
    """What is kept of n images.

    Attributes:
        small: Thumbnails, squashed to squares; float32 of shape (n, 32, 32, 3) in [0, 1].
        extent: (width, height) over the longer side; float32 of shape (n, 2).
        textured: Crops with edges; uint8 of shape (n, 3, 96, 96, 3).
        flat: Crops without; uint8 of shape (n, 3, 96, 96, 3).
        places: Middles of the textured crops and then of the flat ones, parts of width and height; shape (n, 6, 2).
        quality: Of the JPEG that an image is or once was, 1 to 100 (100: none that could be told); float64 of shape (n,).
        pixels: Square root of width by height; float64 of shape (n,).
    """

    small: npt.NDArray[np.float32]
    extent: npt.NDArray[np.float32]
    textured: Pixels
    flat: Pixels
    places: npt.NDArray[np.float32]
    quality: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.float64]

    def __len__(self) -> int:
        """How many images."""
        return len(self.small)

    def few(self, count: int, groups: npt.NDArray[np.int64]) -> tuple[Views, npt.NDArray[np.int64]]:
        """Views of some of the images, of as many groups as there can be, and the groups of these, numbered anew."""
        firsts = np.unique(groups, return_index=True)[1]
        rest = np.setdiff1d(np.arange(len(groups)), firsts)
        # One of each group before a second of any.
        order = np.concatenate([firsts, rest]) if len(firsts) < count else firsts
        rows = order[:count] if len(firsts) < count else firsts[np.linspace(0, len(firsts) - 1, count).astype(int)]
        return self.of(rows), np.unique(groups[rows], return_inverse=True)[1]

    def of(self, rows: npt.NDArray[np.int64]) -> Views:
        """Views of some of the images, by their numbers."""
        return Views(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


def load_views(
    images: Sequence[Source], *, scale: float = 1.0, done: Callable[[int], None] = lambda count: None, workers: int = 2
) -> Views:
    """Views of images.

    Args:
        images: Pixels or files.
        scale: By which they are enlarged (or shrunk) before crops are taken, to the pixels of others.
        done: Told after each image how many are done.
        workers: Threads that decode.

    Raises:
        ImageError: A file cannot be read.
    """
    rows = []
    with ThreadPoolExecutor(workers) as pool:
        for row in pool.map(lambda image: _view(image, scale), images):
            rows.append(row)
            done(len(rows))
    small, extent, crops, places, quality, pixels = (np.stack(column) for column in zip(*rows, strict=True))
    return Views(small, extent, crops[:, :TEXTURED], crops[:, TEXTURED:], places, quality, pixels)


def _view(image: Source, scale: float) -> tuple[Any, ...]:
    """One image's row of each attribute, crops in one."""
    pixels = load_pixels(image) if isinstance(image, str | Path) else image
    found = quality_of_file(image) if isinstance(image, str | Path) else None
    quality = quality_of_pixels(pixels) if found is None else found
    height, width = pixels.shape[:2]
    small = thumbnail(pixels)
    extent = np.array([width, height], np.float32) / max(width, height)
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    crops, places = _crops(pixels)
    return small, extent, crops, places, np.float64(quality), np.sqrt(np.float64(width) * height)


def _crops(pixels: Pixels) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Textured and flat crops, shape (6, 96, 96, 3), and where their middles are."""
    pixels = _padded(pixels)
    height, width = pixels.shape[:2]
    coarse = cv2.resize(pixels, (width // _COARSE, height // _COARSE), interpolation=cv2.INTER_AREA)
    luma = coarse.astype(np.float32) @ _LUMA / 255
    edges = np.square(np.diff(luma, axis=0)[:, :-1]) + np.square(np.diff(luma, axis=1)[:-1])
    energy, level = _window_means(edges), _window_means(luma[:-1, :-1])
    rows, columns = (np.arange(0, side - CROP + 1, _STRIDE) for side in (height, width))
    tops, lefts = (each.ravel() for each in np.meshgrid(rows, columns, indexing="ij"))
    spots = tuple(np.minimum(at // _COARSE, limit - 1) for at, limit in zip((tops, lefts), energy.shape, strict=True))
    chosen = _choose(energy[spots], level[spots], tops, lefts)
    crops = np.stack([pixels[tops[k] : tops[k] + CROP, lefts[k] : lefts[k] + CROP] for k in chosen])
    middles = np.stack([(lefts[chosen] + CROP / 2) / width, (tops[chosen] + CROP / 2) / height], axis=1)
    return crops, middles.astype(np.float32)


def _padded(pixels: Pixels) -> Pixels:
    """At least one crop and a bit large, mirrored at the borders."""
    height, width = pixels.shape[:2]
    missing = [max(0, CROP + _COARSE - side) for side in (height, width)]
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric") if any(missing) else pixels


def _window_means(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Mean over windows of a crop's size, by their upper left corner."""
    side = CROP // _COARSE - 1
    sums = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return np.asarray(total / side**2)


def _choose(
    energy: npt.NDArray[np.float64],
    level: npt.NDArray[np.float64],
    tops: npt.NDArray[np.int64],
    lefts: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Places of the crops with the strongest edges, then of the flattest third by third of the brightness."""
    blown = (level < _CLIPPED[0]) | (level > _CLIPPED[1])
    textured: list[int] = []
    rank = np.argsort(np.where(blown, -1, energy))[::-1]
    for k in rank:
        if all(abs(tops[k] - tops[j]) >= CROP or abs(lefts[k] - lefts[j]) >= CROP for j in textured):
            textured.append(int(k))
        if len(textured) == TEXTURED:
            break
    textured += [textured[0]] * (TEXTURED - len(textured))
    calm = np.where(blown, energy + energy.max() + 1e-6, energy)
    order = np.argsort(level, kind="stable")
    thirds = [part if len(part) else order for part in np.array_split(order, FLAT)]
    return np.array([*textured, *(int(part[np.argmin(calm[part])]) for part in thirds)])
