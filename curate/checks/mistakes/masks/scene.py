"""One image: its masks against those that a model predicts, as a few numbers for each.

What is compared is pixels, so it does not matter in how many pieces either side is drawn: an object has so much of it that the
model calls the same, so much that it calls something else, and so much that the model adds around it. A map of classes is taken
apart into its connected regions; of masks that overlap the smaller one is seen, as a segmenter that is trained on them learns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from curate.checks.boxes import NOWHERE, FloatArray, IntArray
from curate.checks.mistakes.masks.shapes import Window, encode, thickness, tight
from curate.checks.mistakes.matching import Pairs, assign

TOUCH: Final = 0.15
"""Share of an object from which on it is the one that the model means."""

_SMALLEST: Final = 4
_SMALLEST_SHARE: Final = 2e-5
"""Regions below so many pixels, or such a share of the image, are the model's noise."""

_NEAR: Final = 0.5
_ALIKE: Final = 3.0


@dataclass(frozen=True)
class Item:
    """One mask of an image: row in its layer's annotations, class, window, confidence, whether it stands for many."""

    row: int
    label: int
    window: Window
    score: float = 1.0
    crowd: bool = False


@dataclass(frozen=True)
class Objects:
    """What was labelled, one row for each object, or for each region of a map of classes; all arrays of shape (n,) but `bbox`.

    Attributes:
        image: Row of the image.
        row: Row in the layer's annotations.
        place: Number among the image's objects.
        label: Class.
        area: Pixels of it that are to be seen.
        bbox: Tightest box, shape (n, 4).
        agree: Share that the model gives the same class.
        other: Largest share that it gives any one other class.
        other_label: That class, or -1.
        precise: Of what the model takes for this object, the share that is labelled so.
        seen: Pixels of that.
        confidence: Of the class that the model mostly gives it; NaN for none.
        thickness: Of what the model takes for it, pixels: 2 * area / length of the outline; NaN for nothing.
        thick: Of the object, likewise.
        parts: Connected regions of the object.
        partner: Where neither this object nor a region of the same class close by has a counterpart: that region's place; or -1.
        pieces: Number of objects that are one annotation.
    """

    image: IntArray
    row: IntArray
    place: IntArray
    label: IntArray
    area: FloatArray
    bbox: FloatArray
    agree: FloatArray
    other: FloatArray
    other_label: IntArray
    precise: FloatArray
    seen: FloatArray
    confidence: FloatArray
    thickness: FloatArray
    thick: FloatArray
    parts: IntArray
    partner: IntArray
    pieces: IntArray

    def __len__(self) -> int:
        return len(self.image)

    def take(self, chosen: IntArray) -> Objects:
        """The chosen rows."""
        return Objects(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})


@dataclass(frozen=True)
class Regions:
    """What was predicted, one row for each object or region; all arrays of shape (m,) but `bbox`.

    Attributes:
        image: Row of the image.
        row: Row in the layer's annotations.
        place: Number among the image's regions.
        label: Class.
        area: Pixels.
        bbox: Tightest box, shape (m, 4).
        confidence: In [0, 1].
        matched: 1 where an object of this class is there, or one that it means by another class; else 0.
        under: Place of the object that most of it lies on, or -1.
        near: 1 where the box of a larger region of its class touches its own: a piece broken off, perhaps.
        partner: 1 where it is an object's `partner`.
    """

    image: IntArray
    row: IntArray
    place: IntArray
    label: IntArray
    area: FloatArray
    bbox: FloatArray
    confidence: FloatArray
    matched: FloatArray
    under: IntArray
    near: FloatArray
    partner: IntArray

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Scene:
    """One image compared: the pieces of both sides, and how they overlap.

    Attributes:
        truth: k objects.
        found: l regions.
        common: Pixels that each object and each region have in common; float64 array of shape (k, l).
        area: Pixels of each object that are to be seen, shape (k,).
        found_area: Pixels of each region that are not in a crowd, shape (l,).
    """

    truth: Sequence[Item]
    found: Sequence[Item]
    common: FloatArray
    area: FloatArray
    found_area: FloatArray


