"""loop: rounds of finding, selecting, labelling and training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.arguments import CurateCommand
from curate.commands.options import JsonOption
from curate.commands.output import note, print_json, print_json_lines
from curate.commands.train import phases

loop = typer.Typer(no_args_is_help=True, help="Rounds of find, select, push, wait, train and evaluate.")

FileArgument = Annotated[
    Path, typer.Argument(help="The loop's file; see docs/annotators.md.", metavar="LOOP.YAML", show_default=False)
]

_OPTIONAL = ("95% interval", "verdict", "run")
"""Columns that only rounds with a model of curate's have."""

_WORDS = ("strategy", "verdict", "run")


@loop.command("run", cls=CurateCommand)
def run(
    file: FileArgument,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate",
            help="Ask no server: answer from the labels that the dataset has, and compare strategies on it.",
        ),
    ] = False,
    strategies: Annotated[
        str | None,
        typer.Option("--strategies", help="With --simulate: which to compare. Default: the file's.", metavar="A,B,C"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Do at most so many steps, then stop; run again to go on.", min=1)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a loop, or go on with one that was interrupted."""
    from curate.loop.machine import run as run_machine
    from curate.loop.machine import state_path
    from curate.loop.plan import read_plan
    from curate.loop.steps import RealSteps

    plan = read_plan(file)
    if simulate:
        _simulate(plan, strategies, json=json)
        return

    def tell(entry: dict[str, Any]) -> None:
        shown = {key: value for key, value in entry.items() if key != "items"}
        if json:
            print_json(shown)
        else:
            details = {key: value for key, value in shown.items() if key not in ("round", "step", "time")}
            note(f"round {entry['round']}, {entry['step']}: {_words(details)}")

    with phases() as report:
        real = RealSteps(command_line(), loop=file.stem, report=report, say=note)
        state = run_machine(plan, state_path(plan, file), real, tell=tell, most=steps)
    if state.ended:
        note(f"the loop has ended: {state.ended}")


@loop.command("status", cls=CurateCommand)
def status(file: FileArgument, json: JsonOption = False) -> None:
    """What each round of a loop cost and gained so far."""
    from curate.loop.machine import read_state, rounds, state_path
    from curate.loop.plan import read_plan

    plan = read_plan(file)
    state = read_state(state_path(plan, file))
    rows = rounds(state)
    if json:
        print_json_lines(rows)
        return
    _print_rows([_shown(row) for row in rows])
    note(f"ended: {state.ended}" if state.ended else f"next: round {state.round}, {state.step}")


def _simulate(plan: Any, strategies: str | None, *, json: bool) -> None:
    from curate.loop.simulate import simulate

    names = [name.strip() for name in strategies.split(",")] if strategies else [plan.strategy]
    rows = simulate(plan, names)
    if json:
        print_json_lines(rows)
    else:
        _print_rows(rows)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from curate.report.terminal import print_table

    if not rows:
        note("no round was played yet")
        return
    kept = [key for key in rows[0] if key not in _OPTIONAL or any(row[key] is not None for row in rows)]
    texts = [{key: "-" if row[key] is None else _number(row[key]) for key in kept} for row in rows]
    print_table(texts, right=[key for key in kept if key not in _WORDS])


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A round with its interval in one cell."""
    low, high = row["low"], row["high"]
    shown: dict[str, Any] = {}
    for key, value in row.items():
        if key == "low":
            shown["95% interval"] = None if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
        elif key != "high":
            shown[key] = value
    return shown


def _number(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


def _words(details: dict[str, Any]) -> str:
    told = [f"{key.replace('_', ' ')} {_number(value)}" for key, value in details.items() if value is not None]
    return ", ".join(told) or "nothing to do"
