"""ls, info, history, diff, undo, rm: datasets and their commits."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, JsonOption, OptionalDatasetOption, YesOption
from curate.commands.output import agrees, note, print_json, print_json_lines
from curate.errors import UnavailableError
from curate.names import GROUND_TRUTH, PREDICTIONS

NameArgument = Annotated[
    str | None, typer.Argument(help="The dataset; --dataset means the same.", metavar="[NAME]", show_default=False)
]


def ls(json: JsonOption = False) -> None:
    """List the datasets."""
    from curate.dataset import dataset_names, open_dataset
    from curate.dataset.home import datasets_folder
    from curate.dataset.query import in_layer, quote
    from curate.report.terminal import print_table

    rows = []
    failures: list[UnavailableError] = []
    for name in dataset_names():
        try:
            dataset = open_dataset(name)
            rows.append(
                {
                    "name": name,
                    "images": dataset.count("images"),
                    "annotations": dataset.count("annotations", where=in_layer(GROUND_TRUTH)),
                    "predictions": dataset.count("annotations", where=f"layer LIKE {quote(PREDICTIONS + '%')}"),
                    "open_findings": dataset.count("findings", where="status = 'open'"),
                    "commit": dataset.commit.number,
                    "time": dataset.commit.time,
                }
            )
        except UnavailableError as error:  # one store that does not answer hides no other dataset
            failures.append(error)
            note(f"{name}: {error}")
    if json:
        print_json_lines(rows)
    elif rows:
        print_table(rows, right={"images", "annotations", "predictions", "open_findings", "commit"})
    elif not failures:
        note(
            f"no datasets yet in {datasets_folder()}: "
            "'curate import SOURCE --dataset NAME' makes one, 'curate demo' renders one"
        )
    if failures:
        raise typer.Exit(failures[0].exit_code)


def info(name: NameArgument = None, dataset: OptionalDatasetOption = None, json: JsonOption = False) -> None:
    """Say what a dataset holds: images, splits, layers, classes, embeddings, findings."""
    from curate.dataset import open_dataset
    from curate.dataset.summary import summarize
    from curate.report.terminal import print_summary

    summary = summarize(open_dataset(_name(name, dataset)))
    if json:
        print_json(summary)
    else:
        print_summary(summary)


def history(name: NameArgument = None, dataset: OptionalDatasetOption = None, json: JsonOption = False) -> None:
    """List a dataset's commits, newest first."""
    from curate.dataset import open_dataset, read_history
    from curate.report.terminal import print_table
    from curate.wording import counted

    commits = read_history(open_dataset(_name(name, dataset)).path)
    if json:
        print_json_lines(
            {
                "commit": commit.number,
                "time": commit.time,
                "changes": dict(commit.counts),
                "restores": commit.restores,
                "command": commit.command,
            }
            for commit in commits
        )
        return
    rows = [
        {
            "commit": commit.number,
            "time": commit.time,
            "changes": ", ".join(counted(count, what) for what, count in commit.counts.items())
            if commit.restores is None
            else f"back to {commit.restores}",
            "command": commit.command,
        }
        for commit in commits
    ]
    print_table(rows, right={"commit"})


def diff(
    dataset: DatasetOption,
    first: Annotated[
        int | None, typer.Argument(help="Commit number. Default: the one before B.", metavar="[A]", show_default=False)
    ] = None,
    second: Annotated[
        int | None, typer.Argument(help="Commit number. Default: the newest.", metavar="[B]", show_default=False)
    ] = None,
    json: JsonOption = False,
    limit: Annotated[int, typer.Option("-n", help="How many rows to show of each kind of change.", min=0)] = 5,
) -> None:
    """Say what changed in a dataset from commit A to commit B; without them, what the last commit changed."""
    from curate.dataset import open_dataset
    from curate.dataset.difference import difference
    from curate.report.terminal import print_difference

    newest = open_dataset(dataset, commit=second)
    before = newest.commit.parent if first is None else first
    result = difference(open_dataset(dataset, commit=before), newest, examples=limit)
    if json:
        print_json(result)
    else:
        print_difference(result)


def undo(
    dataset: DatasetOption,
    to: Annotated[int | None, typer.Option(help="Bring back the state of this commit.", metavar="COMMIT")] = None,
    json: JsonOption = False,
) -> None:
    """Take back the last commit, as a new commit; again: the one before. Nothing is lost: --to goes forward as well."""
    from curate.dataset import undo as undo_commit

    commit = undo_commit(dataset, command=command_line(), to=to)
    if json:
        print_json({"commit": commit.number, "restores": commit.restores})
    else:
        note(f"commit {commit.number} of {dataset} is commit {commit.restores} again")


def rm(
    name: NameArgument = None, dataset: OptionalDatasetOption = None, yes: YesOption = False, json: JsonOption = False
) -> None:
    """Delete a dataset with all its commits. Image files that were imported from elsewhere stay where they are."""
    from curate.dataset import open_dataset, remove
    from curate.errors import UsageError
    from curate.wording import counted

    chosen = _name(name, dataset)
    if not yes:
        count = counted(open_dataset(chosen).count("images"), "images")
        if not agrees(f"Delete the dataset '{chosen}' ({count}, all commits)?"):
            raise UsageError("not removed", where=chosen, remedy="answer y, or say --yes")
    remove(chosen)
    if json:
        print_json({"removed": chosen})
    else:
        note(f"removed {chosen}")


def _name(argument: str | None, option: str | None) -> str:
    from curate.errors import UsageError

    name = argument or option
    if name is None:
        raise UsageError("no dataset was named", remedy="give its name, or set CURATE_DATASET; 'curate ls' lists them")
    return name
