"""curate runs: what was trained."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.options import JsonOption
from curate.commands.output import note, print_json, print_json_lines


def runs(
    remove: Annotated[
        str | None, typer.Option("--remove", help="Delete this run, with its model.", metavar="RUN")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List what was trained, and what is unfinished; 'run:NAME' names a model wherever one is asked for."""
    from curate.models.training.runs import read_plan, read_run, remove_run, run_names

    if remove is not None:
        remove_run(remove)
        if json:
            print_json({"removed": remove})
        else:
            note(f"{remove} is removed")
        return
    found = [(name, read_run(name)) for name in run_names()]
    if json:
        print_json_lines({"name": name} if run is None else run.to_json() for name, run in found)
        return
    from curate.report.terminal import console, print_table

    rows = []
    for name, run in found:
        plan = read_plan(name) if run is None else run.plan
        rows.append(
            {
                "run": name,
                "task": str(plan.settings["task"]),
                "dataset": f"{plan.dataset}, commit {plan.commit}",
                "model": "unfinished: --resume goes on" if run is None else run.model,
                "result": "" if run is None else run.result,
            }
        )
    if rows:
        print_table(rows, right=set())
    else:
        console().print("no runs yet: 'curate train' makes them")
