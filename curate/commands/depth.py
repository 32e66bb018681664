"""curate depth: objects whose size or distance cannot be right, and which objects and images are far."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.options import (
    BoxesLayerOption,
    ConfigOption,
    DatasetOption,
    FailOnOption,
    JsonOption,
    LimitOption,
    MinScoreOption,
    WhereOption,
)
from curate.commands.running import run_and_print
from curate.names import GROUND_TRUTH

TagOption = Annotated[
    bool,
    typer.Option("--tag", help="Tag images depth:near, depth:middle or depth:far, by where most of their objects are."),
]
ObjectsOption = Annotated[bool, typer.Option("--objects", help="List the depths of every object too.")]


def depth(
    dataset: DatasetOption,
    tag: TagOption = False,
    objects: ObjectsOption = False,
    layer: BoxesLayerOption = GROUND_TRUTH,
    where: WhereOption = None,
    min_score: MinScoreOption = 0.1,
    limit: LimitOption = 20,
    fail_on: FailOnOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Find objects that are too large or small for where they are, or where their class never is, on the depth maps.

    'curate predict' with a model that estimates depth makes the maps; those of the model that was run last are used.
    """
    from curate.checks.base import Settings
    from curate.checks.depth.check import CHECK

    settings = Settings(where, layer, min_score=min_score, options={"tag": tag, "objects": objects})
    run_and_print(CHECK, dataset, settings, fail_on=fail_on, limit=limit, json=json, config=config)
