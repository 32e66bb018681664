"""Telling which format a file or folder is in: every format is asked, and the surest is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from curate.errors import FormatError
from curate.formats.base import Detection, Format
from curate.formats.registry import FORMATS

MIN_CONFIDENCE: Final = 0.3
"""A claim that is less sure than this is no claim."""

MIN_LEAD: Final = 0.05
"""How much surer than the next the surest must be."""


def detect_format(source: Path) -> tuple[Format, Detection]:
    """Ask every registered format whether a file or folder is its own.

    Args:
        source: File or folder.

    Returns:
        The format that is surest, and what it saw.

    Raises:
        FormatError: None is sure enough, or two are as sure as each other; says what each saw.
    """
    claims = [(candidate, claim) for _, candidate in FORMATS if (claim := candidate.detect(source)) is not None]
    claims.sort(key=lambda entry: -entry[1].confidence)
    seen = "; ".join(f"{known.name} ({claim.confidence:.0%}): {claim.reason}" for known, claim in claims)
    sure = [entry for entry in claims if entry[1].confidence > MIN_CONFIDENCE]
    names = ", ".join(FORMATS.names())
    if not sure:
        what = f"no format recognises this; {seen}" if seen else "no format recognises this"
        raise FormatError(what, where=source, remedy=f"say which it is with --format, one of: {names}")
    best = sure[0]
    rivals = [known.name for known, claim in sure if best[1].confidence - claim.confidence < MIN_LEAD]
    if len(rivals) > 1:
        raise FormatError(
            f"this may be {' or '.join(rivals)}: {seen}", where=source, remedy=f"say --format {' or '.join(rivals)}"
        )
    return best
