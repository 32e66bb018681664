"""Masks as CVAT writes them: run lengths along the rows of a box, beginning with background; and COCO's, of a whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.formats.columns import Ints
from curate.geometry import decode_rle, rle_boxes, rle_from_counts
from curate.imaging import MAX_PIXELS

BAD_RUNS: Final = "run lengths do not fill the mask's box"
TOO_LARGE: Final = "a mask or image of too many pixels"
OUTSIDE: Final = "a mask that lies outside its image"


def mask_from_box(runs: Ints, box: Sequence[int], size: tuple[int, int]) -> tuple[str, list[int]] | str:
    """A mask of the whole image from CVAT's run lengths.

    Args:
        runs: Lengths of background, mask, background ... along the rows of the box; shape (n,).
        box: Left, top, width and height, pixels. What lies outside the image is cut off.
        size: Width and height of the image.

    Returns:
        COCO compressed run lengths and [height, width]; or why there is none, in words for the loss report.
    """
    left, top, width, height = box
    if min(width, height, *size) <= 0 or (len(runs) and runs.min() < 0):
        return BAD_RUNS
    if width * height > MAX_PIXELS or size[0] * size[1] > MAX_PIXELS:
        return TOO_LARGE
    # Lengths are compared first: their sum could overflow.
    if not len(runs) or runs.max() > width * height or int(runs.sum()) != width * height:
        return BAD_RUNS
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    mask = mask[max(0, -top) : max(0, size[1] - top), max(0, -left) : max(0, size[0] - left)]
    if not mask.any():
        return OUTSIDE
    return _in_image(mask, max(0, left), max(0, top), size), [size[1], size[0]]


def mask_to_box(counts: str, size: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """The inverse of `mask_from_box`, with the smallest box.

    Args:
        counts: COCO compressed run lengths that fill the size (`curate.formats.columns.broken_masks`).
        size: Height and width.

    Returns:
        The run lengths, and left, top, width and height; None for a mask without a pixel.
    """
    left, top, width, height = rle_boxes([counts], [size]).astype(int)[0].tolist()
    if width == 0 or height == 0:
        return None
    values = decode_rle(counts, size)[top : top + height, left : left + width].ravel()
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    runs = np.diff(np.r_[0, changes, len(values)]).tolist()
    return ([0, *runs] if values[0] else runs), [left, top, width, height]


def _in_image(mask: npt.NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> str:
    """Column-major run lengths of a mask within an image, without drawing the image."""
    width, height = size
    columns = np.pad(mask.T, ((0, 0), (1, 1))).astype(np.int8)
    column, edge = np.nonzero(np.diff(columns, axis=1))
    places = (left + column) * height + top + edge
    starts, ends = places[::2], places[1::2]
    # A run down to the image's lower border goes on at the top of the next column.
    joined = np.flatnonzero(starts[1:] == ends[:-1])
    starts, ends = np.delete(starts, joined + 1), np.delete(ends, joined)
    runs = np.diff(np.r_[0, np.column_stack([starts, ends]).ravel(), width * height]).tolist()
    return rle_from_counts(runs if runs[-1] else runs[:-1], [height, width])
