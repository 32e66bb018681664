"""Training on a dataset: from its rows to a run with a model, or to one model for each fold and a layer of their predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from curate.dataset import Dataset, begin, open_dataset
from curate.dataset.folders import now
from curate.dataset.query import in_layer
from curate.errors import InputError, UsageError
from curate.models.passes import LeftOut
from curate.models.predictors.layer_store import clear_layer
from curate.models.predictors.layers import predict_dataset
from curate.models.predictors.registry import load_predictor
from curate.models.training.base import Learner, TrainingSettings
from curate.models.training.checkpoints import write_tensors
from curate.models.training.defaults import require_packages, settle
from curate.models.training.examples import TEST, Division, Material, divide, held_out, load_material
from curate.models.training.folds import make_folds
from curate.models.training.logs import open_log
from curate.models.training.registry import LEARNERS
from curate.models.training.runs import (
    CHECKPOINT_FOLDER,
    RUN_FILE,
    SHARED_FOLDER,
    WEIGHTS_FILE,
    Plan,
    Run,
    begin_run,
    finish_run,
    locked,
    read_plan,
    read_run,
    require_free,
    run_folder,
    unless_worthless,
    versions,
)
from curate.models.training.trainer import Fit, Report, Say, fit
from curate.names import GROUND_TRUTH, PREDICTIONS
from curate.wording import counted

OUT_OF_FOLD: Final = f"{PREDICTIONS}oof-"
"""Prefix of the layers that hold out-of-fold predictions; the run's name follows."""

_INNER_SHARE: Final = 0.15
"""Of what a fold trains on: chooses its best epoch. The fold's own images must not, or they would not be out of it."""

# What may be other when a run goes on: none of it changes what is learnt, but for the last digits and for `minutes`.
_MAY_CHANGE: Final = frozenset({"device", "workers", "minutes"})


@dataclass(frozen=True)
class Asked:
    """What a person asks for, None where nothing was said; see `curate.models.training.runs.Plan`.

    Attributes:
        dataset: Name of the dataset.
        layer: The labels.
        where: Which images.
        validation: A split or a share.
        empty: Whether images without annotations have nothing on them.
        folds: How many models.
        settings: Those of `TrainingSettings` that were named, the task among them.
    """

    dataset: str | None = None
    layer: str | None = None
    where: str | None = None
    validation: str | None = None
    empty: bool | None = None
    folds: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def train(asked: Asked, *, name: str, command: str, report: Report, say: Say) -> Run:
    """Train on a dataset as it is now.

    Args:
        asked: What is wanted: a dataset and a task at least.
        name: Of the run.
        command: The command line, for the record.
        report: Told of every step.
        say: Told what a person should read.

    Raises:
        UsageError: The request makes no sense for this dataset, or the name is taken.
        NotKept: The disk is full, or cannot be written.
        MissingExtra: What training needs is not installed.
        UnavailableError: Weights that cannot be had.
        InputError: Nothing can be learnt from what is there, or the training diverged.
    """
    if asked.dataset is None or "task" not in asked.settings:
        missing = "--dataset" if asked.dataset is None else "--task"
        raise UsageError(
            "a training needs a dataset and a task", where=missing, remedy="e.g. -d parts_v3 --task detect"
        )
    require_packages()
    require_free(name)
    settings = _settings(asked.settings)
    dataset = open_dataset(asked.dataset)
    plan = Plan(
        dataset=asked.dataset,
        commit=dataset.commit.number,
        layer=asked.layer or GROUND_TRUTH,
        where=asked.where,
        validation=asked.validation,
        empty=bool(asked.empty),
        folds=asked.folds,
        settings=_recorded(settings),
        command=command,
    )
    # Before there is a folder: a request may make no sense.
    material, parts = _prepare(dataset, plan, settings, report)
    plan = msgspec.structs.replace(plan, division=_digest(material, parts))
    settings = settle(settings, say)
    folder = begin_run(name, plan)
    with locked(folder), unless_worthless(name, folder):
        return _Work(name, folder, plan, settings, material, parts, report, say).run()


def resume(name: str, asked: Asked, *, report: Report, say: Say) -> Run:
    """Go on with a run that was interrupted; what it has finished is not done again.

    Args:
        name: Of the run.
        asked: What the command line says; it may not ask for something else than the run began with.
        report: As for `train`.
        say: The same.

    Raises:
        UsageError: There is no such run, or something else is asked for.
        InputError: Other images would be held out than when it began, as files have changed since.
        NotKept: As for `train`.
    """
    require_packages()
    folder = run_folder(name)
    with locked(folder):
        plan = read_plan(name)
        settings = _settings(plan.settings | _changes(asked, plan))
        done = read_run(name)
        if done is not None:
            say(f"{name} is finished already")
            return done
        dataset = open_dataset(plan.dataset, commit=plan.commit)
        material, parts = _prepare(dataset, plan, settings, report)
        if _digest(material, parts) != plan.division:
            raise InputError(
                "other images would be held out than when the run began, as files have changed since",
                where=name,
                remedy="bring the files back, or train under another --name",
            )
        with unless_worthless(name, folder):
            return _Work(name, folder, plan, settle(settings, say), material, parts, report, say).run()


