"""Opening, measuring and cutting images. Everything that decodes pixels goes through here, so EXIF is applied everywhere."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from curate.errors import ImageError

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    }
)
"""File endings taken for images, lower case."""

Pixels = npt.NDArray[np.uint8]
"""An RGB image: uint8 array of shape (height, width, 3), values 0-255, EXIF orientation applied."""


class ScaledPixels(np.ndarray[tuple[Any, ...], np.dtype[np.uint8]]):
    """Pixels of a file of more than 8 bits, made by scaling its own lowest value to 0 and its highest to 255.

    So what is dim in the file is seen by whatever looks at shapes; but how bright it was, and whether two files hold the same
    values, the pixels no longer say. Parts that are cut out keep the attributes.

    Attributes:
        bits: Of one value in the file.
        digest: SHA-256 of the file's values, upright, as float64.
    """

    bits: int = 16
    digest: bytes = b""

    def __array_finalize__(self, source: object) -> None:
        """Called by numpy for each view."""
        self.bits = getattr(source, "bits", 16)
        self.digest = getattr(source, "digest", b"")


MAX_PIXELS = 500_000_000
"""Images with more pixels than this are refused: they are decompression bombs, or need tiling first."""

NOT_THERE: Final = "the image file is not there"
"""What an `ImageError` says of a file that does not exist."""

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.int32]
"""The values in an image whose pixels are names of things rather than light: exact, never scaled or converted."""

_EXIF_ORIENTATION = 0x0112
_TIFF_SHORT = 3
_SWAPS_AXES = frozenset({5, 6, 7, 8})
# After the axes are swapped.
_FLIPS_ROWS = frozenset({3, 4, 7, 8})
_FLIPS_COLUMNS = frozenset({2, 3, 6, 7})
_HEADER_BYTES = 65536
# What Pillow raises for files whose bytes are not what they should be; the last but one for broken EXIF.
_UNREADABLE: Final = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
_EXIF: Final = b"Exif\0\0"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_APP1, _JPEG_ADOBE = 0xE1, 0xEE
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_USUAL: Final = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive, Huffman-coded
# OpenCV's flags for decoding at 1/n of the size; the flag for RGB goes with them.
_REDUCED: Final = {1: 0, 2: 16, 4: 32, 8: 64}
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA: Final = frozenset({b"eXIf", b"iTXt", b"tEXt", b"zTXt"})
_PNG_NO_PIXELS: Final = bytes(4) + b"IDAT" + bytes(4)
_MAX_METADATA: Final = 1 << 20
# Grey of more than 8 bits, as Pillow calls it.
_DEEP: Final = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
# Pillow stretches grey of 2 and 4 bits to 0-255, by these factors.
_STRETCHED = {"L;2": 85, "L;4": 17}

# Our own limit is checked before decoding, with a clear error; Pillow's would warn of images whose header alone is read.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself before its pixels are decoded.

    Attributes:
        width: Pixels, after EXIF orientation.
        height: Pixels, after EXIF orientation.
        orientation: EXIF orientation, 1 to 8 (1: as stored).
    """

    width: int
    height: int
    orientation: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) as stored in the file, before EXIF orientation."""
        return (self.height, self.width) if self.orientation in _SWAPS_AXES else (self.width, self.height)


@dataclass(frozen=True)
class LabelImage:
    """An image whose pixels are numbers of classes or things.

    Attributes:
        values: Palette indices or grey values as stored, shape (height, width), EXIF orientation applied; or RGB colors,
            uint8 of shape (height, width, 3).
        palette: RGB color of each index, uint8 array of shape (n, 3); None where the image has no palette.
    """

    values: Labels
    palette: npt.NDArray[np.uint8] | None = None


def read_header(path: str | Path | IO[bytes]) -> ImageHeader:
    """Read an image's size and orientation without decoding it: some 20 microseconds for a JPEG.

    Args:
        path: The file, or a file that is open for reading.

    Raises:
        ImageError: The file is missing, or not an image that can be read.
    """
    try:
        with open(path, "rb") if isinstance(path, str | Path) else nullcontext(path) as file:
            header = _jpeg_header(file.read(_HEADER_BYTES))
            if header is not None:
                return header
            file.seek(0)
            with Image.open(file) as image:
                orientation = _png_orientation(image, file) if isinstance(image, PngImageFile) else _orientation(image)
                # Pillow turns TIFFs by itself, their size included.
                is_turned = image.format == "TIFF"
                return ImageHeader(*image.size, orientation) if is_turned else _oriented(*image.size, orientation)
    except _UNREADABLE as error:
        raise ImageError(_reason(error), where=path, remedy="replace the file or remove it from the set") from error


def load_pixels(path: str | Path, *, shortest_side: int | None = None) -> Pixels:
    """Decode an image to RGB with its EXIF orientation applied.

    Args:
        path: The file.
        shortest_side: If given, the caller will scale the image down to about this many pixels: a JPEG is then decoded at
            the smallest of 1/1, 1/2, 1/4, 1/8 of its size that keeps its shorter side at least twice as long (five times
            faster on 12 megapixels, with no visible loss). The result is not resized further.

    Returns:
        uint8 array of shape (height, width, 3); `ScaledPixels` where the file's values had to be scaled.

    Raises:
        ImageError: The file is missing, truncated, too large or not an image.
    """
    try:
        pixels = _plain_jpeg(path, shortest_side)
        if pixels is not None:
            return pixels
        with Image.open(path) as image:
            _check_size(image, path)
            if shortest_side is not None:
                ratio = 2 * shortest_side / min(image.size)
                if ratio < 1:
                    image.draft("RGB", (round(image.width * ratio), round(image.height * ratio)))
            ImageOps.exif_transpose(image, in_place=True)
            return _scaled(image) if image.mode in _DEEP else np.asarray(_to_rgb(image))
    except ImageError:
        raise
    except _UNREADABLE as error:
        raise ImageError(_reason(error), where=path, remedy="replace the file or remove it from the set") from error


def load_labels(path: str | Path | IO[bytes]) -> LabelImage:
    """Decode an image of labels without changing a value: no palette is resolved, no grey scaled, nothing resampled.

    An alpha channel is left out. Images in other color spaces than RGB are converted to it.

    Args:
        path: The file.

    Returns:
        Its values: uint8 for up to 8 bits and for colors, uint16 for 16 bits, int32 for more.

    Raises:
        ImageError: The file is missing, truncated, too large, not an image, or holds fractions.
    """
    try:
        with Image.open(path) as image:
            _check_size(image, path)
            stretched = _stretched(image)
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "F":
                raise ImageError("the image holds fractions, not labels", where=path, remedy="save it as a PNG")
            palette = image.getpalette("RGB") if image.mode == "P" else None
            values = np.asarray(_without_alpha(image))
    except ImageError:
        raise
    except _UNREADABLE as error:
        raise ImageError(_reason(error), where=path, remedy="replace the file or remove it from the set") from error
    kind = {1: np.uint8, 2: np.uint16}.get(values.dtype.itemsize, np.int32)
    colors = None if palette is None else np.array(palette, dtype=np.uint8).reshape(-1, 3)
    return LabelImage((values // stretched).astype(kind) if stretched > 1 else values.astype(kind), colors)


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale an image to (width, height) with antialiasing; uint8 array of shape (height, width, 3)."""
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def crop(pixels: Pixels, bbox: Sequence[float], *, margin: float = 0.0) -> Pixels:
    """Cut a box out of an image.

    Args:
        pixels: Array of shape (height, width, 3).
        bbox: [x, y, width, height] in pixels; the part outside the image is left out.
        margin: Context added on every side, as a part of the box's longer side.

    Returns:
        A view of shape (h, w, 3), at least 1 x 1 pixels. A box wholly outside gives the nearest pixels of the border.
    """
    height, width = pixels.shape[:2]
    x, y, w, h = bbox
    pad = margin * max(w, h)
    left = int(np.clip(np.floor(x - pad), 0, width - 1))
    top = int(np.clip(np.floor(y - pad), 0, height - 1))
    right = int(np.clip(np.ceil(x + w + pad), left + 1, width))
    bottom = int(np.clip(np.ceil(y + h + pad), top + 1, height))
    return pixels[top:bottom, left:right]


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB of an image of 8 bits or fewer; transparency is laid on white."""
    if image.mode == "RGB":
        return image
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        converted = Image.new("RGB", image.size, (255, 255, 255))
        converted.paste(rgba, mask=rgba.getchannel("A"))
        return converted
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Pixels:
    """RGB of grey of more than 8 bits, scaled by its own range; whole numbers up to 255 are taken for 8 bits as they are."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    low, high = float(values.min()), float(values.max())
    if image.mode != "F" and high <= 255:
        return _grey(values)
    scaled = _grey((values - low) * (255.0 / max(high - low, 1e-12))).view(ScaledPixels)
    scaled.bits = 16 if ";16" in image.mode else 32
    scaled.digest = sha256(values.data, usedforsecurity=False).digest()
    return scaled


