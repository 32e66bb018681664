"""What a model says of images as columns, one row an image, and those as rows of a dataset's annotations.

    predictions ── result_rows ──> RESULTS, in pixels of the image as it was decoded ── annotation_rows ──> ANNOTATIONS, full size

The first step is taken in the pass, so that what is spooled has the dataset's classes only; the second when it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import Hashes, annotation_ids, from_ids
from curate.errors import InputError
from curate.formats.columns import annotations_table, fixed_lists, offsets
from curate.geometry import rle_boxes
from curate.models.predictors.base import Classes, ClassMap, DepthMap, Objects, Prediction, Size
from curate.models.predictors.class_names import NOWHERE, ClassMapping
from curate.models.predictors.masks import encode_classes, encode_mask, scale_rle
from curate.models.predictors.postprocess import suppress

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

OBJECT: Final = pa.struct(
    [
        pa.field("label", pa.int32()),  # place in `ClassMapping.names`
        pa.field("score", pa.float64()),
        pa.field("bbox", pa.list_(pa.float64(), 4)),  # null for what is said of the whole image, and for a region
        pa.field("probabilities", pa.list_(pa.float32())),  # of `ClassMapping.names`
        pa.field("rle", pa.string()),
    ]
)

RESULTS: Final = pa.schema(
    [
        # [height, width] that boxes and masks refer to; null where there are none.
        pa.field("size", pa.list_(pa.int32(), 2)),
        pa.field("objects", pa.list_(OBJECT)),
        # Numbers of the model's classes, once for each object that is left out for its class.
        pa.field("left_out", pa.list_(pa.int32())),
    ]
)
"""What a model says of each image."""

_NO_BOXES: Final = np.zeros((0, 4))


@dataclass(frozen=True)
class Found:
    """What is kept of one image's prediction: k objects.

    Attributes:
        labels: Places in `ClassMapping.names`, shape (k,).
        scores: Shape (k,).
        size: [height, width] that the rest refers to; None if there is no rest.
        boxes: Shape (k, 4); None where there are none.
        probabilities: Shape (k, names); None where there are none.
        rles: k run lengths, None for an object without a mask; None where there are none.
        left_out: The model's classes of what is left out.
    """

    labels: Ints
    scores: Floats
    size: Size | None = None
    boxes: Floats | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    rles: Sequence[str | None] | None = None
    left_out: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def result_rows(predictions: Sequence[Prediction], mapping: ClassMapping, nms_iou: float, model: str) -> pa.RecordBatch:
    """What a model says of n images, in the dataset's classes.

    Args:
        predictions: One for each image.
        mapping: Which of the model's classes is which of the dataset's.
        nms_iou: Of two boxes that overlap more than this and were of different classes of the model, and are of one class
            now, the surer stays.
        model: Its name, for errors.

    Returns:
        Columns of `RESULTS`.

    Raises:
        InputError: The model gave something that cannot be: a class that it does not have, a score that is no number.
    """
    return to_rows([_found(each, mapping, nms_iou, model) for each in predictions], len(mapping.names))


def to_rows(found: Sequence[Found], classes: int) -> pa.RecordBatch:
    """The columns of `RESULTS` for n images, of whose objects the probabilities have so many numbers."""
    counts = np.array([len(each.labels) for each in found], dtype=np.int64)
    boxes = [np.full((len(f.labels), 4), np.nan) if f.boxes is None else f.boxes for f in found]
    flat_boxes = np.concatenate([_NO_BOXES, *boxes])
    objects = pa.StructArray.from_arrays(
        [
            pa.array(np.concatenate([np.zeros(0, np.int32), *(each.labels for each in found)]), pa.int32()),
            pa.array(np.concatenate([np.zeros(0), *(each.scores for each in found)]), pa.float64()),
            fixed_lists(flat_boxes, np.isnan(flat_boxes[:, 0])),
            _probability_lists(found, counts, classes),
            pa.array([rle for each in found for rle in each.rles or [None] * len(each.labels)], pa.string()),
        ],
        fields=list(OBJECT),
    )
    left_out = np.concatenate([np.zeros(0, np.int32), *(each.left_out for each in found)])
    return pa.record_batch(
        [
            pa.array([each.size for each in found], RESULTS.field("size").type),
            pa.ListArray.from_arrays(offsets(counts), objects),
            pa.ListArray.from_arrays(
                offsets(np.array([len(each.left_out) for each in found])), pa.array(left_out, pa.int32())
            ),
        ],
        schema=RESULTS,
    )


def annotation_rows(
    image_ids: pa.Array,
    results: pa.RecordBatch | pa.Table,
    sizes: Ints,
    layer: str,
    names: Sequence[str],
    kept: Ints,
    keys: Hashes | None = None,
) -> pa.Table:
    """Predictions as annotations, in pixels of the full-size images.

    Args:
        image_ids: Of n images.
        results: Their columns of `RESULTS`.
        sizes: [height, width] of the images; 0 where unknown, which is taken for that of the prediction. Shape (n, 2).
        layer: Where they go.
        names: Names of the classes, by the numbers in the results.
        kept: These numbers in the order of the dataset's classes, `NOWHERE` for a class that has none: shape (classes,).
        keys: Where several results of one object each are of one image, what tells them apart, shape (n,); else None.

    Returns:
        Columns of `curate.dataset.schema.ANNOTATIONS`, in the order of the images.
    """
    column = _one(results.column("objects"))
    image = np.repeat(np.arange(len(column)), pc.list_value_length(column).to_numpy(zero_copy_only=False))
    objects = column.flatten()
    given = _numbers(_one(results.column("size")), 2)[image]
    full = np.where(sizes[image] > 0, sizes[image], np.nan_to_num(given))
    rles = _scaled_masks(objects.field("rle"), given, full)
    masked = np.asarray(rles.is_valid())
    boxes = _scaled_boxes(objects.field("bbox"), given, full)
    around = np.flatnonzero(masked & np.isnan(boxes[:, 0]))
    boxes[around] = rle_boxes(rles.take(pa.array(around)).to_pylist(), full[around].astype(np.int64))
    boxed = ~np.isnan(boxes[:, 0])
    ids = image_ids.take(pa.array(image))
    return annotations_table(
        len(image),
        {
            "annotation_id": annotation_ids(from_ids(ids), layer, "", keys=None if keys is None else keys[image]),
            "image_id": ids,
            "layer": layer,
            "type": pa.array(["label", "box", "mask"]).take(pa.array(np.where(masked, 2, boxed))),
            "label": pa.array(names, pa.string()).take(objects.field("label")),
            "bbox": fixed_lists(boxes, ~boxed),
            "rle": rles,
            "rle_size": fixed_lists(full, ~masked),
            "score": objects.field("score"),
            "probabilities": _some_probabilities(objects.field("probabilities"), len(names), kept),
        },
    )


def _found(prediction: Prediction, mapping: ClassMapping, nms_iou: float, model: str) -> Found:
    if isinstance(prediction, Classes):
        return _class_of_image(prediction, mapping, model)
    if isinstance(prediction, ClassMap):
        return _regions(prediction, mapping, model)
    if isinstance(prediction, DepthMap):
        raise InputError("a depth map has no classes and makes no annotations", where=model)
    return _objects(prediction, mapping, nms_iou, model)


def _class_of_image(prediction: Classes, mapping: ClassMapping, model: str) -> Found:
    """The dataset's most probable class, unless a single class that the dataset does not have is more probable."""
    given = prediction.probabilities
    _require(given.shape == (len(mapping.classes),) and bool(np.isfinite(given).all()), "probabilities", model)
    added = mapping.add_up(given[None])
    best = int(added[0].argmax())
    outside = np.where(mapping.target == NOWHERE, given, 0.0)
    if added[0, best] <= outside.max(initial=0.0):
        return Found(np.zeros(0, np.int64), np.zeros(0), left_out=np.array([int(outside.argmax())]))
    return Found(np.array([best]), added[0, [best]].astype(np.float64), probabilities=added)


