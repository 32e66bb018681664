"""Tracks keep their numbers: through crossings, walls, misses and lost frames."""

from __future__ import annotations

import numpy as np
import pytest

from curate.edge.runtime.kalman import BoxFilter, FloatArray
from curate.edge.runtime.tracker import IntArray, Tracker, TrackerSettings
from curate.errors import UsageError
from tests.edge.moving import Moment, follow, scene, score, straight

NOTHING = np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)


def lanes(seed: int, **options: float) -> list[Moment]:
    """Eight things in lanes of their own."""
    paths = [straight((-40, 40 + 55 * lane), (4 + lane, 0), 120) for lane in range(8)]
    sides = np.tile([50.0, 40.0], (8, 1))
    return scene(paths, sides, seed=seed, **options)  # type: ignore[arg-type]


def crossing_paths(seed: int, **options: float) -> list[Moment]:
    """Four things that go right meet four that go left, in the same lanes, behind two walls."""
    right = [straight((20, 60 + 100 * lane), (5, 0.4), 120) for lane in range(4)]
    left = [straight((620, 70 + 100 * lane), (-5, -0.2), 120) for lane in range(4)]
    sides = np.array([[44.0, 60.0]] * 4 + [[48.0, 56.0]] * 4)
    walls = [(200.0, 0.0, 30.0, 480.0), (430.0, 0.0, 30.0, 480.0)]
    return scene([*right, *left], sides, seed=seed, walls=walls, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_every_thing_in_a_lane_of_its_own_has_one_track(seed: int) -> None:
    moments = lanes(seed, noise=0.03)

    scores = score(moments, follow(moments, Tracker()))

    assert (scores.switches, scores.tracks) == (0, 8)
    assert scores.idf1 > 0.98


@pytest.mark.parametrize("seed", range(3))
def test_a_thing_keeps_its_number_behind_a_wall(seed: int) -> None:
    wall = (300.0, 0.0, 90.0, 480.0)
    moments = scene([straight((20, 100), (6, 1), 100)], np.array([[60.0, 40.0]]), walls=[wall], seed=seed, noise=0.02)
    hidden = [len(moment.ids) == 0 for moment in moments]
    assert sum(hidden) > 4

    scores = score(moments, follow(moments, Tracker()))

    assert (scores.switches, scores.tracks) == (0, 1)


@pytest.mark.parametrize("speed", [3.0, 4.0, -4.0])
@pytest.mark.parametrize("wall", [(65.0, 89.0), (100.0, 150.0)])
def test_a_thing_that_is_cut_by_a_wall_keeps_its_number(speed: float, wall: tuple[float, float]) -> None:
    tracker, width, side = Tracker(), 240.0, 30.0
    start = -side if speed > 0 else width
    numbers, hidden = [], 0
    for frame in range(int((width + side) / abs(speed))):
        left = start + speed * frame
        ends = np.clip([left, left + side], 0, width)
        parts = [(ends[0], min(ends[1], wall[0])), (max(ends[0], wall[1]), ends[1])]
        seen = [(low, high) for low, high in parts if high > low]
        low, high = (min(low for low, _ in seen), max(high for _, high in seen)) if seen else (0.0, 0.0)
        is_seen = sum(high - low for low, high in seen) >= side / 4
        hidden += not is_seen and left > wall[0] - side and left < wall[1]
        boxes = np.array([[low, 60, high - low, side]] if is_seen else []).reshape(-1, 4)
        tracks = tracker.update(boxes, np.zeros(len(boxes), np.int64), np.full(len(boxes), 0.9))
        numbers += [track.id for track in tracks]
    assert hidden >= 2
    assert set(numbers) == {1}


def test_a_thing_elsewhere_is_not_the_one_that_was_hidden() -> None:
    tracker = Tracker()
    one = np.zeros(1, np.int64)
    for frame in range(20):
        tracker.update(np.array([[4.0 * frame, 20, 30, 30]]), one, np.array([0.9]))
    for _ in range(4):
        tracker.update(np.zeros((0, 4)), one[:0], np.zeros(0))
    for frame in range(3):
        tracks = tracker.update(np.array([[96.0 + 4 * frame, 90, 30, 30]]), one, np.array([0.9]))
    assert [track.id for track in tracks] == [2]


def test_unsure_detections_keep_a_track_alive() -> None:
    path, side = straight((50, 50), (3, 0), 60), np.array([[40.0, 40.0]])
    sure = scene([path], side)
    faint = [
        moment if frame < 10 or frame > 50 else
        Moment(moment.ids, moment.boxes, moment.labels, moment.found, moment.found_labels, moment.scores * 0 + 0.2)
        for frame, moment in enumerate(sure)
    ]  # fmt: skip

    with_low = follow(faint, Tracker())
    without = follow(faint, Tracker(TrackerSettings(low=0.5)))

    assert [len(tracks) for tracks in with_low] == [1] * 60
    assert sum(len(tracks) for tracks in without) < 30


@pytest.mark.parametrize("seed", range(3))
def test_identity_is_mostly_kept_where_things_pass_each_other(seed: int) -> None:
    moments = crossing_paths(seed, noise=0.03, misses=0.1, false=0.3)

    scores = score(moments, follow(moments, Tracker()))

    assert scores.mota > 0.8, scores
    assert scores.idf1 > 0.8, scores


def test_lost_frames_are_bridged_by_time() -> None:
    moments = lanes(0, noise=0.02)

    told = follow(moments, Tracker(), every=3)

    scores = score(moments[::3], told)
    assert (scores.switches, scores.tracks) == (0, 8)


def test_without_time_lost_frames_break_what_is_bridged_with_it() -> None:
    path = straight((20, 100), (7, 0), 90)
    moments = scene([path], np.array([[40.0, 40.0]]))
    kept = [*range(20), *range(32, 90)]  # twelve frames, in which it moves twice its width

    def numbers(elapsed: list[float]) -> set[int]:
        tracker = Tracker()
        return {
            track.id
            for frame, time in zip(kept, elapsed, strict=True)
            for track in tracker.update(*_found(moments[frame]), elapsed=time)
        }

    assert len(numbers([1.0, *np.diff(kept).astype(float)])) == 1
    assert len(numbers([1.0] * len(kept))) == 2


def test_a_class_that_wavers_is_voted_for() -> None:
    moments = scene([straight((50, 50), (2, 0), 30)], np.array([[40.0, 40.0]]))
    tracker = Tracker()

    told = [
        tracker.update(moment.found, np.array([1 if frame % 4 == 1 else 2]), moment.scores)
        for frame, moment in enumerate(moments)
    ]

    assert {track.id for tracks in told for track in tracks} == {1}
    assert told[-1][0].label == 2


def test_a_false_detection_of_one_frame_is_never_told() -> None:
    tracker = Tracker()
    tracker.update(*NOTHING)

    first = tracker.update(np.array([[10.0, 10, 30, 30]]), np.array([0]), np.array([0.9]))
    then = tracker.update(*NOTHING)

    assert first == []
    assert then == []
    assert tracker.ended == (1,)


def test_numbers_are_never_given_twice_and_memory_goes_with_the_things() -> None:
    tracker = Tracker(TrackerSettings(patience=2))
    seen: set[int] = set()
    for start in range(200):
        box = np.array([[float(40 * (start % 10)), 10, 30, 30]])
        for _ in range(3):
            tracks = tracker.update(box, np.array([0]), np.array([0.9]))
        assert not {track.id for track in tracks} & seen or start < 1
        seen |= {track.id for track in tracks}
        tracker.update(*NOTHING, elapsed=10)

    assert len(seen) == 200
    assert len(tracker._votes) <= 1


def test_a_filter_finds_the_velocity_and_forgets_growth_of_what_is_hidden() -> None:
    kalman = BoxFilter()
    boxes: FloatArray = np.array([[100.0, 50, 40, 20]])
    kalman.add(boxes)
    for _ in range(60):
        boxes = boxes + np.array([3.0, -1.0, 0.5, 0.0])
        kalman.predict(1.0, unseen=np.array([False]))
        kalman.correct(np.array([0]), boxes)
    assert np.allclose(kalman.velocity, [[3, -1, 0.5, 0]], atol=0.1)

    width = kalman.value[0, 2]
    kalman.predict(10.0, unseen=np.array([True]))

    assert kalman.value[0, 2] == pytest.approx(width)
    assert kalman.value[0, 0] == pytest.approx(boxes[0, 0] + 30, abs=1.5)


def test_the_filter_is_the_textbook_one() -> None:
    """Against the same in matrices, of four dimensions and their velocities."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(20, 60, (3, 4))
    kalman = BoxFilter()
    kalman.add(boxes)
    states = [_Textbook(box) for box in boxes]
    for step in (1.0, 2.5, 1.0, 4.0):
        measured = boxes + rng.normal(0, 2, (3, 4))
        kalman.predict(step, unseen=np.zeros(3, np.bool_))
        kalman.correct(np.arange(3), measured)
        for state, own in zip(states, measured, strict=True):
            state.step(step, own)
    assert np.allclose(kalman.value, [state.mean[:4] for state in states])
    assert np.allclose(kalman.velocity, [state.mean[4:] for state in states])


class _Textbook:
    def __init__(self, box: FloatArray) -> None:
        sides = np.tile(box[2:], 2)
        self.mean = np.concatenate([box, np.zeros(4)])
        self.covariance = np.diag(np.concatenate([sides / 10, sides / 16]) ** 2)

    def step(self, elapsed: float, measured: FloatArray) -> None:
        sides = np.tile(self.mean[2:4], 2)
        forward = np.eye(8) + elapsed * np.eye(8, k=4)
        drift = elapsed * np.diag(np.concatenate([sides / 20, sides / 160]) ** 2)
        self.mean = forward @ self.mean
        self.covariance = forward @ self.covariance @ forward.T + drift
        look = np.eye(4, 8)
        noise = np.diag((np.tile(self.mean[2:4], 2) / 20) ** 2)
        gain = self.covariance @ look.T @ np.linalg.inv(look @ self.covariance @ look.T + noise)
        self.mean = self.mean + gain @ (measured - look @ self.mean)
        self.covariance = (np.eye(8) - gain @ look) @ self.covariance


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="not in order"):
        TrackerSettings(high=0.8, begin=0.6)


def _found(moment: Moment) -> tuple[FloatArray, IntArray, FloatArray]:
    return moment.found, moment.found_labels, moment.scores


def test_an_unsure_detection_must_lie_close() -> None:
    """Half its width away, a sure detection goes on with a track, and an unsure one does not."""
    box, aside = np.array([[50.0, 50, 40, 40]]), np.array([[70.0, 50, 40, 40]])
    for sureness, expected in ((0.9, 1), (0.3, 0)):
        tracker = Tracker()
        tracker.update(box, np.array([0]), np.array([0.9]))
        assert len(tracker.update(aside, np.array([0]), np.array([sureness]))) == expected


def test_things_that_overlap_are_told_apart_by_their_class() -> None:
    tracker = Tracker()
    boxes = np.array([[50.0, 50, 40, 40], [62.0, 50, 40, 40]])
    tracker.update(boxes, np.array([0, 1]), np.array([0.9, 0.9]))

    told = tracker.update(
        boxes[::-1] + np.array([[-7.0, 0, 0, 0], [7.0, 0, 0, 0]]), np.array([1, 0]), np.array([0.9, 0.9])
    )

    assert {track.id: track.label for track in told} == {1: 0, 2: 1}
    assert {track.id: track.detection for track in told} == {1: 1, 2: 0}


def test_patience_is_time_and_not_a_number_of_updates() -> None:
    tracker = Tracker()
    tracker.update(np.array([[50.0, 50, 40, 40]]), np.array([0]), np.array([0.9]))
    tracker.update(*NOTHING, elapsed=29)
    assert list(tracker.ended) == []

    tracker.update(*NOTHING, elapsed=2)

    assert list(tracker.ended) == [1]


def test_a_lost_track_under_a_found_one_is_its_ghost() -> None:
    tracker = Tracker()
    still = np.array([[100.0, 50, 40, 40]])
    for step in range(10):
        moving = np.array([[40.0 + 2 * step, 50, 40, 40]])
        boxes = moving if step < 3 or step > 6 else np.concatenate([moving, still])
        tracker.update(boxes, np.zeros(len(boxes), np.int64), np.full(len(boxes), 0.9))
    ended: list[int] = []
    for step in range(10, 31):
        moving = np.array([[40.0 + 2 * step, 50, 40, 40]])
        tracker.update(moving, np.array([0]), np.array([0.9]))
        ended += tracker.ended

    assert ended == [2]
