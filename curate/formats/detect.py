"""Telling which format a file or folder is in: every format is asked, and the surest is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from curate.errors import FormatError
from curate.formats.archives import kind_of_name
from curate.formats.base import Detection, Format
from curate.formats.files import peek_files, shared_peeks
from curate.formats.registry import FORMATS

MIN_CONFIDENCE: Final = 0.3
"""A claim that is less sure than this is no claim."""

MIN_LEAD: Final = 0.05
"""How much surer than the next the surest must be."""

_MOST_TOLD: Final = 5


def detect_format(source: Path) -> tuple[Format, Detection]:
    """Ask every registered format whether a file or folder is its own.

    Args:
        source: File or folder.

    Returns:
        The format that is surest, and what it saw.

    Raises:
        FormatError: None is sure enough, or two are as sure as each other; says what each saw.
    """
    claims, failures = _ask(source)
    if not claims or claims[0][1].confidence <= MIN_CONFIDENCE:
        seen = "; ".join(["no format recognises this", *map(_told, claims[:_MOST_TOLD]), *failures])
        packed = next(filter(kind_of_name, peek_files(source)), None)
        unpack = f"import {packed} by itself, or unpack it; or " if packed else ""
        remedy = f"{unpack}say which it is with --format, one of: {', '.join(FORMATS.names())}"
        raise FormatError(seen, where=source, remedy=remedy)
    best = claims[0]
    rivals = [claim for claim in claims if best[1].confidence - claim[1].confidence < MIN_LEAD]
    if len(rivals) > 1:
        names = " or ".join(known.name for known, _ in rivals)
        seen = "; ".join(map(_told, rivals))
        raise FormatError(f"this may be {names}: {seen}", where=source, remedy=f"say --format {names}")
    return best


def surest_claim(source: Path) -> str | None:
    """Name of the format that is surest that a file is its own; None if no format is sure enough."""
    claims, _ = _ask(source)
    return claims[0][0].name if claims and claims[0][1].confidence > MIN_CONFIDENCE else None


def _ask(source: Path) -> tuple[list[tuple[Format, Detection]], list[str]]:
    """What each format claims, the surest first; and which failed to look, a plugin for one: the others are still asked."""
    claims, failures = [], []
    with shared_peeks():
        for name in FORMATS.names():
            try:
                candidate = FORMATS.get(name)
                claim = candidate.detect(source)
            except Exception as error:  # a plugin may raise anything
                failures.append(f"{name} failed to look: {error!r}")
                continue
            if claim is not None:
                claims.append((candidate, claim))
    return sorted(claims, key=lambda entry: -entry[1].confidence), failures


def _told(entry: tuple[Format, Detection]) -> str:
    known, claim = entry
    return f"{known.name} ({claim.confidence:.0%}): {claim.reason}"
