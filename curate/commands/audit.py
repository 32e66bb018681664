"""audit: what people's verdicts say of the checks, and of the errors that are left."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.options import DatasetOption, JsonOption, SeedOption
from curate.commands.output import note, print_json_lines

if TYPE_CHECKING:
    from curate.loop.audit import Audit, Estimate


def audit(
    dataset: DatasetOption,
    check: Annotated[str | None, typer.Option("--check", help="Only this check.", metavar="NAME")] = None,
    worth: Annotated[
        float,
        typer.Option(
            "--worth",
            help="How often a review must find an error to be worth it; below, the advice is to stop.",
            min=0.001,
            max=1.0,
        ),
    ] = 0.1,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """From the verdicts so far: the precision of each check, the errors still to be found, and when to stop."""
    from curate.checks.store import stored_findings
    from curate.dataset import open_dataset
    from curate.errors import UsageError
    from curate.loop.audit import audit as audit_findings

    findings = stored_findings(open_dataset(dataset))
    chosen = [finding for finding in findings if check in (None, finding.check)]
    if not chosen:
        known = ", ".join(sorted({finding.check for finding in findings})) or "none; run 'curate check' first"
        raise UsageError(
            "there are no findings to audit", where=check or dataset, remedy=f"checks with findings: {known}"
        )
    results = audit_findings(chosen, seed=seed)
    if json:
        print_json_lines({**asdict(each), "stop": each.stops(worth)} for each in results)
        return
    _print(results, worth)
    if not any(each.right + each.wrong for each in results):
        note("nobody has decided on a finding yet: the estimates are the checks' own scores")


def _print(results: list[Audit], worth: float) -> None:
    from curate.report.terminal import print_table

    rows = [
        {
            "findings": f"{each.kind} ({each.check})",
            "right": each.right,
            "wrong": each.wrong,
            "precision": _text(each.precision, percent=True),
            "undecided": each.undecided,
            "errors left": _text(each.remaining),
            "reviews for ten": _text(each.next_ten),
            "advice": "stop" if each.stops(worth) else "go on",
        }
        for each in results
    ]
    print_table(rows, right=("right", "wrong", "undecided"))


def _text(estimate: Estimate | None, *, percent: bool = False) -> str:
    if estimate is None:
        return "-"
    scale, unit = (100, "%") if percent else (1, "")
    return f"{estimate.value * scale:.0f}{unit} ({estimate.low * scale:.0f}-{estimate.high * scale:.0f})"
