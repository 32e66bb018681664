"""What is made of each answered frame, in order: things, tracks, crossings, questions, drift, and the line that tells it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curate.edge.runtime.answers import Answer, Model, told_of
from curate.edge.runtime.counters import Anchor, Counter, Crossing, Shape, make_counters
from curate.edge.runtime.frames import Frame
from curate.edge.runtime.keeper import FrameContext
from curate.edge.runtime.pipeline import Finished
from curate.edge.runtime.things import Band, Things, asks, drop_small, shown, thing_json, things_of
from curate.edge.runtime.tracker import Track, Tracker, TrackerSettings
from curate.errors import UsageError
from curate.runner import Package, PackageError, Reference, Result, Runner


@dataclass(frozen=True)
class Wanted:
    """What is looked for on frames.

    Attributes:
        tracker: How things are followed; None for not at all.
        lines: That they are counted at.
        zones: The same.
        anchor: Which point of a box says where a thing is.
        band: Confidences in which a person is asked; None for the package's own, if it has one.
        millimetres: Of a pixel's side; None where sizes are not told.
        smallest: Pixels that a region has at least, if more than `things.SMALLEST`; what is smaller is not there.
        drift: Whether frames are compared with the training images, where the package has what that takes.
    """

    tracker: TrackerSettings | None = None
    lines: Sequence[Shape] = ()
    zones: Sequence[Shape] = ()
    anchor: Anchor = "bottom"
    band: Band | None = None
    millimetres: float | None = None
    smallest: int | None = None
    drift: bool = True

    def __post_init__(self) -> None:
        if (self.lines or self.zones) and self.tracker is None:
            raise UsageError("lines and zones count tracks", where="--line", remedy="leave out --no-track")
        if self.millimetres is not None and not 0 < self.millimetres < np.inf:
            raise UsageError(f"a pixel of {self.millimetres:g} mm is none", where="--scale", remedy="give more than 0")


@dataclass(frozen=True)
class Told:
    """A finished frame.

    Attributes:
        frame: It.
        answer: What the model says.
        things: On it.
        shown: Rows of those that count.
        tracks: Found in it.
        crossings: That happened in it.
        context: What a keeper is told.
    """

    frame: Frame
    answer: Answer
    things: Things
    shown: Sequence[int]
    tracks: Sequence[Track]
    crossings: Sequence[Crossing]
    context: FrameContext


class Session:
    """Takes answered frames in order, and remembers what lasts from frame to frame: tracks and counts.

    Args:
        model: What answers.
        source: Its name, for keepers.
        wanted: What is looked for.

    Raises:
        UsageError: Things are to be followed, and the package only tells classes of whole frames; or regions have a least area,
            and the package tells none.
    """

    def __init__(self, model: Model, source: str, wanted: Wanted) -> None:
        package = model.package
        if wanted.tracker is not None and package.task == "classify":
            raise UsageError("a classifier finds no things to follow", where=package.folder, remedy="leave out --track")
        if wanted.smallest is not None and package.task != "segment":
            raise UsageError("only regions have an area", where=package.folder, remedy="leave out --min-area")
        self.package, self._wanted, self._source = package, wanted, source
        own = package.ask
        self.band = wanted.band or (None if own is None else Band(*own))
        self._runner = model.runners[0]
        self._compares = wanted.drift and reference_of(self._runner) is not None
        self._tracker = None if wanted.tracker is None else Tracker(wanted.tracker)
        self._counters: dict[str, tuple[Shape, Counter]] = {}
        self._size: tuple[int, int] | None = None
        self._number: int | None = None

    @property
    def counters(self) -> dict[str, Counter]:
        """Lines and zones, by their names; none before the first frame."""
        return {name: counter for name, (_, counter) in self._counters.items()}

    def finish(self, done: Finished) -> Told:
        """Take in the next frame."""
        frame, answer = done.frame, replace(done.answer, result=self._cleaned(done.answer.result))
        things = things_of(answer.result)
        self._fit((frame.pixels.shape[0], frame.pixels.shape[1]))
        tracks, crossings = self._follow(frame, things)
        # How unsure the model is, and how the frame drifts, is of all that it said: that is what packages were measured by.
        context = self._context(frame, done.answer, asks(answer.result, things, self.band))
        rows = shown(things, answer.package, self.band).tolist()
        return Told(frame, answer, things, rows, tracks, crossings, context)

    def line(self, told: Told, *, latency: float) -> dict[str, Any]:
        """A finished frame as one line of output; latency in seconds."""
        frame, answer, context = told.frame, told.answer, told.context
        line: dict[str, Any] = {
            "kind": "frame",
            "frame": frame.number,
            "name": frame.name,
            "seconds": None if frame.seconds is None else round(frame.seconds, 6),
            "time": round(frame.taken, 6),
            "package": context.package,
            **self._said(told),
            "uncertainty": round(context.uncertainty, 6),
            "asks": context.asks,
        }
        if context.drift is not None:
            line["drift"] = round(context.drift, 6)
        if answer.is_heavy:
            line["heavy"] = True
        if answer.other is not None and answer.other_package is not None:
            other = Answer(self._cleaned(answer.other), answer.other_package)
            line["other"] = {"package": context.other_package, **self._plain(other)}
            line["agreement"] = round(context.agreement or 0.0, 6)
        if told.crossings:
            line["crossings"] = [crossing_json(each, self.package.classes) for each in told.crossings]
        line["latency_ms"] = round(1000 * latency, 3)
        return line

    def _cleaned(self, result: Result) -> Result:
        """What counts of a result: all, or what is not too small."""
        return result if self._wanted.smallest is None else drop_small(result, self._wanted.smallest)

    def _said(self, told: Told) -> dict[str, Any]:
        """The class of a frame, or the things on it with their tracks."""
        plain = self._plain(told.answer, told.things, told.shown)
        by_row = {track.detection: track.id for track in told.tracks}
        for thing, row in zip(plain.get("objects", ()), told.shown, strict=False):
            if row in by_row:
                thing["track"] = by_row[row]
        return plain

    def _plain(self, answer: Answer, things: Things | None = None, rows: Sequence[int] | None = None) -> dict[str, Any]:
        if answer.result.probabilities is not None:
            said = answer.result.to_json(answer.package.classes)
            return {"label": said["label"], "score": said["score"]}
        things = things_of(answer.result) if things is None else things
        rows = shown(things, answer.package, self.band).tolist() if rows is None else rows
        scale = self._wanted.millimetres
        told = [thing_json(things, row, answer.package, band=self.band, millimetres=scale) for row in rows]
        return {"objects": told}

    def _fit(self, size: tuple[int, int]) -> None:
        """Put lines and zones where they are on frames of this size."""
        if size == self._size:
            return
        if self._size is None:
            self._counters = make_counters(self._wanted.lines, self._wanted.zones, size, self._wanted.anchor)
        else:
            for shape, counter in self._counters.values():
                counter.place(shape.on(size))
        self._size = size

    def _follow(self, frame: Frame, things: Things) -> tuple[list[Track], list[Crossing]]:
        if self._tracker is None:
            return [], []
        elapsed = 1.0 if self._number is None else float(max(frame.number - self._number, 1))
        self._number = frame.number
        tracks = self._tracker.update(things.boxes, things.labels, things.scores, elapsed=elapsed)
        crossings: list[Crossing] = []
        for counter in self.counters.values():
            crossings += counter.update(tracks, seconds=frame.seconds)
            counter.forget(self._tracker.ended)
        return tracks, crossings

    def _context(self, frame: Frame, answer: Answer, asked: bool) -> FrameContext:
        # The first package's reference, whoever answered: it has seen every frame, so that drift means one thing in a run.
        drift = self._runner.drift(frame.pixels, answer.result) if self._compares else None
        return FrameContext(
            source=self._source,
            name=frame.name,
            number=frame.number,
            seconds=frame.seconds,
            time=frame.taken,
            package=answer.package.id,
            uncertainty=answer.result.uncertainty,
            asks=asked,
            drift=drift,
            other=answer.other,
            other_package=_id(answer.other_package),
            agreement=answer.agreement,
        )


def crossing_json(crossing: Crossing, classes: Sequence[str]) -> dict[str, Any]:
    """A crossing as a line of output has it."""
    told = {
        "where": crossing.where,
        "way": crossing.way,
        "track": crossing.track,
        "label": classes[crossing.label],
    }
    return told if crossing.seconds is None else {**told, "seconds": round(crossing.seconds, 3)}


def reference_of(runner: Runner) -> Reference | None:
    """What training images look like, by the package itself; None where it does not say.

    Raises:
        InputError: What it says cannot be read.
    """
    try:
        return runner.reference
    except PackageError as error:
        raise told_of(error) from error


def _id(package: Package | None) -> str | None:
    return None if package is None else package.id
