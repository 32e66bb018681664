"""What may happen to a picture: the copies of it that must be found again, and the styles that it may come in.

Every function takes an RGB image, uint8 of shape (height, width, 3), and a generator, and returns another such image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.demo.render import encode_jpeg
from curate.imaging import Pixels, resize

Change = Callable[[Pixels, np.random.Generator], Pixels]

_GREY: Final = np.array([0.299, 0.587, 0.114])


def jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Saved as a JPEG of quality 30."""
    return np.asarray(Image.open(BytesIO(encode_jpeg(pixels, 30))))


def halved(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Half as large."""
    height, width = pixels.shape[:2]
    return resize(pixels, (max(1, width // 2), max(1, height // 2)))


def cropped(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """10 to 20% of each side cut off."""
    height, width = pixels.shape[:2]
    kept = 1 - rng.uniform(0.1, 0.2, 2)
    top, left = (rng.uniform(0, 1 - kept) * (height, width)).astype(int)
    rows, columns = np.ceil(kept * (height, width)).astype(int)
    return pixels[top : top + rows, left : left + columns]


def rotated(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Turned by 5 degrees, its border drawn out."""
    height, width = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.choice([-5, 5])), 1)
    return _image(cv2.warpAffine(pixels, turn, (width, height), borderMode=cv2.BORDER_REPLICATE))


def relit(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Brighter or darker by a third, and another gamma."""
    gain, gamma = np.exp(rng.choice([-1, 1], 2) * rng.uniform(0.2, 0.4, 2))
    return _image(255 * gain * np.power(pixels / 255, gamma))


def blurred(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Out of focus by 1% of its longer side."""
    return _image(cv2.GaussianBlur(pixels, (0, 0), max(pixels.shape) / 100))


def noisy(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Noise with a standard deviation of 15 of 255."""
    return _image(pixels + rng.normal(0, 15, pixels.shape))


def grey(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Without colour."""
    return _image(np.repeat((pixels @ _GREY)[..., None], 3, axis=2))


def mirrored(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(pixels[:, ::-1])


def shaded(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A light from one side: three times as bright there as on the other, in linear light."""
    return _image(255 * np.power(np.power(pixels / 255, 2.2) * _ramp(pixels, 3, rng), 1 / 2.2))


COPIES: Final[Mapping[str, Change]] = {
    "JPEG 30": jpeg,
    "half size": halved,
    "crop": cropped,
    "5 degrees": rotated,
    "gain, gamma": relit,
    "blur": blurred,
    "noise": noisy,
    "grey": grey,
    "mirrored": mirrored,
    "side light": shaded,
}
"""Copies that are to be found again."""


def as_it_is(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The picture."""
    return pixels


def by_lamplight(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Dim, warm, from one side, with the noise of a sensor that has to amplify it."""
    warm = 0.3 * np.array([1.35, 1.0, 0.6]) * rng.uniform(0.8, 1.2)
    light = np.power(pixels / 255, 2.2) * warm * _ramp(pixels, 2, rng)
    return _image(255 * np.power(light, 1 / 2.2) + rng.normal(0, 6, pixels.shape))


def painted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Flat dabs of stronger colours, in strokes that run one way."""
    dabs = cv2.medianBlur(cv2.medianBlur(pixels, 5), 5).astype(np.float64)
    tone = dabs.mean(axis=2, keepdims=True)
    lively = 24 * np.round(tone / 24) + 1.4 * (dabs - tone)
    kernel = np.zeros((9, 9), np.float32)
    angle = rng.uniform(0, np.pi)
    along = np.round(4 * np.array([np.cos(angle), np.sin(angle)])).astype(int)
    cv2.line(kernel, tuple((4 - along).tolist()), tuple((4 + along).tolist()), 1)
    strokes = cv2.filter2D(rng.normal(0, 40, pixels.shape[:2]), -1, kernel / kernel.sum())
    return _image(lively + strokes[..., None])


def as_cartoon(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Few, bright colours, and black outlines."""
    smooth = cv2.bilateralFilter(pixels, 9, 60, 5)
    hue, saturation, value = cv2.split(cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV).astype(np.float64))
    few = np.stack([hue, 64 * np.round(1.5 * saturation / 64), 51 * np.round(1.15 * value / 51)], axis=2)
    colors = cv2.cvtColor(_image(few), cv2.COLOR_HSV2RGB)
    lines = cv2.adaptiveThreshold(
        cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY), 1, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 5
    )
    return _image(colors * lines[..., None])


def sketched(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Pencil on paper: grey over its own blur, which leaves the edges."""
    light = pixels @ _GREY + 1
    edges = np.minimum(1, light / cv2.GaussianBlur(light, (0, 0), 3))
    paper = 245 + rng.normal(0, 3, light.shape)
    return _image(np.repeat((paper * np.power(edges, 2))[..., None], 3, axis=2))


STYLES: Final[Mapping[str, Change]] = {
    "photograph": as_it_is,
    "lamplight": by_lamplight,
    "painting": painted,
    "cartoon": as_cartoon,
    "sketch": sketched,
}
"""Styles that stand in for photographs, paintings, cartoons and sketches where no such set is on disk."""


def _ramp(pixels: Pixels, ratio: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Light that grows by `ratio` across the picture in a random direction, 1 at its centre; shape (height, width, 1)."""
    height, width = pixels.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    across = np.cos(angle) * np.linspace(-1, 1, width)[None, :, None]
    down = np.sin(angle) * np.linspace(-1, 1, height)[:, None, None]
    return np.asarray(np.exp(np.log(ratio) / 2 * (across + down)))


def _image(values: npt.NDArray[Any]) -> Pixels:
    """The nearest image of 8 bits."""
    return np.clip(values + 0.5, 0, 255).astype(np.uint8) if values.dtype != np.uint8 else values