def _objects(prediction: Objects, mapping: ClassMapping, nms_iou: float, model: str) -> Found:
    """Objects whose class the dataset has, each with the model's own class and score."""
    labels, scores, boxes = prediction.labels, prediction.scores, prediction.boxes
    _require(bool(((labels >= 0) & (labels < len(mapping.classes))).all()), "a class number", model)
    _require(bool(np.isfinite(boxes).all() and np.isfinite(scores).all()), "a box or a score", model)
    target = mapping.target[labels]
    kept = target >= 0
    kept[kept] = ~_doubles(boxes[kept], scores[kept], target[kept], mapping, nms_iou)
    probabilities, masks = prediction.probabilities, prediction.masks
    return Found(
        target[kept],
        scores[kept],
        prediction.size,
        boxes[kept],
        None if probabilities is None else mapping.add_up(probabilities[kept]),
        None if masks is None else [encode_mask(mask) for mask in masks[kept]],
        left_out=labels[target == NOWHERE],
    )


def _doubles(boxes: Floats, scores: Floats, target: Ints, mapping: ClassMapping, nms_iou: float) -> Flags:
    """Which boxes double a surer one, of those whose class was several of the model's.

    A model suppresses the doubles within each of its classes; what may be a car or a truck comes twice as a vehicle.
    """
    double = np.zeros(len(target), dtype=np.bool_)
    rows = np.flatnonzero(mapping.merged[target])
    if not len(rows):
        return double
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    corners = np.concatenate([boxes[rows, :2], boxes[rows, :2] + boxes[rows, 2:]], axis=1)
    double[rows] = True
    double[rows[suppress(corners, target[rows], nms_iou)]] = False
    return double


