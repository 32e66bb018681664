"""What the stand-in for Roboflow keeps and gives: images with their boxes, and exports of them; see `roboflow`."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Image:
    """An image of a project."""

    id: str
    name: str
    content: bytes
    size: tuple[int, int]
    created: int
    split: str = "train"
    batch: str = ""
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    boxes: list[dict[str, Any]] | None = None
    labels: list[str] = field(default_factory=list)
    accepted: bool = False
    unknown_for: int = 0


def boxes_of(coco: dict[str, Any]) -> list[dict[str, Any]]:
    """The boxes and outlines of a COCO file with one image."""
    labels = {category["id"]: category["name"] for category in coco["categories"]}
    (image,) = coco["images"]
    boxes = []
    for annotation in coco["annotations"]:
        if annotation["image_id"] != image["id"]:
            continue
        x, y, width, height = annotation["bbox"]
        box: dict[str, Any] = box_at(labels[annotation["category_id"]], x, y, width, height)
        if annotation["segmentation"]:
            (outline,) = annotation["segmentation"]
            box |= {"type": "polygon", "points": [outline[start : start + 2] for start in range(0, len(outline), 2)]}
        boxes.append(box)
    return boxes


def box_at(label: str, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """A box as the service tells of it, by its top-left corner."""
    return {
        "label": label,
        "x": str(x + width / 2),
        "y": str(y + height / 2),
        "width": str(width),
        "height": str(height),
    }


def export(images: list[Image], copies: int) -> bytes:
    """A COCO export: a folder for each split, with several copies of each image."""
    labels = sorted({box["label"] for image in images for box in image.boxes or ()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("README.dataset.txt", "a stand-in's export")
        for split in sorted({image.split for image in images}):
            said: dict[str, Any] = {
                "info": {"description": "Exported"},
                "licenses": [],
                "categories": [{"id": 0, "name": "objects", "supercategory": "none"}]
                + [{"id": number, "name": label, "supercategory": "objects"} for number, label in enumerate(labels, 1)],
                "images": [],
                "annotations": [],
            }
            for image in (image for image in images if image.split == split):
                for copy in range(copies):
                    _add_copy(archive, said, split, image, copy, labels)
            archive.writestr(f"{split}/_annotations.coco.json", json.dumps(said))
    return buffer.getvalue()


def _add_copy(
    archive: zipfile.ZipFile, said: dict[str, Any], split: str, image: Image, copy: int, labels: list[str]
) -> None:
    stem, _, ending = image.name.rpartition(".")
    digest = hashlib.md5(f"{image.id}{copy}".encode()).hexdigest()
    name = f"{stem}_{ending}.rf.{digest}.jpg"
    number = len(said["images"])
    width, height = image.size
    extra = {"name": image.name, "user_metadata": image.metadata}
    said["images"].append({"id": number, "file_name": name, "width": width, "height": height, "extra": extra})
    for box in image.boxes or ():
        wide, high = float(box["width"]), float(box["height"])
        outline = [side for point in box.get("points", ()) for side in point]
        said["annotations"].append(
            {
                "id": len(said["annotations"]),
                "image_id": number,
                "category_id": 1 + labels.index(box["label"]),
                "bbox": [float(box["x"]) - wide / 2, float(box["y"]) - high / 2, wide, high],
                "area": wide * high,
                "segmentation": [outline] if outline else [],
                "iscrowd": 0,
            }
        )
    archive.writestr(f"{split}/{name}", image.content)
