"""Columns, features and notes of the Parquet files that curate writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curate.formats.base import ClassInfo, Export
from curate.formats.batches import all_classes
from curate.formats.huggingface.features import CURATE, HUGGINGFACE
from curate.formats.values import mapping, sequence

OBJECT_COLUMNS: Final = {
    "source_id": "id",
    "type": "type",
    "bbox": "bbox",
    "label": "category",
    "area": "area",
    "iscrowd": "iscrowd",
    "polygons": "segmentation",
    "rle": "rle",
    "rle_size": "rle_size",
    "keypoints": "keypoints",
    "rotated_box": "rotated_box",
    "score": "score",
    "attributes": "attributes",
}
"""What a column of annotations is called among a row's objects."""

IMAGE_COLUMNS: Final = {"source_id": "image_id", "tags": "tags", "group": "group", "frame": "frame"} | {
    name: name for name in ("timestamp", "metadata")
}
"""What a column of images is called, where any image has it."""

_ALWAYS: Final = ("bbox", "label")
_CLASS: Final = "class"
_TYPES: Final[Mapping[str, Any]] = {
    "source_id": "string", "type": "string", "bbox": ["float64"], "label": _CLASS, "area": "float64", "iscrowd": "bool",
    "polygons": [["float64"]], "rle": "string", "rle_size": ["int32"], "keypoints": ["float64"],
    "rotated_box": ["float64"], "score": "float64", "attributes": "string", "tags": ["string"], "group": "string",
    "frame": "int64", "timestamp": "float64", "metadata": "string",
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Which columns an export has.

    Attributes:
        schema: Arrow's, with the features and notes in its metadata.
        image_columns: Columns of the images table to write.
        object_columns: Columns of the annotations table to write as objects; empty if there are none.
        label_column: 'label', or 'labels' if an image has several; None if none has one.
        label_ids: Number of each class.
        whole_ids: Which ids of images and objects are whole numbers, and written so.
    """

    schema: pa.Schema
    image_columns: tuple[str, ...]
    object_columns: tuple[str, ...]
    label_column: str | None
    label_ids: Mapping[str, int]
    whole_ids: Mapping[str, bool]


def layout_of(export: Export, labels: pa.Table, objects: pa.Table) -> Layout:
    """The columns that hold everything an export has.

    Args:
        export: What to write.
        labels: Its annotations of whole images.
        objects: The others.
    """
    classes = all_classes(export)
    names = [info.name for info in classes]
    whole = {"images": _are_whole(export.images["source_id"]), "objects": _are_whole(objects["source_id"])}
    image_columns = tuple(name for name in IMAGE_COLUMNS if export.images[name].null_count < export.images.num_rows)
    object_columns = tuple(name for name in OBJECT_COLUMNS if _is_needed(name, objects)) if objects.num_rows else ()
    label_column = _label_column(labels)
    types: dict[str, Any] = {"width": "int32", "height": "int32"}
    types |= {IMAGE_COLUMNS[name]: _TYPES[name] for name in image_columns}
    if label_column is not None:
        types[label_column] = _CLASS if label_column == "label" else [_CLASS]
    if "image_id" in types and whole["images"]:
        types["image_id"] = "int64"
    if object_columns:
        fields = {OBJECT_COLUMNS[name]: [_TYPES[name]] for name in object_columns}
        fields |= {"id": ["int64"]} if "id" in fields and whole["objects"] else {}
        types["objects"] = fields
    image = pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]))
    features = {"image": {"_type": "Image"}, **{name: _feature(kind, names) for name, kind in types.items()}}
    notes = {"classes": [asdict(info) for info in classes], "info": export.info}
    metadata = {
        HUGGINGFACE: json.dumps({"info": {"features": features}}),
        CURATE: json.dumps(notes),
    }
    schema = pa.schema([image, *(pa.field(name, _arrow(kind)) for name, kind in types.items())], metadata)
    return Layout(
        schema, image_columns, object_columns, label_column, {name: at for at, name in enumerate(names)}, whole
    )


def classes_from_notes(notes: Mapping[str, Any]) -> list[ClassInfo]:
    """The classes that curate noted in a file; empty where it did not, or somebody changed them."""
    classes = []
    for each in map(mapping, sequence(notes.get("classes"))):
        name, number, parent, color = (each.get(key) for key in ("name", "source_id", "supercategory", "color"))
        keypoints = [point for point in sequence(each.get("keypoints")) if isinstance(point, str)]
        skeleton = [pair for pair in map(sequence, sequence(each.get("skeleton"))) if _is_pair(pair)]
        if not isinstance(name, str) or not name:
            return []
        classes.append(
            ClassInfo(
                name,
                number if type(number) is int and abs(number) < 2**63 else None,
                parent if isinstance(parent, str) else None,
                tuple(keypoints),
                tuple((first, second) for first, second in skeleton),
                color if isinstance(color, str) else None,
            )
        )
    return classes if len({info.name for info in classes}) == len(classes) else []


def _is_needed(name: str, objects: pa.Table) -> bool:
    if name == "type":  # everything but a line tells by its columns what it is
        return bool(pc.any(pc.equal(objects["type"], "polyline")).as_py())
    return name in _ALWAYS or objects[name].null_count < objects.num_rows


def _label_column(labels: pa.Table) -> str | None:
    if labels.num_rows == 0:
        return None
    return "label" if pc.count_distinct(labels["image_id"]).as_py() == labels.num_rows else "labels"


def _are_whole(ids: pa.ChunkedArray) -> bool:
    """Whether every id is a whole number, written as numbers are, that 64 bits hold."""
    matches = pc.match_substring_regex(ids, r"^(0|-?[1-9]\d{0,17})$")
    return bool(pc.all(matches).as_py())


def _arrow(kind: Any) -> pa.DataType:
    if isinstance(kind, dict):
        return pa.struct([pa.field(name, _arrow(each)) for name, each in kind.items()])
    if isinstance(kind, list):
        return pa.list_(_arrow(kind[0]))
    return {"bool": pa.bool_(), _CLASS: pa.int64()}.get(kind) or pa.type_for_alias(kind)


def _feature(kind: Any, names: Sequence[str]) -> dict[str, Any]:
    """As `datasets.Features` writes it. Lists are called 'Sequence', which versions before and after 4.0 know."""
    if isinstance(kind, dict):
        return {name: _feature(each, names) for name, each in kind.items()}
    if isinstance(kind, list):
        return {"feature": _feature(kind[0], names), "_type": "Sequence"}
    return {"names": list(names), "_type": "ClassLabel"} if kind == _CLASS else {"dtype": kind, "_type": "Value"}


def _is_pair(pair: Sequence[Any]) -> bool:
    return len(pair) == 2 and all(type(end) is int and abs(end) < 2**31 for end in pair)
