"""New images as files of the kind that their parents are: format, JPEG tables and colour mode alike, orientation applied."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, JpegImagePlugin

from curate.errors import ImageError
from curate.imaging import Pixels

_SUFFIXES: Final = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
_DEEP: Final = ("I", "F")
_QUALITY: Final = 92


@dataclass(frozen=True)
class Encoding:
    """How an image file is written.

    Attributes:
        format: As Pillow calls it.
        suffix: Of the file's name.
        grey: Whether the file holds one channel.
        options: Of Pillow's writer.
    """

    format: str
    suffix: str
    grey: bool
    options: dict[str, Any]


def encoding_of(path: str | Path) -> Encoding:
    """How a file is encoded, read from its header; PNG stands for kinds that are not written.

    Raises:
        ImageError: It cannot be read, or holds more than 8 bits, which pixels of 8 bits could not carry on.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(_DEEP):
                raise ImageError(
                    "the image has more than 8 bits, which would be lost", where=path, remedy="leave it out with --from"
                )
            form = image.format if image.format in _SUFFIXES else "PNG"
            return Encoding(str(form), _SUFFIXES[str(form)], image.mode in {"L", "1"}, _options(image, str(form)))
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"the image cannot be read: {error}", where=path, remedy="replace the file") from error


def encode(pixels: Pixels, encoding: Encoding) -> bytes:
    """An image as the bytes of a file."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if encoding.grey:
        image = image.convert("L")
    file = io.BytesIO()
    image.save(file, encoding.format, **encoding.options)
    return file.getvalue()


def _options(image: Image.Image, form: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if image.info.get("icc_profile") and image.mode in {"RGB", "L"}:
        options["icc_profile"] = image.info["icc_profile"]
    if form == "JPEG" and isinstance(image, JpegImagePlugin.JpegImageFile):
        if image.mode in {"RGB", "L"}:
            options |= {"qtables": image.quantization, "subsampling": max(JpegImagePlugin.get_sampling(image), 0)}
        else:
            options["quality"] = _QUALITY
        if image.info.get("progressive"):
            options["progressive"] = True
    elif form == "WEBP":
        options["quality"] = _QUALITY
    elif form == "TIFF":
        options["compression"] = "tiff_lzw"
    return options
