"""Small pictures that several tests look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_stripes(folder: Path) -> Path:
    """An ImageFolder of 60 small pictures of vertical or horizontal stripes, two of them in the wrong class; the folder."""
    random = np.random.default_rng(0)
    for number in range(60):
        vertical = number % 2 == 0
        wave = 127 + 100 * np.sin(np.arange(32) / random.uniform(1, 2) + random.uniform(0, 6))
        pixels = np.tile(wave, (32, 1)) if vertical else np.tile(wave[:, None], (1, 32))
        noisy = (pixels + random.normal(0, 8, (32, 32))).clip(0, 255).astype(np.uint8)
        wrong = number in {6, 13}
        place = folder / ("vertical" if vertical != wrong else "horizontal")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).convert("RGB").save(place / f"{number:02d}.png")
    return folder
