"""Annotations as FiftyOne's labels, and back.

FiftyOne has one kind of label for each kind of shape, in coordinates relative to the image, and a field holds one kind only.
Labels are made as documents of the database, without FiftyOne's own objects: building those takes ten times as long.
An annotation's id gives its label's, so that the two find each other however the App moves them about.
"""

from __future__ import annotations

import io
import json
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from curate.connectors.base import Row
from curate.formats.shapes import corners_to_rotated_boxes
from curate.geometry import (
    boxes_around,
    decode_rle,
    encode_rle,
    polygon_area,
    rle_boxes,
    rotated_box_corners,
)

Document: TypeAlias = dict[str, Any]
Size: TypeAlias = tuple[int, int]

Family = Literal["detections", "polylines", "keypoints", "classifications"]
"""The kind of a label field, named as the list that FiftyOne keeps in it."""

FAMILIES: Final[Mapping[str, Family]] = {
    "box": "detections",
    "mask": "detections",
    "polygon": "polylines",
    "rotated_box": "polylines",
    "polyline": "polylines",
    "keypoints": "keypoints",
    "label": "classifications",
}
"""By the type of an annotation."""

CONTAINERS: Final[Mapping[Family, tuple[str, str]]] = {
    "detections": ("Detections", "Detection"),
    "polylines": ("Polylines", "Polyline"),
    "keypoints": ("Keypoints", "Keypoint"),
    "classifications": ("Classifications", "Classification"),
}
"""FiftyOne's classes: of the field, and of what is in its list."""

MARK: Final = "63757261"
"""First half of the ids that curate gives to samples and labels; the rest is curate's own id."""

SOURCE: Final = "fiftyone"
"""Where an annotation drawn in the App says that it is from."""

OWN_KEYS: Final = frozenset(
    {"_id", "_cls", "tags", "attributes", "label", "bounding_box", "mask", "mask_path", "confidence", "index", "points"}
    | {"closed", "filled", "logits", "instance", "id", "visibility", "source_id", "num_keypoints", "iscrowd", "area"}
    | {"rotation", "dynamic_attributes", "box"}
)
"""Members of a label that are no attributes of the annotation."""

_NEAR: Final = 0.02
"""Pixels by which a shape may differ and be the same: what is left of it after it was made relative and back."""

_CLOSE: Final = 1e-6
"""By how much two numbers may differ and be the same."""

_BOX: Final = "box"
"""Where the box around keypoints is kept, of which FiftyOne's labels know none."""

_PLACES: Final = 4
_HIDDEN: Final = [math.nan, math.nan]


def mark(curate_id: str) -> str:
    """The id that FiftyOne knows an image, annotation or finding by: 24 hexadecimal digits."""
    return MARK + curate_id


def unmark(fiftyone_id: object) -> str | None:
    """curate's id in one of FiftyOne's; None where curate did not give it."""
    text = str(fiftyone_id)
    return text[len(MARK) :] if text.startswith(MARK) else None


def label_id(row: Mapping[str, Any]) -> str:
    """The id that FiftyOne knows an annotation's label by. One drawn in the App keeps its own: its editor goes on with it."""
    drawn = row["source"] == SOURCE and re.fullmatch("[0-9a-f]{24}", row["source_id"] or "")
    return str(row["source_id"]) if drawn else MARK + row["annotation_id"]


def to_label(row: Row, size: Size, make_id: Callable[[str], Any]) -> Document:
    """An annotation as a label of `FAMILIES[row["type"]]`.

    Args:
        row: The annotation, its attributes a dictionary.
        size: Width and height of its image, pixels.
        make_id: Makes the database's id from 24 hexadecimal digits.
    """
    family = FAMILIES[row["type"]]
    label: Document = {
        "_id": make_id(label_id(row)),
        "_cls": CONTAINERS[family][1],
        "tags": [],
        "attributes": {},
    }
    # Members without a value are left out, as FiftyOne does: its editor would go on putting them right.
    label |= {
        name: value for name, value in (("label", row["label"]), ("confidence", row["score"])) if value is not None
    }
    _SHAPES[family](row, size, label)
    if row["iscrowd"]:
        label["iscrowd"] = True
    if row["attributes"]:
        label |= {attribute_name(name): _plain(value) for name, value in row["attributes"].items()}
    return label


def is_changed(before: Document, now: Document, size: Size) -> bool:
    """Whether a label says something else than before: another class, shape or attribute."""
    return (
        before.get("label") != now.get("label")
        or attributes_of(before) != attributes_of(now)
        or not same_shape(before, now, size)
    )


def same_shape(before: Document, now: Document, size: Size) -> bool:
    """Whether two labels of one family have the same shape, to a fiftieth of a pixel."""
    if _points(before).shape != _points(now).shape or bool(before.get("closed")) != bool(now.get("closed")):
        return False
    apart = np.abs(_points(before) - _points(now)) * np.resize(size, 2)
    hidden = np.isnan(_points(before)) & np.isnan(_points(now))
    return bool((hidden | (apart <= _NEAR)).all()) and same_content(before.get("mask"), now.get("mask"))


