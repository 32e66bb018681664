"""Defects taken from one object onto another of the same kind: a scratch of one gear on the next.

Not pixels are carried over but how the defect changes the light: the ratio of what is seen to what the sound surface would look
like there, which is filled in from around the defect (Telea, *Image Inpainting Based on the Fast Marching Method*, JGT 2004).
Multiplied onto the other surface it takes that one's material and light, as gradients do in Poisson cloning (Pérez, Gangnet and
Blake, SIGGRAPH 2003), without their bleeding of colours.

The place follows from the hosts' masks: centre, size and, where a host is longer than wide, direction by its second moments.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.augment.labels import Label, Mask, mask_of, put_label
from curate.augment.objects import INSIDE, MOST
from curate.augment.occlusion import box_of, region_of
from curate.augment.parents import Parent
from curate.augment.scene import Scene
from curate.imaging import Pixels, load_pixels
from curate.recipes.light import decode, encode

FloatArray = npt.NDArray[np.float64]

_TRIES: Final = 12
_LEAST_PIXELS: Final = 6
_LONG: Final = 1.3
_SOFTNESS: Final = 0.7
_LEAST_INSIDE: Final = 0.97
_RATIOS: Final = (0.1, 8.0)
_SCALES: Final = (0.33, 3.0)
_ROOM: Final = 6
# Grey levels of 256; and pixels, sigma, below which light and shade of a surface is its grain.
_LEAST_CHANGE: Final = 4.0
_GRAIN: Final = 2.0


@dataclass(frozen=True, eq=False)
class Defect:
    """A thing with a mask that lies on another object; equal to itself alone.

    Attributes:
        parent: The image.
        label: The thing.
        host: What it lies on.
    """

    parent: Parent
    label: Label
    host: Label


@dataclass(frozen=True)
class Frame:
    """How an object lies on its image.

    Attributes:
        centre: Of its pixels, x and y; shape (2,).
        size: Square root of its area, pixels.
        angle: Direction of its long axis, radians; None where it has none.
    """

    centre: FloatArray
    size: float
    angle: float | None


def find_defects(
    parents: Sequence[Parent], classes: Collection[str], doubted: Collection[str], seed: int
) -> Mapping[str, list[Defect]]:
    """Things of some classes that have a mask and lie on another object: at most `curate.augment.objects.MOST` of each class.

    Args:
        parents: The images, with their labels.
        classes: Of the defects.
        doubted: Ids of annotations that are left out.
        seed: Of the order in which images are looked through.
    """
    found: dict[str, list[Defect]] = {name: [] for name in classes}
    order = np.random.default_rng([seed, len(parents)]).permutation(len(parents))
    for parent in (parents[k] for k in order.tolist()):
        for label in parent.labels:
            if label.label not in found or len(found[label.label]) >= MOST or label.annotation_id in doubted:
                continue
            host = _host_of(label, parent)
            if host is not None and host.annotation_id not in doubted:
                found[label.label].append(Defect(parent, label, host))
    return found


def transplant(scene: Scene, defects: Sequence[Defect], rng: np.random.Generator) -> Scene | None:
    """A scene with a defect on one of its objects that is of the same class as the defect's own host.

    Args:
        scene: The image.
        defects: To choose from.
        rng: Decides which, where and how.

    Returns:
        None where no object can take one.

    Raises:
        ImageError: The defect's image cannot be read any more.
    """
    hosts: dict[str, list[int]] = {}
    for k, label in enumerate(scene.labels):
        if label.label is not None and scene.regions[k] is not None and not label.iscrowd:
            hosts.setdefault(label.label, []).append(k)
    able = [(defect, hosts[defect.host.label]) for defect in defects if defect.host.label in hosts]
    for _ in range(_TRIES if able else 0):
        defect, candidates = able[int(rng.integers(len(able)))]
        done = _onto(scene, candidates[int(rng.integers(len(candidates)))], defect, rng)
        if done is not None:
            return done
    return None


def frame_of(region: Mask) -> Frame:
    """The frame of an object, by the moments of its pixels, at least one."""
    rows, columns = np.nonzero(region)
    points = np.column_stack([columns, rows]) + 0.5
    centre = points.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((points - centre).T) if len(points) > 1 else np.eye(2))
    is_long = values[1] > _LONG**2 * max(values[0], 1e-9)
    angle = float(np.arctan2(vectors[1, 1], vectors[0, 1])) if is_long else None
    return Frame(centre, float(np.sqrt(len(points))), angle)


def map_between(source: Frame, target: Frame, rng: np.random.Generator) -> FloatArray:
    """The map of the plane that takes one object's frame to another's; shape (2, 3).

    A long object has two directions and a round one any: one of them is drawn.
    """
    if source.angle is None or target.angle is None:
        turn = float(rng.uniform(0, 2 * np.pi))
    else:
        turn = target.angle - source.angle + float(rng.integers(2)) * np.pi
    scale = target.size / source.size
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, target.centre - linear @ source.centre])


def light_ratio(pixels: Pixels, defect: Mask) -> npt.NDArray[np.float32]:
    """How a defect changes the light of the surface that it is on.

    Args:
        pixels: Around the defect, shape (h, w, 3).
        defect: Where it is, bool of shape (h, w).

    Returns:
        What is seen, divided by what the sound surface would look like; 1 away from the defect; shape (h, w, 3).
    """
    near = cv2.dilate(defect.astype(np.uint8), np.ones((3, 3), np.uint8))
    sound = cv2.inpaint(np.ascontiguousarray(pixels), near, 3, cv2.INPAINT_TELEA)
    ratio = (decode(pixels) + 1e-3) / (decode(sound) + 1e-3)
    ratio = np.clip(ratio, *_RATIOS)
    ratio[near == 0] = 1.0
    return np.asarray(ratio, dtype=np.float32)


def is_seen(before: Pixels, after: Pixels, mask: Mask) -> bool:
    """Whether a defect can be seen on a surface: it changes it by some grey levels, and by more than the surface's own grain.

    Args:
        before: Around the defect without it, shape (h, w, 3).
        after: With it.
        mask: Where it is, bool of shape (h, w), somewhere at least.
    """
    sound, changed = (
        cv2.cvtColor(np.ascontiguousarray(each), cv2.COLOR_RGB2GRAY).astype(np.float64) for each in (before, after)
    )
    grain = sound - cv2.GaussianBlur(sound, (0, 0), _GRAIN)
    return float(np.abs(changed - sound)[mask].mean()) >= max(_LEAST_CHANGE, float(grain[mask].std()))


def _host_of(label: Label, parent: Parent) -> Label | None:
    """The smallest object that a thing with a mask lies on."""
    mask = mask_of(label.shape, parent.height, parent.width)
    if mask is None or mask.sum() < _LEAST_PIXELS:
        return None
    hosts = []
    for other in parent.labels:
        if other is label or other.label in {None, label.label} or other.iscrowd:
            continue
        region = region_of(other.shape, parent.height, parent.width)
        if region is not None and (region & mask).sum() >= INSIDE * mask.sum() and region.sum() > 2 * mask.sum():
            hosts.append((int(region.sum()), other.annotation_id, other))
    return min(hosts, key=lambda each: each[:2])[2] if hosts else None


def _onto(scene: Scene, place: int, defect: Defect, rng: np.random.Generator) -> Scene | None:
    """The scene with a defect on the object of a number; None where it does not fit there."""
    region = scene.regions[place]
    if region is None or not region.any():
        return None
    cut = _cut(defect)
    there = map_between(cut.host, frame_of(region), rng)
    scale = float(np.sqrt(abs(np.linalg.det(there[:, :2]))))
    if not _SCALES[0] <= scale <= _SCALES[1]:
        return None
    mask, ratio, where = _moved(cut, there, scene.size)
    if mask.sum() < _LEAST_PIXELS:
        return None
    others = [each for k, each in enumerate(scene.regions) if k != place and each is not None]
    kept = mask & _body(scene.labels[place], region)[where] & ~_over(others, region, where)
    if kept.sum() < _LEAST_INSIDE * mask.sum():
        return None
    return _blended(scene, where, kept, ratio, defect)


@dataclass(frozen=True)
class _Cut:
    """A defect with a margin around it.

    Attributes:
        mask: bool of shape (h, w).
        ratio: What it does to the light (`light_ratio`), shape (h, w, 3).
        left: Of the window on its image, pixels.
        top: The same.
        host: Frame of what it lies on.
    """

    mask: Mask
    ratio: npt.NDArray[np.float32]
    left: int
    top: int
    host: Frame


@lru_cache(maxsize=64)
def _cut(defect: Defect) -> _Cut:
    """A defect's mask and ratio, read from its image; the last ones are kept."""
    source = load_pixels(defect.parent.path)
    height, width = source.shape[:2]
    mask, own = (region_of(each.shape, height, width) for each in (defect.label, defect.host))
    assert mask is not None
    assert own is not None
    x, y, w, h = (int(value) for value in box_of(mask))
    rows = slice(max(y - _ROOM, 0), min(y + h + _ROOM, height))
    columns = slice(max(x - _ROOM, 0), min(x + w + _ROOM, width))
    ratio = light_ratio(source[rows, columns], mask[rows, columns])
    return _Cut(mask[rows, columns], ratio, columns.start, rows.start, frame_of(own))


