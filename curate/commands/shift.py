"""curate shift: set-ups of light and kinds of content, where a model fails, and whether new data has drifted."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import (
    DatasetOption,
    EncoderOption,
    JsonOption,
    LimitOption,
    MinScoreOption,
    SeedOption,
    WhereOption,
)
from curate.commands.output import progress
from curate.commands.running import fail, print_one, project_config
from curate.names import GROUND_TRUTH

ReferenceOption = Annotated[
    str | None,
    typer.Option("--reference", help="Images that new ones are compared with: \"split = 'train'\".", metavar="SQL"),
]
IncomingOption = Annotated[
    str | None,
    typer.Option("--incoming", help="The new images. Default: all that are not the reference.", metavar="SQL"),
]
ClustersOption = Annotated[
    int | None,
    typer.Option("--clusters", help="Look for this many set-ups of light. Default: find out.", metavar="K", min=1),
]
MapOption = Annotated[bool, typer.Option("--map", help="Keep a map of the images in two dimensions as well.")]
LayerOption = Annotated[str, typer.Option("--layer", help="Layer whose classes are compared.", metavar="LAYER")]
ShiftedGateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit with status 1 if the incoming images are shifted with a p-value of at most P (default 0.05); without "
        "--reference, if a slice fails with one. P is 0.001 at least, for p-values are counted among 999 permutations.",
        metavar="shifted[:P]",
    ),
]


def shift(
    dataset: DatasetOption,
    reference: ReferenceOption = None,
    incoming: IncomingOption = None,
    clusters: ClustersOption = None,
    map_: MapOption = False,
    layer: LayerOption = GROUND_TRUTH,
    encoder: EncoderOption = None,
    where: WhereOption = None,
    min_score: MinScoreOption = 0.1,
    limit: LimitOption = 20,
    fail_on: ShiftedGateOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Name the set-ups of light in a set, and where a model fails; or test whether new data has drifted.

    Without --reference, images are grouped by light and by content. Groups are named by what was measured and by their
    metadata, and those on which predictions (or labels) are wrong more often than chance allows come first.

    With it, the incoming images are tested against the reference: one p-value, exact under permutation of groups of copies,
    which axes have shifted, which images, and whether classes are mixed differently.
    """
    from curate.checks.base import Settings, run_check
    from curate.checks.gate import failures, parse_gates, require_possible
    from curate.checks.shift.check import CHECK, DRIFT_CHECK, lowest_p_value

    check = CHECK if reference is None and incoming is None else DRIFT_CHECK
    gates = parse_gates(fail_on or [])
    require_possible(gates, check.kinds, "shifted:P, e.g. shifted:0.01")
    project = project_config(None)
    options = {"reference": reference, "incoming": incoming, "clusters": clusters, "map": map_, "alone": True}
    with progress("shift") as report:
        settings = Settings(where, layer, encoder, min_score, seed, report, options)
        result = run_check(check, dataset, settings, command=command_line())
    findings = print_one(result, project, limit=limit, json=json)
    fail(failures(findings, gates, lowest_p_value(result.tables)))
