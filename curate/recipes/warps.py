"""Where points of an image go, and where pixels come from, when it is moved.

All coordinates are continuous pixels: an image of width w spans [0, w], the centre of its first pixel is 0.5. A chain of warps
says both ways where things are, to the precision of floats, however many steps there were; masks are looked up once at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
Size = tuple[int, int]
"""(height, width)."""

_SAMPLE: Final = 6
_ROUNDS: Final = 30
_FOUND: Final = 1e-3
_BEHIND: Final = 1e-6


class Warp(Protocol):
    """One step that moves an image.

    Attributes:
        size_in: Of the image before.
        size_out: Of the image after.
        straight: Whether straight lines stay straight.
    """

    @property
    def size_in(self) -> Size: ...

    @property
    def size_out(self) -> Size: ...

    @property
    def straight(self) -> bool: ...

    def forward(self, points: Array) -> Array:
        """Points before -> after; shape (n, 2). NaN where a point goes nowhere."""

    def backward(self, points: Array) -> Array:
        """Points after -> before; shape (n, 2)."""

    def mirrors(self) -> bool:
        """Whether left and right change places."""


@dataclass(frozen=True)
class Homography:
    """A warp that keeps lines straight: a flip, a crop, a rotation, a change of perspective.

    Attributes:
        matrix: Of homogeneous coordinates [x, y, 1]; shape (3, 3).
    """

    matrix: Array
    size_in: Size
    size_out: Size
    straight: bool = True

    @property
    def affine(self) -> bool:
        """Whether parallel lines stay parallel."""
        return bool(self.matrix[2, 0] == 0 and self.matrix[2, 1] == 0)

    @cached_property
    def inverse(self) -> Array:
        """The matrix of the way back."""
        return np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)

    def forward(self, points: Array) -> Array:
        return _project(self.matrix, points)

    def backward(self, points: Array) -> Array:
        return _project(self.inverse, points)

    def mirrors(self) -> bool:
        return bool(np.linalg.det(self.matrix) * np.sign(self.matrix[2, 2]) < 0)

    def in_front(self, points: Array) -> Array:
        """How far before the horizon points are, beyond which they are not seen; negative behind it; shape (n,)."""
        centre = np.array([[self.size_in[1] / 2, self.size_in[0] / 2, 1.0]])
        depth = np.column_stack([points, np.ones(len(points))]) @ self.matrix[2]
        return np.asarray(depth * np.sign(centre @ self.matrix[2]) - _BEHIND)


@dataclass(frozen=True)
class Field:
    """A warp that says of each pixel after it where it comes from.

    Attributes:
        source: x and y before of every pixel's centre after; shape (height, width, 2).
    """

    source: Array
    size_in: Size
    straight: bool = False

    @property
    def size_out(self) -> Size:
        height, width = self.source.shape[:2]
        return height, width

    @cached_property
    def _shifts(self) -> Array:
        shifts: Array = self.source - np.stack(np.meshgrid(*_centres(self.size_out)[::-1]), axis=-1)
        return shifts

    @cached_property
    def _samples(self) -> tuple[cKDTree, Array]:
        """A coarse grid: a tree of where its points come from, and the points."""
        rows, columns = _centres(self.size_out)
        x, y = np.meshgrid(columns[::_SAMPLE], rows[::_SAMPLE])
        return cKDTree(self.source[::_SAMPLE, ::_SAMPLE].reshape(-1, 2)), np.column_stack([x.ravel(), y.ravel()])

    def backward(self, points: Array) -> Array:
        """Bilinear between pixels, as pixels themselves are; beyond the image the shift of its border goes on."""
        height, width = self.size_out
        at = np.clip(points - 0.5, 0, [width - 1, height - 1])
        low = np.minimum(at.astype(np.int64), [max(width - 2, 0), max(height - 2, 0)])
        x, y = low.T
        right, below = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
        u, v = (at - low).T[..., None]
        shifts = self._shifts
        above = shifts[y, x] * (1 - u) + shifts[y, right] * u
        under = shifts[below, x] * (1 - u) + shifts[below, right] * u
        return np.asarray(points + above * (1 - v) + under * v)

    def forward(self, points: Array) -> Array:
        """The points that come from the given ones, by Newton's method from the nearest of a grid."""
        if not len(points):
            return points
        tree, grid = self._samples
        nearest = tree.query(points)[1]
        found: Array = grid[nearest] + (points - tree.data[nearest])
        step = np.array([0.5, 0.0]), np.array([0.0, 0.5])
        for _ in range(_ROUNDS):
            missed = points - self.backward(found)
            if (np.abs(missed) < _FOUND).all():
                break
            across, down = (self.backward(found + each) - self.backward(found - each) for each in step)
            determinant = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
            determinant = np.where(np.abs(determinant) < 0.05, np.copysign(0.05, determinant), determinant)
            move = np.column_stack(
                [
                    (down[:, 1] * missed[:, 0] - down[:, 0] * missed[:, 1]) / determinant,
                    (across[:, 0] * missed[:, 1] - across[:, 1] * missed[:, 0]) / determinant,
                ]
            )
            found = found + np.clip(move, -_SAMPLE, _SAMPLE)
        return found

    def mirrors(self) -> bool:
        return self.folds and bool((self._turns < 0).mean() > 0.5)

    @cached_property
    def folds(self) -> bool:
        """Whether some of the image is seen twice, or mirrored: outlines cannot say then what is in them."""
        return bool((self._turns < -_FOUND).any())

    @cached_property
    def _turns(self) -> Array:
        if min(self.size_out) < 2:
            return np.ones((1, 1))
        across, down = np.diff(self.source, axis=1)[:-1], np.diff(self.source, axis=0)[:, :-1]
        return np.asarray(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])


