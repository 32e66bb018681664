"""One command per check."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.app import DatasetOption, JsonOption, SeedOption, WhereOption, command_line
from curate.commands.output import note, print_json_lines, progress
from curate.names import GROUND_TRUTH

FOUND_PROBLEMS = 1

FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit with status 1 if a finding of this kind scores at least SCORE (default 0.5). Repeatable.",
        metavar="KIND[:SCORE]",
    ),
]


def mistakes(
    dataset: DatasetOption,
    layer: Annotated[
        str, typer.Option("--layer", help="Layer whose labels are checked.", metavar="LAYER")
    ] = GROUND_TRUTH,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--predictions",
            help="Predictions layer to compare with; repeatable. Default: all there are.",
            metavar="LAYER",
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="builtin, clip:MODEL/TAG, onnx:PATH or auto.", metavar="SPEC")
    ] = None,
    where: WhereOption = None,
    min_score: Annotated[
        float, typer.Option("--min-score", help="Leave out what is less probably wrong than this.", metavar="P")
    ] = 0.1,
    limit: Annotated[int, typer.Option("-n", help="How many rows to show; --json prints all.")] = 20,
    fail_on: FailOnOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find wrong labels: mislabeled, missing, spurious and mislocated, each with its probability of being wrong.

    From 0.5 on, a label is more likely wrong than right: that many are counted as flagged.
    """
    from curate.checks.gate import failures, parse_gates
    from curate.checks.mistakes.run import find_mistakes
    from curate.report.findings import print_mistakes

    gates = parse_gates(fail_on or [])
    with progress("embedding") as report:
        result = find_mistakes(
            dataset,
            layer=layer,
            predictions=predictions,
            encoder=encoder,
            where=where,
            min_score=min([min_score, *(gate.score for gate in gates)]),
            seed=seed,
            command=command_line(),
            progress=report,
        )
    for line in result.notes:
        note(line)
    if json:
        print_json_lines(finding.to_json() for finding in result.findings)
    else:
        print_mistakes(result, limit=limit)
    failed = failures(result.findings, gates)
    for line in failed:
        note(line)
    if failed:
        raise typer.Exit(FOUND_PROBLEMS)