_NOTHING: Final = Scene((), (), np.zeros((0, 0)), np.zeros(0), np.zeros(0))


def compare_maps(truth: Sequence[Item], predicted: Sequence[Item], size: Sequence[int], *, split: bool) -> Scene:
    """Compare labels with a predicted map of classes.

    Args:
        truth: Masks of an image.
        predicted: One mask for each class that the model sees on it.
        size: [height, width].
        split: Whether the labels are a map of classes too, each mask being all regions of its class.
    """
    least = max(_SMALLEST, _SMALLEST_SHARE * size[0] * size[1])
    objects = [piece for item in truth for piece in (_regions(item, _SMALLEST) if split and not item.crowd else [item])]
    found = [piece for item in predicted for piece in _regions(item, least)]
    owner = np.zeros((size[0], size[1]), dtype=np.int32)
    areas = [item.window.area for item in objects]
    for k in sorted(range(len(objects)), key=lambda k: (objects[k].crowd, -areas[k])):
        owner[objects[k].window.slices][objects[k].window.pixels > 0] = -1 if objects[k].crowd else k + 1
    common = np.zeros((len(objects) + 2, len(found)))
    for p, item in enumerate(found):
        under = owner[item.window.slices][item.window.pixels > 0]
        common[:, p] = np.bincount(under + 1, minlength=len(objects) + 2)
    visible = [float(np.count_nonzero(owner[item.window.slices] == k + 1)) for k, item in enumerate(objects)]
    return Scene(objects, found, common[2:], np.array(visible), common[1:].sum(axis=0))


def compare_instances(truth: Sequence[Item], predicted: Sequence[Item], size: Sequence[int]) -> Scene:
    """Compare labels with predicted objects, one to one by their masks' IoU."""
    area, found_area = (np.array([float(item.window.area) for item in side]) for side in (truth, predicted))
    common = np.zeros((len(truth), len(predicted)))
    kept = np.ones(len(predicted), dtype=np.bool_)
    if len(truth) and len(predicted):
        first, second = (
            [{"counts": encode(item.window, size).encode(), "size": list(size)} for item in side]
            for side in (truth, predicted)
        )
        crowd = np.array([item.crowd for item in truth], dtype=np.uint8)
        iou = np.asarray(coco_mask.iou(second, first, crowd)).T
        kept = ~((iou >= 0.5) & (crowd[:, None] == 1)).any(axis=0)
        a, b = np.nonzero((iou >= 0.1) & (crowd[:, None] == 0) & kept)
        pairs = Pairs(a, b, iou[a, b])
        same = _labels(truth)[a] == _labels(predicted)[b]
        score = np.array([item.score for item in predicted])[b]
        best = pairs.take(assign(pairs, pairs.iou + 0.3 * same + 0.2 * score))
        total = area[best.first] + found_area[best.second]
        common[best.first, best.second] = best.iou * total / (1.0 + best.iou)
    area = np.where([item.crowd for item in truth], 0.0, area)
    chosen = np.flatnonzero(kept)
    return Scene(truth, [predicted[k] for k in chosen.tolist()], common[:, chosen], area, found_area[chosen])


