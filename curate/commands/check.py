"""curate check: every check at once, as a linter for datasets."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.checks.registry import CHECKS
from curate.commands.app import DatasetOption, JsonOption, SeedOption, WhereOption, command_line
from curate.commands.output import note, print_json_lines, progress
from curate.commands.running import ConfigOption, EncoderOption, FailOnOption, LimitOption, fail, project_config
from curate.names import GROUND_TRUTH


def check(
    dataset: DatasetOption,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", help=f"Run this check only; repeatable. One of: {', '.join(CHECKS.builtins)}.", metavar="CHECK"
        ),
    ] = None,
    layer: Annotated[
        str, typer.Option("--layer", help="Layer whose annotations are checked.", metavar="LAYER")
    ] = GROUND_TRUTH,
    encoder: EncoderOption = None,
    where: WhereOption = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score", help="Leave out what is less probably a problem than this. [default: 0.1]", metavar="P"
        ),
    ] = None,
    limit: LimitOption = 20,
    fail_on: FailOnOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Run every check, and sum up what they found, the worst first.

    What a project expects goes into a curate.toml in or above the current folder: which checks run, what makes them fail,
    thresholds of kinds, and findings that are accepted, each with a reason.
    """
    from curate.checks.base import Settings
    from curate.checks.gate import failures, parse_gates
    from curate.checks.together import check_dataset
    from curate.report.findings import print_summary

    project = project_config(config)
    gates = [*project.gates, *parse_gates(fail_on or [])]
    lowest = next(value for value in (min_score, project.min_score, 0.1) if value is not None)
    with progress("check") as report:
        settings = Settings(
            where, layer, encoder, min([lowest, *(gate.score for gate in gates)]), seed, progress=report
        )
        results = check_dataset(dataset, settings, run=only or project.run, command=command_line())
    for line in [f"{result.check}: {line}" for result in results for line in result.notes]:
        note(line)
    findings, told = project.select([finding for result in results for finding in result.findings])
    findings.sort(key=lambda finding: (-finding.score, finding.image, finding.id))
    if json:
        print_json_lines(finding.to_json() for finding in findings)
    else:
        print_summary(results, findings, limit=limit)
    for line in told:
        note(line)
    fail(failures(findings, gates))
