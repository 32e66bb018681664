"""pull: what annotators did comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from curate.commands.app import command_line, print_error
from curate.commands.options import DatasetOption, JsonOption, OursOption, StrictOption
from curate.commands.output import late_progress, note, print_json

if TYPE_CHECKING:
    from curate.connectors.sync.pull import PullResult

RemoteArgument = Annotated[
    str | None,
    typer.Argument(
        help="cvat://HOST/projects/3, labelstudio://HOST/projects/7, roboflow://WORKSPACE/PROJECT/VERSION. "
        "Default: every project that the dataset is synced with.",
        metavar="[REMOTE]",
    ),
]
TheirsOption = Annotated[
    bool, typer.Option("--theirs", help="Take what is on the server where both sides have changed.")
]
ForgetOption = Annotated[
    bool, typer.Option("--forget", help="Sync no more with this project; what was asked there is open again.")
]


def pull(
    dataset: DatasetOption,
    remote: RemoteArgument = None,
    theirs: TheirsOption = False,
    ours: OursOption = False,
    forget: ForgetOption = False,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Bring back what annotators did: labels, new images, and verdicts on what was pushed. Only what changed is moved."""
    from curate.connectors.sync.pull import known_remote, remotes_of
    from curate.errors import CurateError, UsageError

    prefer = choice(theirs, ours)
    if forget:
        if remote is None:
            raise UsageError("which project?", where="--forget", remedy=f"name one: {', '.join(remotes_of(dataset))}")
        _forget(dataset, known_remote(dataset, remote), json=json)
        return
    failures = []
    addresses = [known_remote(dataset, remote)] if remote else remotes_of(dataset)
    for address in addresses:
        try:
            pull_one(dataset, address, prefer=prefer, create=False, strict=strict, json=json)
        except CurateError as error:
            if len(addresses) == 1:
                raise
            # One server that is down keeps nobody's work on another from coming back.
            print_error(error)
            failures.append(error)
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _forget(dataset: str, address: str, *, json: bool) -> None:
    from curate.connectors.sync.pull import forget_remote
    from curate.wording import counted

    opened = forget_remote(dataset, address, command=command_line())
    if json:
        print_json({"dataset": dataset, "remote": address, "forgotten": True, "findings_open": opened})
    else:
        note(f"{dataset} is synced with {address} no more; {counted(opened, 'findings')} open again")


def choice(theirs: bool, ours: bool) -> Literal["theirs", "ours"] | None:
    """Who is right in a conflict.

    Raises:
        UsageError: Both.
    """
    from curate.errors import UsageError

    if theirs and ours:
        raise UsageError("--theirs and --ours exclude each other", remedy="choose one")
    return "theirs" if theirs else "ours" if ours else None


def pull_one(
    dataset: str, address: str, *, prefer: Literal["theirs", "ours"] | None, create: bool, strict: bool, json: bool
) -> None:
    """Pull from one project, and print what it did."""
    from curate.connectors.registry import connect
    from curate.connectors.sync.pull import pull as pull_project

    with late_progress(f"pulling from {address}") as report:
        result = pull_project(
            dataset,
            connect(address),
            prefer=prefer,
            create=create,
            strict=strict,
            command=command_line(),
            progress=report,
        )
    if json:
        print_json({"dataset": dataset, **_to_json(result)})
    else:
        _print(dataset, result)


def _to_json(result: PullResult) -> dict[str, Any]:
    from curate.report.conflicts import conflicts_to_json

    return {
        "remote": result.remote,
        "title": result.title,
        "items": result.items,
        "moved": result.moved,
        "changes": result.counts,
        "commit": result.commit,
        "conflicts": conflicts_to_json(result.conflicts),
        "findings_waiting": result.waiting,
        "to_push": result.to_push,
        "gone": result.gone,
        "agreement": None if result.agreement is None else vars(result.agreement),
        **result.losses.to_json(),
    }


def _print(dataset: str, result: PullResult) -> None:
    from curate.report.conflicts import print_conflicts
    from curate.report.terminal import print_losses
    from curate.wording import counted

    note(f"{result.remote} ({result.title}): {counted(result.items, 'images')}, {result.moved:,} new or changed")
    print_losses(result.losses)
    if result.agreement is not None:
        note(
            f"{counted(result.agreement.annotators, 'annotators')} agree on {result.agreement.f1:.0%} of what they drew "
            f"on {counted(result.agreement.images, 'images')}"
        )
    if result.gone:
        note(f"no longer there, but kept here: {counted(result.gone, 'images')}")
    if result.waiting:
        note(f"still with the annotators: {counted(result.waiting, 'findings')}")
    if result.to_push:
        note(f"not pushed yet ('curate push' sends them): {counted(result.to_push, 'annotations')}")
    print_conflicts(result.conflicts, dataset=dataset)
    changes = ", ".join(counted(count, what) for what, count in result.counts.items())
    note(f"{dataset}: commit {result.commit}: {changes}" if changes else f"{dataset}: nothing new; no commit was made")
