"""demo: the main job on a rendered dataset with planted faults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import JsonOption, SeedOption
from curate.commands.output import note, print_json, progress


def demo(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Name of the dataset to make.", metavar="NAME")
    ] = "parts_v3",
    images: Annotated[int, typer.Option("--images", help="How many pictures to render.", min=10)] = 400,
    target: Annotated[
        Path | None,
        typer.Option("--target", help="Folder for the pictures. Default: beside the datasets.", metavar="DIR"),
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Render machined parts, plant known faults, find them again. The dataset stays: look at it, try the commands on it."""
    from curate.demo.job import run_demo
    from curate.report.findings import print_findings
    from curate.report.terminal import console, print_table

    with progress("working") as report:
        result = run_demo(
            dataset, images=images, target=target, seed=seed, command=command_line(), progress=report, say=note
        )
    if json:
        print_json(result.to_json())
        return
    console().print(result.mistakes.summary, soft_wrap=True)
    console().print()
    print_findings(result.mistakes.findings, limit=10)
    console().print()
    rows = [
        {
            "kind": score.kind,
            "planted": score.planted,
            "flagged": score.flagged,
            "right": score.right,
            "right_in_first": f"{score.first} of {score.planted}",
            "average_precision": f"{score.average_precision:.3f}",
        }
        for score in result.scores
    ]
    print_table(
        rows,
        right={"planted", "flagged", "right", "right_in_first", "average_precision"},
        title="Found against planted",
    )
    note(f"the pictures and the truth are in {result.folder}; next: curate findings -d {dataset}")
