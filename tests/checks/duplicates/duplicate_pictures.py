"""Pictures for the tests of duplicates: overlapping ellipses, unlike one another."""

from __future__ import annotations

import cv2
import numpy as np

from curate.imaging import Pixels


def picture(seed: int, width: int = 320, height: int = 240, shapes: int = 60) -> Pixels:
    """Overlapping ellipses of random colors with a little noise."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(shapes):
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(4, width // 8)), int(rng.integers(4, height // 8)))
        cv2.ellipse(image, center, axes, float(rng.uniform(0, 180)), 0, 360, rng.integers(0, 255, 3).tolist(), -1)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """What JPEG compression leaves."""
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def transforms(pixels: Pixels) -> dict[str, Pixels]:
    """The copies that must be recognised."""
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(0)
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 5, 1)
    logo = pixels.copy()
    logo[5:30, 5:90] = (250, 220, 0)
    return {
        "jpeg": jpeg(pixels, 40),
        "half": np.asarray(cv2.resize(pixels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)),
        "crop": pixels[: int(0.85 * height), int(0.1 * width) : int(0.95 * width)],
        "rotated": np.asarray(cv2.warpAffine(pixels, turn, (width, height))),
        "flip": np.ascontiguousarray(pixels[:, ::-1]),
        "dark": (pixels * 0.65).astype(np.uint8),
        "bright": np.clip(pixels * 1.35, 0, 255).astype(np.uint8),
        "noise": np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8),
        "logo": logo,
    }
