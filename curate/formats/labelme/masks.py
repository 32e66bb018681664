"""Masks as LabelMe keeps them: an image of the box around the mask, and where that box is."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.errors import ImageError
from curate.geometry import decode_rle, rle_boxes, rle_from_counts
from curate.imaging import MAX_PIXELS, load_labels


@dataclass(frozen=True)
class Mask:
    """A mask of a whole image.

    Attributes:
        counts: COCO compressed run lengths.
        size: Height and width.
        cut_off: Pixels that lay outside the image.
    """

    counts: str
    size: tuple[int, int]
    cut_off: int


def read_mask(data: bytes, corner: tuple[int, int], size: tuple[int, int]) -> Mask:
    """Put the image of a mask where it belongs.

    Args:
        data: An image file; every pixel that is not 0 is part of the mask.
        corner: x and y of its first pixel.
        size: Width and height of the whole image; 0 where it is not known, which makes it as large as the mask needs.

    Raises:
        ImageError: It is not an image, or one that is too large.
    """
    inside = foreground(io.BytesIO(data))
    left, top = corner
    width, height = size
    if not (width and height):
        width, height = max(left + inside.shape[1], 1), max(top + inside.shape[0], 1)
    if width * height > MAX_PIXELS:
        raise ImageError("more pixels than an image may have")
    kept = inside[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    counts = _place(kept, min(max(left, 0), width), min(max(top, 0), height), width, height)
    return Mask(counts, (height, width), int(inside.sum()) - int(kept.sum()))


def write_mask(counts: str, size: Sequence[int]) -> tuple[str, list[list[float]]] | None:
    """The inverse of `read_mask`.

    Args:
        counts: COCO compressed run lengths that fill the size.
        size: Height and width.

    Returns:
        A PNG as Base64 text, and its first and last pixel; None of a mask without pixels.
    """
    left, top, width, height = rle_boxes([counts], [size]).astype(int)[0].tolist()
    if not (width and height):
        return None
    pixels = decode_rle(counts, size)[top : top + height, left : left + width]
    file = io.BytesIO()
    Image.fromarray(pixels * np.uint8(255)).save(file, format="PNG")
    corners = [[float(left), float(top)], [float(left + width - 1), float(top + height - 1)]]
    return base64.b64encode(file.getvalue()).decode(), corners


def foreground(file: IO[bytes] | Path) -> npt.NDArray[np.bool_]:
    """Which pixels of an image are not 0, in any channel but transparency; shape (height, width).

    Raises:
        ImageError: It is not an image, or one that is too large.
    """
    values = load_labels(file).values
    found: npt.NDArray[np.bool_] = np.any(values.reshape(*values.shape[:2], -1), axis=2)
    return found


def _place(part: npt.NDArray[np.bool_], left: int, top: int, width: int, height: int) -> str:
    """Run lengths of an image that is empty but for a part of it; only the columns of the part are drawn."""
    if part.size == 0:
        return rle_from_counts([width * height], (height, width))
    columns = np.zeros((height, part.shape[1]), dtype=np.bool_)
    columns[top : top + part.shape[0]] = part
    flat = columns.T.ravel()
    runs = np.diff(np.r_[0, np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat)]).tolist()
    before, after = left * height, (width - left - part.shape[1]) * height
    if flat[0]:
        runs.insert(0, 0)
    runs[0] += before
    if flat[-1]:
        runs.append(0)
    runs[-1] += after
    return rle_from_counts(runs if runs[-1] else runs[:-1], (height, width))
