"""What a predictor is: images in; objects, class probabilities, masks or depths out.

Coordinates are pixels of the image that was given to `prepare`, which may have been decoded at a lower scale: what stores a
prediction scales it by `size` to the image's own (`curate.models.predictors.layers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from curate.imaging import Pixels

Task = Literal["classify", "detect", "segment", "instances", "depth"]
"""What a model gives: class probabilities of the image; boxes; a class, or a depth, for each pixel; boxes with masks."""

VOID = -1
"""The class of a pixel that belongs to none."""

Size = tuple[int, int]
"""(height, width) in pixels."""


@dataclass(frozen=True)
class Classes:
    """What a classifier says of one image.

    Attributes:
        probabilities: Of each class; float32 of shape (classes,), sum 1 unless the classes do not exclude one another.
    """

    probabilities: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Objects:
    """What a detector, or a segmenter of instances, found on one image; surest first, doubles already suppressed.

    Attributes:
        size: Of the image that was given.
        boxes: [x, y, width, height] in pixels, inside the image; float64 of shape (k, 4).
        labels: Numbers of classes; int64 of shape (k,).
        scores: Confidences in [0, 1]; float64 of shape (k,).
        probabilities: Of all classes, where the model tells; float32 of shape (k, classes).
        masks: Instances of k objects as bool of shape (k, height, width) of `size`; None for a detector.
    """

    size: Size
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float32] | None = None
    masks: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ClassMap:
    """What a semantic segmenter says of one image.

    Attributes:
        labels: Number of the class of each pixel, `VOID` for none; int16 of shape (height, width) of the image given.
        confidence: Probability of that class; float32 of the same shape.
    """

    labels: npt.NDArray[np.int16]
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True)
class DepthMap:
    """How far away each pixel is.

    Attributes:
        depth: float32 of shape (height, width) of the image given, larger is farther; NaN where it is not known.
        metric: Whether that is in metres; otherwise only the order within one image counts, scaled to [0, 1].
    """

    depth: npt.NDArray[np.float32]
    metric: bool


Prediction = Classes | Objects | ClassMap | DepthMap


class Predictor(Protocol):
    """A model that is ready to run; the same numbers for the same pixels on every run."""

    name: str
    """Spec and version, unique to the numbers it gives: 'onnx:yolox_nano.onnx@1f0c22ab'."""

    task: Task

    classes: tuple[str, ...]
    """Names of what it knows, in the order of its class numbers; empty for depth, and for a promptable segmenter."""

    input_size: int | None
    """Images are wanted at about this many pixels on their shorter side (a hint for decoding); None for full resolution."""

    def prepare(self, pixels: Pixels) -> Any:
        """One image (uint8 of shape (height, width, 3), RGB) to what `predict` takes. Runs in decoding threads."""

    def predict(self, prepared: Sequence[Any]) -> list[Prediction]:
        """What is on n prepared images, of the type that the task has: `Classes`, `Objects`, `ClassMap` or `DepthMap`."""


@runtime_checkable
class BoxSegmenter(Protocol):
    """A model that turns boxes into masks (SAM 2)."""

    name: str

    def segment(
        self, pixels: Pixels, boxes: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Masks of the things in k boxes ([x, y, width, height]) on one image.

        Returns:
            bool of shape (k, height, width), and the model's estimate of each one's IoU, float64 of shape (k,).
        """


@dataclass(frozen=True)
class Options:
    """What a person may ask of any predictor; each takes what concerns it.

    Attributes:
        min_score: Objects below this confidence are left out. Low by default: checks and metrics want the unsure ones too.
        nms_iou: Of two boxes of one class that overlap more than this, the surer stays; for models that have no NMS inside.
        most_objects: Of one image; the surest are kept.
        prompts: Names of things to look for, for models that find what they are told to.
    """

    min_score: float = 0.05
    nms_iou: float = 0.65
    most_objects: int = 300
    prompts: tuple[str, ...] = ()
