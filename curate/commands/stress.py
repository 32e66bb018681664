"""curate stress: where does a model break as light, focus, noise and weather get worse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.options import (
    DatasetOption,
    JsonOption,
    LabelsOption,
    MapOption,
    PromptsOption,
    SeedOption,
    SplitsOption,
    WhereOption,
)
from curate.commands.output import note, print_json_lines, progress
from curate.commands.running import fail
from curate.names import GROUND_TRUTH

if TYPE_CHECKING:
    from curate.augment.stress.curves import Stress

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="onnx:PATH, hf:ID-OR-FOLDER, or run:NAME (trained here).",
        metavar="SPEC",
        show_default=False,
    ),
]
CorruptionsOption = Annotated[
    str | None,
    typer.Option(
        "--corruptions",
        help="Names between commas, of corruptions or of recipes. Default: all corruptions.",
        metavar="NAMES",
    ),
]
StepsOption = Annotated[int, typer.Option("--steps", help="How many severities, the highest 1.", min=1, max=20)]
MostOption = Annotated[int, typer.Option("--limit", help="At most so many images, drawn at random; 0 for all.", min=0)]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="AP, AP50, AP75 (boxes, masks of objects); mIoU, mDice, mean_accuracy (pixels); top1, balanced_accuracy, "
        "macro_F1 (labels of images). Default: the first.",
        metavar="METRIC",
    ),
]
MaxDropOption = Annotated[
    float, typer.Option("--max-drop", help="Share of the clean metric that may be lost.", metavar="SHARE")
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit with status 1 if a corruption costs more than this share of the clean metric, beyond chance: 0.2, or "
        "0.2:0.4 for severities up to 0.4. Repeatable.",
        metavar="DROP[:SEVERITY]",
    ),
]
ResamplesOption = Annotated[int, typer.Option("--resamples", help="Of the images, for the intervals.", min=100)]
ChartOption = Annotated[
    Path | None, typer.Option("--chart", help="Draw the curves to this file, .svg or .png.", metavar="FILE")
]


def stress(
    dataset: DatasetOption,
    model: ModelOption,
    corruptions: CorruptionsOption = None,
    steps: StepsOption = 5,
    splits: SplitsOption = None,
    where: WhereOption = None,
    limit: MostOption = 200,
    labels: LabelsOption = GROUND_TRUTH,
    metric: MetricOption = None,
    max_drop: MaxDropOption = 0.1,
    map: MapOption = None,
    prompts: PromptsOption = None,
    fail_on: FailOnOption = None,
    chart: ChartOption = None,
    resamples: ResamplesOption = 300,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Run a model over graded corruptions and measure it: lamps first, then focus, motion, noise, compression, weather.

    Says where it breaks, and which recipe of 'curate augment' would cover that. Interrupted, it goes on where it stopped;
    what was measured is kept in the dataset, and not measured again.
    """
    from curate.augment.stress.gate import failures, parse_limits
    from curate.augment.stress.run import Asked
    from curate.augment.stress.run import stress as run
    from curate.models.predictors.base import Options
    from curate.models.predictors.class_names import read_map
    from curate.report.stress import draw_stress, print_stress, require_drawable

    limits = parse_limits(fail_on or [])
    if chart is not None:
        require_drawable(chart)
    asked = Asked(
        corruptions=_names(corruptions),
        steps=steps,
        splits=None if splits is None else _names(splits),
        where=where,
        limit=limit,
        layer=labels,
        metric=metric,
        max_drop=max_drop,
        told=read_map(map or []),
        options=Options(prompts=_names(prompts)),
        resamples=resamples,
        seed=seed,
    )
    with progress("stress") as report:
        result = run(dataset, model, asked, command=command_line(), progress=report)
    for line in result.notes:
        note(line)
    if json:
        print_json_lines(_lines(result))
    else:
        print_stress(result)
    if chart is not None:
        draw_stress(result, chart)
        note(f"drawn: {chart}")
    fail(failures(result, limits))


def _names(text: str | None) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _lines(result: Stress) -> Iterator[dict[str, Any]]:
    """What was looked at, then a line for each corruption."""
    whole = result.to_json()
    curves = whole.pop("curves")
    yield {"kind": "stress", **whole}
    yield from ({"kind": "curve", **curve} for curve in curves)
