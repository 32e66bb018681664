"""The shapes in LabelMe's JSON files, as geometry and attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from curate.errors import ImageError
from curate.formats.embedded import decode_base64
from curate.formats.labelme.masks import read_mask
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from curate.formats.shapes import corners_to_rotated_boxes, ellipse_outline
from curate.formats.values import is_shallow, mapping, number, numbers, points, sequence, text

VISIBLE: Final = 2
LARGEST: Final = 1e9
"""Coordinates beyond this are no place on any image; what is computed from them would overflow."""

OWN_KEYS: Final = frozenset(
    {
        *("label", "points", "group_id", "shape_type", "flags", "description", "mask"),
        *("attributes", "score", "iscrowd", "area", "bbox", "visibility", "id", "oriented"),
    }
)
"""Members of a shape that have a meaning here: LabelMe's own, and those that the writer adds."""


@dataclass(frozen=True)
class Object:
    """One shape.

    Attributes:
        label: Its class; None where it is empty.
        shape: Where it is.
        attributes: Everything else.
        group: What tells the parts of one object: LabelMe's group_id, where it is a polygon that has one.
        keeps_group: Whether `group_id` is an attribute in its own right, and not only what joins the parts.
        score: Confidence.
        iscrowd: Whether it stands for many.
        area: Square pixels.
        source_id: As `id` says.
    """

    label: str | None
    shape: Shape
    attributes: dict[str, Any]
    group: int | str | None
    keeps_group: bool
    score: float | None
    iscrowd: bool | None
    area: float | None
    source_id: str | None


def read_object(value: Any, size: tuple[int, int], place: str, losses: LossReport) -> Object | None:
    """A shape of a file, or None (reported) if nothing can be made of it.

    Args:
        value: The member of `shapes`.
        size: Width and height of its image, for masks; 0 where it is not known.
        place: What to call it in the report.
        losses: Shapes that are not kept, or not as they are.
    """
    said = mapping(value)
    kind = text(said.get("shape_type")) or "polygon"  # the first versions had nothing else
    reader = _READERS.get(kind)
    flat = points(said.get("points"))
    if reader is None or flat is None:
        reason = (
            f"shapes of type '{kind[:40]}' are not known" if reader is None else "points that are not pairs of numbers"
        )
        losses.dropped("annotations", reason, place)
        return None
    attributes = _attributes(said, place, losses)
    shape = reader(flat, _Context(said, size, place, losses, attributes))
    if shape is None:
        return None
    box = numbers(sequence(said.get("bbox")))
    if box is not None and len(box) == 4:
        shape = Shape(box, shape.rotated_box, shape.polygons, shape.is_open, shape.rle, shape.keypoints)
    group = said.get("group_id")
    own_id = said.get("id")
    return Object(
        label=text(said.get("label")) or None,
        shape=shape,
        attributes=attributes,
        group=group if shape.polygons and not shape.is_open and kind == "polygon" and _is_group(group) else None,
        keeps_group="group_id" in mapping(said.get("attributes")),
        score=number(said.get("score")),
        iscrowd=crowd if isinstance(crowd := said.get("iscrowd"), bool) else None,
        area=area if (area := number(said.get("area"))) is not None and math.isfinite(area) else None,
        source_id=str(own_id) if isinstance(own_id, int | str) and not isinstance(own_id, bool) else None,
    )


def _is_group(value: Any) -> bool:
    """Whether a `group_id` is one; LabelMe's are whole numbers, other tools' may be texts."""
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


@dataclass(frozen=True)
class _Context:
    """What a shape's reader may need beside its points: arguments of `read_object`, and the attributes it may add to."""

    said: Mapping[str, Any]
    size: tuple[int, int]
    place: str
    losses: LossReport
    attributes: dict[str, Any]

    def drop(self, reason: str) -> None:
        self.losses.dropped("annotations", reason, self.place)


