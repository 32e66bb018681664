"""Frames come from folders, videos and live streams as they should, and what cannot be opened is one clear error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from curate.demo import NetworkCamera
from curate.edge.runtime.clocks import StageClock, Watchdog
from curate.edge.runtime.frames import Frame, Source
from curate.edge.runtime.sources import (
    PASSWORD_VARIABLE,
    FolderSource,
    LiveSource,
    Sampling,
    VideoSource,
    open_source,
    stream_address,
)
from curate.errors import FormatError, InputError, UnavailableError, UsageError
from curate.imaging import Pixels
from curate.redaction import redact
from tests.edge.streams import serving_mjpeg


def alive(ahead: float = 0.0) -> None:
    """A sign of life that nobody looks at."""


def frames(source: Source) -> list[Frame]:
    return list(source.frames(alive))


def write_video(path: Path, count: int, rate: float = 10) -> Path:
    """Frames that get lighter by 4 each."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    for number in range(count):
        writer.write(np.full((48, 64, 3), 4 * number, np.uint8))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "b").mkdir(parents=True)
    for number, name in enumerate(["b/1.png", "a.png", "c.png"]):
        Image.fromarray(np.full((8, 9, 3), number, np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def stream() -> Iterator[NetworkCamera]:
    with serving_mjpeg() as server:
        yield server


def test_a_folder_gives_its_images_by_name_and_counts_what_cannot_be_read(folder: Path) -> None:
    (folder / "bad.jpg").write_bytes(b"no image")
    source = open_source(str(folder))

    found = frames(source)

    assert isinstance(source, FolderSource)
    assert [frame.name for frame in found] == ["a.png", "b/1.png", "c.png"]
    assert [int(frame.pixels[0, 0, 0]) for frame in found] == [1, 0, 2]
    assert (source.counts.offered, source.counts.unreadable, source.counts.skipped) == (3, 1, 0)
    assert not source.is_live


def test_one_image_is_a_source(folder: Path) -> None:
    assert [frame.name for frame in frames(open_source(str(folder / "c.png")))] == ["c.png"]


def test_every_other_image(folder: Path) -> None:
    source = open_source(str(folder), Sampling(every=2))

    assert [frame.number for frame in frames(source)] == [0, 2]
    assert (source.counts.offered, source.counts.skipped) == (3, 1)


def test_a_video_gives_frames_with_numbers_and_times(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "a.avi", 12)))

    found = frames(source)

    assert isinstance(source, VideoSource)
    assert source.rate == 10
    assert [frame.number for frame in found] == list(range(12))
    assert [frame.seconds for frame in found] == pytest.approx([number / 10 for number in range(12)])
    assert [int(frame.pixels.mean()) for frame in found] == pytest.approx([4 * n for n in range(12)], abs=2)
    assert found[3].name == "frame_000003"


def test_so_many_frames_a_second(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "a.avi", 20)), Sampling(fps=2.5))

    assert [frame.number for frame in frames(source)] == [0, 4, 8, 12, 16]
    assert (source.counts.offered, source.counts.skipped) == (20, 15)


def test_colors_are_red_green_blue(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))
    writer.release()

    frame = frames(open_source(str(tmp_path / "a.avi")))[0]

    assert frame.pixels[20, 20, 0] > 200 > 50 > frame.pixels[20, 20, 2]


def test_a_video_that_was_cut_off_says_what_is_missing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", 40)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    source = open_source(str(path))

    found = frames(source)

    assert 0 < len(found) < 40
    assert source.counts.offered == len(found)
    assert source.counts.offered + source.counts.unreadable == 40


def test_something_else_in_the_clothes_of_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("#EXTM3U\n/etc/passwd\n")

    with pytest.raises(FormatError, match="cannot be decoded"):
        frames(open_source(str(tmp_path / "a.mp4")))


def test_a_network_stream_gives_frames_as_they_come(stream: NetworkCamera) -> None:
    source = open_source(stream.url)
    seen = []
    for frame in source.frames(alive):
        seen.append(frame)
        if len(seen) == 10:
            source.stop()

    assert source.is_live
    assert source.counts.offered == len(seen) == 10
    lights = [float(frame.pixels.mean()) for frame in seen]
    assert np.diff(lights) == pytest.approx(np.full(9, 4.0), abs=1.5)
    times = [frame.seconds for frame in seen if frame.seconds is not None]
    assert times == sorted(times)


def test_a_stream_that_breaks_off_is_opened_again(stream: NetworkCamera) -> None:
    stream.frames_per_client = 5
    source = open_source(stream.url)
    beats = []
    numbers = []
    for frame in source.frames(lambda ahead=0.0: beats.append(ahead)):
        numbers.append(frame.number)
        if len(numbers) == 12:
            source.stop()

    assert numbers == list(range(12))
    assert source.counts.reconnects >= 2
    assert stream.clients >= 3
    assert len(beats) >= 12


def test_a_stream_that_says_nothing_any_more_has_broken_off(stream: NetworkCamera) -> None:
    stream.frames_per_client, stream.hangs = 3, True
    source = LiveSource("stream", stream.url, Sampling(), timeout=0.4)
    for frame in source.frames(alive):
        if frame.number == 5:
            source.stop()

    assert source.counts.reconnects >= 1


