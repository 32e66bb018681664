"""What runs in a worker process of a cluster: blocks of a stage, and jobs. Nothing here knows which cluster."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curate import __version__
from curate.engine.local import run_local
from curate.engine.stage import CountingStage, Failure, Item, Rows
from curate.errors import UnavailableError

_AGAIN: Final = "install the same version of curate, with the same extras, on every machine"

Blob = npt.NDArray[np.uint8]
"""Something pickled: an array of bytes is not copied on its way out of a store of objects."""


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to make a stage, once; it keeps the last one.

    Attributes:
        key: Tells it from all others.
        version: Of curate, where it was made.
        threads: That decode.
        batch_size: Rows for each call of the stage.
    """

    key: str
    version: str
    threads: int
    batch_size: int


@dataclass(frozen=True)
class Block:
    """What came of some items: rows and failures in the order in which they came, with items numbered from the block's first.

    Attributes:
        events: `Rows` and `Failure`.
        refused: What a `CountingStage` counted.
    """

    events: Sequence[Rows | Failure]
    refused: dict[str, int]


@dataclass(frozen=True)
class Raised:
    """An exception, on its way back: it is raised where the work was asked for.

    Attributes:
        error: What was raised.
        trace: Where, in the worker.
    """

    error: Exception
    trace: str


_stages: dict[str, tuple[Any, Any]] = {}
"""In a worker: the stage that it ran last, and how that prepares crops."""


def run_block(recipe: Recipe, blob: Blob, items: Sequence[Item]) -> bytes:
    """Run a stage over some items; returns a pickled `Block` or `Raised`."""
    return _guarded(lambda: _run_block(recipe, blob, items), recipe.version)


def run_job(version: str, threads: int, work: Blob, arguments: tuple[Any, ...], *parts: Any) -> bytes:
    """Call a pickled function; returns what it gave, or a `Raised`, pickled."""

    def call() -> Any:
        with _limited(threads):
            return pickle.loads(work.data)(*parts, *arguments)

    return _guarded(call, version)


def _guarded(work: Callable[[], Any], version: str) -> bytes:
    """A result or exception as bytes, which hold on to nothing in the store of objects."""
    try:
        if version != __version__:
            raise UnavailableError(
                f"a worker has curate {__version__}, and the command is of curate {version}",
                where=f"{os.uname().nodename}",
                remedy=_AGAIN,
            )
        return pickle.dumps(work(), protocol=5)
    except Exception as error:
        return _pickled(Raised(error, traceback.format_exc()))


def _pickled(raised: Raised) -> bytes:
    try:
        content = pickle.dumps(raised)
        pickle.loads(content)  # not every exception that can be written can be read
        return content
    except Exception:
        return pickle.dumps(Raised(RuntimeError(repr(raised.error)), raised.trace))


def _run_block(recipe: Recipe, blob: Blob, items: Sequence[Item]) -> Block:
    stage, prepare_crop = _stage(recipe, blob)
    counted = stage.refused if isinstance(stage, CountingStage) else None
    if counted is not None:
        counted.clear()
    events: list[Rows | Failure] = []
    with _limited(recipe.threads):
        rows = run_local(
            stage,
            items,
            threads=recipe.threads,
            batch_size=recipe.batch_size,
            on_error=events.append,
            prepare_crop=prepare_crop,
        )
        for batch in rows:  # failures come in between
            events.append(batch)
    return Block(events, dict(counted or {}))


def _stage(recipe: Recipe, blob: Blob) -> tuple[Any, Any]:
    if recipe.key not in _stages:
        _stages.clear()  # before the next one is loaded: two models may not fit
        try:
            _stages[recipe.key] = pickle.loads(blob.data)
        except (ImportError, AttributeError) as error:
            raise UnavailableError(f"a worker cannot load what it is to run: {error}", remedy=_AGAIN) from error
    return _stages[recipe.key]


def _limited(threads: int) -> Any:
    """As many threads in OpenCV as the worker has cores, and one in BLAS, as under the local engine."""
    import cv2
    from threadpoolctl import threadpool_limits

    cv2.setNumThreads(threads)
    return threadpool_limits(1, user_api="blas")
