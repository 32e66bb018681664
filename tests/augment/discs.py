"""A small dataset of discs and bars on grained boards, some scratched, with masks: what things are cut out of and put on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.dataset import begin
from curate.dataset.ids import annotation_ids, from_ids, image_ids
from curate.dataset.schema import ANNOTATIONS, GROUND_TRUTH, IMAGES
from curate.geometry import encode_rle

HEIGHT, WIDTH = 120, 160
CLASSES = ("disc", "bar", "scratch")


def make_discs(
    folder: Path,
    name: str = "discs",
    *,
    images: int = 12,
    splits: Sequence[str | None] = ("train",),
    dark: Callable[[int], bool] = lambda k: False,
    boxes_only: bool = False,
    suffix: str = ".png",
) -> None:
    """Write images and a dataset of them: 'disc' and 'bar' objects, and a 'scratch' on every third disc.

    Args:
        folder: For the images.
        name: Of the dataset.
        images: How many.
        splits: Given to the images in turn.
        dark: Which images are dark, by number; they are tagged so.
        boxes_only: Leave the masks out.
        suffix: Of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image_table, annotation_table = [], []
    for k in range(images):
        pixels, things = draw_scene(k)
        if dark(k):
            pixels = (pixels * 0.3).astype(np.uint8)
        path = folder / f"{k:03d}{suffix}"
        Image.fromarray(pixels).save(path, quality=83)
        image_id = image_ids([path.name])[0].as_py()
        image_table.append(
            {
                "image_id": image_id,
                "location": path.name,
                "path": str(path),
                "width": WIDTH,
                "height": HEIGHT,
                "split": splits[k % len(splits)],
                "tags": ["dark"] if dark(k) else None,
            }
        )
        annotation_table += [annotation(image_id, label, mask, boxes_only=boxes_only) for label, mask in things]
    ids = annotation_ids(from_ids([row["image_id"] for row in annotation_table]), GROUND_TRUTH, "discs.json")
    rows = [{**row, "annotation_id": each} for row, each in zip(annotation_table, ids.to_pylist(), strict=True)]
    with begin(name, command="make discs", create=True) as transaction:
        transaction.append("images", [pa.Table.from_pylist(image_table, schema=IMAGES)])
        transaction.append("annotations", [pa.Table.from_pylist(rows, schema=ANNOTATIONS)])
        transaction.classes = [{"name": each} for each in CLASSES]


def draw_scene(number: int) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """An image of a disc and a bar, and what is on it with masks."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    board = 120 + 20 * np.sin(x / 7 + number) + rng.normal(0, 4, (HEIGHT, WIDTH))
    pixels = np.repeat(board[..., None], 3, axis=2) * np.array([1.0, 0.8, 0.6])
    radius, centre = rng.uniform(14, 18), (rng.uniform(25, 60), rng.uniform(30, 90))
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    turn, middle = rng.uniform(0, np.pi), (rng.uniform(105, 130), rng.uniform(35, 85))
    along = (x - middle[0]) * np.cos(turn) + (y - middle[1]) * np.sin(turn)
    across = (y - middle[1]) * np.cos(turn) - (x - middle[0]) * np.sin(turn)
    bar = (np.abs(along) < 22) & (np.abs(across) < 6)
    pixels[disc] = (200, 205, 210)
    pixels[bar] = (60, 70, 90)
    things = [("disc", disc), ("bar", bar)]
    if number % 3 == 0:
        scratch = disc & (np.abs(y - centre[1]) < 2) & (np.abs(x - centre[0]) < 7)
        pixels[scratch] = (90, 92, 95)
        things.append(("scratch", scratch))
    return pixels.clip(0, 255).astype(np.uint8), things


def annotation(image_id: str, label: str, mask: np.ndarray, *, boxes_only: bool = False) -> dict[str, Any]:
    """A row without its id."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    bbox = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "image_id": image_id, "layer": GROUND_TRUTH, "type": "box" if boxes_only else "mask", "label": label,
        "bbox": [float(value) for value in bbox], "rle": None if boxes_only else encode_rle(mask),
        "rle_size": None if boxes_only else [HEIGHT, WIDTH], "area": float(mask.sum()), "iscrowd": False,
        "attributes": json.dumps({"occluded": False}),
    }  # fmt: skip