@dataclass(frozen=True)
class _Part:
    """One model of a run.

    Attributes:
        division: What it learns from.
        own: Rows of the images that it predicts: those of its fold; none where there are no folds.
    """

    division: Division
    own: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Work:
    """A run under way."""

    name: str
    folder: Path
    plan: Plan
    settings: TrainingSettings
    material: Material
    parts: list[_Part]
    report: Report
    say: Say
    unreadable: set[str] = field(default_factory=set)
    """Paths of images that the person was told of."""

    @property
    def layer(self) -> str:
        """The layer for out-of-fold predictions."""
        return f"{OUT_OF_FOLD}{self.name}"

    def run(self) -> Run:
        """Train what is not trained yet."""
        for line in self.material.notes:
            self.say(line)
        if self.plan.folds is None:
            run = self._train(self.name, self.folder, self.parts[0], 0)
            finish_run(self.folder, run)
            return run
        before = open_dataset(self.plan.dataset).count("annotations", where=in_layer(self.layer))
        if before:
            self.say(f"what {self.layer} has already, {counted(before, 'annotations')}, will make room for this run's")
        models = [self._fold(number, part) for number, part in enumerate(self.parts)]
        run = self._together(models, self._predict())
        finish_run(self.folder, run)
        return run

    def _fold(self, number: int, part: _Part) -> Run:
        """The model of one fold, trained unless it is there."""
        name, folder = f"{self.name}/fold-{number + 1}", self.folder / f"fold-{number + 1}"
        if (folder / RUN_FILE).exists():
            done = read_run(name)
            assert done is not None
            return done
        folder.mkdir(exist_ok=True)
        self.say(f"fold {number + 1} of {len(self.parts)}")
        run = self._train(name, folder, part, number)
        finish_run(folder, run)
        return run

    def _train(self, name: str, folder: Path, part: _Part, number: int) -> Run:
        train, validation = (self.material.take(rows) for rows in (part.division.train, part.division.validation))
        made = int(self.material.synthetic[part.division.train].sum())
        learnt = f"{len(train):,} images to learn from" + (f" ({made:,} of them synthetic)" if made else "")
        self.say(f"{learnt}, {len(validation):,} to validate on ({part.division.how})")
        learner = _learner(self.settings, self.material, part, self.say)
        settings = _recorded(learner.settings)
        result = fit(
            learner,
            train,
            validation,
            folder / CHECKPOINT_FOLDER,
            shared=self.folder / SHARED_FOLDER,
            open_log=lambda epochs: open_log(folder, name, settings, epochs=epochs),
            report=self._report(number),
            say=self.say,
        )
        self._tell_unreadable(result.unreadable)
        learner.export(folder)
        write_tensors(folder / WEIGHTS_FILE, learner.module.state_dict(), {"classes": "\n".join(learner.classes)})
        return self._record(name, learner, settings, result, part)

    def _tell_unreadable(self, reasons: Mapping[str, str]) -> None:
        """Say which images cannot be read, by their path, unless that was said of an earlier fold."""
        new = [path for path in reasons if path not in self.unreadable]
        if new:
            more = "more " if self.unreadable else ""
            self.say(f"{len(new):,} {more}images cannot be read; the first: {new[0]}: {reasons[new[0]]}")
            self.unreadable.update(new)

    def _record(self, name: str, learner: Learner, settings: dict[str, Any], result: Fit, part: _Part) -> Run:
        images = {
            "train": len(part.division.train),
            "validation": len(part.division.validation),
            "unreadable": len(result.unreadable),
        }
        return Run(
            name=name, task=self.settings.task, model=str(learner.settings.model), classes=learner.classes, plan=self.plan,
            settings=settings, images=images, validation=part.division.how, metric=learner.metric,
            numbers=result.numbers, epochs=result.epochs, best_epoch=result.best_epoch, stopped=result.stopped,
            seconds=round(result.seconds, 3), finished=now(), versions=versions(),
        )  # fmt: skip

    def _predict(self) -> list[int]:
        """Write the predictions of all folds, each model's of the images that it has not seen; one commit.

        What the layer had before goes: it may be of an earlier run of this name, whose models learnt from other images.

        Returns:
            On how many images each model's predictions are.
        """
        ids = [example.image_id for example in self.material.examples]
        counts: list[int] = []
        left_out: list[LeftOut] = []
        with begin(self.plan.dataset, command=self.plan.command) as transaction:
            clear_layer(transaction, self.layer)
            for number, part in enumerate(self.parts):
                predictor = load_predictor(f"run:{self.name}/fold-{number + 1}")
                text = f"predicting fold {number + 1} of {len(self.parts)}"
                update = predict_dataset(
                    transaction, predictor, layer=self.layer, ids=[ids[row] for row in part.own.tolist()],
                    progress=partial(_told, self.report, text),
                )  # fmt: skip
                counts.append(update.predicted)
                left_out += update.left_out
        if left_out:
            self.say(f"{len(left_out):,} images have no prediction; the first: {left_out[0]}")
        return counts

    def _together(self, models: list[Run], predicted: list[int]) -> Run:
        """The record of a run with folds: means over them."""
        first = models[0]
        names = dict.fromkeys(name for each in models for name in each.numbers)
        numbers = {
            name: float(np.mean([each.numbers[name] for each in models if name in each.numbers])) for name in names
        }
        images = {name: int(np.mean([each.images[name] for each in models])) for name in first.images}
        folds = [
            {"name": each.name, "images": each.images, "predicts": count, "numbers": each.numbers}
            for each, count in zip(models, predicted, strict=True)
        ]
        return msgspec.structs.replace(
            first, name=self.name, numbers=numbers, images=images, seconds=sum(each.seconds for each in models),
            finished=now(), predictions=self.layer, folds=folds,
        )  # fmt: skip

    def _report(self, number: int) -> Report:
        """Progress of one model, with its fold."""
        if len(self.parts) == 1:
            return self.report
        return partial(_told, self.report, f"fold {number + 1} of {len(self.parts)}, ")


