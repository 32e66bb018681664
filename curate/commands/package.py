"""curate package: a folder with a model and all that a device needs to run it, after the proof that it still says what it did."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.app import command_line
from curate.commands.given import require_numbers
from curate.commands.options import (
    JsonOption,
    LabelsOption,
    MapOption,
    OptionalDatasetOption,
    SeedOption,
    SplitsOption,
    WhereOption,
)
from curate.commands.output import Progress, note, print_json_lines, progress
from curate.commands.running import fail
from curate.names import GROUND_TRUTH

if TYPE_CHECKING:
    from curate.edge.package.build import Asked, Made

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="run:NAME (trained here), or onnx:PATH.", metavar="SPEC", show_default=False),
]
TargetOption = Annotated[
    str,
    typer.Option("--target", help="What runs it on the device: onnx, openvino, tflite or tensorrt.", metavar="NAME"),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The folder to make. Default: NAME-VERSION-TARGET in this folder.", metavar="DIR"
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Of the package. Default: the run's, or the file's.", metavar="NAME")
]
VersionOption = Annotated[str, typer.Option("--version", help="Of the package: 1.2.0.", metavar="VERSION")]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="The original to compare with. Default: the run that the model was compressed from, or the model itself.",
        metavar="SPEC",
    ),
]
MaxDropOption = Annotated[
    float, typer.Option("--max-drop", help="How much of the metric may be lost on all images.", metavar="PART")
]
MaxSliceDropOption = Annotated[
    float | None,
    typer.Option(
        "--max-slice-drop",
        help="How much may be lost on any slice of 20 images or more. Default: twice --max-drop.",
        metavar="PART",
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option("--metric", help="AP, AP50, AP75; mIoU, mDice; top1, balanced_accuracy, macro_F1.", metavar="METRIC"),
]
SlicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slices",
        help="Further parts of the images, as for curate evaluate; light and the slices of curate shift are always looked at.",
        metavar="LIST",
    ),
]
MostOption = Annotated[int, typer.Option("--limit", help="Compare on so many images at most; 0 for all.", min=0)]
AskOption = Annotated[
    str | None,
    typer.Option("--ask", help="Scores between which a person is to be asked: 0.3:0.7.", metavar="LOW:HIGH"),
]
UseOption = Annotated[
    str, typer.Option("--intended-use", help="For the model card: who may use it for what.", metavar="TEXT")
]
PythonOption = Annotated[
    str | None,
    typer.Option(
        "--python",
        help="A Python that has litert-torch, for tflite. Default: $CURATE_LITERT_PYTHON.",
        metavar="PATH",
    ),
]


def package(
    context: typer.Context,
    model: ModelOption,
    target: TargetOption = "onnx",
    output: OutputOption = None,
    dataset: OptionalDatasetOption = None,
    name: NameOption = None,
    version: VersionOption = "1.0.0",
    against: AgainstOption = None,
    max_drop: MaxDropOption = 0.01,
    max_slice_drop: MaxSliceDropOption = None,
    metric: MetricOption = None,
    where: WhereOption = None,
    splits: SplitsOption = None,
    slices: SlicesOption = None,
    limit: MostOption = 500,
    labels: LabelsOption = GROUND_TRUTH,
    map: MapOption = None,
    ask: AskOption = None,
    intended_use: UseOption = "",
    python: PythonOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Make a folder that runs on a device: the model, how to read it, a runner, a model card, checksums.

    Before that the packaged model is compared with its original on held-out images. Where it has lost more than --max-drop, or
    more than --max-slice-drop on a slice, no package is made and the exit status is 1. The images whose answer changed most
    become findings of kind hard.
    """
    from curate.edge.package.build import Asked
    from curate.models.predictors.class_names import read_map

    require_numbers(context, not_negative=["max_drop", "max_slice_drop"])
    asked = Asked(
        model=model,
        target=target,
        output=output,
        name=name,
        version=version,
        dataset=dataset,
        against=against,
        layer=labels,
        where=where,
        splits=None if splits is None else [each.strip() for each in splits.split(",") if each.strip()],
        slices=tuple(slices or ()),
        metric=metric,
        told=read_map(map or []),
        limit=limit,
        max_drop=max_drop,
        max_slice_drop=max_slice_drop,
        ask=_band(ask),
        intended_use=intended_use,
        python=python,
        seed=seed,
    )
    made = _make(asked)
    _print(made, json)
    fail([f"no package was made: {reason}" for reason in made.parity.refusals])


def _make(asked: Asked) -> Made:
    """Make it, with progress of whatever is going on."""
    from curate.edge.package.build import make_package

    stage = [""]
    with progress(lambda: stage[0]) as report:

        def begin(what: str) -> Progress:
            stage[0] = what
            return report

        return make_package(asked, command=command_line(), progress=begin)


def _print(made: Made, json: bool) -> None:
    from curate.report.package import print_package

    for line in made.notes:
        note(line)
    if json:
        print_json_lines([made.to_json(), *(finding.to_json() for finding in made.findings)])
    else:
        print_package(made)


def _band(text: str | None) -> tuple[float, float] | None:
    """Two scores with a colon between them."""
    from curate.errors import UsageError

    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        band = float(low), float(high)
        if not (math.isfinite(band[0]) and math.isfinite(band[1])):
            raise ValueError
        return band
    except ValueError:
        raise UsageError(f"'{text}' is no band of scores", where="--ask", remedy="as in 0.3:0.7") from None
