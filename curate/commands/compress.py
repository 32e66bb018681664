"""curate compress: a smaller and faster model that loses no more than it may."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.app import command_line
from curate.commands.given import refuse, require_numbers
from curate.commands.options import JsonOption, LabelsOption, OptionalDatasetOption, SeedOption, WhereOption
from curate.commands.output import note, print_json
from curate.names import GROUND_TRUTH

if TYPE_CHECKING:
    from curate.edge.compress.search import Method

_NOT_HELD = 1


class PreferName(StrEnum):
    """What the best of all that hold the budget has most of."""

    SPEED = "speed"
    SIZE = "size"
    ACCURACY = "accuracy"


class RuntimeName(StrEnum):
    """What latency is measured with."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="run:NAME (trained here) or onnx:PATH.", metavar="SPEC", show_default=False)
]
MaxDropOption = Annotated[
    float, typer.Option("--max-drop", help="Of the metric, that may be lost of all images.", metavar="PART", min=0)
]
MaxSliceDropOption = Annotated[
    float | None,
    typer.Option(
        "--max-slice-drop",
        help="The same of any slice of 50 images or more. Default: twice --max-drop.",
        metavar="PART",
        min=0,
    ),
]
MaxLatencyOption = Annotated[
    str | None, typer.Option("--max-latency", help="CPU time of an image in one thread: 50ms.", metavar="TIME")
]
MaxSizeOption = Annotated[str | None, typer.Option("--max-size", help="Of the file: 5MB.", metavar="SIZE")]
PreferOption = Annotated[PreferName, typer.Option("--prefer", help="Of what the best in the budget has most.")]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Between commas: quantise, nncf, qat (learning with rounding), prune, distil. "
        "Default: quantise, and qat and prune where the budget needs them.",
        metavar="NAMES",
    ),
]
TeacherOption = Annotated[
    str | None, typer.Option("--teacher", help="A larger model to learn from: run:NAME.", metavar="SPEC")
]
PruneOption = Annotated[
    str, typer.Option("--prune", help="Shares of the channels to take out, between commas.", metavar="SHARES")
]
MinutesOption = Annotated[
    float | None,
    typer.Option("--minutes", help="Of each training. Default: a tenth of the run's own.", metavar="MINUTES"),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", help="Steps of each training, instead of --minutes.", min=1, metavar="N")
]
RuntimeOption = Annotated[RuntimeName, typer.Option("--runtime", help="What latency is measured with.")]
NameOption = Annotated[str | None, typer.Option("--name", help="Of the new run.", metavar="RUN")]
SplitsOption = Annotated[
    str | None,
    typer.Option(
        "--splits",
        help="That judge, between commas. Default: what validated the run, else val and test.",
        metavar="SPLITS",
    ),
]
SlicesOption = Annotated[
    str | None,
    typer.Option("--slices", help="Further parts to look at, as for curate evaluate.", metavar="SLICES"),
]
MetricOption = Annotated[
    str | None, typer.Option("--metric", help="What counts. Default: AP, mIoU or top1.", metavar="METRIC")
]
MostOption = Annotated[int, typer.Option("--limit", help="At most so many images judge; 0 for all.", min=0)]
CalibrationOption = Annotated[int, typer.Option("--calibration", help="How many images the quantiser is shown.", min=1)]
ChartOption = Annotated[
    Path | None, typer.Option("--chart", help="Draw the frontier to this file, .svg or .png.", metavar="FILE")
]


def compress(
    context: typer.Context,
    model: ModelOption,
    dataset: OptionalDatasetOption = None,
    max_drop: MaxDropOption = 0.01,
    max_slice_drop: MaxSliceDropOption = None,
    max_latency: MaxLatencyOption = None,
    max_size: MaxSizeOption = None,
    prefer: PreferOption = PreferName.SPEED,
    methods: MethodsOption = None,
    teacher: TeacherOption = None,
    prune: PruneOption = "0.3,0.5",
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    runtime: RuntimeOption = RuntimeName.ONNXRUNTIME,
    name: NameOption = None,
    splits: SplitsOption = None,
    where: WhereOption = None,
    slices: SlicesOption = None,
    metric: MetricOption = None,
    limit: MostOption = 500,
    calibration: CalibrationOption = 64,
    labels: LabelsOption = GROUND_TRUTH,
    chart: ChartOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Search for the smaller, faster model that loses no more than it may, and keep it as a run: run:NAME.

    The loss is measured of all images and of every slice. Exit status 1: nothing holds the budget, and nothing was kept.
    """
    from curate.checks.evaluation.slices import split_list
    from curate.commands.train import phases
    from curate.edge.compress.frontier import Budget, parse_seconds, parse_size
    from curate.edge.compress.search import Asked
    from curate.edge.compress.search import compress as search
    from curate.report.compress import draw_compressed, print_compressed
    from curate.report.stress import require_drawable

    require_numbers(context, positive=["minutes"], not_negative=["max_drop", "max_slice_drop"])
    if steps is not None:
        refuse(context, ["minutes"], "a training ends after minutes or after steps", "leave out --minutes or --steps")
    if chart is not None:
        require_drawable(chart)
    budget = Budget(
        max_drop=max_drop,
        max_slice_drop=2 * max_drop if max_slice_drop is None else max_slice_drop,
        max_seconds=None if max_latency is None else parse_seconds(max_latency),
        max_size=None if max_size is None else parse_size(max_size),
    )
    asked = Asked(
        model=model, dataset=dataset, name=name, budget=budget, prefer=prefer.value, methods=_methods(methods),
        teacher=teacher, runtime=runtime.value, shares=_shares(prune), minutes=minutes, steps=steps, layer=labels,
        splits=None if splits is None else tuple(_listed(splits)), where=where,
        slices=tuple(split_list([slices] if slices else [])), metric=metric, limit=limit, calibration=calibration,
        seed=seed,
    )  # fmt: skip
    with phases() as report:
        result = search(asked, command=command_line(), say=note, report=report)
    for line in result.notes:
        note(line)
    if json:
        print_json(result.to_json())
    else:
        print_compressed(result)
    if chart is not None:
        draw_compressed(result, chart)
        note(f"drawn: {chart}")
    if result.nearest is not None:
        raise typer.Exit(_NOT_HELD)


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _methods(text: str | None) -> tuple[Method, ...] | None:
    """Names between commas; None for the default.

    Raises:
        UsageError: There is no such method.
    """
    from curate.edge.compress.search import METHODS
    from curate.errors import UsageError

    if text is None:
        return None
    found: list[Method] = []
    for name in _listed(text):
        method = next((each for each in METHODS if each == name), None)
        if method is None:
            raise UsageError(f"there is no method '{name}'", where="--methods", remedy=f"one of: {', '.join(METHODS)}")
        found.append(method)
    return tuple(found)


def _shares(text: str) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        UsageError: One is no number.
    """
    from curate.errors import UsageError

    try:
        return tuple(float(each) for each in _listed(text))
    except ValueError:
        raise UsageError(f"'{text}' is no list of shares", where="--prune", remedy="e.g. 0.3,0.5") from None
