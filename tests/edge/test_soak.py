"""Days in small: twenty thousand frames at full rate, with everything switched on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

from curate.edge.runtime.answers import Single, open_runner
from curate.edge.runtime.counters import Shape
from curate.edge.runtime.frames import Frame, SourceCounts
from curate.edge.runtime.gauges import resident_bytes
from curate.edge.runtime.run import Settings, run
from curate.edge.runtime.session import Wanted
from curate.edge.runtime.things import Band
from curate.edge.runtime.tracker import TrackerSettings
from tests.edge.tiny import detector, frame

FRAMES = 20_000
WARM = 4_000
ALLOWED = 8_000_000
"""Bytes that memory may grow by between frames 4,000 and 20,000: half a kilobyte a frame, less than one line of output takes."""


class Endless:
    """Three things that come and go, in new frames; remembers the memory."""

    rate: float | None = None

    def __init__(self, *, live: bool) -> None:
        self.name, self.is_live, self.counts = "endless", live, SourceCounts()
        self.memory: list[int] = []
        self._stopped = False

    def frames(self, beat: Callable[[], None]) -> Generator[Frame, None, None]:
        for number in range(FRAMES):
            if self._stopped:
                return
            beat()
            step = number % 70
            pixels = frame((step, 16), (70 - step, 48), (32, step) if number % 3 else None)
            if number in (WARM, FRAMES - 1):
                self.memory.append(resident_bytes() or 0)
            if self.is_live and number % 2:
                time.sleep(0.0005)
            self.counts.offered += 1
            yield Frame(number, f"frame_{number:06d}", number / 30, time.time(), time.monotonic(), pixels)

    def stop(self) -> None:
        self._stopped = True


@pytest.mark.slow
@pytest.mark.parametrize("live", [False, True])
def test_memory_is_flat_and_every_lost_frame_is_counted(tmp_path: Path, live: bool) -> None:
    source = Endless(live=live)
    lines: list[int] = []
    settings = Settings(
        wanted=Wanted(
            tracker=TrackerSettings(),
            lines=[Shape.parse("mid=50%,0,50%,100%", "--line")],
            zones=[Shape.parse("left=0,0,50%,0,50%,100%,0,100%", "--zone")],
            band=Band(0.3, 0.6),
        ),
        output=tmp_path / "out.jsonl",
        output_limit=1_000_000,
        metrics="0",
    )

    model = Single(open_runner(str(detector(tmp_path / "p"))))
    summary = run(
        model, source, settings, emit=lambda line: lines.append(line["frame"]) if len(lines) < 10**6 else None
    )

    if source.memory[0]:
        assert source.memory[1] - source.memory[0] < ALLOWED
    assert summary.offered == FRAMES
    assert summary.processed == len(lines)
    assert summary.lost == FRAMES - len(lines)
    assert summary.abandoned == 0
    assert summary.lost == 0 or live
    assert np.all(np.diff(lines) > 0)
    kept = [path.stat().st_size for path in tmp_path.glob("out.jsonl*")]
    assert sum(kept) <= 2_000_000
    assert all(json.loads(line)["kind"] == "frame" for line in (tmp_path / "out.jsonl").read_text().splitlines())
