"""Learning with the rounding: weights and inputs of every convolution and linear layer are rounded as INT8 will round them.

Gradients pass the rounding as if it were not there (Bengio et al., 2013; Jacob et al., CVPR 2018). What comes out is a float
network whose weights have learnt to be rounded; it is quantised like any other. Scales of weights are those of each output
channel, and so do not change when a normalisation behind the layer is folded into it; its running means stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from curate.edge.compress.teacher import Taught

_LEVELS: Final = 255
_MOST: Final = 127
_LEAST_SCALE: Final = 1e-8
_LAYERS: Final = {
    torch.conv2d: 0,
    functional.conv2d: 0,
    torch.conv_transpose2d: 1,
    functional.conv_transpose2d: 1,
    functional.linear: 0,
}
"""Functions that compute with weights, and the axis of the output's channels in those."""


class Rounding(TorchFunctionMode):  # type: ignore[misc]
    """While it is entered, layers compute with rounded weights and inputs.

    Args:
        ranges: Lowest and highest value of the inputs of each layer, by the id of its weight. Layers without are measured:
            nothing is rounded then.
    """

    def __init__(self, ranges: dict[int, tuple[float, float]], *, measure: bool = False) -> None:
        super().__init__()
        self.ranges = ranges
        self._measure = measure

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Round the first two arguments of the functions that have weights."""
        if func not in _LAYERS or len(args) < 2:
            return func(*args, **(kwargs or {}))
        values, weight, *rest = args
        if self._measure:
            self._widen(id(weight), values)
            return func(*args, **(kwargs or {}))
        rounded = round_weight(weight, _LAYERS[func])
        return func(self._rounded(values, id(weight)), rounded, *rest, **(kwargs or {}))

    def _widen(self, key: int, values: Any) -> None:
        low, high = float(values.min()), float(values.max())
        before = self.ranges.get(key, (0.0, 0.0))
        self.ranges[key] = (min(low, before[0]), max(high, before[1]))

    def _rounded(self, values: Any, key: int) -> Any:
        if key not in self.ranges:
            return values
        low, high = self.ranges[key]
        scale = max((high - low) / _LEVELS, _LEAST_SCALE)
        zero = int(np.clip(round(-low / scale), 0, _LEVELS))
        return torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, _LEVELS)


def round_weight(weight: Any, axis: int) -> Any:
    """A weight as int8 holds it, with a scale for each output channel; as float, and with a gradient."""
    others = [each for each in range(weight.ndim) if each != axis]
    scale = (weight.detach().abs().amax(dim=others) / _MOST).clamp(min=_LEAST_SCALE).float()
    zeros = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zeros, axis, -_MOST, _MOST)


class Rounded(Taught):
    """A learner whose layers round while it learns and while it is validated, and that learns from what it was."""

    ranges: dict[int, tuple[float, float]]

    def measure(self, images: Sequence[npt.NDArray[Any]]) -> None:
        """Measure what goes into the layers, of inputs of one row each, and hold normalisations as they are."""
        self.ranges = {}
        self.module.eval()
        with torch.no_grad(), Rounding(self.ranges, measure=True):
            for image in images:
                self.module(torch.from_numpy(np.ascontiguousarray(image)).float())
        for part in self.module.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                for weight in part.parameters():
                    weight.requires_grad_(False)  # the trainer leaves parts in eval mode that do not learn

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Any, dict[str, float]]:
        """As it is with rounding."""
        with self._rounding():
            return super().loss(batch, rng)

    def predict(self, batch: Any) -> list[Any]:
        """As it is with rounding."""
        with self._rounding():
            return super().predict(batch)

    @contextmanager
    def _rounding(self) -> Iterator[None]:
        with Rounding(self.ranges):
            yield
