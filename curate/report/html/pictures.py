"""Small pictures for a page that may not grow beyond a number of bytes.

Pictures are wanted in the order of their importance. A few are tried at every size, and all are made at the largest at which
they are expected to fit; where even the smallest is too large for all, the last ones are left out. The first ones, up to a mark,
may take a third of the room, and so are larger than the others where these are many.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.engine.local import default_threads
from curate.errors import ImageError
from curate.imaging import load_pixels, read_header

Window = tuple[float, float, float, float]
"""x, y, width, height in pixels of an image at its full size."""

LEVELS: Final = ((320, 72), (256, 70), (208, 66), (176, 62), (144, 58), (112, 52), (96, 45))
"""Longer side in pixels and quality of WebP, the best first."""

_TRIED: Final = 32
_CHUNK: Final = 256
_OVERHEAD: Final = 12
"""Bytes that a picture takes in the page besides its own."""


@dataclass(frozen=True)
class Source:
    """An image that pictures are taken from.

    Attributes:
        location: As imported.
        path: The file; None where there is none.
        width: Pixels; None where unknown.
        height: The same.
        split: Its split.
    """

    location: str
    path: str | None
    width: int | None
    height: int | None
    split: str | None = None

    def size(self) -> tuple[int, int] | None:
        """Width and height, from the file if need be; None if nothing tells."""
        if self.width and self.height:
            return self.width, self.height
        try:
            header = read_header(self.path) if self.path else None
        except ImageError:
            return None
        return (header.width, header.height) if header else None


@dataclass
class Wanted:
    """Pictures that a page wants: each a window on an image, once however often it is asked for.

    Attributes:
        sources: The images, by id.
        windows: Image id and window of each picture, in the order in which they were first asked for.
        first: How many of them are the first ones, which are made larger.
    """

    sources: Mapping[str, Source]
    windows: list[tuple[str, Window]] = field(default_factory=list)
    first: int = 0
    _numbers: dict[tuple[str, Window], int] = field(default_factory=dict)
    _sizes: dict[str, tuple[int, int] | None] = field(default_factory=dict)

    def mark(self) -> None:
        """What was asked for so far are the first ones."""
        self.first = len(self.windows)

    def size(self, image_id: str) -> tuple[int, int] | None:
        """Width and height of an image; None where unknown."""
        if image_id not in self._sizes:
            source = self.sources.get(image_id)
            self._sizes[image_id] = None if source is None else source.size()
        return self._sizes[image_id]

    def want(self, image_id: str, bbox: Sequence[float] | None = None) -> int | None:
        """Number of the picture of an image, or of what surrounds a box on it; None if there can be none."""
        size = self.size(image_id)
        if size is None or self.sources[image_id].path is None:
            return None
        key = (image_id, window_around(bbox, *size))
        if key not in self._numbers:
            self._numbers[key] = len(self.windows)
            self.windows.append(key)
        return self._numbers[key]


@dataclass(frozen=True)
class Made:
    """The pictures that were made.

    Attributes:
        encoded: WebP in base 64 of each picture wanted; None where it was left out.
        side: Longer side of the pictures, of those that are not the first ones; pixels.
        unreadable: How many could not be made, for the image cannot be read.
        beyond: How many were left out for want of room.
        first_unreadable: The location of the first of them, and the reason.
    """

    encoded: list[str | None]
    side: int
    unreadable: int
    beyond: int
    first_unreadable: str | None = None


def window_around(bbox: Sequence[float] | None, width: int, height: int) -> Window:
    """A square around a box, with about as much again to see what it is in; the whole image where that says more."""
    whole = (0.0, 0.0, float(width), float(height))
    if bbox is None or not np.isfinite(np.asarray(bbox, dtype=np.float64)).all():
        return whole
    x, y, w, h = (float(value) for value in bbox)
    inside = 0 <= x + w / 2 <= width and 0 <= y + h / 2 <= height
    side = round(max(1.8 * max(w, h), min(width, height) / 8, 32.0))
    if not inside or side >= max(width, height):
        return whole
    across, down = float(min(side, width)), float(min(side, height))
    left = min(max(round(x + (w - across) / 2), 0), width - across)
    top = min(max(round(y + (h - down) / 2), 0), height - down)
    return (left, top, across, down)


def make_pictures(
    wanted: Wanted,
    room: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Made:
    """Make as many of the pictures as there is room for, the first ones first.

    Args:
        wanted: Those.
        room: Bytes that they may take in the page.
        progress: Told (done, total).
    """
    encoded: list[str | None] = [None] * len(wanted.windows)
    with ThreadPoolExecutor(default_threads()) as pool:
        levels = _levels(wanted, room, pool)
        spent = unreadable = 0
        first = None
        for chunk in _chunks(wanted.first, len(encoded)):
            level = levels[chunk.start >= wanted.first]
            for numbers, pictures in pool.map(partial(_of_image, wanted, levels=[level]), _by_image(wanted, chunk)):
                if isinstance(pictures, ImageError):
                    unreadable += len(numbers)
                    first = first or _reason(wanted, numbers[0], pictures)
                    continue
                for number, (picture,) in zip(numbers, pictures, strict=True):
                    if spent + len(picture) + _OVERHEAD <= room:
                        encoded[number] = picture
                        spent += len(picture) + _OVERHEAD
            if progress is not None:
                progress(chunk.stop, len(encoded))
            if spent > 0.99 * room:
                break
        if progress is not None:
            progress(len(encoded), len(encoded))
    beyond = sum(each is None for each in encoded) - unreadable
    return Made(encoded, levels[1][0], unreadable, beyond, first)


def _levels(wanted: Wanted, room: int, pool: ThreadPoolExecutor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size and quality of the first pictures and of the others: the best at which all are expected to fit."""
    count = len(wanted.windows)
    tried = np.unique(np.linspace(0, count - 1, min(_TRIED, count)).astype(int)) if count else np.zeros(0, int)
    costs = []
    for _, pictures in pool.map(lambda number: _of_image(wanted, [int(number)], LEVELS), tried):
        if not isinstance(pictures, ImageError):
            costs.append([len(picture) + _OVERHEAD for picture in pictures[0]])
    if not costs:
        return LEVELS[0], LEVELS[0]
    each = 1.05 * np.mean(costs, axis=0)
    alike = _fitting(each * count, room)
    first = _fitting(each * wanted.first, max(room / 3, each[alike] * wanted.first))
    others = _fitting(each * (count - wanted.first), room - each[first] * wanted.first)
    return LEVELS[first], LEVELS[others]


