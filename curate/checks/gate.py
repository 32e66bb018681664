"""Gates for CI: which findings make a command fail (``--fail-on KIND[:SCORE]``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from curate.checks.findings import FLAGGED, KINDS, SETTLED, Finding
from curate.errors import UsageError


@dataclass(frozen=True)
class Gate:
    """Fails on findings of a kind with at least a score that nobody has rejected or fixed."""

    kind: str
    score: float


def parse_gates(texts: Iterable[str]) -> list[Gate]:
    """Parse `KIND` or `KIND:SCORE` each.

    Raises:
        UsageError: No such kind, or the score is not a number in [0, 1].
    """
    gates = []
    for text in texts:
        kind, _, number = text.partition(":")
        if kind not in KINDS:
            raise UsageError(
                f"there is no kind '{kind}'", where=f"--fail-on {text}", remedy=f"one of: {', '.join(KINDS)}"
            )
        try:
            score = float(number) if number else FLAGGED
        except ValueError:
            score = -1.0
        if not 0 <= score <= 1:
            raise UsageError(
                f"'{number}' is not a score from 0 to 1", where=f"--fail-on {text}", remedy=f"e.g. {kind}:0.8"
            )
        gates.append(Gate(kind, score))
    return gates


def failures(findings: Sequence[Finding], gates: Iterable[Gate]) -> list[str]:
    """One line for each gate that findings fail; empty if all pass."""
    lines = []
    for gate in gates:
        count = sum(
            finding.kind == gate.kind and finding.score >= gate.score and finding.status not in SETTLED
            for finding in findings
        )
        if count:
            lines.append(f"failed: {count:,} {gate.kind} with a score of at least {gate.score:g}")
    return lines
