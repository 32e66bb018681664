"""findings, accept, reject: look at what was found, and decide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, FindingsWhereOption, JsonOption
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


def findings(
    dataset: DatasetOption,
    kind: KindOption = None,
    status: Annotated[
        str | None, typer.Option("--status", help="open, queued, confirmed, rejected or fixed.", metavar="STATUS")
    ] = None,
    where: FindingsWhereOption = None,
    min_score: Annotated[float, typer.Option("--min-score", help="Leave out scores below this.", metavar="P")] = 0.0,
    limit: Annotated[int, typer.Option("-n", help="How many rows to show; --json prints all.", min=0)] = 20,
    json: JsonOption = False,
) -> None:
    """List what the checks have found, highest score first."""
    from curate.checks.store import stored_findings
    from curate.dataset import open_dataset
    from curate.report.findings import print_findings

    chosen = stored_findings(open_dataset(dataset), kind=kind, status=status, where=where, min_score=min_score)
    if json:
        print_json_lines(finding.to_json() for finding in chosen)
    else:
        print_findings(chosen, limit=limit)


def accept(
    dataset: DatasetOption,
    ids: IdsArgument = None,
    where: FindingsWhereOption = None,
    decisions: FromOption = None,
    skip_stale: SkipStaleOption = False,
    json: JsonOption = False,
) -> None:
    """Confirm findings: a person agrees that they are wrong. With --from, confirm and reject as decided in a report."""
    _decide(dataset, "confirmed", ids, where, decisions, skip_stale, json)


def reject(
    dataset: DatasetOption,
    ids: IdsArgument = None,
    where: FindingsWhereOption = None,
    decisions: FromOption = None,
    skip_stale: SkipStaleOption = False,
    json: JsonOption = False,
) -> None:
    """Reject findings: a person says that they are right as they are. Later runs leave them rejected.

    With --from it does what 'curate accept --from' does.
    """
    _decide(dataset, "rejected", ids, where, decisions, skip_stale, json)


def _decide(
    dataset: str,
    status: str,
    ids: list[str] | None,
    where: str | None,
    decisions: Path | None,
    skip_stale: bool,
    json: bool,
) -> None:
    from curate.checks.store import set_status
    from curate.errors import UsageError

    if decisions is None:
        if skip_stale:
            raise UsageError("there is nothing to skip", where="--skip-stale", remedy="it belongs to --from FILE")
        count, commit = set_status(dataset, status, ids=ids or [], where=where, command=command_line())
        if json:
            print_json({"status": status, "findings": count, "commit": commit})
        else:
            note(f"{count:,} findings are now {status} (commit {commit})")
        return
    if ids or where:
        raise UsageError(
            "the file says which findings", where="--from", remedy="leave the ids and --where away, or --from"
        )
    _decide_from(dataset, decisions, skip_stale, json)


def _decide_from(dataset: str, path: Path, skip_stale: bool, json: bool) -> None:
    from curate.report.html.decisions import apply_decisions

    applied = apply_decisions(dataset, path, skip_stale=skip_stale, command=command_line())
    if json:
        print_json(vars(applied))
        return
    note(f"{applied.confirmed:,} findings are now confirmed, {applied.rejected:,} rejected (commit {applied.commit})")
    if applied.unchanged:
        note(f"{applied.unchanged:,} were so already")
    if applied.stale:
        note(f"{applied.stale:,} were left out: gone, or decided on since the report was made")
