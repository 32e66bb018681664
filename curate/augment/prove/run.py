"""Train with synthetic images and without, the same number of steps from the same seeds, and measure both on real images."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.augment.prove.division import Arms, divide_arms
from curate.augment.prove.effects import ELSEWHERE, TARGET, Effect, effect
from curate.augment.prove.store import Proof, proof_id, store_proof, stored_proof
from curate.augment.scoring.evaluate import METRICS, evaluate_results
from curate.augment.scoring.predicting import Subject, Version, predict_versions
from curate.augment.scoring.truth import digest_of
from curate.checks.boxes import BoolArray, FloatArray, IntArray
from curate.checks.evaluation.base import Evaluation
from curate.checks.evaluation.bootstrap import draw, resample
from curate.checks.evaluation.compare import RESAMPLES
from curate.dataset import Dataset, begin, open_dataset
from curate.dataset.query import quote
from curate.errors import InputError, UsageError
from curate.models.predictors.base import Options
from curate.models.predictors.class_names import match_classes
from curate.models.predictors.registry import load_predictor
from curate.models.training.base import Task, TrainingSettings
from curate.models.training.batches import steps_per_epoch
from curate.models.training.defaults import require_packages, settle
from curate.models.training.examples import Material, load_material
from curate.models.training.registry import LEARNERS
from curate.models.training.runs import run_names, run_path
from curate.models.training.train import Asked as Training
from curate.models.training.train import resume, train
from curate.models.training.trainer import Report, Say
from curate.names import GROUND_TRUTH
from curate.wording import counted

SEEDS: Final = 3

_ARMS: Final = ("without", "with")
# What would let the two trainings differ in more than their images, or is not for a training without validation.
_REFUSED: Final = ("seed", "minutes", "patience")


@dataclass(frozen=True)
class Asked:
    """What is to be proved.

    Attributes:
        target: Name of what the images were made for.
        image_ids: The real images of the target.
        task: What is learnt.
        synthetic: The synthetic images; None for all that the dataset has.
        settings: Of `TrainingSettings`, those that are named, the task aside. `steps` is chosen where it is not: as many
            as the training without synthetic images would take by itself.
        seeds: How many pairs of trainings.
        layer: Of the labels.
        empty: Whether images without annotations are known to have nothing on them.
        resamples: Of the images.
        seed: The first of the trainings', and that of everything else that is random.
    """

    target: str
    image_ids: Sequence[str]
    task: Task
    synthetic: Sequence[str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = SEEDS
    layer: str = GROUND_TRUTH
    empty: bool = False
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(
                f"{self.seeds} seeds train nothing", where="--seeds", remedy="at least 1; 3 tell how sure it is"
            )
        refused = [each for each in _REFUSED if each in self.settings]
        if refused:
            raise UsageError(
                f"'{refused[0]}' cannot be set where two trainings of the same budget are compared",
                where="--prove",
                remedy="set steps, and --seeds for how many seeds",
            )


def prove(name: str, asked: Asked, *, command: str, report: Report, say: Say) -> Proof:
    """Find out whether synthetic images help. Interrupted, it goes on where it stopped; one commit.

    Args:
        name: The dataset, the synthetic images in it.
        asked: What is to be proved.
        command: The command line, for the history.
        report: Told of every step.
        say: Told what a person should read.

    Raises:
        UsageError: There is nothing to prove it with: no synthetic image, no labelled real image of the target, a setting that
            makes no sense.
        InputError: Not one image can be read, or a training diverged.
        MissingExtra: What training needs is not installed.
        UnavailableError: Weights that cannot be had.
    """
    require_packages()
    dataset = open_dataset(name)
    material = load_material(
        dataset, asked.task, asked.layer, None, empty=asked.empty,
        progress=lambda done, total: report(done, total, "reading files for copies"),
    )  # fmt: skip
    ids = pa.array([example.image_id for example in material.examples], pa.string())
    made = np.ones(len(ids), dtype=np.bool_) if asked.synthetic is None else _among(ids, asked.synthetic)
    arms = divide_arms(material, _among(ids, asked.image_ids), made, asked.seed)
    settings = _settle(asked, material, arms, say)
    key = _key(asked, settings, material, arms)
    if (known := stored_proof(dataset, key)) is not None:
        say("this was proved before, of the same images")
        return known
    say(
        f"{2 * asked.seeds} trainings of {settings['steps']:,} steps: {counted(len(arms.without), 'real images')}, with and "
        f"without {counted(len(arms.synthetic), 'synthetic images')}; measured on {counted(len(arms.held), 'real images')}, "
        f"{arms.how}"
    )
    work = _Work(dataset, asked, material, arms, settings, key, command, report, say)
    proof = work.run()
    with begin(name, command=command) as transaction:
        store_proof(transaction, key, proof)
    return proof


def _among(ids: pa.StringArray, wanted: Sequence[str]) -> BoolArray:
    """Which of n ids are wanted; shape (n,)."""
    return np.asarray(pc.is_in(ids, value_set=pa.array(wanted, pa.string())))


def _settle(asked: Asked, material: Material, arms: Arms, say: Say) -> dict[str, Any]:
    """All settings of both trainings, chosen for the one without synthetic images."""
    import torch

    given = msgspec.convert({**asked.settings, "task": asked.task, "seed": asked.seed}, TrainingSettings)
    own = material.take(arms.without)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        chosen = LEARNERS.get(asked.task)(settle(given, say), material.classes, own, say).settings
    # A batch is no larger than the smaller of the two sets.
    batch = min(chosen.batch_size or 1, len(own))
    steps = chosen.steps or (chosen.epochs or 1) * steps_per_epoch(len(own), batch)
    settings: dict[str, Any] = msgspec.to_builtins(chosen)
    return {**settings, "batch_size": batch, "steps": steps, "patience": None}


def _key(asked: Asked, settings: Mapping[str, Any], material: Material, arms: Arms) -> str:
    """Id of all that a proof depends on: what was asked, the images, their files and what is on them."""
    known = hashlib.blake2b(msgspec.json.encode([msgspec.to_builtins(asked), settings["steps"]]), digest_size=16)
    for rows in (arms.held, arms.without, arms.synthetic):
        examples = material.take(rows)
        files = [_file_state(each.path) for each in examples]
        known.update(f"{digest_of(examples)} {material.groups[rows].tolist()} {files}".encode())
    return proof_id(known.hexdigest())


def _file_state(path: str) -> str:
    """Changes when a file does: its size and time; empty where there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True)
