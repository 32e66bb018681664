"""Color: the gains of the channels, the tint of what should be neutral, and how colorful an image is."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_BRIGHTEST: Final = 0.1
# A grey of about this lightness is shown under the light that is guessed.
_GREY: Final = 0.7


def color(thumbnails: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
    """Columns of color.

    Three guesses are made at the color of the light: that the mean of all is grey (grey world), that the brightest tenth is
    grey (white patch), that the mean edge is grey (grey edge, van de Weijer et al. 2007). Each takes some colors of things for
    colors of light, a meadow for a green cast; a cast tints all three, so that the one nearest to neutral is believed.

    Args:
        thumbnails: RGB in [0, 1]; array of shape (n, k, k, 3), k even.

    Returns:
        Arrays of shape (n,) by name: `red_gain` and `blue_gain` as octaves of the mean over green, `cast_a` and `cast_b`,
        how a grey looks in that light, and `chroma`, the mean, in CIELAB units; `colorfulness` of Hasler and Suesstrunk
        (2003) on a scale of 0-255.
    """
    n = len(thumbnails)
    edges = sum(abs(np.diff(thumbnails, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    columns = thumbnails[:, :, ::2] + thumbnails[:, :, 1::2]
    pixels = ((columns[:, ::2] + columns[:, 1::2]) / 4).reshape(n, -1, 3)
    mean = pixels.mean(axis=1)
    red, green, blue = np.log2(mean + 1 / 255).T
    brightest = np.argsort(pixels.sum(axis=2), axis=1)[:, -round(_BRIGHTEST * pixels.shape[1]) :, None]
    white = np.take_along_axis(pixels, brightest, axis=1).mean(axis=1)
    guesses = np.stack([mean + 0.004, white + 0.004, edges + 0.002])
    tints = _lab(_GREY * guesses / guesses.max(axis=2, keepdims=True))[..., 1:]
    believed = np.hypot(*np.moveaxis(tints, 2, 0)).argmin(axis=0)
    cast = tints[believed, np.arange(n)]
    return {
        "red_gain": red - green,
        "blue_gain": blue - green,
        "cast_a": cast[:, 0],
        "cast_b": cast[:, 1],
        "chroma": np.hypot(*np.moveaxis(_lab(pixels)[..., 1:], 2, 0)).mean(axis=1),
        "colorfulness": _colorfulness(pixels * 255),
    }


def _lab(rgb: npt.NDArray[np.floating]) -> FloatArray:
    """CIELAB of RGB in [0, 1], shape (a, b, 3)."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2LAB), dtype=np.float64)


def _colorfulness(rgb: npt.NDArray[np.floating]) -> FloatArray:
    """Hasler and Suesstrunk (2003), equation 9; shape (n, pixels, 3) to (n,)."""
    opponent = np.stack([rgb[..., 0] - rgb[..., 1], 0.5 * (rgb[..., 0] + rgb[..., 1]) - rgb[..., 2]])
    deviation = np.hypot(*opponent.std(axis=2))
    return np.asarray(deviation + 0.3 * np.hypot(*opponent.mean(axis=2)))
