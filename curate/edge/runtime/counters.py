"""How many things cross a line, which way, and how many are in a zone and for how long.

A thing is where its box's anchor is. A box trembles, so a thing is on a side, in or out, only from a margin on: between the
margins it stays what it was, and a thing that stands on a line is not counted again and again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import cv2
import numpy as np

from curate.edge.runtime.tracker import Track
from curate.errors import UsageError

Anchor = Literal["bottom", "centre"]
"""Which point of a box says where a thing is: the middle of its lower side, where feet and wheels are, or its middle."""

Point = tuple[float, float]

MARGIN: Final = 2.0
"""Pixels on either side within which a thing is not yet across."""


@dataclass(frozen=True)
class Crossing:
    """One thing that went across a line, or into or out of a zone.

    Attributes:
        where: Name of the line or zone.
        track: Number of the thing.
        label: Its class.
        way: 'in' or 'out'.
        seconds: That it was in the zone, where it went out of one and frames have times.
    """

    where: str
    track: int
    label: int
    way: Literal["in", "out"]
    seconds: float | None = None


@dataclass
class Tally:
    """What was counted at a line or zone, in all and by class.

    Attributes:
        entered: Ways in.
        left: Ways out.
        by_class: (entered, left) by class number.
    """

    entered: int = 0
    left: int = 0
    by_class: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, crossing: Crossing) -> None:
        """Count one more."""
        came, went = (1, 0) if crossing.way == "in" else (0, 1)
        self.entered += came
        self.left += went
        entered, left = self.by_class.get(crossing.label, (0, 0))
        self.by_class[crossing.label] = (entered + came, left + went)

    def to_json(self, classes: Sequence[str]) -> dict[str, object]:
        """The counts by names of classes."""
        by_class = {classes[label]: {"in": one, "out": other} for label, (one, other) in sorted(self.by_class.items())}
        return {"in": self.entered, "out": self.left, "by_class": by_class}


class LineCounter:
    """Counts things that cross a line from one point to another.

    'in' is from the left of somebody who walks from the first point to the second to the right, as seen on the image.

    Args:
        name: For people.
        start: First point, in pixels.
        end: Second point.
        anchor: Which point of a box counts.
        margin: Pixels from which a thing is on a side.
    """

    def __init__(
        self, name: str, start: Point, end: Point, *, anchor: Anchor = "bottom", margin: float = MARGIN
    ) -> None:
        self.name, self.tally = name, Tally()
        self._anchor, self._margin = anchor, margin
        self.place([start, end])

    def place(self, points: Sequence[Point]) -> None:
        """Move it, as when frames change their size: counts stay, where things were is forgotten.

        Raises:
            UsageError: These are not two points.
        """
        if len(points) != 2 or points[0] == points[1]:
            raise UsageError("a line has two points", where=f"--line {self.name}", remedy="--line NAME=x1,y1,x2,y2")
        self.points = tuple(points)
        self._start, self._way = np.array(points[0]), np.array(points[1]) - np.array(points[0])
        self._length = float(np.hypot(*self._way))
        self._last: dict[int, tuple[Point, float]] = {}

    def update(self, tracks: Sequence[Track], *, seconds: float | None = None) -> list[Crossing]:
        """Take in the next frame's tracks; returns those that are now across."""
        crossings = []
        for track in tracks:
            point = anchor_point(track, self._anchor)
            side = self._distance(point)
            if abs(side) < self._margin:
                continue
            last = self._last.get(track.id)
            self._last[track.id] = (point, side)
            if last is not None and last[1] * side < 0 and self._is_between(last, (point, side)):
                crossings.append(Crossing(self.name, track.id, track.label, "in" if side > 0 else "out"))
                self.tally.add(crossings[-1])
        return crossings

    def forget(self, ids: Sequence[int]) -> None:
        """Tracks that have ended."""
        for each in ids:
            self._last.pop(each, None)

    def _distance(self, point: Point) -> float:
        """Pixels from the endless line, positive to the right of its way on the image (y goes down)."""
        off = np.array(point) - self._start
        return float(self._way[0] * off[1] - self._way[1] * off[0]) / self._length

    def _is_between(self, one: tuple[Point, float], other: tuple[Point, float]) -> bool:
        """Whether the way from a point on one side to a point on the other goes between the line's ends."""
        part = one[1] / (one[1] - other[1])
        met = np.array(one[0]) + part * (np.array(other[0]) - np.array(one[0]))
        return bool(0 <= np.dot(met - self._start, self._way) <= self._length**2)


@dataclass
class _Stay:
    """From when to when a thing was seen in a zone; None where frames have no times."""

    since: float | None
    until: float | None


