"""Video files as frames: real videos, rates, timestamps, rotation, what is kept between imports, and broken files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from format_cases import read, reasons, write_image
from PIL import Image

from curate.errors import CurateError, FormatError, InputError
from curate.formats.base import ReadOptions
from curate.formats.detect import detect_format
from curate.formats.losses import LossReport
from curate.formats.video import FORMAT, extract_frames


def make_video(path: Path, frames: int = 10, *, rate: float = 10, codec: str = "MJPG") -> Path:
    """A video whose frame n is grey of value 20 n (modulo 256)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 20 * number % 256, dtype=np.uint8))
    writer.release()
    return path


def grey(path: str) -> float:
    with Image.open(path) as image:
        return float(np.asarray(image, dtype=np.float64).mean())


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("name", "frames", "size", "last"),
    [
        ("cvat/share/videos/video_1.mp4", 3, (800, 800), 2.0),
        ("cvat/share/videos/video_with_chapters.mp4", 50, (320, 240), 4.9),
        ("cvat/share/videos/video_without_valid_keyframes.mp4", 25, (1920, 1080), 0.96),
        ("datumaro/video_dataset", 8, (32, 32), 7.0),
        ("datumaro/cvat_dataset/test.mp4", 30, (240, 180), 1.933333),
    ],
)
def test_real_videos(
    shared_data: Path, tmp_path: Path, name: str, frames: int, size: tuple[int, int], last: float
) -> None:
    source = shared_data / "formats" / name
    assert detect_format(source)[0].name == "video"
    records, table, losses = read(FORMAT, source, ReadOptions(files=tmp_path / "files"))
    rows = records.images.to_pylist()
    assert [row["frame"] for row in rows] == list(range(frames))
    assert {(row["width"], row["height"]) for row in rows} == {size}
    times = [row["timestamp"] for row in rows]
    assert times[0] == 0
    assert times == sorted(times)
    assert times[-1] == pytest.approx(last)
    assert table.num_rows == 0
    assert losses.losses == []


def test_a_video_that_says_it_is_turned_is_turned(shared_data: Path, tmp_path: Path) -> None:
    video = shared_data / "formats/cvat/engine/test_rotated_90_video.mp4"
    records, _, _ = read(FORMAT, video, ReadOptions(files=tmp_path, fps=1))
    assert records.images.select(["width", "height", "frame", "timestamp"]).to_pylist() == [
        {"width": 100, "height": 200, "frame": 0, "timestamp": 0.0}
    ]


def test_a_folder_of_videos(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "formats/cvat/share/videos"
    assert detect_format(source)[0].name == "video"
    records, _, losses = read(FORMAT, source, ReadOptions(files=tmp_path / "files", fps=2))
    groups = records.images["group"].to_pylist()
    assert {group: groups.count(group) for group in groups} == {
        "video_1": 3,
        "video_2": 3,
        "video_3": 3,
        "video_with_chapters": 10,
        "video_without_valid_keyframes": 2,
    }
    assert losses.losses == []
    assert records.images["location"].to_pylist()[0] == "video_1/frame_000000.jpg"
    assert sorted(path.name for path in (tmp_path / "files/video_1").iterdir()) == [
        "frame_000000.jpg",
        "frame_000001.jpg",
        "frame_000002.jpg",
        "frames.json",
    ]


# ---------------------------------------------------------------------------------------------------------- which frames


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (None, list(range(10))),
        (100, list(range(10))),
        (10, list(range(10))),
        (5, [0, 2, 4, 6, 8]),
        (3, [0, 4, 7]),  # due at 0, 1/3 and 2/3 of a second; frames come every tenth
        (1, [0]),
        (0.1, [0]),
    ],
)
def test_frames_are_kept_evenly_in_time(tmp_path: Path, fps: float | None, expected: list[int]) -> None:
    video = make_video(tmp_path / "clip.avi")
    records, _, losses = read(FORMAT, video, ReadOptions(files=tmp_path / "files", fps=fps))
    rows = records.images.to_pylist()
    assert [row["frame"] for row in rows] == expected
    assert [row["timestamp"] for row in rows] == pytest.approx([number / 10 for number in expected])
    assert [grey(row["path"]) for row in rows] == pytest.approx([20 * number for number in expected], abs=2)
    assert {row["source"] for row in rows} == {"clip.avi"}
    assert records.info == {"video_fields": {"clip": {"file": "clip.avi", "frames": len(expected)}}}
    assert losses.losses == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_must_be_above_zero(tmp_path: Path, fps: float) -> None:
    with pytest.raises(FormatError, match="frames a second cannot be kept"):
        read(FORMAT, make_video(tmp_path / "clip.avi"), ReadOptions(files=tmp_path / "files", fps=fps))


def test_frames_asked_for_by_number(tmp_path: Path) -> None:
    video, losses = make_video(tmp_path / "clip.avi"), LossReport()
    frames = extract_frames(video, tmp_path / "out", numbers=[7, 2, 50], losses=losses)
    assert [(frame.number, frame.timestamp) for frame in frames] == [(2, 0.2), (7, 0.7)]
    assert [grey(str(frame.path)) for frame in frames] == pytest.approx([40, 140], abs=2)
    assert [(loss.what, loss.count) for loss in losses.losses] == [("frames", 1)]


def test_videos_of_one_name_stay_apart(tmp_path: Path) -> None:
    for name in ("a/clip.avi", "b/clip.avi", "b/Clip.mkv"):
        make_video(tmp_path / "in" / name, 2)
    records, _, _ = read(FORMAT, tmp_path / "in", ReadOptions(files=tmp_path / "files"))
    assert set(records.images["group"].to_pylist()) == {"a/clip", "b/clip.avi", "b/Clip.mkv"}
    assert len(set(records.images["path"].to_pylist())) == 6