def same_content(one: Any, other: Any) -> bool:
    """Whether two values of the database say the same.

    Arrays however they were packed, numbers to a millionth, and labels in any order: they are told apart by their ids.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        names = [key for key in one.keys() | other.keys() if one.get(key) is not None or other.get(key) is not None]
        return all(same_content(one.get(name), other.get(name)) for name in names)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_content, sorted(one, key=_id), sorted(other, key=_id)))
    if isinstance(one, bytes) and isinstance(other, bytes) and one != other:
        try:
            return np.array_equal(unpack_array(one), unpack_array(other))
        except ValueError:
            return False
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= _CLOSE or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def _id(value: Any) -> str:
    """What members of a list are put in order by: labels by their ids, others not at all."""
    return str(value.get("_id", "")) if isinstance(value, dict) else ""


def attributes_of(label: Document) -> dict[str, Any]:
    """What is said of a label beside its class, shape and tags."""
    return {name: value for name, value in label.items() if name not in OWN_KEYS and value is not None}


def to_shape(label: Document, family: Family, size: Size, before: Row | None) -> dict[str, Any]:
    """The columns of an annotation that say where a label is.

    Args:
        label: As it is in the App.
        family: Of its field.
        size: Width and height of the image, pixels.
        before: The annotation that it was, whose type is kept where the shape allows.

    Raises:
        ValueError: It has no shape.
    """
    columns: dict[str, Any] = dict.fromkeys(("bbox", "rotated_box", "polygons", "rle", "rle_size", "keypoints", "area"))
    columns |= _READERS[family](label, size, before)
    if before is not None and before["area"] is not None and columns["area"] is None:
        columns["area"] = _area(columns)
    return columns


def attribute_name(name: str) -> str:
    """A name that a label can have an attribute by: FiftyOne's own, and what its database refuses, get another."""
    text = name.replace(".", "_").replace("\0", "_").lstrip("$_") or "attribute"
    return f"{text}_" if text in OWN_KEYS else text


def pack_array(array: npt.NDArray[Any]) -> bytes:
    """An array as FiftyOne keeps it: NumPy's file format, deflated. Row by row, for its editor reads no other order."""
    with io.BytesIO() as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        return zlib.compress(file.getvalue(), 1)


def unpack_array(content: bytes) -> npt.NDArray[Any]:
    """The inverse of `pack_array`.

    Raises:
        ValueError: It is none.
    """
    try:
        array: npt.NDArray[Any] = np.load(io.BytesIO(zlib.decompress(content)), allow_pickle=False)
    except (zlib.error, OSError, EOFError) as error:
        raise ValueError(str(error)) from error
    return array


def _detection(row: Row, size: Size, label: Document) -> None:
    box = row["bbox"]
    if row["type"] == "mask":
        height, width = row["rle_size"]
        left, top, wide, high = rle_boxes([row["rle"]], [row["rle_size"]])[0].astype(int).tolist()
        mask = decode_rle(row["rle"], row["rle_size"])[top : top + high, left : left + wide]
        label["mask"] = pack_array(mask.astype(bool))
        label["bounding_box"] = [left / width, top / height, wide / width, high / height]
        return
    width, height = size
    label["bounding_box"] = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]


def _polyline(row: Row, size: Size, label: Document) -> None:
    parts = row["polygons"] or []
    if row["type"] == "rotated_box":
        parts = [rotated_box_corners([row["rotated_box"]])[0].ravel().tolist()]
        label["rotation"] = row["rotated_box"][4]
    width, height = size
    label["points"] = [[[x / width, y / height] for x, y in zip(part[::2], part[1::2], strict=False)] for part in parts]
    label["closed"] = row["type"] != "polyline"
    label["filled"] = row["type"] == "polygon"


def _keypoint(row: Row, size: Size, label: Document) -> None:
    width, height = size
    x, y, seen = row["keypoints"][::3], row["keypoints"][1::3], row["keypoints"][2::3]
    label["points"] = [[a / width, b / height] if v > 0 else list(_HIDDEN) for a, b, v in zip(x, y, seen, strict=True)]
    label["visibility"] = [int(v) for v in seen]
    label["confidence"] = None  # FiftyOne wants one for each point
    if row["bbox"] is not None:
        left, top, wide, high = row["bbox"]
        label[_BOX] = [left / width, top / height, wide / width, high / height]


def _classification(row: Row, size: Size, label: Document) -> None:
    label.pop("attributes")


_SHAPES: Final[Mapping[Family, Callable[[Row, Size, Document], None]]] = {
    "detections": _detection,
    "polylines": _polyline,
    "keypoints": _keypoint,
    "classifications": _classification,
}


def _from_detection(label: Document, size: Size, before: Row | None) -> dict[str, Any]:
    x, y, w, h = _numbers(label.get("bounding_box"), 4)
    box = [x * size[0], y * size[1], w * size[0], h * size[1]]
    if not label.get("mask"):
        return {"type": "box", "bbox": _rounded(box)}
    mask = _placed(unpack_array(label["mask"]), box, size)
    rle = encode_rle(mask)
    return {
        "type": "mask",
        "rle": rle,
        "rle_size": [size[1], size[0]],
        "bbox": rle_boxes([rle], [(size[1], size[0])])[0].tolist(),
        "area": float(mask.sum()) if before is not None and before["area"] is not None else None,
    }


