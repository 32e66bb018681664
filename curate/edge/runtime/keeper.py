"""What a run hands on of every finished frame: to a keeper, which decides which frames are worth a person's time.

The runtime knows nothing of how frames are kept; `curate.edge.harvest` has a keeper that keeps the hard ones on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from curate.imaging import Pixels
from curate.runner import Result


@dataclass(frozen=True)
class FrameContext:
    """What is known of a finished frame besides its pixels and the model's result.

    Attributes:
        source: Where it came from, without any password.
        name: What the frame is called within the source: a file's location, or `frame_000123`.
        number: Its place in the source, from 0; frames that were lost or left out are counted.
        seconds: Its time from the start of the source; None where nothing tells.
        time: When it was taken, in seconds since 1970; for files, when it was read.
        package: The package whose result it is, name and version: `bolts-1.2.0`.
        uncertainty: Of the result, 0 to 1.
        asks: Whether a confidence lies in the band in which a person is to be asked.
        drift: In [0, 1): the part of the training images that look less unusual; None where it was not measured.
        other: What the second package says of the frame; None where there is none.
        other_package: Which one that is.
        agreement: Of both results, 0 to 1; None where there is one.
    """

    source: str
    name: str
    number: int
    seconds: float | None
    time: float
    package: str
    uncertainty: float
    asks: bool = False
    drift: float | None = None
    other: Result | None = None
    other_package: str | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Tally:
    """What became of the frames that a keeper was offered. hard = kept + skipped + failed, and what is still being written.

    Attributes:
        hard: Those with a reason to be kept.
        kept: By the strongest of their reasons.
        skipped: By why they were not kept.
        failed: Could not be written.
        evicted: Kept before, in this run or an earlier one, and gone to make room.
    """

    hard: int = 0
    kept: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    evicted: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "hard": self.hard,
            "kept": sum(self.kept.values()),
            "why": dict(self.kept),
            "skipped": dict(self.skipped),
            "failed": self.failed,
            "evicted": self.evicted,
        }


class Keeper(Protocol):
    """Takes finished frames, one after another, from one thread. It must not hold them up for long, nor keep references."""

    def offer(self, pixels: Pixels, result: Result, context: FrameContext) -> None:
        """Look at a frame, and keep it or not.

        Args:
            pixels: uint8 RGB of shape (height, width, 3).
            result: What the model says of it.
            context: What else is known.
        """
        ...

    def settle(self) -> None:
        """No more frames come: have those that are on their way kept, so that `tally` is final."""
        ...

    def tally(self) -> Tally:
        """What became of the frames so far; any thread may ask."""
        ...