def _regions(prediction: ClassMap, mapping: ClassMapping, model: str) -> Found:
    """One object for each class on the image: all of its pixels, with their mean confidence."""
    given = prediction.labels
    _require(bool((given < len(mapping.classes)).all()), "a class number", model)
    _require(given.shape == prediction.confidence.shape, "a map of confidences", model)
    labels = np.r_[mapping.target, NOWHERE][np.where(given < 0, NOWHERE, given)].astype(np.int32)
    regions = encode_classes(labels)
    there = labels >= 0
    pixels = np.maximum(np.bincount(labels[there], minlength=len(mapping.names)), 1)
    sure = np.bincount(labels[there], prediction.confidence[there], minlength=len(mapping.names)) / pixels
    numbers = np.array([number for number, _ in regions], dtype=np.int64)
    return Found(
        numbers,
        sure[numbers],
        (given.shape[0], given.shape[1]),
        rles=[rle for _, rle in regions],
        left_out=np.unique(given[~there & (given >= 0)]).astype(np.int64),
    )


def _require(holds: bool, what: str, model: str) -> None:
    if not holds:
        raise InputError(
            f"the model gave {what} that cannot be", where=model, remedy="check its classes and what output it has"
        )


def _probability_lists(found: Sequence[Found], counts: Ints, classes: int) -> pa.Array:
    """A list of probabilities for each object, null where its image has none."""
    there = np.array([each.probabilities is not None for each in found], dtype=np.bool_)
    rows = np.repeat(there, counts)
    values = [each.probabilities.ravel() for each in found if each.probabilities is not None]
    flat = pa.array(np.concatenate([np.zeros(0, np.float32), *values]), pa.float32())
    return pa.ListArray.from_arrays(offsets(np.where(rows, classes, 0)), flat, mask=pa.array(~rows))


def _some_probabilities(column: pa.ListArray, given: int, kept: Ints) -> pa.Array:
    """The probabilities of some of the classes given; zeros for one that is not among them."""
    if np.array_equal(kept, np.arange(given)):
        return column
    there = np.asarray(column.is_valid())
    values = np.pad(np.asarray(column.flatten()).reshape(-1, given), ((0, 0), (0, 1)))[:, kept]
    flat = pa.array(np.ascontiguousarray(values).ravel(), pa.float32())
    return pa.ListArray.from_arrays(offsets(np.where(there, len(kept), 0)), flat, mask=pa.array(~there))


def _scaled_boxes(column: pa.FixedSizeListArray, given: Floats, full: Floats) -> Floats:
    """Boxes in pixels of the full size, NaN where null; shape (n, 4)."""
    boxes = _numbers(column, 4)
    scale = np.divide(full, given, out=np.ones_like(full), where=given > 0)[:, ::-1]
    scaled: Floats = boxes * np.tile(scale, 2)
    return scaled


def _scaled_masks(column: pa.StringArray, given: Floats, full: Floats) -> pa.StringArray:
    """Run lengths of masks of the full size, null where null."""
    rows = np.flatnonzero(np.asarray(column.is_valid()) & (given != full).any(axis=1))
    if not len(rows):
        return column
    rles = column.to_pylist()
    for row in rows.tolist():
        rles[row] = scale_rle(rles[row], given[row].astype(int).tolist(), full[row].astype(int).tolist())
    return pa.array(rles, pa.string())


def _numbers(column: pa.FixedSizeListArray, length: int) -> Floats:
    """Lists of so many numbers, NaN where null; shape (n, length)."""
    numbers = np.full((len(column), length), np.nan)
    numbers[np.asarray(column.is_valid())] = np.asarray(column.flatten(), dtype=np.float64).reshape(-1, length)
    return numbers


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
