"""Vectors of a dataset's images, or of crops of what is annotated on them: an encoder's pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.dataset.schema import embeddings_schema
from curate.engine.local import DEFAULT_BATCH
from curate.errors import InputError
from curate.imaging import Pixels
from curate.models.encoders.base import Encoder
from curate.models.passes import PassResult, Progress, compute

CONTEXT_MARGIN: Final = 0.05
"""Context around a crop, as a part of the box's longer side."""

_LARGE: Final = 240


class Embedding:
    """An encoder as a computation with one column, `vector`.

    Args:
        encoder: What makes the vectors.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.name = encoder.name
        self.columns = pa.schema([embeddings_schema(encoder.dimensions).field("vector")])
        self.input_size: int | None = _size_to_ask_for(encoder.input_size)
        self.margin = CONTEXT_MARGIN

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        """What the encoder makes of one image; called from decoding threads."""
        return self._encoder.prepare(pixels)

    def run(self, batch: Sequence[npt.NDArray[np.generic]]) -> pa.RecordBatch:
        """The vectors of n prepared images.

        Raises:
            InputError: The encoder gives vectors that are not numbers.
        """
        vectors = self._encoder.encode(batch).astype(np.float16)
        if not np.isfinite(vectors).all():
            raise InputError(
                "the encoder gave a vector that is not made of numbers",
                where=self._encoder.name,
                remedy="check its weights and what input range it expects",
            )
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return pa.RecordBatch.from_arrays([column], schema=self.columns)


def _size_to_ask_for(input_size: int) -> int:
    """The size that makes the decoder, which keeps twice as much, keep enough for an encoder's input.

    What a JPEG loses when it is decoded at a lower scale is its finest detail, of which a large input shows less. At 64 pixels
    twice as much is wanted. From 240 pixels on as much is enough, in half the time: over 100 photographs, the features of a
    detector moved by a cosine distance of 0.00006, as they do when a photograph is saved again at quality 95.
    """
    return max(min(input_size, _LARGE // 2), math.ceil(input_size / 2))


def embed(
    items: pa.Table,
    existing: pa.Table | None,
    encoder: Encoder,
    spool: Path,
    *,
    threads: int | None = None,
    batch_size: int = DEFAULT_BATCH,
    progress: Progress | None = None,
) -> PassResult:
    """Embed what is not embedded yet; arguments as for `curate.models.passes.compute`.

    Raises:
        InputError: The encoder gives vectors that are not numbers.
    """
    computation = Embedding(encoder)
    return compute(items, existing, computation, spool, threads=threads, batch_size=batch_size, progress=progress)
