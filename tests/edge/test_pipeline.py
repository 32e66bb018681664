"""Stages side by side: order, batches, lost frames, errors, ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curate.edge.runtime.answers import Answer
from curate.edge.runtime.channels import Channel
from curate.edge.runtime.frames import Frame, SourceCounts
from curate.edge.runtime.pipeline import Pipeline
from curate.errors import InputError
from curate.runner import Result, Runner

BLANK = np.zeros((4, 4, 3), np.uint8)


class Numbers:
    """A source of so many frames; a live one offers them without waiting."""

    rate: float | None = None

    def __init__(self, count: int, *, live: bool = False, pause: float = 0.0, fails_at: int | None = None) -> None:
        self.name, self.is_live, self.counts = "numbers", live, SourceCounts()
        self._count, self._pause, self._fails_at = count, pause, fails_at
        self.stopped = False

    def frames(self, beat: Callable[[], None]) -> Generator[Frame, None, None]:
        for number in range(self._count):
            if self.stopped:
                return
            if number == self._fails_at:
                raise InputError("the source broke")
            time.sleep(self._pause)
            self.counts.offered += 1
            yield Frame(number, str(number), None, 0.0, time.monotonic(), BLANK)

    def stop(self) -> None:
        self.stopped = True


class Slow:
    """A model that remembers its batches."""

    package: Any = SimpleNamespace()
    runners: tuple[Runner, ...] = ()

    def __init__(self, pause: float = 0.0, fails_at: int | None = None) -> None:
        self._pause, self._fails_at = pause, fails_at
        self.batches: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def prepare(self, pixels: Any) -> Any:
        return pixels

    def answer(self, prepared: Sequence[Any]) -> list[Answer]:
        self.go.wait(10)
        time.sleep(self._pause)
        self.batches.append(len(prepared))
        if self._fails_at is not None and sum(self.batches) > self._fails_at:
            raise InputError("the model broke")
        return [Answer(Result("detect", (4, 4)), self.package) for _ in prepared]


def numbers(pipeline: Pipeline) -> list[int]:
    return [done.frame.number for done in pipeline.finished()]


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_frames_of_files_all_come_out_in_order(batch: int) -> None:
    source, model = Numbers(50), Slow()

    assert numbers(Pipeline(source, model, batch=batch, waiting=3)) == list(range(50))
    assert all(size == batch for size in model.batches[:-1])
    assert sum(model.batches) == 50


def test_stages_overlap() -> None:
    source, model = Numbers(10, pause=0.05), Slow(pause=0.05)
    begun = time.monotonic()

    pipeline = Pipeline(source, model)
    numbers(pipeline)

    busy = sum(clock.seconds for clock in pipeline.clocks.values())
    assert busy > 0.95
    assert time.monotonic() - begun < busy


def test_a_live_source_is_never_held_up_and_every_lost_frame_is_counted() -> None:
    source, model = Numbers(300, live=True, pause=0.0005), Slow(pause=0.01)
    pipeline = Pipeline(source, model, waiting=2)

    found = numbers(pipeline)

    assert found == sorted(found)
    assert found[-1] == 299  # the newest is never what is dropped
    assert source.counts.offered == 300
    assert pipeline.lost > 0
    assert pipeline.lost == 300 - len(found)


def test_a_live_frame_waits_for_a_few_others_only() -> None:
    source, model = Numbers(100, live=True, pause=0.001), Slow(pause=0.02)
    pipeline = Pipeline(source, model, waiting=1)

    offered = [source.counts.offered - done.frame.number for done in pipeline.finished()]

    assert pipeline.lost > 50
    assert max(np.diff(offered[2:-4])) < 60  # it does not fall further and further behind


def test_a_live_batch_takes_what_is_there() -> None:
    source, model = Numbers(40, live=True, pause=0.01), Slow()

    numbers(Pipeline(source, model, batch=8, waiting=8))

    assert min(model.batches) < 8


def test_the_source_is_held_up_by_files() -> None:
    source, model = Numbers(200), Slow()
    model.go.clear()
    pipeline = Pipeline(source, model, waiting=4)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(numbers(pipeline)))

    thread.start()
    time.sleep(0.3)
    held = source.counts.offered
    model.go.set()
    thread.join()

    assert held <= 4 + 4  # waiting, being put, prepared, in the model
    assert len(found) == 200


def test_what_is_answered_comes_out_before_an_error() -> None:
    found: list[int] = []
    pipeline = Pipeline(Numbers(20, fails_at=5), Slow())

    with pytest.raises(InputError, match="the source broke"):
        found.extend(done.frame.number for done in pipeline.finished())

    assert found == sorted(found)
    assert set(found) <= set(range(5))


def test_an_error_in_a_model_ends_the_run() -> None:
    source = Numbers(10_000)

    with pytest.raises(InputError, match="the model broke"):
        numbers(Pipeline(source, Slow(fails_at=7)))

    assert source.stopped
    assert source.counts.offered < 100


def test_a_stop_finishes_what_is_on_its_way() -> None:
    source, model = Numbers(10_000), Slow()
    pipeline = Pipeline(source, model, waiting=3)
    found = []
    for done in pipeline.finished():
        found.append(done.frame.number)
        if done.frame.number == 20:
            pipeline.request_stop()

    assert found == list(range(len(found)))
    assert 21 <= len(found) < 40
    assert source.counts.offered - len(found) <= 1  # one may have been in the source's hands


def test_leaving_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    for _ in Pipeline(Numbers(10_000), Slow()).finished():
        break

    time.sleep(0.05)
    assert threading.active_count() == before


def test_so_many_frames_and_no_more() -> None:
    source = Numbers(100)

    assert numbers(Pipeline(source, Slow(), most=7)) == list(range(7))
    assert source.counts.offered == 7


@pytest.mark.parametrize("batch", [1, 4])
def test_frames_of_a_live_source_count_when_they_come_out(batch: int) -> None:
    source, model = Numbers(5000, live=True, pause=0.0005), Slow(pause=0.01)
    pipeline = Pipeline(source, model, batch=batch, most=6)

    found = numbers(pipeline)

    assert len(found) == pipeline.delivered == 6
    assert pipeline.is_complete
    assert source.counts.offered > 6  # some were lost while the model was busy
    assert source.stopped


def test_a_channel_drops_the_oldest() -> None:
    channel: Channel[int] = Channel(2, drops_oldest=True)
    for number in range(5):
        assert channel.put(number)

    assert channel.take(5) == [3, 4]
    assert channel.dropped == 3


def test_a_closed_channel_takes_nothing_more_and_gives_what_it_has() -> None:
    channel: Channel[int] = Channel(4)
    channel.put(1)
    channel.close()

    assert not channel.put(2)
    assert channel.take(4, fills=True) == [1]
    assert channel.is_done
    assert channel.take(1) == []


def test_a_channel_waits_no_longer_than_it_is_told() -> None:
    channel: Channel[int] = Channel(1)

    assert channel.take(1, timeout=0.01) == []
    assert not channel.is_done


def test_a_full_channel_holds_up_who_puts() -> None:
    channel: Channel[int] = Channel(1)
    channel.put(1)
    thread = threading.Thread(target=channel.put, args=(2,))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()

    assert channel.take(1) == [1]
    thread.join()
    assert channel.take(1) == [2]
