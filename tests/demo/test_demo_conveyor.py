"""Films of a belt: boxes around what is there, identities that last, crossings both ways, halts and posts."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from curate.demo import Belt, film_frames, make_film, make_stills
from curate.errors import UsageError

BOTH = Belt(lanes=2, post=True, size=(240, 180))


def test_tracks_move_with_the_belt_each_in_its_way() -> None:
    places: dict[int, list[tuple[int, float]]] = {}
    for number, frame in enumerate(film_frames(BOTH, 40, seed=1)):
        assert frame.pixels.shape == (180, 240, 3)
        for seen in frame.seen:
            x, y, width, height = seen.bbox
            assert 0 <= x < x + width <= 240
            assert 0 <= y < y + height <= 180
            if seen.visible > 0.999:
                places.setdefault(seen.track, []).append((number, x))
    ways = set()
    for moved in places.values():
        if len(moved) > 2:
            (first, start), (last, end) = moved[0], moved[-1]
            assert abs(end - start) == BOTH.speed * (last - first)
            ways.add(np.sign(end - start))
    assert ways == {-1, 1}


def test_what_is_hidden_behind_the_post_is_seen_less() -> None:
    def visible(belt: Belt) -> list[float]:
        return [seen.visible for frame in film_frames(belt, 40, seed=1) for seen in frame.seen]

    clear, hidden = visible(Belt(lanes=2, size=(240, 180))), visible(BOTH)
    assert len(hidden) <= len(clear)
    assert sum(share < 0.9 for share in hidden) > sum(share < 0.9 for share in clear)


def test_crossings_are_when_and_which_way_a_middle_passes(tmp_path: Path) -> None:
    film = make_film(tmp_path / "line.avi", frames=80, belt=Belt(lanes=2, size=(240, 180)), seed=2)
    assert {crossing.way for crossing in film.crossings} == {"in", "out"}
    for crossing in film.crossings:
        before, after = (
            next(each for each in film.seen[frame] if each.track == crossing.track)
            for frame in (crossing.frame - 1, crossing.frame)
        )
        sides = [each.bbox[0] + each.bbox[2] / 2 - 120 for each in (before, after)]
        assert (sides[0] <= 0 < sides[1]) if crossing.way == "out" else (sides[0] >= 0 > sides[1])
        assert before.label == after.label == crossing.label


@pytest.mark.parametrize("name", ["line.avi", "line.mp4"])
def test_the_video_has_the_frames_as_told(tmp_path: Path, name: str) -> None:
    belt = Belt(size=(160, 120))
    film = make_film(tmp_path / name, frames=6, belt=belt, seed=4)
    video = cv2.VideoCapture(str(film.path))
    for frame in film_frames(belt, 6, seed=4):
        read, pixels = video.read()
        assert read
        assert np.abs(pixels[..., ::-1].astype(int) - frame.pixels).mean() < 6
    assert not video.read()[0]
    video.release()
    assert len(film.seen) == 6


def test_a_belt_that_halts_shows_the_same_again() -> None:
    frames = list(film_frames(Belt(size=(160, 120), halts=((3, 8),)), 10, seed=0))
    boxes = [[each.bbox for each in frame.seen] for frame in frames]
    assert boxes[2] == boxes[7] != boxes[8]
    moved, still = (np.abs(frames[a].pixels.astype(int) - frames[b].pixels).mean() for a, b in ((1, 2), (4, 5)))
    assert still < moved


def test_stills_are_labelled_and_the_same_every_time(tmp_path: Path) -> None:
    one, two = (make_stills(tmp_path / name, {"train": 5, "val": 2}, seed=3) for name in ("one", "two"))
    value = json.loads((one / "annotations" / "instances_train.json").read_bytes())
    assert [image["file_name"] for image in value["images"]] == [f"train/{number:05d}.jpg" for number in range(5)]
    assert {row["image_id"] for row in value["annotations"]} == {1, 2, 3, 4, 5}
    for path in (path for path in one.rglob("*") if path.is_file()):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    assert (one / "images/train/00000.jpg").read_bytes() != (one / "images/train/00001.jpg").read_bytes()
    with pytest.raises(UsageError, match="not empty"):
        make_stills(one, {"train": 1})


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kind of video"):
        make_film(tmp_path / "line.webm", frames=2)
