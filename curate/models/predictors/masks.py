"""Masks as run lengths: of a map of classes, and at another size. Nothing is drawn at full size that is empty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from curate.geometry import decode_rle, rle_from_counts

Ints = npt.NDArray[np.int64]


def encode_classes(labels: npt.NDArray[np.integer]) -> list[tuple[int, str]]:
    """One mask for each class of a map.

    Args:
        labels: Number of the class of each pixel, below 0 for none; shape (height, width).

    Returns:
        Number and COCO compressed run lengths of each class that occurs, ascending.
    """
    pixels = np.ascontiguousarray(labels.T).ravel()
    if not len(pixels):
        return []
    starts = np.r_[0, np.flatnonzero(pixels[1:] != pixels[:-1]) + 1]
    ends = np.r_[starts[1:], len(pixels)]
    values = pixels[starts]
    size = labels.shape[0], labels.shape[1]
    return [
        (number, _encode(starts[values == number], ends[values == number], size))
        for number in np.unique(values[values >= 0]).tolist()
    ]


def encode_mask(mask: npt.NDArray[np.bool_]) -> str | None:
    """COCO compressed run lengths of a mask of shape (height, width); None if it is empty."""
    found = encode_classes(mask.astype(np.int8) - 1)
    return found[0][1] if found else None


def scale_rle(counts: str, size: Sequence[int], wanted: Sequence[int]) -> str:
    """A mask at another size: each pixel is that of the nearest centre.

    Args:
        counts: COCO compressed run lengths.
        size: [height, width] of the mask.
        wanted: [height, width] of the mask that is wanted.

    Returns:
        Its COCO compressed run lengths.
    """
    (height, width), (tall, wide) = size, wanted
    if (height, width) == (tall, wide):
        return counts
    columns = decode_rle(counts, size).T
    x, y = _nearest(wide, width), _nearest(tall, height)
    used = np.flatnonzero(np.asarray(columns.any(axis=1))[x])
    if not len(used):
        return rle_from_counts([tall * wide], (tall, wide))
    first, last = int(used[0]), int(used[-1]) + 1
    drawn = columns[x[first:last]][:, y].ravel()
    edges = np.flatnonzero(np.diff(drawn, prepend=0, append=0)) + first * tall
    return _encode(edges[::2], edges[1::2], (tall, wide))


def _nearest(wanted: int, given: int) -> Ints:
    """For each of so many pixels the number of the one, of those given, whose centre is nearest."""
    return np.asarray(((np.arange(wanted) + 0.5) * given / wanted).astype(np.int64))


def _encode(starts: Ints, ends: Ints, size: tuple[int, int]) -> str:
    """Run lengths of the pixels from each start up to its end, counted down the columns."""
    bounds = np.r_[0, np.column_stack([starts, ends]).ravel(), size[0] * size[1]]
    runs = np.diff(bounds)
    return rle_from_counts(runs[:-1].tolist() if runs[-1] == 0 else runs.tolist(), size)
