"""Image files that an annotation file has inside, as Base64 text."""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import Any

from curate.errors import ImageError
from curate.formats.base import ReadOptions
from curate.formats.locations import safe_location
from curate.formats.losses import LossReport
from curate.imaging import read_header


def decode_base64(value: Any) -> bytes | None:
    """The bytes of a Base64 text, or of a 'data:' address; None if it is neither."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return binascii.a2b_base64(value.partition(",")[2] if value.startswith("data:") else value)
    except ValueError:
        return None


def keep_image(value: Any, location: str, place: str, options: ReadOptions, losses: LossReport) -> Path | None:
    """Write an embedded image where the dataset keeps its files.

    Args:
        value: Base64 text; anything else means that there is no image inside.
        location: The image's, which becomes its place below `options.files`.
        place: What to call the annotation file in the loss report.
        options: Without `files` nothing is kept.
        losses: What is inside but no image, or cannot be written.

    Returns:
        The file, or None where there is none.
    """
    if not value or options.files is None:
        return None
    try:
        path = _write(decode_base64(value) or b"", options.files / safe_location(location))
    except (ImageError, OSError, ValueError) as error:
        what = error.what if isinstance(error, ImageError) else str(error)
        losses.dropped("image files", "the image inside the annotation file cannot be read or kept", f"{place}: {what}")
        return None
    return path


def _write(data: bytes, path: Path) -> Path:
    if path.is_file() and path.read_bytes() == data:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        read_header(path)
    except ImageError:
        path.unlink()
        raise
    return path
