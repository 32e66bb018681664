"""The shapes of Label Studio's results: percentages of an image's width and height as pixels.

A rectangle turns about its own top-left corner (https://labelstud.io/guide/export: "Units of image annotations").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from curate.formats.label_studio.brush import decode_brush
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from curate.formats.shapes import ellipse_outline
from curate.formats.values import mapping, number, numbers, points, sequence, text, whole
from curate.geometry import encode_rle

Size = tuple[int, int]

_TO_IMAGE: Final = 100.0
_LARGEST: Final = 1e9  # pixels: beyond is no place on any image, and what is computed from it overflows


def kind_of(result: Mapping[str, Any]) -> str | None:
    """The kind of shape that a result has, or None."""
    value = mapping(result.get("value"))
    if "rle" in value:
        return "brush"
    if "points" in value:
        return "polygon"
    if "vertices" in value:
        return "vector"
    if "radiusX" in value:
        return "ellipse"
    if "sequence" in value or "x" not in value or "y" not in value:
        return None
    is_point = text(result.get("type")).startswith("keypoint") or "keypointlabels" in value or "height" not in value
    return "keypoint" if is_point else "rectangle"


def read_shape(kind: str, result: Mapping[str, Any], size: Size, place: str, losses: LossReport) -> Shape | None:
    """The shape of a result of one of the kinds that `kind_of` gives, in pixels; None if it is not whole.

    Args:
        kind: What it is.
        result: As it was given.
        size: Width and height that percentages refer to.
        place: What to call the result in the loss report.
        losses: What is kept in another way.
    """
    return _SHAPES[kind](mapping(result.get("value")), result, size, place, losses)


def stated_size(results: Iterable[Any]) -> Size | None:
    """The image's size as the first result says that says it."""
    for result in results:
        width, height = (whole(mapping(result).get(f"original_{side}")) for side in ("width", "height"))
        if width and height:
            return width, height
    return None


def _rectangle(
    value: Mapping[str, Any], result: Mapping[str, Any], size: Size, place: str, losses: LossReport
) -> Shape | None:
    sides = numbers(value.get(name) for name in ("x", "y", "width", "height"))
    rotation = number(value.get("rotation") or 0)
    if sides is None or rotation is None:
        return None
    x, y, width, height = _pixels(sides, size)
    if not rotation or not math.isfinite(rotation):
        return Shape(bbox=[x, y, width, height]) if not rotation else None
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    centre_x = x + (width * cosine - height * sine) / 2
    centre_y = y + (width * sine + height * cosine) / 2
    return Shape(rotated_box=[centre_x, centre_y, width, height, rotation])


def _polygon(
    value: Mapping[str, Any], result: Mapping[str, Any], size: Size, place: str, losses: LossReport
) -> Shape | None:
    outline = points(value.get("points"))
    if not outline:
        return None
    return Shape(polygons=[_pixels(outline, size)], is_open=value.get("closed") is False)


def _vector(
    value: Mapping[str, Any], result: Mapping[str, Any], size: Size, place: str, losses: LossReport
) -> Shape | None:
    vertices = [mapping(vertex) for vertex in sequence(value.get("vertices"))]
    outline = numbers(vertex.get(side) for vertex in vertices for side in ("x", "y"))
    if not outline:
        return None
    curved = any(vertex.get("isBezier") is True for vertex in vertices)
    losses.converted("annotations", "a curved line: kept as straight ones between its points", place, curved)
    ids = [vertex.get("id") for vertex in vertices]
    befores = [vertex.get("prevPointId") for vertex in vertices[1:]]
    branches = any(before not in (None, id_) for before, id_ in zip(befores, ids, strict=False))
    losses.converted("annotations", "a line with branches: kept as one through all of its points", place, branches)
    return Shape(polygons=[_pixels(outline, size)], is_open=value.get("closed") is not True)


def _brush(
    value: Mapping[str, Any], result: Mapping[str, Any], size: Size, place: str, losses: LossReport
) -> Shape | None:
    width, height = stated_size([result]) or size
    mask = decode_brush(sequence(value.get("rle")), width, height)
    if mask is None:
        return None
    if (width, height) != size and (height, width) != size:
        losses.converted("masks", "painted on an image of another size; the mask keeps its own", place)
    return Shape(rle=(encode_rle(mask), [height, width]))


def _keypoint(
    value: Mapping[str, Any], result: Mapping[str, Any], size: Size, place: str, losses: LossReport
) -> Shape | None:
    point = numbers(value.get(name) for name in ("x", "y"))
    return None if point is None else Shape(keypoints=[*_pixels(point, size), 2.0])


def _ellipse(
    value: Mapping[str, Any], result: Mapping[str, Any], size: Size, place: str, losses: LossReport
) -> Shape | None:
    given = numbers(value.get(name) for name in ("x", "y", "radiusX", "radiusY"))
    rotation = number(value.get("rotation") or 0)
    if given is None or rotation is None or not math.isfinite(rotation) or min(given[2:]) < 0:
        return None
    x, y, rx, ry = _pixels(given, size)
    if not all(abs(side) < _LARGEST for side in (x, y, rx, ry)):
        return None
    losses.converted("annotations", "an ellipse: kept as a polygon", place)
    return Shape(polygons=[ellipse_outline(x, y, rx, ry, rotation)])


def _pixels(percentages: Sequence[float], size: Size) -> list[float]:
    """Percentages of width and height, one after the other, as pixels."""
    return [value * size[place % 2] / _TO_IMAGE for place, value in enumerate(percentages)]


_SHAPES: Final = {
    "rectangle": _rectangle,
    "polygon": _polygon,
    "vector": _vector,
    "brush": _brush,
    "keypoint": _keypoint,
    "ellipse": _ellipse,
}
