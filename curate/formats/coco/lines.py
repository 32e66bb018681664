"""Images and annotations as COCO writes them: the JSON text of each, from columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.coco.objects import both_names
from curate.formats.coco.texts import join, members, number_lists, numbers, objects, quoted, scatter, text_lists
from curate.formats.columns import Flags, Floats, Ints, box_values, offsets
from curate.formats.losses import PLACES_KEPT, LossReport
from curate.geometry import polygon_areas, rle_areas

OWN_KEYS: Final = frozenset(
    {
        "id",
        "image_id",
        "category_id",
        "bbox",
        "segmentation",
        "keypoints",
        "num_keypoints",
        "area",
        "iscrowd",
        "score",
        "attributes",
    }
)
"""The keys of annotations that COCO defines, or that we write for all."""

_OWN_IMAGE_KEYS: Final = ("id", "file_name", "width", "height", "tags", "group", "frame", "timestamp")


def image_lines(images: pa.Table, ids: Ints, losses: LossReport) -> pa.Array:
    """n images as JSON objects, each after a comma and a new line.

    Args:
        images: With the columns of `curate.dataset.schema.IMAGES`.
        ids: Shape (n,).
        losses: Gets the metadata that would stand where COCO has something else.
    """
    columns = {name: images[name].combine_chunks() for name in images.column_names}
    return objects(
        [
            ("id", pa.array(ids).cast(pa.string())),
            ("file_name", quoted(columns["location"])),
            ("width", columns["width"].cast(pa.string())),
            ("height", columns["height"].cast(pa.string())),
            ("tags", _tags(columns["tags"])),
            ("group", quoted(columns["group"])),
            ("frame", columns["frame"].cast(pa.string())),
            ("timestamp", _numbers(columns["timestamp"], shorten=False)),
            ("", _metadata_members(columns["metadata"], columns["location"], losses)),
        ]
    )


def annotation_fields(annotations: pa.Table, images: Ints, categories: Mapping[str, int]) -> dict[str, pa.Array]:
    """The JSON texts of what COCO says of n annotations, but for id and attributes, by key and in order; null: not there.

    Args:
        annotations: With the columns of `curate.dataset.schema.ANNOTATIONS`.
        images: Ids of their images, shape (n,).
        categories: Category id of each class.
    """
    columns = {name: annotations[name].combine_chunks() for name in annotations.column_names}
    boxed = columns["bbox"].is_valid()
    numbered = pa.array([str(number) for number in categories.values()], pa.string())
    classes = pc.index_in(columns["label"], pa.array(list(categories), pa.string()))
    crowd = pc.if_else(pc.fill_null(columns["iscrowd"], False), "1", "0")
    return {
        "image_id": pa.array(images).cast(pa.string()),
        "category_id": numbered.take(classes).fill_null("null"),
        "bbox": _number_lists(columns["bbox"]),
        "segmentation": pc.coalesce(_masks(columns["rle"], columns["rle_size"]), _polygons(columns["polygons"])),
        "keypoints": _number_lists(columns["keypoints"]),
        "num_keypoints": _seen_keypoints(columns["keypoints"]),
        "area": _areas(columns),
        "iscrowd": pc.if_else(boxed, crowd, pa.scalar(None, pa.string())),
        "score": _numbers(columns["score"], shorten=False),
    }


def attribute_members(attributes: pa.Array, beside: Collection[str]) -> pa.Array:
    """The members of n annotations that say their attributes, for `objects`; null where an annotation has none.

    Args:
        attributes: JSON objects, or null.
        beside: Keys that stand in the annotation itself, not in its `attributes`.
    """

    def moved(_: int, nested: dict[str, Any]) -> dict[str, Any]:
        top = {}
        for key in beside:
            source = both_names(key) if both_names(key) in nested else key
            if source in nested:
                top[key] = nested.pop(source)
        return top | ({"attributes": nested} if nested else {})

    names = [name for key in beside for name in (key, both_names(key))]
    coded = attributes.dictionary_encode()
    return members(coded.dictionary, names, "attributes", moved).take(coded.indices)


def _metadata_members(metadata: pa.Array, locations: pa.Array, losses: LossReport) -> pa.Array:
    coded = metadata.dictionary_encode()
    dropped: list[tuple[int, str]] = []

    def kept(place: int, content: dict[str, Any]) -> dict[str, Any]:
        dropped.extend((place, key) for key in content if key in _OWN_IMAGE_KEYS)
        return {key: value for key, value in content.items() if key not in _OWN_IMAGE_KEYS}

    texts = members(coded.dictionary, _OWN_IMAGE_KEYS, "", kept)
    if dropped:
        codes = np.asarray(coded.indices.fill_null(-1), dtype=np.int64)
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes[order], np.arange(len(texts) + 1))
        for place, key in dropped:
            rows = order[ends[place] : ends[place + 1]]
            first = locations.take(pa.array(rows[:PLACES_KEPT])).to_pylist()
            losses.dropped("metadata", f"'{key}' means something else in COCO", first, len(rows))
    return texts.take(coded.indices)


def _polygons(column: pa.Array) -> pa.Array:
    """Polygons as arrays of arrays; null stays null."""
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    parts = column.flatten()
    texts = number_lists(_values(parts), _lengths(parts))
    return text_lists(pa.ListArray.from_arrays(_offsets(column), texts, mask=column.is_null()))


def _masks(counts: pa.Array, sizes: pa.Array) -> pa.Array:
    """Masks as objects with size and counts; null stays null."""
    rows = _flags(counts.is_valid())
    if not rows.any():
        return pa.nulls(len(counts), pa.string())
    chosen = pa.array(rows)
    size = _number_lists(sizes.filter(chosen)).fill_null("null")
    return scatter(join('{"size":', size, ',"counts":', quoted(counts.filter(chosen)), "}"), rows)


def _number_lists(column: pa.Array) -> pa.Array:
    """Lists of numbers as arrays; null stays null."""
    rows = _flags(column.is_valid())
    given = column if rows.all() else column.drop_null()
    return scatter(number_lists(_values(given), _lengths(given)), rows)


def _seen_keypoints(column: pa.Array) -> pa.Array:
    """How many keypoints of each row have a visibility above 0, as texts; null where there are no keypoints."""
    rows = np.repeat(np.arange(len(column)), lengths := _lengths(column))
    within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    seen = (within % 3 == 2) & (_values(column) > 0)
    counts = np.bincount(rows[seen], minlength=len(column))
    return pa.array(counts, mask=~_flags(column.is_valid())).cast(pa.string())


def _tags(column: pa.Array) -> pa.Array:
    """Lists of texts as arrays; null stays null."""
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.string())
    return text_lists(pa.ListArray.from_arrays(_offsets(column), quoted(column.flatten()), mask=column.is_null()))


def _numbers(column: pa.Array, *, shorten: bool) -> pa.Array:
    """Numbers as texts; null stays null."""
    rows = _flags(column.is_valid())
    return scatter(numbers(np.asarray(column.drop_null(), dtype=np.float64), shorten=shorten), rows)


def _areas(columns: Mapping[str, pa.Array]) -> pa.Array:
    """Area of each annotation: as given, else of the mask, else of the polygons, else of the box; null if not finite."""
    rest = ~_flags(columns["area"].is_valid())
    measured = _numbers(columns["area"], shorten=True)
    if not rest.any():
        return measured
    chosen = pa.array(rest)
    boxes, _ = box_values(columns["bbox"].filter(chosen))
    polygons, rles = columns["polygons"].filter(chosen), columns["rle"].filter(chosen)
    with np.errstate(over="ignore", invalid="ignore"):
        area = boxes[:, 2] * boxes[:, 3]  # NaN where there is no box
        if polygons.null_count < len(polygons):
            parts = polygons.flatten()
            each = polygon_areas(_values(parts), _lengths(parts))
            number = _lengths(polygons)
            total = np.bincount(np.repeat(np.arange(len(area)), number), weights=each, minlength=len(area))
            area = np.where(number > 0, total, area)
    masked = _flags(rles.is_valid())
    if masked.any():
        sizes, _ = box_values(columns["rle_size"].filter(chosen).filter(pa.array(masked)))
        area[masked] = rle_areas(rles.drop_null().to_pylist(), sizes.astype(np.int64))
    texts = scatter(numbers(area), rest)
    finite = np.ones(len(rest), dtype=np.bool_)
    finite[rest] = np.isfinite(area)
    return pc.coalesce(measured, pc.if_else(pa.array(finite), texts, pa.scalar(None, pa.string())))


def _values(column: pa.Array) -> Floats:
    """All numbers of lists, one after another; NaN for null."""
    return np.asarray(column.flatten().cast(pa.float64()), dtype=np.float64)


def _lengths(column: pa.Array) -> Ints:
    """How many values each list has; 0 for null."""
    return np.asarray(pc.list_value_length(column).fill_null(0), dtype=np.int64)


def _offsets(column: pa.Array) -> pa.Array:
    return offsets(_lengths(column))


def _flags(column: pa.Array) -> Flags:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)