class _Work:
    """A proof under way."""

    dataset: Dataset
    asked: Asked
    material: Material
    arms: Arms
    settings: Mapping[str, Any]
    key: str
    command: str
    report: Report
    say: Say

    def run(self) -> Proof:
        """Train what is not trained yet, and measure."""
        runs = [(self._train(0, seed), self._train(1, seed)) for seed in range(self.asked.seeds)]
        pairs = [(self._evaluate(before), self._evaluate(after)) for before, after in runs]
        effects = self._effects(pairs)
        notes = [*self.material.notes, *self.arms.notes]
        if self.asked.seeds == 1:
            notes.append("one seed: how much another one would differ is not known, and not in the intervals")
        return Proof(
            self.dataset.name, self.dataset.commit.number, self.asked.target, self.asked.task, self._metric,
            int(self.settings["steps"]), self.asked.seeds, len(self.arms.without), len(self.arms.synthetic), self.arms.how,
            tuple(effects), tuple(runs), tuple(notes),
        )  # fmt: skip

    @property
    def _metric(self) -> str:
        return METRICS[self.asked.task][0]

    def _parts(self) -> dict[str, BoolArray]:
        """Which of the images that are measured on are in each part."""
        parts = {TARGET: self.arms.target, ELSEWHERE: ~self.arms.target}
        return {name: rows for name, rows in parts.items() if rows.any()}

    def _train(self, arm: int, seed: int) -> str:
        """Train one model, unless it is there; the name of its run."""
        name = f"prove-{self.key}-{_ARMS[arm]}-{seed + 1}"
        rows = self.arms.without if arm == 0 else np.union1d(self.arms.without, self.arms.synthetic)
        training = Training(
            dataset=self.dataset.name, layer=self.asked.layer, where=self._condition(rows), validation="0",
            empty=self.asked.empty or None, settings={**self.settings, "seed": self.asked.seed + seed},
        )  # fmt: skip
        report = partial(_told, self.report, f"{_ARMS[arm]}, seed {seed + 1} of {self.asked.seeds}, ")
        if name in run_names():
            resume(name, training, report=report, say=self.say)
        else:
            # Where a run was killed before it noted what it was asked for, there is nothing to go on with.
            shutil.rmtree(run_path(name), ignore_errors=True)
            train(training, name=name, command=self.command, report=report, say=self.say)
        return name

    def _condition(self, rows: IntArray) -> str:
        """The SQL condition that chooses exactly these images of the dataset, as short as can be."""
        ids = self.dataset.table("images", columns=["image_id"])["image_id"].to_pylist()
        wanted = {example.image_id for example in self.material.take(rows)}
        others = [each for each in ids if each not in wanted]
        inside = len(wanted) <= len(others)
        listed = ", ".join(quote(each) for each in sorted(wanted if inside else others))
        return f"image_id {'IN' if inside else 'NOT IN'} ({listed})" if listed else "image_id IS NOT NULL"

    def _evaluate(self, run: str) -> Evaluation:
        """Measure a run on the images that are held out."""
        options = Options()
        predictor = load_predictor(f"run:{run}", options)
        known = [info["name"] for info in self.dataset.commit.classes]
        names = [*known, *(each for each in self.material.classes if each not in known)]
        mapping = match_classes(predictor.classes, names, model=predictor.name)
        codes = np.array([mapping.names.index(each) for each in self.material.classes], dtype=np.int64)
        subject = Subject(predictor, mapping, options, self.material.take(self.arms.held), codes)
        found: dict[int, pa.Table] = {}

        def keep(rows: IntArray, names: Sequence[str], results: pa.RecordBatch, moved: Sequence[str | None]) -> None:
            table = pa.Table.from_batches([results])
            found.update({row: table.slice(place, 1) for place, row in enumerate(rows.tolist())})

        todo = np.ones((len(subject.examples), 1), dtype=np.bool_)
        unreadable = predict_versions(
            subject, [Version("as it is")], todo, keep, lambda done, total: self.report(done, total, f"measuring {run}")
        )
        if unreadable:
            path, reason = next(iter(unreadable.items()))
            raise InputError(
                f"an image that is measured on cannot be read: {reason}",
                where=path,
                remedy="bring it back, or take it out",
            )
        table = pa.concat_tables([found[row] for row in range(len(subject.examples))])
        truth = [subject.truth(row, _size(size)) for row, size in enumerate(table["size"].to_pylist())]
        return evaluate_results(self.asked.task, truth, table, mapping.names, self._parts())

    def _effects(self, pairs: Sequence[tuple[Evaluation, Evaluation]]) -> list[Effect]:
        groups = self.material.groups[self.arms.held]
        measures = [each.resample for pair in pairs for each in pair]
        drawn = resample(
            measures,
            draw(groups, self.asked.resamples, self.asked.seed),
            lambda done: self.report(done, self.asked.resamples, "resampling"),
        )
        found = []
        for part, rows in self._parts().items():
            key: tuple[Any, str] = ("slice", part)
            before, after = (_values([pair[arm] for pair in pairs], part) for arm in (0, 1))
            draws = np.stack([drawn[2 * k + 1][key] - drawn[2 * k][key] for k in range(len(pairs))])
            units = len(np.unique(groups[rows]))
            found.append(effect(part, int(rows.sum()), units, before, after, draws, seed=self.asked.seed))
        return found


def _values(evaluations: Sequence[Evaluation], part: str) -> FloatArray:
    """The slice's number of each evaluation; NaN where there is nothing to measure."""
    values = [each.values().get(("slice", part)) for each in evaluations]
    return np.array([np.nan if value is None else value for value in values])


def _size(size: Sequence[int] | None) -> tuple[int, int] | None:
    return None if size is None else (size[0], size[1])


def _told(report: Report, before: str, done: int, total: int, text: str) -> None:
    report(done, total, before + text)