# -------------------------------------------------------------------------------------------------------- importing again


def test_importing_again_writes_nothing_that_is_there(tmp_path: Path) -> None:
    video, options = make_video(tmp_path / "clip.avi"), ReadOptions(files=tmp_path / "files", fps=5)
    first, _, _ = read(FORMAT, video, options)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "files/clip").iterdir()}
    again, _, _ = read(FORMAT, video, options)
    assert again.images.equals(first.images)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "files/clip").iterdir()} == written
    more, _, _ = read(FORMAT, video, ReadOptions(files=tmp_path / "files"))
    assert more.images.num_rows == 10
    assert all(path.stat().st_mtime_ns == time for path, time in written.items() if path.suffix == ".jpg")


def test_a_frame_that_was_lost_is_written_again(tmp_path: Path) -> None:
    video, options = make_video(tmp_path / "clip.avi"), ReadOptions(files=tmp_path / "files")
    read(FORMAT, video, options)
    lost = tmp_path / "files/clip/frame_000004.jpg"
    lost.unlink()
    read(FORMAT, video, options)
    assert grey(str(lost)) == pytest.approx(80, abs=2)


def test_another_video_of_the_same_name_replaces_the_frames(tmp_path: Path) -> None:
    options = ReadOptions(files=tmp_path / "files")
    read(FORMAT, make_video(tmp_path / "clip.avi", 10), options)
    records, _, _ = read(FORMAT, make_video(tmp_path / "clip.avi", 4), options)
    assert records.images.num_rows == 4
    assert len(list((tmp_path / "files/clip").glob("*.jpg"))) == 4


@pytest.mark.parametrize("content", ["", "[]", '{"video": 5}', "{"])
def test_a_broken_index_is_made_anew(tmp_path: Path, content: str) -> None:
    video, options = make_video(tmp_path / "clip.avi"), ReadOptions(files=tmp_path / "files")
    read(FORMAT, video, options)
    (tmp_path / "files/clip/frames.json").write_text(content)
    assert read(FORMAT, video, options)[0].images.num_rows == 10
    assert len(json.loads((tmp_path / "files/clip/frames.json").read_text())["frames"]) == 10


# ---------------------------------------------------------------------------------------------------------------- trouble


def test_without_a_place_for_frames(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="nowhere to keep"):
        read(FORMAT, make_video(tmp_path / "clip.avi"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a video at all",
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"\x00\x00\x00\x18ftypmp42" + bytes(500),
    ],
)
def test_what_is_no_video_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="cannot be decoded") as error:
        read(FORMAT, path, ReadOptions(files=tmp_path / "files"))
    assert str(path) in str(error.value)


def test_a_video_that_ends_early_is_reported(tmp_path: Path) -> None:
    video = make_video(tmp_path / "clip.avi", 50)
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    records, _, losses = read(FORMAT, video, ReadOptions(files=tmp_path / "files"))
    kept = records.images.num_rows
    assert 10 < kept < 40
    assert [(loss.what, loss.count) for loss in losses.losses] == [("frames", 50 - kept)]
    _, _, again = read(FORMAT, video, ReadOptions(files=tmp_path / "files"))
    assert again.to_json() == losses.to_json()


def test_a_broken_video_among_others_is_reported(tmp_path: Path) -> None:
    make_video(tmp_path / "in/good.avi", 3)
    (tmp_path / "in/bad.mp4").write_bytes(b"no")
    records, _, losses = read(FORMAT, tmp_path / "in", ReadOptions(files=tmp_path / "files"))
    assert records.images.num_rows == 3
    assert [(loss.what, loss.places) for loss in losses.losses] == [("videos", ["bad.mp4"])]
    with pytest.raises(FormatError):
        FORMAT.read(tmp_path / "in", ReadOptions(files=tmp_path / "files"), LossReport(strict=True))


def test_where_frames_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(InputError, match="cannot be kept"):
        read(FORMAT, make_video(tmp_path / "clip.avi"), ReadOptions(files=tmp_path / "files"))


def test_videos_beside_images_are_left_to_the_image_formats(tmp_path: Path) -> None:
    make_video(tmp_path / "in/clip.avi", 3)
    claim = FORMAT.detect(tmp_path / "in")
    assert claim is not None
    assert claim.confidence == 0.9
    write_image(tmp_path / "in/a.png", (4, 4))
    claim = FORMAT.detect(tmp_path / "in")
    assert claim is not None
    assert claim.confidence < 0.3
    records, _, losses = read(FORMAT, tmp_path / "in", ReadOptions(files=tmp_path / "files"))
    assert records.images.num_rows == 3
    assert reasons(losses) == {"beside videos; import them on their own"}


def test_damaged_videos_give_one_kind_of_error(tmp_path: Path) -> None:
    data = make_video(tmp_path / "clip.avi", 12).read_bytes()
    random = np.random.default_rng(0)
    outcomes = set()
    for attempt in range(40):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), size=20):
            damaged[place] = random.integers(0, 256)
        path = tmp_path / f"{attempt}.avi"
        path.write_bytes(bytes(damaged[: random.integers(1, len(data))] if attempt % 2 else damaged))
        try:
            records, _, _ = read(FORMAT, path, ReadOptions(files=tmp_path / "files"))
        except CurateError:
            outcomes.add("error")
        else:
            outcomes.add("frames")
            assert records.images.num_rows > 0
    assert outcomes == {"error", "frames"}
