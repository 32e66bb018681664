"""`train:` of a loop's file, where it is a mapping: the model that curate trains and measures in every round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from curate.dataset.query import quote
from curate.errors import InputError
from curate.models.training.base import Task, TrainingSettings

METRICS: Final[Mapping[Task, tuple[str, ...]]] = {
    "detect": ("AP", "AP50", "AP75"),
    "segment": ("mIoU", "mDice", "mean_accuracy"),
    "classify": ("balanced_accuracy", "top1", "macro_F1"),
}
"""What may be the metric: numbers of `curate evaluate` of which differences have an interval. The first is the default."""

_SETTINGS: Final = {each.name for each in fields(TrainingSettings)}
_SHORT: Final = {"lr": "learning_rate"}
_OWN: Final = ("where", "val", "held_out")
_REMEDY: Final = "see docs/annotators.md for what it may be"


@dataclass(frozen=True)
class Training:
    """What is trained in every round, and measured on what.

    Attributes:
        settings: Those of `curate.models.training.base.TrainingSettings` that were named, the task among them.
        where: SQL condition on the images to learn from; None for all.
        validation: Split or share that decides which epoch is best, as for `curate train --val`.
        held_out: Split on which the metric is measured: nothing of it is learnt from, and nothing of it is selected.
    """

    settings: Mapping[str, Any]
    where: str | None = None
    validation: str | None = None
    held_out: str = "test"

    @property
    def task(self) -> Task:
        """What is learnt."""
        task: Task = self.settings["task"]
        return task

    @property
    def measured(self) -> str:
        """SQL condition on the images that the metric is measured on."""
        return f"split = {quote(self.held_out)}"

    @property
    def learnt(self) -> str:
        """SQL condition on the images that are learnt from."""
        others = f"(split IS NULL OR split <> {quote(self.held_out)})"
        return others if self.where is None else f"({self.where}) AND {others}"


def read_training(content: Mapping[Any, Any], place: str) -> Training:
    """What is trained, from a mapping.

    Args:
        content: Keys are the long options of `curate train`, or what `--set` takes, with '_' or '-'; and `held_out`.
        place: Of the mapping, for errors.

    Raises:
        InputError: A key or a value is wrong; the error names it.
    """
    given = {str(key).replace("-", "_"): value for key, value in content.items()}
    given = {_SHORT.get(key, key): value for key, value in given.items()}
    for key in given:
        if key not in {*_SETTINGS, *_OWN}:
            known = ", ".join(sorted({*_SETTINGS, *_OWN}))
            raise InputError("there is no such key", where=f"{place}.{key}", remedy=f"one of: {known}")
    own = {key: _text(given.pop(key), f"{place}.{key}") for key in _OWN if given.get(key) is not None}
    try:
        # Numbers such as 1e-3 are texts in YAML.
        settings = msgspec.convert(
            {key: given[key] for key in given if key in _SETTINGS}, TrainingSettings, strict=False
        )
    except msgspec.ValidationError as error:
        raise InputError(f"this cannot be understood: {error}", where=place, remedy=_REMEDY) from None
    training = Training(
        {key: getattr(settings, key) for key in given if key in _SETTINGS}, own.get("where"), own.get("val"),
        own.get("held_out", Training.held_out),
    )  # fmt: skip
    if training.validation == training.held_out:
        raise InputError(
            "the split that the metric is measured on cannot choose the best epoch: the metric would be too good",
            where=f"{place}.val",
            remedy="another split, or a share: val: 0.2",
        )
    return training


def _text(value: Any, place: str) -> str:
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return str(value)
    raise InputError(f"{value!r} is of the wrong type", where=place, remedy=_REMEDY)
