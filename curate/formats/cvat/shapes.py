"""Elements of a CVAT file as shapes, and shapes as elements.

Numbers are written with six decimals. CVAT reads any number of them and writes two itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree.ElementTree import Element

import numpy as np

from curate.formats.cvat.masks import BAD_RUNS, TOO_LARGE, mask_from_box, mask_to_box
from curate.formats.shape_columns import WHOLE_IMAGE, Shape

UNREADABLE: Final = "coordinates that are missing or not numbers"
ELLIPSE: Final = "ellipses are kept as polygons, and what they were as an attribute"
CUBOID: Final = "cuboids are kept as the outline of their corners, and the corners as an attribute"
NO_SIZE: Final = "a mask on an image whose size is not known"

BOX: Final = ("xtl", "ytl", "xbr", "ybr")
"""XML attributes of a box's sides."""

AXES: Final = ("cx", "cy", "rx", "ry")
"""XML attributes of an ellipse."""

PLACE: Final = ("left", "top", "width", "height")
"""XML attributes of the box that a mask fills."""

CORNERS: Final = tuple(f"{axis}{corner}{face}" for face in "12" for corner in ("tl", "bl", "tr", "br") for axis in "xy")
"""XML attributes of a cuboid's corners, in the order of the API's points."""

_CORNERS_OF_ELLIPSE: Final = 64
_DECIMALS: Final = 6
_SAME: Final = 1e-3
_LARGEST: Final = 2**40


@dataclass(frozen=True)
class Drawn:
    """A shape as it was read.

    Attributes:
        shape: Where it is.
        kept: What the shape does not say, as further attributes.
        converted: How it was changed, in words for the loss report, or None.
    """

    shape: Shape
    kept: dict[str, Any] = field(default_factory=dict)
    converted: str | None = None


def is_shape(element: Element) -> bool:
    """Whether an element is one that `draw` can read, or a skeleton."""
    return element.tag in _READERS or element.tag in {"mask", "skeleton"}


def draw(element: Element, size: tuple[int, int] | None) -> Drawn | str:
    """A shape other than a skeleton.

    Args:
        element: The shape; `is_shape` holds.
        size: Width and height of its image, which a mask needs.

    Returns:
        The shape; or why it cannot be read, in words for the loss report.
    """
    if element.tag == "mask":
        return _draw_mask(element, size)
    return _READERS[element.tag](element)


def points_of(element: Element) -> list[float] | None:
    """Numbers of a ``points`` attribute, one after another; None if it has no pairs of numbers."""
    pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
    if any(len(pair) != 2 for pair in pairs):
        return None
    return _floats([text for pair in pairs for text in pair])


def numbers_of(element: Element, names: Sequence[str]) -> list[float] | None:
    """Several XML attributes as numbers; None if one is missing or no number."""
    return _floats([element.get(name, "") for name in names])


# ---------------------------------------------------------------------------------------------------------------- reading


def _draw_box(element: Element) -> Drawn | str:
    corners, turn = numbers_of(element, BOX), _rotation(element)
    if corners is None or turn is None:
        return UNREADABLE
    left, top, right, bottom = corners
    if turn == 0:
        return Drawn(Shape(bbox=[left, top, right - left, bottom - top]))
    centre = [(left + right) / 2, (top + bottom) / 2]
    return Drawn(Shape(rotated_box=[*centre, right - left, bottom - top, turn]))


def _draw_polygon(element: Element) -> Drawn | str:
    points = points_of(element)
    return UNREADABLE if points is None else Drawn(Shape(polygons=[points], is_open=element.tag == "polyline"))


def _draw_points(element: Element) -> Drawn | str:
    points = points_of(element)
    if points is None:
        return UNREADABLE
    return Drawn(
        Shape(keypoints=[value for x, y in zip(points[::2], points[1::2], strict=True) for value in (x, y, 2.0)])
    )


def _draw_ellipse(element: Element) -> Drawn | str:
    axes, turn = numbers_of(element, AXES), _rotation(element)
    if axes is None or turn is None:
        return UNREADABLE
    kept = dict(zip((*AXES, "rotation"), (*axes, turn), strict=True))
    return Drawn(Shape(polygons=[_outline_of_ellipse(kept)]), {"ellipse": kept}, ELLIPSE)


def _draw_cuboid(element: Element) -> Drawn | str:
    corners = numbers_of(element, CORNERS)
    if corners is None or not np.isfinite(corners).all():
        return UNREADABLE
    return Drawn(Shape(polygons=[_outline_of_cuboid(corners)]), {"cuboid": corners}, CUBOID)


def _draw_mask(element: Element, size: tuple[int, int] | None) -> Drawn | str:
    runs = _floats(element.get("rle", "").split(","))
    box = numbers_of(element, PLACE)
    if runs is None or box is None:
        return UNREADABLE
    if size is None:
        return NO_SIZE
    every = np.array([*box, *runs])
    if not np.isfinite(every).all() or (every != np.floor(every)).any():
        return BAD_RUNS
    if np.abs(every).max() > _LARGEST:
        return TOO_LARGE
    whole = every.astype(np.int64)
    found = mask_from_box(whole[4:], whole[:4].tolist(), size)
    return found if isinstance(found, str) else Drawn(Shape(rle=found))


