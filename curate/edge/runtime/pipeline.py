"""Frames through a model, with reading, preparing and inference side by side.

Each stage is a thread, for decoding, scaling and inference let go of the interpreter lock; the last stage is whoever takes what
`Pipeline.finished` gives. Queues between them are bounded. Where frames wait to be taken, as those of files do, a full queue
holds up the source. A live source is never held up: its oldest waiting frame is dropped and counted, so a frame is never older
than what a few frames take.

    source -> [frames, drops if live] -> prepare -> [prepared] -> infer -> [answers] -> finished
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from curate.edge.runtime.answers import Answer, Model
from curate.edge.runtime.channels import Channel
from curate.edge.runtime.clocks import StageClock
from curate.edge.runtime.frames import Frame, Source
from curate.errors import UnavailableError, UsageError

_LOOK: Final = 0.5
_LEAVE: Final = 2.0  # seconds that a thread gets to end; one that waits for a dead camera is left behind


@dataclass(frozen=True)
class Finished:
    """A frame with what is said of it."""

    frame: Frame
    answer: Answer


class Pipeline:
    """Runs a model over a source.

    Args:
        source: Of the frames.
        model: What answers.
        batch: Frames that are given to the model at once; of a live source fewer, where fewer wait.
        waiting: Frames that may wait before the first stage.
        most: Frames that come out at the end; None for all. No more than that are taken of files, and of a live source as
            many as it takes, for it loses some.
    """

    def __init__(
        self, source: Source, model: Model, *, batch: int = 1, waiting: int = 2, most: int | None = None
    ) -> None:
        if batch < 1 or waiting < 1:
            raise UsageError("a batch and the frames that may wait are 1 or more", where="pipeline")
        self._source, self._model, self._batch, self._most = source, model, batch, most
        self._frames: Channel[Frame] = Channel(
            max(waiting, 1 if source.is_live else batch), drops_oldest=source.is_live
        )
        self._prepared: Channel[tuple[Frame, Any]] = Channel(batch)
        self._answers: Channel[Finished] = Channel(max(batch, 2))
        self.clocks = {name: StageClock(name) for name in ("read", "prepare", "infer", "finish")}
        self._failures: list[BaseException] = []
        self._stop_requested = False
        self._delivered = 0

    @property
    def lost(self) -> int:
        """Frames that were dropped so far because others came."""
        return self._frames.dropped

    @property
    def delivered(self) -> int:
        """Frames that came out at the end."""
        return self._delivered

    @property
    def is_complete(self) -> bool:
        """Whether as many frames came out as were wanted."""
        return self._most is not None and self._delivered >= self._most

    @property
    def waiting(self) -> int:
        """Frames that wait before the first stage."""
        return self._frames.waiting

    def request_stop(self) -> None:
        """Take no more frames; those on their way still come out. For any thread and for signal handlers: it locks nothing."""
        self._stop_requested = True

    def fail(self, error: BaseException) -> None:
        """End with an error: what is answered already comes out, and what is not is given up."""
        self._failures.append(error)
        self._source.stop()
        for channel in (self._frames, self._prepared, self._answers):
            channel.close()

    def finished(self) -> Iterator[Finished]:
        """Every frame with its answer, in order.

        Raises:
            CurateError: Whatever ended the source or a stage.
        """
        bodies = {"read": self._read, "prepare": self._prepare, "infer": self._infer}
        threads = [
            threading.Thread(target=self._guarded, args=(body,), name=name, daemon=True)
            for name, body in bodies.items()
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._answers.is_done:
                # A time limit, since a thread without one hears no signal on some systems.
                for done in self._answers.take(1, timeout=_LOOK):
                    self._delivered += 1
                    with self.clocks["finish"].working():
                        yield done
                    if self.is_complete:
                        return
                if self._stop_requested:
                    self._source.stop()
                    self._frames.close()
            if self._failures:
                raise self._failures[0]
        finally:
            self._source.stop()
            for channel in (self._frames, self._prepared, self._answers):
                channel.close()
                channel.clear()
            end = time.monotonic() + _LEAVE
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # it is raised again where somebody can see it
            self.fail(error)

    def _read(self) -> None:
        clock = self.clocks["read"]
        frames = self._source.frames(clock.beat)
        try:
            while self._most is None or self._source.is_live or clock.frames < self._most:
                with clock.working():
                    frame = next(frames, None)
                if frame is None or not self._frames.put(frame):
                    return
        finally:
            frames.close()
            self._frames.close()

    def _prepare(self) -> None:
        while not self._frames.is_done:
            for frame in self._frames.take(1):
                with self.clocks["prepare"].working():
                    ready = self._model.prepare(frame.pixels)
                self._prepared.put((frame, ready))
        self._prepared.close()

    def _infer(self) -> None:
        while not self._prepared.is_done:
            waiting = self._prepared.take(self._batch, fills=not self._source.is_live)
            if not waiting:
                continue
            with self.clocks["infer"].working(len(waiting)):
                answers = self._model.answer([ready for _, ready in waiting])
            for (frame, _), answer in zip(waiting, answers, strict=True):
                self._answers.put(Finished(frame, answer))
        self._answers.close()


def stalled(stage: str, seconds: float) -> UnavailableError:
    """What is told of a stage that hangs."""
    return UnavailableError(
        f"the stage '{stage}' has been at one frame for {seconds:.0f} s",
        where="watchdog",
        remedy="start it again (systemd does with Restart=on-failure); look at the camera, the model or the disk",
    )