def _from_polyline(label: Document, size: Size, before: Row | None) -> dict[str, Any]:
    parts = [np.asarray(part, dtype=np.float64).reshape(-1, 2) * size for part in label.get("points") or () if part]
    if not parts:
        raise ValueError("it has no points")
    points = np.concatenate(parts)
    columns: dict[str, Any] = {"bbox": _rounded(boxes_around(points, [0])[0].tolist())}
    if before is not None and before["type"] == "rotated_box" and [len(part) for part in parts] == [4]:
        rotated, rectangle = corners_to_rotated_boxes(parts[0].reshape(1, 8))
        if rectangle[0]:
            return columns | {"type": "rotated_box", "rotated_box": _rounded(rotated[0].tolist())}
    closed = bool(label.get("closed"))
    outlines = [_rounded(part.ravel().tolist()) for part in parts]
    return columns | {"type": "polygon" if closed else "polyline", "polygons": outlines}


def _from_keypoint(label: Document, size: Size, before: Row | None) -> dict[str, Any]:
    points = np.asarray(label.get("points") or (), dtype=np.float64).reshape(-1, 2) * size
    if not len(points):
        raise ValueError("it has no points")
    there = np.asarray(np.isfinite(points).all(axis=1))
    said = label.get("visibility") or ()
    seen = [
        int(v) if len(said) == len(points) and v else 2 for v in (said if len(said) == len(points) else points[:, 0])
    ]
    flat = [
        value
        for (x, y), v, is_there in zip(points.tolist(), seen, there.tolist(), strict=True)
        for value in ((round(x, _PLACES), round(y, _PLACES), float(v)) if is_there else (0.0, 0.0, 0.0))
    ]
    said_box = _rounded(_numbers(label[_BOX], 4) * np.tile(size, 2)) if label.get(_BOX) else None
    kept = before["bbox"] if before is not None else said_box
    box = kept or (_rounded(boxes_around(points[there], [0])[0].tolist()) if there.any() else None)
    polygons = before["polygons"] if before is not None else None
    return {"type": "keypoints", "keypoints": flat, "bbox": box, "polygons": polygons}


def _from_classification(label: Document, size: Size, before: Row | None) -> dict[str, Any]:
    return {"type": "label"}


_READERS: Final[Mapping[Family, Callable[[Document, Size, Row | None], dict[str, Any]]]] = {
    "detections": _from_detection,
    "polylines": _from_polyline,
    "keypoints": _from_keypoint,
    "classifications": _from_classification,
}


def _points(label: Document) -> npt.NDArray[np.float64]:
    """Every coordinate of a label, relative to the image; float64 array of shape (n, 2)."""
    if "bounding_box" in label:
        return np.asarray(label["bounding_box"] or (), dtype=np.float64).reshape(-1, 2)
    parts = label.get("points") or ()
    if label["_cls"] == "Keypoint":
        return np.array([[_number(v) for v in point] for point in parts], dtype=np.float64).reshape(-1, 2)
    # The number of each part stands before its points, so that parts are never taken for one another.
    rows = [pair for part in parts for pair in ([len(part), len(part)], *part)]
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _number(value: Any) -> float:
    return math.nan if value is None or isinstance(value, str) else float(value)


def _placed(mask: npt.NDArray[Any], box: Sequence[float], size: Size) -> npt.NDArray[np.bool_]:
    """A mask that fills a box, drawn on the whole image; bool array of shape (height, width)."""
    left, top = round(box[0]), round(box[1])
    wide, high = max(round(box[2]), 1), max(round(box[3]), 1)
    rows = (np.arange(high) * mask.shape[0] // high).astype(int)
    columns = (np.arange(wide) * mask.shape[1] // wide).astype(int)
    drawn = (mask if mask.ndim == 2 else mask[..., 0])[rows][:, columns] > 0
    whole = np.zeros((size[1], size[0]), dtype=bool)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + high, size[1]), min(left + wide, size[0])
    if y1 > y0 and x1 > x0:
        whole[y0:y1, x0:x1] = drawn[y0 - top : y1 - top, x0 - left : x1 - left]
    return whole


def _area(columns: Mapping[str, Any]) -> float | None:
    if columns["polygons"]:
        return sum(polygon_area(np.reshape(part, (-1, 2))) for part in columns["polygons"])
    if columns["rotated_box"]:
        return float(columns["rotated_box"][2] * columns["rotated_box"][3])
    return float(columns["bbox"][2] * columns["bbox"][3]) if columns["bbox"] else None


def _numbers(values: Any, count: int) -> list[float]:
    numbers = [float(value) for value in values or ()]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError("it has no box")
    return numbers


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, _PLACES) for value in values]


def _plain(value: Any) -> Any:
    """An attribute's value as the App can show it: what is nested becomes its JSON."""
    return (
        value if isinstance(value, str | int | float | bool) or value is None else json.dumps(value, ensure_ascii=False)
    )
