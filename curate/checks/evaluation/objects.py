"""Objects as plain columns, in the order in which equal scores are taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curate.checks.boxes import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Objects:
    """What is annotated, or what a model found, on the images that are evaluated; n rows, image by image.

    Attributes:
        image: Place of each one's image, ascending; int64 of shape (n,).
        label: Its class; int64 of shape (n,).
        bbox: [x, y, width, height] in pixels, finite; float64 of shape (n, 4).
        area: Square pixels, as COCO takes it: of the box for predicted boxes, else as given or of the mask; (n,).
        score: Confidences in [0, 1]; ones for the truth; (n,).
        crowd: Whether it stands for many objects; bool of shape (n,).
        row: Where each stands among the annotations it was made of; int64 of shape (n,).
    """

    image: IntArray
    label: IntArray
    bbox: FloatArray
    area: FloatArray
    score: FloatArray
    crowd: BoolArray
    row: IntArray

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def rank(self) -> IntArray:
        """Place of each among those of its class on its image, highest score first, equal ones in order; (n,)."""
        order = np.lexsort((-self.score, self.label, self.image))
        image, label = self.image[order], self.label[order]
        starts = np.r_[True, (image[1:] != image[:-1]) | (label[1:] != label[:-1])] if len(order) else []
        first = np.flatnonzero(starts)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)]))
        return rank

    def take(self, rows: IntArray | BoolArray) -> Objects:
        """The chosen rows, in that order."""
        return Objects(
            self.image[rows],
            self.label[rows],
            self.bbox[rows],
            self.area[rows],
            self.score[rows],
            self.crowd[rows],
            self.row[rows],
        )
