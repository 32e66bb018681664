"""Objects and regions as things: sizes, bands, and how they are drawn."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageDraw

from curate.edge.runtime.counters import Shape, make_counters
from curate.edge.runtime.overlay import OverlayVideo, Picture, draw
from curate.edge.runtime.things import Band, asks, drop_small, parse_area, shown, thing_json, things_of
from curate.edge.runtime.tracker import TrackerSettings
from curate.errors import InputError, UsageError
from curate.runner import VOID, Package, Result
from tests.edge.tiny import CLASSES, segmenter


def regions(*blocks: tuple[int, int, int, int, int, float]) -> Result:
    """A map of 40 x 50 with blocks (class, x, y, width, height, confidence)."""
    class_map = np.full((40, 50), VOID, np.int16)
    confidence = np.full((40, 50), 0.95, np.float32)
    for label, x, y, width, height, score in blocks:
        class_map[y : y + height, x : x + width] = label
        confidence[y : y + height, x : x + width] = score
    return Result("segment", (40, 50), class_map=class_map, confidence=confidence)


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package.open(segmenter(tmp_path / "p"))


def test_regions_are_the_connected_parts_of_a_class() -> None:
    things = things_of(regions((1, 2, 3, 10, 5, 0.8), (1, 20, 3, 4, 4, 0.6), (0, 30, 30, 3, 3, 0.9)))

    assert things.boxes.tolist() == [[2, 3, 10, 5], [20, 3, 4, 4], [30, 30, 3, 3]]
    assert things.labels.tolist() == [1, 1, 0]
    assert things.areas is not None
    assert things.areas.tolist() == [50, 16, 9]
    assert things.scores == pytest.approx([0.8, 0.6, 0.9])


def test_parts_that_touch_at_a_corner_are_one_and_specks_are_none() -> None:
    touching = things_of(regions((1, 0, 0, 4, 4, 0.8), (1, 4, 4, 4, 4, 0.8), (1, 30, 30, 2, 4, 0.9)))

    assert touching.boxes.tolist() == [[0, 0, 8, 8]]
    assert touching.areas is not None
    assert touching.areas.tolist() == [32]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 30)), max_size=8))
def test_no_pixel_is_lost_or_counted_twice(blocks: list[tuple[int, int, int]]) -> None:
    result = regions(*((label, x, y, 7, 5, 0.9) for label, x, y in blocks))
    things = things_of(result, smallest=1)

    assert result.class_map is not None
    areas = np.zeros(0, np.int64) if things.areas is None else things.areas
    for label in range(3):
        assert areas[things.labels == label].sum() == (result.class_map == label).sum()


def test_an_empty_map_has_no_things(package: Package) -> None:
    things = things_of(regions())

    assert len(things) == 0
    assert shown(things, package, None).tolist() == []
    assert not asks(regions(), things, Band(0.0, 1.0))


def test_the_ends_of_a_band() -> None:
    band = Band.parse("0.3:0.6")

    assert band.holds(np.array([0.29, 0.3, 0.59, 0.6])).tolist() == [False, True, True, False]
    for text in ("0.3", "a:b", "0.6:0.3", "0:2"):
        with pytest.raises(UsageError, match="no band"):
            Band.parse(text)


def test_areas_go_with_the_square_of_the_scale(package: Package) -> None:
    things = things_of(regions((1, 2, 3, 10, 5, 0.5)))

    told = thing_json(things, 0, package, band=Band(0.4, 0.6), millimetres=0.2)

    assert told == {
        "label": "green",
        "score": 0.5,
        "bbox": [2.0, 3.0, 10.0, 5.0],
        "area_px": 50,
        "area_mm2": 2.0,
        "asks": True,
    }


def test_small_regions_are_dropped_and_nothing_else() -> None:
    blocks = [(1, 2, 3, 10, 5, 0.8), (1, 20, 3, 4, 4, 0.6), (0, 30, 30, 4, 5, 0.9), (2, 24, 7, 3, 3, 0.7)]
    said = regions(*blocks)

    kept = drop_small(said, 17)

    assert kept.class_map is not None
    expected = regions(blocks[0], blocks[2]).class_map
    assert expected is not None
    assert np.array_equal(kept.class_map, expected)
    assert things_of(said).areas is not None
    assert len(things_of(said)) == 4  # the map that was given is as it was


def test_a_least_area_is_in_pixels_or_square_millimetres() -> None:
    assert parse_area("40px", None) == 40
    assert parse_area("0.1mm2", 0.05) == 40
    assert parse_area("0.101mm2", 0.05) == 41
    for text in ("40", "mm2", "-1px", "nanpx", "1cm2", ""):
        with pytest.raises(UsageError, match="no area"):
            parse_area(text, 0.05)
    with pytest.raises(UsageError, match="how wide"):
        parse_area("0.1mm2", None)


def test_regions_are_drawn_in_their_place() -> None:
    result = regions((1, 10, 20, 12, 8, 0.9))
    things = things_of(result)
    dark = np.zeros((40, 50, 3), np.uint8)

    drawn = draw(dark, Picture(result, things, [0], CLASSES))

    assert drawn.shape == dark.shape
    assert drawn[24, 16].any()
    assert not drawn[38, 2].any()
    assert not dark.any()  # the frame itself stays as it is


def test_frames_of_other_sizes_fit_into_the_video(tmp_path: Path) -> None:
    import cv2

    video = OverlayVideo(tmp_path / "a.avi", 5)
    for shape in ((48, 64), (96, 64), (20, 200), (49, 63)):
        video.write(np.full((*shape, 3), 200, np.uint8))
    video.close()

    capture = cv2.VideoCapture(str(tmp_path / "a.avi"))
    pictures = [capture.read()[1] for _ in range(4)]
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}
    assert pictures[1][:, 40:].max() < 40  # black beside the tall one


def test_a_video_without_frames_is_none(tmp_path: Path) -> None:
    OverlayVideo(tmp_path / "a.mp4").close()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="no such folder"):
        OverlayVideo(tmp_path / "nowhere" / "a.mp4")


def test_a_full_disk_ends_a_video_that_can_be_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    pixels = np.full((48, 64, 3), 200, np.uint8)
    video = OverlayVideo(tmp_path / "a.mp4", 5)
    for _ in range(3):
        video.write(pixels)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000))

    with pytest.raises(InputError, match="the disk is full") as caught:
        video.write(pixels)
    video.close()

    assert caught.value.where == str(tmp_path / "a.mp4")
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_a_video_that_lacks_frames_is_told(tmp_path: Path, name: str) -> None:
    """A quota, or a limit of the file's size, that free room does not show."""
    program = f"""
import resource
from pathlib import Path
import numpy as np
from curate.edge.runtime.overlay import OverlayVideo
video = OverlayVideo(Path({str(tmp_path / name)!r}), 5)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
rng = np.random.default_rng(0)
for _ in range(20):
    video.write(rng.integers(0, 255, (96, 128, 3)).astype(np.uint8))
try:
    video.close()
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    part = tmp_path / name.replace(".", ".part.")
    assert done.stdout.startswith(f"{part}: the video could not be written whole")
    assert list(tmp_path.iterdir()) == [part]
    assert "WARN" not in done.stderr


def test_counts_stand_below_what_is_said_of_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two zones and a line that begin in the same corner, a thing there, and the frame's own line of text."""
    texts = dict[str, tuple[float, float, float, float]]()
    drawn = ImageDraw.ImageDraw.text

    def write(pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *rest: Any, **options: Any) -> None:
        texts[text.split(":")[0]] = pen.textbbox(at, text, font=options["font"])
        drawn(pen, at, text, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", write)
    corner, right = Shape.parse("a=0,0,40,0,40,40", "--zone"), Shape.parse("c=190,0,199,99", "--line")
    below = Shape.parse("b=0,0,90,0,90,90", "--zone")
    counters = make_counters([right], [corner, below], (100, 200), "bottom")
    result = Result(
        "detect", (100, 200), boxes=np.array([[0.0, 5, 20, 20]]), labels=np.array([0]), scores=np.array([0.9])
    )
    picture = Picture(
        result,
        things_of(result),
        [0],
        CLASSES,
        counters={name: each for name, (_, each) in counters.items()},
        note="now",
    )

    draw(np.zeros((100, 200, 3), np.uint8), picture)

    places = list(texts.values())
    assert set(texts) == {"now", "a", "b", "c", f"{CLASSES[0]} 0.90"}
    assert all(left >= 0 and right <= 200 and top >= 0 and bottom <= 100 for left, top, right, bottom in places)
    for one, other in itertools.combinations(places, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_shy_detector_can_be_followed() -> None:
    settings = TrackerSettings.beginning_at(0.3)

    assert settings.begin == 0.3
    assert settings.high == pytest.approx(0.25)
    assert settings.low == 0.1
