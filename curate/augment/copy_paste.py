"""Objects cut out of one image and pasted onto another (Ghiasi et al., *Simple Copy-Paste*, CVPR 2021).

Edges are blended, in a width drawn anew each time, so that a model does not learn the seam (Dwibedi, Misra and Hebert, *Cut,
Paste and Learn*, ICCV 2017). An object goes where objects of its class are seen, at the size that they have there, does not cover
much of others, is not cut off by the border, and gets the light of the place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.augment.labels import Label, Mask, put_label
from curate.augment.light import light_of
from curate.augment.objects import Cutout, Donor, cut_out
from curate.augment.occlusion import box_of
from curate.augment.parents import Parent
from curate.augment.scene import Scene
from curate.recipes.light import decode, encode

FloatArray = npt.NDArray[np.float64]

MOST_COVERED: Final = 0.3
"""Share of any object already there that may come to lie under a new one."""

_TRIES: Final = 30
_NEIGHBORS: Final = 15
_SPREAD: Final = 0.04
_SIZE_SPREAD: Final = 0.08
_SCALES: Final = (0.4, 2.0)
_SOFTNESS: Final = (0.4, 1.6)
_MOST_GAIN: Final = 2.5
_MOST_TINT: Final = 1.6
_BELIEVED: Final = 0.5
_NEARER: Final = 0.95
_LEAST_SIDE: Final = 4


@dataclass(frozen=True)
class Ground:
    """Where objects of a class are seen, and how large they are there.

    Attributes:
        places: Centres of their boxes as shares of the image's width and height; shape (n, 2).
        sizes: Logarithms of the square root of their boxes' areas as a share of the image's shorter side; shape (n,).
    """

    places: FloatArray
    sizes: FloatArray

    def size_at(self, place: FloatArray) -> float:
        """Logarithm of the usual size near a place: the median of the nearest."""
        distance = ((self.places - place) ** 2).sum(axis=1)
        count = min(_NEIGHBORS, len(distance))
        return float(np.median(self.sizes[np.argpartition(distance, count - 1)[:count]]))


@dataclass(frozen=True)
class Placed:
    """A cutout, scaled, at its place.

    Attributes:
        donor: Where it is from.
        cutout: What it is.
        scale: Of its size there to the one it had.
        left: Of its window, pixels; may be off the image where the object itself is not.
        top: The same.
    """

    donor: Donor
    cutout: Cutout
    scale: float
    left: int
    top: int


def learn_ground(parents: Sequence[Parent], classes: Collection[str]) -> Mapping[str, Ground]:
    """Where objects of some classes are seen, from all that are labelled with a box."""
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in classes}
    for parent in parents:
        for label in parent.labels:
            if label.label in rows and label.shape.bbox is not None and not label.iscrowd:
                x, y, w, h = label.shape.bbox
                size = np.log(np.sqrt(max(w, 1) * max(h, 1)) / min(parent.width, parent.height))
                rows[label.label].append(((x + w / 2) / parent.width, (y + h / 2) / parent.height, float(size)))
    arrays = {name: np.array(each, dtype=np.float64).reshape(-1, 3) for name, each in rows.items()}
    return {name: Ground(each[:, :2], each[:, 2]) for name, each in arrays.items() if len(each)}


def paste_object(
    scene: Scene,
    donors: Sequence[Donor],
    ground: Ground,
    rng: np.random.Generator,
    distance_of: Callable[[Donor], float | None] = lambda donor: None,
) -> Scene | None:
    """A scene with one more object.

    Args:
        scene: The image.
        donors: Objects of one class to choose from.
        ground: Where those are seen.
        rng: Decides which, where and how.
        distance_of: How far away a donor is on its own image, in metres; None where that is not known.

    Returns:
        None where no place was found.

    Raises:
        ImageError: The donor's image cannot be read any more.
    """
    donor = donors[int(rng.integers(len(donors)))]
    if donor.parent.image_id == scene.parents[0] and len(donors) > 1:
        donor = donors[int(rng.integers(len(donors)))]
    cutout = cut_out(donor)
    distance = distance_of(donor)
    for _ in range(_TRIES):
        placed = _place(scene, donor, cutout, ground, distance, rng)
        if placed is None:
            continue
        window, masks = _masks(placed, scene.size)
        mask = _in_front(scene, window, masks[0])
        if mask is None or not _may_lie(scene, window, mask):
            continue
        return _pasted(scene, placed, window, [mask, *(each & mask for each in masks[1:])], rng)
    return None


def _place(
    scene: Scene, donor: Donor, cutout: Cutout, ground: Ground, distance: float | None, rng: np.random.Generator
) -> Placed | None:
    """A place drawn from where objects of the class are seen; None where the object would not be wholly on the image."""
    height, width = scene.size
    x, y, w, h = box_of(cutout.mask)
    own = donor.parent
    was = np.array([(cutout.left + x + w / 2) / own.width, (cutout.top + y + h / 2) / own.height])
    place = ground.places[int(rng.integers(len(ground.places)))] + rng.normal(0, _SPREAD, 2)
    if not ((place > 0) & (place < 1)).all():
        return None
    wanted = ground.size_at(place) - ground.size_at(was)
    scale = float(np.exp(wanted) * min(height, width) / min(own.height, own.width))
    there = _depth_at(scene, place)
    if distance is not None and there is not None:
        scale = distance / there * width / own.width
    scale *= float(np.exp(rng.normal(0, _SIZE_SPREAD)))
    if not _SCALES[0] <= scale <= _SCALES[1] or min(w, h) * scale < _LEAST_SIDE:
        return None
    left = round(place[0] * width - (x + w / 2) * scale)
    top = round(place[1] * height - (y + h / 2) * scale)
    if left + x * scale < 1 or top + y * scale < 1:
        return None
    if left + (x + w) * scale > width - 1 or top + (y + h) * scale > height - 1:
        return None
    return Placed(donor, cutout, scale, left, top)


def _depth_at(scene: Scene, place: FloatArray) -> float | None:
    if scene.depth is None:
        return None
    height, width = scene.size
    value = float(scene.depth[int(place[1] * height), int(place[0] * width)])
    return value if np.isfinite(value) and value > 0 else None


def _masks(placed: Placed, size: tuple[int, int]) -> tuple[tuple[slice, slice], list[Mask]]:
    """Where the scaled window lies on the image, and the masks in it: the object's, then those of what is on it."""
    height, width = size
    h, w = _scaled_size(placed)
    rows = slice(max(placed.top, 0), min(placed.top + h, height))
    columns = slice(max(placed.left, 0), min(placed.left + w, width))
    masks = [
        _scaled(mask.astype(np.float32), placed)[_within(placed, rows, columns)] >= 0.5
        for mask in (placed.cutout.mask, *placed.cutout.nested)
    ]
    return (rows, columns), masks