def test_patience_ends(stream: NetworkCamera) -> None:
    stream.frames_per_client = 3
    source = LiveSource("stream", stream.url, Sampling(), patience=0.2)
    coming = source.frames(alive)
    next(coming)
    stream.refuses = True

    with pytest.raises(UnavailableError, match=r"no frame for 0\.2 s"):
        list(coming)

    assert source.counts.offered == 3


class Capture:
    """Gives one frame, and then breaks off."""

    def __init__(self) -> None:
        self.frames = 1

    def grab(self) -> bool:
        self.frames -= 1
        return self.frames >= 0

    def retrieve(self) -> tuple[bool, Pixels]:
        return True, np.zeros((4, 4, 3), np.uint8)

    def release(self) -> None:
        pass


class Pauses:
    """Stands for the event that a source waits for: remembers for how long, and waits for nothing."""

    def __init__(self, most: int) -> None:
        self.seconds: list[float] = []
        self._most = most

    def is_set(self) -> bool:
        return len(self.seconds) >= self._most

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return self.is_set()


def test_pauses_double_until_frames_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    source = LiveSource("stream", "rtsp://camera", Sampling())
    opened: list[Capture | None] = [Capture(), *[None] * 8, Capture(), None, None]
    monkeypatch.setattr(source, "_open", lambda: opened.pop(0))
    pauses = Pauses(12)
    monkeypatch.setattr(source, "_stopped", pauses)

    found = frames(source)

    assert [frame.number for frame in found] == [0, 1]
    assert pauses.seconds == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 0.5, 1, 2]
    assert source.counts.reconnects == 11  # the last pause was ended by a stop


def test_waiting_for_a_camera_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    source = LiveSource("stream", "rtsp://camera", Sampling(), timeout=0.5)
    opened: list[Capture | None] = [Capture(), None, Capture()]

    def open_slowly() -> Capture | None:
        time.sleep(0.3)
        return opened.pop(0)

    monkeypatch.setattr(source, "_open", open_slowly)
    clock, hangs = StageClock("read"), list[str]()
    with Watchdog([clock], 0.1, lambda stage, _: hangs.append(stage)):
        coming = source.frames(clock.beat)
        for _ in range(2):
            with clock.working():
                next(coming)

    assert hangs == []
    assert source.counts.reconnects == 2


def test_a_camera_that_hangs_in_its_driver_still_does(monkeypatch: pytest.MonkeyPatch) -> None:
    source = LiveSource("stream", "rtsp://camera", Sampling(), timeout=0.1)
    monkeypatch.setattr(source, "_open", lambda: time.sleep(1.5))
    clock, hangs = StageClock("read"), list[str]()
    with (
        Watchdog([clock], 0.2, lambda stage, _: hangs.append(stage)),
        clock.working(),
        pytest.raises(UnavailableError),
    ):
        next(source.frames(clock.beat))

    assert hangs == ["read"]


@pytest.mark.parametrize(
    "address", ["camera:97", "/dev/video97", "rtsp://127.0.0.1:1/cam", "http://127.0.0.1:1/a.mjpg"]
)
def test_what_cannot_be_opened_is_one_clear_error(address: str) -> None:
    source = open_source(address)

    with pytest.raises(UnavailableError, match="cannot be opened") as caught:
        frames(source)

    assert caught.value.exit_code == 3
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere", "no such file"),
        ("ftp://host/file", "is no stream"),
        ("rtsp://", "names no host"),
        ("rtsp://host:99999/", "cannot be read"),
        ("camera:front", "no camera's number"),
    ],
)
def test_what_is_no_source_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        open_source(text)


def test_neither_image_nor_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")

    with pytest.raises(UsageError, match="neither an image nor a video"):
        open_source(str(tmp_path / "notes.txt"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        frames(open_source(str(tmp_path)))


@pytest.mark.parametrize("options", [{"fps": 0.0}, {"fps": float("nan")}, {"every": 0}])
def test_sampling_that_means_nothing_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Sampling(**options)  # type: ignore[arg-type]


def test_a_password_is_used_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    name, address = stream_address("rtsp://anna:se%40cret99@[::1]:554/a/b?token=x")
    assert address == "rtsp://anna:se%40cret99@[::1]:554/a/b?token=x"
    assert name == "rtsp://anna@[::1]:554/a/b"
    assert "cret99" not in redact(address)

    monkeypatch.setenv(PASSWORD_VARIABLE, "from/environment")
    assert stream_address("rtsp://anna@cam/a") == ("rtsp://anna@cam/a", "rtsp://anna:from%2Fenvironment@cam/a")
    assert stream_address("rtsp://cam/a") == ("rtsp://cam/a", "rtsp://cam/a")


def test_a_password_opens_the_stream_and_is_in_no_error(stream: NetworkCamera) -> None:
    stream.wants = "anna:opensesame"
    host = stream.url.removeprefix("http://")

    with pytest.raises(UnavailableError) as caught:
        frames(open_source(f"http://anna:wrongsesame@{host}"))
    assert "sesame" not in str(caught.value)

    source = open_source(f"http://anna:opensesame@{host}")
    for _ in source.frames(alive):
        source.stop()
    assert source.counts.offered >= 1
    assert "sesame" not in source.name