def _moved(
    cut: _Cut, there: FloatArray, size: tuple[int, int]
) -> tuple[Mask, npt.NDArray[np.float32], tuple[slice, slice]]:
    """A defect's mask and ratio at their new place, and where that is on the image."""
    h, w = cut.mask.shape
    corners = np.array([[cut.left + x, cut.top + y] for x in (0, w) for y in (0, h)], dtype=np.float64)
    moved = corners @ there[:, :2].T + there[:, 2]
    low = np.clip(np.floor(moved.min(axis=0)), 0, [size[1], size[0]]).astype(int)
    high = np.clip(np.ceil(moved.max(axis=0)), 0, [size[1], size[0]]).astype(int)
    w, h = (high - low).tolist()
    where = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
    if w <= 0 or h <= 0:
        return np.zeros((0, 0), dtype=bool), np.ones((0, 0, 3), dtype=np.float32), where
    # From pixel centres of the window to those of the place.
    local = there.copy()
    half = np.array([0.5, 0.5])
    local[:, 2] += there[:, :2] @ (np.array([cut.left, cut.top]) + half) - low - half
    soft = cv2.warpAffine(cut.mask.astype(np.float32), local, (w, h), flags=cv2.INTER_LINEAR)
    light = cv2.warpAffine(
        cut.ratio, local, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1.0, 1.0, 1.0)
    )
    return soft >= 0.5, np.asarray(light, dtype=np.float32), where


