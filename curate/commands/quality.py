"""curate quality: dark, blurred, noisy, odd and broken images and objects."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.options import (
    DatasetOption,
    FailOnOption,
    JsonOption,
    LimitOption,
    MinScoreOption,
    SeedOption,
    WhereOption,
)
from curate.commands.running import run_and_print
from curate.names import GROUND_TRUTH

LayerOption = Annotated[str, typer.Option("--layer", help="Layer whose objects are judged too.", metavar="LAYER")]
ObjectsOption = Annotated[bool, typer.Option("--objects/--no-objects", help="Judge every annotated box as well.")]


def quality(
    dataset: DatasetOption,
    layer: LayerOption = GROUND_TRUTH,
    objects: ObjectsOption = True,
    where: WhereOption = None,
    min_score: MinScoreOption = 0.1,
    limit: LimitOption = 20,
    fail_on: FailOnOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Find images that are dark, overexposed, flat, tinted, blurred, noisy, empty, of odd size or shape, or broken.

    Each is judged against the others of its dataset and against absolute limits; so are the annotated objects, where the
    object is dark or blurred though its image is not.
    """
    from curate.checks.base import Settings
    from curate.checks.quality.check import CHECK

    settings = Settings(where, layer, None, min_score, seed, options={"objects": objects})
    run_and_print(CHECK, dataset, settings, fail_on=fail_on, limit=limit, json=json)
