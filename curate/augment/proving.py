"""Whether the images that were just made help: the task, the target and the images for `curate.augment.prove`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, get_args

import pyarrow.compute as pc

from curate.augment.prove.run import Asked, prove
from curate.augment.prove.store import Proof
from curate.augment.request import Augmented
from curate.augment.run import Intent, Report
from curate.dataset import Dataset
from curate.dataset.query import in_layer
from curate.dataset.schema import GROUND_TRUTH
from curate.errors import UsageError
from curate.models.training.base import Task

TASKS: Final[tuple[Task, ...]] = get_args(Task)


def prove_images(
    intent: Intent,
    result: Augmented,
    settings: Mapping[str, Any],
    *,
    seeds: int,
    command: str,
    report: Report,
    say: Callable[[str], None],
) -> Proof:
    """Train with the new images and without them, and measure both on real images of the target; one commit.

    Args:
        intent: What was asked for.
        result: What was made.
        settings: Of the trainings; 'task' among its options where it does not follow from the labels.
        seeds: How many pairs of trainings.
        command: The command line, for the history.
        report: Told of every step.
        say: Told what a person should read.

    Raises:
        UsageError: There is no target, whose real images could be measured on; or as `curate.augment.prove.run.prove` does.
    """
    asked = replace(what_to_prove(intent, settings, seeds=seeds), synthetic=result.image_ids)
    return prove(intent.dataset.name, asked, command=command, report=report, say=say)


def what_to_prove(intent: Intent, settings: Mapping[str, Any], *, seeds: int) -> Asked:
    """What is to be trained and measured, as far as it is known before any image is made.

    Raises:
        UsageError: There is no target, whose real images could be measured on; a setting makes no sense.
    """
    if intent.target is None:
        raise UsageError(
            "the gain is measured on the real images of a target, and there is none",
            where="--prove",
            remedy="name one: --target slice:NAME, or --where SQL",
        )
    options = dict(settings.get("options", {}))
    task = _task(intent.dataset, options.pop("task", None))
    chosen = {**settings, "options": options} if options else {k: v for k, v in settings.items() if k != "options"}
    return Asked(
        intent.target.text, intent.target.image_ids.to_pylist(), task, settings=chosen, seeds=seeds,
        empty=intent.request.empty, seed=intent.request.seed,
    )  # fmt: skip


def _task(dataset: Dataset, wanted: object) -> Task:
    """What is learnt: as was asked, else by what the labels are."""
    if wanted is not None:
        for task in TASKS:
            if task == wanted:
                return task
        raise UsageError(f"there is no task '{wanted}'", where="--set task", remedy=f"one of: {', '.join(TASKS)}")
    types = dataset.table("annotations", columns=["type"], where=in_layer(GROUND_TRUTH))["type"]
    counts = {row["values"]: row["counts"] for row in pc.value_counts(types).to_pylist()}
    return "classify" if counts.get("label", 0) * 2 > sum(counts.values()) else "detect"
