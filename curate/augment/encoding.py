"""New images as files of the kind that their parents are: format, JPEG tables and channels alike, orientation applied.

What pixels of 8 bits and three channels cannot carry is not dropped in silence: images of more bits are no parents, and of
those with an alpha channel only the ones that are opaque, whose children are opaque too.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from curate.errors import ImageError
from curate.imaging import Pixels

_SUFFIXES: Final = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
_BYTE: Final = 8
_JPEG: Final = b"\xff\xd8"
_BITS_PER_SAMPLE: Final = 258
_RAW_BITS: Final = re.compile(r";(?:16|32|64)")
_QUALITY: Final = 92


@dataclass(frozen=True)
class Encoding:
    """How an image file is written.

    Attributes:
        format: As Pillow calls it.
        suffix: Of the file's name.
        mode: Its channels, as Pillow calls them: L, LA, RGB or RGBA.
        alpha: Whether the parent has an alpha channel, or a colour that stands for nothing.
        options: Of Pillow's writer.
    """

    format: str
    suffix: str
    mode: str
    alpha: bool
    options: dict[str, Any]


def encoding_of(path: str | Path) -> Encoding:
    """How a file is encoded, read from its header; PNG stands for kinds that are not written.

    Raises:
        ImageError: It cannot be read, or holds more than 8 bits, which pixels of 8 bits could not carry on.
    """
    with _opened(path) as image:
        if _bits(image) > _BYTE:
            raise ImageError(
                "the image has more than 8 bits, which would be lost", where=path, remedy="leave it out with --from"
            )
        form = str(image.format) if image.format in _SUFFIXES else "PNG"
        return Encoding(form, _SUFFIXES[form], _mode(image), _has_alpha(image), _options(image, form))


def bits_of(path: str | Path) -> int:
    """Of one value in a file, by its header: 16 for colours of 48 bits a pixel, which Pillow gives as 8-bit RGB without a word.

    Raises:
        ImageError: It cannot be read.
    """
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(len(_JPEG)) == _JPEG:  # of 12 bits they cannot be read at all
            return _BYTE
    with _opened(path) as image:
        return _bits(image)


def is_transparent(path: str | Path) -> bool:
    """Whether any of an image can be seen through; only those that may be are decoded.

    Raises:
        ImageError: It cannot be read.
    """
    with _opened(path) as image:
        if not _has_alpha(image):
            return False
        return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < 255)


def encode(pixels: Pixels, encoding: Encoding) -> bytes:
    """An image as the bytes of a file."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if encoding.mode != image.mode:
        image = image.convert(encoding.mode)
    file = io.BytesIO()
    image.save(file, encoding.format, **encoding.options)
    return file.getvalue()


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except ImageError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(f"the image cannot be read: {error}", where=path, remedy="replace the file") from error


def _bits(image: Image.Image) -> int:
    """Of one value, from what is known before the pixels are decoded."""
    if image.mode.startswith(("I", "F")):
        return 16 if ";16" in image.mode else 32
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        stated: Any = image.tag_v2.get(_BITS_PER_SAMPLE, _BYTE)
        return int(np.max(stated))
    told = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else None
    values = told if isinstance(told, tuple) else (told,)
    if image.format == "PPM":  # its highest value stands behind the mode where it is not 255
        return max((int(each).bit_length() for each in values if isinstance(each, int)), default=_BYTE)
    return 16 if any(isinstance(each, str) and _RAW_BITS.search(each) for each in values) else _BYTE


def _has_alpha(image: Image.Image) -> bool:
    return image.mode.endswith(("A", "a")) or "transparency" in image.info


def _mode(image: Image.Image) -> str:
    """Channels of the file that is written: grey or colour, with an alpha channel where the parent's file has one."""
    if image.mode in {"L", "1"}:
        return "L"
    return image.mode if image.mode in {"LA", "RGBA"} and image.format in {"PNG", "TIFF", "WEBP"} else "RGB"


def _options(image: Image.Image, form: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if image.info.get("icc_profile") and image.mode in {"RGB", "RGBA", "L", "LA"}:
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
