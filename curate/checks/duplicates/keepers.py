"""Which image of a group of copies to keep, and how its copies differ from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.duplicates.features import FRAME

EDGE_STEP: Final = 0.25
"""Edges whose widths differ by less, in pixels, are equally sharp."""

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """What is known of n images.

    Attributes:
        table: Columns image_id, location, path, width, height, split, timestamp.
        annotations: How many annotations each has, int64 of shape (n,).
        edge_width: How wide edges are, pixels; NaN where not measured; float64 of shape (n,).
        noise: Its standard deviation; NaN where not measured; float64 of shape (n,).
        brightness: Mean luminance in [0, 1], NaN where not measured; float64 of shape (n,).
    """

    table: pa.Table
    annotations: IntArray
    edge_width: FloatArray
    noise: FloatArray
    brightness: FloatArray

    @property
    def sizes(self) -> FloatArray:
        """Width and height, 0 where unknown; shape (n, 2)."""
        columns = [pc.fill_null(self.table[name], 0).to_numpy().astype(np.float64) for name in ("width", "height")]
        return np.stack(columns, axis=1)


def keeping_rank(images: Images) -> IntArray:
    """Rank of each image among all, 0 the one to keep first; shape (n,).

    First comes what has most annotations, for labels cost most; then the largest, the sharpest (by the width of
    edges, for noise sharpens nothing), the one with least noise, what is in the split
    'train' (what leaks into the others should go from there, not from training), the earliest, and by name.
    """
    split = images.table["split"].to_pylist()
    taken = np.array([np.inf if time is None else time for time in images.table["timestamp"].to_pylist()])
    name = np.argsort(np.argsort(np.array(images.table["location"].to_pylist(), dtype=object), kind="stable"))
    order = np.lexsort(
        (
            name,
            taken,
            np.array([each != "train" for each in split]),
            np.nan_to_num(images.noise, nan=np.inf),
            np.rint(np.nan_to_num(images.edge_width, nan=1e6) / EDGE_STEP),
            -images.sizes.prod(axis=1),
            -images.annotations,
        )
    )
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def describe_transform(matrix: FloatArray, *, mirrored: bool, overlap: float) -> list[str]:
    """What turns the first image into the second, in words: 'mirrored', 'rotated by 5 degrees', 'cropped to 85%'."""
    words = ["mirrored"] if mirrored else []
    angle = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    if abs(angle) >= 0.75:
        words.append(f"rotated by {abs(angle):.0f} degrees")
    if overlap < 0.97:
        words.append(f"showing {overlap:.0%} of it")
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    shift = float(np.hypot(*matrix[:, 2])) / FRAME
    if abs(scale - 1) >= 0.02 and overlap >= 0.97:
        words.append(f"cropped to {min(scale, 1 / scale):.0%}")
    elif shift >= 0.02:
        words.append(f"shifted by {shift:.0%}")
    return words


def differences(images: Images, keeper: int, copy: int) -> list[str]:
    """How a copy differs from its keeper beside the geometry: size, file type, light, annotations."""
    words = []
    sizes = images.sizes
    if (sizes[keeper] != sizes[copy]).any() and sizes[[keeper, copy]].all():
        words.append(
            f"{sizes[copy, 0]:.0f} x {sizes[copy, 1]:.0f} pixels, not {sizes[keeper, 0]:.0f} x {sizes[keeper, 1]:.0f}"
        )
    types = [_file_type(images.table["location"][row].as_py()) for row in (keeper, copy)]
    if types[0] != types[1]:
        words.append(f"{types[1]}, not {types[0]}")
    light = images.brightness[[keeper, copy]]
    if np.isfinite(light).all() and light.min() > 0 and not 0.93 < light[1] / light[0] < 1.07:
        words.append("brighter" if light[1] > light[0] else "darker")
    if images.annotations[keeper] != images.annotations[copy]:
        words.append(f"{images.annotations[copy]} annotations, not {images.annotations[keeper]}")
    return words


def move_boxes(
    boxes: FloatArray, matrix: FloatArray, mirrored: bool, size: FloatArray, other: FloatArray
) -> FloatArray:
    """Boxes of the first image where they are in the second.

    Args:
        boxes: [x, y, width, height], shape (k, 4).
        matrix: As in `pairs.Pairs`, shape (2, 3).
        mirrored: The same.
        size: Width and height of the first image.
        other: Width and height of the second.

    Returns:
        Shape (k, 4): the boxes around the moved corners.
    """
    corners = boxes[:, None, :2] + boxes[:, None, 2:] * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    moved = ((corners - size / 2) * (FRAME / size.max())) @ matrix[:, :2].T + matrix[:, 2]
    if mirrored:
        moved = moved * (-1, 1)
    moved = moved * (other.max() / FRAME) + other / 2
    low, high = moved.min(axis=1), moved.max(axis=1)
    return np.concatenate([low, high - low], axis=1)


def invert(matrix: FloatArray, mirrored: bool) -> FloatArray:
    """The model of a pair seen from its second image; shape (2, 3)."""
    mirror = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    return np.asarray((mirror @ np.linalg.inv(np.vstack([matrix, [0, 0, 1]])) @ mirror)[:2])


def _file_type(location: str) -> str:
    ending = location.rpartition(".")[2].lower()
    return {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending)
