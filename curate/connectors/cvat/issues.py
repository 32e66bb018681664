"""Findings as review issues: opened once, at the place on the frame, and known again by a marker in their message."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from curate.connectors.base import Note
from curate.connectors.cvat.server import Server
from curate.formats.values import mapping, numbers, sequence, text

_MARKER: Final = re.compile(r"\[curate ([0-9a-f]{16})\]")


@dataclass(frozen=True)
class Issue:
    """A review issue.

    Attributes:
        id: The server's.
        frame: The frame it is on.
        resolved: Whether a person has settled it.
        messages: Its comments, the first first.
        position: Where on the frame, pixels.
    """

    id: int
    frame: int
    resolved: bool
    messages: Sequence[str]
    position: Sequence[float]

    @property
    def finding(self) -> str | None:
        """Id of the finding that curate opened it for."""
        match = _MARKER.search(self.messages[0]) if self.messages else None
        return match[1] if match else None

    def to_json(self) -> dict[str, Any]:
        """It as an image's metadata have it."""
        return {
            "id": self.id,
            "resolved": self.resolved,
            "position": list(self.position),
            "messages": list(self.messages),
        }


def read_issues(server: Server, job: int) -> list[Issue]:
    """The issues of a job, oldest first."""
    messages: dict[Any, list[str]] = {}
    for comment in server.pages("/api/comments", {"job_id": job}):
        messages.setdefault(comment.get("issue"), []).append(text(comment.get("message")))
    return [
        Issue(
            each["id"],
            each["frame"],
            each.get("resolved") is True,
            messages.get(each["id"], []),
            numbers(sequence(each.get("position"))) or [],
        )
        for each in server.pages("/api/issues", {"job_id": job})
        if isinstance(each.get("id"), int) and isinstance(each.get("frame"), int)
    ]


def open_issue(
    server: Server, job: int, frame: int, note: Note, bbox: Sequence[float] | None, size: tuple[int, int] | None
) -> None:
    """Open an issue for a finding, which has none yet.

    Args:
        server: The server.
        job: The job that the frame is in.
        frame: The frame.
        note: The finding.
        bbox: [x, y, width, height] of the place on the frame; None for all of it.
        size: Width and height of the image.
    """

    def find() -> Mapping[str, Any] | None:
        return next((vars(each) for each in read_issues(server, job) if each.finding == note.finding.id), None)

    x, y, width, height = bbox or (0, 0, *(size or (1, 1)))
    body = {
        "job": job,
        "frame": frame,
        "position": [float(x), float(y), float(x + width), float(y + height)],
        "message": f"{note.text}\n\n[curate {note.finding.id}]",
    }
    server.http.create("/api/issues", find=find, made=mapping, query=server.organization, body=body)