def _grey(values: npt.NDArray[np.float64]) -> Pixels:
    return np.repeat(values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _stretched(image: ImageFile) -> int:
    """By what factor Pillow will stretch the values of an image that is not decoded yet."""
    how = image.tile[0].args if image.tile else None
    mode = how[0] if isinstance(how, tuple) and how else how
    return _STRETCHED.get(mode, 1) if isinstance(mode, str) else 1


def _without_alpha(image: Image.Image) -> Image.Image:
    """One channel of numbers, or RGB."""
    if image.mode in {"1", "L", "P", "RGB", "I", "I;16", "I;16B", "I;16L"}:
        return image
    return image.getchannel(0) if image.mode in {"LA", "La", "PA"} else image.convert("RGB")


def _check_size(image: Image.Image, path: object) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{image.width} x {image.height} pixels are more than the limit of {MAX_PIXELS:,}",
            where=path,
            remedy="cut it into tiles first",
        )


def _orientation(image: Image.Image) -> int:
    return _one_to_eight(image.getexif())


def _one_to_eight(exif: Image.Exif) -> int:
    value = exif.get(_EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_orientation(image: PngImageFile, file: IO[bytes]) -> int:
    """A PNG's orientation, wherever it says so (PNG, third edition). Pillow would decode all pixels to look behind them."""
    late = b"" if "exif" in image.info else _png_late_metadata(file)
    if late:
        # The same said before pixels that are not there, for Pillow to read: it knows all the ways to say it.
        file.seek(len(_PNG_SIGNATURE))
        head = _PNG_SIGNATURE + file.read(8 + 13 + 4) + late + _PNG_NO_PIXELS
        with Image.open(BytesIO(head)) as said:
            return _one_to_eight(Image.Image.getexif(said))
    return _one_to_eight(Image.Image.getexif(image))


def _png_late_metadata(file: IO[bytes]) -> bytes:
    """The chunks behind a PNG's first pixels that may tell its orientation, one after another; pixels are skipped."""
    found = b""
    seen_pixels = False
    position = len(_PNG_SIGNATURE)
    while True:
        file.seek(position)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND":
            return found
        seen_pixels |= kind == b"IDAT"
        if seen_pixels and kind in _PNG_METADATA and len(found) + length <= _MAX_METADATA:
            found += head + file.read(length + 4)
        position += 12 + length


def _oriented(width: int, height: int, orientation: int) -> ImageHeader:
    if orientation in _SWAPS_AXES:
        width, height = height, width
    return ImageHeader(width, height, orientation)


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return NOT_THERE
    if isinstance(error, MemoryError):
        return "the image does not fit into memory"
    if isinstance(error, UnidentifiedImageError):
        return "the image cannot be read: not of a known kind"
    return f"the image cannot be read: {error}"


def _jpeg_header(data: bytes) -> ImageHeader | None:
    """Size and orientation from a JPEG's first segments (ITU T.81, Exif 2.3), or None if they are not all there."""
    orientation = 1
    for marker, segment in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            return _oriented(width, height, orientation) if width and height else None
        if marker == _JPEG_APP1 and segment.startswith(_EXIF):
            found = _tiff_orientation(segment[len(_EXIF) :])
            if found is None:
                return None
            orientation = found
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and contents of a JPEG's segments, as far as the frame header, which is the last; none of other files."""
    position = 2 if data[:2] == _JPEG_START else len(data)
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, data[position + 4 : position + 2 + length]
        if marker in _JPEG_FRAMES:
            return
        position += 2 + length


def _plain_jpeg(path: str | Path, shortest_side: int | None) -> Pixels | None:
    """What `load_pixels` gives of an ordinary, whole JPEG: Pillow's pixels in half of Pillow's time. None of other files."""
    with open(path, "rb") as file:
        data = file.read(len(_JPEG_START))
        if data != _JPEG_START:
            return None
        data += file.read()
    header = _jpeg_header(data)
    if header is None or not _is_plain(data) or header.width * header.height > MAX_PIXELS:
        return None
    import cv2  # takes a tenth of a second

    pixels = cv2.imdecode(
        np.frombuffer(data, np.uint8),
        _REDUCED[_reduction(header.stored_size, shortest_side)] | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
    )
    return None if pixels is None else _upright(np.asarray(pixels, np.uint8), header.orientation)


def _is_plain(data: bytes) -> bool:
    """Whether a JPEG is whole, as far as its end tells, and says nothing of itself that decoders understand differently."""
    exif = 0
    for marker, segment in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            plain = marker in _JPEG_USUAL and segment[0] == 8 and segment[5:6] == b"\x03"  # bits of a value; channels
            return plain and exif <= 1 and data.endswith(_JPEG_END)
        exif += marker == _JPEG_APP1 and segment.startswith(_EXIF)
        if marker == _JPEG_ADOBE or (marker == _JPEG_APP1 and b"tiff:Orientation" in segment):
            return False
    return False


def _reduction(size: tuple[int, int], shortest_side: int | None) -> int:
    """By which of 1, 2, 4 and 8 a JPEG is shrunk as it is decoded, as Pillow's `draft` chooses it."""
    ratio = 1.0 if shortest_side is None else 2 * shortest_side / min(size)
    if ratio >= 1:
        return 1
    times = min(side // round(side * ratio) for side in size)
    return next(step for step in (8, 4, 2, 1) if times >= step)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation."""
    turned = pixels.transpose(1, 0, 2) if orientation in _SWAPS_AXES else pixels
    turned = turned[::-1] if orientation in _FLIPS_ROWS else turned
    turned = turned[:, ::-1] if orientation in _FLIPS_COLUMNS else turned
    return np.ascontiguousarray(turned)


def _tiff_orientation(tiff: bytes) -> int | None:
    """The orientation tag of an Exif block's first directory; 1 if it has none, None if it cannot be followed."""
    if tiff[:2] not in {b"II", b"MM"}:
        return None
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for entry in range(count):
        at = start + 2 + 12 * entry
        field = tiff[at : at + 12]
        if len(field) < 12:
            return None
        if int.from_bytes(field[:2], order) == _EXIF_ORIENTATION:
            if int.from_bytes(field[2:4], order) != _TIFF_SHORT:
                return None
            value = int.from_bytes(field[8:10], order)
            return value if 1 <= value <= 8 else 1
    return 1
