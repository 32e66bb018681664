"""A stage: one computation over decoded images. Engines decide where and how it runs.

The same stage runs under every engine: `curate.engine.local` overlaps it with decoding on this machine, `curate.engine.ray` sends
it, pickled, to the machines of a cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ImageError
from curate.imaging import Pixels

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Item:
    """One image file to decode, and the parts of it that are wanted.

    Attributes:
        path: The file.
        boxes: [x, y, width, height] in pixels of the full-size image, one per crop; None stands for the whole image.
    """

    path: str | Path
    boxes: Sequence[Sequence[float] | None] = (None,)


class Stage(Protocol[Prepared]):
    """Turns a batch of decoded images into columns."""

    input_size: int | None
    """Images and crops are wanted at about this many pixels on their shorter side, so that larger files may be decoded
    at a lower scale; None for full resolution."""

    margin: float
    """Context kept around a crop, as a part of the box's longer side."""

    def prepare(self, pixels: Pixels) -> Prepared:
        """One image or crop (uint8 of shape (height, width, 3)) to what `run` takes. Called from decoding threads."""

    def run(self, batch: Sequence[Prepared]) -> pa.RecordBatch:
        """The columns of n prepared images: one row each, in order. Called from the caller's thread."""


@runtime_checkable
class CountingStage(Protocol):
    """A stage that counts what it refuses, beside its columns. An engine that runs copies of it adds up what they count."""

    refused: Counter[str]
    """How many rows are without a result, by the reason."""


@dataclass(frozen=True)
class Rows:
    """What a stage gave for one batch: n rows, in the order of the items and of the boxes within them.

    Attributes:
        item: Number of the item each row belongs to, counted from 0; int64 array of shape (n,).
        box: Number of the box within its item, 0 for a whole image; int64 array of shape (n,).
        columns: The stage's columns, n rows.
    """

    item: npt.NDArray[np.int64]
    box: npt.NDArray[np.int64]
    columns: pa.RecordBatch


@dataclass(frozen=True)
class Failure:
    """An image that cannot be read, or a box that cannot be cut out of it. It has no rows.

    Attributes:
        item: Number of the item, counted from 0.
        box: Number of the box within it; None if the whole image cannot be read, so that no box has a row.
        error: Which file, and why.
    """

    item: int
    box: int | None
    error: ImageError
