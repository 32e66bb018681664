"""What is left of a label when something is put in front of it: cut to the pixel, in mask, outline, box and keypoints alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from curate.augment.labels import Label, Mask, area_of, mask_of
from curate.geometry import encode_rle, rotated_box_corners
from curate.recipes.shapes import Shape

LEAST_VISIBLE: Final = 0.05
"""Share of an object that must still be seen: of what is less, the label goes with it."""

_HIDDEN, _VISIBLE = 1, 2


def region_of(shape: Shape, height: int, width: int) -> Mask | None:
    """The pixels that a label claims: its mask, else its outline, else its (rotated) box; None for a whole image's label."""
    mask = mask_of(shape, height, width)
    if mask is not None:
        return mask
    if shape.rotated_box is not None:
        corners = rotated_box_corners([shape.rotated_box])[0].ravel().tolist()
        return mask_of(Shape("polygon", polygons=[corners]), height, width)
    return None if shape.bbox is None else _box_region(shape.bbox, height, width)


def occlude(label: Label, region: Mask | None, hidden: Mask) -> Label | None:
    """A label after something was put over a part of its image.

    Masks lose the hidden pixels; an outline that is cut becomes a mask, for it may fall apart or have a hole; a box shrinks to
    what is still seen in it; keypoints behind are hidden ones.

    Args:
        label: As it was.
        region: What it claims (`region_of`).
        hidden: What is covered, bool of shape (height, width).

    Returns:
        The very label where nothing of it is covered; None where hardly anything (`LEAST_VISIBLE`) is left.
    """
    if region is None or not (region & hidden).any():
        return label
    seen = region & ~hidden
    if seen.sum() < max(LEAST_VISIBLE * region.sum(), 1):
        return None
    shape = label.shape
    changed = replace(shape, keypoints=_hide(shape.keypoints, hidden))
    if shape.rle is not None or (shape.polygons and shape.type != "polyline"):
        kind = "mask" if shape.type in {"mask", "polygon"} else shape.type
        changed = replace(changed, type=kind, polygons=None, rle=encode_rle(seen), bbox=box_of(seen), rotated_box=None)
    elif shape.bbox is not None and shape.rotated_box is None:
        changed = replace(changed, bbox=_shrunk(shape.bbox, seen))
    height, width = hidden.shape
    area = None if label.area is None else area_of(changed, height, width)
    size = label.rle_size if changed.rle is None else (height, width)
    return replace(label, shape=changed, area=area, rle_size=size)


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """[x, y, width, height] of the smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)


def _box_region(bbox: object, height: int, width: int) -> Mask:
    """Pixels whose centres are in a box, or the one it is in where it is smaller than that."""
    x, y, w, h = np.asarray(bbox, dtype=np.float64).tolist()
    region = np.zeros((height, width), dtype=bool)
    left, top = int(np.clip(np.floor(x), 0, width - 1)), int(np.clip(np.floor(y), 0, height - 1))
    right, bottom = max(int(np.ceil(min(x + w, width))), left + 1), max(int(np.ceil(min(y + h, height))), top + 1)
    region[top:bottom, left:right] = True
    return region


def _shrunk(bbox: object, seen: Mask) -> tuple[float, ...]:
    """A box as far as it is around what is seen; sides at which nothing was cut stay where they were, to the fraction."""
    x, y, w, h = np.asarray(bbox, dtype=np.float64).tolist()
    left, top, width, height = box_of(seen)
    # The pixels on the box's border are only partly in it.
    low = max(x, left), max(y, top)
    high = min(x + w, left + width), min(y + h, top + height)
    if x < 0 and left == 0:
        low = x, low[1]
    if y < 0 and top == 0:
        low = low[0], y
    if x + w > seen.shape[1] == left + width:
        high = x + w, high[1]
    if y + h > seen.shape[0] == top + height:
        high = high[0], y + h
    return low[0], low[1], high[0] - low[0], high[1] - low[1]


def _hide(keypoints: object, hidden: Mask) -> tuple[float, ...] | None:
    if keypoints is None:
        return None
    points = np.asarray(keypoints, dtype=np.float64).reshape(-1, 3).copy()
    height, width = hidden.shape
    column = np.clip(points[:, 0].astype(np.int64), 0, width - 1)
    row = np.clip(points[:, 1].astype(np.int64), 0, height - 1)
    points[(points[:, 2] == _VISIBLE) & hidden[row, column], 2] = _HIDDEN
    return tuple(points.ravel().tolist())
