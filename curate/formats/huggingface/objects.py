"""The objects on an image, as tables of Hugging Face datasets have them: under any of the names that are in use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from curate.errors import FormatError
from curate.formats.huggingface.features import Feature
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape, problem_of_mask
from curate.formats.values import is_shallow, mapping, number, numbers, run_lengths, sequence

BOXES: Final = ("bbox", "bboxes", "boxes")
SEGMENTATIONS: Final = ("segmentation", "polygons", "polygon")
CATEGORIES: Final = ("category", "categories", "category_id", "label", "labels", "class", "classes")
_IDS: Final = ("id", "ids", "bbox_id", "annotation_id")
_CROWDS: Final = ("iscrowd", "is_crowd")
_SCORES: Final = ("score", "scores")


@dataclass(frozen=True, slots=True)
class Object:
    """One labelled thing.

    Attributes:
        label: Its class.
        shape: Where it is.
        source_id: Its own id, or None.
        area: Square pixels, as stated.
        iscrowd: As stated.
        score: The same.
        attributes: What else is said of it.
    """

    label: str | None
    shape: Shape
    source_id: str | None = None
    area: float | None = None
    iscrowd: bool | None = None
    score: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def listed(value: Any, place: str, losses: LossReport) -> list[dict[str, Any]]:
    """The objects of a column as dictionaries.

    Args:
        value: A list of structs, or a struct of lists.
        place: What to call the row in the report.
        losses: Gets lists that are not as long as the others.
    """
    if isinstance(value, list):
        losses.dropped("annotations", "not a struct", place, sum(not isinstance(each, dict) for each in value))
        return [each for each in value if isinstance(each, dict)]
    columns = {key: each for key, each in mapping(value).items() if isinstance(each, list)}
    count = max((len(columns[key]) for key in columns if key in (*BOXES, *SEGMENTATIONS, *CATEGORIES)), default=0)
    for key, column in columns.items():
        if len(column) != count and column:
            losses.converted("annotations", "lists of different lengths; what is not there is empty", f"{place}: {key}")
    return [{key: column[at] for key, column in columns.items() if at < len(column)} for at in range(count)]


def read_object(said: Mapping[str, Any], feature: Feature) -> Object:
    """One object from a dictionary.

    Raises:
        FormatError: It has no geometry that can be read; the message is for the loss report.
    """
    left = {key: value for key, value in said.items() if value is not None}
    category = _take_key(left, CATEGORIES)
    label = None if category is None else class_name(left.pop(category), feature.fields.get(category, Feature()))
    own_id = _take(left, _IDS)
    crowd = _take(left, _CROWDS)
    shape = _shape(left)
    area, score = number(left.get("area")), number(_take(left, _SCORES))
    if area is not None:
        del left["area"]
    return Object(
        label,
        shape,
        str(own_id) if isinstance(own_id, str | int) and str(own_id) else None,
        area,
        bool(crowd) if isinstance(crowd, int | float) else None,
        score,
        _attributes(left),
    )


def class_name(value: Any, feature: Feature) -> str | None:
    """The class that a value stands for: by its number where the column has names; None for -1, which means none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str):
        return value or None
    place = int(value) if isinstance(value, int) or value.is_integer() else None
    if feature.names:
        known = place is not None and 0 <= place < len(feature.names)
        return feature.names[place] if known and place is not None else None if place == -1 else str(value)
    return str(value if place is None else place)


def json_ready(value: Any) -> Any:
    """A value of a table as JSON can say it; bytes are left out."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): json_ready(each) for key, each in value.items() if not isinstance(each, bytes)}
    if isinstance(value, list | tuple):
        return [json_ready(each) for each in value if not isinstance(each, bytes)]
    return str(value)  # times, decimals


def json_object(value: Any) -> dict[str, Any] | None:
    """A JSON text's object, or None if it is none."""
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        tree = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) and is_shallow(tree) else None


def _shape(left: dict[str, Any]) -> Shape:
    """The geometry, which is taken out of the rest."""
    kind = left.pop("type", None) if isinstance(left.get("type"), str) else None
    bbox = _take(left, BOXES)
    rotated = left.pop("rotated_box", None)
    polygons, rle = _segmentation(_take(left, SEGMENTATIONS))
    if "rle" in left and "rle_size" in left:
        rle = _mask(left.pop("rle"), left.pop("rle_size"))
    keypoints = _keypoints(left.pop("keypoints", None))
    shape = Shape(
        bbox=None if bbox is None else _numbers(bbox, "without four numbers for a box"),
        rotated_box=None if rotated is None else _numbers(rotated, "without five numbers for a rotated box"),
        polygons=polygons,
        is_open=kind == "polyline",
        rle=rle,
        keypoints=keypoints,
    )
    if shape.bbox is None and shape.rotated_box is None and not polygons and rle is None and keypoints is None:
        raise FormatError("without four numbers for a box")
    return shape


def _segmentation(value: Any) -> tuple[list[list[float]] | None, tuple[str, list[int]] | None]:
    """COCO's: polygons of several parts, one flat polygon, or run lengths."""
    if isinstance(value, dict):
        return None, _mask(value.get("counts"), value.get("size"))
    parts = sequence(value)
    if not parts:
        return None, None
    if not isinstance(parts[0], list):
        parts = [parts]
    return [_numbers(part, "an outline that is not numbers") for part in parts], None


def _mask(counts: Any, size: Any) -> tuple[str, list[int]]:
    rle = run_lengths(counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts, size)
    if rle is None:
        raise FormatError(problem_of_mask(size))
    return rle


def _keypoints(value: Any) -> list[float] | None:
    """[x, y, visibility, ...], or a list of such triples, or of points that are all visible."""
    points = sequence(value)
    if not points:
        return None
    if all(isinstance(point, list) and len(point) in {2, 3} for point in points):
        points = [side for point in points for side in (point if len(point) == 3 else [*point, 2])]
    return _numbers(points, "keypoints that are not numbers")


def _numbers(value: Any, problem: str) -> list[float]:
    found = numbers(value) if isinstance(value, list) else None
    if found is None:
        raise FormatError(problem)
    return found


def _attributes(left: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {key: json_ready(value) for key, value in left.items() if not isinstance(value, bytes)}
    own = json_object(attributes.get("attributes"))
    return attributes if own is None else {key: attributes[key] for key in attributes if key != "attributes"} | own


def _take_key(left: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in left), None)


def _take(left: dict[str, Any], names: Sequence[str]) -> Any:
    key = _take_key(left, names)
    return None if key is None else left.pop(key)
