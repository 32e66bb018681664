"""Running a check from the command line: progress, findings as tables or JSON lines, notes, and the gate's exit status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from curate.commands.app import command_line
from curate.commands.output import note, print_json_lines, progress

if TYPE_CHECKING:
    from curate.checks.base import Check, Result, Settings
    from curate.checks.config import Config
    from curate.checks.findings import Finding

FOUND_PROBLEMS = 1


def run_and_print(
    check: Check,
    dataset: str,
    settings: Settings,
    *,
    fail_on: Sequence[str] | None,
    limit: int,
    json: bool,
    config: Path | None = None,
) -> None:
    """Run a check and print what it found, as far as the project's `curate.toml` does not accept it.

    Args:
        check: The check.
        dataset: The dataset's name.
        settings: Without `progress`, which is shown here.
        fail_on: What `--fail-on` says: scores below `min_score` are then looked at too, but not printed.
        limit: How many findings to show, unless as JSON.
        json: Print JSON lines: every finding, then the rows of every table.
        config: The project's `curate.toml`; None to look for it.

    Raises:
        typer.Exit: With status 1, if a finding fails a gate.
        UsageError: A gate is on a kind that the check does not find.
    """
    from dataclasses import replace

    from curate.checks.base import run_check
    from curate.checks.gate import failures, lowest_score, parse_gates, require_possible

    project = project_config(config)
    gates = parse_gates(fail_on or [])
    require_possible(gates, check.kinds, f"'curate {check.name}' finds: {', '.join(check.kinds)}")
    with progress(check.name) as report:
        lowest = lowest_score(gates, settings.min_score)
        result = run_check(check, dataset, replace(settings, min_score=lowest, progress=report), command=command_line())
    fail(failures(print_one(result, project, limit=limit, json=json, min_score=settings.min_score), gates))


def print_one(result: Result, project: Config, *, limit: int, json: bool, min_score: float = 0.0) -> list[Finding]:
    """Print what one check found, from a score on; returns all findings that the project's `curate.toml` does not accept."""
    from dataclasses import replace

    from curate.report.findings import print_result

    for line in result.notes:
        note(line)
    findings, told = project.select(result.findings)
    shown = [finding for finding in findings if finding.score >= min_score]
    if json:
        print_json_lines(finding.to_json() for finding in shown)
        print_json_lines(table_lines(result))
    else:
        print_result(replace(result, findings=shown), limit=limit)
    for line in told:
        note(line)
    return findings


def table_lines(result: Result) -> Iterator[dict[str, Any]]:
    """The rows of a result's tables as `--json` prints them."""
    for title, rows in result.tables.items():
        yield from ({"kind": "table", "check": result.check, "table": title, **row} for row in rows)


def project_config(path: Path | None) -> Config:
    """The settings of the project that the user is in, or of the file named."""
    from curate.checks.config import find_config, load_config

    return load_config(path or find_config(Path.cwd()))


def fail(lines: Sequence[str]) -> None:
    """Leave with status 1 if there is anything to say of gates that were failed."""
    for line in lines:
        note(line)
    if lines:
        raise typer.Exit(FOUND_PROBLEMS)
