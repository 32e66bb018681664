"""The model of each round: trained on the labels of its commit, asked what it doubts, and measured on what is held out.

A round's model is a run, and what it says is a layer of predictions, both named after the dataset, the loop's file and the
round. What it gained over that of the round before is measured on the same images, with the labels of now for both.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.checks.base import Settings, run_check
from curate.checks.evaluation.run import CHECK, COMPARISON, EVALUATION
from curate.checks.labels import load_labels
from curate.dataset import Transaction, begin, open_dataset
from curate.dataset.query import in_layer
from curate.errors import UsageError
from curate.loop.candidates import load_candidates, looked_at
from curate.loop.plan import Plan
from curate.loop.training import Training
from curate.models.predictors.layer_store import authors, clear_layer
from curate.models.predictors.layers import predict_dataset
from curate.models.predictors.registry import load_predictor
from curate.models.predictors.seen import seen_table
from curate.models.training.base import TrainingSettings
from curate.models.training.defaults import require_packages, settle
from curate.models.training.examples import load_material
from curate.models.training.registry import LEARNERS
from curate.models.training.runs import Run, read_run, run_names, run_path
from curate.models.training.train import Asked, resume, train
from curate.models.training.trainer import Report, Say
from curate.names import GROUND_TRUTH, PREDICTIONS
from curate.wording import counted

_KEPT: Final = 2
"""So many rounds keep what their models say of images without labels: the last one's doubt counts, or that two disagree."""


def untold(done: int, total: int, text: str) -> None:
    """Where nobody wants to know of every step."""


def unsaid(text: str) -> None:
    """Where nobody reads."""


