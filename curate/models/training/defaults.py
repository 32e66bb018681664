"""Settings that depend on the machine alone: the device, its precision, and how many threads decode."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from curate.engine.local import default_threads
from curate.errors import MissingExtra, UsageError
from curate.models.training.base import TrainingSettings

EXTRA: Final = "train"

_DEVICE: Final = re.compile(r"cpu|cuda(:\d+)?|mps")
_MOST_THREADS: Final = 16


def require_packages() -> None:
    """See that what every training needs is installed, without importing it.

    Raises:
        MissingExtra: It is not.
    """
    for package in ("torch", "safetensors", "onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, EXTRA)


def settle(settings: TrainingSettings, say: Callable[[str], None]) -> TrainingSettings:
    """The settings with device, precision and threads chosen.

    Raises:
        UsageError: A number makes no sense, or there is no such device.
    """
    _check(settings)
    device = settings.device or _best_device()
    _require_device(device)
    amp = settings.amp if settings.amp is not None else device.startswith("cuda")
    workers = settings.workers if settings.workers is not None else min(default_threads(), _MOST_THREADS)
    if settings.device is None:
        say(f"device: {device}" + (" with half precision" if amp else ""))
    return replace(settings, device=device, amp=amp, workers=workers)


def option(options: Mapping[str, Any] | None, name: str, default: float, low: float, high: float) -> float:
    """A number among the options of a task.

    Raises:
        UsageError: It is none, or not between `low` and `high`.
    """
    value = (options or {}).get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high:
        raise UsageError(f"'{name}' must be a number from {low:g} to {high:g}, not '{value}'", where="--set")
    return number


def require_known(options: Mapping[str, Any] | None, known: Mapping[str, str]) -> None:
    """See that a task knows all options that were given.

    Args:
        options: Names and values.
        known: What each name that there is means.

    Raises:
        UsageError: One is not known.
    """
    for name in options or {}:
        if name not in known:
            listed = "; ".join(f"{key}: {meaning}" for key, meaning in known.items())
            raise UsageError(f"there is no option '{name}' for this task", where="--set", remedy=listed)


def _check(settings: TrainingSettings) -> None:
    """Raise a `UsageError` unless all numbers are possible."""
    limits: list[tuple[str, float | None, float]] = [
        ("--epochs", settings.epochs, 1),
        ("--set steps", settings.steps, 1),
        ("--batch-size", settings.batch_size, 1),
        ("--image-size", settings.image_size, 16),
        ("--set patience", settings.patience, 1),
        ("--set workers", settings.workers, 0),
        ("--seed", settings.seed, 0),
    ]
    for name, value, least in limits:
        if value is not None and value < least:
            raise UsageError(f"{value} is too small", where=name, remedy=f"at least {least:g}")
    for name, value in (
        ("--lr", settings.learning_rate),
        ("--minutes", settings.minutes),
        ("--set clip_norm", settings.clip_norm),
    ):
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{value} is not above 0", where=name)
    if settings.average is not None and not 0 < settings.average < 1:
        raise UsageError(f"{settings.average} is not between 0 and 1", where="--set average")


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _require_device(device: str) -> None:
    import torch

    if not _DEVICE.fullmatch(device):
        raise UsageError(f"'{device}' is no device", where="--device", remedy="cpu, cuda, cuda:1, or mps")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind, _, number = device.partition(":")
    if not there[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise UsageError(
            f"this machine, or this build of torch, has no '{device}'", where="--device", remedy="--device cpu"
        )
