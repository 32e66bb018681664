"""Blur, resolution, noise and compression of crops at full resolution: what they do, and numbers that tell them.

Detail is looked at in luma alone, which lets one number stand for three channels. A crop is blurred, scaled in brightness as
the whole image is, given noise, put through the tone curve and compressed: as `curate.augment.fit.camera` has the order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy import fft

from curate.augment.fit.camera import curve, gains, light, shot_table
from curate.augment.fit.views import CROP, FLAT, TEXTURED, Views
from curate.imaging import Pixels

FloatArray = npt.NDArray[np.floating[Any]]
Planes = npt.NDArray[np.float32]

LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
OF_CHANNELS: Final = float(np.sqrt(np.square(LUMA).sum()))
"""Standard deviation of luma where each channel has independent noise of 1."""

GRAINS: Final = 2 * FLAT
"""The last numbers of `details`, which are of noise."""

_BANDS: Final = (0.03, 0.07, 0.13, 0.2, 0.28, 0.38, 0.5)
_WAYS: Final = 4
_MARGIN: Final = 8
_KERNEL: Final = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# Mean absolute response of the kernel to white noise of standard deviation 1.
_RESPONSE: Final = 6 * math.sqrt(2 / math.pi)
_BLOCK: Final = 8
_CALM: Final = 0.4
# Grey levels that say nothing: rounding, and filters that round in between.
_FAINT: Final = 0.6
# Standard deviation of luma for channels rounded to 8 bits, grey levels.
_ROUNDING: Final = 0.19


@dataclass(frozen=True)
class Crops:
    """Luma of crops after the light, exposure and white balance, and the noise that they may get.

    Attributes:
        luma: Float32 of shape (n, 6, 96, 96), 0 to 1; textured crops first.
        normal: Noise of standard deviation 1, float32 of shape (k, 96, 96).
        rank: Other noise, even from 0 to 255, uint8 of that shape.
        quality: JPEG quality for each image, int64 of shape (n,); 100 for none.
    """

    luma: Planes
    normal: Planes
    rank: Pixels
    quality: npt.NDArray[np.int64]


def luma_crops(views: Views) -> Planes:
    """Luma of the crops as they are; shape (n, 6, 96, 96), 0 to 1."""
    luma = np.concatenate([views.textured @ LUMA, views.flat @ LUMA], axis=1)
    return np.asarray(luma / np.float32(255), np.float32)


def lit_crops(views: Views, tone: Mapping[str, float]) -> Planes:
    """Luma of the crops under the light, exposure and balance; as `luma_crops`."""
    lit = light(views.places[..., 0], views.places[..., 1], views.extent[:, None, :], tone).astype(np.float32)
    gain = gains(tone)
    planes = []
    for crops, of in ((views.textured, lit[:, :TEXTURED]), (views.flat, lit[:, TEXTURED:])):
        values = crops.astype(np.float32) * (of[..., None, None, None] * gain / np.float32(255))
        planes.append(np.clip(values, 0, 1) @ LUMA)
    return np.concatenate(planes, axis=1)


def blurred(luma: Planes, kernel: npt.NDArray[np.float64], normal: Planes) -> Planes:
    """Each crop convolved, and rounded anew: what rounding left before is blurred with the rest."""
    if kernel.size == 1:
        return luma
    flat = luma.reshape(-1, *luma.shape[2:])
    result = np.stack([cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for plane in flat])
    rounding = _ROUNDING / 255 * math.sqrt(1 - float(np.square(kernel).sum()))
    return (result + np.float32(rounding) * _like(normal, result)[:, ::-1]).reshape(luma.shape)


def rescaled(luma: Planes, scale: float) -> Planes:
    """Each crop shrunk by area and enlarged again, as `Downscale` does it."""
    if scale >= 1:
        return luma
    side = max(1, round(CROP * scale))
    flat = luma.reshape(-1, *luma.shape[2:])
    result = [cv2.resize(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), (CROP, CROP)) for plane in flat]
    return np.stack(result).reshape(luma.shape)


def gaussian(sigma: float) -> npt.NDArray[np.float64]:
    """`GaussianBlur`'s kernel: sampled, three and a half deviations each way."""
    reach = int(sigma * 3.5)
    line = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(sigma, 1e-6)))
    return np.asarray(np.outer(line, line) / line.sum() ** 2)


def motion(length: int, angle: float) -> npt.NDArray[np.float64]:
    """`MotionBlur`'s kernel, centred: a line of an odd number of pixels at an angle in degrees from the x axis to the y axis."""
    middle = length // 2
    t = np.linspace(-middle, middle, length)
    x, y = (np.round(middle + t * part(math.radians(angle))).astype(int) for part in (math.cos, math.sin))
    kernel = np.zeros((length, length))
    kernel[np.clip(y, 0, length - 1), np.clip(x, 0, length - 1)] = 1
    return np.asarray(kernel / kernel.sum())


