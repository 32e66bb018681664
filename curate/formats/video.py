"""Video files as sequences of frames: MP4, QuickTime, AVI, Matroska, WebM and what else FFmpeg reads, through OpenCV.

Each frame kept becomes an image ``<video>/frame_000123.jpg`` of the group ``<video>``; its number counts the frames of the video
from 0, whatever the rate at which frames are kept. It is turned as the video says. The time is the container's own, since
frames need not be evenly spaced; only where the container tells none is it the number divided by the frame rate.

Frames are written as JPEG of quality 95: video is compressed with loss already, so that PNG would cost some five times the
space and keep little more than the codec's artefacts. Importing again writes no frame that is there (``frames.json`` beside the
frames says of which video, and which were asked for).
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from curate.errors import FormatError, InputError
from curate.formats.base import Detection, Format, ReadOptions, Records
from curate.formats.collect import Collector
from curate.formats.files import is_image, list_files, peek_files
from curate.formats.losses import LossReport
from curate.imaging import MAX_PIXELS

VIDEO_SUFFIXES: Final = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
    }
)
"""File endings taken for videos, lower case."""

_JPEG_QUALITY: Final = 95
_DECIMALS: Final = 6
_INDEX: Final = "frames.json"
_ANNOTATION_SUFFIXES: Final = (".txt", ".xml", ".json", ".csv", ".yaml", ".parquet")
_COUNTED: Final = frozenset({".mp4", ".m4v", ".mov", ".3gp", ".avi"})
_MAGIC: Final[Sequence[tuple[int, bytes]]] = (
    *((4, box) for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI"),
    (0, b"FLV"),
    (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # ASF: WMV
    (0, b"\x00\x00\x01"),  # MPEG streams
    (0, b"\x47"),  # MPEG transport stream
    (4, b"\x47"),  # the same with time codes
)


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        number: Its place in the video, from 0.
        timestamp: Seconds from the start of the video; None where nothing tells.
        path: Its image file.
    """

    number: int
    timestamp: float | None
    path: Path


def detect(source: Path) -> Detection | None:
    """A video file, or a folder with videos and neither images nor annotations."""
    if is_video(source.name) and source.is_file():
        return Detection(0.95, f"a video file, {source.suffix.lower()}")
    if not source.is_dir():
        return None
    files = peek_files(source)
    videos = sum(map(is_video, files))
    if not videos:
        return None
    others = sum(is_image(name) or name.lower().endswith(_ANNOTATION_SUFFIXES) for name in files)
    reason = f"{videos} videos in a look at {len(files)} files"
    return Detection(0.2, f"{reason}, but {others} images or annotations") if others else Detection(0.9, reason)


def read(source: Path, options: ReadOptions, losses: LossReport) -> Records:
    """Cut a video, or every video in a folder, into frames.

    Args:
        source: File or folder.
        options: `fps` frames of each second are kept, or all; `files` is where they go.
        losses: Videos that cannot be decoded, beside others that can; videos that end early; images beside them.

    Raises:
        FormatError: There is no video that can be decoded, nowhere to put the frames, or `fps` is not above 0.
        InputError: The frames cannot be written.
    """
    files = _folder_for_frames(source, options)
    root = source if source.is_dir() else source.parent
    names = list_files(source) if source.is_dir() else [source.name]
    videos = [name for name in names if is_video(name)] if source.is_dir() else names
    images = [name for name in names if is_image(name)]
    if images:
        losses.dropped("images", "beside videos; import them on their own", images[0], len(images))
    collector = Collector(options, losses)
    info: dict[str, Any] = {}
    failure = FormatError("there are no videos", where=source, remedy="check the path")
    for name, group in zip(videos, _groups(videos), strict=True):
        try:
            frames = extract_frames(root / name, files / group, fps=options.fps, losses=losses)
        except FormatError as error:
            if losses.strict or len(videos) == 1:
                raise
            failure = error
            losses.dropped("videos", error.what, name)
            continue
        info[group] = {"file": name, "frames": len(frames)}
        for frame in frames:
            collector.image(
                f"{group}/{frame.path.name}",
                frame.path,
                group=group,
                frame=frame.number,
                timestamp=frame.timestamp,
                source=name,
            )
    if not info:
        raise failure
    return collector.records(info={"video_fields": info})


