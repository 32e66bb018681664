"""Images that lie in a table as bytes: their names, and their files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Final

from curate.errors import ImageError
from curate.formats.base import ReadOptions
from curate.formats.files import is_image
from curate.formats.locations import file_name, safe_location
from curate.formats.losses import LossReport
from curate.imaging import read_header

_MAGIC: Final = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"P6", ".ppm"),
    (b"P5", ".pgm"),
)
_LONGEST_NAME: Final = 150


class ImageStore:
    """Gives images from tables a location, and writes their bytes to files where they may be kept.

    Args:
        options: `files` is where they go.
        losses: Gets names that two images have, and images that cannot be read or written.
    """

    def __init__(self, options: ReadOptions, losses: LossReport) -> None:
        self._folder = options.files
        self._losses = losses
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def location(self, split: str | None, name: str | None, row: int, data: bytes) -> str:
        """Where an image of a row is in the dataset: its own name, in a folder for the split.

        Args:
            split: As the table's name says.
            name: What the table calls it, or None.
            row: Its number in the split.
            data: Its bytes.
        """
        parts = [file_name(part) for part in safe_location(name or "").split("/") if part]
        if not parts or any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts):
            parts = [f"{row:06d}"]
        if not is_image(parts[-1]):
            parts[-1] += _suffix(data)
        if split is not None and parts[0] != file_name(split):
            parts.insert(0, file_name(split))
        return self._unique("/".join(parts))

    def keep(self, data: bytes, location: str) -> tuple[Path | None, tuple[int, int] | None]:
        """Write an image, unless a file of its size is there already.

        Returns:
            Its file, or None where none may be kept; and its width and height where there is no file to tell.
        """
        if self._folder is None:
            try:
                header = read_header(BytesIO(data))
            except ImageError as error:
                self._losses.converted("images", "cannot be read; kept without a size", f"{location}: {error.what}")
                return None, None
            return None, (header.width, header.height)
        path = self._folder / location
        try:
            if not path.is_file() or path.stat().st_size != len(data):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        except OSError as error:
            self._losses.dropped("image files", "cannot be written", f"{location}: {error.strerror}")
            return None, None
        return path, None

    def _unique(self, location: str) -> str:
        candidate = location
        while candidate.lower() in self._taken:
            number = self._numbers[location] = self._numbers.get(location, 1) + 1
            stem, dot, suffix = location.rpartition(".")
            candidate = f"{stem}_{number}{dot}{suffix}"
        if candidate != location:
            self._losses.converted("images", "renamed: another image has the same name", f"{location} -> {candidate}")
        self._taken.add(candidate.lower())
        return candidate


def _suffix(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _MAGIC if data.startswith(magic)), ".img")
