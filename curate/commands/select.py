"""curate select: what to label next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, EncoderOption, JsonOption, LimitOption, SeedOption
from curate.commands.output import late_progress, note, print_json_lines

if TYPE_CHECKING:
    from curate.loop.select import Selection

BudgetOption = Annotated[
    str,
    typer.Option("--budget", help="How many images, or which part of those to choose from: 100, 5%.", metavar="N"),
]
StrategyOption = Annotated[
    str,
    typer.Option(
        "--strategy",
        help="mix; uncertainty, margin, entropy, disagreement (doubt of predictions, or of a classifier of the labels); "
        "k-center, typicality (the set as a whole); suspicion, slices (findings of 'mistakes' and 'shift'); random.",
        metavar="NAME",
    ),
]
UnlabelledWhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        help="SQL condition on images: those without labels that it chooses; if all of them have labels, those.",
        metavar="SQL",
    ),
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Predictions whose doubt counts: predictions/NAME. Default: those that cover most of the images, or else a "
        "classifier of what is labelled.",
        metavar="LAYER",
    ),
]


def select(
    dataset: DatasetOption,
    budget: BudgetOption,
    strategy: StrategyOption = "mix",
    where: UnlabelledWhereOption = None,
    layer: LayerOption = None,
    encoder: EncoderOption = None,
    limit: LimitOption = 20,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Choose the images to label next, best first, each with the reason. 'curate push --select' sends them to annotators.

    It works from the first image on, with neither labels nor a model. Of copies one is chosen, and none of what is labelled.
    The choice is kept in the dataset until the next.
    """
    from curate.loop.select import select_images

    with late_progress("embedding") as report:
        chosen = select_images(
            dataset,
            budget=budget,
            strategy=strategy,
            where=where,
            layer=layer,
            encoder=encoder,
            seed=seed,
            command=command_line(),
            progress=report,
        )
    for line in chosen.notes:
        note(line)
    if json:
        pairs = zip(chosen.locations, chosen.selected, strict=True)
        print_json_lines({"image": location, **vars(each), "commit": chosen.commit} for location, each in pairs)
    else:
        _print(chosen, limit)


def _print(chosen: Selection, limit: int) -> None:
    from curate.report.terminal import console, print_table

    out = console()
    out.print(chosen.summary, soft_wrap=True)
    pairs = zip(chosen.locations, chosen.selected, strict=True)
    rows = [{"rank": each.rank + 1, "image": location, "why": each.why} for location, each in pairs][:limit]
    if rows:
        out.print()
        print_table(rows, right={"rank"})
    if len(chosen.selected) > limit:
        out.print(f"... and {len(chosen.selected) - limit:,} more: -n {len(chosen.selected)}, or --json for all")
    note(f"commit {chosen.commit}; 'curate push --select' sends them to the annotators")
