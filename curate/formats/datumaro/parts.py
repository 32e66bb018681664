"""Annotations as Datumaro's files have them: one for each geometry, those of one object in a group."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from curate.formats.columns import Floats, box_values
from curate.formats.datumaro.groups import GROUP, is_one_object
from curate.formats.datumaro.items import ROTATION, box_of_cuboid, outline_of_ellipse
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape, shape_columns
from curate.formats.values import number, numbers, sequence

_SAME_PIXELS: Final = 1e-6
_IDS: Final = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class _Object:
    """One annotation of ours: its parts without what they share, the attributes and the group they share."""

    parts: list[dict[str, Any]]
    label: int | None
    attributes: dict[str, Any]
    group: int
    shared: dict[str, Any]


def boxes_around(rows: Sequence[Mapping[str, Any]]) -> Floats:
    """The boxes that n annotations have without saying so, from their other geometry; NaN where there is none."""
    if not rows:
        return np.zeros((0, 4))
    column = pa.chunked_array([shape_columns([_shape(row) for row in rows])["bbox"]])
    return box_values(column)[0]


def parts_of(
    rows: Sequence[Mapping[str, Any]], around: Floats, labels: Mapping[str, int], place: str, losses: LossReport
) -> list[dict[str, Any]]:
    """The annotations of one image, JSON-ready.

    Args:
        rows: Annotations as dictionaries.
        around: Their boxes as `boxes_around` gives them, shape (n, 4).
        labels: Label id of each class.
        place: What to call the image in the report.
        losses: Counts the annotations that are written; gets labels without a class, ids that are not whole numbers, and
            attributes that would be misread.
    """
    objects = []
    for row, box in zip(rows, around, strict=True):
        found = _object(row, box, labels, place, losses)
        if found is not None:
            objects.append(found)
    losses.carried("annotations", len(objects))
    free = max([found.group for found in objects], default=0) + 1
    apart = _groups_to_keep_apart(objects)
    members = Counter(found.group for found in objects)
    written = []
    for found in objects:
        attributes, group = found.attributes, found.group
        if group and (members[group] == 1 or group in apart):
            attributes, group = {**attributes, GROUP: group}, 0
        if not group and len(found.parts) > 1:
            group, free = free, free + 1
        for part in found.parts:
            own = {**attributes, **part.pop("attributes", {})}
            written.append({**found.shared, **part, "attributes": own, "group": group, "label_id": found.label})
    return written


def _object(
    row: Mapping[str, Any], around: Floats, labels: Mapping[str, int], place: str, losses: LossReport
) -> _Object | None:
    attributes: dict[str, Any] = json.loads(row["attributes"] or "{}")
    parts = _parts(row, around, attributes)
    label = None if row["label"] is None else labels[row["label"]]
    if parts[0]["type"] == "label" and label is None:
        losses.dropped("annotations", "a label without a class", place)
        return None
    if row["rotated_box"] is not None and row["rotated_box"][4] == 0:
        losses.converted("rotated boxes", "turned by 0 degrees; plain boxes", place)
    if number(attributes.get(ROTATION)) and any(part["type"] == "bbox" for part in parts):
        losses.dropped("attributes", "Datumaro would turn the box by 'rotation'", place)
        del attributes[ROTATION]
    shared = {key: attributes.pop(key) for key in ("z_order", "object_id") if _is_whole(attributes.get(key))}
    group = attributes.pop(GROUP) if _is_whole(attributes.get(GROUP)) and attributes[GROUP] > 0 else 0
    if row["source_id"] is not None:
        own_id = _whole(row["source_id"])
        if own_id is None:
            losses.dropped("annotation ids", "not a whole number", place)
        else:
            shared["id"] = own_id
    attributes |= {} if row["iscrowd"] is None else {"is_crowd": row["iscrowd"]}
    attributes |= {} if row["score"] is None else {"score": row["score"]}
    return _Object(parts, label, attributes, group, shared)


def _parts(row: Mapping[str, Any], around: Floats, attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """One for each geometry. An ellipse or cuboid that still is what its attribute says is taken out of the attributes."""
    parts: list[dict[str, Any]] = []
    shape = _shape(row)
    if row["bbox"] is not None and not np.allclose(row["bbox"], around, rtol=0, atol=_SAME_PIXELS):
        corners = sequence(attributes.get("cuboid_2d"))
        if row["type"] == "box" and _is_cuboid(corners) and box_of_cuboid(corners) == row["bbox"]:
            parts.append({"type": "cuboid_2d", "points": attributes.pop("cuboid_2d")})
        else:
            parts.append({"type": "bbox", "bbox": row["bbox"]})
    if shape.rotated_box is not None:
        x, y, width, height, degrees = shape.rotated_box
        box: dict[str, Any] = {"type": "bbox", "bbox": [x - width / 2, y - height / 2, width, height]}
        parts.append({**box, "attributes": {ROTATION: degrees}} if degrees else box)
    for outline in shape.polygons or ():
        ends = numbers(sequence(attributes.get("ellipse"))) or []
        if len(ends) == 4 and row["type"] == "polygon" and outline_of_ellipse(ends) == outline:
            del attributes["ellipse"]
            parts.append({"type": "ellipse", "points": ends})
        else:
            parts.append({"type": "polyline" if shape.is_open else "polygon", "points": outline})
    if shape.rle is not None:
        parts.append({"type": "mask", "rle": {"counts": shape.rle[0], "size": list(shape.rle[1])}})
    if shape.keypoints is not None:
        points = np.array(shape.keypoints, dtype=np.float64).reshape(-1, 3)
        visibility = points[:, 2].astype(int).tolist()
        parts.append({"type": "points", "points": points[:, :2].ravel().tolist(), "visibility": visibility})
    return parts or [{"type": "label"}]


def _shape(row: Mapping[str, Any]) -> Shape:
    """An annotation's geometry without its box."""
    return Shape(
        rotated_box=row["rotated_box"],
        polygons=row["polygons"] or None,
        is_open=row["type"] == "polyline",
        rle=None if row["rle"] is None else (row["rle"], row["rle_size"]),
        keypoints=row["keypoints"] or None,
    )


def _groups_to_keep_apart(objects: Sequence[_Object]) -> set[int]:
    """Groups that Datumaro must not see, since the parts of several objects of one label would be mixed."""
    together: dict[tuple[int, int | None], list[_Object]] = defaultdict(list)
    for found in objects:
        if found.group:
            together[found.group, found.label].append(found)
    return {
        group
        for (group, _), members in together.items()
        if len(members) > 1
        and (
            any(len(found.parts) > 1 for found in members)
            or is_one_object((_kind(found.parts[0]), found.attributes) for found in members)
        )
    }


def _kind(part: Mapping[str, Any]) -> str:
    """As `curate.formats.datumaro.groups.kind_of` calls the shape that a part is read as."""
    if part["type"] == "bbox":
        return "rotated_box" if "attributes" in part else "bbox"
    kind = str(part["type"])
    return {"ellipse": "polygon", "cuboid_2d": "bbox"}.get(kind, kind)


def _is_cuboid(corners: Sequence[Any]) -> bool:
    return len(corners) == 8 and all(len(numbers(sequence(pair)) or []) == 2 for pair in corners)


def _is_whole(value: Any) -> bool:
    return type(value) is int and value in _IDS and value != 0


def _whole(text: str) -> int | None:
    """An id as a number, where the number is written as this text."""
    if not text.removeprefix("-").isdecimal() or len(text) > 20:
        return None
    value = int(text)
    return value if str(value) == text and value in _IDS else None
