"""curate predict: run a model on the images, and keep what it says as a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.app import DatasetOption, JsonOption, WhereOption, command_line
from curate.commands.output import note, print_json, progress

if TYPE_CHECKING:
    from curate.models.depth.predict import DepthResult
    from curate.models.predictors.predict import PredictResult


def predict(
    dataset: DatasetOption,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="onnx:PATH, hf:ID-OR-FOLDER, run:NAME (trained here), or results:FILE (COCO results).",
            metavar="SPEC",
            show_default=False,
        ),
    ],
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer", help="Where predictions go. Default: predictions/ and the model's name.", metavar="LAYER"
        ),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="Which of the model's classes is which: 'car=vehicle,truck=vehicle,person=' (nothing: left out), "
            "or a YAML or JSON file. Repeatable.",
            metavar="MAP|FILE",
        ),
    ] = None,
    keep_unmapped: Annotated[
        bool, typer.Option("--keep-unmapped", help="Add classes that the dataset does not have, where they are found.")
    ] = False,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts", help="What to look for, for models that take texts: 'person, forklift'.", metavar="NAMES"
        ),
    ] = None,
    boxes_from: Annotated[
        str | None,
        typer.Option(
            "--boxes-from", help="Turn the boxes of this layer into masks, with SAM 2 or its like.", metavar="LAYER"
        ),
    ] = None,
    min_score: Annotated[
        float, typer.Option("--min-score", help="Leave out objects with a lower confidence.", min=0, max=1)
    ] = 0.05,
    nms_iou: Annotated[
        float, typer.Option("--nms-iou", help="Of boxes of a class that overlap more, keep the surest.", min=0, max=1)
    ] = 0.65,
    where: WhereOption = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Take away all that the layer has, also where --where leaves images out, and predict anew.",
        ),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", help="Images for each call of the model. Default: by their size.", min=1, metavar="N"
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Predict on the images that a model has not seen yet. Interrupted, it goes on where it stopped.

    Low confidences are kept: checks and metrics want them too. A layer holds what one model says with one set of settings.
    A model that estimates depth makes maps of depth instead of a layer: 'curate depth' uses them.
    """
    from curate.models.predictors.base import Options
    from curate.models.predictors.class_names import read_map
    from curate.models.predictors.predict import Request, is_results
    from curate.models.predictors.predict import predict as run

    if is_results(model):
        _refuse_all(
            {
                "--map": map,
                "--keep-unmapped": keep_unmapped,
                "--prompts": prompts,
                "--boxes-from": boxes_from,
                "--where": where,
                "--replace": replace,
                "--batch-size": batch_size,
            }
        )
        _import(dataset, model, layer, json)
        return
    request = Request(
        layer,
        read_map(map or []),
        keep_unmapped,
        Options(min_score=min_score, nms_iou=nms_iou, prompts=_names(prompts)),
        boxes_from,
        where,
        replace,
        batch_size,
    )
    with progress("predicting") as report:
        result = run(dataset, model, request, command=command_line(), progress=report)
    if json:
        print_json({"dataset": dataset, **result.to_json()})
    else:
        _print(result)
    for line in result.notes:
        note(line)


def _names(prompts: str | None) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in (prompts or "").split(",") if name.strip())


def _refuse_all(options: Mapping[str, object]) -> None:
    """Say which of the options given mean nothing where no model is run."""
    from curate.errors import UsageError

    for name, value in options.items():
        if value:
            raise UsageError(
                f"{name} has no meaning for a file of results", where="--model results:FILE", remedy=f"leave out {name}"
            )


def _import(dataset: str, model: str, layer: str | None, json: bool) -> None:
    """Results of a model that ran elsewhere."""
    from pathlib import Path

    from curate.commands.data import import_json, print_import
    from curate.models.predictors.predict import import_results
    from curate.models.predictors.registry import RESULTS

    result = import_results(dataset, model, layer=layer, command=command_line())
    if json:
        print_json(import_json(dataset, result))
    else:
        print_import(dataset, Path(model.removeprefix(RESULTS)), result)


def _print(result: PredictResult | DepthResult) -> None:
    from curate.models.depth.predict import DepthResult
    from curate.report.terminal import console, print_table

    console().print(result.describe(), soft_wrap=True)
    if isinstance(result, DepthResult):
        return
    if result.classes:
        console().print()
        print_table([vars(each) for each in result.classes], right={"objects", "images", "mean_score"})
    else:
        console().print("nothing was found")
