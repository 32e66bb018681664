"""Masks made worse for a trial: how likely a mask is drawn badly, seen beside those.

In a copy of the labels one mask at a time is made smaller, made larger, or moved, and compared with the same predictions again.
So it is known what this model, on these images, makes of masks that are wrong, whatever it sees of those that are right;
`curate.checks.mistakes.contrast` tells them from what is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.special import expit, logit

from curate.checks.boxes import NOWHERE, FloatArray
from curate.checks.mistakes.contrast import Examples, contrast
from curate.checks.mistakes.masks.scene import (
    TOUCH,
    Item,
    Objects,
    Scene,
    compare_instances,
    compare_maps,
    joined_objects,
    rows,
)
from curate.checks.mistakes.masks.shapes import Pixels, Window, tight

_OBJECTS: Final = 400
"""Objects whose masks are made worse, at most or so: the next ones tell nothing new."""

_SMALLER: Final = (0.3, 0.75)
_LARGER: Final = (1.3, 2.5)
_MOVED: Final = (0.3, 1.2)
"""Area of the worse mask by that of the mask; how far it is moved, by the square root of its area."""

_MARGIN: Final = 1.2
"""How far around it there is room for that, by its longer side."""

_OVERLAP: Final = 0.6
_KEPT: Final = 0.8
_TRIES: Final = 20
"""A moved mask has no larger IoU with itself, and at least this share of it is still on the image."""

_LEAST: Final = 1e-3

Worsen = Callable[[Pixels, np.random.Generator], npt.NDArray[np.bool_] | None]
"""Takes the mask in a part of its image; None where it cannot be made worse so."""


@dataclass(frozen=True)
class Rehearsed:
    """What was made of masks that were made worse, by how: the same numbers as of objects."""

    smaller: Objects
    larger: Objects
    moved: Objects

    @classmethod
    def joined(cls, parts: Sequence[Rehearsed]) -> Rehearsed:
        """All in one."""
        return cls(**{each.name: joined_objects([getattr(part, each.name) for part in parts]) for each in fields(cls)})


def rehearse(
    scene: Scene, image: int, size: Sequence[int], masks: int, *, is_map: bool, seed: int = 0
) -> list[Rehearsed]:
    """Make some masks of an image worse, one at a time.

    Args:
        scene: The image as it is.
        image: Its number.
        size: [height, width].
        masks: On all images: of many, few are tried.
        is_map: Whether what is compared with is a map of classes.
        seed: Of everything random.
    """
    rng = np.random.default_rng([seed, image])
    usable = [k for k, item in enumerate(scene.truth) if not item.crowd and scene.area[k] > 0 and item.label >= 0]
    chosen = [k for k in usable if rng.random() * max(masks, 1) < _OBJECTS]
    return [
        Rehearsed(
            **{
                name: _compared(
                    scene, place, _worsened(scene.truth[place].window, worsen, size, rng), image, size, is_map
                )
                for name, worsen in _WAYS.items()
            }
        )
        for place in chosen
    ]


def worse_than_usual(objects: Objects, rehearsed: Rehearsed, n_classes: int) -> FloatArray:
    """Probability that each object's mask is drawn badly, by what masks are like that were made worse.

    Args:
        objects: All that were compared; float64 array of shape (n,) comes back, NaN for those of no class.
        rehearsed: The trials.
        n_classes: Number of classes.
    """
    found = np.full(len(objects), np.nan)
    known = np.flatnonzero(objects.label >= 0)
    if not len(known):
        return found
    kinds = [_examples(getattr(rehearsed, each.name)) for each in fields(rehearsed)]
    images = int(objects.image.max()) + 1
    judged = contrast(_examples(objects).take(known), kinds, n_classes, images)
    found[known] = judged.probability.sum(axis=1)
    return found


def both(first: FloatArray, second: FloatArray) -> FloatArray:
    """Two opinions on the same: the mean of their log-odds; the first where there is no second."""
    mean = np.asarray(
        expit(0.5 * sum(logit(np.clip(each, _LEAST, 1.0 - _LEAST)) for each in (first, np.nan_to_num(second))))
    )
    return np.where(np.isnan(second), first, mean)


def _compared(
    scene: Scene, place: int, window: Window | None, image: int, size: Sequence[int], is_map: bool
) -> Objects:
    """The row of one object with another mask; none where there is no such mask."""
    items: list[Item] = list(scene.truth)
    if window is None:
        return joined_objects([])
    items[place] = replace(items[place], window=window)
    again = (
        compare_maps(items, scene.found, size, split=False) if is_map else compare_instances(items, scene.found, size)
    )
    found, _ = rows(again, image)
    return found.take(np.flatnonzero(found.place == place))


def _worsened(window: Window, worsen: Worsen, size: Sequence[int], rng: np.random.Generator) -> Window | None:
    """A mask made worse, in as much of its image as that can take."""
    height, width = window.pixels.shape
    margin = int(np.ceil(_MARGIN * max(height, width))) + 1
    top, left = max(window.y - margin, 0), max(window.x - margin, 0)
    below, right = min(window.y + height + margin, size[0]), min(window.x + width + margin, size[1])
    drawn = np.zeros((below - top, right - left), dtype=np.uint8)
    drawn[window.y - top : window.y - top + height, window.x - left : window.x - left + width] = window.pixels
    worse = worsen(drawn, rng)
    return None if worse is None else tight(worse, left, top)


def _smaller(mask: Pixels, rng: np.random.Generator) -> npt.NDArray[np.bool_] | None:
    """What is furthest from the outline, or a part on one side."""
    share = rng.uniform(*_SMALLER)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        down, across = np.ogrid[: mask.shape[0], : mask.shape[1]]
        value = np.cos(angle) * across + np.sin(angle) * down
    else:
        # Of pixels that are as far, any: of a line one pixel wide all are.
        value = distance_transform_edt(mask) + rng.random(mask.shape)
    inside = mask > 0
    return np.asarray(inside & (value >= np.quantile(value[inside], 1.0 - share)))


def _larger(mask: Pixels, rng: np.random.Generator) -> npt.NDArray[np.bool_] | None:
    """With what is nearest to it."""
    pixels = min(round(np.count_nonzero(mask) * rng.uniform(*_LARGER)), mask.size) - 1
    distance = distance_transform_edt(mask == 0)
    return np.asarray(distance <= np.partition(distance.ravel(), pixels)[pixels])


def _moved(mask: Pixels, rng: np.random.Generator) -> npt.NDArray[np.bool_] | None:
    """In some direction, mostly still on the image."""
    y, x = np.nonzero(mask)
    for _ in range(_TRIES):
        angle, step = rng.uniform(0, 2 * np.pi), rng.uniform(*_MOVED) * len(y) ** 0.5
        down, across = y + round(step * np.sin(angle)), x + round(step * np.cos(angle))
        there = (down >= 0) & (down < mask.shape[0]) & (across >= 0) & (across < mask.shape[1])
        moved = np.zeros(mask.shape, dtype=np.bool_)
        moved[down[there], across[there]] = True
        common = np.count_nonzero(moved & (mask > 0))
        if there.mean() >= _KEPT and common <= _OVERLAP * (np.count_nonzero(moved) + len(y) - common):
            return moved
    return None


_WAYS: Final[dict[str, Worsen]] = {
    "smaller": _smaller,
    "larger": _larger,
    "moved": _moved,
}


def _examples(objects: Objects) -> Examples:
    """How an object and what the model takes for it fit, and what both are like."""
    agreed = objects.agree * objects.area
    agree, precise = (
        logit(np.clip((agreed + 0.5) / (total + 1.0), 0.01, 0.99)) for total in (objects.area, objects.seen)
    )
    confidence = logit(np.clip(np.nan_to_num(objects.confidence, nan=0.05), _LEAST, 1.0 - _LEAST))
    area, seen = np.log(np.maximum(objects.area, 1.0)), np.log1p(objects.seen)
    thick, seen_thick = np.log(objects.thick), np.log(np.nan_to_num(objects.thickness, nan=0.3))
    sides = np.sort(np.log(np.maximum(objects.bbox[:, 2:], 1.0)), axis=1)
    filled = objects.area / np.maximum(objects.bbox[:, 2] * objects.bbox[:, 3], 1.0)
    beside = (objects.partner != NOWHERE).astype(np.float64)
    unseen = (objects.agree + objects.other < TOUCH).astype(np.float64)
    linear = np.column_stack(
        [agree, precise, agree * precise, objects.other, confidence, np.abs(seen - area), beside, unseen, thick, filled,
         np.log(objects.parts)]
    )  # fmt: skip
    raw = np.column_stack(
        [agree, precise, objects.other, confidence, seen - area, seen_thick - thick, beside, area, thick, sides,
         sides[:, 1] - sides[:, 0], filled, objects.parts]
    )  # fmt: skip
    return Examples(np.column_stack([np.ones(len(area)), linear]), raw, objects.label, objects.image)
