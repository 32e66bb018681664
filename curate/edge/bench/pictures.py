"""Images to measure on where nobody gives any: files that are as hard to decode as a camera's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def make_pictures(folder: Path, size: tuple[int, int], *, count: int = 8, seed: int = 0) -> list[Path]:
    """Write JPEG files of smooth shapes with the noise of a sensor.

    Args:
        folder: Where to; must be there.
        size: Height and width in pixels.
        count: How many.
        seed: Of everything random.
    """
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        layers = [_blots(random, cells, size) for cells in (3, 12, 48)]
        pixels = np.mean(layers, axis=0) + random.normal(0, 4, (*size, 3))
        path = folder / f"{number:02d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def _blots(
    random: np.random.Generator, cells: int, size: Sequence[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    small = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC), np.float64)
