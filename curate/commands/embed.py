"""embed: turn images and annotated objects into vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, EncoderOption, JsonOption, ObjectsLayerOption
from curate.commands.output import note, print_json, progress
from curate.names import GROUND_TRUTH

CropsOption = Annotated[bool, typer.Option("--crops", help="Embed annotated objects as well as whole images.")]


def embed(
    dataset: DatasetOption,
    encoder: EncoderOption = None,
    crops: CropsOption = False,
    layer: ObjectsLayerOption = GROUND_TRUTH,
    json: JsonOption = False,
) -> None:
    """Embed what is not embedded yet. Interrupted, it goes on where it stopped."""
    from curate.models.spaces import embed_dataset

    with progress("embedding") as report:
        results = embed_dataset(
            dataset, encoder=encoder, crops=crops, layer=layer, command=command_line(), progress=report
        )
    for result in results:
        if json:
            print_json(result.to_json())
        else:
            note(result.describe())
