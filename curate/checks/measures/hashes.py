"""Hashes: of the exact pixels, and perceptual ones that stay nearly the same when an image is resized or compressed.

The mirrored hashes are those of the image flipped left to right: a mirrored copy's `dhash` is the original's
`dhash_mirrored`.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

_BITS: Final = 8
# Cells of an even ground differ by rounding only: less than one grey level is no step, and its bit does not waver.
_LEVEL: Final = 1 / 255


def pixel_hash(pixels: Pixels, values: bytes = b"") -> int:
    """64 bits of SHA-256 over an image's size and pixels: the same for the same pixels, whatever file they come from.

    Args:
        pixels: uint8 array of shape (height, width, 3).
        values: Digest of what the file holds, where pixels say less.
    """
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}".encode(), usedforsecurity=False)
    digest.update(np.ascontiguousarray(pixels).data)
    digest.update(values)
    return int.from_bytes(digest.digest()[:8], "little")


def perceptual_hashes(luminance: npt.NDArray[np.floating]) -> dict[str, npt.NDArray[np.uint64]]:
    """dHash (is each of 8 x 8 cells darker than its right neighbour?) and pHash (which of the 8 x 8 lowest frequencies are
    above their median?), after Krawetz (2011, 2013), of images and of their mirror images.

    Args:
        luminance: Thumbnails in [0, 1], array of shape (n, k, k).

    Returns:
        uint64 arrays of shape (n,) by name.
    """
    side = luminance.shape[1]
    cells = _averaging(side, _BITS) @ luminance @ _averaging(side, _BITS + 1).T
    low = _cosines(side) @ luminance @ _cosines(side).T
    # Mirrored, the odd frequencies along x change sign.
    signs = np.where(np.arange(_BITS) % 2, -1.0, 1.0)
    return {
        "dhash": _pack(np.diff(cells, axis=2) > _LEVEL),
        "dhash_mirrored": _pack(np.diff(cells[:, :, ::-1], axis=2) > _LEVEL),
        "phash": _pack(_above_median(low)),
        "phash_mirrored": _pack(_above_median(low * signs)),
    }


@cache
def _averaging(side: int, cells: int) -> npt.NDArray[np.float64]:
    """Weights that average `side` pixels into cells, edges shared; shape (cells, side)."""
    edges = np.linspace(0, side, cells + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.maximum(overlap, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@cache
def _cosines(side: int) -> npt.NDArray[np.float64]:
    """The lowest frequencies of the discrete cosine transform (type II); shape (8, side)."""
    return np.asarray(np.cos(np.pi / side * np.outer(np.arange(_BITS), np.arange(side) + 0.5)))


def _above_median(low: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which coefficients lie above the median of all but the mean; shape (n, 8, 8)."""
    others = low.reshape(len(low), -1)[:, 1:]
    middle = others.shape[1] // 2  # of an odd number
    median = np.partition(others, middle, axis=1)[:, middle]
    return np.asarray(low > median[:, None, None])


def _pack(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Shape (n, 8, 8) to 64-bit numbers of shape (n,)."""
    return np.packbits(bits.reshape(len(bits), -1), axis=1).view(">u8").ravel().astype(np.uint64)
