"""curate outliers: images and objects that belong to nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.options import (
    BoxesLayerOption,
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
from curate.names import GROUND_TRUTH

ObjectsOption = Annotated[
    bool, typer.Option("--objects/--no-objects", help="Judge the annotated boxes too, each by itself.")
]


def outliers(
    dataset: DatasetOption,
    objects: ObjectsOption = True,
    layer: BoxesLayerOption = GROUND_TRUTH,
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
    run_and_print(CHECK, dataset, settings, fail_on=fail_on, limit=limit, json=json, config=config)
