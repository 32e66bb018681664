"""What is known of a rendered image: its picture-taking and its annotations, and small operations on their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.geometry import decode_rle, encode_rle

BBox = tuple[float, float, float, float]
"""[x, y, width, height], pixels."""


@dataclass(frozen=True)
class Annotation:
    """One labelled thing.

    Attributes:
        id: Unique in the whole set.
        label: Its class.
        bbox: The tightest around the mask.
        counts: The mask's compressed COCO run lengths; None where there is no mask.
        area: Of the mask (or the box), pixels.
        visible: Part of the thing that is to be seen, in (0, 1].
        truncated: The image's border cuts it.
    """

    id: int
    label: str
    bbox: BBox
    counts: str | None
    area: float
    visible: float = 1.0
    truncated: bool = False


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        id: Unique in the whole set.
        file: Path below the set's root, with forward slashes: 'images/train/cam-a_00007.jpg'.
        width: Pixels.
        height: Pixels.
        split: 'train', 'val' or 'test'.
        camera: What took it.
        lighting: The lamps.
        background: What the parts lie on.
        group: Name of the burst it is a frame of, or None.
        frame: Its place in the burst.
        annotations: What is on it.
    """

    id: int
    file: str
    width: int
    height: int
    split: str
    camera: str
    lighting: str
    background: str
    group: str | None
    frame: int
    annotations: tuple[Annotation, ...]

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.file.rpartition("/")[2]

    def to_json(self) -> dict[str, Any]:
        """The picture as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Picture:
        """The inverse of `to_json`."""
        annotations = tuple(Annotation(**{**row, "bbox": tuple(row["bbox"])}) for row in value["annotations"])
        return cls(**{**value, "annotations": annotations})


def decode_mask(counts: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A mask from its run lengths: uint8 array of shape (height, width), 0 or 1."""
    return decode_rle(counts, [height, width])


def encode_mask(mask: npt.NDArray[np.uint8]) -> tuple[str, BBox, float]:
    """Run lengths, tightest box and area of a mask, uint8 of shape (height, width), which must not be empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = float(columns[0]), float(rows[0])
    bbox = (left, top, float(columns[-1]) + 1 - left, float(rows[-1]) + 1 - top)
    return encode_rle(mask), bbox, float(mask.sum())


def iou(box: BBox, others: Sequence[BBox]) -> npt.NDArray[np.float64]:
    """Intersection over union of a box with n others; shape (n,)."""
    inter, area, areas = _overlaps(box, others)
    return inter / np.maximum(area + areas - inter, 1e-9)


def covered(box: BBox, others: Sequence[BBox]) -> npt.NDArray[np.float64]:
    """Part of a box that each of n others covers; shape (n,)."""
    inter, area, _ = _overlaps(box, others)
    return inter / max(area, 1e-9)


def _overlaps(box: BBox, others: Sequence[BBox]) -> tuple[npt.NDArray[np.float64], float, npt.NDArray[np.float64]]:
    x, y, w, h = np.asarray(others, dtype=np.float64).reshape(-1, 4).T
    across = np.clip(np.minimum(x + w, box[0] + box[2]) - np.maximum(x, box[0]), 0, None)
    down = np.clip(np.minimum(y + h, box[1] + box[3]) - np.maximum(y, box[1]), 0, None)
    return across * down, box[2] * box[3], w * h
