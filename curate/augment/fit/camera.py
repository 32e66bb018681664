"""What the fitted transforms of albumentations 2.0.8 do to pixels, as functions of the numbers that are fitted.

The order is a camera's: the light falls off across the scene, the lens blurs, exposure and white balance scale the channels,
the sensor adds noise, a tone curve follows, and a JPEG is written. All but the JPEG is done without rounding to 8 bits.

    light       Illumination(mode='linear') and (mode='gaussian'): a product with a plane, and with a bell about the middle
    exposure    RandomBrightnessContrast(contrast_limit=gain - 1): 2 ** (stops / 2.2), since stored values are about the
                2.2th root of light
    balance     gains of red and blue; along PlanckianJitter's table of black bodies, and tint beside it
    gamma       RandomGamma: a power of the stored value
    contrast    RandomBrightnessContrast about the middle: c * v + (1 - c) / 2
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.floating[Any]]

TONE: Final = ("light_x", "light_y", "vignetting", "exposure", "temperature", "tint", "gamma", "contrast")
"""What is fitted to thumbnails, each 0 where nothing is done: change of the light from the middle to the right and to the
lower border (parts), how much darker the far corners are (octaves), stops of exposure, mireds of temperature (warmer is
positive), octaves of red and blue over green beside the table, octaves of gamma, and octaves of contrast."""

STORED: Final = 2.2
"""Stored values are light to the power of one over this."""

BELL: Final = 0.35
"""Standard deviation of the vignette's bell, parts of the longer side."""

NEUTRAL: Final = 1e6 / 6536
"""Mireds at which PlanckianJitter's table has red and blue alike."""

_MANY: Final = 40

# Red, green and blue of black bodies, from 3,000 to 15,000 K by 500: sRGB of Planck's law under the CIE 1931 observer, as
# PlanckianJitter (Zini et al. 2022) has them.
_KELVIN: Final = np.arange(3000, 15001, 500)
_RED: Final = np.array(
    [
        *(0.6743, 0.6281, 0.5919, 0.5623, 0.5376, 0.5163, 0.4979, 0.4816, 0.4672, 0.4542, 0.4426, 0.4320, 0.4223),
        *(0.4135, 0.4054, 0.3980, 0.3911, 0.3847, 0.3787, 0.3732, 0.3680, 0.3632, 0.3586, 0.3544, 0.3503),
    ]
)
_GREEN: Final = np.array(
    [
        *(0.4029, 0.4241, 0.4372, 0.4457, 0.4515, 0.4555, 0.4584, 0.4604, 0.4619, 0.4630, 0.4638, 0.4644, 0.4648),
        *(0.4651, 0.4653, 0.4654, 0.4655, 0.4656, 0.4656, 0.4656, 0.4655, 0.4655, 0.4655, 0.4654, 0.4653),
    ]
)
_BLUE: Final = np.array(
    [
        *(0.0013, 0.1665, 0.2513, 0.3154, 0.3672, 0.4103, 0.4468, 0.4782, 0.5053, 0.5289, 0.5497, 0.5681, 0.5844),
        *(0.5990, 0.6121, 0.6239, 0.6346, 0.6444, 0.6532, 0.6613, 0.6688, 0.6756, 0.6820, 0.6878, 0.6933),
    ]
)


def locus(mired: float) -> tuple[float, float]:
    """Red and blue over green of a black body, octaves, by the table; beyond its ends as at the end."""
    kelvin = 1e6 / max(mired, 1e-9)
    red, green, blue = (float(np.interp(kelvin, _KELVIN, column)) for column in (_RED, _GREEN, _BLUE))
    return float(np.log2(red / green)), float(np.log2(max(blue, 1e-3) / green))


def balance_gains(temperature: float, tint: float) -> tuple[float, float]:
    """Gains of red and blue.

    Args:
        temperature: Mireds warmer than neutral, along the table moved so that it goes through neutral.
        tint: Octaves of both over green, beside it.
    """
    red, blue = locus(NEUTRAL + temperature)
    start_red, start_blue = locus(NEUTRAL)
    return float(2 ** (red - start_red + tint)), float(2 ** (blue - start_blue + tint))


def temperature_of(red: float, blue: float) -> tuple[float, float]:
    """Temperature and tint of gains, the inverse of `balance_gains`."""
    start = locus(NEUTRAL)
    mireds = np.linspace(1e6 / _KELVIN[-1], 1e6 / (_KELVIN[0] + 250), 2000)
    apart = np.array([np.subtract(*locus(mired)) for mired in mireds]) - (start[0] - start[1])
    temperature = float(np.interp(np.log2(red / blue), apart, mireds))
    found = locus(temperature)
    return temperature - NEUTRAL, float(np.log2(red * blue) - sum(found) + sum(start)) / 2


