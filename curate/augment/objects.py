"""Objects that can be taken from where they are: cut out whole, with their masks and with what is labelled on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.augment.labels import Label, Mask, mask_of
from curate.augment.light import light_of
from curate.augment.occlusion import box_of, region_of
from curate.augment.parents import Parent
from curate.dataset import Dataset
from curate.imaging import Pixels, load_pixels
from curate.recipes.light import decode

FloatArray = npt.NDArray[np.float64]

MOST: Final = 2000
"""Objects of a class that are kept to take from; more would be looked through and hardly used."""

INSIDE: Final = 0.8
"""Share of a thing that must be on another one for it to belong to that."""

_LEAST_SIDE: Final = 6
_TOUCH: Final = 2
_DOUBTED: Final = ("mislabeled", "spurious", "mislocated", "bad_mask")
_FLAGGED: Final = 0.5


@dataclass(frozen=True, eq=False)
class Donor:
    """An object on a parent image; equal to itself alone.

    Attributes:
        parent: The image.
        label: The object.
        nested: What else is labelled on it.
    """

    parent: Parent
    label: Label
    nested: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Cutout:
    """An object with a margin around it.

    Attributes:
        pixels: uint8 of shape (h, w, 3).
        mask: The object's, bool of shape (h, w).
        nested: Masks of what is on it, the same shape.
        left: Of the window on its image, pixels.
        top: The same.
        ground: Mean light around the object, linear, of shape (3,).
        light: The light of its whole image (`curate.augment.light.light_of`), the same.
    """

    pixels: Pixels
    mask: Mask
    nested: tuple[Mask, ...]
    left: int
    top: int
    ground: npt.NDArray[np.float32]
    light: npt.NDArray[np.float32]


def doubted_labels(dataset: Dataset) -> frozenset[str]:
    """Annotations that open findings say are more likely wrong than right: copies of them would be wrong as well."""
    kinds = ", ".join(f"'{kind}'" for kind in _DOUBTED)
    condition = f"kind IN ({kinds}) AND score >= {_FLAGGED} AND status NOT IN ('rejected', 'fixed')"
    found = dataset.table("findings", columns=["annotation_id"], where=condition)["annotation_id"]
    return frozenset(each for each in found.to_pylist() if each is not None)


def whole_objects(
    parents: Sequence[Parent], classes: Collection[str], doubted: Collection[str], seed: int
) -> Mapping[str, list[Donor]]:
    """Objects that can be cut out: with a mask, not at the border, and with nothing in front of them.

    Args:
        parents: The images, with their labels.
        classes: Of which objects are wanted.
        doubted: Ids of annotations that are left out.
        seed: Of the order in which objects are looked through.

    Returns:
        At most `MOST` of each class.
    """
    found: dict[str, list[Donor]] = {name: [] for name in classes}
    order = np.random.default_rng([seed, len(parents)]).permutation(len(parents))
    for parent in (parents[k] for k in order.tolist()):
        wanted = {name for name in classes if len(found[name]) < MOST}
        if not wanted & {label.label for label in parent.labels}:
            continue
        for donor in _on_image(parent, wanted, doubted):
            found[str(donor.label.label)].append(donor)
    return found


def _on_image(parent: Parent, classes: Collection[str], doubted: Collection[str]) -> list[Donor]:
    height, width = parent.height, parent.width
    regions = [region_of(label.shape, height, width) for label in parent.labels]
    areas = [0 if region is None else int(region.sum()) for region in regions]
    donors = []
    for k, label in enumerate(parent.labels):
        region = regions[k]
        if label.label not in classes or label.annotation_id in doubted or label.iscrowd or region is None:
            continue
        if mask_of(label.shape, height, width) is None or not _is_inside(region):
            continue
        nested, others = [], []
        for j, other in enumerate(parent.labels):
            around = regions[j]
            if j == k or around is None:
                continue
            shared = int((around & region).sum())
            if shared >= INSIDE * areas[j] and 2 * areas[j] < areas[k]:
                nested.append(other)
            elif not (shared >= INSIDE * areas[k] and 2 * areas[k] < areas[j]):  # what it lies on itself hides nothing
                others.append(around)
        if any((_grown(region) & other).any() for other in others):
            continue
        if not any(each.annotation_id in doubted for each in nested):
            donors.append(Donor(parent, label, tuple(nested)))
    return donors


def _is_inside(region: Mask) -> bool:
    """Whether an object is large enough to be of use, and does not touch the border, where it may be cut off."""
    if not region.any():
        return False
    x, y, w, h = box_of(region)
    height, width = region.shape
    return bool(min(w, h) >= _LEAST_SIDE and x > 0 and y > 0 and x + w < width and y + h < height)


def _grown(region: Mask) -> Mask:
    import cv2

    side = 2 * _TOUCH + 1
    return np.asarray(cv2.dilate(region.astype(np.uint8), np.ones((side, side), np.uint8)), dtype=bool)


@lru_cache(maxsize=32)
def cut_out(donor: Donor) -> Cutout:
    """An object's pixels and masks, read from its image; the last ones are kept.

    Raises:
        ImageError: Its image cannot be read any more.
    """
    pixels = load_pixels(donor.parent.path)
    height, width = pixels.shape[:2]
    mask = mask_of(donor.label.shape, height, width)
    assert mask is not None
    x, y, w, h = (int(value) for value in box_of(mask))
    margin = max(4, round(0.2 * max(w, h)))
    rows = slice(max(y - margin, 0), min(y + h + margin, height))
    columns = slice(max(x - margin, 0), min(x + w + margin, width))
    inner = mask[rows, columns]
    nested = [region_of(label.shape, height, width) for label in donor.nested]
    window = np.ascontiguousarray(pixels[rows, columns])
    around = decode(window[~inner]) if not inner.all() else decode(window.reshape(-1, 3))
    return Cutout(
        window, inner, tuple(each[rows, columns] for each in nested if each is not None), columns.start, rows.start,
        around.mean(axis=0), light_of(pixels),
    )  # fmt: skip
