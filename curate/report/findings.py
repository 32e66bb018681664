"""Findings as tables on a terminal: counts per kind, the first rows, and which classes are confused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.findings import BY_RANK, FLAGGED, SETTLED, Finding, from_table
from curate.dataset.schema import FINDINGS
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
    columns = {name: [getattr(each, name) for each in findings] for name in ("kind", "score", "status")}
    schema = pa.schema([FINDINGS.field(name) for name in columns])
    table = pa.table(columns, schema=schema).append_column("row", pa.array(range(len(findings)), pa.int64()))
    _print(table, [("row", "ascending")], lambda rows: [findings[row] for row in rows], limit)


def print_stored_findings(table: pa.Table, *, limit: int) -> None:
    """The same of findings as they are stored: only the few that are printed are made objects.

    Args:
        table: Columns of `curate.dataset.schema.FINDINGS`, in any order.
        limit: How many rows to print, shared among the kinds.
    """
    _print(table, BY_RANK, lambda rows: from_table(table.take(pa.array(rows, pa.int64()))), limit)


def _print(
    table: pa.Table, order: Sequence[tuple[str, str]], pick: Callable[[list[int]], list[Finding]], limit: int
) -> None:
    """Print findings of which a table has kind, score, status and what they are ordered by; `pick` gives some by row."""
    if not table.num_rows:
        console().print("no findings")
        return
    kinds = _kind_rows(table)
    print_table(kinds, right={"flagged", "below_0.5", "highest"})
    if limit > 0:
        console().print()
        rows = [
            _row(finding) for finding in pick(_first_of_each(table, order, [str(row["kind"]) for row in kinds], limit))
        ]
        if pc.all(pc.equal(table["status"], "open")).as_py():
            for row in rows:
                del row["status"]
        print_table(rows, right={"score"})
    if table.num_rows > limit:
        console().print(
            f"... and {table.num_rows - limit:,} more: -n {min(table.num_rows, 10 * max(limit, 1))}, or --json for all"
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


def _first_of_each(table: pa.Table, order: Sequence[tuple[str, str]], kinds: Sequence[str], limit: int) -> list[int]:
    """Rows of the first findings of each kind, one kind after the other; what a short kind leaves free goes to the others."""
    numbered = table.select(["kind", *dict.fromkeys(name for name, _ in order)])
    numbered = numbered.append_column("number", pa.array(np.arange(table.num_rows)))
    of_kind = {kind: numbered.filter(pc.equal(table["kind"], kind)) for kind in kinds}
    shares = dict.fromkeys(kinds, 0)
    free = min(limit, table.num_rows)
    while free:
        for kind in kinds:
            if free and shares[kind] < of_kind[kind].num_rows:
                shares[kind] += 1
                free -= 1
    rows: list[int] = []
    for kind in kinds:
        first = pc.select_k_unstable(of_kind[kind], shares[kind], list(order))
        rows += of_kind[kind]["number"].take(first).to_pylist()
    return rows


def _kind_rows(table: pa.Table) -> list[dict[str, object]]:
    """How many there are of each kind; first the kind of which most are expected to be right, by their probabilities."""
    flagged = pc.greater_equal(table["score"], FLAGGED)
    grouped = (
        pa.table({"kind": table["kind"], "score": table["score"], "flagged": flagged})
        .group_by("kind")
        .aggregate([("flagged", "sum"), ("score", "max"), ("score", "sum"), ("score", "count")])
        .sort_by([("score_sum", "descending"), ("kind", "ascending")])
    )
    return [
        {
            "kind": row["kind"],
            "flagged": row["flagged_sum"],
            "below_0.5": row["score_count"] - row["flagged_sum"],
            "highest": row["score_max"],
        }
        for row in grouped.to_pylist()
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
