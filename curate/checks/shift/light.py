"""What the light is like in an image, as far as possible apart from what the image shows.

Brightness, mean color and contrast say as much of the contents as of the lamps: a dark belt under a bright lamp measures as
a bright tray under a weak one. Measured here instead is what the contents cannot easily imitate:

- how the illumination falls off across the image: a plane and a bowl fitted to log-luminance, robustly, so that the ground
  counts and the things that lie on it do not (iteratively reweighted least squares with Cauchy weights);
- the color of the lamps: by the strongest light and the strongest edges, for both reflect the lamps more than the surface
  ("shades of grey", Finlayson and Trezzi 2004; "grey edge", van de Weijer, Gevers and Gijsenij 2007);
- on which side of things their shadows lie, and how deep they are;
- how strong the highlights are;
- what comes nearest to white in each channel: nearly every picture holds something that comes near, whatever it shows, so
  that these vary less than anything else when the light stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.imaging import Pixels
from curate.models.spaces import Kept

FloatArray = npt.NDArray[np.floating[Any]]

LIGHT_COLUMNS: Final = (
    *("slope_x", "slope_y", "falloff"),
    *("lamp_red", "lamp_blue", "highlight"),
    *("shadow_x", "shadow_y", "shadow_depth"),
    *("white", "white_red", "white_blue"),
)
"""Names of the float32 columns; `describe_light` says what they are."""

_SIDE: Final = 160
_FLOOR: Final = 2e-3
_SMOOTH: Final = 3.0
_STRIDE: Final = 11
_ITERATIONS: Final = 12
_LAGS: Final = (4, 8, 12)
_TYPICAL: Final = 8.0
_WHITE: Final = 0.999
_CLIPPED: Final = 0.98
_LUMINANCE: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)


class DescribeLight:
    """Measures the light of images. A `curate.models.passes.Computation`."""

    name = "light-2"
    columns = pa.schema([pa.field(name, pa.float32(), nullable=False) for name in LIGHT_COLUMNS])
    input_size: int | None = _SIDE
    margin = 0.0

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """All columns of one image; runs in decoding threads."""
        return describe_light(pixels)

    def run(self, batch: Sequence[npt.NDArray[np.float32]]) -> pa.RecordBatch:
        """The columns of n images."""
        return pa.RecordBatch.from_arrays([pa.array(column) for column in np.stack(batch).T], schema=self.columns)


LIGHT: Final = Kept("light/2", DescribeLight(), "light measured", contents=("images",))
"""What `curate.models.spaces.update_tables` computes in table `light/2-images`: lamps show in whole images."""


def describe_light(pixels: Pixels) -> npt.NDArray[np.float32]:
    """The light of one image.

    Args:
        pixels: RGB, uint8 of shape (height, width, 3).

    Returns:
        float32 array in the order of `LIGHT_COLUMNS`: change of the light from the middle to the right and to the lower
        border, and to the four borders alike (octaves; negative: light from the left, from above, from the middle); red and
        blue of the lamps over green (octaves); luminance of the highlights (octaves, 0 is white); how much further to the
        right and below than to the left and above of bright things dark lies, in [-1, 1]; how much darker than the ground
        the darkest hundredth is (octaves, at least 0); the level that the brightest channel exceeds in one pixel of a
        thousand (octaves, 0 is white), and those of red and of blue over that of green (octaves).
    """
    linear = _linear(pixels)
    luminance = linear @ _LUMINANCE
    octaves = cv2.GaussianBlur(np.log2(luminance + _FLOOR), (0, 0), _SMOOTH)
    (_, slope_x, slope_y, falloff), residual = _illumination(octaves)
    shadow_x, shadow_y = _shadow_sides(residual)
    red, blue = _lamp_color(linear)
    bright = luminance[luminance >= np.quantile(luminance, 0.995)]
    depth = max(0.0, -float(np.quantile(residual, 0.01)))
    highlight = float(np.log2(bright.mean() + _FLOOR))
    values = (slope_x, slope_y, falloff, red, blue, highlight, shadow_x, shadow_y, depth, *_white_point(linear))
    return np.array(values, np.float32)


def _linear(pixels: Pixels) -> npt.NDArray[np.float32]:
    """About linear light, 0 to 1, at a size that lamps can be told at."""
    height, width = pixels.shape[:2]
    scale = _SIDE / min(height, width)
    size = (max(8, min(round(width * scale), 8 * _SIDE)), max(8, min(round(height * scale), 8 * _SIDE)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return np.asarray(np.square(small.astype(np.float32) / 255))


def _illumination(octaves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Constant, x, y and bowl of the illumination, and what it leaves: the same shape, in octaves."""
    height, width = octaves.shape
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    basis = np.stack([np.ones(x.size), x.ravel(), y.ravel(), (x * x + y * y).ravel()], axis=1)
    rows, values = basis[::_STRIDE], octaves.ravel()[::_STRIDE].astype(np.float64)
    weight = np.ones(len(values))
    for _ in range(_ITERATIONS):
        weighted = rows * weight[:, None]
        fitted = np.linalg.solve(weighted.T @ rows + 1e-9 * np.eye(4), weighted.T @ values)
        residual = values - rows @ fitted
        scale = 1.4826 * np.median(np.abs(residual)) + 1e-3
        weight = 1 / (1 + np.square(residual / scale))
    return fitted, octaves - (basis @ fitted).reshape(octaves.shape)


def _shadow_sides(residual: FloatArray) -> tuple[float, float]:
    """Where dark lies next to bright: odd part of their cross-correlation at small distances, along x and along y."""
    scale = 1.4826 * float(np.median(np.abs(residual))) + 1e-3
    bright, dark = (np.clip(sign * residual / scale, 0, _TYPICAL).astype(np.float32) for sign in (1, -1))
    sides = []
    for axis in (1, 0):
        difference, total = 0.0, 1e-6
        for lag in _LAGS:
            near, far = [slice(None)] * 2, [slice(None)] * 2
            near[axis], far[axis] = slice(None, -lag), slice(lag, None)
            after = float(np.mean(bright[tuple(near)] * dark[tuple(far)]))
            before = float(np.mean(bright[tuple(far)] * dark[tuple(near)]))
            difference, total = difference + after - before, total + after + before
        sides.append(difference / total)
    return sides[0], sides[1]


def _lamp_color(linear: FloatArray) -> tuple[float, float]:
    """Red and blue of the lamps over green, octaves."""
    planes = np.moveaxis(linear, 2, 0).reshape(3, -1).astype(np.float64)
    usable = planes.max(axis=0) < _CLIPPED
    kept = planes[:, usable] if usable.sum() > 100 else planes
    strongest = np.mean((kept + 1e-4) ** 8, axis=1) ** (1 / 8)
    edges = np.array(
        [
            np.mean(
                np.square(
                    np.square(cv2.Sobel(plane, cv2.CV_32F, 1, 0)) + np.square(cv2.Sobel(plane, cv2.CV_32F, 0, 1)),
                    dtype=np.float64,
                )
            )
            ** 0.25
            for plane in (np.ascontiguousarray(linear[..., channel]) for channel in range(3))
        ]
    )
    color = (np.log2(strongest) + np.log2(edges + 1e-4)) / 2
    return float(color[0] - color[1]), float(color[2] - color[1])


def _white_point(linear: FloatArray) -> tuple[float, float, float]:
    """Level of what comes nearest to white, and its red and blue over green, octaves."""
    red, green, blue = np.log2(np.quantile(linear.reshape(-1, 3), _WHITE, axis=0) + _FLOOR)
    return float(max(red, green, blue)), float(red - green), float(blue - green)