@dataclass(frozen=True)
class Models:
    """The models of a loop's rounds, which are named by their numbers, from 1.

    Attributes:
        plan: The loop's.
        training: What it says of the model.
        loop: Name of the loop.
        command: The command line, for the history.
        report: Told of every step of a training or a prediction.
        say: Told what a person should read.
    """

    plan: Plan
    training: Training
    loop: str
    command: str
    report: Report = field(default=untold)
    say: Say = field(default=unsaid)

    def name(self, number: int) -> str:
        """Name of a round's run."""
        return f"{self.plan.dataset}-{self.loop}-{number}"

    def layer(self, number: int) -> str:
        """Name of the layer that holds what it says."""
        return f"{PREDICTIONS}{self.name(number)}"

    def there(self, number: int) -> bool:
        """Whether a round's run is there, and finished."""
        name = self.name(number)
        return number > 0 and name in run_names() and read_run(name) is not None

    def require(self, numbers: Iterable[int]) -> None:
        """See that some rounds could train.

        Raises:
            MissingExtra: What training needs is not installed.
            UsageError: The name of a run is taken, or cannot be one.
        """
        require_packages()
        for number in numbers:
            name = self.name(number)
            if run_path(name).exists():
                raise UsageError(
                    f"there is a run named '{name}' already, which is none of this loop's",
                    where=run_path(name),
                    remedy=f"'curate runs --remove {name}', or give the loop's file another name",
                )

    def rehearse(self) -> None:
        """Make the network once and throw it away, so that what is lacking shows before anybody has labelled anything.

        Raises:
            UsageError: There is nothing to learn from or to measure the metric on, or a setting makes no sense.
            InputError: Weights cannot be read.
            UnavailableError: Weights, or a package, cannot be had.
        """
        dataset = open_dataset(self.plan.dataset)
        settings = settle(TrainingSettings(**self.training.settings), unsaid)
        if dataset.count("images", where=self.training.learnt) == 0:
            raise UsageError(
                "there are no images to learn from", where=self.training.learnt, remedy="loosen train.where"
            )
        if self.plan.evaluate is not None:
            return  # nothing need be labelled yet
        if dataset.count("images", where=self.training.measured) == 0:
            splits = pc.unique(dataset.table("images", columns=["split"])["split"]).drop_null().to_pylist()
            raise UsageError(
                f"no image is in the split '{self.training.held_out}', on which the metric is measured",
                where="train.held_out",
                remedy=f"name a split; there are: {', '.join(sorted(splits)) or 'none'}",
            )
        try:
            material = load_material(dataset, settings.task, GROUND_TRUTH, self.training.measured)
        except UsageError as error:
            raise UsageError(
                f"there is nothing to measure the metric on: {error.what}",
                where="train.held_out",
                remedy="label the images of this split first, or name another one",
            ) from None
        LEARNERS.get(settings.task)(settings, material.classes, material.take(material.labelled), unsaid)

    def train(self, number: int) -> dict[str, Any]:
        """Train a round's model on the dataset as it is now, or go on with what was interrupted; what the log says of it.

        Raises:
            CurateError: As `curate.models.training.train.train` does.
        """
        settings = {"seed": self.plan.seed, **self.training.settings}
        asked = Asked(
            dataset=self.plan.dataset,
            where=self.training.learnt,
            validation=self.training.validation,
            settings=settings,
        )
        run = self._run(self.name(number), asked)
        return {"run": run.name, "commit": run.plan.commit, "images": run.images["train"], "validation": run.result}

    def predict_candidates(self, number: int) -> None:
        """Have a round's model look at the images that may be selected and that it has not seen.

        Raises:
            NothingLeft: There are none.
        """
        with begin(self.plan.dataset, command=self.command) as transaction:
            held_out = self.training.held_out
            found = load_candidates(transaction, self.plan.where, suspected=False, notes=[], held_out=held_out)
            self._predict(transaction, number, found.labels.images["image_id"].filter(pa.array(found.may)))

    def evaluate(self, number: int, before: int | None) -> dict[str, Any]:
        """Measure a round's model on what is held out, and compare it with another round's; what the log says of it.

        Args:
            number: Of the round.
            before: Of the round to compare with; None for none.
        """
        with begin(self.plan.dataset, command=self.command) as transaction:
            measured = self._measured_images(transaction)
            for each in (number,) if before is None else (number, before):
                self._predict(transaction, each, measured)
            if number > _KEPT:
                _shrink(transaction, self.layer(number - _KEPT), measured)
        against = None if before is None else self.layer(before)
        options = {"layer": self.layer(number), "task": self.training.task, "against": against, "findings": False}
        settings = Settings(
            self.training.measured,
            seed=self.plan.seed,
            progress=lambda done, total: self.report(done, total, "evaluating"),
            options=options,
        )
        tables = run_check(CHECK, self.plan.dataset, settings, command=self.command).tables
        row = tables[EVALUATION][0]
        said = {
            "metric": row["metrics"][self.plan.measure],
            "by": f"run:{self.name(number)}",
            "commit": row["commit"],
            "images": row["images"],
        }
        if before is None:
            return said
        gained = next(each for each in tables[COMPARISON] if (each["of"], each["name"]) == ("all", self.plan.measure))
        return {
            **said,
            "against": f"run:{self.name(before)}",
            "gain": gained["difference"],
            "low": gained["low"],
            "high": gained["high"],
            "verdict": gained["verdict"],
        }

    def _run(self, name: str, asked: Asked) -> Run:
        if name not in run_names():
            # Where a run was killed before it noted what it was asked for, there is nothing to go on with.
            shutil.rmtree(run_path(name), ignore_errors=True)
            return train(asked, name=name, command=self.command, report=self.report, say=self.say)
        try:
            return resume(name, asked, report=self.report, say=self.say)
        except UsageError as error:
            raise UsageError(
                error.what,
                where=name,
                remedy=f"put the loop's file back as it was, or begin this round's training anew: curate runs --remove {name}",
            ) from error

    def _predict(self, transaction: Transaction, number: int, image_ids: pa.ChunkedArray) -> None:
        """Bring a round's layer up to date on some images."""
        layer, name = self.layer(number), self.name(number)
        predictor = load_predictor(f"run:{name}")
        known = authors(transaction, layer)
        if any(each.model != predictor.name for each in known):
            clear_layer(transaction, layer)  # of a run of that name that is gone
        update = predict_dataset(
            transaction,
            predictor,
            layer=layer,
            ids=image_ids.to_pylist(),
            progress=lambda done, total: self.report(done, total, f"predicting with {name}"),
        )
        if update.left_out:
            first = update.left_out[0]
            self.say(
                f"{counted(len(update.left_out), 'images')} have no prediction; the first: {first.path}: {first.reason}"
            )

    def _measured_images(self, transaction: Transaction) -> pa.ChunkedArray:
        """Ids of the held-out images that people have labelled: of the others nobody knows what is on them."""
        labels = load_labels(transaction.base, GROUND_TRUTH, self.training.measured)
        return labels.images["image_id"].filter(pa.array(looked_at(transaction.base, labels)))


def _shrink(transaction: Transaction, layer: str, image_ids: pa.ChunkedArray) -> None:
    """Leave in a layer what it says of some images only."""
    if not transaction.has(seen_table(layer)):
        return
    kept = image_ids.combine_chunks()
    rows = transaction.read("annotations", columns=["annotation_id", "image_id"], where=in_layer(layer))
    seen = transaction.read(seen_table(layer), columns=["id"])
    for table, key, ids, images in (
        ("annotations", "annotation_id", rows["annotation_id"], rows["image_id"]),
        (seen_table(layer), "id", seen["id"], seen["id"]),
    ):
        gone = ids.filter(pc.invert(pc.is_in(images, value_set=kept))).combine_chunks()
        if len(gone):
            transaction.delete(table, key, gone)
