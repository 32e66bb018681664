"""How good a model is, on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from curate.checks.findings import SETTLED
from curate.report.terminal import console, print_table
from curate.wording import counted

if TYPE_CHECKING:
    from curate.checks.base import Result

_PER_LINE: Final = 8
_SHOWN: Final = {"Confusion": 10}


def print_evaluation(result: Result, *, limit: int, row: str, hidden: Collection[str] = ()) -> None:
    """Print what an evaluation came to: its metrics, then table by table.

    Args:
        result: Of the check.
        limit: How many rows to print of a table.
        row: Title of the table of one row that holds the metrics.
        hidden: Titles of tables that are for machines.
    """
    out = console()
    out.print(result.summary, soft_wrap=True)
    _print_metrics(result.tables[row][0]["metrics"])
    for title, rows in result.tables.items():
        if title != row and title not in hidden:
            _print_rows(title, rows, min(limit, _SHOWN.get(title, limit)))
    undecided = sum(finding.status not in SETTLED for finding in result.findings)
    if undecided:
        out.print()
        dataset = result.summary.partition(",")[0]
        out.print(
            f"{counted(undecided, 'hard images')} stored as findings: curate findings -d {dataset} --kind hard",
            soft_wrap=True,
        )


def _print_metrics(metrics: Mapping[str, float | None]) -> None:
    """The numbers of all images, some on a line."""
    items = list(metrics.items())
    for start in range(0, len(items), _PER_LINE):
        console().print()
        cells = {name: _number(value) for name, value in items[start : start + _PER_LINE]}
        print_table([cells], right=set(cells))


def _print_rows(title: str, rows: Sequence[Mapping[str, Any]], limit: int) -> None:
    console().print()
    numbers = {name for name in rows[0] if all(isinstance(row[name], int | float | None) for row in rows)}
    shown = [{name: _number(value) for name, value in row.items()} for row in rows[:limit]]
    if shown:
        print_table(shown, right=numbers, title=title)
    if len(rows) > limit:
        console().print(f"... and {len(rows) - limit:,} more of {title.lower()}; --json prints all")


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value