def rows(scene: Scene, image: int) -> tuple[Objects, Regions]:
    """The numbers of one compared image. Objects of which nothing is to be seen, and crowds, are left out."""
    label, found_label = _labels(scene.truth), _labels(scene.found)
    same = label[:, None] == found_label
    inside = np.where(same, scene.common, 0.0)
    agreed = inside.sum(axis=1)
    others, other_label = _others(scene, found_label, same)
    # What a region has outside of all objects of its class belongs to them in proportion.
    held = inside.sum(axis=0)
    outside = scene.found_area - held
    extra = np.divide(inside * outside, held, out=np.zeros_like(inside), where=held > 0).sum(axis=1)
    area = np.maximum(scene.area, 1.0)
    swapped = (others > agreed) & (others >= TOUCH * area)
    shown = np.where(swapped, other_label, label)
    meant = scene.common * (shown[:, None] == found_label)
    covers = (meant >= TOUCH * area[:, None]) | (meant >= TOUCH * np.maximum(scene.found_area, 1.0))
    matched = (covers & (meant > 0)).any(axis=0)
    truth_boxes, found_boxes = _boxes(scene.truth), _boxes(scene.found)
    used = (agreed + others >= TOUCH * area) | (scene.area == 0)
    partner = _partners(scene, label, found_label, used, matched, truth_boxes, found_boxes)
    score = np.array([item.score for item in scene.found])
    weight = meant.sum(axis=1)
    thick = np.array([thickness(item.window.pixels) for item in scene.found])
    confidence, thickness_seen = (
        np.divide(meant @ each, weight, out=np.full(len(label), np.nan), where=weight > 0) for each in (score, thick)
    )
    annotation = np.array([item.row for item in scene.truth], dtype=np.int64)
    _, number, pieces = np.unique(annotation, return_inverse=True, return_counts=True)
    keep = np.flatnonzero((scene.area > 0) & ~np.array([item.crowd for item in scene.truth], dtype=np.bool_))
    objects = Objects(
        image=np.full(len(keep), image), row=annotation[keep], place=keep, label=label[keep], area=area[keep],
        bbox=truth_boxes[keep], agree=(agreed / area)[keep], other=(others / area)[keep],
        other_label=other_label[keep], precise=(agreed / np.maximum(agreed + extra, 1.0))[keep],
        seen=(agreed + extra)[keep], confidence=confidence[keep], thickness=thickness_seen[keep],
        thick=np.array([thickness(scene.truth[k].window.pixels) for k in keep.tolist()], dtype=np.float64),
        parts=np.array([_count(scene.truth[k].window) for k in keep.tolist()], dtype=np.int64),
        partner=partner[keep], pieces=pieces[number][keep],
    )  # fmt: skip
    return objects, _region_rows(scene, image, found_label, score, matched, partner, found_boxes)


def joined_objects(parts: Sequence[Objects]) -> Objects:
    """All in one."""
    every = [rows(_NOTHING, 0)[0], *parts]
    return Objects(
        **{each.name: np.concatenate([getattr(part, each.name) for part in every]) for each in fields(Objects)}
    )


def joined_regions(parts: Sequence[Regions]) -> Regions:
    """All in one."""
    every = [rows(_NOTHING, 0)[1], *parts]
    return Regions(
        **{each.name: np.concatenate([getattr(part, each.name) for part in every]) for each in fields(Regions)}
    )


def difference(scene: Scene, place: int, size: Sequence[int]) -> Window | None:
    """The largest connected region in which an object and what the model takes for it differ."""
    item = scene.truth[place]
    drawn = np.zeros((size[0], size[1]), dtype=np.uint8)
    for p in np.flatnonzero(scene.common[place] > 0).tolist():
        other = scene.found[p]
        if other.label == item.label:
            drawn[other.window.slices] |= other.window.pixels
    for k, other in enumerate(scene.truth):
        if k != place and other.label == item.label:
            drawn[other.window.slices][other.window.pixels > 0] = 0
    drawn[item.window.slices] ^= item.window.pixels
    return largest_region(drawn)


