"""The options that mean the same in several commands. Those of one command stand above its function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset", "-d", envvar="CURATE_DATASET", help="Name of the dataset.", metavar="NAME", show_envvar=True
    ),
]
OptionalDatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset", "-d", envvar="CURATE_DATASET", help="Name of the dataset.", metavar="NAME", show_envvar=True
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.", min=0)]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop, and write nothing, at the first loss.")]

# What is chosen, and how much of it is shown.
WhereOption = Annotated[
    str | None, typer.Option("--where", help="SQL condition on images, e.g. \"split = 'train'\".", metavar="SQL")
]
FindingsWhereOption = Annotated[
    str | None,
    typer.Option(
        "--where", help="SQL condition on findings, e.g. \"kind = 'missing' AND score > 0.8\".", metavar="SQL"
    ),
]
BoxesLayerOption = Annotated[str, typer.Option("--layer", help="Layer whose boxes these are.", metavar="LAYER")]
ObjectsLayerOption = Annotated[str, typer.Option("--layer", help="Layer of the objects.", metavar="LAYER")]
LimitOption = Annotated[int, typer.Option("-n", help="How many rows to show; --json prints all.", min=0)]

# Of what runs a model or a check.
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="builtin, builtin:style, clip:MODEL/TAG, timm:NAME.TAG, onnx:PATH or auto. Default: the dataset's.",
        metavar="SPEC",
    ),
]
MinScoreOption = Annotated[
    float, typer.Option("--min-score", help="Leave out what is less probably a problem than this.", metavar="P")
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit with status 1 if a finding of this kind scores at least SCORE (default 0.5). Repeatable.",
        metavar="KIND[:SCORE]",
    ),
]
LabelsOption = Annotated[str, typer.Option("--labels", help="Layer that is true.", metavar="LAYER")]
SplitsOption = Annotated[
    str | None,
    typer.Option(
        "--splits", help="Splits between commas. Default: val and test where there are any.", metavar="SPLITS"
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="Which of the model's classes is which, as for curate predict. Repeatable.", metavar="MAP|FILE"
    ),
]
PromptsOption = Annotated[
    str | None,
    typer.Option(
        "--prompts", help="What to look for, for models that take texts: 'person, forklift'.", metavar="NAMES"
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="The project's curate.toml. Default: in the current folder or above.", metavar="FILE"
    ),
]

# Between here and a server.
OursOption = Annotated[bool, typer.Option("--ours", help="Keep what is here where both sides have changed.")]