def light(x: FloatArray, y: FloatArray, extent: FloatArray, tone: Mapping[str, float]) -> FloatArray:
    """What illumination multiplies stored values by, 1 in the middle.

    Args:
        x: Places from left to right, 0 to 1.
        y: Places from top to bottom, 0 to 1.
        extent: (width, height) over the longer side; shape (..., 2), broadcast against the places.
        tone: Values by the names of `TONE`.
    """
    plane = np.maximum(1 + tone["light_x"] * (2 * x - 1) + tone["light_y"] * (2 * y - 1), 0.02)
    if not tone["vignetting"]:
        return np.asarray(plane)
    away = np.square((x - 0.5) * extent[..., 0]) + np.square((y - 0.5) * extent[..., 1])
    bell = np.exp(-away / (2 * BELL**2))
    return np.asarray(plane * np.exp2(tone["vignetting"] * (bell - 1)))


def gains(tone: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """What exposure and white balance multiply the channels by, shape (3,)."""
    red, blue = balance_gains(tone["temperature"], tone["tint"])
    return np.array([red, 1.0, blue], np.float32) * np.float32(2 ** (tone["exposure"] / STORED))


def curve(values: FloatArray, tone: Mapping[str, float]) -> FloatArray:
    """Gamma, then contrast, of values from 0 to 1."""
    if tone["gamma"]:
        values = np.power(values, 2 ** tone["gamma"])
    if tone["contrast"]:
        contrast = 2 ** tone["contrast"]
        values = np.clip(contrast * values + (1 - contrast) / 2, 0, 1)
    return values


@dataclass(frozen=True)
class Sensor:
    """The sensor's noise.

    Attributes:
        read: Variance in each channel, grey levels squared.
        shot: `ShotNoise`'s scale.
    """

    read: float = 0.0
    shot: float = 0.0


def show(
    small: npt.NDArray[np.float32],
    extent: npt.NDArray[np.float32],
    tone: Mapping[str, float],
    sensor: Sensor | None = None,
    pixels: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Thumbnails as they would be under another light, exposure and tone curve, with noise.

    Args:
        small: Shape (n, k, k, 3), 0 to 1.
        extent: (width, height) over the longer side, shape (n, 2).
        tone: Values by the names of `TONE`.
        sensor: Its noise.
        pixels: How many of an image's pixels make one of a thumbnail, shape (n,); needed where there is noise.

    Returns:
        As `small`.
    """
    side = (np.arange(small.shape[1], dtype=np.float32) + 0.5) / small.shape[1]
    y, x = np.meshgrid(side, side, indexing="ij")
    lit = light(x, y, extent[:, None, None, :], tone).astype(np.float32)
    # The light is a transform of its own, which clips at white.
    values = np.clip(small * np.broadcast_to(lit, small.shape[:3])[..., None], 0, 1)
    values = np.clip(values * gains(tone), 0, 1)
    if sensor is not None and pixels is not None and (sensor.read > 0 or sensor.shot > 0):
        values = _noisy(values, sensor, pixels)
    return np.asarray(curve(values, tone), np.float32)


def _noisy(values: npt.NDArray[np.float32], sensor: Sensor, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Means of noisy pixels: less noisy than they are; darker in the dark by shot noise, for a root of what varies is less on
    average; and away from black and white, beyond which noise cannot go."""
    table = np.repeat(np.arange(256, dtype=np.float32)[:, None] / np.float32(255), 256, axis=1)
    if sensor.shot > 0:
        table = shot_table(sensor.shot)
    if sensor.read > 0:
        # Quantiles of one kind against those of the other in an order that has nothing to do with theirs.
        order = np.random.default_rng(0).permutation(256)
        quantiles = special.ndtri((order + 0.5) / 256)
        table = np.clip(table + math.sqrt(sensor.read) / 255 * quantiles, 0, 1).astype(np.float32)
    levels = np.rint(values * 255).astype(np.uint8)
    shift = (table.mean(axis=1) - np.arange(256) / 255).astype(np.float32)
    deviation = table.std(axis=1)
    normal = np.random.default_rng(0).standard_normal(values.shape, np.float32)
    noisy = values + shift[levels] + normal * deviation[levels] / np.sqrt(pixels)[:, None, None, None]
    return np.asarray(np.clip(noisy, 0, 1), np.float32)


@lru_cache(maxsize=8)
def shot_table(scale: float) -> npt.NDArray[np.float32]:
    """Stored values after `ShotNoise`: photons are counted, in light.

    Args:
        scale: Light of one photon.

    Returns:
        Array of shape (256, 256), 0 to 1: for each stored value the 256-quantiles of what becomes of it.
    """
    photons = np.power(np.arange(256) / 255, STORED) / scale + 1e-6
    shares = (np.arange(256) + 0.5) / 256
    # Many photons are counted with nearly normal noise, a little skewed (Cornish and Fisher 1938).
    normal = special.ndtri(shares)
    counted = photons[:, None] + np.sqrt(photons)[:, None] * normal + (np.square(normal) - 1) / 6
    few = photons < _MANY
    below = special.pdtr(np.arange(3 * _MANY), photons[few][:, None])
    counted[few] = (below[:, None, :] < shares[:, None]).sum(axis=2)
    return np.asarray(np.power(np.clip(counted * scale, 0, 1), 1 / STORED), np.float32)
