"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
        reconnects: How often the source was opened again.
        seconds: That it took.
        latency_ms: From a frame's arrival to its line: median, and what 95 and 99 of 100 frames stay below.
        stages: Seconds that each stage has worked.
        things: Counted on lines and in zones.
        asked: Frames that a person should look at.
        heavy: Frames that a cascade gave to its heavy package.
        agreement: Of two packages, the mean; None where there is one.
        harvest: What became of hard frames, as `curate.edge.runtime.keeper.Tally` tells it; None where none are kept.
        ended: 'source' where it ended, 'limit', or 'signal'.
    """

    source: str
    package: str
    offered: int
    skipped: int
    lost: int
    abandoned: int
    processed: int
    unreadable: int
    reconnects: int
    seconds: float
    latency_ms: dict[str, float | None]
    stages: dict[str, float]
    things: dict[str, dict[str, object]]
    asked: int
    heavy: int
    agreement: float | None
    harvest: dict[str, Any] | None
    ended: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"kind": "summary", **vars(self)}
