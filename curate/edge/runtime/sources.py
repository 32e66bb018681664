"""Folders, videos, cameras and network streams as frames.

Files wait until they are wanted, so none of their frames is lost. Cameras and streams do not wait. They end by themselves only
when somebody stops them: one that breaks off is opened again and again, each time after a longer pause.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import cv2

from curate.edge.runtime.frames import Beat, Frame, Source, SourceCounts
from curate.errors import ImageError, InputError, UnavailableError, UsageError
from curate.formats.files import is_image, list_files
from curate.formats.video import frame_times, frames_short, is_video, keep_by_time, open_video, promised_frames
from curate.imaging import load_pixels
from curate.redaction import hide, redact

PASSWORD_VARIABLE: Final = "CURATE_SOURCE_PASSWORD"
"""Where the password of a stream is, so that it need not stand on the command line."""

STREAM_SCHEMES: Final = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "srt")
"""Addresses of these kinds are opened as streams."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_TIMEOUT: Final = 10.0
_OPENING: Final = 2.0  # times the timeout: to connect, and to find out what is sent
_DEVICE: Final = re.compile(r"/dev/video(\d+)")


@dataclass(frozen=True)
class Sampling:
    """Which frames of a source are looked at.

    Attributes:
        fps: So many of each second, evenly by their times; None for all.
        every: Every so many-th of them.
    """

    fps: float | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise UsageError(f"{self.fps} frames a second cannot be kept", where="--fps", remedy="give more than 0")
        if self.every < 1:
            raise UsageError(f"every {self.every}th frame means nothing", where="--every", remedy="give 1 or more")

    def chooser(self) -> Callable[[int, float | None], bool]:
        """Says of each frame in turn, by number and seconds, whether it is looked at."""
        on_time = keep_by_time(self.fps)
        return lambda number, seconds: number % self.every == 0 and on_time(number, seconds)


def open_source(text: str, sampling: Sampling | None = None, *, patience: float | None = None) -> Source:
    """What a person's word for a source means; nothing is opened before its frames are asked for.

    Args:
        text: A folder of images, an image, a video file, `camera` or `camera:1`, or the address of a stream.
        sampling: Which frames; None for all.
        patience: Seconds without a frame after which a live source is given up; None for never.

    Raises:
        UsageError: It is none of these.
    """
    sampling = sampling or Sampling()
    if (index := _camera_index(text)) is not None:
        return LiveSource(f"camera:{index}", index, sampling, patience=patience)
    scheme, found, _ = text.partition("://")
    if found:
        if scheme.lower() not in STREAM_SCHEMES:
            known = ", ".join(f"{name}://" for name in STREAM_SCHEMES)
            raise UsageError(f"'{scheme}://' is no stream", where="--source", remedy=f"one of: {known}")
        name, address = stream_address(text)
        return LiveSource(name, address, sampling, patience=patience)
    path = Path(text)
    if path.is_dir() or (path.is_file() and is_image(path.name)):
        return FolderSource(path, sampling)
    if path.is_file() and is_video(path.name):
        return VideoSource(path, sampling)
    what = "this is neither an image nor a video" if path.exists() else "there is no such file or folder"
    raise UsageError(what, where=text, remedy="a folder of images, a video, camera:0, or an address such as rtsp://")


class FolderSource:
    """The images of a folder in the order of their names, or one image. One that cannot be read is counted, not a frame."""

    is_live = False
    rate: float | None = None

    def __init__(self, path: Path, sampling: Sampling) -> None:
        self.name = str(path)
        self.counts = SourceCounts()
        self._path, self._sampling = path, sampling
        self._stopped = threading.Event()

    def frames(self, beat: Beat) -> Generator[Frame, None, None]:
        """See `Source`.

        Raises:
            InputError: There are no images.
        """
        root = self._path if self._path.is_dir() else self._path.parent
        names = [name for name in list_files(root) if is_image(name)] if root == self._path else [self._path.name]
        if not names:
            raise InputError("there are no images", where=root, remedy="check the path")
        choose = self._sampling.chooser()
        for number, name in enumerate(names):
            if self._stopped.is_set():
                return
            beat()
            chosen = choose(number, None)
            if not chosen:
                self.counts.offered += 1
                self.counts.skipped += 1
                continue
            try:
                pixels = load_pixels(root / name)
            except ImageError:
                self.counts.leave_out(name)
                continue
            self.counts.offered += 1
            yield Frame(number, name, None, time.time(), time.monotonic(), pixels)

    def stop(self) -> None:
        """See `Source`."""
        self._stopped.set()


class VideoSource:
    """The frames of a video file. Those that it promises and does not have are counted as unreadable."""

    is_live = False
    rate: float | None = None

    def __init__(self, path: Path, sampling: Sampling) -> None:
        self.name = str(path)
        self.counts = SourceCounts()
        self._path, self._sampling = path, sampling
        self._stopped = threading.Event()

    def frames(self, beat: Beat) -> Generator[Frame, None, None]:
        """See `Source`.

        Raises:
            FormatError: It is no video, or cannot be decoded.
        """
        capture = open_video(self._path)
        try:
            promised, rate = promised_frames(capture)
            self.rate = rate or None
            choose = self._sampling.chooser()
            number = -1
            for number, seconds in frame_times(capture, rate):
                beat()
                if self._stopped.is_set():
                    return
                frame = _chosen(capture, self.counts, choose, number, seconds)
                if frame is not None:
                    yield frame
            self.counts.unreadable += frames_short(self._path, promised, number + 1, rate)
        finally:
            capture.release()

    def stop(self) -> None:
        """See `Source`."""
        self._stopped.set()


