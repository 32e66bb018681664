"""A video of what a run sees: boxes or regions, tracks, lines and zones with their counts, drawn on the frames."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from curate.edge.runner import VOID, Result
from curate.edge.runtime.counters import Counter, ZoneCounter
from curate.edge.runtime.things import Things
from curate.edge.runtime.tracker import Track
from curate.errors import UsageError
from curate.files import writable_file
from curate.imaging import Pixels

CODECS: Final = {".mp4": "mp4v", ".avi": "MJPG"}
"""By the file's ending. An AVI can be played even if the process was killed; an MP4 only once it is finished."""

_DEFAULT_RATE: Final = 25.0
_GOLDEN: Final = 0.618033988749895
_WHITE: Final = (255, 255, 255)
_SOFT: Final = 0.45


@dataclass(frozen=True)
class Picture:
    """What is drawn on one frame.

    Attributes:
        result: What the model says.
        things: Of the result.
        shown: Rows of the things that count.
        tracks: Those found.
        counters: Lines and zones.
        classes: Names.
        note: A line at the top.
    """

    result: Result
    things: Things
    shown: Sequence[int]
    classes: Sequence[str]
    tracks: Sequence[Track] = ()
    counters: Mapping[str, Counter] = field(default_factory=dict)
    note: str = ""


def draw(pixels: Pixels, picture: Picture) -> Pixels:
    """The frame with what is known of it drawn on it; uint8 RGB of the same shape."""
    canvas = _tinted(pixels, picture.result)
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    font: Any = ImageFont.load_default(max(11, min(pixels.shape[:2]) // 32))
    width = max(1, min(pixels.shape[:2]) // 240)
    for counter in picture.counters.values():
        _draw_counter(pen, counter, font, width)
    by_row = {track.detection: track for track in picture.tracks}
    for row in picture.shown:
        _draw_thing(pen, picture, int(row), by_row.get(int(row)), font, width)
    lines = [picture.note] if picture.note else []
    if picture.result.probabilities is not None:
        best = int(picture.result.probabilities.argmax())
        lines.append(f"{picture.classes[best]} {picture.result.probabilities[best]:.2f}")
    for row, line in enumerate(lines):
        _text(pen, (4, 4 + row * 1.4 * font.size), line, font, (0, 0, 0))
    return np.asarray(image)


class OverlayVideo:
    """Writes frames as a video, all at the size of the first. It is finished when it is closed, and has its name then.

    Args:
        path: `.mp4` or `.avi`.
        rate: Frames a second; None for 25.

    Raises:
        UsageError: The ending is another, or there is no such folder.
    """

    def __init__(self, path: Path, rate: float | None = None) -> None:
        if path.suffix.lower() not in CODECS:
            known = ", ".join(CODECS)
            raise UsageError(f"'{path.suffix}' is no video that can be written", where=path, remedy=f"one of: {known}")
        if not path.parent.is_dir():
            raise UsageError("there is no such folder", where=path.parent, remedy="make it first")
        self._path = writable_file(path)
        self._partial = self._path.with_name(f"{self._path.stem}.part{self._path.suffix}")
        self._rate = rate or _DEFAULT_RATE
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, pixels: Pixels) -> None:
        """Add a frame, uint8 RGB; one of another size is fitted in, with black beside it."""
        if self._writer is None:
            self._size = (pixels.shape[1] // 2 * 2 or 2, pixels.shape[0] // 2 * 2 or 2)  # codecs want even sides
            code = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._partial), cv2.CAP_FFMPEG, code, self._rate, self._size)
            if not self._writer.isOpened():
                raise UsageError("the video cannot be written", where=self._path, remedy="name another file")
        self._writer.write(cv2.cvtColor(self._fitted(pixels), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file; without a frame there is none."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            self._partial.replace(self._path)

    def _fitted(self, pixels: Pixels) -> Pixels:
        width, height = self._size
        if pixels.shape[:2] == (height, width):
            return pixels
        ratio = min(width / pixels.shape[1], height / pixels.shape[0])
        wide, high = max(1, int(pixels.shape[1] * ratio)), max(1, int(pixels.shape[0] * ratio))
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[:high, :wide] = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_AREA)
        return canvas


def _tinted(pixels: Pixels, result: Result) -> Pixels:
    """The frame with regions in their classes' colors."""
    if result.class_map is None:
        return pixels
    canvas = pixels.copy()
    for name in np.unique(result.class_map).tolist():
        if name != VOID:
            where = result.class_map == name
            canvas[where] = ((1 - _SOFT) * canvas[where] + _SOFT * np.array(_color(name))).astype(np.uint8)
    return canvas


def _draw_thing(pen: Any, picture: Picture, row: int, track: Track | None, font: Any, width: int) -> None:
    label = int(picture.things.labels[row]) if track is None else track.label
    color = _color(label if track is None else track.id)
    x, y, wide, high = picture.things.boxes[row].tolist()
    pen.rectangle((x, y, x + max(wide - 1, 1), y + max(high - 1, 1)), outline=color, width=width)
    number = "" if track is None else f"#{track.id} "
    _text(
        pen, (x, y - 1.3 * font.size), f"{number}{picture.classes[label]} {picture.things.scores[row]:.2f}", font, color
    )


def _draw_counter(pen: Any, counter: Counter, font: Any, width: int) -> None:
    points = counter.points
    text = f"{counter.name}: {counter.tally.entered} in, {counter.tally.left} out"
    if isinstance(counter, ZoneCounter):
        pen.polygon(points, outline=_WHITE, width=width)
        text += f", {counter.occupancy} now"
    else:
        pen.line(points, fill=_WHITE, width=2 * width)
    _text(pen, points[0], text, font, (0, 0, 0))


def _text(pen: Any, at: tuple[float, float], text: str, font: Any, color: tuple[int, int, int]) -> None:
    place = (max(at[0], 0), max(at[1], 0))
    pen.rectangle(pen.textbbox(place, text, font=font), fill=color)
    pen.text(place, text, font=font, fill=_WHITE if sum(color) < 400 else (0, 0, 0))


def _color(number: int) -> tuple[int, int, int]:
    """Colors that lie far from each other for numbers that follow each other."""
    red, green, blue = colorsys.hsv_to_rgb((0.11 + number * _GOLDEN) % 1, 0.75, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)
