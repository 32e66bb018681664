"""The things on a frame, whatever the task: detected objects, or the connected regions of a map of classes, with their size.

A scale turns pixels into millimetres. It holds for a camera that looks straight at a flat surface, which is how parts are
inspected; where a surface is tilted or curved, areas are off by the cosine of the tilt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.runner import VOID, Package, Result

SMALLEST: Final = 9
"""Pixels that a region has at least: fewer are noise along a border."""


@dataclass(frozen=True)
class Things:
    """The k things on one frame; none where a frame has a class as a whole.

    Attributes:
        boxes: [x, y, width, height] in pixels; shape (k, 4).
        labels: Class numbers; shape (k,).
        scores: Confidence, of a region the mean of its pixels; shape (k,).
        areas: Pixels of each region; None for boxes, whose pixels are not known.
    """

    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    areas: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Band:
    """Confidences in which a person is asked.

    Attributes:
        low: From here on something might be there: below, it is left out.
        high: From here on the model is believed.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise UsageError(f"{self.low:g}:{self.high:g} is no band", where="--ask", remedy="as in --ask 0.3:0.6")

    @classmethod
    def parse(cls, text: str) -> Band:
        """`LOW:HIGH`."""
        try:
            low, high = (float(each) for each in text.split(":"))
        except ValueError:
            raise UsageError(f"'{text}' is no band", where="--ask", remedy="as in --ask 0.3:0.6") from None
        return cls(low, high)

    def holds(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which scores lie in it; the upper end does not."""
        return np.asarray((scores >= self.low) & (scores < self.high))


def parse_area(text: str, millimetres: float | None) -> int:
    """The least pixels of a region: `40px`, or `0.1mm2` where it is known how wide a pixel is.

    Raises:
        UsageError: It is no area, or one in mm2 and nobody knows how wide a pixel is.
    """
    number, unit = next(((text.removesuffix(unit), unit) for unit in ("px", "mm2") if text.endswith(unit)), (text, ""))
    try:
        area = float(number)
    except ValueError:
        area = math.nan
    if not unit or not 0 < area < math.inf:
        raise UsageError(f"'{text}' is no area", where="--min-area", remedy="as in 40px or 0.1mm2")
    if unit == "mm2":
        if millimetres is None:
            raise UsageError("how wide is a pixel?", where="--min-area", remedy="add --scale, or give pixels: 40px")
        area /= millimetres**2
    return math.ceil(area * (1 - 1e-9))  # 0.1 / 0.05**2 is a little more than 40


def drop_small(result: Result, least: int) -> Result:
    """A result without its connected regions of fewer pixels than `least`: those are void then. Boxes stay."""
    if result.class_map is None:
        return result
    class_map = result.class_map.copy()
    for _, _, numbers, facts in _components(result.class_map):
        small = facts[:, cv2.CC_STAT_AREA] < least
        small[0] = False  # what is not of this class
        class_map[small[numbers]] = VOID
    return replace(result, class_map=class_map)


def things_of(result: Result, *, smallest: int = SMALLEST) -> Things:
    """All things of a result, whatever their scores.

    Args:
        result: Of any task.
        smallest: Regions of fewer pixels are left out.
    """
    if result.boxes is not None and result.labels is not None and result.scores is not None:
        return Things(result.boxes, result.labels, result.scores)
    if result.class_map is not None and result.confidence is not None:
        return _regions(result.class_map, result.confidence, smallest)
    return Things(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


def shown(things: Things, package: Package, band: Band | None) -> npt.NDArray[np.int64]:
    """Rows of the things that count: from the band's lower end on, or else from their class's threshold on.

    Regions all count: their pixels' classes have won.
    """
    if things.areas is not None:
        return np.arange(len(things))
    least = package.thresholds[things.labels] if band is None else band.low
    return np.flatnonzero(things.scores >= least)


def asks(result: Result, things: Things, band: Band | None) -> bool:
    """Whether a person is to be asked about a frame: the likeliest class, or any thing, is in the band."""
    if band is None:
        return False
    if result.probabilities is not None:
        return bool(band.holds(np.array([result.probabilities.max()], dtype=np.float64))[0])
    return bool(band.holds(things.scores).any())


def thing_json(
    things: Things, row: int, package: Package, *, band: Band | None, millimetres: float | None
) -> dict[str, Any]:
    """One thing as a line of output has it: with its area in mm2 where it is a region, else its sides in mm."""
    score = float(things.scores[row])
    x, y, width, height = (round(float(side), 2) for side in things.boxes[row])
    told: dict[str, Any] = {
        "label": package.classes[things.labels[row]],
        "score": round(score, 6),
        "bbox": [x, y, width, height],
    }
    if things.areas is not None:
        told["area_px"] = int(things.areas[row])
    if millimetres is not None and things.areas is not None:
        told["area_mm2"] = round(float(things.areas[row]) * millimetres**2, 4)
    elif millimetres is not None:
        told["size_mm"] = [round(width * millimetres, 3), round(height * millimetres, 3)]
    if band is not None and band.holds(things.scores[[row]])[0]:
        told["asks"] = True
    return told


def _regions(class_map: npt.NDArray[np.int16], confidence: npt.NDArray[np.float32], smallest: int) -> Things:
    """Connected regions of one class, over corners too, largest first."""
    boxes, labels, scores, areas = [], [], [], []
    for name, count, numbers, facts in _components(class_map):
        sums = np.bincount(numbers.ravel(), weights=confidence.ravel(), minlength=count)
        for part in range(1, count):
            x, y, width, height, area = facts[part].tolist()
            if area >= smallest:
                boxes.append([x, y, width, height])
                labels.append(name)
                scores.append(sums[part] / area)
                areas.append(area)
    order = np.argsort(-np.array(areas, dtype=np.int64), kind="stable")
    return Things(
        np.array(boxes, dtype=np.float64).reshape(-1, 4)[order],
        np.array(labels, dtype=np.int64)[order],
        np.array(scores, dtype=np.float64)[order],
        np.array(areas, dtype=np.int64)[order],
    )


def _components(
    class_map: npt.NDArray[np.int16],
) -> Iterator[tuple[int, int, npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Of each class on a map: its number, how many regions it has and one more, their numbers by pixel, OpenCV's facts."""
    for name in np.unique(class_map).tolist():
        if name != VOID:
            inside = (class_map == name).astype(np.uint8)
            count, numbers, facts, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
            yield name, count, np.asarray(numbers, np.int32), np.asarray(facts, np.int32)
