"""Lines and zones count every thing once, the right way round."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from curate.edge.runtime.counters import LineCounter, Shape, ZoneCounter, make_counters
from curate.edge.runtime.tracker import Track, Tracker
from curate.errors import UsageError
from tests.edge.moving import scene, straight


def at(x: float, y: float, *, id: int = 1, label: int = 0) -> Track:
    """A track whose box of 10 x 10 has its middle there."""
    return Track(id, (x - 5, y - 5, 10.0, 10.0), label, 0.9, 0, 5)


def walk(counter: LineCounter | ZoneCounter, points: Sequence[tuple[float, float]]) -> list[str]:
    """Ways that one thing goes."""
    return [
        crossing.way
        for step, point in enumerate(points)
        for crossing in counter.update([at(*point)], seconds=float(step))
    ]


def upright() -> LineCounter:
    """From the top down, at x = 50: to its right is smaller x."""
    return LineCounter("gate", (50, 0), (50, 100), anchor="centre")


def test_a_line_is_crossed_each_way() -> None:
    counter = upright()

    assert walk(counter, [(30, 50), (45, 50), (55, 50), (70, 50), (40, 50)]) == ["out", "in"]
    assert (counter.tally.entered, counter.tally.left) == (1, 1)


def test_a_thing_that_trembles_on_a_line_is_counted_once() -> None:
    trembling = [(50 + off, 50.0) for off in (-10, -1, 1, -1.5, 1.5, -1, 1, 0, 10, 1, -1, 1, 20)]

    assert walk(upright(), trembling) == ["out"]


def test_past_the_ends_of_a_line_nothing_is_counted() -> None:
    assert walk(upright(), [(30, 150), (70, 150)]) == []
    assert walk(upright(), [(30, 150), (30, 50), (70, 50)]) == ["out"]


def test_a_jump_far_over_a_line_is_counted_where_it_crosses() -> None:
    assert walk(upright(), [(0, 90), (100, 150)]) == []  # meets x = 50 at y = 120
    assert walk(upright(), [(0, 60), (100, 120)]) == ["out"]


def test_the_lower_side_of_a_box_is_where_it_stands() -> None:
    flat = LineCounter("floor", (0, 50), (100, 50))

    assert flat.update([at(40, 40)]) == []
    assert [each.way for each in flat.update([at(40, 48)])] == ["in"]


def test_classes_are_counted_apart_and_ended_tracks_forgotten() -> None:
    counter = upright()
    counter.update([at(30, 20, id=1, label=0), at(30, 50, id=2, label=2)])
    counter.forget([2])

    counter.update([at(70, 20, id=1, label=0), at(70, 50, id=2, label=2)])

    assert counter.tally.to_json(["bolt", "nut", "gear"]) == {
        "in": 0,
        "out": 1,
        "by_class": {"bolt": {"in": 0, "out": 1}},
    }


def test_a_zone_knows_who_is_in_it_and_for_how_long() -> None:
    zone = ZoneCounter("bench", [(20, 20), (80, 20), (80, 80), (20, 80)], anchor="centre")

    ways = walk(zone, [(5, 50), (19, 50), (21, 50), (30, 50), (50, 50), (79, 50), (81, 50), (90, 50)])

    assert ways == ["in", "out"]
    assert zone.to_json(["bolt"]) == {
        "in": 1,
        "out": 1,
        "by_class": {"bolt": {"in": 1, "out": 1}},
        "now": 0,
        "mean_seconds": 4.0,
    }


def test_what_is_in_a_zone_at_first_has_not_come_in_but_goes_out() -> None:
    zone = ZoneCounter("bench", [(20, 20), (80, 20), (80, 80), (20, 80)], anchor="centre")

    zone.update([at(50, 50)], seconds=0.0)
    assert zone.occupancy == 1

    assert [each.way for each in zone.update([at(10, 10)], seconds=2.0)] == ["out"]
    assert (zone.tally.entered, zone.tally.left, zone.occupancy) == (0, 1, 0)


def test_a_thing_that_is_gone_is_in_no_zone() -> None:
    zone = ZoneCounter("bench", [(20, 20), (80, 20), (80, 80), (20, 80)], anchor="centre")
    zone.update([at(50, 50)], seconds=0.0)
    zone.update([at(50, 52)], seconds=3.0)

    zone.forget([1])

    assert (zone.occupancy, zone.stays, zone.stayed, zone.tally.left) == (0, 1, 3.0, 0)


def test_zones_need_not_be_convex() -> None:
    corner = ZoneCounter("corner", [(0, 0), (100, 0), (100, 20), (20, 20), (20, 100), (0, 100)], anchor="centre")

    assert walk(corner, [(60, 60), (60, 10), (60, 60), (10, 60)]) == ["in", "out", "in"]


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_moving_things_are_exact(seed: int) -> None:
    """Things in lanes, there and back, detected with noise and misses."""
    rng = np.random.default_rng(seed)
    paths, into, out = [], 0, 0
    for lane in range(8):
        y, speed = 40 + 50 * lane, rng.uniform(4, 7)
        there = straight((60, y), (speed, 0), 90)
        turn = int(rng.integers(40, 90))
        back = np.concatenate([there[:turn], there[turn - 1] - (there[: 90 - turn] - there[0])])
        paths.append(back if lane % 2 else straight((580, y), (-speed, 0), 90))
        right = paths[-1][:, 0] > 320
        out += int(((~right[:-1]) & right[1:]).sum())
        into += int((right[:-1] & ~right[1:]).sum())
    moments = scene(paths, np.tile([40.0, 36.0], (8, 1)), seed=seed, noise=0.02, misses=0.05)
    tracker, line = Tracker(), LineCounter("middle", (320, 0), (320, 480))

    for moment in moments:
        line.update(tracker.update(moment.found, moment.found_labels, moment.scores))

    assert (line.tally.entered, line.tally.left) == (into, out)
    assert into >= 4
    assert out >= 1


def test_shapes_are_read_in_pixels_and_in_parts() -> None:
    shape = Shape.parse("gate=50%,0,50%,100%", "--line")

    assert shape.on((200, 300)) == [(150, 0), (150, 200)]


@pytest.mark.parametrize("text", ["gate", "=1,2,3,4", "gate=1,2,3", "gate=a,b,c,d", "gate=nan,0,1,1", "gate="])
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no name with points"):
        Shape.parse(text, "--line")


@pytest.mark.parametrize(
    ("lines", "zones", "said"),
    [
        (["a=1,1,1,1"], [], "two points"),
        (["a=1,1,2,2,3,3"], [], "two points"),
        ([], ["a=1,1,2,2"], "three corners"),
        (["a=1,1,2,2"], ["a=1,1,2,2,3,1"], "two are called"),
    ],
)
def test_shapes_that_cannot_be_are_refused(lines: list[str], zones: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_counters(
            [Shape.parse(each, "--line") for each in lines],
            [Shape.parse(each, "--zone") for each in zones],
            (100, 100),
            "centre",
        )
