"""The objects of a COCO file as typed structs: decoded at once where they are well-formed, mended one by one where not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec
import numpy as np
from msgspec.structs import astuple

from curate.formats.coco.decoder import NOTHING, ObjectDecoder
from curate.formats.coco.pieces import elements, has_lone_surrogate, loads
from curate.formats.columns import Flags, Floats
from curate.formats.losses import LossReport
from curate.formats.values import number

Id = int | str
"""As a file gives it; texts that are plain numbers count as numbers (`same_id`)."""

CATEGORY_FIELDS: Final = "category_fields"
"""Key of a dataset's `info`: what its categories have beyond COCO's fields, by class name."""
ANNOTATION_FIELDS: Final = "annotation_fields"
"""Key of a dataset's `info`: the fields beyond COCO's that annotations had beside, not in, their `attributes`."""


class ImageObject(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An entry of ``images``."""

    id: Id | None = None
    file_name: str | None = None
    width: int | None = None
    height: int | None = None


class Box(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """``[x, y, width, height]``; NaN stands for what is left out, as in ``[]``."""

    x: float = math.nan
    y: float = math.nan
    width: float = math.nan
    height: float = math.nan


_NO_BOX: Final = Box()


class AnnotationObject(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An entry of ``annotations``, or of a results file."""

    id: Id | None = None
    image_id: Id | None = None
    category_id: Id | None = None
    bbox: Box | None = None
    segmentation: msgspec.Raw = NOTHING
    area: float | None = None
    iscrowd: int | bool | None = None
    keypoints: list[float] | None = None
    num_keypoints: msgspec.Raw = NOTHING  # follows from keypoints
    score: float | None = None
    attributes: msgspec.Raw = NOTHING


@dataclass(frozen=True)
class Annotations:
    """Decoded annotations.

    Attributes:
        items: n objects.
        boxes: Their boxes, [x, y, width, height], all four NaN where there is none; shape (n, 4).
    """

    items: list[AnnotationObject]
    boxes: Floats

    def chosen(self, flags: Flags) -> Annotations:
        """Some of them; `flags` has the shape (n,)."""
        chosen = [item for item, use in zip(self.items, flags.tolist(), strict=True) if use]
        return Annotations(chosen, self.boxes[flags])


S = TypeVar("S", bound=msgspec.Struct)
V = TypeVar("V")
_Mend = Callable[[dict[str, Any], str, LossReport], dict[str, Any] | None]


def decode_images(
    decoder: ObjectDecoder[ImageObject], piece: bytes, first: int, source: str, losses: LossReport
) -> tuple[list[ImageObject], int]:
    """Decode a piece of ``images``; see `decode_annotations`."""
    try:
        items = [] if has_lone_surrogate(piece) else decoder.decode(piece)
        if items and all(0 < (item.width or 1) < 2**31 and 0 < (item.height or 1) < 2**31 for item in items):
            return items, len(items)
    except msgspec.DecodeError:
        pass
    return _mended(decoder, piece, first, source, "image", _mend_image, losses)


def decode_annotations(
    decoder: ObjectDecoder[AnnotationObject], piece: bytes, first: int, source: str, losses: LossReport
) -> tuple[Annotations, int]:
    """Decode a piece of ``annotations``.

    Args:
        decoder: Remembers the keys it has met.
        piece: JSON array of objects.
        first: How many elements of the array stand before this piece.
        source: The file's name for the loss report.
        losses: Gets what could not be read as it is.

    Returns:
        The objects that can be read, and how many elements the piece has.
    """
    try:
        items = [] if has_lone_surrogate(piece) else decoder.decode(piece)
        boxes = _boxes(items)
        if items and np.array_equal(np.isnan(boxes[:, 0]), np.isnan(boxes[:, 3])):  # left out as a whole, if at all
            return Annotations(items, boxes), len(items)
    except msgspec.DecodeError:
        pass
    items, count = _mended(decoder, piece, first, source, "annotation", _mend_annotation, losses)
    return Annotations(items, _boxes(items)), count


def _boxes(items: list[AnnotationObject]) -> Floats:
    boxes = [item.bbox for item in items]
    try:
        values = chain.from_iterable(map(astuple, boxes))  # type: ignore[arg-type]
        flat = np.fromiter(values, np.float64, 4 * len(items))
    except TypeError:  # some have none
        values = chain.from_iterable(astuple(_NO_BOX if box is None else box) for box in boxes)
        flat = np.fromiter(values, np.float64, 4 * len(items))
    return flat.reshape(-1, 4)


def same_id(value: Id | None) -> Id | None:
    """An id in the form in which ids are compared: the text "12" is the number 12, other texts are themselves."""
    if isinstance(value, str) and value.removeprefix("-").isdecimal() and str(int(value)) == value:
        return int(value)
    return value


def both_names(key: str) -> str:
    """Where a field of an annotation is kept if its `attributes` have the same key."""
    return f"annotation.{key}"


def _mended(
    decoder: ObjectDecoder[S], piece: bytes, first: int, source: str, what: str, mend: _Mend, losses: LossReport
) -> tuple[list[S], int]:
    """Decode element by element with Python's more tolerant reader, and mend what has the wrong type."""
    own = {info.encode_name for info in msgspec.structs.fields(decoder.base)}
    objects: list[tuple[dict[str, Any], dict[str, Any]]] = []
    texts = list(elements(piece))
    for index, text in enumerate(texts, start=first):
        content = loads(text)
        if not isinstance(content, dict):
            losses.dropped(f"{what}s", "not a JSON object", f"{source}: {what} at index {index}")
            continue
        name = f"{what} {content['id']}" if isinstance(content.get("id"), int | str) else f"{what} at index {index}"
        place = f"{source}: {name}"
        fields = mend(content, place, losses)
        if fields is not None:
            extras = {key: value for key, value in content.items() if key not in own}
            objects.append((fields, finite(extras, place, losses)))
    decoder.learn({key: None for _, extras in objects for key in extras})
    items = [
        decoder.build(fields, {key: msgspec.json.encode(value) for key, value in extras.items()})
        for fields, extras in objects
    ]
    return items, len(texts)


def finite(value: V, place: str, losses: LossReport) -> V:
    """A JSON value with null for every NaN and infinity, which Python writes and JSON does not have; they are reported."""
    cleaned: V = _without_nan(value)
    if cleaned != value:
        losses.converted("fields", "NaN or infinity, which JSON does not have; null stands in its place", place)
    return cleaned


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    return value


def _mend_image(content: dict[str, Any], place: str, losses: LossReport) -> dict[str, Any] | None:
    name = content.get("file_name")
    if not isinstance(name, str) or not name.strip():
        losses.dropped("images", "no file_name", place)
        return None
    sides = {key: _natural(content.get(key)) for key in ("width", "height")}
    if any(content.get(key) is not None and side is None for key, side in sides.items()):
        losses.converted("images", "width or height is not a positive whole number and was left out", place)
    return {"id": _id(content, "id", place, losses), "file_name": name, **sides}


def _mend_annotation(content: dict[str, Any], place: str, losses: LossReport) -> dict[str, Any] | None:
    bbox, keypoints = content.get("bbox"), content.get("keypoints")
    segmentation = content.get("segmentation")
    if bbox in (None, []):
        bbox = None
    elif not (_numbers(bbox) and len(bbox) == 4):
        if not segmentation:
            losses.dropped("annotations", "bbox is not four finite numbers", place)
            return None
        losses.converted("annotations", "bbox is not four finite numbers; taken from the segmentation", place)
        bbox = None
    if keypoints in (None, []):
        keypoints = None
    elif not _numbers(keypoints):
        losses.dropped("keypoints", "not finite numbers", place)
        keypoints = None
    numbers = {}
    for key in ("area", "score"):
        numbers[key] = float(content[key]) if _numbers([content.get(key)]) else None
        if content.get(key) is not None and numbers[key] is None:
            losses.converted("annotations", f"{key} is not a finite number and was left out", place)
    crowd = content.get("iscrowd")
    if isinstance(crowd, str):  # Label Studio writes "false"
        crowd = {"true": 1, "false": 0, "1": 1, "0": 0}.get(crowd.lower(), crowd)
    if crowd is not None and crowd not in (0, 1):
        losses.converted("annotations", "iscrowd is neither 0 nor 1 and was left out", place)
        crowd = None
    raw = {}
    if segmentation is not None:  # NaN becomes null, which no polygon may have: it is reported with the polygons
        raw["segmentation"] = msgspec.Raw(msgspec.json.encode(segmentation))
    if content.get("attributes") is not None:
        raw["attributes"] = msgspec.Raw(msgspec.json.encode(finite(content["attributes"], place, losses)))
    ids = {key: _id(content, key, place, losses) for key in ("id", "image_id", "category_id")}
    crowd = None if crowd is None else bool(crowd)
    box = None if bbox is None else Box(*map(float, bbox))
    return {**ids, **raw, **numbers, "bbox": box, "keypoints": keypoints, "iscrowd": crowd}


def _id(content: dict[str, Any], key: str, place: str, losses: LossReport) -> Id | None:
    value = content.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
        return value
    losses.converted("ids", f"{key} is neither a whole number nor text and was left out", place)
    return None


def _natural(value: Any) -> int | None:
    """A positive whole number, also where it is written as 640.0; else None."""
    if not _numbers([value]) or value <= 0 or value != int(value) or value >= 2**31:
        return None
    return int(value)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(math.isfinite(_float(value)) for value in values)


def _float(value: Any) -> float:
    """A number as a float; NaN for anything else, and for what no float can hold."""
    known = number(value)
    return math.nan if known is None else known
