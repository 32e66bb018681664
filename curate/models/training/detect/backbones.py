"""Backbones: what gives a detector its maps of features, finest first.

builtin       the convolutions of curate's own encoder, which ships with it: trained, offline, at once
timm          any network of timm that gives feature maps
onnx          any convolutional detector or encoder in ONNX, the user's own for example
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from curate.errors import InputError, UsageError
from curate.models.training.detect.features import find_features
from curate.models.training.detect.graph import GraphModule, open_session, read_model, subgraph

BUILTIN: Final = "builtin_v1.onnx"
"""The file of curate's own encoder."""

_COARSEST: Final = 32
_TOLERANCE: Final = 1e-3  # of the largest number in the features


@dataclass(frozen=True)
class Normalisation:
    """What a network wants done to pixels from 0 to 255: (pixel * scale - mean) / std, in its order of colours."""

    color: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


class Normalise(nn.Module):  # type: ignore[misc]
    """Images as a detector takes them (RGB, 0 to 255) to what a network was trained on."""

    def __init__(self, wanted: Normalisation) -> None:
        super().__init__()
        if wanted.color == "gray":
            raise InputError("a backbone that sees no colours cannot be used")
        self.reverse = wanted.color == "bgr"
        for name, values in (("mean", wanted.mean), ("std", wanted.std)):
            numbers = torch.tensor(values, dtype=torch.float32) / wanted.scale
            self.register_buffer(name, numbers.expand(3).reshape(1, 3, 1, 1).clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (n, 3, height, width)."""
        images = images.flip(1) if self.reverse else images
        return (images - self.mean) / self.std


class Backbone(nn.Module):  # type: ignore[misc]
    """Images to maps.

    Args:
        normalise: Of the images, before the network.
        network: Gives the maps.
        channels: Of each map.
        strides: Of each map, in pixels.
        channels_last: Whether the network takes them so.
    """

    def __init__(
        self,
        normalise: Normalisation,
        network: Any,
        channels: Sequence[int],
        strides: Sequence[int],
        groups: Sequence[int] | None = None,
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.normalise = Normalise(normalise)
        self.network = network
        self.channels, self.strides = list(channels), list(strides)
        self._groups = list(groups) if groups is not None else [1] * len(self.channels)
        self._channels_last = channels_last

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images as `Detector` takes them; maps of shape (n, channels, height / stride, width / stride)."""
        images = self.normalise(images)
        found = iter(self.network(images.permute(0, 2, 3, 1) if self._channels_last else images))
        return [torch.cat([next(found) for _ in range(count)], dim=1) for count in self._groups]


def builtin_backbone(size: tuple[int, int]) -> Backbone:
    """The convolutions of curate's own encoder, for inputs of (height, width)."""
    with resources.as_file(resources.files("curate.models.encoders").joinpath(BUILTIN)) as path:
        return onnx_backbone(path, size, Normalisation())


def onnx_backbone(
    path: Path, size: tuple[int, int], normalise: Normalisation, names: Sequence[str] | None = None
) -> Backbone:
    """A detector or an encoder in ONNX up to its features, with weights that can learn.

    Args:
        path: The file.
        size: (height, width) of the images it will see.
        normalise: What it wants done to them.
        names: Of the tensors that are the features; None to look for them.

    Raises:
        InputError: It has no features, cannot be run at this size, or torch would not give the same as onnxruntime.
    """
    try:
        model = read_model(path)
        sides = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        channels_last = sides[3] in (1, 3) and sides[1] not in (1, 3)
        own = tuple(sides[1:3] if channels_last else sides[2:])
        # Heads are often made for one size, so they are looked at in that; what comes before them takes any.
        features = find_features(model, _shape(own if all(own) else size, channels_last), names)
        shape = _shape(size, channels_last)
        tensors = [name for feature in features for name in feature.tensors]
        network = GraphModule(path, tensors, shape)
        _compare(network, subgraph(model, tensors, shape), tensors, shape)
    except InputError as error:
        if error.where is not None:
            raise
        raise InputError(error.what, where=path, remedy=error.remedy) from error
    return Backbone(
        normalise,
        network,
        [feature.channels for feature in features],
        [feature.stride for feature in features],
        [len(feature.tensors) for feature in features],
        channels_last=channels_last,
    )


def timm_backbone(name: str, create: Any) -> Backbone:
    """A network of timm.

    Args:
        name: As timm calls it.
        create: Gives the network, weights and all, when called with timm's options for feature maps.

    Raises:
        UsageError: It has no feature maps.
    """
    try:
        network = create(features_only=True)
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise UsageError(f"'{name}' gives no feature maps", remedy="choose a convolutional network of timm") from error
    strides = list(network.feature_info.reduction())
    used = [at for at, stride in enumerate(strides) if 8 <= stride <= _COARSEST]
    if not used:
        raise UsageError(f"'{name}' has no maps of 8 to {_COARSEST} pixels per cell", remedy="choose another network")
    config = network.pretrained_cfg if hasattr(network, "pretrained_cfg") else {}
    mean, std = config.get("mean", (0.485, 0.456, 0.406)), config.get("std", (0.229, 0.224, 0.225))
    return Backbone(
        Normalisation("rgb", 1 / 255, tuple(mean), tuple(std)),
        _Chosen(network, used),
        [network.feature_info.channels()[at] for at in used],
        [strides[at] for at in used],
    )


class _Chosen(nn.Module):  # type: ignore[misc]
    """Some of a network's maps."""

    def __init__(self, network: Any, used: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self._used = list(used)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = self.network(images)
        return [maps[at] for at in self._used]


def _shape(size: Sequence[int], channels_last: bool) -> tuple[int, ...]:
    """Of one input image."""
    return (1, *size, 3) if channels_last else (1, 3, *size)


def _compare(network: GraphModule, model: Any, tensors: Sequence[str], shape: Sequence[int]) -> None:
    """See that torch gives what onnxruntime does.

    Raises:
        InputError: It does not.
    """
    noise = np.random.default_rng(0).integers(0, 256, shape)
    session = open_session(model)
    entry = session.get_inputs()[0]
    given = noise.astype(np.uint8 if entry.type == "tensor(uint8)" else np.float32)
    expected = session.run(list(tensors), {entry.name: given})
    with torch.no_grad():
        found = network(torch.from_numpy(noise.astype(np.float32)))
    for name, wanted, own in zip(tensors, expected, found, strict=True):
        off = float(np.abs(wanted - own.numpy()).max()) if wanted.shape == tuple(own.shape) else float("nan")
        if not off <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise InputError(
                f"the graph gives other features in torch than in onnxruntime: '{name}' is off by {off:.2g}",
                remedy="name earlier features (option 'features'), or give another backbone",
            )
