"""curate predict: run a model on the images, and keep what it says as a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, JsonOption, PromptsOption, WhereOption
from curate.commands.output import note, print_json, progress

if TYPE_CHECKING:
    from curate.models.depth.predict import DepthResult
    from curate.models.predictors.predict import PredictResult

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="onnx:PATH, hf:ID-OR-FOLDER, run:NAME (trained here), or results:FILE (COCO results).",
        metavar="SPEC",
        show_default=False,
    ),
]
LayerOption = Annotated[
    str | None,
    typer.Option("--layer", help="Where predictions go. Default: predictions/ and the model's name.", metavar="LAYER"),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="Which of the model's classes is which: 'car=vehicle,truck=vehicle,person=' (nothing: left out), "
        "or a YAML or JSON file. Repeatable.",
        metavar="MAP|FILE",
    ),
]
KeepUnmappedOption = Annotated[
    bool, typer.Option("--keep-unmapped", help="Add classes that the dataset does not have, where they are found.")
]
BoxesFromOption = Annotated[
    str | None,
    typer.Option(
        "--boxes-from", help="Turn the boxes of this layer into masks, with SAM 2 or its like.", metavar="LAYER"
    ),
]
MinConfidenceOption = Annotated[
    float, typer.Option("--min-score", help="Leave out objects with a lower confidence.", min=0, max=1)
]
NmsIouOption = Annotated[
    float, typer.Option("--nms-iou", help="Of boxes of a class that overlap more, keep the surest.", min=0, max=1)
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace",
        help="Take away all that the layer has, also where --where leaves images out, and predict anew.",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", help="Images for each call of the model. Default: by their size.", min=1, metavar="N"),
]


def predict(
    dataset: DatasetOption,
    model: ModelOption,
    layer: LayerOption = None,
    map: MapOption = None,
    keep_unmapped: KeepUnmappedOption = False,
    prompts: PromptsOption = None,
    boxes_from: BoxesFromOption = None,
    min_score: MinConfidenceOption = 0.05,
    nms_iou: NmsIouOption = 0.65,
    where: WhereOption = None,
    replace: ReplaceOption = False,
    batch_size: BatchSizeOption = None,
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
            map=map, keep_unmapped=keep_unmapped, prompts=prompts, boxes_from=boxes_from, where=where, replace=replace,
            batch_size=batch_size,
        )  # fmt: skip
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


def _refuse_all(**given: object) -> None:
    """Say which of the options given mean nothing where no model is run."""
    from curate.errors import UsageError

    for name, value in given.items():
        if value:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option} has no meaning for a file of results",
                where="--model results:FILE",
                remedy=f"leave out {option}",
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
