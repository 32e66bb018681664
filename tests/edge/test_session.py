"""What lasts from frame to frame."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.edge.runtime.answers import Single, open_runner
from curate.edge.runtime.counters import Shape, ZoneCounter
from curate.edge.runtime.frames import Frame
from curate.edge.runtime.pipeline import Finished
from curate.edge.runtime.session import Session, Told, Wanted
from curate.edge.runtime.tracker import TrackerSettings
from curate.errors import InputError
from curate.imaging import Pixels
from tests.edge.tiny import classifier, detector, frame, with_reference


class Camera:
    """Shows frames to a session."""

    def __init__(self, folder: Path) -> None:
        self.model = Single(open_runner(str(detector(folder, min_score=0.3))))
        zone = Shape.parse("left=0,0,50%,0,50%,100%,0,100%", "--zone")
        self.session = Session(self.model, "camera", Wanted(TrackerSettings(), zones=[zone]))

    def show(self, number: int, pixels: Pixels) -> Told:
        shown = Frame(number, str(number), number / 30, 0.0, 0.0, pixels)
        return self.session.finish(Finished(shown, self.model.answer([self.model.prepare(pixels)])[0]))


@pytest.fixture
def camera(tmp_path: Path) -> Camera:
    return Camera(tmp_path / "p")


def test_frames_that_were_lost_are_time(camera: Camera) -> None:
    for number in range(8):
        first = camera.show(number, frame((8 + 2 * number, 32)))

    after = camera.show(18, frame((8 + 2 * 18, 32)))

    assert [track.id for track in first.tracks] == [1]
    assert [track.id for track in after.tracks] == [1]


def test_what_is_gone_is_in_no_zone(camera: Camera) -> None:
    for number in range(3):
        camera.show(number, frame((16, 32)))
    zone = camera.session.counters["left"]
    assert isinstance(zone, ZoneCounter)
    assert zone.occupancy == 1

    for number in range(3, 40):
        camera.show(number, frame())

    assert zone.occupancy == 0
    assert zone.stayed == pytest.approx(2 / 30)


def test_a_zone_in_parts_of_the_sides_moves_with_the_size_of_frames(camera: Camera) -> None:
    camera.show(0, frame((16, 32)))
    assert camera.session.counters["left"].points[1] == (32, 0)

    camera.show(1, frame((16, 32)).repeat(2, axis=0).repeat(2, axis=1))

    assert camera.session.counters["left"].points[1] == (64, 0)


def test_a_reference_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    folder = with_reference(classifier(tmp_path / "p"), [frame((20 + n, 20)) for n in range(30)])
    runner = open_runner(str(folder))
    (folder / "reference.npz").write_bytes(b"broken")

    with pytest.raises(InputError, match="reference cannot be read"):
        Session(Single(runner), "camera", Wanted())
