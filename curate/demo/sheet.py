"""A contact sheet: many images of a set in one picture, with their boxes, to be looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from curate.demo.build import CATEGORY_IDS, PartsSet
from curate.demo.pictures import Picture
from curate.imaging import Pixels, load_pixels

_COLORS: Final = {
    "bolt": (86, 180, 233),
    "nut": (240, 228, 66),
    "washer": (0, 200, 140),
    "gear": (230, 159, 0),
    "bearing": (204, 121, 167),
    "scratch": (255, 255, 255),
    "dent": (255, 255, 255),
}
_FAULT: Final = (255, 40, 40)
_NAMES: Final = {number: label for label, number in CATEGORY_IDS.items()}


def contact_sheet(parts: PartsSet, path: Path, columns: int = 4, *, count: int = 24, boxes: bool = True) -> Path:
    """Draw the first images of a set side by side.

    Args:
        parts: The set.
        path: Picture file to write; the ending says which format.
        columns: Images in a row.
        count: How many images, spread evenly over the set.
        boxes: Draw the annotations as they are in the COCO files; those with a planted fault in red, with the truth beside.

    Returns:
        `path`.
    """
    chosen = np.unique(np.linspace(0, len(parts.truth.pictures) - 1, count).round().astype(int))
    annotations = _annotations(parts) if boxes else {}
    tiles = [_tile(parts, parts.truth.pictures[k], annotations) for k in chosen]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    Image.fromarray(np.vstack(rows)).save(path)
    return path


def _annotations(parts: PartsSet) -> dict[int, list[tuple[int, str, list[float]]]]:
    """Id, class and box of every annotation, by image id."""
    found: dict[int, list[tuple[int, str, list[float]]]] = {}
    for split in parts.splits:
        for row in json.loads(parts.annotation_file(split).read_bytes())["annotations"]:
            found.setdefault(row["image_id"], []).append((row["id"], _NAMES[row["category_id"]], row["bbox"]))
    return found


def _tile(parts: PartsSet, picture: Picture, annotations: dict[int, list[tuple[int, str, list[float]]]]) -> Pixels:
    """One image with its boxes, half size, on a tile that every camera's images fit."""
    pixels = load_pixels(parts.root / picture.file).copy()
    faults = parts.truth.wrong_annotations("mislabeled", "spurious", "mislocated")
    for number, label, bbox in annotations.get(picture.id, []):
        fault = faults.get((picture.file, number))
        text = label if fault is None else f"{label} ({fault.label or 'nothing'})"
        _draw(pixels, bbox, text, _COLORS[label] if fault is None else _FAULT)
    if annotations:
        for fault in parts.truth.of_kind("missing"):
            if fault.image == picture.file and fault.bbox is not None:
                _draw(pixels, list(fault.bbox), f"missing {fault.label}", _FAULT)
    small = cv2.resize(pixels, None, fx=0.625, fy=0.625, interpolation=cv2.INTER_AREA)
    tile = np.zeros((324, 404, 3), np.uint8)
    tile[2 : 2 + small.shape[0], 2 : 2 + small.shape[1]] = small[:320]
    return tile


def _draw(pixels: Pixels, bbox: list[float], text: str, color: tuple[int, int, int]) -> None:
    x, y, w, h = (round(v) for v in bbox)
    cv2.rectangle(pixels, (x, y), (x + w - 1, y + h - 1), color, 1)
    cv2.putText(pixels, text, (x, max(y - 3, 9)), cv2.FONT_HERSHEY_SIMPLEX, 0.4, color, 1, cv2.LINE_AA)
