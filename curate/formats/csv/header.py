"""The first lines of a CSV file: which column is the image, the label, the box."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from curate.formats.files import is_image

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
"""What to do where the columns are not understood."""

HEAD_BYTES: Final = 65536
"""How much of a file `read_header` needs."""

_SAMPLE: Final = 20
_RETINANET: Final = ("path", "x1", "y1", "x2", "y2", "class")


@dataclass(frozen=True)
class Columns:
    """Which column is what; numbers are positions in the header, None where there is none.

    `classes` are columns of a class each, with 1 where an image has it and 0 where not.
    """

    image: int
    label: int | None
    split: int | None
    score: int | None
    box: tuple[int, ...] | None
    corners: bool
    size: tuple[int, int] | None
    classes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Header:
    """What the first lines of a file say.

    Attributes:
        names: Of the columns, as written.
        separator: Between them.
        columns: What they are, or None where that cannot be told.
        lines: How many lines of the file are no rows: 1, or 0 where the columns have no names.
    """

    names: list[str]
    separator: str
    columns: Columns | None
    lines: int


def read_header(head: str) -> Header:
    """Tell the columns of a file apart by their names, or by the first rows where these say more.

    Args:
        head: The file's beginning, `HEAD_BYTES` of it or all.
    """
    lines = head.lstrip("\ufeff").replace("\r\n", "\n").split("\n")
    separator = max(",;\t", key=lines[0].count)
    sample = lines[1 : _SAMPLE + 1] if len(head) < HEAD_BYTES else lines[1 : min(_SAMPLE + 1, len(lines) - 1)]
    names, *rows = [_cells(line, separator) for line in [lines[0], *sample] if line.strip()] or [[""]]
    if _is_retinanet(names):
        return Header(list(_RETINANET), separator, understand(_RETINANET), 0)
    plain = [name.lower().replace(" ", "_") for name in names]
    return Header(names, separator, understand(plain) or _one_hot(plain, rows), 1)


def _cells(line: str, separator: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        cells = line.split(separator)
    return [cell.strip().strip('"').strip() for cell in cells]


def _is_retinanet(cells: Sequence[str]) -> bool:
    """Whether a line is a row of keras-retinanet's files, which have no header: image, corners and class, or image alone."""
    return (
        len(cells) == len(_RETINANET)
        and is_image(cells[0])
        and (not any(cells[1:]) or (all(map(_is_number, cells[1:5])) and cells[5] != ""))
    )


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).removeprefix("-").isdecimal()


def _one_hot(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns | None:
    """An image and columns of 0 and 1, one for each class, as Roboflow's _classes.csv; else None."""
    image = next((number for number, name in enumerate(header) if name in _IMAGE), None)
    split = next((number for number, name in enumerate(header) if name in _SPLIT), None)
    classes = tuple(number for number in range(len(header)) if number not in {image, split})
    flags = [row[number] for row in rows if len(row) == len(header) for number in classes]
    if image is None or not flags or not set(flags) <= {"0", "1", "0.0", "1.0"}:
        return None
    return Columns(
        image=image, label=None, split=split, score=None, box=None, corners=False, size=None, classes=classes
    )


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
