"""curate duplicates: copies of images."""

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

RepetitiveOption = Annotated[
    bool,
    typer.Option("--repetitive", help="Find images of bursts and videos that show nothing new, too."),
]
LayerOption = Annotated[
    str, typer.Option("--layer", help="Layer whose annotations are compared between copies.", metavar="LAYER")
]


def duplicates(
    dataset: DatasetOption,
    repetitive: RepetitiveOption = False,
    layer: LayerOption = GROUND_TRUTH,
    encoder: EncoderOption = None,
    where: WhereOption = None,
    min_score: MinScoreOption = 0.1,
    limit: LimitOption = 20,
    fail_on: FailOnOption = None,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find copies of images, exact and near, in groups with the one to keep.

    Copies are also found mirrored, cropped, rotated, resized, compressed, brighter or darker, noisy or with a logo.
    Two copies with different labels are reported as mislabeled.
    """
    from curate.checks.base import Settings
    from curate.checks.duplicates.check import CHECK

    options = {"repetitive": repetitive}
    settings = Settings(where, layer, encoder, min_score, seed, options=options)
    run_and_print(CHECK, dataset, settings, fail_on=fail_on, limit=limit, json=json, config=config)
