"""What a frozen network sees in images, computed once: nothing random changes them, so every epoch would see the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.imaging import Pixels
from curate.models.passes import ITEMS, Progress, compute
from curate.models.training.base import Example

Features = npt.NDArray[np.float32]


class FeaturePass:
    """A frozen network as a computation; see `curate.models.passes.Computation`.

    Args:
        name: Tells its numbers from those of other networks.
        size: Images are wanted at about this many pixels on their shorter side.
        prepare: Makes an input of one image.
        run: Features of a batch of inputs, shape (n, dimensions).
        dimensions: Length of a row.
    """

    margin = 0.0

    def __init__(
        self,
        name: str,
        size: int,
        prepare: Callable[[Pixels], Any],
        run: Callable[[Sequence[Any]], Features],
        dimensions: int,
    ) -> None:
        self.name = name
        self.input_size: int | None = size
        self.columns = pa.schema([pa.field("features", pa.list_(pa.float32(), dimensions), nullable=False)])
        self._prepare = prepare
        self._run = run

    def prepare(self, pixels: Pixels) -> Any:
        """What the network takes; called from decoding threads."""
        return self._prepare(pixels)

    def run(self, batch: Sequence[Any]) -> pa.RecordBatch:
        """The features of n prepared images."""
        features = self._run(batch)
        column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        return pa.RecordBatch.from_arrays([column], schema=self.columns)


def compute_features(
    examples: Sequence[Example], network: FeaturePass, folder: Path, progress: Progress | None
) -> dict[str, Features]:
    """Features by image_id, each of shape (dimensions,); images that cannot be read have none.

    What is computed stays in the folder, for a run that is interrupted and for other learners on the same images.
    """
    ids, paths = [each.image_id for each in examples], [each.path for each in examples]
    items = pa.table([ids, paths, pa.nulls(len(ids), ITEMS.field("bbox").type)], schema=ITEMS)
    found = compute(items, None, network, folder, progress=progress).new
    column = found["features"].combine_chunks()
    rows = column.flatten().to_numpy(zero_copy_only=False).reshape(found.num_rows, -1)
    return dict(zip(found["id"].to_pylist(), rows, strict=True))
