"""curate tag: put tags on images by what they show, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, EncoderOption, JsonOption, WhereOption
from curate.commands.output import late_progress, note, print_json_lines

if TYPE_CHECKING:
    from curate.models.tagging import TagResult

PromptsOption = Annotated[
    str,
    typer.Option(
        "--prompts",
        help="The tags: 'night, day, indoor'; or a .txt or .yaml file of tags and the texts that describe each.",
        metavar="TAGS|FILE",
    ),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        help="Sentence that a tag without texts of its own is put into: 'a photo of {}'. Repeatable. Default: several.",
        metavar="TEXT",
    ),
]
ThresholdOption = Annotated[
    float, typer.Option("--threshold", help="Give the best tag from this probability on.", metavar="P")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Take those of the tags away that hold no longer.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be tagged, and tag nothing.")]


def tag(
    dataset: DatasetOption,
    prompts: PromptsOption,
    template: TemplateOption = None,
    threshold: ThresholdOption = 0.5,
    where: WhereOption = None,
    encoder: EncoderOption = None,
    replace: ReplaceOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Give each image the one tag of a group that describes it best, with a CLIP encoder and without any training.

    The tags are weighed against one another, so name them as alternatives ('night, day'); run it again for the next group.
    """
    from curate.models.prompts import read_prompts
    from curate.models.tagging import tag_dataset
    from curate.models.zero_shot import TEMPLATES

    with late_progress("embedding") as report:
        result = tag_dataset(
            dataset,
            read_prompts(prompts, template or TEMPLATES),
            threshold=threshold,
            where=where,
            encoder=encoder,
            replace=replace,
            dry_run=dry_run,
            command=command_line(),
            progress=report,
        )
    if json:
        print_json_lines(result.json_lines())
    else:
        _print(result)
    for line in result.notes:
        note(line)
    if dry_run:
        note("a dry run: nothing was tagged")


def _print(result: TagResult) -> None:
    from curate.report.terminal import console, print_table

    console().print(result.summary, soft_wrap=True)
    console().print()
    print_table([vars(count) for count in result.tags], right={"images", "added", "removed"})
