"""How strongly an image was compressed: from its file's tables, or from what the compression left in its pixels.

Quality is that of libjpeg's standard tables (ITU T.81, annex K), by its scaling; tables of another origin get the quality of
the standard ones that are nearest.

In pixels, the coefficients of the cosine transform of 8 x 8 blocks lie near multiples of the step they were rounded to (Fan
and de Queiroz 2003; Neelamani et al. 2006). How near, is what rounding to 8 bits left uncertain: a normal deviation about each
multiple, and now and then a value anywhere, where a block was clipped. The quality whose steps make the coefficients most
likely is the answer, where they are more likely than for coefficients that were never rounded.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.imaging import Pixels

NONE: Final = 100.0
"""Quality of what was not compressed so that it could be told."""

# Luminance, row by row (ITU T.81, table K.1).
_STANDARD: Final = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61),
        *(12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77),
        *(24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101),
        *(72, 92, 95, 98, 112, 100, 103, 99),
    ]
).reshape(8, 8)
# Also with red and blue changed over, as albumentations has the compressor see an image.
_LUMAS: Final = tuple(np.array(weights, np.float32) for weights in ((0.299, 0.587, 0.114), (0.114, 0.587, 0.299)))
_BLOCKS: Final = 1200
# (down, across): slow enough to have coefficients that are not zero.
_FREQUENCIES: Final = tuple((y, x) for y in range(5) for x in range(5) if 0 < y + x <= 4)
_QUALITIES: Final = np.arange(5, 97)
# What rounding to 8 bits leaves of a coefficient, and the part of them that clipping moved elsewhere.
_DEVIATION: Final = 0.35
_ELSEWHERE: Final = 0.1
# Evidence (natural logarithms) that is more than chance, for the whole image.
_EVIDENCE: Final = 25.0


def quality_of_file(path: str | Path) -> float | None:
    """Quality by the quantisation tables of a JPEG file; None for other files.

    Raises:
        OSError: The file is not there, or no image.
    """
    with Image.open(path) as image:
        tables: dict[int, list[int]] = getattr(image, "quantization", None) or {}
    if 0 not in tables:
        return None
    # The order of the entries is of no matter where they are compared sorted: a zigzag is the same for all qualities.
    given = np.sort(np.log(np.maximum(np.array(tables[0], float), 1)))
    known = np.stack([np.sort(np.log(_table(quality).ravel())) for quality in range(1, 101)])
    return float(np.square(known - given).sum(axis=1).argmin() + 1)


def quality_of_pixels(pixels: Pixels) -> float:
    """Quality of the last compression that pixels went through without being scaled or shifted since; `NONE` if none shows.

    Args:
        pixels: RGB, uint8 of shape (height, width, 3).
    """
    blocks = _blocks(pixels)
    evidence = np.maximum(*(_evidences(_coefficients(blocks @ luma)) for luma in _LUMAS))
    most = float(evidence.max())
    return float(np.median(_QUALITIES[evidence >= most - 1])) if most > _EVIDENCE else NONE


def _table(quality: int) -> npt.NDArray[np.int64]:
    """Steps at a quality, as libjpeg scales the standard table."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.asarray(np.clip((_STANDARD * scale + 50) // 100, 1, 255))


@cache
def _steps(frequency: tuple[int, int]) -> npt.NDArray[np.int64]:
    return np.array([_table(int(quality))[frequency] for quality in _QUALITIES])


def _blocks(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Blocks that are nowhere clipped, shape (blocks, 8, 8, 3)."""
    height, width = (side // 8 for side in pixels.shape[:2])
    blocks = (
        pixels[: height * 8, : width * 8].reshape(height, 8, width, 8, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 8, 8, 3)
    )
    blocks = blocks[:: max(1, len(blocks) // _BLOCKS)]
    return blocks[((blocks > 2) & (blocks < 253)).all(axis=(1, 2, 3))].astype(np.float32)


def _coefficients(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Shape (blocks, 8, 8) to (frequencies, blocks)."""
    cosines = _cosines()
    transformed = cosines @ luma @ cosines.T
    return np.stack([transformed[:, y, x] for y, x in _FREQUENCIES])


def _evidences(coefficients: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """For each quality."""
    evidence = np.zeros(len(_QUALITIES))
    for values, frequency in zip(coefficients, _FREQUENCIES, strict=True):
        distinct, which = np.unique(_steps(frequency), return_inverse=True)
        evidence += np.array([_evidence(values, int(step)) for step in distinct])[which]
    return evidence


@cache
def _cosines() -> npt.NDArray[np.float32]:
    """Orthonormal, type II; shape (8, 8), frequencies by places."""
    places = (np.arange(8) + 0.5) * math.pi / 8
    rows = [math.sqrt((2 if f else 1) / 8) * np.cos(f * places) for f in range(8)]
    return np.array(rows, np.float32)


def _evidence(values: npt.NDArray[Any], step: int) -> float:
    """Logarithm of how much likelier values are if rounded to multiples of a step, those near zero left out."""
    if step < 2:
        return 0.0
    telling = values[abs(values) > step / 2]
    beside = telling - step * np.rint(telling / step)
    normal = np.exp(-0.5 * np.square(beside / _DEVIATION)) / (_DEVIATION * math.sqrt(2 * math.pi))
    return float(np.log((1 - _ELSEWHERE) * step * normal + _ELSEWHERE).sum())
