"""A video of what a run sees: boxes or regions, tracks, lines and zones with their counts, drawn on the frames."""

from __future__ import annotations

import colorsys
import errno
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from curate.edge.runtime.counters import Counter, ZoneCounter
from curate.edge.runtime.lines import told_of
from curate.edge.runtime.things import Things
from curate.edge.runtime.tracker import Track
from curate.errors import InputError, UsageError
from curate.files import writable_file
from curate.imaging import Pixels
from curate.runner import VOID, Result

CODECS: Final = {".mp4": "mp4v", ".avi": "MJPG"}
"""By the file's ending. An AVI can be played even if the process was killed; an MP4 only once it is finished."""

_DEFAULT_RATE: Final = 25.0
_GOLDEN: Final = 0.618033988749895
_WHITE: Final = (255, 255, 255)
_SOFT: Final = 0.45
_SPARE: Final = 4_000_000


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
    labels = _Labels(pen, font, image.size)
    lines = [picture.note] if picture.note else []
    if picture.result.probabilities is not None:
        best = int(picture.result.probabilities.argmax())
        lines.append(f"{picture.classes[best]} {picture.result.probabilities[best]:.2f}")
    for line in lines:
        labels.keep((4, 4), line, (0, 0, 0))
    for counter in picture.counters.values():
        _draw_counter(pen, counter, labels, width)
    by_row = {track.detection: track for track in picture.tracks}
    for row in picture.shown:
        _draw_thing(pen, picture, int(row), by_row.get(int(row)), labels, width)
    labels.draw()
    return np.asarray(image)


class OverlayVideo:
    """Writes frames as a video, all at the size of the first. It is finished when it is closed, and has its name then.

    Args:
        path: `.mp4` or `.avi`.
        rate: Frames a second; None for 25.

    Raises:
        UsageError: The ending is another, or there is no such folder.
    """

    # What encodes the frames does not say when the disk is full. So there must be room for a frame before each is written, with
    # some to spare for what is buffered and for the index at the end; and what was written is looked at when it is closed.

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
        self._frames = 0

    def write(self, pixels: Pixels) -> None:
        """Add a frame, uint8 RGB; one of another size is fitted in, with black beside it.

        Raises:
            InputError: The disk is full; the video has what was written before.
        """
        self._require_room(2 * pixels.nbytes + _SPARE)
        if self._writer is None:
            self._size = (pixels.shape[1] // 2 * 2 or 2, pixels.shape[0] // 2 * 2 or 2)  # codecs want even sides
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what goes wrong is told once, by us
            code = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._partial), cv2.CAP_FFMPEG, code, self._rate, self._size)
            if not self._writer.isOpened():
                raise UsageError("the video cannot be written", where=self._path, remedy="name another file")
        self._writer.write(cv2.cvtColor(self._fitted(pixels), cv2.COLOR_RGB2BGR))
        self._frames += 1

    def close(self) -> None:
        """Finish the file; without a frame there is none.

        Raises:
            InputError: Not all of it could be written. What there is has `.part` in its name.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not _has_frames(self._partial, self._frames):
            raise InputError(
                "the video could not be written whole",
                where=self._partial,
                remedy="make room on the disk, or name a file elsewhere",
            )
        self._partial.replace(self._path)

    def _require_room(self, size: int) -> None:
        with told_of(self._path):
            if shutil.disk_usage(self._path.parent).free < size:
                raise OSError(errno.ENOSPC, "the disk is full")

    def _fitted(self, pixels: Pixels) -> Pixels:
        width, height = self._size
        if pixels.shape[:2] == (height, width):
            return pixels
        ratio = min(width / pixels.shape[1], height / pixels.shape[0])
        wide, high = max(1, int(pixels.shape[1] * ratio)), max(1, int(pixels.shape[0] * ratio))
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[:high, :wide] = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_AREA)
        return canvas


def _has_frames(path: Path, count: int) -> bool:
    """Whether a video can be read to its last frame. An index at the end is what a full disk costs first."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened() or int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) < count:
            return False
        capture.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
        return bool(capture.read()[0])
    finally:
        capture.release()


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


class _Labels:
    """Texts on a frame, drawn last: within it, and over none of those that are to be kept readable.

    Args:
        pen: That draws.
        font: Of all of them.
        size: (width, height) of the frame.
    """

    def __init__(self, pen: Any, font: Any, size: tuple[int, int]) -> None:
        self._pen, self._font, self._size = pen, font, size
        self._kept: list[_Label] = []
        self._others: list[_Label] = []
        self.height: float = 1.3 * font.size

    def keep(self, at: tuple[float, float], text: str, color: tuple[int, int, int]) -> None:
        """Add a text that no later one may cover; lower down where another one is."""
        self._kept.append(self._placed(at, text, color))

    def add(self, at: tuple[float, float], text: str, color: tuple[int, int, int]) -> None:
        """Add a text that others of its kind may cover: there may be hundreds."""
        self._others.append(self._placed(at, text, color))

    def draw(self) -> None:
        """Draw all of them."""
        for label in [*self._others, *self._kept]:
            self._pen.rectangle(label.box, fill=label.color)
            ink = _WHITE if sum(label.color) < 400 else (0, 0, 0)
            self._pen.text(label.at, label.text, font=self._font, fill=ink)

    def _placed(self, at: tuple[float, float], text: str, color: tuple[int, int, int]) -> _Label:
        left, top, right, bottom = self._pen.textbbox((0, 0), text, font=self._font)
        x = max(min(at[0], self._size[0] - right), 0)
        y = max(min(at[1], self._size[1] - bottom), 0)
        box = self._free((x + left, y + top, x + right, y + bottom))
        if box[3] > self._size[1]:
            box = self._free((x + left, 0, x + right, bottom - top))
        return _Label((x, box[1] - top), text, color, box)

    def _free(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box, lower down where it would cover what is to be kept."""
        for other in sorted(self._kept, key=lambda label: label.box[1]):
            if _overlap(box, other.box):
                box = (box[0], other.box[3] + 2, box[2], other.box[3] + 2 + box[3] - box[1])
        return box


@dataclass(frozen=True)
class _Label:
    """A text, where it begins, and the corners of its background."""

    at: tuple[float, float]
    text: str
    color: tuple[int, int, int]
    box: tuple[float, float, float, float]


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _draw_thing(pen: Any, picture: Picture, row: int, track: Track | None, labels: _Labels, width: int) -> None:
    label = int(picture.things.labels[row]) if track is None else track.label
    color = _color(label if track is None else track.id)
    x, y, wide, high = picture.things.boxes[row].tolist()
    pen.rectangle((x, y, x + max(wide - 1, 1), y + max(high - 1, 1)), outline=color, width=width)
    number = "" if track is None else f"#{track.id} "
    text = f"{number}{picture.classes[label]} {picture.things.scores[row]:.2f}"
    labels.add((x, y - labels.height), text, color)


def _draw_counter(pen: Any, counter: Counter, labels: _Labels, width: int) -> None:
    points = counter.points
    text = f"{counter.name}: {counter.tally.entered} in, {counter.tally.left} out"
    if isinstance(counter, ZoneCounter):
        pen.polygon(points, outline=_WHITE, width=width)
        text += f", {counter.occupancy} now"
    else:
        pen.line(points, fill=_WHITE, width=2 * width)
    labels.keep(points[0], text, (0, 0, 0))


def _color(number: int) -> tuple[int, int, int]:
    """Colors that lie far from each other for numbers that follow each other."""
    red, green, blue = colorsys.hsv_to_rgb((0.11 + number * _GOLDEN) % 1, 0.75, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)
