"""Which objects may be half hidden: another box, that is not farther away, covers a part of theirs."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from curate.checks.boxes import Boxes
from curate.checks.mistakes.matching import covered_share, overlapping_pairs

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_FARTHER: Final = 1.1
"""Metres: what is farther by this factor is behind. (Of a half hidden thing, what is before it may have been measured.)"""

_FARTHER_RELATIVE: Final = 0.05
_COVERED: Final = 0.15


def may_be_hidden(bbox: FloatArray, image: IntArray, depth: FloatArray, *, metric: bool) -> npt.NDArray[np.bool_]:
    """Whether at least 15% of each object's box is covered by that of another thing which is not behind it.

    Args:
        bbox: [x, y, width, height]; shape (n, 4).
        image: Number of each one's image; shape (n,).
        depth: In metres, or relative; shape (n,).
        metric: Whether depths are metres.

    Returns:
        Shape (n,).
    """
    boxes = Boxes(image, bbox, np.zeros(len(image), np.int64))
    pairs = overlapping_pairs(boxes, boxes, min_iou=0.0)
    behind = depth[pairs.second] * _FARTHER if metric else depth[pairs.second] + _FARTHER_RELATIVE
    pairs = pairs.take((pairs.first != pairs.second) & (depth[pairs.first] <= behind))
    hidden = np.zeros(len(image), dtype=np.bool_)
    hidden[pairs.second[covered_share(pairs, boxes, boxes) >= _COVERED]] = True
    return hidden