def _told(report: Report, before: str, done: int, total: int, text: str = "") -> None:
    report(done, total, before + text)


def _prepare(dataset: Dataset, plan: Plan, settings: TrainingSettings, report: Report) -> tuple[Material, list[_Part]]:
    progress = partial(_told, report, "reading files for copies")
    material = load_material(dataset, settings.task, plan.layer, plan.where, empty=plan.empty, progress=progress)
    return material, _parts(material, plan, settings)


def _digest(material: Material, parts: Sequence[_Part]) -> str:
    """What differs between two divisions of images among the models of a run; 16 hexadecimal digits."""
    digest = hashlib.blake2b("\n".join(example.image_id for example in material.examples).encode(), digest_size=8)
    for part in parts:
        for rows in (part.division.train, part.division.validation, part.own):
            digest.update(len(rows).to_bytes(8, "little") + rows.astype("<i8").tobytes())
    return digest.hexdigest()


def _parts(material: Material, plan: Plan, settings: TrainingSettings) -> list[_Part]:
    """What each model of a run learns from. Images of the test split are predicted by their fold, and learnt from by none."""
    if plan.folds is None:
        return [_Part(divide(material, plan.validation, settings.seed), np.zeros(0, np.int64))]
    if plan.validation is not None:
        raise UsageError(
            "with folds, each model's validation images are held out of what it trains on",
            where="--val",
            remedy="leave --val out, or --folds",
        )
    learnt = material.labelled & (np.asarray(material.splits) != TEST)
    fold = np.full(len(material.splits), -1)
    real = ~material.synthetic
    fold[real] = make_folds(material.groups[real], material.strata[real], plan.folds, settings.seed)
    parts = []
    for number in range(plan.folds):
        pool = material.without_children(learnt & (fold != number), fold == number)
        chosen = held_out(material, pool, _INNER_SHARE, settings.seed + number)
        train = material.without_children(pool & ~chosen, chosen)
        if not train.any():
            raise UsageError(
                f"nothing is left to learn from in fold {number + 1}",
                where="--folds",
                remedy="fewer folds, or more images",
            )
        division = Division(np.flatnonzero(train), np.flatnonzero(chosen), f"{_INNER_SHARE:.0%} held out")
        parts.append(_Part(division, np.flatnonzero(fold == number)))
    return parts


def _learner(settings: TrainingSettings, material: Material, part: _Part, say: Say) -> Learner:
    import torch

    create = LEARNERS.get(settings.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return create(settings, material.classes, material.take(part.division.train), say)


def _settings(given: Mapping[str, Any]) -> TrainingSettings:
    """Settings by name, of the types that they must have.

    Raises:
        UsageError: One has another.
    """
    try:
        return msgspec.convert(dict(given), TrainingSettings)
    except msgspec.ValidationError as error:
        raise UsageError(f"a setting cannot be understood: {error}", where="--set") from error


def _recorded(settings: TrainingSettings) -> dict[str, Any]:
    """Settings as they are written down."""
    recorded: dict[str, Any] = msgspec.to_builtins(asdict(settings))
    return recorded


def _changes(asked: Asked, plan: Plan) -> dict[str, Any]:
    """Settings of a run that the command line changes.

    Raises:
        UsageError: It asks for something that cannot be other.
    """
    parts = ("dataset", "layer", "where", "validation", "empty", "folds")
    other = [part for part in parts if getattr(asked, part) not in (None, getattr(plan, part))]
    changed = {key: value for key, value in asked.settings.items() if value != plan.settings[key]}
    other += sorted(changed.keys() - _MAY_CHANGE)
    if other:
        raise UsageError(
            f"the run began with another {', '.join(other)}",
            where="--resume",
            remedy="leave that out, or train under another --name",
        )
    return changed
