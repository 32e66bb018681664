"""Sixel: pictures as characters, each six pixels of one color below one another.

Follows DEC's description in the VT330/VT340 manual, chapter 14 (https://vt100.net/docs/vt3xx-gp/chapter14.html).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

MOST_COLORS: Final = 256
"""As many color registers as terminals of today have at least."""

_BAND: Final = 6
_FIRST: Final = ord("?")
"""The character of six pixels that are not drawn."""
_SHORTEST: Final = 4
"""From this length on a run is shorter as a number."""

_Bytes = npt.NDArray[np.uint8]


def encode_sixel(picture: Image.Image) -> str:
    """A picture as sixel, in at most 256 colors.

    Args:
        picture: RGB.

    Returns:
        The control string from DCS to ST. The cursor stays in the last line that the picture covers.
    """
    reduced = picture.quantize(MOST_COLORS, Image.Quantize.MEDIANCUT)
    colors = np.array(reduced.getpalette("RGB"), np.int64).reshape(-1, 3)
    pixels = np.asarray(reduced)
    height, width = pixels.shape
    out = io.BytesIO()
    # Square pixels, and the size, so that the terminal need not look for it.
    out.write(f'\x1bP0;1q"1;1;{width};{height}'.encode())
    percent = (colors * 100 + 127) // 255
    for number in np.unique(pixels):
        out.write("#{};2;{};{};{}".format(number, *percent[number]).encode())
    out.write(b"-".join(_encode_band(pixels[top : top + _BAND]) for top in range(0, height, _BAND)))
    out.write(b"\x1b\\")
    return out.getvalue().decode("ascii")


def _encode_band(band: _Bytes) -> bytes:
    """Six lines of color numbers or fewer: each color that is in them from the left, one over another."""
    colors, places = np.unique(band, return_inverse=True)
    places = places.reshape(band.shape)
    across = np.arange(band.shape[1])
    sixels = np.zeros((len(colors), band.shape[1]), np.uint8)
    for row, line in enumerate(places):
        sixels[line, across] |= np.uint8(1 << row)
    parts = []
    for color, line in zip(colors, sixels, strict=True):
        # What is right of a color's last pixel need not be said.
        last = int(np.flatnonzero(line)[-1]) + 1
        parts.append(b"#%d" % color + _encode_runs(line[:last] + np.uint8(_FIRST)))
    return b"$".join(parts)


def _encode_runs(line: _Bytes) -> bytes:
    """Characters, long runs of the same one as a count."""
    starts = np.flatnonzero(np.diff(line, prepend=np.uint8(0)))
    counts = np.diff(starts, append=len(line))
    return b"".join(_runs(line[starts].tobytes(), counts.tolist()))


def _runs(characters: bytes, counts: Sequence[int]) -> list[bytes]:
    return [
        b"!%d%c" % (count, character) if count >= _SHORTEST else bytes([character]) * count
        for character, count in zip(characters, counts, strict=True)
    ]
