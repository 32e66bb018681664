"""Near, middle and far: each class parted by depth into thirds, and images by where most of their objects are."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NAMES: Final = ("near", "middle", "far")
TAGS: Final = tuple(f"depth:{name}" for name in NAMES)
"""Tags of images, in the order of `NAMES`."""

NONE: Final = -1
FEWEST: Final = 6
"""A class with fewer objects is not parted."""


def class_thirds(depth: FloatArray, label: IntArray) -> tuple[IntArray, dict[int, tuple[float, float]]]:
    """In which third of its class each object is.

    Args:
        depth: NaN where not known; shape (n,).
        label: Numbers of the classes, below 0 for none; shape (n,).

    Returns:
        0, 1 or 2 as in `NAMES`, `NONE` where it cannot be told; int64 of shape (n,). And the bounds between the thirds, by class.
        A class whose depths are all alike is in the middle.
    """
    third = np.full(len(depth), NONE, np.int64)
    bounds: dict[int, tuple[float, float]] = {}
    known = ~np.isnan(depth) & (label >= 0)
    for number in np.unique(label[known]).tolist():
        rows = np.flatnonzero(known & (label == number))
        if len(rows) < FEWEST:
            continue
        first, second = np.quantile(depth[rows], [1 / 3, 2 / 3]).tolist()
        bounds[number] = first, second
        third[rows] = (depth[rows] > first).astype(np.int64) + (depth[rows] >= second) if first < second else 1
    return third, bounds


def image_tags(third: IntArray, image: IntArray, count: int) -> pa.StringArray:
    """The tag of each of m images: of the third that most of its objects are in, of the middle where none has most.

    Args:
        third: Of n objects.
        image: Number of each one's image; shape (n,).
        count: m.

    Returns:
        m of `TAGS`; null for images without an object that is parted.
    """
    known = third >= 0
    counts = np.zeros((count, len(NAMES)), np.int64)
    np.add.at(counts, (image[known], third[known]), 1)
    highest = counts == counts.max(axis=1, keepdims=True)
    best = np.where(highest.sum(axis=1) > 1, 1, highest.argmax(axis=1))
    return pa.array(TAGS).take(pa.array(best, mask=counts.sum(axis=1) == 0))
