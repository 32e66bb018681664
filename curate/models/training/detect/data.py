"""An example as a detector takes it: the image put into the input top left, and boxes in that input's pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from curate.errors import InputError
from curate.imaging import Pixels
from curate.models.predictors.preparation import make_preparation
from curate.models.predictors.sidecar import Sidecar
from curate.models.training.augment import Augmentation
from curate.models.training.base import Example
from curate.models.training.detect.base import Targets
from curate.runner import Placement

PAD: Final = 114
"""What fills the part of the input that the image leaves free: a middle grey."""

PREPARATION: Final = Sidecar(resize="letterbox", pad=PAD, interpolation="bicubic", color="rgb", scale=1.0)
"""How images become inputs, here and wherever the trained detector will run. Their size and layout are still open."""

Array = npt.NDArray[np.float64]
Batch = Mapping[str, Any]
"""Images, uint8 of shape (n, 3, height, width), and lists of n `boxes`, `labels`, `ignored` and `placements`."""


@dataclass(frozen=True)
class Labelled:
    """What is drawn on one image, sorted.

    Attributes:
        boxes: [x, y, width, height] that can be learnt, clipped to the image; float64 of shape (k, 4).
        labels: Their classes; int64 of shape (k,).
        ignored: Crowds; float64 of shape (m, 4).
        bad: How many boxes have no area on the image, or are no numbers.
    """

    boxes: Array
    labels: npt.NDArray[np.int64]
    ignored: Array
    bad: int


@dataclass(frozen=True)
class Sample:
    """One image for a network, with what is on it in pixels of the input.

    Attributes:
        image: uint8 of shape (3, height, width).
        boxes: [x0, y0, x1, y1]; float32 of shape (k, 4).
        labels: int64 of shape (k,).
        ignored: Like `boxes`; shape (m, 4).
        placement: Where the full-size image lies in the input.
    """

    image: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    ignored: torch.Tensor
    placement: Placement


def labelled(example: Example, size: tuple[int, int] | None = None) -> Labelled:
    """Tell boxes that can be learnt from crowds, and from those that are no boxes.

    Args:
        example: With boxes or without.
        size: (height, width) of the full-size image, where the example does not say.

    Raises:
        InputError: Boxes and labels are not equally many.
    """
    boxes = np.zeros((0, 4)) if example.boxes is None else np.asarray(example.boxes, dtype=np.float64).reshape(-1, 4)
    labels = np.zeros(0, np.int64) if example.labels is None else np.asarray(example.labels, dtype=np.int64)
    crowd = np.zeros(len(boxes), bool) if example.crowd is None else np.asarray(example.crowd, dtype=bool)
    if not len(boxes) == len(labels) == len(crowd):
        raise InputError(f"{len(boxes)} boxes have {len(labels)} labels", where=example.path)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    height, width = example.size or size or (np.inf, np.inf)
    low, high = np.clip(low, 0, [width, height]), np.clip(high, 0, [width, height])
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(boxes).all(axis=1) & (high > low).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    clipped = np.concatenate([low, high - low], axis=1)
    return Labelled(clipped[sound & ~crowd], labels[sound & ~crowd], clipped[sound & crowd], int((~sound).sum()))


def make_sample(
    example: Example,
    pixels: Pixels,
    size: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator | None,
) -> Sample:
    """Scale an image and its boxes into an input, and change both at random where `rng` is given.

    Args:
        example: With its size.
        pixels: Of the image, perhaps decoded at a lower scale.
        size: (height, width) of the input.
        augmentation: What may be changed.
        rng: Decides it; None for no change.
    """
    full = example.size or (pixels.shape[0], pixels.shape[1])
    found = labelled(example, full)
    image, placement = fit(pixels, size, full)
    boxes, ignored = (_scaled(each, placement) for each in (found.boxes, found.ignored))
    labels = found.labels
    if rng is not None:
        changed = augmentation(image, rng, boxes=np.concatenate([boxes, ignored]))
        own = changed.rows < len(boxes)
        image, placement = fit(changed.pixels, size, (changed.pixels.shape[0], changed.pixels.shape[1]))
        labels = labels[changed.rows[own]]
        boxes, ignored = (_scaled(each, placement) for each in (changed.boxes[own], changed.boxes[~own]))
    return Sample(
        torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        _corners(boxes),
        torch.from_numpy(np.ascontiguousarray(labels)),
        _corners(ignored),
        placement,
    )


def fit(pixels: Pixels, size: tuple[int, int], full: tuple[int, int]) -> tuple[Pixels, Placement]:
    """An image in an input.

    Args:
        pixels: Of the image, perhaps decoded at a lower scale.
        size: (height, width) of the input.
        full: (height, width) of the full-size image.

    Returns:
        uint8 of shape (height, width, 3), and where the full-size image lies in there.
    """
    prepare = make_preparation(msgspec.structs.replace(PREPARATION, size=size, layout="nhwc"), np.uint8)
    prepared = prepare(pixels)
    return prepared.array, replace(prepared.placement, image=full)


def collate(samples: Sequence[Sample]) -> Batch:
    """A batch of samples."""
    return {
        "images": torch.stack([sample.image for sample in samples]),
        "boxes": [sample.boxes for sample in samples],
        "labels": [sample.labels for sample in samples],
        "ignored": [sample.ignored for sample in samples],
        "placements": [sample.placement for sample in samples],
    }


def targets(batch: Batch) -> list[Targets]:
    """What is on each image of a batch."""
    return [Targets(*each) for each in zip(batch["boxes"], batch["labels"], batch["ignored"], strict=True)]


def _scaled(boxes: Array, placement: Placement) -> Array:
    """[x, y, width, height] on the image as they are on the input."""
    down, across = placement.scale
    return boxes * [across, down, across, down]


def _corners(boxes: Array) -> torch.Tensor:
    """[x, y, width, height] to [x0, y0, x1, y1] in torch."""
    return torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32))
