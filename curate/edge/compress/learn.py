"""A run that learns again: with rounding, with fewer channels, or from a larger model; an ONNX file comes out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy.typing as npt

from curate.edge.compress.images import Parent, open_parent
from curate.edge.compress.rebuild import Rebuilt, rebuild
from curate.edge.compress.teacher import Taught, Teacher
from curate.errors import InputError
from curate.models.predictors.sidecar import read_sidecar
from curate.models.training.base import SCRATCH, Learner
from curate.models.training.logs import Log
from curate.models.training.trainer import Fit, Report, Say, fit

_RATE: Final = {"qat": 0.1, "prune": 0.5, "distil": 0.5}
"""Learning rates by those the run was trained with: what has learnt most of it should not be thrown about."""


@dataclass(frozen=True)
class Learnt:
    """What came of it.

    Attributes:
        path: The ONNX file, with its sidecar beside it.
        details: What was done, JSON-ready.
    """

    path: Path
    details: dict[str, Any]


def learn_again(
    parent: Parent,
    method: Literal["qat", "prune", "distil"],
    folder: Path,
    *,
    teacher: str,
    share: float,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int,
    calibration: Sequence[npt.NDArray[Any]],
    say: Say,
    report: Report,
) -> Learnt:
    """Train a run's network on, and export it.

    Args:
        parent: The run.
        method: How.
        folder: For the file and the checkpoint; made here.
        teacher: Spec of the model whose answers are learnt from; the run itself, but for 'distil'.
        share: Of the channels that are pruned.
        minutes: Of learning.
        steps: Of learning; one of the two is given.
        seed: Of all that is random.
        calibration: Inputs of one row each, which ranges are measured on.
        say: Told what a person should read.
        report: Told of every step.

    Raises:
        UsageError: The run cannot learn on, or not from this teacher.
        MissingExtra: What it takes is not installed.
        InputError: The network cannot be changed, or is not what the run says.
    """
    from curate.edge.compress.prune import prune
    from curate.edge.compress.qat import Rounded

    rebuilt = rebuild(parent, minutes=minutes, steps=steps, seed=seed, say=say)
    guide = Teacher.of(open_parent(teacher), rebuilt.learner.classes)
    _slow_down(rebuilt.learner, _RATE[method])
    details: dict[str, Any] = {"teacher": teacher, **({"minutes": minutes} if steps is None else {"steps": steps})}
    taught = (Rounded if method == "qat" else Taught)(rebuilt.learner, guide)
    if isinstance(taught, Rounded):
        taught.measure(calibration)
    if method == "prune":
        details |= prune(taught, calibration[0], share)
    folder.mkdir(parents=True)
    result = _fit(taught, rebuilt, folder, report)
    path = taught.export(folder)
    _require_alike(parent, path)
    return Learnt(path, details | {"epochs": result.epochs, "metric": taught.metric, **_main(result, taught.metric)})


def _fit(taught: Taught, rebuilt: Rebuilt, folder: Path, report: Report) -> Fit:
    return fit(
        taught, rebuilt.train, rebuilt.validation, folder / "checkpoint", shared=folder / "shared",
        open_log=lambda epochs: nullcontext(Log(folder, None, None)), report=report, say=lambda text: None,
    )  # fmt: skip


def _slow_down(learner: Learner, factor: float) -> None:
    """Set the learning rate, the same for all parts of the network: all have learnt already."""
    settings = learner.settings
    learner.settings = replace(settings, learning_rate=(settings.learning_rate or 0.0) * factor, weights=SCRATCH)
    if hasattr(learner, "backbone_rate"):
        learner.backbone_rate = 1.0


def _require_alike(parent: Parent, path: Path) -> None:
    """See that the new file takes and gives what the old one does: its sidecar is used for both."""
    old, new = parent.predictor.sidecar, read_sidecar(path)
    for key in ("size", "resize", "color", "layout", "scale", "mean", "std", "output"):
        if getattr(old, key) != getattr(new, key):
            raise InputError(
                f"the network that was made again takes or gives something else ('{key}')",
                where=parent.spec,
                remedy="go on with the version of curate that trained it, or train again",
            )


def _main(result: Fit, metric: str) -> dict[str, float]:
    return {"validation": result.numbers[metric]} if metric in result.numbers else {}
