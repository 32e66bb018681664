"""findings, accept, reject: look at what was found, and decide."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from click.core import ParameterSource

from curate.commands.app import command_line
from curate.commands.arguments import CurateCommand
from curate.commands.options import DatasetOption, FindingsWhereOption, JsonOption, OptionalDatasetOption
from curate.commands.output import note, print_json, print_json_lines

KindOption = Annotated[
    str | None, typer.Option("--kind", help="Only this kind: mislabeled, missing ...", metavar="KIND")
]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(help="Ids of findings, or their first digits.", metavar="[ID]...")
]

FromOption = Annotated[
    Path | None,
    typer.Option("--from", help="Decisions saved from a report: each as it was made there, yes or no.", metavar="FILE"),
]
SkipStaleOption = Annotated[
    bool,
    typer.Option(
        "--skip-stale", help="With --from: leave out findings that are gone, or that somebody has decided on since."
    ),
]


class ImageName(StrEnum):
    """How a terminal is sent a picture."""

    AUTO = "auto"
    KITTY = "kitty"
    ITERM = "iterm"
    SIXEL = "sixel"
    BLOCKS = "blocks"
    NONE = "none"


ShownArgument = Annotated[
    list[str], typer.Argument(help="Ids of findings, or their first digits.", metavar="ID...", show_default=False)
]
ImageOption = Annotated[
    ImageName,
    typer.Option(
        "--image", envvar="CURATE_IMAGE", help="How the picture is shown; auto asks the terminal.", show_envvar=True
    ),
]

findings = typer.Typer(invoke_without_command=True)


@findings.callback()
def list_findings(
    context: typer.Context,
    dataset: OptionalDatasetOption = None,
    kind: KindOption = None,
    status: Annotated[
        str | None, typer.Option("--status", help="open, queued, confirmed, rejected or fixed.", metavar="STATUS")
    ] = None,
    where: FindingsWhereOption = None,
    min_score: Annotated[float, typer.Option("--min-score", help="Leave out scores below this.", metavar="P")] = 0.0,
    limit: Annotated[int, typer.Option("-n", help="How many rows to show; --json prints all.", min=0)] = 20,
    json: JsonOption = False,
) -> None:
    """List what the checks have found, highest score first; or show one, with its picture."""
    if context.invoked_subcommand is not None:
        _leave_to(context, context.invoked_subcommand)
        return
    from curate.checks.findings import json_lines, ranked
    from curate.checks.store import stored_table
    from curate.dataset import open_dataset
    from curate.report.findings import print_stored_findings

    opened = open_dataset(_required_dataset(context, dataset))
    chosen = stored_table(opened, kind=kind, status=status, where=where, min_score=min_score)
    if json:
        sys.stdout.writelines(json_lines(ranked(chosen)))
    else:
        print_stored_findings(chosen, limit=limit)


@findings.command("show", cls=CurateCommand)
def show(
    context: typer.Context,
    ids: ShownArgument,
    dataset: OptionalDatasetOption = None,
    image: ImageOption = ImageName.AUTO,
    no_image: Annotated[bool, typer.Option("--no-image", help="Text only.")] = False,
    json: JsonOption = False,
) -> None:
    """Show findings one by one: the picture, where this terminal can show one, and what is known of it."""
    from curate.checks.store import findings_of_ids
    from curate.dataset import open_dataset

    opened = open_dataset(_required_dataset(context, dataset))
    chosen = findings_of_ids(opened, ids)
    if json:
        print_json_lines(finding.to_json() for finding in chosen)
        return
    from curate.report.show import show_findings

    show_findings(opened, chosen, ImageName.NONE.value if no_image else image.value)


def _leave_to(context: typer.Context, command: str) -> None:
    """See that no option of the list stands before another command, which would not know of it; but for the dataset."""
    from curate.errors import UsageError

    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if given and parameter.name != "dataset":
            raise UsageError(
                f"this belongs to the list of findings, or behind '{command}'",
                where=parameter.opts[0],
                remedy=f"curate findings {command} --help",
            )


def _required_dataset(context: click.Context, dataset: str | None) -> str:
    """The dataset, named here or before; without one the error is that of every other command."""
    before: Any = context.parent.params.get("dataset") if context.parent else None
    if not (dataset or before):
        parameter = next(each for each in context.command.params if each.name == "dataset")
        raise click.MissingParameter(ctx=context, param=parameter)
    return str(dataset or before)


def accept(
    dataset: DatasetOption,
    ids: IdsArgument = None,
    where: FindingsWhereOption = None,
    decisions: FromOption = None,
    skip_stale: SkipStaleOption = False,
    json: JsonOption = False,
) -> None:
    """Confirm findings: a person agrees that they are wrong. With --from, confirm and reject as decided in a report."""
    from curate.errors import UsageError

    if decisions is None:
        if skip_stale:
            raise UsageError("there is nothing to skip", where="--skip-stale", remedy="it belongs to --from FILE")
        _decide(dataset, "confirmed", ids, where, json)
        return
    if ids or where:
        raise UsageError(
            "the file says which findings", where="--from", remedy="leave the ids and --where away, or --from"
        )
    _decide_from(dataset, decisions, skip_stale, json)


def reject(
    dataset: DatasetOption,
    ids: IdsArgument = None,
    where: FindingsWhereOption = None,
    decisions: Annotated[Path | None, typer.Option("--from", hidden=True)] = None,
    json: JsonOption = False,
) -> None:
    """Reject findings: a person says that they are right as they are. Later runs leave them rejected.

    What was decided in a report is carried out by 'curate accept --from FILE', a no as well as a yes.
    """
    from curate.errors import UsageError

    if decisions is not None:
        raise UsageError(
            "a file of decisions says itself what is rejected, and confirms as well",
            where="--from",
            remedy=f"curate accept --from {decisions} -d {dataset}",
        )
    _decide(dataset, "rejected", ids, where, json)


def _decide(dataset: str, status: str, ids: list[str] | None, where: str | None, json: bool) -> None:
    from curate.checks.store import set_status
    from curate.wording import counted

    count, commit = set_status(dataset, status, ids=ids or [], where=where, command=command_line())
    if json:
        print_json({"status": status, "findings": count, "commit": commit})
    else:
        note(f"{counted(count, 'findings')} now {status} (commit {commit})")


def _decide_from(dataset: str, path: Path, skip_stale: bool, json: bool) -> None:
    from curate.report.html.decisions import apply_decisions
    from curate.wording import counted

    applied = apply_decisions(dataset, path, skip_stale=skip_stale, command=command_line())
    if json:
        print_json(vars(applied))
        return
    confirmed = counted(applied.confirmed, "findings")
    note(f"{confirmed} now confirmed, {applied.rejected:,} rejected (commit {applied.commit})")
    if applied.unchanged:
        note(f"as decided already: {counted(applied.unchanged, 'findings')}")
    if applied.stale:
        note(
            f"left out: {counted(applied.stale, 'decisions')}, on what is gone or decided on since the report was made"
        )
