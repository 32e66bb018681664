"""The masks of Open Images: PNG files, and the boxes they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.dataset.ids import Hashes, mix
from curate.errors import ImageError
from curate.formats.columns import Floats, Ints
from curate.formats.losses import LossReport
from curate.formats.open_images.images import Images
from curate.formats.open_images.tables import Codes, TableFile, as_numbers, batches
from curate.geometry import encode_rle
from curate.imaging import load_labels

MASK_COLUMNS: Final = (
    "MaskPath", "ImageID", "LabelName", "BoxID", "BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax", "PredictedIoU", "Clicks",
)  # fmt: skip
"""Columns of the files that list masks."""

_STEPS: Final = 1e5


@dataclass(frozen=True)
class Masks:
    """n masks, by `key`.

    Attributes:
        key: What a mask and its box have in common (`box_keys`), increasing, shape (n,).
        image: Row of each one's image, shape (n,).
        label: Number of its MID, shape (n,).
        box: XMin, XMax, YMin, YMax; NaN where not given; shape (n, 4).
        texts: BoxID, PredictedIoU and Clicks, as written.
        paths: Its file; None where it is not there.
        places: What to call each in the report.
    """

    key: Hashes
    image: Ints
    label: Ints
    box: Floats
    texts: Sequence[tuple[str | None, str | None, str | None]]
    paths: Sequence[Path | None]
    places: Sequence[str]


def box_keys(image: Ints, label: Ints, box: Floats) -> Hashes:
    """What tells the boxes of n rows apart: image, class and corners to a hundred-thousandth; shape (n,)."""
    finite = np.nan_to_num(box, nan=-1.0, posinf=-1.0, neginf=-1.0).clip(-1e6, 1e6)
    corners = np.round(finite * _STEPS).astype(np.int64).astype(np.uint64)
    return mix(image.astype(np.uint64), label.astype(np.uint64), *corners.T)


def read_masks(
    files: Iterable[TableFile], mask_files: dict[str, Path], ids: Codes, mids: Codes, images: Images, losses: LossReport
) -> Masks:
    """Every row of the mask files whose image is there.

    Args:
        files: The mask CSVs.
        mask_files: Files by name.
        ids: Numbers of image ids.
        mids: Numbers of MIDs.
        images: Where they are.
        losses: Rows that cannot be kept.
    """
    image_parts, label_parts, box_parts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 4))]
    texts: list[tuple[str | None, str | None, str | None]] = []
    paths: list[Path | None] = []
    places: list[str] = []
    for file in files:
        for batch in batches(file, MASK_COLUMNS, losses):
            numbers, label = ids.of(batch["ImageID"], grow=False), mids.of(batch["LabelName"], grow=False)
            good = (numbers >= 0) & (label >= 0)
            losses.dropped("masks", "no image or no class is named", file.name, int((~good).sum()))
            image = np.where(good, images.row[numbers], -1)
            left_out = good & (image < 0)
            losses.dropped("masks", "their image is not there", file.name, int(left_out.sum()))
            kept = pa.array(good & (image >= 0))
            image_parts.append(image[np.asarray(kept)])
            label_parts.append(label[np.asarray(kept)])
            box = np.stack([as_numbers(batch[name].filter(kept)) for name in MASK_COLUMNS[4:8]], axis=1)
            box_parts.append(box)
            columns = [batch[name].filter(kept).to_pylist() for name in ("BoxID", "PredictedIoU", "Clicks")]
            texts += zip(*columns, strict=True)
            for name in batch["MaskPath"].filter(kept).to_pylist():
                paths.append(mask_files.get(PurePosixPath(name or "").name))
                places.append(f"{file.name}: {name}")
    image, label, box = np.concatenate(image_parts), np.concatenate(label_parts), np.concatenate(box_parts)
    key = box_keys(image, label, box)
    order = np.argsort(key, kind="stable")
    rows = order.tolist()
    return Masks(
        key[order],
        image[order],
        label[order],
        box[order],
        [texts[row] for row in rows],
        [paths[row] for row in rows],
        [places[row] for row in rows],
    )


def draw_mask(masks: Masks, row: int, stored: Ints, losses: LossReport) -> tuple[str, list[int]] | None:
    """A mask's run lengths and size, [height, width]; None where its file cannot be read, which is reported.

    Masks were drawn at other sizes than the images are, so they are scaled to the image where its size is known.

    Args:
        masks: All of them.
        row: Which.
        stored: Width and height of its image, 0 where they are not known.
        losses: Gets masks that cannot be read, and those that were scaled.
    """
    path = masks.paths[row]
    if path is None:
        losses.dropped("masks", "the mask's file is not there", masks.places[row])
        return None
    try:
        values = load_labels(path).values
    except ImageError as error:
        losses.dropped("masks", "the mask's file cannot be read", f"{masks.places[row]}: {error.what}")
        return None
    mask = (values if values.ndim == 2 else values.max(axis=2)) > 0
    width, height = (int(side) for side in stored)
    if width > 0 and mask.shape != (height, width):
        losses.converted("masks", "drawn at another size than the image: scaled to it", masks.places[row])
        mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    return encode_rle(mask), [int(side) for side in mask.shape]
