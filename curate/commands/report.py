"""report: one HTML file that shows what was found, for anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from curate.commands.options import DatasetOption, FindingsWhereOption, JsonOption, SeedOption
from curate.commands.output import late_progress, note, print_json
from curate.report.html.limits import MAX_BYTES, MOST_FINDINGS


def report(
    dataset: DatasetOption,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file. Default: NAME-report.html in this folder.", metavar="FILE"),
    ] = None,
    where: FindingsWhereOption = None,
    min_score: Annotated[
        float, typer.Option("--min-score", help="Leave out findings that score below this.", metavar="P")
    ] = 0.0,
    limit: Annotated[
        int, typer.Option("-n", help="How many findings get a card: the most probable of each kind.", min=0)
    ] = MOST_FINDINGS,
    max_mb: Annotated[
        float,
        typer.Option("--max-mb", help="Size of the file: pictures are made smaller, then fewer, to keep it.", min=0.1),
    ] = MAX_BYTES / 1e6,
    since: Annotated[
        int | None, typer.Option("--since", help="Also say what changed since this commit.", metavar="COMMIT")
    ] = None,
    commit: Annotated[
        int | None, typer.Option("--commit", help="Report this commit, not the newest.", metavar="N")
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write one HTML file with all that was found, to look at and to decide in: no server, no network, nothing to install.

    Findings with pictures, classes confused, copies, leaks, slices, distributions, a map, the history. Whoever opens it can
    say yes or no to each finding and save that as a file for 'curate accept --from FILE'. The dataset is not changed.
    """
    from curate.dataset import open_dataset
    from curate.report.html.build import Choice, write_report
    from curate.wording import counted

    opened = open_dataset(dataset, commit=commit)
    choice = Choice(where, min_score, limit, round(max_mb * 1e6), since, _rounds(dataset), seed)
    with late_progress("report: pictures") as progress:
        written = write_report(opened, output or Path(f"{dataset}-report.html"), choice, progress=progress)
    if json:
        print_json(written.to_json())
        return
    for line in written.notes:
        note(line)
    note(
        f"{written.path}: {written.bytes / 1e6:.1f} MB, {counted(written.findings, 'findings')}, "
        f"{counted(written.pictures, 'pictures')}"
    )


def _rounds(dataset: str) -> list[dict[str, Any]]:
    """The rounds of the dataset's loops, each with the loop's name."""
    from curate.dataset.home import dataset_path
    from curate.loop.machine import read_state, rounds

    states = sorted((dataset_path(dataset) / "loops").glob("*.json"))
    return [{"loop": path.stem, **row} for path in states for row in rounds(read_state(path))]
