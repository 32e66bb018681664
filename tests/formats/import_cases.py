"""A small dataset in COCO, importing it, and what the store then has. Used by the tests of importing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from curate.dataset import open_dataset
from curate.formats.base import ReadOptions
from curate.formats.importing import ImportResult, import_source

CATEGORIES = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]


def coco(images: int = 4, boxes: int = 3) -> dict[str, Any]:
    """A COCO file's content: `boxes` boxes on each image; every annotation has polygons, attributes and an area."""
    annotations = [
        {
            "id": image * boxes + box + 1,
            "image_id": image + 1,
            "category_id": 1 + (image + box) % 2,
            "bbox": [10.0 + box, 12.5 + image, 20.0, 15.0],
            "area": 300.0,
            "iscrowd": 0,
            "segmentation": [[10.0, 10.0, 30.0, 10.0, 30.0, 25.0 + box]] if box else [],
            "attributes": {"occluded": bool(box)},
        }
        for image in range(images)
        for box in range(boxes)
    ]
    names = [{"id": n + 1, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(images)]
    return {"images": names, "annotations": annotations, "categories": CATEGORIES}


def save(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def load(source: Path, layer: str = "ground_truth", *, strict: bool = False, **options: Any) -> ImportResult:
    return import_source("parts", source, options=ReadOptions(layer=layer, **options), strict=strict, command="import")


def annotated(layer: str = "ground_truth") -> dict[str, dict[str, Any]]:
    """A layer's annotations by id, which must be unique."""
    rows = open_dataset("parts").table("annotations", where=f"layer = '{layer}'").to_pylist()
    by_id = {row["annotation_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def images() -> dict[str, dict[str, Any]]:
    """The images by location, which must be unique."""
    rows = open_dataset("parts").table("images").to_pylist()
    by_location = {row["location"]: row for row in rows}
    assert len(by_location) == len(rows)
    return by_location


def write_images(folder: Path, count: int = 4, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
