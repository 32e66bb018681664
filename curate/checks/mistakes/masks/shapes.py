"""Masks and polygons as they are stored, drawn into the smallest window that holds them.

Nothing is given to the C code that draws before it is known to be sound: it trusts what it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pycocotools import mask as coco_mask

from curate.checks.boxes import FloatArray
from curate.geometry import polygons_to_rle, rle_from_counts, rle_runs, valid_rles
from curate.models.predictors.masks import scale_rle

Pixels = npt.NDArray[np.uint8]

SOUND: Final = ""
UNDECODABLE: Final = "undecodable"
TOO_FEW_POINTS: Final = "points"
OTHER_SIZE: Final = "size"
OTHER_SHAPE: Final = "shape"
EMPTY: Final = "empty"
"""What is wrong with a stored mask: its run lengths; its corners; it is of a scaled copy of its image, or of something else."""

_LOOKED_AT: Final = 256

SHAPE_COLUMNS: Final = ("annotation_id", "image_id", "layer", "type", "polygons", "rle", "rle_size")


@dataclass(frozen=True)
class Window:
    """A mask, as much of it as there is.

    Attributes:
        x: Left of the window, pixels.
        y: Top of it.
        pixels: 0 and 1; uint8 array of shape (height, width), contiguous, no border of it empty.
    """

    x: int
    y: int
    pixels: Pixels

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(np.count_nonzero(self.pixels))

    @property
    def bbox(self) -> list[float]:
        """[x, y, width, height]."""
        height, width = self.pixels.shape
        return [float(self.x), float(self.y), float(width), float(height)]

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where it lies in its image: rows and columns."""
        height, width = self.pixels.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


@dataclass(frozen=True)
class Stored:
    """One mask of a layer.

    Attributes:
        fault: `SOUND`, or what is wrong with it.
        size: [height, width] of its image (or of the mask, where the image's is unknown).
        counts: COCO compressed run lengths at that size; None where nothing can be drawn.
        polygons: Where it is stored as such.
    """

    fault: str
    size: tuple[int, int]
    counts: str | None
    polygons: Sequence[Sequence[float]] | None = None

    def window(self) -> Window | None:
        """The mask, drawn; None for one that encloses nothing or cannot be drawn."""
        return None if self.counts is None else crop(self.counts, self.size)


def has_shape(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Which annotations are masks or polygons; bool array of shape (n,). Polylines are neither."""
    polygons = pc.and_(pc.is_valid(table["polygons"]), pc.not_equal(table["type"], "polyline"))
    return np.asarray(pc.or_(pc.is_valid(table["rle"]), polygons).to_numpy(zero_copy_only=False), dtype=np.bool_)


def stored_masks(table: pa.Table, sizes: FloatArray) -> list[Stored]:
    """Masks of n annotations.

    Args:
        table: Columns polygons, rle and rle_size.
        sizes: [width, height] of each one's image, NaN or 0 where unknown; float64 array of shape (n, 2).
    """
    counts, polygons = table["rle"].to_pylist(), table["polygons"].to_pylist()
    own = [(0, 0) if size is None else (int(size[0]), int(size[1])) for size in table["rle_size"].to_pylist()]
    texts = [text or "" for text in counts]
    own_sizes = np.array(own, dtype=np.int64).reshape(-1, 2)
    # Looking at all digits at once takes a hundred times the memory of the texts.
    starts = range(0, len(texts), _LOOKED_AT)
    valid = [flag for k in starts for flag in valid_rles(texts[k : k + _LOOKED_AT], own_sizes[k : k + _LOOKED_AT])]
    known = np.nan_to_num(np.maximum(sizes, 0)).astype(np.int64)[:, ::-1].tolist()
    return [
        _polygon(parts or (), (height, width))
        if text is None
        else _mask(text, size, (height, width) if height and width else size, bool(is_valid))
        for text, parts, size, (height, width), is_valid in zip(counts, polygons, own, known, valid, strict=True)
    ]


def crop(counts: str, size: Sequence[int]) -> Window | None:
    """Draw sound run lengths of a [height, width] mask; None if it is empty."""
    rle = {"counts": counts.encode(), "size": list(size)}
    x, y, width, height = coco_mask.toBbox(rle).astype(int).tolist()
    if width == 0 or height == 0:
        return None
    # Only the columns of the box are drawn: they are one stretch of the runs.
    ends = np.clip(np.cumsum(rle_runs(counts)) - x * size[0], 0, width * size[0])
    columns = np.repeat(np.arange(len(ends), dtype=np.uint8) % 2, np.diff(ends, prepend=0)).reshape(width, size[0])
    return Window(x, y, np.ascontiguousarray(columns[:, y : y + height].T))


def encode(window: Window, size: Sequence[int]) -> str:
    """COCO compressed run lengths of a window in a [height, width] image."""
    height, width = size
    columns = np.zeros((window.pixels.shape[1], height), dtype=np.uint8)
    columns[:, window.y : window.y + window.pixels.shape[0]] = window.pixels.T
    flat = columns.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=0, append=0))
    bounds = np.concatenate([[0], changes + window.x * height, [height * width]])
    runs = np.diff(bounds)
    return rle_from_counts(runs[:-1].tolist() if runs[-1] == 0 else runs.tolist(), (height, width))


def tight(pixels: npt.NDArray[Any], x: int, y: int) -> Window | None:
    """The window around what is not zero in a larger one; None if all is."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    inner = pixels[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return Window(x + left, y + top, np.ascontiguousarray(inner, dtype=np.uint8))


def thickness(pixels: Pixels) -> float:
    """How thick a mask is, in pixels: 2 * area / length of its outline; of a long bar its width."""
    padded = np.pad(pixels, 1)
    outline = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    return 2.0 * np.count_nonzero(pixels) / outline


def _mask(text: str, own: tuple[int, int], size: tuple[int, int], valid: bool) -> Stored:
    if not valid:
        return Stored(UNDECODABLE, size, None)
    if own == size:
        return _unless_empty(text, size)
    if not _scaled(own, size):
        return Stored(OTHER_SHAPE, size, None)
    return Stored(OTHER_SIZE, size, scale_rle(text, own, size))


def _polygon(parts: Sequence[Sequence[float]], size: tuple[int, int]) -> Stored:
    fine = [part for part in parts if len(part) >= 6 and len(part) % 2 == 0 and np.isfinite(part).all()]
    if not size[0]:
        size = _extent(fine)
    drawn = _unless_empty(polygons_to_rle(fine, *size), size) if fine else Stored(EMPTY, size, None)
    fault = TOO_FEW_POINTS if len(fine) < len(parts) or not parts else drawn.fault
    return Stored(fault, size, drawn.counts, fine)


def _unless_empty(counts: str, size: tuple[int, int]) -> Stored:
    is_empty = int(coco_mask.area({"counts": counts.encode(), "size": list(size)})) == 0
    return Stored(EMPTY if is_empty else SOUND, size, None if is_empty else counts)


def _scaled(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether the one is a scaled copy of the other, whose sides are rounded by up to half a pixel each."""
    coarse, fine = sorted([first, second])
    return abs(coarse[0] / fine[0] - coarse[1] / fine[1]) <= 0.5 / fine[0] + 0.5 / fine[1] + 1e-9


def _extent(parts: Sequence[Sequence[float]]) -> tuple[int, int]:
    """A [height, width] that holds polygons whose image's size is not known."""
    if not parts:
        return 1, 1
    points = np.concatenate([np.asarray(part).reshape(-1, 2) for part in parts])
    width, height = np.clip(np.ceil(points.max(axis=0)), 1, 2**14).astype(int).tolist()
    return height, width
