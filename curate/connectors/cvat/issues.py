"""Findings as review issues: opened once, at the place on the frame, and known again by a marker in their message.

A job that gets issues is set to the stage of validation, where CVAT's editor shows them to whoever reviews it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from curate.connectors.base import Note
from curate.connectors.cvat.jobs import Job
from curate.connectors.cvat.server import Server
from curate.formats.values import mapping, numbers, sequence, text

_MARKER: Final = re.compile(r"\[curate ([0-9a-f]{16})\]")
_REVIEW: Final = ("validation", "new")


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


@dataclass(frozen=True)
class PlacedNote:
    """A finding and where it is shown.

    Attributes:
        note: The finding.
        frame: The frame.
        bbox: [x, y, width, height] of the place on the frame; None for all of it.
        size: Width and height of the image.
    """

    note: Note
    frame: int
    bbox: Sequence[float] | None
    size: tuple[int, int] | None


def open_issues(server: Server, job: Job, notes: Sequence[PlacedNote]) -> None:
    """Open the issues of a job that are not there yet, and hand the job to those who look at it again."""
    known = {issue.finding for issue in read_issues(server, job.id)} if notes else set()
    missing = [placed for placed in notes if placed.note.finding.id not in known]
    if missing and (job.stage, job.state) != _REVIEW:
        stage, state = _REVIEW
        server.http.request("PATCH", f"/api/jobs/{job.id}", None, {"stage": stage, "state": state})
    for placed in missing:
        _open_issue(server, job.id, placed)


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


def _open_issue(server: Server, job: int, placed: PlacedNote) -> None:
    finding = placed.note.finding

    def find() -> Mapping[str, Any] | None:
        return next((vars(each) for each in read_issues(server, job) if each.finding == finding.id), None)

    x, y, width, height = placed.bbox or (0, 0, *(placed.size or (1, 1)))
    body = {
        "job": job,
        "frame": placed.frame,
        "position": [float(x), float(y), float(x + width), float(y + height)],
        "message": f"{placed.note.text}\n\n[curate {finding.id}]",
    }
    server.http.create("/api/issues", find=find, made=mapping, query=server.organization, body=body)
