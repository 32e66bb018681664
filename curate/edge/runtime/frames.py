"""A frame on its way through a run, and what can be told of where frames come from."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final, Protocol

from curate.imaging import Pixels

NAMES: Final = 20
"""So many names of what cannot be decoded are remembered."""


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    Attributes:
        number: Its place in the source, from 0, counting every frame that the source gave.
        name: What it is called within the source.
        seconds: From the start of the source: a video's own time, or a live source's time of arrival; None for images.
        taken: When it came, in seconds since 1970.
        arrived: The same by the monotonic clock, from which latency is measured.
        pixels: uint8 RGB of shape (height, width, 3).
    """

    number: int
    name: str
    seconds: float | None
    taken: float
    arrived: float
    pixels: Pixels


@dataclass
class SourceCounts:
    """What a source has gone through so far; its thread alone writes it.

    Attributes:
        offered: Frames that came.
        skipped: Of these, the ones that sampling left out.
        unreadable: Images that could not be decoded; no frames.
        reconnects: How often a live source was opened again.
        unreadable_names: The first of those that could not be decoded.
    """

    offered: int = 0
    skipped: int = 0
    unreadable: int = 0
    reconnects: int = 0
    unreadable_names: list[str] = field(default_factory=list)

    def leave_out(self, name: str) -> None:
        """Count what could not be decoded."""
        self.unreadable += 1
        if len(self.unreadable_names) < NAMES:
            self.unreadable_names.append(name)


class Beat(Protocol):
    """A sign of life."""

    def __call__(self, ahead: float = 0.0) -> None:
        """Give it; what comes now may take so many seconds more than other work, for it ends by itself."""
        ...


class Source(Protocol):
    """Where frames come from.

    Attributes:
        name: As it is told to people: a path or an address, without a password.
        is_live: Whether frames come in their own time, so that what is not taken at once is lost. Frames of files wait.
        rate: Frames a second that it says it gives; None where it does not, or is not open yet.
        counts: What it has gone through.
    """

    name: str
    is_live: bool
    rate: float | None
    counts: SourceCounts

    def frames(self, beat: Beat) -> Generator[Frame, None, None]:
        """The frames to be looked at, in order. Ends with the source, or soon after `stop`.

        Args:
            beat: Called at every sign of life, so that a wait for frames is told from a thread that hangs.
        """
        ...

    def stop(self) -> None:
        """Ask `frames` to end; may be called from any thread."""
        ...
