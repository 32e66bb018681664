"""Color: the gains of the channels, the tint of what should be neutral, and how colorful an image is."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Planes = npt.NDArray[np.float32]

# Above this share of its values a channel is as bright as the light lets it be, reflexes and dead pixels left out.
_BRIGHT: Final = 0.99
# A grey of about this lightness is shown under the light that is guessed.
_GREY: Final = 0.7
# Keeps logarithms of black finite; steps (natural logarithms) that say nothing; how unequal those of a grey edge may be.
_FLOOR: Final = 0.02
_FAINT: Final = 0.05
_UNEQUAL: Final = 0.1


def color(planes: Planes) -> dict[str, FloatArray]:
    """Columns of color.

    Three guesses are made at the color of the light: that the brightest of each channel is white (white patch), that the mean
    edge is grey (grey edge, van de Weijer et al. 2007), and that edges which are equally steep in all channels are between
    greys (grey pixels, Yang et al. 2015). Each takes some colors of things for colors of light, a sunset or a blue wall; a
    cast tints all three, so that the one nearest to neutral is believed.

    Args:
        planes: Thumbnails, RGB in [0, 1]; array of shape (n, 3, k, k), k even.

    Returns:
        Arrays of shape (n,) by name: `red_gain` and `blue_gain` as octaves of the mean over green, `cast_a` and `cast_b`,
        how a grey looks in that light, `chroma`, the mean, and `chroma_max`, that of the most colored of 16 x 16 cells, in CIELAB
        units; `colorfulness` of Hasler and Suesstrunk
        (2003) on a scale of 0-255.
    """
    n = len(planes)
    columns = planes[..., ::2] + planes[..., 1::2]
    pixels = ((columns[:, :, ::2] + columns[:, :, 1::2]) / np.float32(4)).reshape(n, 3, -1)
    mean = pixels.mean(axis=2, dtype=np.float64)
    red, green, blue = np.log2(mean + 1 / 255).T
    guesses = np.stack([_white(planes) + 0.004, _edges(planes) + 0.002, _grey_pixels(planes) + 0.004])
    tints = _lab(_GREY * guesses / guesses.max(axis=2, keepdims=True))[..., 1:]
    believed = np.hypot(*np.moveaxis(tints, 2, 0)).argmin(axis=0)
    cast = tints[believed, np.arange(n)]
    chroma = np.hypot(*np.moveaxis(_lab(pixels.transpose(0, 2, 1))[..., 1:], 2, 0))
    return {
        "red_gain": red - green,
        "blue_gain": blue - green,
        "cast_a": cast[:, 0],
        "cast_b": cast[:, 1],
        "chroma": chroma.mean(axis=1, dtype=np.float64),
        "chroma_max": chroma.max(axis=1).astype(np.float64),
        "colorfulness": _colorfulness(np.asarray(pixels * 255, np.float32)),
    }


def _white(planes: Planes) -> Planes:
    """The brightest of each channel, shape (n, 3)."""
    values = planes.reshape(*planes.shape[:2], -1)
    rank = int(_BRIGHT * (values.shape[2] - 1))
    return np.asarray(np.partition(values, rank, axis=2)[:, :, rank])


def _edges(planes: Planes) -> Planes:
    """The mean step of each channel, shape (n, 3)."""
    return np.asarray(sum(abs(np.diff(planes, axis=axis)).mean(axis=(2, 3)) for axis in (2, 3)))


def _grey_pixels(planes: Planes) -> Planes:
    """Mean color where steps are equal in the logarithms of all channels, which no color of the light changes; shape (n, 3)."""
    red, green, blue = np.moveaxis(np.log(planes + np.float32(_FLOOR)), 1, 0)
    contrast = np.sqrt(_squared_steps(green))
    unequal = _squared_steps(red - green) + _squared_steps(blue - green)
    unequal /= (_UNEQUAL * (contrast + np.float32(_FLOOR))) ** 2
    weights = np.where(contrast < _FAINT, 0, contrast) / (1 + unequal * unequal)
    colors = np.einsum("nchw,nhw->nc", planes[:, :, :-1, :-1], weights)
    return np.asarray(colors / (weights.sum(axis=(1, 2)) + np.float32(1e-6))[:, None])


def _squared_steps(plane: Planes) -> Planes:
    """To the right and down, squared and added; shape (n, k, k) to (n, k - 1, k - 1)."""
    right = plane[:, :-1, 1:] - plane[:, :-1, :-1]
    down = plane[:, 1:, :-1] - plane[:, :-1, :-1]
    right *= right
    down *= down
    right += down
    return right


def _lab(rgb: npt.NDArray[np.floating]) -> Planes:
    """CIELAB of RGB in [0, 1], shape (a, b, 3)."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb, np.float32), cv2.COLOR_RGB2LAB), np.float32)


def _colorfulness(rgb: Planes) -> FloatArray:
    """Hasler and Suesstrunk (2003), equation 9; shape (n, 3, pixels) to (n,)."""
    red, green, blue = rgb[:, 0], rgb[:, 1], rgb[:, 2]
    opponent = np.stack([red - green, np.float32(0.5) * (red + green) - blue])
    deviation = np.hypot(*opponent.std(axis=2))
    return np.asarray(deviation + 0.3 * np.hypot(*opponent.mean(axis=2)))
