"""curate evaluate: how good a model is, where, and whether it is better than another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, JsonOption, LabelsOption, LimitOption, SeedOption, WhereOption
from curate.commands.output import note, print_json_lines, progress
from curate.commands.running import fail, table_lines
from curate.names import GROUND_TRUTH

if TYPE_CHECKING:
    from curate.checks.base import Result

LayerOption = Annotated[
    str | None,
    typer.Option("--layer", help="Layer of predictions. Default: the only one there is.", metavar="LAYER"),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="detect (boxes), instances (masks of objects), segment (a class for each pixel) or classify. "
        "Default: by what the layers hold.",
        metavar="TASK",
    ),
]
SlicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--slices",
        help="Also on parts of the images: split, tags, group, shift (slices that fail by curate shift), split:val, "
        "tag:night, slice:dark_warm, or SQL conditions; separated by commas, repeatable.",
        metavar="LIST",
    ),
]
PrecisionOption = Annotated[
    float | None,
    typer.Option("--precision", help="Find the score from which on so many predictions are right.", metavar="P"),
]
AgainstOption = Annotated[
    str | None, typer.Option("--against", help="Compare with another layer of predictions.", metavar="LAYER")
]
AgainstCommitOption = Annotated[
    int | None, typer.Option("--against-commit", help="Compare with another commit of the dataset.", metavar="N")
]
CommitOption = Annotated[
    int | None, typer.Option("--commit", help="Evaluate this commit, not the newest.", metavar="N")
]
ResamplesOption = Annotated[
    int, typer.Option("--resamples", help="How many resamples of the images a comparison draws.", min=100)
]
TopKOption = Annotated[int, typer.Option("--top-k", help="For labels of images: also top-K.", min=2, metavar="K")]
UnlabelledOption = Annotated[
    str | None,
    typer.Option(
        "--unlabelled",
        help="For classes of pixels: what nobody labelled counts as background, or not at all (ignore). "
        "Default: ignore where nearly all is labelled.",
        metavar="background|ignore",
    ),
]
FailBelowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-below",
        help="Exit with status 1 if a metric is lower: AP50:0.6. Repeatable.",
        metavar="METRIC:VALUE",
    ),
]
FailIfWorseOption = Annotated[
    bool, typer.Option("--fail-if-worse", help="Exit with status 1 if it is worse than what it is compared with.")
]
FindingsOption = Annotated[
    bool, typer.Option("--findings/--no-findings", help="Store the worst images as findings of kind hard.")
]
MostOption = Annotated[int, typer.Option("--limit", help="Store so many of them at most.", min=0)]


def evaluate(
    dataset: DatasetOption,
    layer: LayerOption = None,
    labels: LabelsOption = GROUND_TRUTH,
    task: TaskOption = None,
    slices: SlicesOption = None,
    precision: PrecisionOption = None,
    against: AgainstOption = None,
    against_commit: AgainstCommitOption = None,
    commit: CommitOption = None,
    where: WhereOption = None,
    resamples: ResamplesOption = 1000,
    top_k: TopKOption = 5,
    unlabelled: UnlabelledOption = None,
    fail_below: FailBelowOption = None,
    fail_if_worse: FailIfWorseOption = False,
    findings: FindingsOption = True,
    limit: MostOption = 50,
    rows: LimitOption = 20,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure a model: COCO's numbers for boxes and masks, IoU for classes of pixels, accuracy for labels of images.

    With --against or --against-commit it says whether the one is better than the other, worse, or whether that cannot be
    told from these images.
    """
    from curate.checks.base import Settings, run_check
    from curate.checks.evaluation.gate import failures, parse_limits
    from curate.checks.evaluation.run import CHECK, EVALUATION
    from curate.report.evaluation import print_evaluation

    limits = parse_limits(fail_below or [])
    options: dict[str, Any] = {
        "layer": layer,
        "task": task,
        "slices": tuple(slices or ()),
        "precision": precision,
        "findings": findings,
        "limit": limit,
        "commit": commit,
        "against": against,
        "against_commit": against_commit,
        "resamples": resamples,
        "top_k": top_k,
        "unlabelled": unlabelled,
        "metrics": tuple(each.metric for each in limits),
        "not_worse": fail_if_worse,
    }
    with progress("evaluate") as report:
        settings = Settings(where, labels, None, 0.0, seed, report, options)
        result = run_check(CHECK, dataset, settings, command=command_line())
    for line in result.notes:
        note(line)
    if json:
        _print_json(result)
    else:
        print_evaluation(result, limit=rows, row=EVALUATION, hidden={"Calibration"})
    fail(failures(result.tables, limits, fail_if_worse=fail_if_worse))


def _print_json(result: Result) -> None:
    print_json_lines(table_lines(result))
    print_json_lines(finding.to_json() for finding in result.findings)
