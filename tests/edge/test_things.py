"""Objects and regions as things: sizes, bands, and how they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.edge.runner import VOID, Package, Result
from curate.edge.runtime.overlay import OverlayVideo, Picture, draw
from curate.edge.runtime.things import Band, asks, shown, thing_json, things_of
from curate.edge.runtime.tracker import TrackerSettings
from curate.errors import UsageError
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


def test_a_shy_detector_can_be_followed() -> None:
    settings = TrackerSettings.beginning_at(0.3)

    assert settings.begin == 0.3
    assert settings.high == pytest.approx(0.25)
    assert settings.low == 0.1