FORMAT = Format("video", detect, read)


def is_video(name: str) -> bool:
    """Whether a name ends as a video file does."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def extract_frames(
    video: Path,
    folder: Path,
    *,
    fps: float | None = None,
    numbers: Collection[int] | None = None,
    losses: LossReport,
) -> list[Frame]:
    """Write frames of a video as images; those that an earlier call wrote from the same video stay.

    Args:
        video: The video file.
        folder: Where the images go; belongs to this video alone, and is made if it is not there.
        fps: Frames to keep of each second, evenly by their timestamps; None for all.
        numbers: Frames to keep, instead of `fps`; None for all.
        losses: Frames that the video should have and has not.

    Returns:
        The frames kept, in order.

    Raises:
        FormatError: The file is no video, or no frame of it can be decoded.
        InputError: The frames cannot be written.
    """
    wanted = {"fps": fps, "numbers": None if numbers is None else sorted(numbers)}
    try:
        index = _Index.of(video, folder)
        if index.content.get("wanted") != wanted or not index.is_complete():
            index.begin()
            keep = keep_by_time(fps) if numbers is None else _by_number(frozenset(numbers))
            found, expected = _decode(video, folder, keep, index.files_are_ours)
            index.finish({"wanted": wanted, "frames": found, "missing": _missing(video, expected, numbers, found)})
    except OSError as error:
        raise InputError(
            f"the frames of the video cannot be kept: {error.strerror or error}", where=video, remedy="free space"
        ) from error
    missing = index.content["missing"]
    losses.dropped("frames", "the video does not have them, or they cannot be decoded", video.name, missing)
    return [Frame(number, timestamp, folder / _file_name(number)) for number, timestamp in index.content["frames"]]


def open_video(video: Path) -> Any:
    """A `cv2.VideoCapture` of a video file that can be decoded, and of nothing else; frames come turned as it says.

    Raises:
        FormatError: It is no video, or cannot be decoded.
    """
    import cv2

    # FFmpeg would follow a playlist in a video's clothes to other files and to the network.
    with video.open("rb") as file:
        head = file.read(16)
    if not any(head[at : at + len(magic)] == magic for at, magic in _MAGIC):
        raise _not_decoded(video)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it writes to stderr past every Python handler
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if not capture.isOpened() or not 0 < pixels <= MAX_PIXELS:
        capture.release()
        raise _not_decoded(video)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def frame_times(capture: Any, rate: float) -> Iterator[tuple[int, float | None]]:
    """Number and time in seconds of each frame that can be decoded; the capture stands at that frame."""
    import cv2

    number, last = 0, -math.inf
    while capture.grab():
        told = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not (math.isfinite(told) and told > last):
            told = (0.0 if number == 0 else last + 1 / rate) if rate else math.nan
        timestamp = None if math.isnan(told) else round(told, _DECIMALS)
        last = last if timestamp is None else timestamp
        yield number, timestamp
        number += 1


def promised_frames(capture: Any) -> tuple[int, float]:
    """How many frames a video says it has, 0 or less where it does not, and how many of them a second, 0 where unknown."""
    import cv2

    return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), _rate(capture.get(cv2.CAP_PROP_FPS))


def frames_short(video: Path, promised: int, decoded: int, rate: float) -> int:
    """How many frames a video lacks of those that it promises, as far as its container counts them."""
    # Containers without a count promise what their duration and rate amount to, which is off by a few frames.
    slack = 0 if video.suffix.lower() in _COUNTED else max(1, math.ceil(rate))
    short = promised - decoded
    return short if short > slack else 0


def keep_by_time(fps: float | None) -> Callable[[int, float | None], bool]:
    """Says of each frame in turn (number, and seconds or None) whether it is the first of its 1/fps seconds; None keeps all."""
    last = -math.inf

    def keep(number: int, timestamp: float | None) -> bool:
        nonlocal last
        if fps is None or timestamp is None:
            return True
        # A frame that is due at a multiple of 1/fps must not fall short of it by rounding.
        slot = math.floor(timestamp * fps + 1e-6)
        if slot <= last:
            return False
        last = slot
        return True

    return keep


# -------------------------------------------------------------------------------------------------------- which frames


def _by_number(numbers: frozenset[int]) -> Callable[[int, float | None], bool]:
    return lambda number, _: number in numbers


def _missing(video: Path, expected: tuple[int, int, float], numbers: Collection[int] | None, found: list[Any]) -> int:
    """How many frames are not there of those that the video promises, or that were asked for."""
    if numbers is not None:
        return len(set(numbers)) - len(found)
    return frames_short(video, *expected)


def _groups(videos: Sequence[str]) -> list[str]:
    """What each video's frames are called after: its name without the ending, unless another video has the same."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in videos]
    count = Counter(stem.lower() for stem in stems)
    return [name if count[stem.lower()] > 1 else stem for name, stem in zip(videos, stems, strict=True)]