def largest_region(pixels: npt.NDArray[np.uint8]) -> Window | None:
    """The largest connected region of a mask; None of an empty one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    if count < 2:
        return None
    return tight(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])), 0, 0)


def _regions(item: Item, least: float) -> list[Item]:
    """The connected regions of a mask that have so many pixels."""
    window = item.window
    count, labels, stats, _ = cv2.connectedComponentsWithStats(window.pixels, connectivity=8)
    found = []
    for number in range(1, count):
        x, y, width, height, area = stats[number].tolist()
        if area >= least:
            own = np.ascontiguousarray(labels[y : y + height, x : x + width] == number, dtype=np.uint8)
            found.append(Item(item.row, item.label, Window(window.x + x, window.y + y, own), item.score, item.crowd))
    return found


def _count(window: Window) -> int:
    """Of its connected regions."""
    return int(cv2.connectedComponents(window.pixels, connectivity=8)[0]) - 1


def _others(scene: Scene, found_label: IntArray, same: npt.NDArray[np.bool_]) -> tuple[FloatArray, IntArray]:
    """For each object the pixels of the other class that the model gives most of it, and that class."""
    k = len(scene.truth)
    classes = np.unique(found_label[found_label >= 0])
    if not len(classes) or not k:
        return np.zeros(k), np.full(k, NOWHERE, dtype=np.int64)
    member = (found_label[:, None] == classes).astype(np.float64)
    by_class = np.where(same, 0.0, scene.common) @ member
    best = by_class.argmax(axis=1)
    pixels = by_class[np.arange(k), best]
    return pixels, np.where(pixels > 0, classes[best], NOWHERE)


def _partners(
    scene: Scene, label: IntArray, found_label: IntArray, used: npt.NDArray[np.bool_], matched: npt.NDArray[np.bool_],
    truth_boxes: FloatArray, found_boxes: FloatArray,
) -> IntArray:  # fmt: skip
    """For objects and regions of one class that have no counterpart, and are close and of a size: one to one, the nearest."""
    partner = np.full(len(label), NOWHERE, dtype=np.int64)
    free, spare = np.flatnonzero(~used), np.flatnonzero(~matched)
    if not len(free) or not len(spare):
        return partner
    a, b = truth_boxes[free][:, None], found_boxes[spare][None]
    distance = np.hypot(*np.moveaxis(a[..., :2] + a[..., 2:] / 2 - b[..., :2] - b[..., 2:] / 2, -1, 0))
    reach = np.maximum(a[..., 2:].max(axis=-1), b[..., 2:].max(axis=-1))
    ratio = scene.area[free][:, None] / np.maximum(scene.found_area[spare], 1.0)
    close = (distance <= _NEAR * reach) & (ratio < _ALIKE) & (ratio > 1 / _ALIKE)
    i, j = np.nonzero(close & (label[free][:, None] == found_label[spare]))
    pairs = Pairs(free[i], spare[j], distance[i, j])
    best = pairs.take(assign(pairs, -pairs.iou))
    partner[best.first] = best.second
    return partner


def _region_rows(
    scene: Scene, image: int, found_label: IntArray, score: FloatArray, matched: npt.NDArray[np.bool_],
    partner: IntArray, found_boxes: FloatArray,
) -> Regions:  # fmt: skip
    count = len(scene.found)
    most = scene.common.max(axis=0, initial=0.0)
    under = np.full(count, NOWHERE, dtype=np.int64)
    on = np.flatnonzero(most >= 0.5 * np.maximum(scene.found_area, 1.0))
    if len(on):
        under[on] = scene.common[:, on].argmax(axis=0)
    low, high = found_boxes[:, :2] - 2, found_boxes[:, :2] + found_boxes[:, 2:] + 2
    touches = (np.minimum(high[:, None], high) > np.maximum(low[:, None], low)).all(axis=2)
    larger = scene.found_area[:, None] > scene.found_area
    near = (touches & larger & (found_label[:, None] == found_label)).any(axis=0)
    keep = np.flatnonzero(scene.found_area > 0)
    regions = Regions(
        image=np.full(count, image), row=np.array([item.row for item in scene.found], dtype=np.int64),
        place=np.arange(count), label=found_label, area=scene.found_area, bbox=found_boxes, confidence=score,
        matched=matched.astype(np.float64), under=under, near=near.astype(np.float64),
        partner=np.isin(np.arange(count), partner).astype(np.int64),
    )  # fmt: skip
    return Regions(**{each.name: getattr(regions, each.name)[keep] for each in fields(Regions)})


def _boxes(items: Sequence[Item]) -> FloatArray:
    return np.array([item.window.bbox for item in items], dtype=np.float64).reshape(-1, 4)


def _labels(items: Sequence[Item]) -> IntArray:
    return np.array([item.label for item in items], dtype=np.int64)
