"""The command line: assembles the commands. Nothing else lives here, and nothing heavy is imported."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from curate import __version__
from curate.commands.app import INTERRUPTED, INTERRUPTION, CurateGroup, note_interruptions
from curate.commands.arguments import CurateCommand
from curate.commands.audit import audit
from curate.commands.augment import augment
from curate.commands.bench import bench
from curate.commands.check import check
from curate.commands.compress import compress
from curate.commands.data import export, import_
from curate.commands.datasets import diff, history, info, ls, rm, undo
from curate.commands.demo import demo
from curate.commands.depth import depth
from curate.commands.duplicates import duplicates
from curate.commands.embed import embed
from curate.commands.engine import EngineCommand
from curate.commands.evaluate import evaluate
from curate.commands.findings import accept, findings, reject
from curate.commands.formats import formats
from curate.commands.leaks import leaks
from curate.commands.login import login
from curate.commands.loop import loop
from curate.commands.mistakes import mistakes
from curate.commands.outliers import outliers
from curate.commands.package import package
from curate.commands.predict import predict
from curate.commands.pull import pull
from curate.commands.push import push
from curate.commands.quality import quality
from curate.commands.report import report
from curate.commands.run import run
from curate.commands.runs import runs
from curate.commands.search import search
from curate.commands.select import select
from curate.commands.shift import shift
from curate.commands.stress import stress
from curate.commands.tag import tag
from curate.commands.train import train
from curate.commands.view import app as view

app = typer.Typer(
    cls=CurateGroup,
    name="curate",
    help="Find what is wrong with a computer-vision dataset, fix it where the labels live, prove that it helped.",
    epilog="Exit status: 0 done; 1 found problems where --fail-on asks; 2 wrong use or bad input; "
    "3 a server or model could not be reached; 70 a fault in curate itself; 130 interrupted. "
    "--debug, anywhere, shows tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"curate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None: ...


app.command("demo", cls=CurateCommand)(demo)
app.command("import", cls=CurateCommand)(import_)
app.command("export", cls=CurateCommand)(export)
app.command("formats", cls=CurateCommand)(formats)
app.command("ls", cls=CurateCommand)(ls)
app.command("info", cls=CurateCommand)(info)
app.command("history", cls=CurateCommand)(history)
app.command("diff", cls=CurateCommand)(diff)
app.command("undo", cls=CurateCommand)(undo)
app.command("rm", cls=CurateCommand)(rm)
app.command("embed", cls=EngineCommand)(embed)
app.command("search", cls=CurateCommand)(search)
app.command("tag", cls=CurateCommand)(tag)
app.command("predict", cls=EngineCommand)(predict)
app.command("augment", cls=CurateCommand)(augment)
app.command("train", cls=CurateCommand)(train)
app.command("runs", cls=CurateCommand)(runs)
app.command("evaluate", cls=CurateCommand)(evaluate)
app.command("compress", cls=CurateCommand)(compress)
app.command("package", cls=CurateCommand)(package)
app.command("bench", cls=CurateCommand)(bench)
app.command("run", cls=CurateCommand)(run)
app.command("stress", cls=CurateCommand)(stress)
app.command("check", cls=EngineCommand)(check)
app.command("mistakes", cls=EngineCommand)(mistakes)
app.command("leaks", cls=EngineCommand)(leaks)
app.command("outliers", cls=EngineCommand)(outliers)
app.command("duplicates", cls=EngineCommand)(duplicates)
app.command("quality", cls=EngineCommand)(quality)
app.command("shift", cls=EngineCommand)(shift)
app.command("depth", cls=CurateCommand)(depth)
app.add_typer(findings, name="findings")
app.command("accept", cls=CurateCommand)(accept)
app.command("reject", cls=CurateCommand)(reject)
app.command("report", cls=CurateCommand)(report)
app.command("select", cls=CurateCommand)(select)
app.command("push", cls=CurateCommand)(push)
app.command("pull", cls=CurateCommand)(pull)
app.command("audit", cls=CurateCommand)(audit)
app.command("app", cls=CurateCommand)(view)
app.command("login", cls=CurateCommand, context_settings={"allow_extra_args": True})(login)
app.add_typer(loop, name="loop")


def main() -> None:
    """Entry point of the `curate` command."""
    # Arrow's default allocator keeps what it has freed; the system's gives it back: a third less memory in a large import.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        note_interruptions()
        app()
    except KeyboardInterrupt:  # before a command was reached, or on the way out
        print(INTERRUPTION, file=sys.stderr)
        sys.exit(INTERRUPTED)
