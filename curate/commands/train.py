"""curate train: learn a model from a dataset's labels."""

from __future__ import annotations

import json as jsonlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.commands.app import command_line
from curate.commands.options import JsonOption, OptionalDatasetOption, WhereOption
from curate.commands.output import Progress, note, print_json, progress

if TYPE_CHECKING:
    from curate.models.training.runs import Run


class TaskName(StrEnum):
    """What can be learnt."""

    CLASSIFY = "classify"
    DETECT = "detect"
    SEGMENT = "segment"


class FreezeName(StrEnum):
    """Which weights stay as they are."""

    BACKBONE = "backbone"
    MOST = "most"
    NOTHING = "nothing"


TaskOption = Annotated[TaskName | None, typer.Option("--task", help="What is learnt.", show_default=False)]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Architecture. Default: by the task, and by what is on this disk.", metavar="NAME"),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", help="pretrained, scratch, or a local safetensors file.", metavar="WHICH|FILE"),
]
FreezeOption = Annotated[
    FreezeName | None, typer.Option("--freeze", help="Which weights stay as they are.", show_default=False)
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Most passes over the images.", metavar="N")]
ImageSizeOption = Annotated[
    int | None, typer.Option("--image-size", help="Pixels that the network sees.", metavar="PIXELS")
]
BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", help="Images of a step.", metavar="N")]
LrOption = Annotated[float | None, typer.Option("--lr", help="Highest learning rate.", metavar="RATE")]
OptionalSeedOption = Annotated[
    int | None, typer.Option("--seed", help="Seed of everything random. Default: 0.", metavar="N")
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1. Default: a GPU if there is one.", metavar="DEVICE"),
]
AmpOption = Annotated[
    bool | None, typer.Option("--amp/--no-amp", help="Half precision where it is safe. Default: on a GPU.")
]
MinutesOption = Annotated[float | None, typer.Option("--minutes", help="Be done after so many.", metavar="MINUTES")]
LayerOption = Annotated[
    str | None, typer.Option("--layer", help="Layer of the labels. Default: ground_truth.", metavar="LAYER")
]
ValOption = Annotated[
    str | None,
    typer.Option(
        "--val",
        help="Split that decides which epoch is best, or a share to hold out. Default: val, or 0.2 where there is none.",
        metavar="SPLIT|SHARE",
    ),
]
EmptyOption = Annotated[
    bool, typer.Option("--empty", help="Images without annotations are known to have nothing on them.")
]
FoldsOption = Annotated[
    int | None,
    typer.Option(
        "--folds",
        help="Train so many models, each without one part of the images, and keep what they say of that part as a layer.",
        metavar="K",
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Of the run. Default: the dataset, the task and a number.", metavar="RUN"),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run --name, which was interrupted.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Another setting, or an option of the task. Repeatable.", metavar="KEY=VALUE"),
]


def train(
    dataset: OptionalDatasetOption = None,
    task: TaskOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    freeze: FreezeOption = None,
    epochs: EpochsOption = None,
    image_size: ImageSizeOption = None,
    batch_size: BatchSizeOption = None,
    lr: LrOption = None,
    seed: OptionalSeedOption = None,
    device: DeviceOption = None,
    amp: AmpOption = None,
    minutes: MinutesOption = None,
    where: WhereOption = None,
    layer: LayerOption = None,
    val: ValOption = None,
    empty: EmptyOption = False,
    folds: FoldsOption = None,
    name: NameOption = None,
    resume: ResumeOption = False,
    option: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train a model; 'run:NAME' then names it wherever a model is asked for. Interrupted, it goes on with --resume.

    The test split is never learnt from.
    """
    from curate.models.training.train import Asked

    asked = Asked(
        dataset=dataset, layer=layer, where=where, validation=val, empty=empty or None, folds=folds,
        settings=settings_of(
            option or [], task=None if task is None else task.value, model=model, weights=weights,
            freeze=None if freeze is None else freeze.value, epochs=epochs, image_size=image_size, batch_size=batch_size,
            learning_rate=lr, seed=seed, device=device, amp=amp, minutes=minutes,
        ),
    )  # fmt: skip
    run = _run(asked, name, resume)
    if json:
        print_json(run.to_json())
    else:
        _print(run)


def _run(asked: Any, name: str | None, resume: bool) -> Run:
    """Train, with progress on stderr; tells how to go on when it is interrupted."""
    from curate.errors import UsageError
    from curate.models.training.runs import free_name, run_names
    from curate.models.training.train import resume as go_on
    from curate.models.training.train import train as begin

    if resume and name is None:
        raise UsageError(
            "which run to go on with?", where="--resume", remedy="name it: --name RUN; 'curate runs' lists them"
        )
    if name is None:
        name = free_name(f"{asked.dataset or 'run'}-{asked.settings.get('task', 'train')}")
    try:
        with phases() as report:
            if resume:
                return go_on(name, asked, report=report, say=note)
            return begin(asked, name=name, command=command_line(), report=report, say=note)
    except KeyboardInterrupt:
        if name in run_names():
            note(f"go on with: curate train --name {name} --resume")
        raise


@contextmanager
def phases() -> Iterator[Callable[[int, int, str], None]]:
    """Progress on stderr, begun anew with every phase: features, the epochs of each model, predictions."""
    with ExitStack() as stack:
        text = ""
        phase: tuple[str, int] | None = None
        tell: Progress | None = None

        def report(done: int, total: int, now: str) -> None:
            nonlocal text, phase, tell
            text = now
            current = now.partition("epoch")[0], total
            if tell is None or current != phase:
                stack.close()
                phase, tell = current, stack.enter_context(progress(lambda: text))
            tell(done, total)
            if done >= total:
                stack.close()
                tell = None

        yield report


def settings_of(pairs: Sequence[str], **given: Any) -> dict[str, Any]:
    """What was asked for, by name; what `--set` says is a setting, or else an option of the task."""
    from dataclasses import fields

    from curate.errors import UsageError
    from curate.models.training.base import TrainingSettings

    asked = {key: value for key, value in given.items() if value is not None}
    known = {each.name for each in fields(TrainingSettings)} - {"options", "task"}
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not key or not equals:
            raise UsageError(f"'{pair}' is not KEY=VALUE", where="--set", remedy="e.g. --set mixup=0.2")
        if key in asked:
            raise UsageError(f"'{key}' is set twice", where="--set", remedy="say it once")
        (asked if key in known else options)[key] = _value(text)
    return asked | ({"options": options} if options else {})


def _value(text: str) -> Any:
    """A number or a truth value if the text is one, else the text."""
    try:
        return jsonlib.loads(text)
    except ValueError:
        return text


def _print(run: Run) -> None:
    from curate.report.terminal import console, print_table

    console().print(run.describe(), soft_wrap=True)
    if run.folds:
        print_table(
            [
                {"model": f"run:{fold['name']}", "predicts": f"{fold['predicts']:,}", **_shown(run, fold["numbers"])}
                for fold in run.folds
            ],
            right={"predicts", *run.main_numbers},
        )
        console().print(f"out-of-fold predictions: {run.predictions}", soft_wrap=True)
        console().print(f"how good they are: {_evaluation(run)}", soft_wrap=True)
    else:
        console().print(f"use it: --model run:{run.name}", soft_wrap=True)


def _evaluation(run: Run) -> str:
    """The command that evaluates a run's out-of-fold predictions."""
    from curate.names import GROUND_TRUTH

    labels = [] if run.plan.layer == GROUND_TRUTH else ["--labels", run.plan.layer]
    return shlex.join(["curate", "evaluate", "-d", run.plan.dataset, "--layer", str(run.predictions), *labels])


def _shown(run: Run, numbers: dict[str, float]) -> dict[str, str]:
    return {name: f"{numbers[name]:.4f}" if name in numbers else "" for name in run.main_numbers}
