"""Close-ups of rendered parts with their scratches and dents outlined: what a camera over one part sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.demo import load_truth
from curate.demo.pictures import Picture
from curate.demo.render import DEFECT_LABELS, PART_LABELS
from curate.geometry import decode_rle, encode_rle
from curate.imaging import Pixels, load_pixels

WINDOW: Final = (96, 128)
"""(height, width) of the picture that a close-up shows."""

_ENLARGED: Final = 2
_SMALLEST: Final = 10  # pixels of a defect
_WHOLE: Final = 0.6  # share of the close-ups with defects; the rest are of parts without


@dataclass(frozen=True)
class CloseUp:
    """A window of a picture around a part.

    Attributes:
        pixels: As large as `WINDOW`.
        masks: Of the defects in it, with their class.
        split: The picture's.
    """

    pixels: Pixels
    masks: list[tuple[str, npt.NDArray[np.uint8]]]
    split: str


def write_closeups(parts: Path, folder: Path, seed: int) -> Path:
    """Close-ups of a rendered set, enlarged, with COCO files of their defects; returns the folder.

    Args:
        parts: A folder of `curate.demo.make_parts`.
        folder: Of images/SPLIT and annotations/instances_SPLIT.json.
        seed: Which parts without defects are shown.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[CloseUp]] = {}
    for picture in load_truth(parts).pictures:
        for shown in closeups(picture, load_pixels(parts / picture.file)):
            found.setdefault(shown.split, []).append(shown)
    for split, own in found.items():
        faulty = [each for each in own if each.masks]
        sound = [each for each in own if not each.masks]
        most = round(len(faulty) * (1 - _WHOLE) / _WHOLE)
        kept = [*faulty, *(sound[row] for row in rng.permutation(len(sound))[:most])]
        _write(folder, split, kept)
    return folder


def closeups(picture: Picture, pixels: Pixels) -> Iterator[CloseUp]:
    """One for each part of a picture."""
    defects = [each for each in picture.annotations if each.label in DEFECT_LABELS and each.counts is not None]
    masks = [(each.label, decode_rle(str(each.counts), (picture.height, picture.width))) for each in defects]
    for part in picture.annotations:
        if part.label in PART_LABELS:
            x, y, width, height = part.bbox
            top = int(np.clip(y + height / 2 - WINDOW[0] / 2, 0, picture.height - WINDOW[0]))
            left = int(np.clip(x + width / 2 - WINDOW[1] / 2, 0, picture.width - WINDOW[1]))
            window = slice(top, top + WINDOW[0]), slice(left, left + WINDOW[1])
            inside = [(label, mask[window]) for label, mask in masks]
            yield CloseUp(pixels[window], [each for each in inside if int(each[1].sum()) >= _SMALLEST], picture.split)


def enlarged(pixels: Pixels, times: float, interpolation: int = cv2.INTER_CUBIC) -> Pixels:
    """An image, or a mask, so many times as large."""
    return np.asarray(cv2.resize(pixels, None, fx=times, fy=times, interpolation=interpolation))


def _write(folder: Path, split: str, shown: list[CloseUp]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    target = folder / "images" / split
    target.mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(shown):
        large = enlarged(each.pixels, _ENLARGED)
        height, width = large.shape[:2]
        name = f"{split}_{number:05d}.jpg"
        cv2.imwrite(str(target / name), large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, mask in each.masks:
            drawn = enlarged(mask, _ENLARGED, cv2.INTER_NEAREST)
            x, y, across, down = cv2.boundingRect(drawn)
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_id": DEFECT_LABELS.index(label),
                    "bbox": [x, y, across, down], "area": int(drawn.sum()), "iscrowd": 0,
                    "segmentation": {"size": [height, width], "counts": encode_rle(drawn)},
                }
            )  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(DEFECT_LABELS)]
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
