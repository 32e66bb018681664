"""A run as a learner that goes on: the same network, settings and division of the images, from the weights it ended with."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from curate.edge.compress.images import Parent, training_division
from curate.errors import UsageError
from curate.models.training.base import Example, Learner, TrainingSettings
from curate.models.training.defaults import settle
from curate.models.training.registry import LEARNERS
from curate.models.training.runs import WEIGHTS_FILE
from curate.models.training.trainer import Say

_ENDLESS: Final = 100_000
"""Epochs: the minutes or the steps end a training before."""

_BUILTIN: Final = "builtin"
_ONNX: Final = "fcos/onnx"
_MIXING: Final = ("mixup", "cutmix")


@dataclass(frozen=True)
class Rebuilt:
    """A run that can learn on.

    Attributes:
        learner: With the run's weights.
        train: What it learns from, as before.
        validation: What decides which epoch is best, as before.
    """

    learner: Learner
    train: list[Example]
    validation: list[Example]


def why_not_trainable(parent: Parent) -> str | None:
    """Why a model cannot learn on, in words; None where it can."""
    run = parent.run
    if run is None:
        return "only a run learns on: a file does not say how it was trained"
    if run.plan.folds is not None:
        return "a model of a run with folds does not learn on"
    if run.model == _BUILTIN:
        return "of the model 'builtin' only the head was trained, and it is a small part of it"
    if run.model == _ONNX:
        return "a model that began as a file in ONNX does not learn on"
    if not parent.path.with_name(WEIGHTS_FILE).is_file():
        return f"the run has no {WEIGHTS_FILE} to learn on from"
    return None


def require_trainable(parent: Parent, method: str) -> None:
    """See that a model can learn on.

    Raises:
        UsageError: It cannot.
    """
    reason = why_not_trainable(parent) or (why_not_prunable(parent) if method == "prune" else None)
    if reason is not None:
        raise UsageError(f"'{method}' cannot be: {reason}", where=parent.spec, remedy="--methods quantise")


def why_not_prunable(parent: Parent) -> str | None:
    """Why a model that learns on cannot lose channels, in words; None where it can."""
    if parent.run is not None and parent.run.model.endswith(f"/{_BUILTIN}"):
        return "networks on the built-in encoder cannot lose channels"
    if importlib.util.find_spec("torch_pruning") is None:
        return "torch-pruning is not installed (pip install 'curate-vision[compress]')"
    return None


def rebuild(parent: Parent, *, minutes: float | None = None, steps: int | None = None, seed: int, say: Say) -> Rebuilt:
    """Make the learner of a run again.

    Args:
        parent: The run's model.
        minutes: That it will learn.
        steps: That it will learn; one of the two is given.
        seed: Of all that is random.
        say: Told what a person should read.

    Raises:
        UsageError: It cannot learn on, or its images are gone.
        InputError: The weights are not the network's.
    """
    import torch

    require_trainable(parent, "learning")
    assert parent.run is not None
    material, division = training_division(parent.run)
    before = msgspec.convert(parent.run.settings, TrainingSettings)
    options = {key: 0.0 if key in _MIXING else value for key, value in (before.options or {}).items()}
    settings = replace(
        before, weights=str(parent.path.with_name(WEIGHTS_FILE)), freeze="nothing", minutes=minutes, epochs=_ENDLESS,
        steps=steps, patience=None, device=None, amp=None, workers=None, seed=seed, options=options or None,
    )  # fmt: skip
    train, validation = material.take(division.train), material.take(division.validation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = LEARNERS.get(parent.run.task)(settle(settings, say), parent.run.classes, train, lambda text: None)
    return Rebuilt(learner, train, validation)