def _attributes(said: Mapping[str, Any], place: str, losses: LossReport) -> dict[str, Any]:
    """Members without a column: unknown ones, then flags, then LabelMe's own, then those written under `attributes`."""
    written = mapping(said.get("attributes"))
    own = [key for key in ("description", "group_id") if key not in written and said.get(key) not in (None, "")]
    sources: list[dict[str, Any]] = [
        {key: value for key, value in said.items() if key not in OWN_KEYS and value not in (None, "", [], {})},
        mapping(said.get("flags")),
        {key: said[key] for key in own},
        written,
    ]
    found: dict[str, Any] = {}
    for source in sources:
        for key, value in source.items():
            if not is_shallow(value):
                losses.dropped("attributes", "nested too deeply", f"{place}: {key}")
            elif found.setdefault(key, value) != value:
                losses.dropped("attributes", "two values under one name: the last is kept", f"{place}: {key}")
                found[key] = value
    return found


def _polygon(flat: list[float], context: _Context) -> Shape | None:
    return _oriented_rectangle(flat, context) if context.said.get("oriented") is True else Shape(polygons=[flat])


def _rectangle(flat: list[float], context: _Context) -> Shape | None:
    if len(flat) not in {4, 8}:
        context.drop("a rectangle without two or four corners")
        return None
    if not all(map(math.isfinite, flat)):  # the least of NaN and a number may be the number
        context.drop("coordinates that are not finite numbers")
        return None
    across, down = flat[::2], flat[1::2]
    return Shape(bbox=[min(across), min(down), max(across) - min(across), max(down) - min(down)])


def _oriented_rectangle(flat: list[float], context: _Context) -> Shape | None:
    if len(flat) != 8 or not all(abs(side) < LARGEST for side in flat):
        context.drop("a rotated box without four corners")
        return None
    rotated, is_rectangle = corners_to_rotated_boxes(np.array([flat]))
    if not is_rectangle[0]:
        reason = "four corners that are not a rectangle's: kept as a polygon"
        context.losses.converted("annotations", reason, context.place)
        return Shape(polygons=[flat])
    return Shape(rotated_box=rotated[0].tolist())


def _circle(flat: list[float], context: _Context) -> Shape | None:
    if len(flat) != 4 or not all(abs(side) < LARGEST for side in flat):
        context.drop("a circle without a centre and a point on it")
        return None
    x, y, to_x, to_y = flat
    radius = math.hypot(to_x - x, to_y - y)
    reason = "circles become polygons; what they were stays in the attributes"
    context.losses.converted("annotations", reason, context.place)
    context.attributes["ellipse"] = {"cx": x, "cy": y, "rx": radius, "ry": radius, "rotation": 0.0}
    return Shape(polygons=[ellipse_outline(x, y, radius, radius, 0.0)])


def _line(flat: list[float], _: _Context) -> Shape:
    return Shape(polygons=[flat], is_open=True)


def _points(flat: list[float], context: _Context) -> Shape:
    count = len(flat) // 2
    known = numbers(sequence(context.said.get("visibility"))) or []
    visibility: Sequence[float] = known if len(known) == count else [VISIBLE] * count
    triples = zip(flat[::2], flat[1::2], visibility, strict=True)
    return Shape(keypoints=[side for triple in triples for side in triple])


def _mask(flat: list[float], context: _Context) -> Shape | None:
    """The PNG put at the first corner, cut at the image's edges."""
    data = decode_base64(context.said.get("mask"))
    if data is None or len(flat) != 4 or not all(abs(side) < LARGEST for side in flat):
        context.drop("a mask without two corners and an image of the pixels between them")
        return None
    try:
        # LabelMe rounds the corner too, and takes the image's own size.
        mask = read_mask(data, (round(min(flat[0], flat[2])), round(min(flat[1], flat[3]))), context.size)
    except ImageError as error:
        context.drop(f"the image of a mask cannot be used: {error.what}")
        return None
    if mask.cut_off:
        context.losses.converted("annotations", "masks are cut at the image's edges", context.place)
    return Shape(rle=(mask.counts, mask.size))


_READERS: Final[Mapping[str, Callable[[list[float], _Context], Shape | None]]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "oriented_rectangle": _oriented_rectangle,
    "rotation": _oriented_rectangle,
    "circle": _circle,
    "line": _line,
    "linestrip": _line,
    "point": _points,
    "points": _points,
    "mask": _mask,
}
