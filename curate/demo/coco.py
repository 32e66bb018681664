"""Writing what was rendered as COCO instances files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.demo.pictures import BBox, encode_mask
from curate.files import write_atomic


@dataclass(frozen=True)
class Region:
    """One labelled thing.

    Attributes:
        label: Its class.
        bbox: [x, y, width, height], pixels.
        counts: The mask's compressed COCO run lengths; None where there is a box only.
        area: Of the mask (or the box), pixels.
    """

    label: str
    bbox: BBox
    counts: str | None
    area: float

    @classmethod
    def of_mask(cls, label: str, mask: npt.NDArray[np.bool_]) -> Region:
        """The region of a mask, bool of shape (height, width), which must not be empty."""
        counts, bbox, area = encode_mask(mask.astype(np.uint8))
        return cls(label, bbox, counts, area)

    @classmethod
    def of_box(cls, label: str, bbox: BBox) -> Region:
        """The region of a box alone."""
        return cls(label, bbox, None, bbox[2] * bbox[3])


@dataclass(frozen=True)
class Labelled:
    """One image with its labels.

    Attributes:
        file: Name relative to the folder of images, with forward slashes.
        width: Pixels.
        height: Pixels.
        regions: What is labelled on it.
        facts: What else is known of it; an import keeps it as metadata.
    """

    file: str
    width: int
    height: int
    regions: tuple[Region, ...]
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


def write_coco(path: Path, images: Sequence[Labelled], classes: Sequence[str]) -> Path:
    """Write images and labels as one COCO instances file; returns its path. Ids are numbered from 1."""
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, 1):
        size = {"width": image.width, "height": image.height}
        rows.append({"id": number, "file_name": image.file, **size, **image.facts})
        for region in image.regions:
            outline = {"size": [image.height, image.width], "counts": region.counts} if region.counts else []
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": classes.index(region.label) + 1,
                    "bbox": list(region.bbox), "area": region.area, "iscrowd": 0, "segmentation": outline,
                }
            )  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    value = {"images": rows, "annotations": annotations, "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(value, separators=(",", ":")).encode())
    return path
