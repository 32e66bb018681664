"""What a run hands on of every finished frame: to a keeper, which decides which frames are worth a person's time.

The runtime knows nothing of how frames are kept; `curate.edge.harvest` has a keeper that keeps the hard ones on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from curate.edge.runner import Result
from curate.imaging import Pixels


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
