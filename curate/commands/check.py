"""curate check: every check at once, as a linter for datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from curate.checks.registry import CHECKS
from curate.commands.app import command_line
from curate.commands.options import (
    ConfigOption,
    DatasetOption,
    EncoderOption,
    JsonOption,
    LimitOption,
    SeedOption,
    WhereOption,
)
from curate.commands.output import note, print_json_lines, progress
from curate.commands.running import fail, project_config, table_lines
from curate.names import GROUND_TRUTH

if TYPE_CHECKING:
    from curate.checks.config import Config
    from curate.checks.gate import Gate

OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only", help=f"Run this check only; repeatable. One of: {', '.join(CHECKS.builtins)}.", metavar="CHECK"
    ),
]
LayerOption = Annotated[str, typer.Option("--layer", help="Layer whose annotations are checked.", metavar="LAYER")]
OptionalMinScoreOption = Annotated[
    float | None,
    typer.Option(
        "--min-score", help="Leave out what is less probably a problem than this. [default: 0.1]", metavar="P"
    ),
]
GatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit with status 1 if a finding of this kind scores at least SCORE (default 0.5). 'shifted' takes a p-value "
        "as in curate shift: it fails if the model does worse on a slice with at most that (default 0.05). Repeatable.",
        metavar="KIND[:SCORE]",
    ),
]


def check(
    dataset: DatasetOption,
    only: OnlyOption = None,
    layer: LayerOption = GROUND_TRUTH,
    encoder: EncoderOption = None,
    where: WhereOption = None,
    min_score: OptionalMinScoreOption = None,
    limit: LimitOption = 20,
    fail_on: GatesOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Run every check, and sum up what they found: of each kind the surest, the kinds with most problems first.

    What a project expects goes into a curate.toml in or above the current folder: which checks run, what makes them fail,
    thresholds of kinds, and findings that are accepted, each with a reason.
    """
    from curate.checks.base import Settings
    from curate.checks.gate import failures, lowest_score
    from curate.checks.shift.check import CHECK as SHIFT
    from curate.checks.shift.check import lowest_p_value
    from curate.checks.shift.explore import SLICES
    from curate.checks.together import check_dataset, chosen_checks
    from curate.report.findings import print_summary

    project = project_config(config)
    run = only or project.run
    kinds = {kind for check in chosen_checks(run) for kind in check.kinds}
    gates = _gates(project, fail_on or [], kinds, narrowed=bool(only))
    lowest = next(value for value in (min_score, project.min_score, 0.1) if value is not None)
    with progress("check") as report:
        settings = Settings(where, layer, encoder, lowest_score(gates, lowest), seed, progress=report)
        results = check_dataset(dataset, settings, run=run, command=command_line())
    for line in [f"{result.check}: {line}" for result in results for line in result.notes]:
        note(line)
    found = [finding for result in results for finding in result.findings]
    findings, told = project.select(found)
    findings.sort(key=lambda finding: (-finding.score, finding.image, finding.id))
    shown = [finding for finding in findings if finding.score >= lowest]
    if json:
        print_json_lines(finding.to_json() for finding in shown)
        print_json_lines(line for result in results for line in table_lines(result))
    else:
        print_summary(results, shown, limit=limit, tables={SLICES})
    for line in [*told, *(project.idle(found, kinds) if not only and where is None else [])]:
        note(line)
    p_value = next((lowest_p_value(result.tables) for result in results if result.check == SHIFT.name), None)
    fail(failures(findings, gates, p_value))


def _gates(project: Config, fail_on: Sequence[str], kinds: set[str], *, narrowed: bool) -> list[Gate]:
    """What makes the command fail. The project's gates on what `--only` leaves out are set aside, and that is said."""
    from curate.checks.gate import parse_gates, require_possible

    asked = parse_gates(fail_on)
    require_possible(asked, kinds, "run the check that finds it as well")
    if not narrowed:
        require_possible(project.gates, kinds, "add to 'run' the check that finds it, or take it out of 'fail-on'")
    aside = [gate.kind for gate in project.gates if gate.kind not in kinds]
    if aside:
        note(f"not decided, as --only leaves the check out: {', '.join(aside)}")
    return [*(gate for gate in project.gates if gate.kind in kinds), *asked]
