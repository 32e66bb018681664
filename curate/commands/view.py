"""app: the dataset in the FiftyOne App, and what is done there back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.options import DatasetOption, JsonOption
from curate.commands.output import late_progress, note, print_json
from curate.connectors.fiftyone import PORT

if TYPE_CHECKING:
    from curate.connectors.fiftyone.sync import Synced

PortOption = Annotated[
    int, typer.Option("--port", help="Where the App is served, on 127.0.0.1; 0 for any that is free.", min=0, max=65535)
]
PullOption = Annotated[bool, typer.Option("--pull", help="Only take over what was done in the App; do not open it.")]
AnewOption = Annotated[bool, typer.Option("--anew", help="Make FiftyOne's copy anew, edits taken over first.")]
NoBrowserOption = Annotated[bool, typer.Option("--no-browser", help="Do not open a browser window.")]


def app(
    dataset: DatasetOption,
    pull: PullOption = False,
    port: PortOption = PORT,
    anew: AnewOption = False,
    no_browser: NoBrowserOption = False,
    json: JsonOption = False,
) -> None:
    """Show the dataset in the FiftyOne App, and take over what is done there, until Ctrl-C.

    A tag decides on findings: confirm, reject, relabel or reopen, on a finding, a label or an image ('reject:dark' for one
    kind). Changed classes, moved boxes, new and deleted labels and tags of images come back as well. Each change is a commit.
    """
    from curate.connectors.fiftyone.app import pull_app, run_app
    from curate.errors import UsageError

    if pull and anew:
        remedy = "'curate app --anew' takes over what was done before it makes the copy anew"
        raise UsageError("--pull and --anew exclude each other", remedy=remedy)
    if pull:
        synced = pull_app(dataset, command=command_line())
        if json:
            print_json({"dataset": dataset, **_to_json(synced)})
        else:
            _print(dataset, synced)
        return

    def opened(url: str, synced: Synced) -> None:
        if json:
            print_json({"dataset": dataset, "url": url, **_to_json(synced)})
            sys.stdout.flush()
        else:
            _print(dataset, synced)
            note(f"the App is at {url}; Ctrl-C ends it")
        if not no_browser and not json:
            _open_browser(url)

    def changed(synced: Synced) -> None:
        if json:
            print_json({"dataset": dataset, **_to_json(synced)})
            sys.stdout.flush()
        else:
            _print(dataset, synced)

    with late_progress("samples") as report:
        run_app(
            dataset,
            port=port,
            anew=anew,
            command=command_line(),
            progress=report,
            opened=opened,
            synced=changed,
            waiting=lambda why: note(f"waiting with what was done in the App: {why}"),
        )


def _to_json(synced: Synced) -> dict[str, Any]:
    return {
        "commit": synced.commit,
        "edited": synced.edited,
        "changes": synced.taken,
        "samples": vars(synced.published),
        **synced.losses.to_json(),
    }


def _print(dataset: str, synced: Synced) -> None:
    from curate.report.terminal import print_losses
    from curate.wording import counted

    if synced.taken:
        changes = ", ".join(counted(count, what) for what, count in synced.taken.items())
        note(f"{dataset}: commit {synced.commit}: {changes}")
    elif not synced.published:
        note(f"{dataset}: nothing new on either side")
    if synced.published:
        parts = {name: count for name, count in vars(synced.published).items() if count}
        note(f"samples in the App: {', '.join(f'{count:,} {name}' for name, count in parts.items())}")
    if synced.losses.losses:
        print_losses(synced.losses)


def _open_browser(url: str) -> None:
    """Open a window where there is a desktop: on a server, a browser in the terminal is what nobody wants."""
    import os
    import webbrowser

    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
