"""Images whose pixels are numbers or colors of classes or things: taken apart into masks, painted, and written."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.errors import ImageError
from curate.formats.columns import BROKEN_MASK, Ints, ragged_indices
from curate.geometry import decode_rle, orient_pixels, polygons_to_rle, rle_areas, rle_from_counts, rle_runs, valid_rles
from curate.imaging import ImageHeader, Labels, read_header

MASK_SUFFIXES: Final = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"})
"""Endings of files that keep every value as it is; JPEG and lossy WebP do not."""

VOID: Final = 255
"""The value that VOC, Cityscapes and most since use for pixels that count as nothing."""

VOID_COLOR: Final = 0xE0E0C0
"""How VOC paints it."""

_MAX_VALUES: Final = 4096


@dataclass(frozen=True)
class Region:
    """Every pixel of one value.

    Attributes:
        value: The value.
        counts: COCO compressed run lengths.
        area: Number of pixels.
    """

    value: int
    counts: str
    area: int


def pack_colors(values: Labels) -> npt.NDArray[np.int32]:
    """RGB colors, shape (..., 3), as numbers 0xrrggbb, shape (...)."""
    red, green, blue = (values[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def fit_to_image(values: npt.NDArray[Any], header: ImageHeader) -> npt.NDArray[Any] | None:
    """A mask turned as its image is shown, where it was drawn on the image as stored; None if it is of another size.

    Args:
        values: Of shape (height, width).
        header: Of the image.
    """
    if values.shape == (header.height, header.width):
        return values
    if values.shape == header.stored_size[::-1]:
        return orient_pixels(values, header.orientation)
    return None


def fit_to_file(values: npt.NDArray[Any], path: Path | None) -> npt.NDArray[Any] | None:
    """`fit_to_image` for an image's file; the values as they are where it is not there or cannot be read."""
    if path is None:
        return values
    try:
        header = read_header(path)
    except ImageError:
        return values  # the image is reported when all are measured
    return fit_to_image(values, header)


def values_in(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The different values in an image, sorted; shape (n,). Faster than `np.unique`, since equal ones lie together."""
    flat = values.ravel()
    return np.unique(flat[np.r_[True, flat[1:] != flat[:-1]]]) if len(flat) else flat


def split_labels(values: npt.NDArray[Any], *, skip: Container[int] = ()) -> list[Region]:
    """Take an image of labels apart: one mask for each value in it.

    Args:
        values: Integers, shape (height, width).
        skip: Values that are left out.

    Returns:
        The masks, by value.

    Raises:
        ImageError: There are more values than any set has classes: it is a photograph.
    """
    # Run lengths go down the columns.
    flat = values.T.ravel()
    if len(flat) == 0:
        return []
    starts = np.r_[0, np.flatnonzero(flat[1:] != flat[:-1]) + 1]
    ends = np.r_[starts[1:], len(flat)]
    order = np.argsort(flat[starts], kind="stable")
    ordered = flat[starts[order]]
    bounds = np.r_[0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered)]
    if len(bounds) - 1 > _MAX_VALUES:
        what = f"{len(bounds) - 1:,} different values: this is not an image of classes"
        raise ImageError(what, remedy="check that images and masks are not confused")
    regions = []
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        value = int(ordered[first])
        if value not in skip:
            runs = order[first:last]
            counts = rle_from_counts(_run_lengths(starts[runs], ends[runs], len(flat)), values.shape)
            regions.append(Region(value, counts, int((ends[runs] - starts[runs]).sum())))
    return regions


def _run_lengths(starts: Ints, ends: Ints, total: int) -> list[int]:
    lengths = np.empty(2 * len(starts) + 1, dtype=np.int64)
    lengths[0:-1:2] = starts - np.r_[0, ends[:-1]]
    lengths[1::2] = ends - starts
    lengths[-1] = total - ends[-1]
    counts: list[int] = lengths.tolist()
    return counts if counts[-1] else counts[:-1]


def voc_colors(count: int) -> npt.NDArray[np.uint8]:
    """The colors that the VOC development kit gives to classes and things; uint8 array of shape (count, 3)."""
    number = np.arange(count)
    colors = np.zeros((count, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((number >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


# --------------------------------------------------------------------------------------------------------------- writing


def outline_of(annotation: Mapping[str, Any], height: int, width: int) -> tuple[str | None, str]:
    """The pixels of an annotation.

    Args:
        annotation: With type, polygons, rle and rle_size.
        height: Of its image.
        width: Of its image.

    Returns:
        COCO compressed run lengths; None, and why, where it has no outline that fits the image.
    """
    if annotation["rle"] is not None:
        size = annotation["rle_size"] or [0, 0]
        if not valid_rles([annotation["rle"]], [size])[0]:
            return None, BROKEN_MASK
        fits = list(size) == [height, width]
        return (annotation["rle"], "") if fits else (None, "masks of another size than their image")
    if annotation["polygons"] and annotation["type"] != "polyline":
        return polygons_to_rle(annotation["polygons"], height, width), ""
    return None, "without an outline"


def paint(objects: Sequence[tuple[int, str]], shape: tuple[int, int], ground: int) -> tuple[npt.NDArray[np.int32], int]:
    """Paint objects over one another, the larger first, so that small ones stay to be seen.

    Args:
        objects: The value of each, and its pixels as run lengths; of equal areas the later is on top.
        shape: (height, width).
        ground: What is there before.

    Returns:
        The painted values, and how many pixels of objects lie below those of another value.
    """
    height, width = shape
    empty = -1
    canvas = np.full(height * width, empty, dtype=np.int32)  # down the columns, as run lengths go
    areas = rle_areas([counts for _, counts in objects], [shape] * len(objects)) if objects else np.zeros(0)
    lost = 0
    for place in np.argsort(-areas, kind="stable").tolist():
        value, counts = objects[place]
        runs = rle_runs(counts)
        pixels = ragged_indices((np.cumsum(runs) - runs)[1::2], runs[1::2])
        below = canvas[pixels]
        lost += int(((below != empty) & (below != value)).sum())
        canvas[pixels] = value
    canvas[canvas == empty] = ground
    return canvas.reshape(width, height).T, lost


def kept_pixels(counts: object, shape: tuple[int | None, int | None]) -> npt.NDArray[np.bool_] | None:
    """Pixels whose run lengths were kept with an image, shape (height, width); None where they do not fit it."""
    height, width = shape
    if not isinstance(counts, str) or not height or not width or not valid_rles([counts], [(height, width)])[0]:
        return None
    return decode_rle(counts, (height, width)).astype(np.bool_)


def save_labels(path: Path, values: npt.NDArray[np.int32], palette: npt.NDArray[np.uint8]) -> None:
    """Write labels as a PNG: palette indices where all are below 256, else 16-bit grey, for which there is no palette.

    Args:
        path: The file; its folder is made.
        values: 0 to 65535, shape (height, width).
        palette: Color of each index, shape (up to 256, 3).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.size and values.max() > 255:
        Image.fromarray(values.astype(np.uint16)).save(path)
        return
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(palette.ravel().tolist(), "RGB")
    image.save(path)
