"""A predictor made of a network and of what its outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.imaging import Pixels
from curate.models.predictors.base import Prediction, Task
from curate.models.predictors.hf.network import Network, Prepared, exact

Read = Callable[[Any, Prepared], Prediction]
"""What the outputs for one image mean; they have attributes named as in transformers, of one row each."""


@dataclass
class HfPredictor:
    """See `curate.models.predictors.base.Predictor`."""

    name: str
    task: Task
    classes: tuple[str, ...]
    network: Network
    read: Read
    input_size: int | None = field(init=False)

    def __post_init__(self) -> None:
        """The hint for decoding is what the image processor's settings say."""
        self.input_size = self.network.input_size

    def prepare(self, pixels: Pixels) -> Prepared:
        """One image as the model takes it."""
        return self.network.prepare(pixels)

    def predict(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """What is on n images, in their order; none of them changes what is said of another."""
        found: dict[int, Prediction] = {}
        for place, outputs in self.network.outputs(prepared):
            with exact():
                found[place] = self.read(outputs, prepared[place])
        return [found[place] for place in range(len(prepared))]
