"""Pictures of no particular thing, all different: a ground of some colour, soft and hard shapes, and a little grain."""

from __future__ import annotations

import cv2
import numpy as np

from curate.imaging import Pixels


def picture(seed: int, height: int = 160, width: int = 208) -> Pixels:
    """One picture, uint8 of shape (height, width, 3)."""
    rng = np.random.default_rng([seed, 77])
    canvas = np.full((height, width, 3), rng.uniform(70, 170, 3) * 0.3 + rng.uniform(70, 150), np.float32)
    for _ in range(14):
        color = [float(value) for value in rng.uniform(15, 235, 3) * 0.5 + rng.uniform(10, 120)]
        middle = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        size = (int(rng.integers(4, 40)), int(rng.integers(4, 30)))
        cv2.ellipse(canvas, middle, size, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
    texture = cv2.GaussianBlur(rng.normal(0, 25, (height, width)).astype(np.float32), (0, 0), 1.2)
    canvas[: height // 2] += texture[: height // 2, :, None]
    return np.clip(canvas + rng.normal(0, 1.0, canvas.shape), 0, 255).astype(np.uint8)


def pictures(first: int, count: int) -> list[Pixels]:
    """Some, by their numbers."""
    return [picture(seed) for seed in range(first, first + count)]
