"""Runs: what was trained, and from what; one folder each under ``$CURATE_HOME/runs``.

NAME/run.json               what it came to; written last, by a rename: without it a run is unfinished
NAME/model.onnx             the network, and model.curate.json: how `onnx:` predictors read it
NAME/model.safetensors      its weights, to train on from
NAME/log.jsonl              a line for each epoch; tensorboard/: the same for TensorBoard
NAME/plan.json              what was asked for; `--resume` reads it
NAME/checkpoint/            while it runs; shared/: what the models of a run with folds share
NAME/fold-1/ ...            the same for each model of a run with folds, instead of a model of its own
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from filelock import FileLock, Timeout

from curate import __version__
from curate.dataset.home import home
from curate.errors import DatasetLocked, InputError, UsageError
from curate.files import write_atomic
from curate.models.training.base import Task
from curate.models.training.checkpoints import FILE, NotKept, cannot_write, is_full

T = TypeVar("T")

RUN_FILE: Final = "run.json"
PLAN_FILE: Final = "plan.json"
MODEL_FILE: Final = "model.onnx"
WEIGHTS_FILE: Final = "model.safetensors"
CHECKPOINT_FOLDER: Final = "checkpoint"
SHARED_FOLDER: Final = "shared"

INNER: Final = "inner validation"
"""What the numbers of a run with folds are of: they are no result of its out-of-fold predictions."""

_NAME: Final = re.compile(r"\w[\w.\-]{0,99}")
_PACKAGES: Final = ("torch", "timm", "transformers", "segmentation_models_pytorch", "onnx", "onnxruntime", "numpy")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was asked for.

    Attributes:
        dataset: Name of the dataset.
        commit: Of it that is trained on.
        layer: The labels.
        where: Which images; None for all.
        validation: A split or a share, as asked for.
        empty: Whether images without annotations are taken for empty.
        folds: How many models, each without one part of the images; None for one model.
        settings: As asked for, open ones as null.
        command: The command line.
        division: Digest of which images each model learns from and predicts: when a run goes on it must be the same.
    """

    dataset: str
    commit: int
    layer: str
    where: str | None = None
    validation: str | None = None
    empty: bool = False
    folds: int | None = None
    settings: dict[str, Any]
    command: str = ""
    division: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a run, or one fold of it, came to.

    Attributes:
        name: Of the run; 'NAME/fold-2' for a fold.
        task: What was learnt.
        model: The architecture.
        classes: In the order of the model's class numbers.
        plan: What was asked for.
        settings: With which it was trained, nothing left open.
        images: How many were trained on ('train'), chose the best epoch ('validation'), and could not be read ('unreadable').
        validation: How those were chosen.
        metric: Which of the numbers chose the best epoch.
        numbers: Validation numbers of the best epoch; of a run with folds the means over them, each of images that were held
            out of what the fold's model learnt from, and not of its out-of-fold predictions.
        epochs: That were made.
        best_epoch: Whose weights were kept.
        stopped: Why it ended: 'epochs', 'steps', 'early', 'minutes'.
        seconds: Of training.
        finished: When, UTC.
        versions: Of the packages that had a part in it.
        predictions: The layer with out-of-fold predictions, of a run with folds.
        folds: What each fold came to.
        parent: Spec of the model that this one was made smaller from; None for one that was trained from data.
        compression: How, and what it lost by it: as `curate compress --json` prints it.
    """

    name: str
    task: Task
    model: str
    classes: tuple[str, ...]
    plan: Plan
    settings: dict[str, Any]
    images: dict[str, int]
    validation: str
    metric: str
    numbers: dict[str, float]
    epochs: int
    best_epoch: int
    stopped: str
    seconds: float
    finished: str
    versions: dict[str, str]
    predictions: str | None = None
    folds: list[dict[str, Any]] | None = None
    parent: str | None = None
    compression: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    def describe(self) -> str:
        """A sentence for a person."""
        numbers = ", ".join(f"{name} {self.numbers[name]:.4f}" for name in self.main_numbers) or "not validated"
        if self.folds:
            numbers = f"{len(self.folds)} models, {INNER} {numbers}"
        return f"{self.name}: {self.model}, {numbers}, {self.seconds:,.0f} s"

    @property
    def result(self) -> str:
        """The number that chose the best epoch, with its name; empty without one."""
        if self.metric not in self.numbers:
            return ""
        return f"{self.metric} {self.numbers[self.metric]:.4f}" + (f" ({INNER})" if self.folds else "")

    @property
    def main_numbers(self) -> list[str]:
        """Names of the numbers that are not of one class ('AP50/nut'), the metric first."""
        return sorted((name for name in self.numbers if "/" not in name), key=lambda name: (name != self.metric, name))


def runs_folder() -> Path:
    """The folder that has a folder for each run; not necessarily there yet."""
    return home() / "runs"


def run_path(name: str) -> Path:
    """The folder of a run, which need not exist.

    Raises:
        UsageError: The name could not be a folder's.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot be a run's name",
            remedy="letters, digits, '_', '-' and '.', not beginning with '-' or '.', at most 100 characters",
        )
    return runs_folder() / name


