"""The tables of `curate.dataset.schema` from NumPy arrays and back, whole columns at once; what a format cannot hold of them."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ids import Hashes, annotation_ids, hash_texts, image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES
from curate.formats.base import ClassInfo
from curate.formats.losses import PLACES_KEPT, Loss, LossReport, Outcome
from curate.geometry import rle_areas, valid_rles
from curate.names import PREDICTIONS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BROKEN_MASK: Final = "run lengths do not fill the mask's size"
"""Why a mask is dropped that `broken_masks` finds."""

_VALUES_OF_IMAGES: Final = {
    "tags": "tags",
    "group": "image groups",
    "frame": "frame numbers",
    "timestamp": "timestamps",
    "metadata": "image metadata",
    "source_id": "image ids",
}
_VALUES_OF_ANNOTATIONS: Final = {
    "rotated_box": "rotated boxes",
    "polygons": "polygons",
    "rle": "masks",
    "keypoints": "keypoints",
    "area": "areas",
    "attributes": "attributes",
    "score": "scores",
    "probabilities": "class probabilities",
    "iscrowd": "crowd flags",
    "source_id": "annotation ids",
}
_VALUES_OF_CLASSES: Final = {
    "source_id": "category ids",
    "supercategory": "supercategories",
    "keypoints": "names of keypoints",
    "skeleton": "skeletons",
    "color": "colors of classes",
}
_FIRST_ROWS: Final = 1000


def images_table(
    locations: Sequence[str], paths: Sequence[Path | None], width: Ints, height: Ints, columns: Mapping[str, Any]
) -> pa.Table:
    """Images, with the columns of `IMAGES`.

    Args:
        locations: n unique locations.
        paths: Where their files are; None where there is none.
        width: Shape (n,); 0 where it is not known.
        height: Shape (n,).
        columns: Any further columns, by name; the rest are null.
    """
    texts = [None if path is None else str(path.absolute()) for path in paths]
    unknown = (width <= 0) | (height <= 0)
    filled = {
        "image_id": image_ids(locations),
        "location": locations,
        "path": texts,
        "width": pa.array(width.astype(np.int32), mask=unknown),
        "height": pa.array(height.astype(np.int32), mask=unknown),
        **columns,
    }
    return _table(IMAGES, len(locations), filled)


def annotations_table(count: int, columns: Mapping[str, Any]) -> pa.Table:
    """Annotations, with the columns of `ANNOTATIONS`; those not given are null.

    Args:
        count: Number of rows.
        columns: Arrays, lists, or one value for all rows, by name.
    """
    return _table(ANNOTATIONS, count, columns)


def annotations_on(
    locations: Sequence[str], image: Ints, layer: str, columns: Mapping[str, Any], keys: Hashes | None = None
) -> pa.Table:
    """Annotations from a source without ids, where each is known by its image and what tells it apart there.

    Args:
        locations: Locations of the images.
        image: Which of them each of n annotations is on, shape (n,).
        layer: Where they go.
        columns: The other columns, as for `annotations_table`.
        keys: What tells the annotations of an image apart (a line's number), uint64, shape (n,); None for their order.
    """
    own = {
        "annotation_id": annotation_ids(hash_texts(locations)[image], layer, "", keys=keys),
        "image_id": image_ids(locations).take(pa.array(image)),
        "layer": layer,
    }
    return annotations_table(len(image), own | dict(columns))


def prediction_scores(scores: Floats, layer: str, place: object, losses: LossReport) -> pa.Array:
    """Scores as a column, null where NaN. Ground truth has no place for them: there all are null, and reported."""
    given = ~np.isnan(scores)
    if not layer.startswith(PREDICTIONS):
        reason = "confidences have no place in ground truth; import into predictions/NAME to keep them"
        losses.dropped("scores", reason, place, int(given.sum()))
        given = np.zeros_like(given)
    return pa.array(scores, mask=~given)


def fixed_lists(values: Floats, missing: Flags | None = None) -> pa.Array:
    """Rows of an array of shape (n, k) as lists of k numbers; null where `missing`."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float64).ravel())
    return pa.FixedSizeListArray.from_arrays(
        flat, values.shape[1], mask=None if missing is None else pa.array(missing, type=pa.bool_())
    )


def polygon_lists(values: Floats, lengths: Ints) -> pa.Array:
    """One polygon for each of n rows, as a list of one part.

    Args:
        values: All coordinates one after another, shape (sum of lengths,).
        lengths: How many belong to each row, shape (n,); 0 gives null.
    """
    has = lengths > 0
    parts = pa.ListArray.from_arrays(offsets(lengths[has]), pa.array(values, pa.float64()))
    return pa.ListArray.from_arrays(offsets(has.astype(np.int64)), parts, mask=pa.array(~has))


def number_lists(values: Floats, lengths: Ints) -> pa.Array:
    """A list of numbers for each of n rows; arguments as for `polygon_lists`."""
    return pa.ListArray.from_arrays(offsets(lengths), pa.array(values, pa.float64()), mask=pa.array(lengths == 0))


def ragged_indices(starts: Ints, lengths: Ints) -> Ints:
    """Indices of n runs, one after another: starts[0], starts[0] + 1, ... lengths[0] of them, then the next run."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    indices: Ints = np.arange(total) + np.repeat(starts - before, lengths)
    return indices


def offsets(lengths: Ints) -> pa.Array:
    """Arrow list offsets from lengths."""
    return pa.array(np.r_[0, np.cumsum(lengths)].astype(np.int32))


def box_values(column: pa.ChunkedArray | pa.Array) -> tuple[Floats, Flags]:
    """A list column of fixed length k as an array of shape (n, k), NaN where null, and which rows are not null."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    present = np.asarray(array.is_valid())
    values = np.full((len(array), column.type.list_size), np.nan)
    values[present] = np.asarray(array.flatten(), dtype=np.float64).reshape(-1, column.type.list_size)
    return values, present


def image_rows(annotations: pa.Table, images: pa.Table) -> Ints:
    """Row in `images` of the image that each of n annotations is on; shape (n,)."""
    return np.asarray(pc.index_in(annotations["image_id"], images["image_id"].combine_chunks()), dtype=np.int64)


def broken_masks(annotations: pa.Table) -> Flags:
    """Which of n annotations have a mask whose run lengths do not fill its size, so that nothing can draw it."""
    broken = np.zeros(annotations.num_rows, dtype=np.bool_)
    rows = np.flatnonzero(np.asarray(annotations["rle"].is_valid()))
    counts = annotations["rle"].take(rows).to_pylist()
    sizes, sized = box_values(annotations["rle_size"].take(rows))
    broken[rows] = ~valid_rles(counts, np.where(sized[:, None], sizes, 0))
    return broken


def report_rows(outcome: Outcome, what: str, reason: str, images: pa.Table, at: Ints, losses: LossReport) -> None:
    """Report things on images at once, with the locations of the first images they are on.

    Args:
        outcome: 'dropped' or 'converted'.
        what: As for `LossReport.dropped`.
        reason: As for `LossReport.dropped`.
        images: What is written, with a column `location`.
        at: Row in `images` of each of n things, shape (n,); nothing is reported where n is 0.
        losses: Where they are counted.
    """
    if len(at):
        first = list(dict.fromkeys(at[:_FIRST_ROWS].tolist()))[:PLACES_KEPT]
        losses.include([Loss(outcome, what, reason, len(at), images["location"].take(first).to_pylist())])


def report_unsaid(
    images: pa.Table, annotations: pa.Table, format_name: str, losses: LossReport, *, holds: Container[str]
) -> None:
    """Report, for an export, the values that a format has no place for, with the first images that have them.

    Args:
        images: What is written.
        annotations: What is written.
        format_name: For the reason.
        losses: Where each value that is there is counted as dropped; of booleans only the true ones count.
        holds: Names of the columns that the format does hold, beyond those that every format does.
    """
    reason = f"{format_name} has no place for them"
    for name, what in _VALUES_OF_IMAGES.items():
        if name not in holds:
            report_rows("dropped", what, reason, images, _filled_rows(images[name]), losses)
    if "rle" in holds:
        annotations = _without_measured_areas(annotations)
    image: Ints | None = None
    for name, what in _VALUES_OF_ANNOTATIONS.items():
        rows = np.zeros(0, dtype=np.int64) if name in holds else _filled_rows(annotations[name])
        if len(rows):
            image = image_rows(annotations, images) if image is None else image
            report_rows("dropped", what, reason, images, image[rows], losses)


def report_unsaid_classes(
    classes: Sequence[ClassInfo], format_name: str, losses: LossReport, *, holds: Container[str]
) -> None:
    """Report, for an export, what is known of the classes that a format has no place for.

    Args:
        classes: What is written.
        format_name: For the reason.
        losses: Where each class that has such a value is counted as dropped.
        holds: Names of the attributes of `ClassInfo` that the format does hold, or whose loss is told otherwise.
    """
    for name, what in _VALUES_OF_CLASSES.items():
        for info in classes if name not in holds else ():
            if getattr(info, name) not in {None, ()}:
                losses.dropped(what, f"{format_name} has no place for them", info.name)


def _without_measured_areas(annotations: pa.Table) -> pa.Table:
    """The annotations without the areas that the pixels of their masks say again."""
    has_both = np.asarray(annotations["area"].is_valid()) & np.asarray(annotations["rle"].is_valid())
    rows = np.flatnonzero(has_both & ~broken_masks(annotations)) if has_both.any() else np.zeros(0, dtype=np.int64)
    if not len(rows):
        return annotations
    sizes, _ = box_values(annotations["rle_size"].take(rows))
    pixels = rle_areas(annotations["rle"].take(rows).to_pylist(), sizes.astype(np.int64))
    measured = np.zeros(annotations.num_rows, dtype=np.bool_)
    measured[rows] = pixels == np.asarray(annotations["area"].take(rows))
    rest = pc.if_else(pa.array(measured), pa.scalar(None, pa.float64()), annotations["area"])
    return annotations.set_column(annotations.column_names.index("area"), "area", rest)


def _filled_rows(column: pa.ChunkedArray) -> Ints:
    """Rows that have a value, or of booleans are true."""
    filled = pc.fill_null(column, False) if pa.types.is_boolean(column.type) else column.is_valid()
    rows: Ints = np.flatnonzero(np.asarray(filled))
    return rows


def _table(schema: pa.Schema, count: int, columns: Mapping[str, Any]) -> pa.Table:
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        if value is None or isinstance(value, str | bool | int | float):
            arrays.append(pa.repeat(pa.scalar(value, field.type), count))
        elif isinstance(value, pa.Array | pa.ChunkedArray):
            arrays.append(value if value.type == field.type else value.cast(field.type))
        else:
            arrays.append(pa.array(value, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
