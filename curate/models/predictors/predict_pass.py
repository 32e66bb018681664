"""Models as computations of a pass over the pixels: predictors of whole images, and segmenters of boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.errors import ImageError
from curate.imaging import Pixels
from curate.models.passes import Computation, LeftOut, Progress, run
from curate.models.predictors.base import BoxSegmenter, Predictor
from curate.models.predictors.class_names import ClassMapping
from curate.models.predictors.masks import encode_mask
from curate.models.predictors.results import RESULTS, Found, result_rows, to_rows
from curate.models.spool import Spool

IntArray = npt.NDArray[np.int64]

_BATCH_PIXELS: Final = 64 * 224 * 224
_MOST_IN_BATCH: Final = 64
_FEWEST_IN_BATCH: Final = 4
_PART_BYTES: Final = 2 << 20  # storing holds several parts at a time: read, as rows, and in the buffers of the writer
_FULL_SIZE: Final = 1024


_NOTHING: Final = Found(np.zeros(0, np.int64), np.zeros(0))


class PredictorPass:
    """A predictor as a computation; see `curate.models.passes.Computation`.

    Args:
        predictor: What predicts.
        mapping: Which of its classes is which of the dataset's.
        nms_iou: As for `curate.models.predictors.results.result_rows`.
    """

    margin = 0.0
    columns = RESULTS

    def __init__(self, predictor: Predictor, mapping: ClassMapping, nms_iou: float) -> None:
        self._predictor = predictor
        self._mapping = mapping
        self._nms_iou = nms_iou
        self.name = predictor.name
        self.input_size = predictor.input_size

    def prepare(self, pixels: Pixels) -> Any:
        """What the predictor makes of one image; called from decoding threads."""
        return self._predictor.prepare(pixels)

    def run(self, batch: Sequence[Any]) -> pa.RecordBatch:
        """What is on n prepared images, in the dataset's classes."""
        predictions = self._predictor.predict(batch)
        return result_rows(predictions, self._mapping, self._nms_iou, self._predictor.name)


class SegmenterPass:
    """A segmenter of boxes as a computation on crops that are not cut out: one row with one mask for each box.

    Args:
        segmenter: What makes masks.
    """

    margin = 0.0
    columns = RESULTS
    input_size: int | None = None

    def __init__(self, segmenter: BoxSegmenter) -> None:
        self._segmenter = segmenter
        self.name = segmenter.name
        self.refused: Counter[str] = Counter()
        """How many boxes are on images that the model cannot take, by the reason; they have no mask."""

    def prepare(self, pixels: Pixels) -> tuple[Pixels, Sequence[float]]:
        """A whole image as one box."""
        height, width = pixels.shape[:2]
        return pixels, (0.0, 0.0, float(width), float(height))

    def prepare_crop(self, pixels: Pixels, box: Sequence[float]) -> tuple[Pixels, Sequence[float]]:
        """The image that a box is on, uncut, and the box ([x, y, width, height] in its pixels)."""
        return pixels, box

    def run(self, batch: Sequence[tuple[Pixels, Sequence[float]]]) -> pa.RecordBatch:
        """The masks of n boxes; those of one image, which come one after another, are made in one go."""
        starts = [row for row, (pixels, _) in enumerate(batch) if row == 0 or pixels is not batch[row - 1][0]]
        found: list[Found] = []
        for start, end in zip(starts, [*starts[1:], len(batch)], strict=True):
            pixels = batch[start][0]
            boxes = np.array([box for _, box in batch[start:end]], dtype=np.float64)
            try:
                masks, quality = self._segmenter.segment(pixels, boxes)
            except ImageError as error:
                self.refused[error.what] += len(boxes)
                found += [_NOTHING] * len(boxes)
                continue
            found += [
                _one_mask(mask, score, box) for mask, score, box in zip(masks, quality.clip(0, 1), boxes, strict=True)
            ]
        return to_rows(found, 0)


def _one_mask(mask: npt.NDArray[np.bool_], score: float, box: npt.NDArray[np.float64]) -> Found:
    """One mask in the box around it; where nothing was found, the box alone that was asked about."""
    rle = encode_mask(mask)
    size = mask.shape[0], mask.shape[1]
    return Found(np.zeros(1, np.int64), np.array([score]), size, box[None] if rle is None else None, rles=[rle])


def spool_pass(
    computation: Computation,
    spool: Spool,
    items: pa.Table,
    prints: pa.StringArray,
    todo: IntArray,
    *,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[LeftOut], list[LeftOut]]:
    """Compute some rows into a spool: what is finished is on disk, and is used by the next run.

    Args:
        computation: What predicts.
        spool: Where its columns go, behind ids and fingerprints.
        items: Columns of `curate.models.passes.ITEMS`.
        prints: Their fingerprints.
        todo: Numbers of the rows to compute.
        batch_size: Rows for each call of the model; None for as many as fit well into memory.
        progress: Told (done, to do).

    Returns:
        The rows whose image cannot be read, and the crops whose box is impossible.
    """
    return run(
        items,
        todo,
        computation,
        _keeper(spool, items, prints),
        batch_size=batch_size or default_batch(computation.input_size),
        progress=progress,
    )


def default_batch(input_size: int | None) -> int:
    """How many images are decoded and predicted at a time: fewer of large ones, which are all held in memory."""
    side = input_size or _FULL_SIZE
    return max(_FEWEST_IN_BATCH, min(_MOST_IN_BATCH, _BATCH_PIXELS // side**2))


def _keeper(spool: Spool, items: pa.Table, prints: pa.StringArray) -> Callable[[IntArray, pa.RecordBatch], None]:
    """Puts results into the spool, which is written before it holds much: with masks, a row may be a megabyte."""
    waiting = 0

    def keep(rows: IntArray, columns: pa.RecordBatch) -> None:
        nonlocal waiting
        chosen = pa.array(rows)
        spool.add([items["id"].take(chosen).combine_chunks(), prints.take(chosen), *columns.columns])
        waiting += columns.nbytes
        if waiting > _PART_BYTES:
            spool.close()
            waiting = 0

    return keep