def _in_front(scene: Scene, window: tuple[slice, slice], mask: Mask) -> Mask | None:
    """The part of an object with nothing nearer before it, where depths are known; None where hardly anything is left."""
    if scene.depth is None or not mask.any():
        return mask if mask.any() else None
    depth = scene.depth[window]
    foot = np.flatnonzero(mask.any(axis=1))[-1]
    stands = np.median(depth[foot, mask[foot]])
    if not np.isfinite(stands):
        return mask
    left = mask & ~(depth < _NEARER * stands)
    return left if left.sum() >= (1 - MOST_COVERED) * mask.sum() else None


def _may_lie(scene: Scene, window: tuple[slice, slice], mask: Mask) -> bool:
    """Whether an object covers no other one beyond a share, nor is mostly within one."""
    area = int(mask.sum())
    for region in scene.regions:
        if region is None:
            continue
        covered = int((region[window] & mask).sum())
        if covered and (covered > MOST_COVERED * int(region.sum()) or covered > MOST_COVERED * area):
            return False
    return True


def _pasted(
    scene: Scene, placed: Placed, window: tuple[slice, slice], masks: Sequence[Mask], rng: np.random.Generator
) -> Scene:
    mask, nested = masks[0], masks[1:]
    below = decode(scene.pixels[window])
    within = _within(placed, *window)
    above = _scaled(decode(placed.cutout.pixels), placed)[within] * _gain(scene, below, mask, placed.cutout)
    # Blended inwards: what is next to the object on its own image stays there.
    softness = float(rng.uniform(*_SOFTNESS))
    blurred = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), softness)
    alpha = np.clip(2 * blurred - 0.5, 0.0, 1.0) * mask
    pixels = scene.pixels.copy()
    pixels[window] = encode(below + alpha[..., None] * (above - below))
    hidden = np.zeros(scene.size, dtype=bool)
    hidden[window] = mask
    added = [_label(placed.donor.label, hidden)]
    for label, part in zip(placed.donor.nested, nested, strict=True):
        region = np.zeros(scene.size, dtype=bool)
        region[window] = part
        if region.any():
            added.append(_label(label, region))
    return scene.with_objects(pixels, hidden, added, placed.donor.parent.image_id)


def _gain(scene: Scene, below: npt.NDArray[np.float32], mask: Mask, cutout: Cutout) -> npt.NDArray[np.float32]:
    """By what an object's light is multiplied, per channel, so that it has that of the place.

    Its colour is that of the whole images' light. Its strength is between those of the whole images and of the ground around the
    object then and now, which says more where the ground is the same and less where it is not: half of the ratio is believed.
    """
    around = below[~mask] if not mask.all() else below.reshape(-1, 3)
    whole = light_of(scene.pixels) / cutout.light
    ground = (float(around.mean()) + 1e-3) / (float(cutout.ground.mean()) + 1e-3)
    brightness = float(np.exp(np.log(whole).mean()))
    strength = np.clip((ground * brightness) ** (0.5 * _BELIEVED), 1 / _MOST_GAIN, _MOST_GAIN)
    return np.asarray(strength * np.clip(whole / brightness, 1 / _MOST_TINT, _MOST_TINT), dtype=np.float32)


def _label(label: Label, region: Mask) -> tuple[Label, Mask]:
    return put_label(label, region, box_of(region)), region


def _scaled_size(placed: Placed) -> tuple[int, int]:
    h, w = placed.cutout.mask.shape
    return max(round(h * placed.scale), 1), max(round(w * placed.scale), 1)


def _scaled(values: npt.NDArray[np.float32], placed: Placed) -> npt.NDArray[np.float32]:
    h, w = _scaled_size(placed)
    if values.shape[:2] == (h, w):
        return values
    how = cv2.INTER_AREA if placed.scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, (w, h), interpolation=how), dtype=np.float32)


def _within(placed: Placed, rows: slice, columns: slice) -> tuple[slice, slice]:
    """The part of the scaled window that is on the image."""
    return (
        slice(rows.start - placed.top, rows.stop - placed.top),
        slice(columns.start - placed.left, columns.stop - placed.left),
    )