def finished(luma: Planes, crops: Crops, read: float, shot: float, tone: Mapping[str, float]) -> Planes:
    """Noise, tone curve and JPEG.

    Args:
        luma: Blurred crops.
        crops: Whose noise and quality.
        read: Variance of the sensor's noise in each channel, grey levels squared.
        shot: `ShotNoise`'s scale.
        tone: Values by the names of `curate.augment.fit.camera.TONE`.
    """
    values = luma
    if shot > 0:
        levels = np.rint(luma * 255).astype(np.uint8)
        moved = shot_table(shot)[levels, _like(crops.rank, luma)] - levels.astype(np.float32) / 255
        # The mean moves as that of each channel does, what is about it less.
        mean = (shot_table(shot).mean(axis=1) - np.arange(256) / 255).astype(np.float32)[levels]
        values = np.asarray(luma + mean + np.float32(OF_CHANNELS) * (moved - mean), np.float32)
    if read > 0:
        deviation = np.float32(OF_CHANNELS * math.sqrt(read) / 255)
        values = np.asarray(values + deviation * _like(crops.normal, luma), np.float32)
    values = np.asarray(curve(np.clip(values, 0, 1), tone), np.float32)
    if (crops.quality >= 100).all():
        return values
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    for image, quality in zip(levels, crops.quality, strict=True):
        if quality < 100:
            for plane in image:
                coded = cv2.imencode(".jpg", plane, (cv2.IMWRITE_JPEG_QUALITY, int(quality)))[1]
                plane[:] = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return levels.astype(np.float32) / np.float32(255)


def details(luma: Planes) -> npt.NDArray[np.float64]:
    """Numbers that tell blur and noise.

    Args:
        luma: Crops, shape (n, 6, 96, 96), 0 to 1.

    Returns:
        Array of shape (n, d), octaves: amplitude of the textured crops in rings of frequency by direction; noise of the flat
        crops, of pixels and of pairs of pixels.
    """
    n = len(luma)
    planes = luma[:, :TEXTURED].reshape(-1, CROP, CROP) * np.float32(255)
    window, bins = _window_and_bins()
    planes = (planes - planes.mean(axis=(1, 2), keepdims=True)) * window
    # SciPy's transforms several planes at once: four times as fast as NumPy's.
    power = np.square(np.abs(fft.rfft2(planes))).reshape(n, TEXTURED, -1)
    energy = (power.mean(axis=1) @ bins) / float(np.square(window).sum())
    flat = luma[:, TEXTURED:] * np.float32(255)
    halves = (flat[..., ::2, ::2] + flat[..., 1::2, ::2] + flat[..., ::2, 1::2] + flat[..., 1::2, 1::2]) / 4
    noise = np.concatenate([grain(flat), grain(halves)], axis=1)
    return np.concatenate([0.5 * np.log2(energy + _FAINT**2), np.log2(noise + _FAINT)], axis=1)


def directions(numbers: FloatArray) -> FloatArray:
    """Of what `details` gives: how each direction's amplitudes differ from the mean of all directions, shape (n, d - 6)."""
    rings = numbers[:, : _WAYS * (len(_BANDS) - 1)].reshape(len(numbers), -1, _WAYS)
    return np.asarray(rings - rings.mean(axis=2, keepdims=True)).reshape(len(numbers), -1)


def grain(planes: Planes) -> npt.NDArray[np.float64]:
    """Standard deviation of the noise of flat crops in their calmer blocks (Immerkaer 1996), in the planes' units.

    Args:
        planes: Shape (n, k, side, side), the sides multiples of 8.

    Returns:
        Array of shape (n, k).
    """
    flat = planes.reshape(-1, *planes.shape[2:])
    response = np.stack([cv2.filter2D(plane, -1, _KERNEL) for plane in flat])
    np.abs(response, out=response)
    count = flat.shape[1] // _BLOCK
    blocks = response.reshape(len(flat), count, _BLOCK, count, _BLOCK).mean(axis=(2, 4)).reshape(len(flat), -1)
    kept = np.sort(blocks, axis=1)[:, : max(1, int(_CALM * count**2))]
    return np.asarray(kept.mean(axis=1, dtype=np.float64).reshape(planes.shape[:2]) / _RESPONSE)


def _like(noise: npt.NDArray[Any], planes: Planes) -> npt.NDArray[Any]:
    """As much noise as there are pixels; over again where there is less."""
    crops = planes.size // CROP**2
    repeated = noise if crops <= len(noise) else np.tile(noise, (-(-crops // len(noise)), 1, 1))
    return repeated[:crops].reshape(planes.shape)


@cache
def _window_and_bins() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Hann's window, and means over rings and directions of what `rfft2` gives; shape (frequencies, 24)."""
    line = np.hanning(CROP + 2)[1:-1]
    y, x = np.meshgrid(np.fft.fftfreq(CROP), np.fft.rfftfreq(CROP), indexing="ij")
    away, way = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 180
    sector = np.rint(way / (180 / _WAYS)).astype(int) % _WAYS
    columns = []
    for low, high in pairwise(_BANDS):
        for direction in range(_WAYS):
            inside = ((away >= low) & (away < high) & (sector == direction)).ravel()
            columns.append(inside / inside.sum())
    return np.outer(line, line).astype(np.float32), np.stack(columns, axis=1)