class ZoneCounter:
    """Counts things in a polygon: ways in and out, how many are in it now, and how long they stay.

    A thing that is in the zone when it is first seen has not come in, but is in it.

    Args:
        name: For people.
        corners: At least three points, in pixels.
        anchor: Which point of a box counts.
        margin: Pixels from the border from which a thing is in or out.
    """

    def __init__(
        self, name: str, corners: Sequence[Point], *, anchor: Anchor = "bottom", margin: float = MARGIN
    ) -> None:
        self.name, self.tally = name, Tally()
        self.stays, self.stayed = 0, 0.0
        """Stays that ended and whose length is known, and their seconds in all."""
        self._anchor, self._margin = anchor, margin
        self.place(corners)

    def place(self, points: Sequence[Point]) -> None:
        """Move it, as when frames change their size: counts stay, where things were is forgotten.

        Raises:
            UsageError: These are fewer than three points, or on one line.
        """
        remedy = "--zone NAME=x1,y1,x2,y2,x3,y3"
        if len(points) < 3:
            raise UsageError("a zone has three corners or more", where=f"--zone {self.name}", remedy=remedy)
        if np.linalg.matrix_rank(np.array(points, dtype=np.float64) - np.array(points[0], dtype=np.float64)) < 2:
            raise UsageError(
                "the zone's corners are on one line: nothing is inside", where=f"--zone {self.name}", remedy=remedy
            )
        self.points = tuple(points)
        self._corners = np.array(points, dtype=np.float32).reshape(-1, 1, 2)
        self._inside: dict[int, _Stay] = {}
        self._outside: set[int] = set()

    @property
    def occupancy(self) -> int:
        """How many things are in it: those that are hidden for a moment too."""
        return len(self._inside)

    def update(self, tracks: Sequence[Track], *, seconds: float | None = None) -> list[Crossing]:
        """Take in the next frame's tracks; returns those that have just come in or gone out."""
        crossings = []
        for track in tracks:
            depth = cv2.pointPolygonTest(self._corners, anchor_point(track, self._anchor), True)
            if depth >= self._margin and track.id not in self._inside:
                self._inside[track.id] = _Stay(seconds, seconds)
                if track.id in self._outside:
                    self._outside.discard(track.id)
                    crossings.append(Crossing(self.name, track.id, track.label, "in"))
            elif depth <= -self._margin and track.id not in self._outside:
                self._outside.add(track.id)
                if track.id in self._inside:
                    self._inside[track.id].until = seconds
                    crossings.append(Crossing(self.name, track.id, track.label, "out", self._end(track.id)))
            elif track.id in self._inside:
                self._inside[track.id].until = seconds
        for crossing in crossings:
            self.tally.add(crossing)
        return crossings

    def forget(self, ids: Sequence[int]) -> None:
        """Tracks that have ended: what was last seen in the zone is in it no more, but has not been seen to go out."""
        for each in ids:
            self._outside.discard(each)
            if each in self._inside:
                self._end(each)

    def _end(self, track: int) -> float | None:
        """Take a thing out of the zone; returns the seconds that it was seen in it."""
        stay = self._inside.pop(track)
        if stay.since is None or stay.until is None:
            return None
        self.stays += 1
        self.stayed += stay.until - stay.since
        return stay.until - stay.since

    def to_json(self, classes: Sequence[str]) -> dict[str, object]:
        """The counts, who is in it, and how long things stayed on average."""
        mean = round(self.stayed / self.stays, 3) if self.stays else None
        return {**self.tally.to_json(classes), "now": self.occupancy, "mean_seconds": mean}


def anchor_point(track: Track, anchor: Anchor) -> Point:
    """Where a thing is."""
    x, y, width, height = track.box
    return (x + width / 2, y + height) if anchor == "bottom" else (x + width / 2, y + height / 2)


@dataclass(frozen=True)
class Shape:
    """A line or zone as a person gives it: `NAME=x1,y1,x2,y2,...`, in pixels, or with % in parts of the image's sides.

    Attributes:
        name: For people.
        points: Each as ((x, is a part), (y, is a part)).
    """

    name: str
    points: tuple[tuple[tuple[float, bool], tuple[float, bool]], ...]

    @classmethod
    def parse(cls, text: str, option: str) -> Shape:
        """Read one.

        Raises:
            UsageError: It is not of that form.
        """
        name, equals, rest = text.partition("=")
        try:
            if not (equals and name.strip()):
                raise ValueError
            values = [(float(each.strip().removesuffix("%")), each.strip().endswith("%")) for each in rest.split(",")]
            if len(values) % 2 or not all(np.isfinite(value) for value, _ in values):
                raise ValueError
        except ValueError:
            remedy = f"as in {option} gate=50%,0%,50%,100%, or in pixels"
            raise UsageError("this is no name with points", where=f"{option} {text}", remedy=remedy) from None
        return cls(name.strip(), tuple(zip(values[::2], values[1::2], strict=True)))

    def on(self, size: tuple[int, int]) -> list[Point]:
        """Its points in pixels of an image of (height, width)."""
        height, width = size
        return [
            (x / 100 * width if x_part else x, y / 100 * height if y_part else y)
            for (x, x_part), (y, y_part) in self.points
        ]


Counter = LineCounter | ZoneCounter


def make_counters(
    lines: Sequence[Shape], zones: Sequence[Shape], size: tuple[int, int], anchor: Anchor
) -> dict[str, tuple[Shape, Counter]]:
    """Counters for frames of (height, width), by their names.

    Raises:
        UsageError: A line has not two points, a zone fewer than three, or two have one name.
    """
    made: dict[str, tuple[Shape, Counter]] = {}
    for option, shape in (*(("--line", each) for each in lines), *(("--zone", each) for each in zones)):
        if shape.name in made:
            raise UsageError(f"two are called '{shape.name}'", where=option, remedy="give each its own name")
        points = shape.on(size)
        if option == "--zone":
            made[shape.name] = (shape, ZoneCounter(shape.name, points, anchor=anchor))
        elif len(points) == 2:
            made[shape.name] = (shape, LineCounter(shape.name, points[0], points[1], anchor=anchor))
        else:
            raise UsageError("a line has two points", where=f"--line {shape.name}", remedy="--line NAME=x1,y1,x2,y2")
    return made


def counts_json(counters: Mapping[str, Counter], classes: Sequence[str]) -> dict[str, dict[str, object]]:
    """What every counter has counted, by its name."""
    return {
        name: counter.to_json(classes) if isinstance(counter, ZoneCounter) else counter.tally.to_json(classes)
        for name, counter in counters.items()
    }
