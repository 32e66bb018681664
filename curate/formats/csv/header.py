"""The header of a CSV file: which column is the image, the label, the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_IMAGE: Final = (
    "image", "filename", "file_name", "path", "file", "image_path", "filepath", "file_path", "image_name", "image_file",
    "img", "img_path", "image_id",
)  # fmt: skip
_LABEL: Final = (
    "label", "class", "category", "target", "class_name", "label_name", "category_name", "labels", "classname", "species",
)  # fmt: skip
_SPLIT: Final = ("split", "subset", "partition", "set")
_SCORE: Final = ("score", "confidence", "conf")
_CORNERS: Final = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
_SIDES: Final = (
    ("x", "y", "w", "h"), ("x", "y", "width", "height"), ("x1", "y1", "w", "h"), ("xmin", "ymin", "w", "h"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
)  # fmt: skip
_EXAMPLE: Final = f"{_IMAGE[1]},{_LABEL[0]}"
REMEDY: Final = f"the first line must name them, such as: {_EXAMPLE} or {_EXAMPLE},{','.join(_CORNERS[0])}"
"""What to do where `understand` does not."""


@dataclass(frozen=True)
class Columns:
    """Which column is what; numbers are positions in the header, None where there is none."""

    image: int
    label: int | None
    split: int | None
    score: int | None
    box: tuple[int, ...] | None
    corners: bool
    size: tuple[int, int] | None


def parse_header(head: str) -> tuple[list[str], str]:
    """Column names, lower case, and the separator that splits the first line into the most of them."""
    line = head.lstrip("\ufeff").split("\n", 1)[0].rstrip("\r")
    separator = max(",;\t", key=line.count)
    return [name.strip().strip('"').strip().lower().replace(" ", "_") for name in line.split(separator)], separator


def understand(header: Sequence[str]) -> Columns | None:
    """Tell the columns apart by their names; None if no image column, or neither a label nor a box, is among them."""
    place = {name: number for number, name in reversed(list(enumerate(header)))}

    def first(names: Sequence[str]) -> int | None:
        return next((place[name] for name in names if name in place), None)

    image, label = first(_IMAGE), first(_LABEL)
    corners = next((names for names in _CORNERS if all(name in place for name in names)), None)
    box = corners or next((names for names in _SIDES if all(name in place for name in names)), None)
    # A single column of boxes does not say whether they are corners or sides.
    if image is None or (label is None and box is None) or ("bbox" in place and box is None):
        return None
    size = (place["width"], place["height"]) if {"width", "height"} <= set(place) - set(box or ()) else None
    return Columns(
        image=image,
        label=label,
        split=first(_SPLIT),
        score=first(_SCORE),
        box=None if box is None else tuple(place[name] for name in box),
        corners=corners is not None,
        size=size,
    )
