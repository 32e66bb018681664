"""What a network that detects has to be able to, whichever library it is from, so that one learner trains them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Loss = tuple[Tensor, dict[str, float]]
"""A scalar with a gradient, and its parts as numbers."""


@dataclass(frozen=True)
class Targets:
    """What is on one image, in pixels of the network's input.

    Attributes:
        boxes: [x0, y0, x1, y1], each with an area; float32 of shape (k, 4).
        labels: Their classes; int64 of shape (k,).
        ignored: Areas of crowds, in which nothing is right or wrong; float32 of shape (m, 4).
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor


class Detector(Protocol):
    """A torch module. Images are float32 of shape (n, 3, height, width), RGB, 0 to 255: it normalises by itself."""

    suppress: bool
    """Whether several of its boxes may mean one object, so that all but the surest have to be suppressed."""

    fixed_batch: bool
    """Whether it can be exported for one image at a time only."""

    of_classes: tuple[str, ...]
    """Parts of the names of weights whose shape depends on the classes."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [x0, y0, x1, y1] in pixels, shape (n, k, 4), and scores in [0, 1], shape (n, k, classes)."""

    def loss(self, images: Tensor, targets: Sequence[Targets]) -> Loss:
        """Of n images."""

    def backbone_parameters(self) -> list[Any]:
        """Those that freezing the backbone freezes, in the order in which the image meets them."""
