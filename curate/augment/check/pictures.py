"""What is looked at: image files, which of them say much the same, and what is labelled on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.checks.boxes import FloatArray, IntArray


@dataclass(frozen=True)
class Thing:
    """One labelled thing.

    Attributes:
        label: Its class.
        bbox: [x, y, width, height] in pixels of the full-size image; None for the label of the whole image.
        rle: COCO compressed run lengths of its mask, of the image's size; None where there is none.
        pasted: Whether it was put onto the image.
    """

    label: str
    bbox: tuple[float, float, float, float] | None = None
    rle: str | None = None
    pasted: bool = False


@dataclass(frozen=True)
class Picture:
    """An image file, and what is on it.

    Attributes:
        path: The file.
        size: (height, width) in pixels, after EXIF orientation.
        group: Images of one group say much the same: frames of a video; an image and all that was made from it.
        things: What is labelled on it.
    """

    path: str
    size: tuple[int, int]
    group: str
    things: tuple[Thing, ...] = ()


def group_numbers(*sets: Sequence[Picture]) -> list[IntArray]:
    """A number for each picture's group, the same in all sets; one array of shape (n,) for each."""
    numbers: dict[str, int] = {}
    return [
        np.array([numbers.setdefault(each.group, len(numbers)) for each in pictures], dtype=np.int64)
        for pictures in sets
    ]


def draw(count: int, most: int, seed: int) -> IntArray:
    """At most so many of `count` rows, drawn at random, ascending."""
    rows = np.random.default_rng([seed, count]).permutation(count)[:most]
    return np.sort(rows).astype(np.int64)


def boxes_and_sizes(pictures: Sequence[Picture]) -> tuple[FloatArray, FloatArray]:
    """Boxes of all things that have one, and [width, height] of the images they are on; both of n rows."""
    found = [
        (thing.bbox, picture.size[::-1]) for picture in pictures for thing in picture.things if thing.bbox is not None
    ]
    boxes = np.array([box for box, _ in found], dtype=np.float64).reshape(-1, 4)
    return boxes, np.array([size for _, size in found], dtype=np.float64).reshape(-1, 2)
