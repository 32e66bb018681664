"""From an image of any size to a network's input, and the way back for what is found on it.

Coordinates are continuous pixels, as everywhere: an image of width w spans [0, w]. The way back uses the sides that an image was
really scaled to, which are whole pixels, so it is exact and not merely close.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.errors import InputError
from curate.imaging import Pixels
from curate.models.predictors.base import Size
from curate.models.predictors.sidecar import Resize, Sidecar
from curate.runner import Placement, place

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_INTERPOLATION: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Prepared:
    """An image as a network takes it, or as its bytes before they become numbers (without the batch's axis).

    Attributes:
        array: Of the input's shape.
        placement: Where the image lies in it.
    """

    array: Array
    placement: Placement


@dataclass(frozen=True)
class Preparation:
    """What happens to each image, as a sidecar says; called with pixels it gives `Prepared`. Training does the same.

    A quarter of the memory holds images that wait for their network as bytes: `fit` gives those, `fill` makes them numbers.

    Attributes:
        size: Of the input; None with resize 'none'.
        factor: Pixels (0 to 255) are multiplied by this; float32 of shape (channels,), or None for 1.
        shift: Added then; float32 of shape (channels,), or None for 0.
        dtype: Of the input.
    """

    size: Size | None
    resize: Resize
    crop: float
    multiple: int
    pad: float
    interpolation: str
    color: str
    layout: str
    factor: npt.NDArray[np.float32] | None
    shift: npt.NDArray[np.float32] | None
    dtype: np.dtype[Any]

    def __call__(self, pixels: Pixels) -> Prepared:
        """Prepare one image: uint8 of shape (height, width, 3), RGB."""
        fitted = self.fit(pixels)
        if self.dtype == np.uint8:
            return fitted
        values = np.empty(fitted.array.shape, self.dtype)
        self.fill(values, fitted.array)
        return Prepared(values, fitted.placement)

    def fit(self, pixels: Pixels) -> Prepared:
        """Scale, pad and order one image (as for a call), and leave its values as they are: uint8."""
        placement = place((pixels.shape[0], pixels.shape[1]), self.size, self.resize, self.crop, self.multiple)
        image = self._scaled(pixels, placement)
        if self.color == "bgr":
            image = image[..., ::-1]
        elif self.color == "gray":
            image = np.round(image @ _LUMA).astype(np.uint8)[..., None]
        if self.layout == "nchw":
            image = image.transpose(2, 0, 1)
        return Prepared(np.ascontiguousarray(image), placement)

    def fill(self, out: Array, fitted: Array) -> None:
        """Write what the network takes for an image, given as `fit` gives it, to `out`: of the same shape, and `dtype`."""
        values = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
        factor, shift = self.factor, self.shift
        if self.layout == "nchw":
            factor, shift = (None if each is None else each[:, None, None] for each in (factor, shift))
        if factor is None:
            values[...] = fitted
        else:
            np.multiply(fitted, factor, out=values)
        if shift is not None:
            values += shift
        if values is not out:
            out[...] = values

    @property
    def input_size(self) -> int | None:
        """Pixels that an image's shorter side should have, at about; None where images are taken as they are."""
        return None if self.size is None else round(min(self.size) / self.crop)

    def _scaled(self, pixels: Pixels, placement: Placement) -> Pixels:
        scaled, (top, left) = placement.scaled, placement.offset
        if scaled != placement.image:
            how = _INTERPOLATION[self.interpolation]
            image = Image.fromarray(pixels).resize((scaled[1], scaled[0]), how, reducing_gap=2.0)
            pixels = np.asarray(image)
        if scaled == placement.input:
            return pixels
        pixels = pixels[max(-top, 0) :, max(-left, 0) :][: placement.input[0], : placement.input[1]]
        top, left = max(top, 0), max(left, 0)
        canvas = np.full((*placement.input, 3), round(self.pad), np.uint8)
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return canvas


def make_preparation(sidecar: Sidecar, dtype: npt.DTypeLike = np.float32) -> Preparation:
    """The preparation that a sidecar describes.

    Args:
        sidecar: With resize and scale, and a size unless images are taken as they are. An open color is RGB, an open layout
            channels first, an open mean 0, an open std 1. (A predictor guesses otherwise for some models; what says its scale
            is not guessed about.)
        dtype: Of the network's input: a float, or uint8 for pixels as they are.

    Raises:
        InputError: The sidecar leaves out what it may not, or asks for values that the dtype cannot hold.
    """
    dtype = np.dtype(dtype)
    resize = sidecar.resize
    scale = 1.0 if sidecar.scale is None and dtype == np.uint8 else sidecar.scale
    if resize is None or scale is None:
        raise InputError("the sidecar leaves open how images go in", where="resize" if resize is None else "scale")
    size = (sidecar.size, sidecar.size) if isinstance(sidecar.size, int) else sidecar.size
    if size is None and resize != "none":
        raise InputError(f"resize '{resize}' needs a size", where="size")
    channels = 1 if sidecar.color == "gray" else 3
    mean, std = np.array(sidecar.mean or (0.0,)), np.array(sidecar.std or (1.0,))
    factor = np.broadcast_to(scale / std, channels).astype(np.float32)
    shift = np.broadcast_to(-mean / std, channels).astype(np.float32)
    if dtype == np.uint8 and ((factor != 1).any() or shift.any()):
        raise InputError("the network takes uint8: pixels as they are, without scale, mean or std", where="scale")
    return Preparation(
        size=None if resize == "none" else size,
        resize=resize,
        crop=sidecar.crop if resize == "shortest_side_crop" else 1.0,
        multiple=sidecar.multiple,
        pad=0 if sidecar.pad is None else sidecar.pad,
        interpolation=sidecar.interpolation,
        color=sidecar.color or "rgb",
        layout=sidecar.layout or "nchw",
        factor=None if (factor == 1).all() else factor,
        shift=shift if shift.any() else None,
        dtype=dtype,
    )
