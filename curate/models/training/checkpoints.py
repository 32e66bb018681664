"""What a training has come to, as one file of tensors: replaced by a rename, so that a kill leaves the last one whole."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from curate.errors import InputError, UsageError
from curate.files import sync_folder

FILE: Final = "checkpoint.safetensors"

_FORMAT: Final = 1
_META: Final = "curate"
_FULL: Final = "No space left on device"


@dataclass
class Progression:
    """Where a training stands. All of it is small; the tensors are kept beside it.

    Attributes:
        epoch: The one that is under way, from 0.
        batch: Batches of it that are done.
        step: Batches that are done altogether.
        seconds: Spent on training so far.
        sums: Of the loss and its parts in this epoch, by name.
        best: The best value of the learner's metric; None before the first validation.
        best_epoch: When that was.
        improved: The last epoch that was better than all before it; an equal one is not.
        numbers: Validation numbers of the best epoch.
        scaler: State of the gradient scaler of half precision.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int = -1
    improved: int = -1
    numbers: dict[str, float] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


Tensors = Mapping[str, Any]
"""Tensors by name."""


class NotKept(UsageError):
    """A disk does not take what a training has to keep."""


def write_checkpoint(folder: Path, progression: Progression, parts: Mapping[str, Tensors]) -> None:
    """Replace the checkpoint in a folder.

    Args:
        folder: It is there.
        progression: Where the training stands.
        parts: State dicts by name: 'module', 'optimizer', ...

    Raises:
        NotKept: The disk is full, or cannot be written.
    """
    tensors = {f"{part}/{name}": value for part, content in parts.items() for name, value in content.items()}
    meta = {_META: json.dumps({"format": _FORMAT, **asdict(progression)})}
    write_tensors(folder / FILE, tensors, meta)


def read_checkpoint(folder: Path) -> tuple[Progression, dict[str, dict[str, Any]]] | None:
    """The checkpoint in a folder: where the training stood, and the parts; None if there is none.

    Raises:
        InputError: The file cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    from safetensors import safe_open

    parts: dict[str, dict[str, Any]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {})[_META])
            for key in file.keys():  # noqa: SIM118  # it is no dictionary
                part, _, name = key.partition("/")
                parts.setdefault(part, {})[name] = file.get_tensor(key)
        if meta.pop("format") != _FORMAT:
            raise ValueError("another version of curate wrote it")
        return Progression(**meta), parts
    except Exception as error:  # safetensors' own have no common base
        raise InputError(
            f"the checkpoint cannot be read: {error}", where=path, remedy="delete the run's folder and train again"
        ) from error


def write_tensors(path: Path, tensors: Tensors, meta: Mapping[str, str]) -> None:
    """Replace a safetensors file in one step.

    Raises:
        NotKept: The disk is full, or cannot be written.
    """
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # Each with memory of its own: the format knows no two names of one tensor.
        save_file(
            {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, temporary, dict(meta)
        )
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except Exception as error:  # safetensors' own does not say what it is
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    sync_folder(path.parent)


def cannot_write(path: Path, error: Exception) -> NotKept:
    """The error of a disk that does not take what a training has to keep.

    Whether there is something to go on from is not known here: `curate.models.training.runs.unless_worthless` adds it.
    """
    full = is_full(error)
    return NotKept(
        f"the training cannot be kept: {_FULL if full else getattr(error, 'strerror', None) or error}",
        where=path,
        remedy="free some space" if full else "see that the folder may be written",
    )


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk is full."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _FULL in str(error)


def optimizer_tensors(optimizer: Any) -> dict[str, Any]:
    """The state of an optimiser as tensors by name: 'PARAMETER.KEY'."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, values in state.items() for key, value in values.items()}


def load_optimizer(optimizer: Any, tensors: Tensors) -> None:
    """The inverse of `optimizer_tensors`, for an optimiser of the same parameters."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