def _body(host: Label, region: Mask) -> Mask:
    """Where an object itself is: of one with a box alone, the ellipse in it, for in the corners there is something else."""
    if host.shape.rle is not None or host.shape.polygons:
        return region
    x, y, w, h = box_of(region)
    rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
    away = ((columns + 0.5 - x - w / 2) / (w / 2)) ** 2 + ((rows + 0.5 - y - h / 2) / (h / 2)) ** 2
    return np.asarray(region & (away <= 1))


def _over(others: Sequence[Mask], region: Mask, where: tuple[slice, slice]) -> Mask:
    """What on an object is taken: by another defect on it, or by an object in front of it."""
    taken = np.zeros(region[where].shape, dtype=bool)
    area = int(region.sum())
    for other in others:
        if not (other[where] & region[where]).any():
            continue
        # What the object itself lies on takes nothing of it.
        if (other & region).sum() < INSIDE * area:
            taken |= other[where]
    return taken


def _blended(
    scene: Scene, where: tuple[slice, slice], mask: Mask, ratio: npt.NDArray[np.float32], defect: Defect
) -> Scene | None:
    """The scene with a defect on it; None where it could hardly be seen there."""
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    alpha = np.maximum(cv2.GaussianBlur(wide, (0, 0), _SOFTNESS), mask)[..., None]
    below = decode(scene.pixels[where])
    pixels = scene.pixels.copy()
    pixels[where] = encode(below * (1 + alpha * (ratio - 1)))
    if not is_seen(scene.pixels[where], pixels[where], mask):
        return None
    claimed = np.zeros(scene.size, dtype=bool)
    claimed[where] = mask
    label = put_label(defect.label, claimed, box_of(claimed))
    return scene.with_objects(pixels, claimed, [(label, claimed)], defect.parent.image_id, cut=False)
