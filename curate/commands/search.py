"""curate search: find images or objects by a text, an image, or one of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, EncoderOption, JsonOption, ObjectsLayerOption, WhereOption
from curate.commands.output import late_progress, note, print_json_lines
from curate.names import GROUND_TRUTH

if TYPE_CHECKING:
    from curate.models.search import SearchResult

TextArgument = Annotated[
    str | None,
    typer.Argument(help="What to look for, in words: needs a CLIP encoder.", metavar="[TEXT]", show_default=False),
]
ImageOption = Annotated[
    Path | None, typer.Option("--image", help="Look for what is like this image file.", metavar="FILE")
]
LikeOption = Annotated[
    str | None,
    typer.Option(
        "--like",
        help="Look for what is like this image of the dataset: its id, or its location. With --crops, an annotation's id.",
        metavar="ID",
    ),
]
CropsOption = Annotated[bool, typer.Option("--crops", help="Search annotated objects instead of images.")]
ResultsOption = Annotated[int, typer.Option("-n", "--limit", help="How many results.", min=1)]
MinCosineOption = Annotated[
    float, typer.Option("--min-score", help="Leave out results with a lower cosine than this.", metavar="COSINE")
]
TagOption = Annotated[
    str | None,
    typer.Option(
        "--tag", help="Put this tag on the images found (of objects, the images they are on).", metavar="NAME"
    ),
]


def search(
    dataset: DatasetOption,
    text: TextArgument = None,
    image: ImageOption = None,
    like: LikeOption = None,
    crops: CropsOption = False,
    layer: ObjectsLayerOption = GROUND_TRUTH,
    where: WhereOption = None,
    limit: ResultsOption = 20,
    min_score: MinCosineOption = -1.0,
    encoder: EncoderOption = None,
    tag: TagOption = None,
    json: JsonOption = False,
) -> None:
    """Find the images, or annotated objects, that are nearest to a text, an image file, or an image of the dataset.

    What is not embedded yet is embedded first. Nothing else is written, unless --tag asks for it.
    """
    from curate.models.query import Query
    from curate.models.search import search_dataset

    with late_progress("embedding") as report:
        result = search_dataset(
            dataset,
            Query(text, image, like),
            limit=limit,
            crops=crops,
            layer=layer,
            where=where,
            encoder=encoder,
            min_score=min_score,
            tag=tag,
            command=command_line(),
            progress=report,
        )
    if json:
        print_json_lines(match.to_json() for match in result.matches)
    else:
        _print(result, crops)
    for line in result.notes:
        note(line)


def _print(result: SearchResult, crops: bool) -> None:
    from curate.report.terminal import console, print_table

    console().print(result.summary, soft_wrap=True)
    console().print()
    rows = []
    for match in result.matches:
        row: dict[str, object] = {"rank": match.rank, "score": f"{match.score:.3f}", "image": match.image}
        if crops:
            row["box"] = " ".join(f"{value:.0f}" for value in match.bbox or ())
            row["label"] = match.label or ""
            row["id"] = match.annotation_id
        rows.append(row)
    if rows:
        print_table(rows, right={"rank", "score"})
    else:
        console().print("nothing found")