def require_free(name: str) -> None:
    """See that a run could be made under a name.

    Raises:
        UsageError: The name is taken, or could not be a folder's.
    """
    if (folder := run_path(name)).exists():
        raise _taken(name, folder)


def free_name(stem: str) -> str:
    """A name that no run has: 'STEM-1', or the next that is free."""
    number = 1
    while (runs_folder() / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def run_names() -> list[str]:
    """Names of all runs, unfinished ones too, sorted."""
    folder = runs_folder()
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if (path / PLAN_FILE).is_file())


def read_run(name: str) -> Run | None:
    """What a run ('NAME'), or a fold of one ('NAME/fold-2'), came to; None if it is unfinished.

    Raises:
        UsageError: There is no such run.
        InputError: Its file cannot be read.
    """
    folder = run_folder(name)
    path = folder / RUN_FILE
    if not path.exists():
        return None
    return _decode(path, Run)


def read_plan(name: str) -> Plan:
    """What a run was asked for; errors as for `read_run`."""
    return _decode(run_folder(name) / PLAN_FILE, Plan)


def run_folder(name: str) -> Path:
    """The folder of a run that is there, or of one of its folds.

    Raises:
        UsageError: There is no such run.
    """
    stem, slash, fold = name.partition("/")
    folder = run_path(stem)
    if not (folder / PLAN_FILE).is_file():
        known = ", ".join(run_names()[:20]) or "none yet"
        raise UsageError(f"there is no run named '{stem}'", where=runs_folder(), remedy=f"runs here: {known}")
    if not slash:
        return folder
    if not (folder / fold / RUN_FILE).is_file():
        there = ", ".join(path.parent.name for path in sorted(folder.glob(f"*/{RUN_FILE}"))) or "none"
        raise UsageError(f"the run '{stem}' has no model '{fold}'", where=folder, remedy=f"models in it: {there}")
    return folder / fold


def begin_run(name: str, plan: Plan) -> Path:
    """Make the folder of a new run.

    Raises:
        UsageError: The name is taken.
        NotKept: The disk is full.
    """
    folder = run_path(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        raise _taken(name, folder) from None
    with unless_worthless(name, folder):
        write_atomic(folder / PLAN_FILE, msgspec.json.format(msgspec.json.encode(plan)))
    return folder


def finish_run(folder: Path, run: Run) -> None:
    """Say what a run came to: from here on it is finished."""
    write_atomic(folder / RUN_FILE, msgspec.json.format(msgspec.json.encode(run)))
    for left in (CHECKPOINT_FOLDER, SHARED_FOLDER):
        shutil.rmtree(folder / left, ignore_errors=True)


@contextmanager
def unless_worthless(name: str, folder: Path) -> Iterator[None]:
    """Take a run's folder away where an error ends it before there is anything to go on from.

    Raises:
        NotKept: The disk was full, or could not be written; says how to go on.
    """
    try:
        yield
    except BaseException as error:
        stays = any(any(folder.glob(pattern)) for pattern in (f"**/{FILE}", f"**/{RUN_FILE}", f"{SHARED_FOLDER}/*"))
        if not stays:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and is_full(error):
            error = cannot_write(Path(error.filename or folder), error)
        if isinstance(error, NotKept):
            then = (
                f"go on with: curate train --name {name} --resume"
                if stays
                else "train again: nothing is left of the run"
            )
            raise NotKept(error.what, where=error.where, remedy=f"{error.remedy}, then {then}") from error
        raise


def remove_run(name: str) -> None:
    """Delete a run and all that is in it.

    Raises:
        UsageError: There is no such run.
        DatasetLocked: It is under way.
    """
    folder = run_folder(name)
    with locked(folder):
        hidden = folder.with_name(f".removed-{name}")
        folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time trains a run.

    Raises:
        DatasetLocked: Another does.
    """
    lock = FileLock(folder / "lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise DatasetLocked(
            "another process is training this run", where=folder, remedy="wait until it is done, or stop it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def versions() -> dict[str, str]:
    """Versions of the packages that may have a part in a training."""
    found = {"curate": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _taken(name: str, folder: Path) -> UsageError:
    return UsageError(
        f"there is a run named '{name}' already",
        where=folder,
        remedy="another --name, or --resume to go on with it, or 'curate runs --remove' it",
    )


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"the file of a run cannot be read: {error}", where=path, remedy="train again under another name"
        ) from error