@dataclass(frozen=True)
class Window:
    """Part of an image: columns [left, right), rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> Size:
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class Origin:
    """Which pixel of the first image each pixel of a window of the last one shows.

    Attributes:
        pixels: Its number, row by row, 0 where there is none; int64 of the window's size.
        seen: Whether it shows any.
    """

    pixels: npt.NDArray[np.int64]
    seen: npt.NDArray[np.bool_]

    def take(self, values: npt.NDArray[Any], fill: Any) -> npt.NDArray[Any]:
        """Values of the first image's pixels, on the window; `fill` where none is shown."""
        taken = np.take(values.reshape(-1), self.pixels)
        taken[~self.seen] = fill
        return taken


def origin(warps: Sequence[Warp], window: Window) -> Origin:
    """Follow the centres of a window's pixels back to the nearest pixel of the first image.

    A pixel that any step took from outside of its image shows nothing.
    """
    x, y = np.arange(window.left, window.right) + 0.5, np.arange(window.top, window.bottom) + 0.5
    across: Array = np.broadcast_to(x, window.size)
    down: Array = np.broadcast_to(y[:, None], window.size)
    seen = np.ones(window.size, dtype=np.bool_)
    # While all steps so far are affine, columns and rows are sums of two rows of numbers.
    regular: Array | None = np.eye(3)
    for warp in reversed(warps):
        if regular is not None and isinstance(warp, Homography) and warp.affine:
            regular = warp.inverse @ regular
            a, b = (regular[:2] / regular[2, 2])[:, :, None]
            across, down = (each[0] * x + (each[1] * y + each[2])[:, None] for each in (a, b))
        else:
            regular = None
            before = warp.backward(np.column_stack([across.ravel(), down.ravel()]))
            across, down = before.T.reshape(2, *window.size)
        height, width = warp.size_in
        seen &= (across >= 0) & (across < width) & (down >= 0) & (down < height)
    rows, columns = (np.where(seen, each, 0).astype(np.int64) for each in (down, across))
    return Origin(rows * warps[0].size_in[1] + columns, seen)


def _project(matrix: Array, points: Array) -> Array:
    if matrix[2, 0] == 0 and matrix[2, 1] == 0:
        return np.asarray(points @ (matrix[:2, :2].T / matrix[2, 2]) + matrix[:2, 2] / matrix[2, 2])
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(moved[:, :2] / moved[:, 2:])


def _centres(size: Size) -> tuple[Array, Array]:
    return np.arange(0.5, size[0]), np.arange(0.5, size[1])
