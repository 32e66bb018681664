"""curate outliers: images and objects that belong to nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.app import DatasetOption, JsonOption, SeedOption, WhereOption, command_line
from curate.commands.running import (
    ConfigOption,
    EncoderOption,
    FailOnOption,
    LimitOption,
    MinScoreOption,
    run_and_print,
)
from curate.names import GROUND_TRUTH


def outliers(
    dataset: DatasetOption,
    objects: Annotated[
        bool, typer.Option("--objects/--no-objects", help="Judge the annotated boxes too, each by itself.")
    ] = True,
    layer: Annotated[str, typer.Option("--layer", help="Layer whose boxes these are.", metavar="LAYER")] = GROUND_TRUTH,
    encoder: EncoderOption = None,
    where: WhereOption = None,
    min_score: MinScoreOption = 0.1,
    limit: LimitOption = 20,
    fail_on: FailOnOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find images and objects that resemble nothing else in the set, each with the probability that it does not belong."""
    from curate.checks.base import Settings
    from curate.checks.outliers.check import CHECK

    settings = Settings(where, layer, encoder, min_score, seed, options={"objects": objects})
    run_and_print(
        CHECK,
        dataset,
        settings,
        command=command_line(),
        fail_on=fail_on,
        limit=limit,
        json=json,
        config=config,
    )
