"""Which image of a group of copies to keep, and how copies differ.

An original is one step from each of its copies, and these are two from one another: it is the one that has most in common with
the others. That is told by the comparisons which made the group, and tells more than how an image looks by itself: what was
smoothed or compressed has less noise and firmer edges than what it was made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.duplicates.features import FRAME
from curate.checks.duplicates.pairs import NEAR, SAME_BYTES, SAME_PIXELS, BoolArray, Pairs
from curate.checks.duplicates.probability import FIXED
from curate.checks.duplicates.verify import displacement
from curate.checks.graph import components

NOISE_STEP: Final = 2 / 255
"""Noise that differs by less, two grey levels, is equally strong: below, compression takes away more of it than is seen."""

EDGE_STEP: Final = 1.0
"""Edges whose widths differ by less, in pixels, are equally sharp."""

BLOCK_STEP: Final = 0.05
"""Blockiness that differs by less is equally strong."""

DETAIL_STEP: Final = 0.005
"""Correlations of detail that differ by less, on the mean, are equal."""

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """What is known of n images.

    Attributes:
        table: Columns image_id, location, path, width, height, split, timestamp.
        annotations: How many annotations each has, int64 of shape (n,).
        edge_width: How wide edges are, pixels; NaN where not measured; float64 of shape (n,).
        noise: Its standard deviation, of a luminance in [0, 1]; NaN where not measured; float64 of shape (n,).
        blockiness: Of compression; NaN where not measured; float64 of shape (n,).
        brightness: Mean luminance in [0, 1], NaN where not measured; float64 of shape (n,).
    """

    table: pa.Table
    annotations: IntArray
    edge_width: FloatArray
    noise: FloatArray
    blockiness: FloatArray
    brightness: FloatArray

    @cached_property
    def sizes(self) -> FloatArray:
        """Width and height, 0 where unknown; shape (n, 2)."""
        columns = [pc.fill_null(self.table[name], 0).to_numpy().astype(np.float64) for name in ("width", "height")]
        return np.stack(columns, axis=1)


def keeping_rank(images: Images, pairs: Pairs) -> IntArray:
    """Rank of each image among all, 0 the one to keep first; shape (n,).

    First comes what has most annotations, for labels cost most; then the largest; what most of its copies lie on unmoved and
    not mirrored; what is there most often, byte by byte; what has most detail in common with its copies; then what has no
    visible noise, no blur and no blocks; what is in the split 'train' (what leaks into the others should go from there, not
    from training), the earliest, and by name.
    """
    unmoved, twins, detail = _in_common(pairs, images.table.num_rows)
    not_train = pc.fill_null(pc.not_equal(images.table["split"], "train"), True)
    taken = pc.fill_null(images.table["timestamp"], np.inf).to_numpy()
    name = pc.rank(images.table["location"], tiebreaker="first")
    order = np.lexsort(
        (
            name.to_numpy(),
            taken,
            not_train.to_numpy(),
            _steps(images.blockiness, BLOCK_STEP),
            _steps(images.edge_width, EDGE_STEP),
            _steps(images.noise, NOISE_STEP),
            -_steps(detail, DETAIL_STEP),
            -twins,
            -unmoved,
            -images.sizes.prod(axis=1),
            -images.annotations,
        )
    )
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _in_common(pairs: Pairs, n: int) -> tuple[IntArray, IntArray, FloatArray]:
    """How many images lie on each one as it is, how many have its bytes, and its mean correlation of detail with copies."""
    copies = pairs.copies
    same = copies.kind <= SAME_PIXELS
    unmoved = same | ((copies.kind == NEAR) & ~copies.mirrored & (displacement(copies.matrix) < FIXED))
    near = copies.take(copies.kind == NEAR)
    # A near copy of an image is compared with the first only of those that equal it.
    alike = components(copies.first[same], copies.second[same], n)
    rows, detail = alike[np.concatenate([near.first, near.second])], np.tile(near.detail, 2)
    total, count = np.bincount(rows, detail, n), np.bincount(rows, minlength=n)
    return (
        _sizes(copies, unmoved, n),
        _sizes(copies, copies.kind == SAME_BYTES, n),
        (total / np.maximum(count, 1))[alike],
    )


def _sizes(pairs: Pairs, linked: BoolArray, n: int) -> IntArray:
    """How many images hang together with each by some of the pairs; shape (n,)."""
    component = components(pairs.first[linked], pairs.second[linked], n)
    return np.asarray(np.bincount(component)[component], dtype=np.int64)


def _steps(values: FloatArray, step: float) -> FloatArray:
    """Values in whole steps, the unknown ones last."""
    return np.asarray(np.rint(np.nan_to_num(values, nan=1e6) / step))


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


def differences(images: Images, other: int, copy: int) -> list[str]:
    """How a copy differs from another image of its group beside the geometry: size, file type, light, annotations."""
    words = []
    sizes = images.sizes
    if (sizes[other] != sizes[copy]).any() and sizes[[other, copy]].all():
        words.append(
            f"{sizes[copy, 0]:.0f} x {sizes[copy, 1]:.0f} pixels, not {sizes[other, 0]:.0f} x {sizes[other, 1]:.0f}"
        )
    types = [_file_type(images.table["location"][row].as_py()) for row in (other, copy)]
    if types[0] != types[1]:
        words.append(f"{types[1]}, not {types[0]}")
    light = images.brightness[[other, copy]]
    if np.isfinite(light).all() and light.min() > 0 and not 0.93 < light[1] / light[0] < 1.07:
        words.append("brighter" if light[1] > light[0] else "darker")
    if images.annotations[other] != images.annotations[copy]:
        words.append(f"{images.annotations[copy]} annotations, not {images.annotations[other]}")
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


def invert(matrix: FloatArray, mirrored: bool | BoolArray) -> FloatArray:
    """The model of a pair seen from its second image; shape (2, 3). Or of n pairs at once: shape (n, 2, 3), mirrored (n,)."""
    square = np.zeros((*matrix.shape[:-2], 3, 3))
    square[..., :2, :], square[..., 2, 2] = matrix, 1.0
    sign = np.where(np.asarray(mirrored)[..., None, None], [[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]], 1.0)
    return np.asarray(np.linalg.inv(square)[..., :2, :] * sign + 0.0)  # no zeros with a minus


def _file_type(location: str) -> str:
    ending = location.rpartition(".")[2].lower()
    return {"jpg": "jpeg", "tif": "tiff"}.get(ending, ending)
