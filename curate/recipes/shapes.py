"""One annotation on an image, as pipelines move it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What is drawn of one annotation; the columns of `curate.dataset.schema.ANNOTATIONS`, None where there is nothing.

    Attributes:
        type: What it chiefly is (`curate.dataset.schema.AnnotationType`).
        bbox: [x, y, width, height], pixels.
        rotated_box: [centre x, centre y, width, height, degrees clockwise].
        polygons: [x0, y0, x1, y1, ...] of each part; a polyline has one, and is open.
        rle: COCO compressed run lengths of a mask of the image's size.
        keypoints: [x, y, visibility] triples, flattened; visibility 0 not labelled, 1 hidden, 2 visible.
        mirrored: For each keypoint, the number of the one that it is in a mirror image (the left eye's of the right one); None
            where no skeleton says so: numbers then stay as they are.
    """

    type: str
    bbox: Sequence[float] | None = None
    rotated_box: Sequence[float] | None = None
    polygons: Sequence[Sequence[float]] | None = None
    rle: str | None = None
    keypoints: Sequence[float] | None = None
    mirrored: Sequence[int] | None = None