_READERS: Final[Mapping[str, Callable[[Element], Drawn | str]]] = {
    "box": _draw_box,
    "polygon": _draw_polygon,
    "polyline": _draw_polygon,
    "points": _draw_points,
    "ellipse": _draw_ellipse,
    "cuboid": _draw_cuboid,
    "tag": lambda _: Drawn(WHOLE_IMAGE),
}


def _rotation(element: Element) -> float | None:
    found = _floats([element.get("rotation") or "0"])
    return found[0] if found else None


def _floats(texts: Sequence[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _outline_of_ellipse(ellipse: Mapping[str, float]) -> list[float]:
    angle = np.arange(_CORNERS_OF_ELLIPSE) * (2 * np.pi / _CORNERS_OF_ELLIPSE)
    turn = np.deg2rad(ellipse["rotation"])
    with np.errstate(all="ignore"):  # what is not finite is dropped by whoever takes the shape
        across, down = ellipse["rx"] * np.cos(angle), ellipse["ry"] * np.sin(angle)
        x = ellipse["cx"] + across * np.cos(turn) - down * np.sin(turn)
        y = ellipse["cy"] + across * np.sin(turn) + down * np.cos(turn)
    points: list[float] = np.column_stack([x, y]).ravel().tolist()
    return points


def _outline_of_cuboid(corners: Sequence[float]) -> list[float]:
    """The convex hull of the corners, clockwise (Andrew 1979)."""
    points = sorted(set(zip(corners[::2], corners[1::2], strict=True)))
    hull: list[tuple[float, float]] = []
    for side in (points, points[::-1]):
        chain: list[tuple[float, float]] = []
        for point in side:
            while len(chain) > 1 and _turns_back(chain[-2], chain[-1], point):
                chain.pop()
            chain.append(point)
        hull += chain[:-1]
    return [value for point in hull for value in point]


def _turns_back(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> bool:
    return (second[0] - first[0]) * (third[1] - first[1]) <= (second[1] - first[1]) * (third[0] - first[0])


# ---------------------------------------------------------------------------------------------------------------- writing


def box_element(bbox: Sequence[float]) -> Element:
    """A box from [x, y, width, height]."""
    x, y, width, height = bbox
    return _element("box", BOX, (x, y, x + width, y + height))


def rotated_box_element(rotated: Sequence[float]) -> Element:
    """A box with its rotation from [centre x, centre y, width, height, degrees]."""
    x, y, width, height, degrees = rotated
    element = box_element((x - width / 2, y - height / 2, width, height))
    element.set("rotation", decimal(degrees % 360))
    return element


def outline_element(points: Sequence[float], kept: Mapping[str, Any]) -> Element:
    """A polygon, or the ellipse or cuboid it was read from where it still is their outline.

    Args:
        points: [x0, y0, x1, y1, ...].
        kept: The annotation's attributes.
    """
    ellipse, cuboid = kept.get("ellipse"), kept.get("cuboid")
    names = (*AXES, "rotation")
    is_ellipse = isinstance(ellipse, dict) and _are_numbers([ellipse.get(name) for name in names])
    if isinstance(ellipse, dict) and is_ellipse and _same(points, _outline_of_ellipse(ellipse)):
        element = _element("ellipse", AXES, [ellipse[name] for name in AXES])
        if ellipse["rotation"]:
            element.set("rotation", decimal(ellipse["rotation"]))
        return element
    is_cuboid = isinstance(cuboid, list) and len(cuboid) == len(CORNERS) and _are_numbers(cuboid)
    if isinstance(cuboid, list) and is_cuboid and _same(points, _outline_of_cuboid(cuboid)):
        return _element("cuboid", CORNERS, cuboid)
    return points_element("polygon", points)


def points_element(tag: str, points: Sequence[float]) -> Element:
    """A polygon, a polyline or points from [x0, y0, x1, y1, ...]."""
    pairs = zip(points[::2], points[1::2], strict=True)
    return Element(tag, {"points": ";".join(f"{decimal(x)},{decimal(y)}" for x, y in pairs)})


def mask_element(counts: str, size: Sequence[int]) -> Element | None:
    """A mask from COCO run lengths that fill their size; None for one without a pixel."""
    found = mask_to_box(counts, size)
    if found is None:
        return None
    runs, box = found
    element = Element("mask", {"rle": ", ".join(map(str, runs))})
    for name, value in zip(PLACE, box, strict=True):
        element.set(name, str(value))
    return element


def decimal(value: float) -> str:
    """A number as text: whole ones as such."""
    rounded = round(value, _DECIMALS) + 0.0
    return str(int(rounded)) if rounded.is_integer() else repr(rounded)


def _element(tag: str, names: Sequence[str], values: Sequence[float]) -> Element:
    return Element(tag, {name: decimal(value) for name, value in zip(names, values, strict=True)})


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and np.isfinite(value) for value in values)


def _same(first: Sequence[float], second: Sequence[float]) -> bool:
    return len(first) == len(second) and bool(np.allclose(first, second, rtol=0, atol=_SAME))
