"""Brush strokes: the run lengths in which Label Studio stores a painted region.

The list of bytes is a stream of bits, most significant first (thi.ng/rle-pack, as the Label Studio editor uses it)::

    32 bits     number of values: width * height * 4, since the values are those of an RGBA picture, row by row
     5 bits     bits of a value, minus 1
    4 x 4 bits  the four lengths, in bits, that a count may have, each minus 1
    then runs:  1 bit   whether one value follows that is repeated, or as many values as counted
                2 bits  which of the four lengths the count has
                        the count, minus 1; then the value or values

What is painted is where the last of the four channels, alpha, is above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate.formats.columns import Flags, Ints
from curate.imaging import MAX_PIXELS

_HEADER_BITS: Final = 32 + 5 + 4 * 4
_VALUE_BITS: Final = 8
_CHANNELS: Final = 4
_COUNT_BITS: Final = np.array([3, 4, 8, 16])
_LONGEST_RUN: Final = 1 << 16
_FEW: Final = 64

_Bytes = npt.NDArray[np.uint8]


def decode_brush(codes: Sequence[Any], width: int, height: int) -> Flags | None:
    """Draw a brush region.

    Args:
        codes: The region's ``rle``: numbers from 0 to 255.
        width: The region's ``original_width``, pixels.
        height: The region's ``original_height``.

    Returns:
        What is painted, shape (height, width); None if the codes do not describe a picture of that size.
    """
    try:
        data = bytes(codes)
    except (TypeError, ValueError):
        return None
    header = int.from_bytes(data[:7]) >> (56 - _HEADER_BITS)
    count, value_bits = header >> 21, (header >> 16 & 0x1F) + 1
    fits = 0 < width * height <= MAX_PIXELS and count == width * height * _CHANNELS
    if len(data) < 7 or not fits or value_bits != _VALUE_BITS:
        return None
    runs = _runs(data, [(header >> shift & 0xF) + 1 for shift in (12, 8, 4, 0)], count)
    if runs is None:
        return None
    lengths, values = runs
    ends = np.minimum(np.cumsum(lengths), count)
    # A run up to place p covers the alpha of p // 4 pixels.
    return np.repeat(values > 0, np.diff(ends // _CHANNELS, prepend=0)).reshape(height, width)


def encode_brush(mask: npt.ArrayLike) -> list[int]:
    """The ``rle`` of a brush region, opaque white where it is painted.

    Args:
        mask: Shape (height, width); zero is background.
    """
    flat = np.asarray(mask).ravel() != 0
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.r_[0, changes, len(flat)]) * _CHANNELS
    values = flat[np.r_[0, changes]] * 255
    lengths, values = _cut_long_runs(lengths, values)
    which = np.searchsorted(1 << _COUNT_BITS[:3], lengths)
    bits = _COUNT_BITS[which]
    runs = ((((4 | which) << bits) | (lengths - 1)) << _VALUE_BITS) | values
    header = len(flat) * _CHANNELS << 21 | (_VALUE_BITS - 1) << 16
    for bits_of_count, shift in zip(_COUNT_BITS.tolist(), (12, 8, 4, 0), strict=True):
        header |= (bits_of_count - 1) << shift
    packed = _pack(np.r_[header, runs], np.r_[_HEADER_BITS, 3 + bits + _VALUE_BITS])
    codes: list[int] = packed.tolist()
    return codes


def _runs(data: bytes, count_bits: Sequence[int], count: int) -> tuple[Ints, Ints] | None:
    """Length and value of each run, together at least `count` long; None if the data end before."""
    total = 8 * len(data)
    padded = data + bytes(8)
    found: list[tuple[Any, Any]] = []
    lengths: list[int] = []
    values: list[int] = []
    at, done = _HEADER_BITS, 0
    while done < count:
        # 3 + 16 + 8 bits, begun up to 7 bits into a byte, are within five bytes.
        window = int.from_bytes(padded[at >> 3 : (at >> 3) + 5]) << (at & 7) & 0xFF_FFFF_FFFF
        bits = count_bits[window >> 37 & 3]
        length = (window >> (37 - bits) & ((1 << bits) - 1)) + 1
        at += 3 + bits
        if window >> 39:
            lengths.append(length)
            values.append(window >> (29 - bits) & 0xFF)
            at += _VALUE_BITS
        else:
            length = min(length, count - done)
            if at + length * _VALUE_BITS > total:
                return None
            literal = _literal(padded, at, length)
            at += length * _VALUE_BITS
            if length < _FEW:
                lengths += [1] * length
                values += literal.tolist()
            else:
                found += [(lengths, values), (np.ones(length, dtype=np.uint8), literal)]
                lengths, values = [], []
        if at > total:
            return None
        done += length
    found.append((lengths, values))
    return (
        np.concatenate([np.asarray(each, dtype=np.int64) for each, _ in found]),
        np.concatenate([np.asarray(each, dtype=np.int64) for _, each in found]),
    )


def _literal(data: bytes, at: int, length: int) -> _Bytes:
    """Bytes that begin at any bit."""
    codes = np.frombuffer(data, np.uint8, length + 1, at >> 3).astype(np.uint16)
    shift = at & 7
    return ((codes[:-1] << shift | codes[1:] >> (8 - shift)) & 0xFF).astype(np.uint8)


def _cut_long_runs(lengths: Ints, values: Ints) -> tuple[Ints, Ints]:
    pieces = -(-lengths // _LONGEST_RUN)
    cut = np.full(pieces.sum(), _LONGEST_RUN)
    cut[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * _LONGEST_RUN
    return cut, np.repeat(values, pieces)


def _pack(numbers: Ints, bits: Ints) -> _Bytes:
    """Numbers of some bits each as one stream of bits, the last byte filled with zeros."""
    number = np.repeat(numbers, bits)
    place = np.arange(len(number)) - np.repeat(np.cumsum(bits) - bits, bits)
    return np.packbits((number >> (np.repeat(bits, bits) - 1 - place) & 1).astype(np.uint8))
