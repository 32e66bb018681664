"""The labels of the images that new ones are made from, as pipelines move them, and as rows again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from curate.dataset import Dataset
from curate.dataset.query import in_layer
from curate.dataset.schema import GROUND_TRUTH
from curate.geometry import decode_rle, encode_rle, polygon_area, polygons_to_rle, rle_areas, valid_rles
from curate.recipes.shapes import Shape

Mask = npt.NDArray[np.bool_]

_COLUMNS: Final = (
    "annotation_id", "image_id", "type", "label", "bbox", "rotated_box", "polygons", "rle", "rle_size", "keypoints",
    "area", "iscrowd", "attributes",
)  # fmt: skip
PUT: Final = "pasted_from"
"""Key in the attributes of what was put on an image: the annotation that it is a copy of."""

_SIDES: Final = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))


@dataclass(frozen=True)
class Label:
    """One annotation of the ground truth.

    Attributes:
        annotation_id: Its id.
        label: Its class; None where it has none.
        shape: What is drawn of it.
        area: As its source gave it, pixels.
        iscrowd: Whether it stands for many objects.
        attributes: JSON object, or None.
        rle_size: [height, width] of its mask.
    """

    annotation_id: str
    label: str | None
    shape: Shape
    area: float | None = None
    iscrowd: bool | None = None
    attributes: str | None = None
    rle_size: tuple[int, int] | None = None


def read_labels(dataset: Dataset, image_ids: Iterable[str]) -> dict[str, tuple[Label, ...]]:
    """The ground truth of some images, in the order of the annotations' ids; nothing for an image without any."""
    wanted = set(image_ids)
    mirrors = {each["name"]: mirrored(each.get("keypoints") or ()) for each in dataset.commit.classes}
    found: dict[str, list[Label]] = {}
    for batch in dataset.scan("annotations", columns=_COLUMNS, where=in_layer(GROUND_TRUTH)):
        kept = batch.filter(pc.is_in(batch["image_id"], value_set=_texts(wanted)))
        for row in kept.to_pylist():
            found.setdefault(row["image_id"], []).append(_label(row, mirrors))
    return {key: tuple(sorted(labels, key=lambda each: each.annotation_id)) for key, labels in found.items()}


def fault_of(label: Label, height: int, width: int) -> str | None:
    """Why a label cannot be carried along: it is wholly off its image, has no area, or is broken; None if it can."""
    shape = label.shape
    if shape.rle is not None:
        if label.rle_size != (height, width):
            return "has a mask of another size than its image"
        if not valid_rles([shape.rle], [(height, width)])[0]:
            return "has a broken mask"
    numbers = [
        *(shape.bbox or ()), *(shape.rotated_box or ()), *(shape.keypoints or ()),
        *(number for part in shape.polygons or () for number in part),
    ]  # fmt: skip
    if not np.isfinite(numbers).all():
        return "has a coordinate that is not a number"
    if shape.bbox is None:
        return None
    x, y, w, h = shape.bbox
    if shape.type != "keypoints" and (w <= 0 or h <= 0):
        return "has no area"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return "lies outside of its image"
    return None


def mask_of(shape: Shape, height: int, width: int) -> Mask | None:
    """The pixels of an object, bool of shape (height, width); None where it has neither a mask nor an outline."""
    if shape.rle is not None:
        return decode_rle(shape.rle, (height, width)).astype(bool)
    if shape.polygons and shape.type != "polyline":
        return decode_rle(polygons_to_rle(shape.polygons, height, width), (height, width)).astype(bool)
    return None


def area_of(shape: Shape, height: int, width: int) -> float | None:
    """Pixels of the mask, else of the outline, else of the box; None where there is nothing that has an area."""
    if shape.rle is not None:
        return float(rle_areas([shape.rle], [(height, width)])[0])
    if shape.polygons and shape.type != "polyline":
        return float(sum(polygon_area(np.reshape(part, (-1, 2))) for part in shape.polygons))
    return float(shape.bbox[2] * shape.bbox[3]) if shape.bbox is not None else None


def to_row(label: Label, shape: Shape, height: int, width: int) -> dict[str, Any]:
    """The columns of an annotation that carries a label on; without its ids and layer.

    Args:
        label: What it was.
        shape: What is drawn of it now.
        height: Of the image that it is on now.
        width: Of the image that it is on now.
    """
    area = label.area
    if shape is not label.shape and area is not None:
        area = area_of(shape, height, width)
    return {
        "type": shape.type,
        "label": label.label,
        "bbox": _floats(shape.bbox),
        "rotated_box": _floats(shape.rotated_box),
        "polygons": None if shape.polygons is None else [_floats(part) for part in shape.polygons],
        "rle": shape.rle,
        "rle_size": None if shape.rle is None else [height, width],
        "keypoints": _floats(shape.keypoints),
        "area": area,
        "iscrowd": label.iscrowd,
        "attributes": label.attributes,
    }


def put_label(label: Label, region: Mask, bbox: Sequence[float]) -> Label:
    """A label of something that was put on an image, at its new place: a mask, and the box around it.

    Args:
        label: As it was on its own image.
        region: Its pixels on the new one, bool of shape (height, width).
        bbox: The box around those.
    """
    shape = Shape("mask", bbox=tuple(bbox), rle=encode_rle(region))
    told = json.dumps({PUT: label.annotation_id})
    size = region.shape[0], region.shape[1]
    return Label(label.annotation_id, label.label, shape, float(region.sum()), label.iscrowd, told, size)


def is_put(attributes: str | None) -> bool:
    """Whether an annotation's attributes say that it was put on its image."""
    return attributes is not None and PUT in json.loads(attributes)


def mirrored(names: Sequence[str]) -> tuple[int, ...] | None:
    """For each keypoint, the number of the one on the other side by its name ('left_eye', 'right_eye'); None if none has any."""
    places = {name: place for place, name in enumerate(names)}
    other = tuple(places.get(_other_side(name), place) for place, name in enumerate(names))
    return other if other != tuple(range(len(names))) else None


def _other_side(name: str) -> str:
    for pair in _SIDES:
        for this, that in (pair, pair[::-1]):
            if this in name:
                return name.replace(this, that)
    return name


def _label(row: Mapping[str, Any], mirrors: Mapping[str, tuple[int, ...] | None]) -> Label:
    shape = Shape(
        row["type"], row["bbox"], row["rotated_box"], row["polygons"], row["rle"], row["keypoints"],
        mirrors.get(row["label"]) if row["keypoints"] else None,
    )  # fmt: skip
    size = row["rle_size"]
    return Label(
        row["annotation_id"], row["label"], shape, row["area"], row["iscrowd"], row["attributes"],
        None if size is None else (size[0], size[1]),
    )  # fmt: skip


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def _texts(values: Iterable[str]) -> Any:
    import pyarrow as pa

    return pa.array(sorted(values), pa.string())
