"""curate leaks: images of one split that are copies of images in another, and a split without them."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.options import (
    ConfigOption,
    DatasetOption,
    EncoderOption,
    FailOnOption,
    JsonOption,
    LimitOption,
    MinScoreOption,
    SeedOption,
    WhereOption,
)
from curate.commands.running import run_and_print

ResplitOption = Annotated[
    bool,
    typer.Option("--resplit", help="Write a split that keeps copies and sources together, and classes balanced."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show that split, but change none.")]
RatiosOption = Annotated[
    str | None,
    typer.Option(
        "--ratios",
        help="Shares of that split, e.g. train=0.8,val=0.1,test=0.1. Default: sizes as they are.",
        metavar="NAME=SHARE,...",
    ),
]


def leaks(
    dataset: DatasetOption,
    resplit: ResplitOption = False,
    dry_run: DryRunOption = False,
    ratios: RatiosOption = None,
    encoder: EncoderOption = None,
    where: WhereOption = None,
    min_score: MinScoreOption = 0.1,
    limit: LimitOption = 20,
    fail_on: FailOnOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find images that are in one split while a copy, or another image of their source, is in another."""
    from curate.checks.base import Settings
    from curate.checks.leaks.check import CHECK
    from curate.checks.leaks.splits import parse_ratios
    from curate.errors import UsageError

    if ratios is not None and not (resplit or dry_run):
        raise UsageError("ratios are those of a new split", where="--ratios", remedy="add --resplit or --dry-run")
    options = {
        "resplit": resplit or dry_run,
        "dry_run": dry_run,
        "ratios": None if ratios is None else parse_ratios(ratios),
    }
    settings = Settings(where, encoder=encoder, min_score=min_score, seed=seed, options=options)
    run_and_print(CHECK, dataset, settings, fail_on=fail_on, limit=limit, json=json, config=config)
