"""What copies are recognised by: local features and a small grey picture of each image, made in one pass over the pixels.

Features are SIFT (Lowe, IJCV 2004) at 320 pixels with root normalisation (Arandjelovic & Zisserman, CVPR 2012), the 300
strongest. Those of the mirrored image need no second pass: a descriptor's mirror image is a permutation of it.

An image takes 78 KB. They are kept in a file, mapped into memory, so that a set of any size is compared in little memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.engine.local import run_local
from curate.engine.stage import Item
from curate.imaging import Pixels

FRAME: Final = 320
"""Longer side of the frame that features are found in; their coordinates are pixels of it."""

SMALL: Final = 128
"""Longer side of the small grey picture."""

MOST: Final = 300
"""Features kept of an image."""

_SCALE: Final = 512.0
# Weak corners too: what is dark or blurred has no others. The strongest are kept anyway.
_CONTRAST: Final = 0.01
_EDGE: Final = 15
# Grey levels that compression may change padding by.
_SAME: Final = 3

_MIRROR: Final = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()
"""Where the numbers of a descriptor come from in that of the mirrored image: rows turn round, and so do directions."""

_RECORD: Final = np.dtype(
    [
        ("count", np.int16),
        ("size", np.int16, (2,)),
        ("points", np.float32, (MOST, 2)),
        ("descriptors", np.uint8, (MOST, 128)),
        ("small", np.uint8, (SMALL, SMALL)),
        ("padding", np.uint8, (SMALL, SMALL)),
    ]
)


@dataclass(frozen=True)
class Features:
    """What one image is recognised by.

    Attributes:
        points: Where its features are, pixels of its frame; float32 of shape (n, 2).
        descriptors: Unit vectors, float32 of shape (n, 128).
        small: Grey, longer side 128; uint8 of shape (h, w).
        padding: 1 where the picture is filled up with one grey value from a corner on, or its background has only one; uint8
            of shape (h, w).
    """

    points: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]
    small: npt.NDArray[np.uint8]
    padding: npt.NDArray[np.uint8]


def mirrored(descriptors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Descriptors of the same features in the mirrored image; shape (n, 128)."""
    return np.asarray(descriptors[:, _MIRROR])


def extract(pixels: Pixels) -> npt.NDArray[np.void]:
    """Find an image's features.

    Args:
        pixels: uint8 array of shape (height, width, 3).

    Returns:
        A record for `FeatureStore`.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    frame, small = _scaled(gray, FRAME), _scaled(gray, SMALL)
    record = np.zeros((), _RECORD)
    record["size"] = small.shape
    record["small"][: small.shape[0], : small.shape[1]] = small
    record["padding"][: small.shape[0], : small.shape[1]] = find_padding(small)
    sift = cv2.SIFT_create(MOST, contrastThreshold=_CONTRAST, edgeThreshold=_EDGE)  # type: ignore[attr-defined]
    points, descriptors = sift.detectAndCompute(frame, None)
    count = min(len(points), MOST)
    if count:
        roots = np.sqrt(descriptors[:count] / np.maximum(descriptors[:count].sum(axis=1, keepdims=True), 1e-6))
        record["count"] = count
        record["points"][:count] = [point.pt for point in points[:count]]
        record["descriptors"][:count] = np.minimum(np.rint(roots * _SCALE), 255)
    return record


def features_of(record: npt.NDArray[np.void]) -> Features:
    """What `extract` found, ready to be compared."""
    count, (height, width) = int(record["count"]), record["size"]
    descriptors = record["descriptors"][:count].astype(np.float32)
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6)
    return Features(
        record["points"][:count], descriptors, record["small"][:height, :width], record["padding"][:height, :width]
    )


def find_padding(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What is of one grey value and touches a corner; uint8 array of 0 and 1, shape (h, w)."""
    height, width = small.shape
    filled = np.zeros((height + 2, width + 2), np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
    for x, y in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
        if not filled[y + 1, x + 1]:
            cv2.floodFill(small, filled, (x, y), 0, _SAME, _SAME, flags)
    return np.asarray(filled[1:-1, 1:-1])


def _scaled(gray: npt.NDArray[Any], longest: int) -> npt.NDArray[Any]:
    height, width = gray.shape
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))


class FeatureStore:
    """Features of images, in a file.

    Args:
        path: The file; made anew.
        count: How many images.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._records: npt.NDArray[np.void] = np.memmap(path, _RECORD, "w+", shape=(max(count, 1),))
        self.there = np.zeros(count, dtype=bool)

    def __getitem__(self, row: int) -> Features:
        return features_of(self._records[row])

    def put(self, row: int, record: npt.NDArray[np.void]) -> None:
        """Keep what `extract` gave for an image."""
        self._records[row] = record
        self.there[row] = True

    def fill(self, rows: npt.NDArray[np.int64], paths: Sequence[str | None]) -> None:
        """Find the features of images whose files are at `paths`; those that cannot be read are left out."""
        missing = rows[~self.there[rows]]
        items = [Item(paths[row] or "") for row in missing.tolist()]
        for batch in run_local(_Stage(), items, batch_size=1):
            self.put(int(missing[batch.item[0]]), _from_bytes(batch.columns))


class _Stage:
    """`extract` as a stage."""

    input_size: int | None = FRAME
    margin = 0.0

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.void]:
        return extract(pixels)

    def run(self, batch: Sequence[npt.NDArray[np.void]]) -> pa.RecordBatch:
        column = pa.array([record.tobytes() for record in batch], pa.binary(_RECORD.itemsize))
        return pa.RecordBatch.from_arrays([column], names=["features"])


def _from_bytes(columns: pa.RecordBatch) -> npt.NDArray[np.void]:
    record: npt.NDArray[np.void] = np.frombuffer(columns["features"][0].as_py(), _RECORD)[0]
    return record
