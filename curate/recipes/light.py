"""Linear light: what the values of files stand for, the colours of lamps, and numbers that tell one light from another."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

FloatArray = npt.NDArray[np.floating[Any]]

LIGHT_SIDE: Final = 32
"""Pixels on each side of the thumbnail that an image's light is told by."""

CELLS: Final = 16
"""On each side of an image, of which the fall of its light is told."""

KELVIN: Final = (1667.0, 25000.0)
"""Temperatures for which the Planckian locus is known here."""

CAMERA_KELVIN: Final = 6500.0
"""What sRGB takes for white, nearly (D65)."""

_STEPS: Final = 1 << 16
_LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722])
# IEC 61966-2-1: XYZ to linear sRGB.
_TO_RGB: Final = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
_LEAST_GAIN: Final = 0.01
_FLOOR: Final = 0.02
_WHITEST: Final = 0.01
_ITERATIONS: Final = 6
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


def _decoded() -> npt.NDArray[np.float32]:
    values = np.arange(256) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _encoded() -> npt.NDArray[np.uint8]:
    light = np.arange(_STEPS) / (_STEPS - 1)
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(values * 255).astype(np.uint8)


_DECODED: Final = _decoded()
_ENCODED: Final = _encoded()


def decode(pixels: Pixels) -> npt.NDArray[np.float32]:
    """sRGB values -> linear light, 0 to 1; float32 of the same shape."""
    return np.take(_DECODED, pixels)


def encode(light: npt.NDArray[np.float32]) -> Pixels:
    """Linear light, cut to [0, 1] -> sRGB values; uint8 of the same shape."""
    steps = np.clip(light, 0, 1)
    steps *= _STEPS - 1
    steps += 0.5
    return np.take(_ENCODED, steps.astype(np.uint16))


def through_table(pixels: Pixels, gains: npt.NDArray[np.float64]) -> Pixels:
    """An image with the linear light of each channel times a gain; gains of shape (3,)."""
    tables = encode((_DECODED[:, None] * gains).astype(np.float32))
    return np.stack([np.take(tables[:, channel], pixels[..., channel]) for channel in range(3)], axis=-1)


def lamp_gains(kelvin: float, white: float) -> npt.NDArray[np.float64]:
    """Linear gains of red, green and blue under a lamp, for a camera that takes another for white; white keeps its luminance.

    Args:
        kelvin: Of the lamp, within `KELVIN`.
        white: Of the lamp that the camera is balanced for, likewise.
    """
    gains = planckian_rgb(kelvin) / planckian_rgb(white)
    return np.asarray(gains / (_LUMINANCE @ gains))


def planckian_rgb(kelvin: float) -> npt.NDArray[np.float64]:
    """Linear sRGB of a black body, green 1; channels that would be negative (blue below 1900 K) are nearly none.

    References:
        Kim et al. (2002), Design of advanced color temperature control system.
    """
    t = 1e3 / kelvin
    if kelvin <= 4000:
        x = ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910
    else:
        x = ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.240390
    if kelvin <= 2222:
        y = ((-1.1063814 * x - 1.34811020) * x + 2.18555832) * x - 0.20219683
    elif kelvin <= 4000:
        y = ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867
    else:
        y = ((3.0817580 * x - 5.87338670) * x + 3.75112997) * x - 0.37001483
    rgb = _TO_RGB @ np.array([x / y, 1.0, (1 - x - y) / y])
    return np.asarray(np.maximum(rgb / rgb[1], _LEAST_GAIN))


def thumbnail(pixels: Pixels) -> npt.NDArray[np.float32]:
    """An image squashed to a square of `LIGHT_SIDE`, RGB in [0, 1]."""
    small = cv2.resize(pixels, (LIGHT_SIDE, LIGHT_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


def numbers_of_light(small: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What tells n images' lights apart, and hardly depends on what they show.

    Args:
        small: RGB in [0, 1], shape (n, k, k, 3), k a multiple of 16.

    Returns:
        Array of shape (n, 6), octaves of stored values: what one pixel in a hundred exceeds, of the channel with most; red
        and blue over green there; and how the light falls off (`fall_of_light`).
    """
    planes = np.moveaxis(small, 3, 1).reshape(len(small), 3, -1)
    rank = max(1, round(_WHITEST * planes.shape[2]))
    whitest = np.log2(np.partition(planes, -rank, axis=2)[:, :, -rank] + _FLOOR)
    colour = whitest[:, [0, 2]] - whitest[:, [1]]
    fall = fall_of_light(np.log2(small @ _LUMA + _FLOOR))
    return np.concatenate([whitest.max(axis=1, keepdims=True), colour, fall], axis=1).astype(np.float64)


def fall_of_light(octaves: npt.NDArray[np.float32]) -> FloatArray:
    """How light falls off across n images of which the ground is seen: slopes to the right and down, and bowl, shape (n, 3).

    A plane and a bowl are fitted robustly to the means of cells, so that things on the ground count for less.

    Args:
        octaves: Luma, shape (n, k, k), k a multiple of 16.
    """
    n, side = octaves.shape[:2]
    cell = side // CELLS
    cells = octaves.reshape(n, CELLS, cell, CELLS, cell).mean(axis=(2, 4)).reshape(n, -1).astype(np.float64)
    axis = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    y, x = (each.ravel() for each in np.meshgrid(axis, axis, indexing="ij"))
    basis = np.stack([np.ones(x.size), x, y, x * x + y * y], axis=1)
    weight = np.ones_like(cells)
    fitted = np.zeros((n, 4))
    for _ in range(_ITERATIONS):
        weighted = weight[:, :, None] * basis
        left = weighted.transpose(0, 2, 1) @ basis + 1e-9 * np.eye(4)
        fitted = np.linalg.solve(left, (weighted.transpose(0, 2, 1) @ cells[:, :, None]))[..., 0]
        residual = cells - fitted @ basis.T
        scale = 1.4826 * np.median(np.abs(residual), axis=1, keepdims=True) + 1e-3
        weight = 1 / (1 + np.square(residual / scale))
    return fitted[:, 1:]
