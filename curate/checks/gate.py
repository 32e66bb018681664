"""Gates for CI: what makes a command fail (``--fail-on KIND[:SCORE]``, ``--fail-on shifted[:P]``).

Most kinds are decided on finding by finding, by their scores. Whether data has shifted is one question to all of it, which a
test answers: there the limit is a p-value, in every command.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from curate.checks.findings import FLAGGED, KINDS, SETTLED, Finding
from curate.errors import UsageError

TESTED: Final = "shifted"
"""The kind that a test decides on."""

SIGNIFICANT: Final = 0.05
"""Its limit where none is given."""

LEAST_P: Final = 0.001
"""No p-value of a comparison is lower: it is counted among 999 permutations and the data as they are."""


@dataclass(frozen=True)
class Gate:
    """Fails on findings of a kind with at least a score that nobody has rejected or fixed, or on a small p-value.

    Attributes:
        kind: One of `curate.checks.findings.KINDS`.
        limit: The lowest score that fails; of the kind `TESTED`, the highest p-value that does.
        where: Where it was asked for, for errors: an option or a file.
    """

    kind: str
    limit: float
    where: str = field(default="--fail-on", compare=False)


def parse_gates(texts: Iterable[str], *, where: str = "--fail-on") -> list[Gate]:
    """Parse `KIND` or `KIND:LIMIT` each.

    Args:
        texts: As typed.
        where: What they were typed into, for errors.

    Raises:
        UsageError: No such kind, or the limit is not a number in [0, 1], or a p-value that no test can give.
    """
    return [_parse(text, f"{where} {text}") for text in texts]


def require_possible(gates: Iterable[Gate], kinds: Collection[str], remedy: str) -> None:
    """Raise a `UsageError` for a gate that nothing can fail, as no check that is run finds its kind.

    Args:
        gates: What fails.
        kinds: What the checks that are run can find.
        remedy: What to do about it.
    """
    for gate in gates:
        if gate.kind not in kinds:
            raise UsageError(f"nothing that is run finds '{gate.kind}'", where=gate.where, remedy=remedy)


def lowest_score(gates: Iterable[Gate], min_score: float) -> float:
    """The lowest score of findings that have to be looked at, `min_score` included."""
    return min([min_score, *(gate.limit for gate in gates if gate.kind != TESTED)])


def failures(findings: Sequence[Finding], gates: Iterable[Gate], p_value: float | None = None) -> list[str]:
    """One line for each gate that is failed; empty if all are passed.

    Args:
        findings: What was found.
        gates: What fails.
        p_value: What the test of shift gave; None where none was run.
    """
    lines = []
    for gate in gates:
        if gate.kind == TESTED:
            if p_value is not None and p_value <= gate.limit:
                lines.append(f"failed: {gate.kind} with p = {p_value:.3g}, at most {gate.limit:g}")
            continue
        count = sum(
            finding.kind == gate.kind and finding.score >= gate.limit and finding.status not in SETTLED
            for finding in findings
        )
        if count:
            lines.append(f"failed: {count:,} {gate.kind} with a score of at least {gate.limit:g}")
    return lines


def _parse(text: str, where: str) -> Gate:
    kind, _, number = text.partition(":")
    tested = kind == TESTED
    if kind not in KINDS:
        raise UsageError(f"there is no kind '{kind}'", where=where, remedy=f"one of: {', '.join(KINDS)}")
    if not number:
        return Gate(kind, SIGNIFICANT if tested else FLAGGED, where)
    try:
        limit = float(number)
    except ValueError:
        limit = -1.0
    if not 0 <= limit <= 1:
        what, example = ("p-value", 0.01) if tested else ("score", 0.8)
        raise UsageError(f"'{number}' is not a {what} from 0 to 1", where=where, remedy=f"e.g. {kind}:{example}")
    if tested and limit < LEAST_P:
        raise UsageError(
            f"no test of shift gives a p-value of {limit:g}: it is counted among 999 permutations",
            where=where,
            remedy=f"{kind}:{LEAST_P:g} is the strictest limit",
        )
    return Gate(kind, limit, where)
