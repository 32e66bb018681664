"""Findings as tables on a terminal: counts per kind, the first rows, and which classes are confused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from curate.checks.findings import FLAGGED, SETTLED, Finding
from curate.report.terminal import console, print_table

if TYPE_CHECKING:
    from curate.checks.base import Result

_TABLE_ROWS: Final = 10


def print_findings(findings: Sequence[Finding], *, limit: int) -> None:
    """Print how many findings there are of each kind, and the first of each.

    Args:
        findings: Highest score first.
        limit: How many rows to print, shared among the kinds.
    """
    if not findings:
        console().print("no findings")
        return
    kinds = _kind_rows(findings)
    print_table(kinds, right={"flagged", "below_0.5", "highest"})
    if limit > 0:
        console().print()
        rows = [_row(finding) for finding in _first_of_each(findings, [str(row["kind"]) for row in kinds], limit)]
        if all(finding.status == "open" for finding in findings):
            for row in rows:
                del row["status"]
        print_table(rows, right={"score"})
    if len(findings) > limit:
        console().print(
            f"... and {len(findings) - limit:,} more: -n {min(len(findings), 10 * max(limit, 1))}, or --json for all"
        )


def print_result(result: Result, *, limit: int) -> None:
    """Print what a check found: what it looked at, the findings, and its tables.

    Args:
        result: Of the check.
        limit: How many findings to print.
    """
    out = console()
    out.print(result.summary, soft_wrap=True)
    out.print()
    undecided = [finding for finding in result.findings if finding.status not in SETTLED]
    print_findings(undecided, limit=limit)
    if len(undecided) < len(result.findings):
        out.print(f"{len(result.findings) - len(undecided):,} more were rejected or are fixed, and are not shown")
    for title, rows in {**result.tables, **result.digest}.items():
        _print_rows(title, rows)


def print_summary(
    results: Sequence[Result], findings: Sequence[Finding], *, limit: int, tables: Collection[str] = ()
) -> None:
    """Print what several checks found, as one: what each looked at, then their findings.

    Args:
        results: Of the checks.
        findings: Those to show, highest score first.
        limit: How many of them to print.
        tables: Titles of the tables to print as well, of whichever check they are.
    """
    out = console()
    for result in results:
        out.print(f"{result.check}: {result.summary}", soft_wrap=True)
    out.print()
    undecided = [finding for finding in findings if finding.status not in SETTLED]
    print_findings(undecided, limit=limit)
    for result in results:
        for title, rows in result.tables.items():
            if title in tables:
                _print_rows(title, rows)


def _print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The first rows of a table, under its title; nothing if there are none."""
    if not rows:
        return
    console().print()
    numbers = {name for name, value in rows[0].items() if isinstance(value, int | float)}
    print_table([dict(row) for row in rows[:_TABLE_ROWS]], right=numbers, title=title)
    if len(rows) > _TABLE_ROWS:
        console().print(f"... and {len(rows) - _TABLE_ROWS:,} more; --json prints all")


def _first_of_each(findings: Sequence[Finding], kinds: Sequence[str], limit: int) -> list[Finding]:
    """The first findings of each kind, one kind after the other; what a short kind leaves free goes to the others."""
    of_kind = {kind: [finding for finding in findings if finding.kind == kind] for kind in kinds}
    shares = dict.fromkeys(kinds, 0)
    free = min(limit, len(findings))
    while free:
        for kind in kinds:
            if free and shares[kind] < len(of_kind[kind]):
                shares[kind] += 1
                free -= 1
    return [finding for kind in kinds for finding in of_kind[kind][: shares[kind]]]


def _kind_rows(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """How many there are of each kind; first the kind of which most are expected to be right, by their probabilities."""
    flagged: Counter[str] = Counter(finding.kind for finding in findings if finding.score >= FLAGGED)
    below: Counter[str] = Counter(finding.kind for finding in findings if finding.score < FLAGGED)
    highest: dict[str, float] = {}
    expected: dict[str, float] = {}
    for finding in findings:
        highest.setdefault(finding.kind, finding.score)
        expected[finding.kind] = expected.get(finding.kind, 0.0) + finding.score
    kinds = sorted(highest, key=lambda kind: (-expected[kind], kind))
    return [
        {"kind": kind, "flagged": flagged[kind], "below_0.5": below[kind], "highest": highest[kind]} for kind in kinds
    ]


def _row(finding: Finding) -> dict[str, object]:
    box = "" if finding.bbox is None else " ".join(f"{value:.0f}" for value in finding.bbox)
    return {
        "score": f"{finding.score:.3f}",
        "status": finding.status,
        "kind": finding.kind,
        "image": finding.image,
        "box": box,
        "given": finding.given or "",
        "suggested": finding.suggested or "",
        "why": str(finding.evidence.get("why", "")),
        "id": finding.id[:8],
    }
