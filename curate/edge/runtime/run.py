"""A run from its source to its outputs: the pipeline, what is made of each frame, who is told, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from curate.edge.runtime.answers import Model
from curate.edge.runtime.clocks import Watchdog
from curate.edge.runtime.frames import Source, SourceCounts
from curate.edge.runtime.gauges import Gauges
from curate.edge.runtime.keeper import Keeper
from curate.edge.runtime.lines import LineFile
from curate.edge.runtime.metrics import serving
from curate.edge.runtime.overlay import OverlayVideo, Picture, draw
from curate.edge.runtime.pipeline import Pipeline, stalled
from curate.edge.runtime.session import Session, Told, Wanted
from curate.edge.runtime.summary import Summary
from curate.errors import UnavailableError, UsageError
from curate.wording import counted, printable

_PROGRESS: Final = 10.0
_NAMED: Final = 5


@dataclass(frozen=True)
class Settings:
    """How a run goes, and where its results go.

    Attributes:
        wanted: What is looked for on frames.
        batch: Frames that are given to the model at once.
        waiting: Frames that may wait; a live source drops the oldest beyond them.
        most: Frames that are looked at, after which it ends; None for all.
        seconds: After which it ends; None for never.
        output: File that JSON lines are added to.
        output_limit: Bytes after which that file is put aside; None for never.
        only_found: Whether frames without things, crossings and questions have no line.
        overlay: Video that is drawn.
        overlay_rate: Its frames a second; None for the source's.
        metrics: `HOST:PORT` for Prometheus.
        stall: Seconds after which a stage that is still at one frame hangs, and the run ends.
    """

    wanted: Wanted = field(default_factory=Wanted)
    batch: int = 1
    waiting: int = 2
    most: int | None = None
    seconds: float | None = None
    output: Path | None = None
    output_limit: int | None = None
    only_found: bool = False
    overlay: Path | None = None
    overlay_rate: float | None = None
    metrics: str | None = None
    stall: float = 60.0

    def __post_init__(self) -> None:
        for option, seconds in {"--stall": self.stall, "--seconds": self.seconds}.items():
            if seconds is not None and not 0 < seconds <= threading.TIMEOUT_MAX:
                raise UsageError(f"{seconds:g} seconds are no time to wait", where=option, remedy="give more than 0")


def run(
    model: Model,
    source: Source,
    settings: Settings,
    *,
    emit: Callable[[dict[str, Any]], None] | None = None,
    keeper: Keeper | None = None,
    note: Callable[[str], None] | None = None,
) -> Summary:
    """Run a model over a source until it ends, a limit is reached, or a signal says so.

    SIGINT and SIGTERM end it in order: no more frames are taken, those on their way are finished, files are closed. A second one
    interrupts at once.

    Args:
        model: What answers.
        source: Of the frames.
        settings: How.
        emit: Gets every frame's line.
        keeper: Gets every finished frame.
        note: Gets what a person should know while it runs.

    Raises:
        CurateError: The source, a package or an output fails, or a stage hangs.
    """
    note = note or (lambda _: None)
    session = Session(model, source.name, settings.wanted)
    pipeline = Pipeline(source, model, batch=settings.batch, waiting=settings.waiting, most=settings.most)
    gauges = Gauges(pipeline, source, session, stall=settings.stall, keeper=keeper)
    ended = _Ended()
    with ExitStack() as stack:
        outputs = _Outputs(settings, source, session, stack, emit)
        if settings.metrics is not None:
            address = stack.enter_context(serving(gauges.render, settings.metrics, healthy=gauges.healthy))
            note(f"metrics: {address}")
        stack.enter_context(_signals(pipeline, ended))
        stack.enter_context(_timer(settings.seconds, pipeline, ended))
        stack.enter_context(Watchdog(list(pipeline.clocks.values()), settings.stall, _give_up(pipeline)))
        told_at = time.monotonic()
        for done in pipeline.finished():
            told = session.finish(done)
            latency = time.monotonic() - done.frame.arrived
            gauges.observe(told, latency)
            outputs.write(told, latency)
            if keeper is not None:
                keeper.offer(done.frame.pixels, done.answer.result, told.context)
            if time.monotonic() - told_at >= _PROGRESS:
                told_at = time.monotonic()
                note(gauges.progress())
    if keeper is not None:
        keeper.settle()
    _tell_unreadable(source.counts, note)
    return gauges.summary("frames" if ended.why == "source" and pipeline.is_complete else ended.why)


def _tell_unreadable(counts: SourceCounts, note: Callable[[str], None]) -> None:
    """Name the first images that could not be read."""
    if counts.unreadable:
        names = ", ".join(printable(name) for name in counts.unreadable_names[:_NAMED])
        more = counts.unreadable - min(len(counts.unreadable_names), _NAMED)
        named = f": {names}{f' and {more:,} more' if more else ''}" if names else ""
        note(f"{counted(counts.unreadable, 'images or frames')} could not be read{named}")


class _Outputs:
    """Where a finished frame is told: lines and a video."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        session: Session,
        stack: ExitStack,
        emit: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self._settings, self._source, self._session, self._stack, self._emit = settings, source, session, stack, emit
        self._file: LineFile | None = None
        self._video: OverlayVideo | None = None
        if settings.output is not None:
            self._file = LineFile(settings.output, limit=settings.output_limit)
            stack.callback(self._file.close)
        if settings.overlay is not None:
            OverlayVideo(settings.overlay)  # a wrong name is told before the first frame

    def write(self, told: Told, latency: float) -> None:
        """Tell one frame."""
        found = told.answer.result.probabilities is not None or told.shown or told.crossings or told.context.asks
        if (self._file is not None or self._emit is not None) and (found or not self._settings.only_found):
            line = {"source": self._source.name, **self._session.line(told, latency=latency)}
            if self._file is not None:
                self._file.write(line)
            if self._emit is not None:
                self._emit(line)
        if self._settings.overlay is not None:
            self._draw(self._settings.overlay, told)

    def _draw(self, path: Path, told: Told) -> None:
        if self._video is None:
            self._video = OverlayVideo(path, self._settings.overlay_rate or self._source.rate)
            self._stack.callback(self._video.close)
        session = self._session
        picture = Picture(
            told.answer.result,
            told.things,
            told.shown,
            session.package.classes,
            told.tracks,
            session.counters,
            f"{told.frame.name}{'  ask a person' if told.context.asks else ''}",
        )
        self._video.write(draw(told.frame.pixels, picture))


class _Ended:
    """Why a run ends."""

    def __init__(self) -> None:
        self.why = "source"


@contextmanager
def _signals(pipeline: Pipeline, ended: _Ended) -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM stop the pipeline; a second one raises KeyboardInterrupt."""

    def stop(number: int, frame: object) -> None:
        if ended.why == "signal":
            raise KeyboardInterrupt
        ended.why = "signal"
        pipeline.request_stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What whoever started us wants ignored, as nohup and background jobs do, stays ignored.
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextmanager
def _timer(seconds: float | None, pipeline: Pipeline, ended: _Ended) -> Iterator[None]:
    """Stops the pipeline after a time, counted from the beginning of the block."""
    if seconds is None:
        yield
        return

    def stop() -> None:
        ended.why = "seconds"
        pipeline.request_stop()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_up(pipeline: Pipeline) -> Callable[[str, float], None]:
    """What is done when a stage hangs: the run fails; where it is the last one, which runs here, the process ends."""

    def act(stage: str, seconds: float) -> None:
        error = stalled(stage, seconds)
        if stage != "finish":
            pipeline.fail(error)
            return
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(UnavailableError.exit_code)

    return act
