"""COCO's panoptic segments as annotations with masks (Kirillov et al., "Panoptic Segmentation", 2019; panopticapi).

An annotation stands for a whole image: a PNG in which each pixel's color is the id of its segment, R + 256 G + 256^2 B (0 is
no segment), and ``segments_info`` with id, category, box, area and crowd flag of each. Every segment becomes an annotation as
``instances`` files have them, with its pixels as run lengths, and is read as such from there on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from curate.errors import ImageError
from curate.formats.coco.images import clean_location
from curate.formats.coco.objects import AnnotationObject
from curate.formats.coco.pieces import loads
from curate.formats.losses import LossReport
from curate.formats.mask_images import split_labels
from curate.imaging import load_pixels

SEGMENTS: Final = "segments_info"
"""The field that makes an annotation a panoptic one."""

_FILE_NAME: Final = "file_name"


def segment_folders(annotation_file: Path, root: Path) -> list[Path]:
    """Folders that may hold the PNG files: called like the annotation file and beside it, as COCO's are; or around it."""
    parent, name = annotation_file.parent, annotation_file.stem
    places = [parent / name, root / name, root / "annotations" / name, parent / "panoptic", root / "panoptic", parent]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def segments_of(
    item: AnnotationObject, extras: dict[str, bytes], folders: Sequence[Path], place: str, losses: LossReport
) -> list[bytes]:
    """The segments of a panoptic annotation as JSON objects that an instances file could have.

    Args:
        item: The annotation.
        extras: JSON text of its further fields, `SEGMENTS` among them.
        folders: Where its PNG may be.
        place: What to call it in the loss report.
        losses: Segments without pixels, pixels without a segment, fields of the annotation itself.
    """
    listed = loads(extras[SEGMENTS])
    known = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or len(known) < len(listed):
        losses.dropped("annotations", "panoptic segments that are not a list of objects", place)
    others = sorted(extras.keys() - {SEGMENTS, _FILE_NAME})
    losses.dropped("fields", "of a whole panoptic annotation, not of a segment", f"{place}: {others}", len(others))
    masks, size = _masks(loads(extras.get(_FILE_NAME, b"null")), folders, place, losses)
    found = []
    for content in known:
        segment: dict[str, Any] = {**content, "image_id": item.image_id}
        counts = masks.pop(_segment_id(content), None)
        if counts is not None:
            segment["segmentation"] = {"size": size, "counts": counts}
        elif size:
            losses.converted("annotations", "no pixel of the PNG is this segment's; kept without a mask", place)
        found.append(json.dumps(segment).encode())
    losses.dropped("masks", "pixels of a panoptic PNG whose id no segment has", place, len(masks))
    return found


def _masks(
    name: object, folders: Sequence[Path], place: str, losses: LossReport
) -> tuple[dict[int | None, str], list[int]]:
    """Compressed run lengths by segment id, and [height, width]; both empty where there is no PNG that can be read."""
    location = clean_location(name) if isinstance(name, str) else ""
    path = next((folder / location for folder in folders if location and (folder / location).is_file()), None)
    if path is None:
        losses.converted("annotations", "the panoptic PNG is not there; kept without masks", f"{place}: {name}")
        return {}, []
    try:
        red, green, blue = np.moveaxis(load_pixels(path).astype(np.int32), -1, 0)
        ids = red + 256 * green + 65536 * blue
        return {region.value: region.counts for region in split_labels(ids, skip={0})}, [*ids.shape]
    except ImageError as error:
        losses.converted("annotations", "the panoptic PNG cannot be read; kept without masks", f"{path}: {error.what}")
        return {}, []


def _segment_id(content: dict[str, Any]) -> int | None:
    value = content.get("id")
    return value if isinstance(value, int) and not isinstance(value, bool) else None