def _folder_for_frames(source: Path, options: ReadOptions) -> Path:
    if options.fps is not None and not (math.isfinite(options.fps) and options.fps > 0):
        raise FormatError(
            f"{options.fps} frames a second cannot be kept", where="--fps", remedy="give a number above 0"
        )
    if options.files is None:
        raise FormatError(
            "there is nowhere to keep the frames of a video",
            where=source,
            remedy="import it into a dataset, or give a folder for its files",
        )
    return options.files


# ------------------------------------------------------------------------------------------------------------ decoding


def _decode(
    video: Path, folder: Path, keep: Callable[[int, float | None], bool], files_are_ours: bool
) -> tuple[list[tuple[int, float | None]], tuple[int, int, float]]:
    """Go through a video and write the frames to keep.

    Returns:
        Number and timestamp of each frame kept; and how many frames the video promises, how many it has, and their rate.
    """
    import cv2

    capture = open_video(video)
    try:
        promised, rate = promised_frames(capture)
        found: list[tuple[int, float | None]] = []
        decoded = 0
        for number, timestamp in frame_times(capture, rate):
            decoded += 1
            if not keep(number, timestamp):
                continue
            path = folder / _file_name(number)
            if not (files_are_ours and path.is_file()):
                is_read, pixels = capture.retrieve()
                if not is_read:
                    continue
                _write(path, cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())
            found.append((number, timestamp))
    except cv2.error as error:
        raise _not_decoded(video) from error
    finally:
        capture.release()
    if decoded == 0:
        raise _not_decoded(video)
    return found, (promised, decoded, rate)


def _rate(value: float) -> float:
    """Frames a second; 0 where the container tells none that can be."""
    return value if math.isfinite(value) and 0 < value < 1e6 else 0.0


def _not_decoded(video: Path) -> FormatError:
    return FormatError(
        "the video cannot be decoded", where=video, remedy="convert it to MP4, or check that it is whole"
    )


# --------------------------------------------------------------------------------------------------------------- files


@dataclass
class _Index:
    """What is known of the frames in a folder.

    Attributes:
        path: The index's file.
        identity: Tells the video from another of the same name.
        content: What the index says; empty if it is not there, or of another video.
        files_are_ours: Whether the images in the folder are of this video.
    """

    path: Path
    identity: list[int]
    content: dict[str, Any]
    files_are_ours: bool

    @classmethod
    def of(cls, video: Path, folder: Path) -> _Index:
        """Read a folder's index."""
        status = video.stat()
        identity = [status.st_size, status.st_mtime_ns]
        path = folder / _INDEX
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            content = {}
        ours = isinstance(content, dict) and content.get("video") == identity
        return cls(path, identity, content if ours else {}, ours)

    def is_complete(self) -> bool:
        """Whether every frame it lists is there."""
        if "frames" not in self.content:
            return False
        there = {path.name for path in self.path.parent.iterdir()}
        return all(_file_name(number) in there for number, _ in self.content["frames"])

    def begin(self) -> None:
        """Say whose frames are about to be written, so that an import that is cut off goes on where it stopped."""
        if not self.files_are_ours and self.path.parent.is_dir():
            for old in self.path.parent.glob("frame_*.jpg"):
                old.unlink()
        _write(self.path, json.dumps({"video": self.identity}).encode())

    def finish(self, content: dict[str, Any]) -> None:
        """Keep what was found."""
        self.content = content
        _write(self.path, json.dumps({"video": self.identity, **content}).encode())


def _file_name(number: int) -> str:
    return f"frame_{number:06d}.jpg"


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
