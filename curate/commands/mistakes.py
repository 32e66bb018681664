"""curate mistakes: wrong labels."""

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
from curate.names import GROUND_TRUTH

LayerOption = Annotated[str, typer.Option("--layer", help="Layer whose labels are checked.", metavar="LAYER")]
PredictionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--predictions",
        help="Predictions layer to compare with; repeatable. Default: all there are.",
        metavar="LAYER",
    ),
]


def mistakes(
    dataset: DatasetOption,
    layer: LayerOption = GROUND_TRUTH,
    predictions: PredictionsOption = None,
    encoder: EncoderOption = None,
    where: WhereOption = None,
    min_score: MinScoreOption = 0.1,
    limit: LimitOption = 20,
    fail_on: FailOnOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find wrong labels: mislabeled, missing, spurious and mislocated, each with its probability of being wrong.

    From 0.5 on, a label is more likely wrong than right: that many are counted as flagged.
    """
    from curate.checks.base import Settings
    from curate.checks.mistakes.run import CHECK

    options = {"predictions": predictions}
    settings = Settings(where, layer, encoder, min_score, seed, options=options)
    run_and_print(CHECK, dataset, settings, fail_on=fail_on, limit=limit, json=json, config=config)
