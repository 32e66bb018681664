"""What a run counts of itself: for Prometheus while it goes, and as a summary at the end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from curate.edge.runtime.counters import ZoneCounter, counts_json
from curate.edge.runtime.frames import Source
from curate.edge.runtime.keeper import Keeper, Tally
from curate.edge.runtime.metrics import Histogram, Metrics
from curate.edge.runtime.pipeline import Pipeline
from curate.edge.runtime.session import Session, Told
from curate.edge.runtime.summary import Answered, Summary
from curate.wording import counted

_COUNTERS: Final = {
    "frames_offered_total": "Frames that the source gave.",
    "frames_skipped_total": "Frames that sampling left out.",
    "frames_lost_total": "Frames of a live source that were dropped because others came.",
    "frames_processed_total": "Frames that were answered.",
    "frames_unreadable_total": "Images or frames that could not be decoded.",
    "source_reconnects_total": "How often a live source was opened again.",
    "stage_seconds_total": "Seconds that each stage has worked.",
    "things_total": "Things that count, by class; of classifiers, frames.",
    "asked_total": "Frames that a person should look at.",
    "heavy_total": "Frames that a cascade gave to its heavy package.",
    "crossings_total": "Ways across lines, and in and out of zones.",
}
_HARVEST: Final = {
    "harvest_hard_total": "Frames with a reason to be kept.",
    "harvest_kept_total": "Frames that were kept, by the strongest reason.",
    "harvest_skipped_total": "Hard frames that were not kept, by why not.",
    "harvest_failed_total": "Hard frames that could not be written.",
    "harvest_evicted_total": "Frames that were kept, and went to make room.",
}
_GAUGES: Final = {
    "frames_waiting": "Frames that wait before the first stage.",
    "zone_things": "Things in a zone now.",
    "drift": "How unlike the training images frames are, 0 to 1: smoothed over some hundred frames.",
    "uncertainty": "How unsure the model is, 0 to 1: smoothed alike.",
    "agreement": "Of two packages, 0 to 1: smoothed alike.",
    "resident_bytes": "Memory of the process.",
    "last_frame_timestamp_seconds": "When the last finished frame was taken.",
}
_FINE: Final = tuple(0.0005 * 1.04**step for step in range(300))  # 0.5 ms to a minute, 4 % apart
_SMOOTH: Final = 0.01
_FIRST_FRAME: Final = 10.0


class Gauges:
    """Counts what happens.

    Args:
        pipeline: Of the run.
        source: Of the frames.
        session: That finishes them.
        stall: Seconds without a frame after which a live run is not healthy, once it has begun.
        keeper: That gets them.
    """

    def __init__(
        self, pipeline: Pipeline, source: Source, session: Session, *, stall: float, keeper: Keeper | None = None
    ) -> None:
        self._pipeline, self._source, self._session, self._stall = pipeline, source, session, stall
        self._keeper = keeper
        self._metrics = Metrics()
        self._metrics.describe("counter", _COUNTERS if keeper is None else _COUNTERS | _HARVEST)
        self._metrics.describe("gauge", _GAUGES)
        self._latency = self._metrics.histogram("latency_seconds", "From a frame's arrival until it was told.")
        self._fine = Histogram(_FINE)
        self._began = self._last = time.monotonic()
        self._smooth: dict[str, float] = {}
        self._asked = self._heavy = self._pairs = 0
        self._agreed = 0.0
        self._answered: dict[str, Answered] = {}
        self._found: dict[str, int] = {}

    def observe(self, told: Told, latency: float) -> None:
        """Take in a finished frame; latency in seconds."""
        metrics, context, classes = self._metrics, told.context, self._session.package.classes
        self._last = time.monotonic()
        self._latency.observe(latency)
        self._fine.observe(latency)
        found = [classes[told.things.labels[row]] for row in told.shown]
        if told.answer.result.probabilities is not None:
            found.append(classes[int(told.answer.result.probabilities.argmax())])
        for label in found:
            metrics.add("things_total", label=label)
            self._found[label] = self._found.get(label, 0) + 1
        for crossing in told.crossings:
            label = classes[crossing.label]
            metrics.add("crossings_total", where=crossing.where, way=crossing.way, label=label)
        self._asked += context.asks
        self._heavy += told.answer.is_heavy
        self._answered.setdefault(context.package, Answered()).add(context)
        if context.agreement is not None:
            self._pairs += 1
            self._agreed += context.agreement
        metrics.set("last_frame_timestamp_seconds", context.time)
        values = {"drift": context.drift, "uncertainty": context.uncertainty, "agreement": context.agreement}
        for name, value in values.items():
            if value is not None:
                before = self._smooth.get(name, value)
                self._smooth[name] = before + _SMOOTH * (value - before)
                metrics.set(name, self._smooth[name])

    def render(self) -> str:
        """For Prometheus."""
        metrics, counts, pipeline = self._metrics, self._source.counts, self._pipeline
        totals = {
            "frames_offered_total": counts.offered,
            "frames_skipped_total": counts.skipped,
            "frames_lost_total": pipeline.lost,
            "frames_processed_total": pipeline.delivered,
            "frames_unreadable_total": counts.unreadable,
            "source_reconnects_total": counts.reconnects,
            "asked_total": self._asked,
            "heavy_total": self._heavy,
            "frames_waiting": pipeline.waiting,
        }
        for name, value in totals.items():
            metrics.set(name, value)
        for clock in pipeline.clocks.values():
            metrics.set("stage_seconds_total", round(clock.seconds, 6), stage=clock.name)
        for counter in self._session.counters.values():
            if isinstance(counter, ZoneCounter):
                metrics.set("zone_things", counter.occupancy, where=counter.name)
        if (resident := resident_bytes()) is not None:
            metrics.set("resident_bytes", resident)
        if self._keeper is not None:
            self._set_harvest(self._keeper.tally())
        return metrics.render()

    def _set_harvest(self, tally: Tally) -> None:
        for name, value in {"hard": tally.hard, "failed": tally.failed, "evicted": tally.evicted}.items():
            self._metrics.set(f"harvest_{name}_total", value)
        for reason, count in tally.kept.items():
            self._metrics.set("harvest_kept_total", count, reason=reason)
        for why, count in tally.skipped.items():
            self._metrics.set("harvest_skipped_total", count, why=why)

    def healthy(self) -> bool:
        """Whether frames come."""
        return time.monotonic() - self._last < max(self._stall, _FIRST_FRAME)

    def progress(self) -> str:
        """A line for people."""
        seconds, done = time.monotonic() - self._began, self._pipeline.delivered
        lost = f", {counted(self._pipeline.lost, 'frames')} lost" if self._source.is_live else ""
        return f"{counted(done, 'frames')}, {done / seconds:,.1f}/s{lost}"

    def summary(self, ended: str) -> Summary:
        """What the run came to."""
        counts, pipeline, session = self._source.counts, self._pipeline, self._session
        parts = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        latencies = {name: self._fine.quantile(part) for name, part in parts.items()}
        return Summary(
            source=self._source.name,
            package=session.package.id,
            offered=counts.offered,
            skipped=counts.skipped,
            lost=pipeline.lost,
            abandoned=counts.offered - counts.skipped - pipeline.lost - pipeline.delivered,
            processed=pipeline.delivered,
            unreadable=counts.unreadable,
            unreadable_names=list(counts.unreadable_names),
            reconnects=counts.reconnects,
            seconds=round(time.monotonic() - self._began, 3),
            latency_ms={name: None if value is None else round(1000 * value, 3) for name, value in latencies.items()},
            stages={clock.name: round(clock.seconds, 3) for clock in pipeline.clocks.values()},
            found={name: self._found[name] for name in session.package.classes if name in self._found},
            things=counts_json(session.counters, session.package.classes),
            asked=self._asked,
            heavy=self._heavy,
            answered={package: each.to_json() for package, each in self._answered.items()},
            agreement=round(self._agreed / self._pairs, 6) if self._pairs else None,
            harvest=None if self._keeper is None else self._keeper.tally().to_json(),
            ended=ended,
        )


def resident_bytes() -> int | None:
    """Memory of this process that is in use; None where the system does not say it this way."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
