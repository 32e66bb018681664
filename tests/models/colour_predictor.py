"""A predictor whose results can be told beforehand: it finds what is red, green or blue, for any task.

As 'colours:detect', say. Behind a '/' stands how many pixels its shorter side has: 'colours:detect/32' decodes at a lower scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from curate.errors import ImageError
from curate.imaging import Pixels
from curate.models.predictors.base import (
    Classes,
    ClassMap,
    DepthMap,
    Objects,
    Options,
    Prediction,
    Predictor,
    Task,
)
from curate.models.predictors.registry import PREDICTORS

COLOURS: Final[tuple[str, ...]] = ("red", "green", "blue")
SCORES: Final = (0.9, 0.8, 0.7)
SIDE: Final = 64

predicted: list[int] = []
"""How many images each call was given, since `register`."""


class ColourPredictor:
    """Each colour that is somewhere on the image is one object, around all of it."""

    version = "1"

    def __init__(self, task: Task, input_size: int | None, options: Options) -> None:
        self.task = task
        self.input_size = input_size
        self.classes = () if task == "depth" else COLOURS
        self.name = f"colours:{task}@{self.version}"
        self._options = options

    def prepare(self, pixels: Pixels) -> npt.NDArray[np.bool_]:
        """Where each colour is; bool of shape (height, width, 3)."""
        return np.asarray(pixels > 128)

    def predict(self, prepared: Sequence[Any]) -> list[Prediction]:
        predicted.append(len(prepared))
        return [self._one(where) for where in prepared]

    def _one(self, where: npt.NDArray[np.bool_]) -> Prediction:
        height, width = where.shape[:2]
        if self.task == "classify":
            share = where.mean(axis=(0, 1)).astype(np.float32)
            return Classes(share / max(float(share.sum()), 1e-6))
        if self.task == "segment":
            labels = np.where(where.any(axis=2), where.argmax(axis=2), -1).astype(np.int16)
            return ClassMap(labels, np.asarray(SCORES, np.float32)[labels])
        if self.task == "depth":
            return DepthMap(np.zeros((height, width), np.float32), metric=True)
        found = [k for k in range(3) if where[..., k].any() and SCORES[k] >= self._options.min_score]
        boxes = np.array([_around(where[..., k]) for k in found]).reshape(-1, 4)
        probabilities = np.full((len(found), 3), 0.05, np.float32)
        probabilities[np.arange(len(found)), found] = 0.9
        masks = np.moveaxis(where[..., found], 2, 0) if self.task == "instances" else None
        scores = np.array([SCORES[k] for k in found])
        return Objects((height, width), boxes, np.array(found, np.int64), scores, probabilities, masks)


class Extent:
    """A segmenter of boxes: what is coloured in each. It takes no images of blue things only."""

    name = "extent@1"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def segment(
        self, pixels: Pixels, boxes: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        self.calls.append(len(boxes))
        if not (pixels[..., :2] > 128).any():
            raise ImageError("blue things cannot be taken")
        masks = np.zeros((len(boxes), *pixels.shape[:2]), np.bool_)
        coloured = np.asarray((pixels > 128).any(axis=2))
        for mask, (x, y, width, height) in zip(masks, boxes.astype(int).tolist(), strict=True):
            inside = (slice(y, y + height), slice(x, x + width))
            mask[inside] = coloured[inside]
        return masks, np.linspace(0.9, 0.8, len(boxes))


EXTENT: Final = Extent()


def load(argument: str, options: Options) -> Predictor:
    """As a registry's entry loads it."""
    task, _, side = argument.partition("/")
    return ColourPredictor(cast(Task, task), int(side) if side else None, options)


def load_extent(argument: str, options: Options) -> Extent:
    """The same for a segmenter of boxes."""
    return EXTENT


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make them known as 'colours' and 'extent', until the test ends."""
    predicted.clear()
    EXTENT.calls.clear()
    monkeypatch.setitem(PREDICTORS._builtins, "colours", f"{__name__}:load")
    monkeypatch.setitem(PREDICTORS._builtins, "extent", f"{__name__}:load_extent")


def paint(path: Path, boxes: dict[str, Sequence[int]], size: tuple[int, int] = (SIDE, SIDE), **save: Any) -> None:
    """A black image of (width, height) with boxes ([x, y, width, height]) of these colours."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for name, (x, y, width, height) in boxes.items():
        pixels[y : y + height, x : x + width, COLOURS.index(name)] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **save)


def _around(where: npt.NDArray[np.bool_]) -> list[float]:
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
