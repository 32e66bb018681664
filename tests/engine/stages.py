"""Stages and jobs that tests send to other processes: what a worker imports by name."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import InputError
from curate.imaging import Pixels

DEADLY = 255
"""The red of an image that kills the process that looks at it."""


class Reds:
    """The mean red of each image or crop. It can be slow, write down which process works and which loads it, and refuse.

    Args:
        folder: Where each process leaves its number in a file; a line is added whenever it loads the stage.
        seconds: Waited for each batch.
        refuse: Reds that are counted as refused; they have a row with -1.
    """

    input_size: int | None = None
    margin = 0.0

    def __init__(self, folder: Path | None = None, *, seconds: float = 0.0, refuse: Sequence[int] = ()) -> None:
        self.refused: Counter[str] = Counter()
        self._folder = folder
        self._seconds = seconds
        self._refuse = refuse

    def __reduce__(self) -> tuple[Callable[..., Reds], tuple[object, ...]]:
        return _load, (self._folder, self._seconds, self._refuse)

    def prepare(self, pixels: Pixels) -> int:
        return round(float(pixels[..., 0].mean()))

    def run(self, batch: Sequence[int]) -> pa.RecordBatch:
        if DEADLY in batch:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._seconds)
        self.refused.update(f"red {red}" for red in batch if red in self._refuse)
        reds = np.array([-1 if red in self._refuse else red for red in batch])
        return pa.record_batch({"red": reds, "process": np.full(len(batch), os.getpid())})


def _load(folder: Path | None, seconds: float, refuse: Sequence[int]) -> Reds:
    if folder is not None:
        with (folder / str(os.getpid())).open("a") as file:
            file.write("loaded\n")
    return Reds(folder, seconds=seconds, refuse=refuse)


class Refusing(Reds):
    """A stage that cannot run."""

    def __reduce__(self) -> tuple[Callable[..., Reds], tuple[object, ...]]:
        return Refusing, ()

    def run(self, batch: Sequence[int]) -> pa.RecordBatch:
        raise InputError("the network gives NaN", where="red.onnx", remedy="export it again")


class Held(Reds):
    """A stage that holds what cannot be pickled."""

    def __reduce__(self) -> tuple[Callable[..., Reds], tuple[object, ...]]:
        raise TypeError("cannot pickle a session")


def add(*numbers: float) -> float:
    return sum(numbers)


def products(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32], folder: Path, seconds: float) -> float:
    """A job that leaves its process's number, and takes its time."""
    (folder / str(os.getpid())).touch()
    time.sleep(seconds)
    return float((a @ b.T).sum())


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
