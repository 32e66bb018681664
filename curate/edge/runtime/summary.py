"""What a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.edge.runtime.keeper import FrameContext


@dataclass
class Answered:
    """The frames that one package has answered.

    Attributes:
        frames: How many.
        asked: Of these, the ones that a person should look at.
        uncertainty: Sum of theirs.
        drifts: Frames whose drift was measured.
        drift: Sum of theirs.
    """

    frames: int = 0
    asked: int = 0
    uncertainty: float = 0.0
    drifts: int = 0
    drift: float = 0.0

    def add(self, context: FrameContext) -> None:
        """Count one more."""
        self.frames += 1
        self.asked += context.asks
        self.uncertainty += context.uncertainty
        if context.drift is not None:
            self.drifts += 1
            self.drift += context.drift

    def to_json(self) -> dict[str, float | None]:
        """Frames, those asked about, and means; None where there is nothing to take one of."""
        uncertainty = round(self.uncertainty / self.frames, 6) if self.frames else None
        drift = round(self.drift / self.drifts, 6) if self.drifts else None
        return {"frames": self.frames, "asked": self.asked, "uncertainty": uncertainty, "drift": drift}


@dataclass(frozen=True)
class Summary:
    """What a run came to. offered = skipped + lost + abandoned + processed.

    Attributes:
        source: Its name.
        package: The one that names classes.
        offered: Frames that came.
        skipped: Of these, left out by sampling.
        lost: Dropped because others came; of live sources only.
        abandoned: On their way when the run was ended.
        processed: Answered and told.
        unreadable: Images or frames that could not be decoded; not among those offered.
        unreadable_names: The first of these.
        reconnects: How often the source was opened again.
        seconds: That it took.
        latency_ms: From a frame's arrival to its line: median, and what 95 and 99 of 100 frames stay below.
        stages: Seconds that each stage has worked.
        found: Things on all frames, by class; of a classifier, frames. What is on ten frames is found ten times.
        things: Counted on lines and in zones.
        asked: Frames that a person should look at.
        heavy: Frames that a cascade gave to its heavy package.
        answered: Of each package, the frames whose answer is its own, of these the ones that a person should look at, and
            their mean uncertainty and drift, as `Answered.to_json` tells them.
        agreement: Of two packages, the mean; None where there is one.
        harvest: What became of hard frames, as `curate.edge.runtime.keeper.Tally` tells it; None where none are kept.
        ended: 'source' where it ended, 'frames' or 'seconds' where there were as many as wanted, or 'signal'.
    """

    source: str
    package: str
    offered: int
    skipped: int
    lost: int
    abandoned: int
    processed: int
    unreadable: int
    unreadable_names: list[str]
    reconnects: int
    seconds: float
    latency_ms: dict[str, float | None]
    stages: dict[str, float]
    found: dict[str, int]
    things: dict[str, dict[str, Any]]
    asked: int
    heavy: int
    answered: dict[str, dict[str, float | None]]
    agreement: float | None
    harvest: dict[str, Any] | None
    ended: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"kind": "summary", **vars(self)}

    def to_table(self) -> dict[str, Any]:
        """The same for people: with units, and without what there is none of."""
        latency = {name: f"{value:g} ms" for name, value in self.latency_ms.items() if value is not None}
        told = {
            **vars(self),
            "seconds": f"{self.seconds:g} s",
            "latency_ms": latency,
            "stages": {name: f"{seconds:g} s" for name, seconds in self.stages.items()},
            "things": "; ".join(f"{name}: {_counts(counts)}" for name, counts in self.things.items()),
            "answered": "; ".join(f"{name}: {_answers(each)}" for name, each in self.answered.items()),
        }
        names = {"latency_ms": "latency", "stages": "stages worked", "things": "lines and zones"}
        empty: tuple[object, ...] = (None, {}, [], "")
        return {names.get(key, key): value for key, value in told.items() if value not in empty}


def _answers(answered: Mapping[str, float | None]) -> str:
    """What a package has answered, in words."""
    parts = [f"{answered['frames']:,} frames", f"{answered['asked']:,} to be asked about"]
    return ", ".join(parts + [f"{name} {answered[name]:.3f}" for name in ("uncertainty", "drift") if answered[name]])


def _counts(counts: Mapping[str, Any]) -> str:
    """What a line or zone has counted, in words."""
    parts = [f"{counts['in']} in", f"{counts['out']} out"]
    if "now" in counts:
        parts.append(f"{counts['now']} now")
    if counts.get("mean_seconds") is not None:
        parts.append(f"{counts['mean_seconds']:g} s each on average")
    classes = ", ".join(f"{name} {each['in']} in {each['out']} out" for name, each in counts["by_class"].items())
    return ", ".join(parts) + (f" ({classes})" if classes else "")
