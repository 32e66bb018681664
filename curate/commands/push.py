"""push: images, labels and findings go to the annotators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, JsonOption, OursOption, StrictOption, WhereOption
from curate.commands.output import late_progress, note, print_json

if TYPE_CHECKING:
    from curate.connectors.sync.push import PushPlan, PushResult

RemoteArgument = Annotated[
    str | None,
    typer.Argument(
        help="A project (labelstudio://HOST/projects/7), or a server (labelstudio://HOST), where one is made. "
        "Default: the project that the dataset is synced with.",
        metavar="[REMOTE]",
    ),
]
FindingsOption = Annotated[
    str | None,
    typer.Option(
        "--findings", help="SQL condition on findings, e.g. \"kind = 'mislabeled'\". Open ones only.", metavar="SQL"
    ),
]
SelectOption = Annotated[bool, typer.Option("--select", help="Push what 'curate select' chose.")]
MostOption = Annotated[
    int | None, typer.Option("-n", help="At most this many findings (or images), the most urgent first.", min=1)
]
PredictionsOption = Annotated[
    str | None,
    typer.Option(
        "--predictions", help="Layer of predictions to send with new images: predictions/NAME.", metavar="LAYER"
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be pushed; ask the server nothing.")]


def push(
    dataset: DatasetOption,
    remote: RemoteArgument = None,
    findings: FindingsOption = None,
    where: WhereOption = None,
    select: SelectOption = False,
    limit: MostOption = None,
    predictions: PredictionsOption = None,
    ours: OursOption = False,
    dry_run: DryRunOption = False,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Send findings, images and changed labels to the annotators. Pushing again sends only what they lack.

    Without --findings, --where or --select, labels that were changed here are written back in place.
    """
    from curate.connectors.registry import connect
    from curate.connectors.sync.plans import plan_push
    from curate.connectors.sync.pull import known_remote
    from curate.connectors.sync.push import push as push_to

    selected = _selected(dataset) if select else None
    plan = plan_push(dataset, findings=findings, where=where, selected=selected, limit=limit, predictions=predictions)
    address = known_remote(dataset, remote) if remote else _only_remote(dataset)
    _refuse_nothing(dataset, address, plan, limit)
    if dry_run:
        _print_plan(dataset, address, plan, json=json)
        return
    with late_progress(f"pushing to {address}") as report:
        result = push_to(
            dataset,
            connect(address),
            plan,
            prefer="ours" if ours else None,
            strict=strict,
            command=command_line(),
            progress=report,
        )
    if json:
        print_json({"dataset": dataset, **_to_json(result)})
    else:
        _print(dataset, result)


def _refuse_nothing(dataset: str, address: str, plan: PushPlan, limit: int | None) -> None:
    """Raise a `UsageError` where nothing was chosen and nothing can have changed."""
    from curate.connectors.addresses import parse_address
    from curate.connectors.registry import CONNECTORS
    from curate.connectors.sync.pull import remotes_of
    from curate.errors import UsageError

    CONNECTORS.get(parse_address(address).service)
    remedy = "choose with --findings, --where or --select"
    if limit is not None and not plan.images:
        raise UsageError("-n limits a choice, and nothing is chosen", where=f"-n {limit}", remedy=remedy)
    if not plan.images and str(parse_address(address)) not in remotes_of(dataset, may_be_none=True):
        raise UsageError(
            "nothing is chosen, and the dataset is not synced with this project", where=address, remedy=remedy
        )


def _selected(dataset: str) -> dict[str, float]:
    """Priorities of the images that were selected."""
    from curate.dataset import open_dataset
    from curate.loop.selection import read_selection

    return {each.image_id: each.score for each in read_selection(open_dataset(dataset))}


def _only_remote(dataset: str) -> str:
    from curate.connectors.sync.pull import remotes_of
    from curate.errors import UsageError

    known = remotes_of(dataset)
    if len(known) > 1:
        raise UsageError(
            "the dataset is synced with several projects", where=dataset, remedy=f"name one: {', '.join(known)}"
        )
    return known[0]


def _print_plan(dataset: str, address: str, plan: PushPlan, *, json: bool) -> None:
    from curate.wording import counted

    if json:
        counts = {"images": len(plan.images), "findings": len(plan.findings)}
        print_json({"dataset": dataset, "remote": address, **counts, "dry_run": True})
        return
    note(
        f"would push {counted(len(plan.images), 'images')} and {counted(len(plan.findings), 'findings')} to {address}, "
        "and the labels that changed here since the last sync"
    )


def _to_json(result: PushResult) -> dict[str, Any]:
    from curate.report.conflicts import conflicts_to_json

    return {
        "remote": result.remote,
        "title": result.title,
        "images_created": result.created,
        "images_changed": result.changed,
        "images_unchanged": result.unchanged,
        "annotations": result.annotations,
        "findings": result.findings,
        "commit": result.commit,
        "conflicts": conflicts_to_json(result.conflicts),
        **result.losses.to_json(),
    }


def _print(dataset: str, result: PushResult) -> None:
    from curate.report.conflicts import print_conflicts
    from curate.report.terminal import print_losses
    from curate.wording import counted

    print_losses(result.losses)
    print_conflicts(result.conflicts, dataset=dataset)
    note(
        f"{result.remote} ({result.title}): {counted(result.created, 'images')} put there, {result.changed:,} changed, "
        f"{result.unchanged:,} as they were; {counted(result.annotations, 'annotations')}, "
        f"{counted(result.findings, 'findings')} now with the annotators (commit {result.commit})"
    )
