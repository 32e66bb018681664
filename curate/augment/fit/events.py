"""Shadows and glare: how many images have a large dark or blown area, and images that stand for all others."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

EVENTS: Final = ("shadows", "glare")

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_BLOWN: Final = 0.97
_OF_BLOWN: Final = 0.015
_DARKER: Final = 1.2
_OF_DARK: Final = 0.06
_FLOOR: Final = 0.02
_REFERENCES: Final = 8


def events(small: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Whether thumbnails have a dark and a blown area of some size: 0 or 1, shape (n, 2) in the order of `EVENTS`.

    Args:
        small: RGB in [0, 1], shape (n, k, k, 3).
    """
    octaves = np.log2(small @ _LUMA + _FLOOR)
    ground = np.median(octaves, axis=(1, 2), keepdims=True)
    dark, blown = octaves < ground - _DARKER, small.min(axis=3) > _BLOWN
    rows = [(_largest(a) >= _OF_DARK, _largest(b) >= _OF_BLOWN) for a, b in zip(dark, blown, strict=True)]
    return np.array(rows, np.float64).reshape(-1, len(EVENTS))


def _largest(mask: npt.NDArray[np.bool_]) -> float:
    """Part of the image that the largest connected area covers."""
    _, _, found, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = found[1:, cv2.CC_STAT_AREA]
    return float(areas.max()) / mask.size if len(areas) else 0.0


def representatives(numbers: npt.NDArray[np.floating[Any]], seed: int) -> tuple[int, ...]:
    """Rows that between them are like all others: the nearest to the middle of each of a few clusters, in order.

    Args:
        numbers: Of n images, shape (n, d).
        seed: Of the clustering.
    """
    scaled = (numbers - numbers.mean(axis=0)) / (numbers.std(axis=0) + 1e-6)
    count = min(_REFERENCES, len(np.unique(scaled, axis=0)))
    middles = KMeans(count, n_init=3, random_state=seed).fit(scaled).cluster_centers_
    nearest = np.square(scaled[None] - middles[:, None]).sum(axis=2).argmin(axis=1)
    return tuple(sorted({int(k) for k in nearest}))
