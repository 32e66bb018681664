"""Boxes as plain columns, one row per box: a check that takes them sees no store and loops over no boxes in Python."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from curate.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

NOWHERE: Final = -1
"""Stands in an index or label column where there is nothing to name."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of one layer: ground truth, or the predictions of one model.

    Attributes:
        image: int64 array of shape (n,), index of the image each box lies on, in any order.
        bbox: float64 array of shape (n, 4), [x, y, width, height] in pixels; anything is allowed, also NaN.
        label: int64 array of shape (n,), index of the class; the same numbering in every layer. -1: a class that the
            ground truth does not know.
        score: float64 array of shape (n,), confidence in [0, 1]; None for ground truth.
        probabilities: array of shape (n, classes), a prediction's class probabilities, or None.
        crowd: bool array of shape (n,), COCO's ``iscrowd``: the box stands for many objects; None when none does.
        covered: int64 array, the images that were labelled (or predicted on), also those without a box; None for all.
    """

    image: IntArray
    bbox: FloatArray
    label: IntArray
    score: FloatArray | None = None
    probabilities: NDArray[np.float32] | None = None
    crowd: BoolArray | None = None
    covered: IntArray | None = None

    def __post_init__(self) -> None:
        n = len(self.image)
        if self.bbox.shape != (n, 4):
            raise InputError("boxes must be an array of shape (n, 4)", where=f"bbox of shape {self.bbox.shape}")
        for name in ("label", "score", "probabilities", "crowd"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise InputError(f"{n} boxes need {n} rows", where=f"'{name}' with {len(column)} rows")
        if n and self.image.min() < 0:
            raise InputError("an image index is negative", where=f"row {int(self.image.argmin())}")

    def __len__(self) -> int:
        return len(self.image)

    @property
    def crowds(self) -> BoolArray:
        """`crowd`, with False for None."""
        return np.zeros(len(self), dtype=bool) if self.crowd is None else self.crowd

    @property
    def usable(self) -> BoolArray:
        """bool array of shape (n,): finite, with an area, and a single object."""
        extent = self.bbox[:, 2:]
        return np.isfinite(self.bbox).all(axis=1) & (extent > 0).all(axis=1) & ~self.crowds

    def take(self, rows: IntArray | BoolArray) -> Boxes:
        """The chosen rows, in that order."""
        return replace(
            self,
            image=self.image[rows],
            bbox=self.bbox[rows],
            label=self.label[rows],
            score=None if self.score is None else self.score[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            crowd=None if self.crowd is None else self.crowd[rows],
        )


def order_by(first: NDArray[Any], second: NDArray[Any], *others: NDArray[Any]) -> IntArray:
    """Rows by several keys, the first of which counts most; equal ones as they stand.

    What `np.lexsort` gives of the keys in reverse, but the others, which seldom matter, are sorted only where two rows agree
    in the first and the second.

    Args:
        first: Array of shape (n,).
        second: The same.
        others: The same.

    Returns:
        Rows, shape (n,).
    """
    order = np.lexsort((second, first))
    equal = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for key in (first, second):
        ranked = key[order]
        equal &= ranked[1:] == ranked[:-1]
    if others and equal.any():
        tied = np.flatnonzero(np.r_[equal, False] | np.r_[False, equal])
        rows = order[tied]
        order[tied] = rows[np.lexsort([key[rows] for key in (*others[::-1], second, first)])]
    return np.asarray(order, dtype=np.int64)


def known_sizes(sizes: FloatArray) -> BoolArray:
    """Which images have a size: both sides finite and above 0; float64 array of shape (m, 2) in, shape (m,) out."""
    with np.errstate(invalid="ignore"):
        return np.asarray((sizes > 0).all(axis=1) & np.isfinite(sizes).all(axis=1))


def check_sizes(sizes: FloatArray, *layers: Boxes) -> None:
    """See that every image that a box lies on has a size.

    Raises:
        InputError: `sizes` is not of shape (m, 2), or an image index is m or more.
    """
    if sizes.ndim != 2 or sizes.shape[1] != 2:
        raise InputError("image sizes must be an array of shape (m, 2)", where=f"sizes of shape {sizes.shape}")
    last = max((int(layer.image.max(initial=-1)) for layer in layers), default=-1)
    if last >= len(sizes):
        raise InputError(
            f"there are sizes for {len(sizes)} images", where=f"image index {last}", remedy="0 where unknown"
        )
