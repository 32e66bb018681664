"""curate duplicates: copies of images."""

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


def duplicates(
    dataset: DatasetOption,
    repetitive: Annotated[
        bool,
        typer.Option("--repetitive", help="Find images of bursts and videos that show nothing new, too."),
    ] = False,
    layer: Annotated[
        str, typer.Option("--layer", help="Layer whose annotations are compared between copies.", metavar="LAYER")
    ] = GROUND_TRUTH,
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
