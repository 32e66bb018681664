"""The smaller model as a run of its own, so that whatever takes 'run:NAME' takes it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from curate.augment.stress.sample import learnt_task
from curate.dataset.folders import now
from curate.edge.compress.frontier import Candidate
from curate.edge.compress.images import Images, Parent
from curate.models.predictors.sidecar import write_sidecar
from curate.models.training.runs import MODEL_FILE, Plan, Run, begin_run, finish_run, versions
from curate.names import GROUND_TRUTH


def store_run(
    name: str,
    chosen: Candidate,
    parent: Parent,
    images: Images,
    compression: Mapping[str, Any],
    *,
    command: str,
    seconds: float,
) -> Run:
    """Write a run's folder: the model, its sidecar, what it came from and what it lost; all of it or nothing.

    Args:
        name: Of the run.
        chosen: The model.
        parent: What it was made from.
        images: What judged it.
        compression: JSON-ready; how it was made.
        command: The command line.
        seconds: It took.

    Raises:
        UsageError: The name is taken.
        NotKept: The disk is full.
    """
    run = _run(name, chosen, parent, images, compression, command, seconds)
    folder = begin_run(name, run.plan)
    try:
        path = folder / MODEL_FILE
        shutil.copyfile(chosen.path, path)
        write_sidecar(path, parent.predictor.sidecar)
        finish_run(folder, run)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return run


def _run(
    name: str,
    chosen: Candidate,
    parent: Parent,
    images: Images,
    compression: Mapping[str, Any],
    command: str,
    seconds: float,
) -> Run:
    numbers = {key: float(value) for key, value in chosen.scores.metrics.items() if value is not None}
    counts = {"train": 0, "validation": len(images.exam), "unreadable": 0, "calibration": len(images.calibration)}
    if parent.run is not None:
        return msgspec.structs.replace(
            parent.run, name=name, plan=msgspec.structs.replace(parent.run.plan, command=command),
            images=parent.run.images | counts | {"train": parent.run.images.get("train", 0)},
            validation=images.exam.chosen, metric=chosen.scores.metric, numbers=numbers, seconds=round(seconds, 3),
            finished=now(), versions=versions(), parent=parent.spec, compression=dict(compression),
        )  # fmt: skip
    task = learnt_task(parent.predictor.task, parent.spec)
    plan = Plan(
        dataset=images.dataset.name, commit=images.dataset.commit.number, layer=GROUND_TRUTH, settings={"task": task},
        command=command,
    )  # fmt: skip
    return Run(
        name=name, task=task, model=Path(parent.path).name, classes=tuple(parent.predictor.classes), plan=plan,
        settings={"task": task}, images=counts, validation=images.exam.chosen, metric=chosen.scores.metric,
        numbers=numbers, epochs=0, best_epoch=0, stopped="compressed", seconds=round(seconds, 3), finished=now(),
        versions=versions(), parent=parent.spec, compression=dict(compression),
    )  # fmt: skip