class LiveSource:
    """A camera or a stream: frames come when they come, with the time of their arrival.

    Args:
        name: For people.
        address: Number of a camera, or address of a stream.
        sampling: Which frames.
        patience: Seconds without a frame after which it is given up; None for never. The first opening must succeed.
        timeout: Seconds after which a stream that says nothing has broken off.
    """

    is_live = True
    rate: float | None = None

    def __init__(
        self,
        name: str,
        address: int | str,
        sampling: Sampling,
        *,
        patience: float | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self.name = name
        self.counts = SourceCounts()
        self._address, self._sampling, self._patience, self._timeout = address, sampling, patience, timeout
        self._stopped = threading.Event()

    def frames(self, beat: Beat) -> Generator[Frame, None, None]:
        """See `Source`.

        Raises:
            UnavailableError: It cannot be opened, or has given nothing for longer than its patience.
        """
        choose = self._sampling.chooser()
        beat(_OPENING * self._timeout)
        started = last = time.monotonic()
        pause, number, capture = _FIRST_PAUSE, 0, self._open()
        if capture is None:
            raise UnavailableError("the source cannot be opened", where=self.name, remedy=self._remedy())
        try:
            while not self._stopped.is_set():
                beat(self._timeout)
                if capture is not None and capture.grab():
                    last, pause = time.monotonic(), _FIRST_PAUSE
                    frame = _chosen(capture, self.counts, choose, number, last - started)
                    number += 1
                    if frame is not None:
                        yield frame
                    continue
                if capture is not None:
                    capture.release()
                if self._patience is not None and time.monotonic() - last > self._patience:
                    what = f"the source has given no frame for {self._patience:g} s"
                    raise UnavailableError(what, where=self.name, remedy=self._remedy())
                beat(pause)
                self._stopped.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                if not self._stopped.is_set():
                    self.counts.reconnects += 1
                    beat(_OPENING * self._timeout)
                    capture = self._open()
        finally:
            if capture is not None:
                capture.release()

    def stop(self) -> None:
        """See `Source`."""
        self._stopped.set()

    def _open(self) -> Any | None:
        """A capture that is open, or None."""
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what goes wrong is told once, by us
        if isinstance(self._address, int):
            capture = cv2.VideoCapture(self._address)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # old frames in the driver would be latency
        else:
            limit = round(self._timeout * 1000)
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
            capture = cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, limits)
        if capture.isOpened():
            return capture
        capture.release()
        return None

    def _remedy(self) -> str:
        if isinstance(self._address, int):
            return (
                "check that the camera is connected, that no other program uses it, and that you may read /dev/video*"
            )
        return "check the address, the network, and that the camera or server is on"


def stream_address(text: str) -> tuple[str, str]:
    """A stream's address for people, without password, and for the library that opens it, with.

    The password is the one in the address, or in the variable `CURATE_SOURCE_PASSWORD` where the address has a user alone. It is
    taken out of whatever curate prints from here on.

    Raises:
        UsageError: The address cannot be read.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError as error:
        raise UsageError(f"the address cannot be read: {error}", where="--source", remedy="rtsp://HOST/PATH") from None
    if not host:
        raise UsageError("the address names no host", where=redact(text), remedy="rtsp://HOST/PATH")
    host = f"[{host}]" if ":" in host else host
    password = unquote(parts.password) if parts.password else os.environ.get(PASSWORD_VARIABLE, "")
    bare = f"{host}{port}"
    if parts.username:
        named = f"{parts.username}@{bare}"
        full = f"{parts.username}:{quote(hide(password), safe='')}@{bare}" if password else named
    else:
        named = full = bare
    return urlunsplit(parts._replace(netloc=named, query="")), urlunsplit(parts._replace(netloc=full))


def _chosen(
    capture: Any, counts: SourceCounts, choose: Callable[[int, float | None], bool], number: int, seconds: float | None
) -> Frame | None:
    """The frame at which a capture stands, or None where sampling leaves it out or it cannot be decoded."""
    if not choose(number, seconds):
        counts.offered += 1
        counts.skipped += 1
        return None
    arrived, name = time.monotonic(), f"frame_{number:06d}"
    is_read, pixels = capture.retrieve()
    if not is_read or pixels is None:
        counts.leave_out(name)
        return None
    counts.offered += 1
    rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.ndim == 3 else cv2.COLOR_GRAY2RGB)
    return Frame(number, name, seconds, time.time(), arrived, rgb)


def _camera_index(text: str) -> int | None:
    if text == "camera":
        return 0
    digits = text.removeprefix("camera:") if text.startswith("camera:") else None
    if (device := _DEVICE.fullmatch(text)) is not None:
        digits = device.group(1)
    if digits is None:
        return None
    if not digits.isdecimal():
        raise UsageError(f"'{digits}' is no camera's number", where="--source", remedy="camera:0 is the first")
    return int(digits)