def _fitting(costs: npt.NDArray[np.float64], room: float) -> int:
    """Number of the best level that does not cost more than there is; the last if each does."""
    return next((number for number, cost in enumerate(costs) if cost <= room), len(LEVELS) - 1)


def _chunks(first: int, count: int) -> Iterator[range]:
    """Numbers of pictures in parts, each of the first ones or of the others only."""
    for start, stop in ((0, first), (first, count)):
        for place in range(start, stop, _CHUNK):
            yield range(place, min(place + _CHUNK, stop))


def _by_image(wanted: Wanted, chunk: range) -> list[list[int]]:
    """The pictures of a chunk, those of one image together, for it is decoded once."""
    parts: dict[str, list[int]] = {}
    for number in chunk:
        parts.setdefault(wanted.windows[number][0], []).append(number)
    return list(parts.values())


def _reason(wanted: Wanted, number: int, error: ImageError) -> str:
    """Why a picture could not be made, with its image by its location: a report names no paths."""
    return f"{wanted.sources[wanted.windows[number][0]].location}: {error.what}"


def _of_image(
    wanted: Wanted, numbers: Sequence[int], levels: Sequence[tuple[int, int]]
) -> tuple[Sequence[int], list[list[str]] | ImageError]:
    """Pictures of one image, each at every level; or why there are none."""
    image_id = wanted.windows[numbers[0]][0]
    size = wanted.size(image_id)
    path = wanted.sources[image_id].path
    assert size is not None
    assert path is not None
    windows = [wanted.windows[number][1] for number in numbers]
    try:
        pixels = open_windows(path, size, windows, max(side for side, _ in levels))
    except ImageError as error:
        return numbers, error
    return numbers, [
        [_encode(cut_window(pixels, size, window, side), quality) for side, quality in levels] for window in windows
    ]


def open_windows(path: str, size: tuple[int, int], windows: Sequence[Window], side: int) -> Image.Image:
    """An image, decoded as small as the windows that will be cut out of it allow.

    Args:
        path: The file.
        size: Its full width and height.
        windows: Those, in pixels of its full size.
        side: Longer side that each is to have at most.

    Raises:
        ImageError: It cannot be read.
    """
    scale = min(1.0, max(side / max(window[2:]) for window in windows))
    return Image.fromarray(load_pixels(path, shortest_side=max(1, round(scale * min(size)))))


def cut_window(pixels: Image.Image, size: tuple[int, int], window: Window, side: int) -> Image.Image:
    """A window of an image at most `side` pixels long; it is never enlarged.

    Args:
        pixels: The image at whatever size it was decoded.
        size: Its full width and height.
        window: In pixels of its full size.
        side: Pixels.
    """
    across, down = pixels.width / size[0], pixels.height / size[1]
    x, y, w, h = window
    scale = min(1.0, side / max(w * across, h * down))
    small = (max(1, round(w * across * scale)), max(1, round(h * down * scale)))
    place = (x * across, y * down, (x + w) * across, (y + h) * down)
    return pixels.resize(small, Image.Resampling.BICUBIC, box=place, reducing_gap=2.0)


def _encode(picture: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, method=3)
    return base64.b64encode(file.getvalue()).decode("ascii")
