"""Rows as the service's annotations: one COCO file for each image, or its class where the project has only those.

COCO is the format in which both boxes and outlines get there without rounding. What the service has no place for is told:
a rotated box becomes its corners, a mask its outline (without holes), several parts one outline joined by bridges of no width,
keypoints their box; lines, attributes, crowds and scores are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from curate.connectors.base import Row
from curate.connectors.roboflow.recognition import Seen
from curate.formats.losses import LossReport
from curate.formats.shapes import join_parts, outline_mask
from curate.geometry import boxes_around, rotated_box_corners, valid_rles

Classes: TypeAlias = Literal["none", "one", "several"]
"""How many classes of its own an image has in a project; none where it has boxes."""

FILE_NAME: Final = "annotation.coco.json"
"""Tells the service the format."""

# The service does not see a file without annotations as COCO; this one is of no image in it.
_NOTHING: Final = {
    "id": 999999999, "image_id": 999999999, "category_id": 0, "area": 1, "bbox": [0, 0, 1, 1], "segmentation": [], "iscrowd": 0
}  # fmt: skip
_FEWEST: Final = 6


@dataclass(frozen=True)
class Sketch:
    """An annotation as the service can hold it.

    Attributes:
        seen: Its class and box.
        outline: [x0, y0, x1, y1, ...], or None for a box.
    """

    seen: Seen
    outline: Sequence[float] | None = None


def sketch(row: Row, place: str, losses: LossReport, classes: Classes = "none") -> Sketch | None:
    """A row as the service can hold it; None if it cannot.

    Args:
        row: An annotation.
        place: Where it is, for the losses.
        losses: What is changed or left out.
        classes: What the project's images are given.
    """
    label = row.get("label")
    if not label:
        losses.dropped("annotations", "Roboflow has none without a class", place)
        return None
    if classes != "none":
        if row["type"] != "label":
            losses.dropped("annotations", "the project's images have classes, and no boxes", place)
            return None
        return Sketch(Seen(label, (0.0, 0.0, 0.0, 0.0)))
    outline = _outline(row, place, losses)
    box = row.get("bbox")
    if outline:
        box = boxes_around(outline, [0])[0].tolist()
    if row["type"] in ("label", "polyline") or box is None:
        losses.dropped(
            "annotations", f"Roboflow has no {row['type'].replace('_', ' ')}s beside boxes and outlines", place
        )
        return None
    if box[2] <= 0 or box[3] <= 0:
        losses.dropped("annotations", "a box without an area", place)
        return None
    _tell_unsaid(row, place, losses)
    x, y, width, height = box
    return Sketch(Seen(label, (x, y, width, height)), outline)


def coco_file(name: str, size: tuple[int, int], sketches: Sequence[Sketch]) -> str:
    """An image's annotations as a COCO file; all that it has, where it replaces what is there.

    Args:
        name: The image's file name, as the service has it.
        size: Its width and height.
        sketches: Its annotations.
    """
    labels = list(dict.fromkeys(each.seen.label for each in sketches))
    annotations = [
        {
            "id": number,
            "image_id": 0,
            "category_id": labels.index(each.seen.label),
            "bbox": list(each.seen.box),
            "area": each.seen.box[2] * each.seen.box[3],
            "segmentation": [list(each.outline)] if each.outline else [],
            "iscrowd": 0,
        }
        for number, each in enumerate(sketches, 1)
    ]
    return json.dumps(
        {
            "info": {},
            "licenses": [],
            "categories": [
                {"id": number, "name": label, "supercategory": "none"}
                for number, label in enumerate(labels or ["none"])
            ],
            "images": [{"id": 0, "file_name": name, "width": size[0], "height": size[1]}],
            "annotations": annotations or [_NOTHING],
        }
    )


def class_file(sketches: Sequence[Sketch], classes: Classes) -> str:
    """The classes of an image where a project has only those: a name, or a list of names."""
    labels = [each.seen.label for each in sketches]
    return labels[0] if classes == "one" and labels else json.dumps(labels)


def _outline(row: Row, place: str, losses: LossReport) -> list[float] | None:
    """What is drawn of a row instead of its box; None for the box."""
    if row["type"] == "polyline":
        return None
    parts = [part for part in row.get("polygons") or () if len(part) >= _FEWEST]
    if not parts and row.get("rle") is not None:
        if not valid_rles([row["rle"]], [row["rle_size"]])[0]:
            losses.converted("masks", "broken: only the box is sent", place)
            return None
        parts, has_holes = outline_mask(row["rle"], row["rle_size"])
        parts = [part for part in parts if len(part) >= _FEWEST]
        losses.converted("masks", "sent as their outline", place)
        if has_holes:
            losses.dropped("holes in masks", "Roboflow has no place for them", place)
    if not parts and row.get("rotated_box") is not None:
        losses.converted("rotated boxes", "sent as outlines of four points", place)
        corners: list[float] = rotated_box_corners([row["rotated_box"]])[0].ravel().tolist()
        return corners
    if len(parts) > 1:
        losses.converted("polygons", "several parts, joined by bridges of no width", place)
    return join_parts(parts) if parts else None


def _tell_unsaid(row: Row, place: str, losses: LossReport) -> None:
    if row.get("keypoints") is not None:
        losses.dropped("keypoints", "only the box or outline is sent", place)
    if row.get("iscrowd"):
        losses.dropped("crowd flags", "Roboflow has no place for them", place)
    attributes = row.get("attributes") or {}
    losses.dropped("attributes", "Roboflow has no place for them", place, len(attributes))
