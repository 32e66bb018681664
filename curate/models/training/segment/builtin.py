"""A U-Net on the convolutions of curate's own encoder: trained, offline, at once (Ronneberger et al. 2015).

A level at full resolution, which sees the image itself, is joined to what the encoder sees at a half to a sixteenth of it, so
that lines two pixels wide are still there when the last layer decides.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

import torch
from torch import Tensor, nn

from curate.models.predictors.base import Size
from curate.models.training.detect.backbones import BUILTIN, Backbone, Normalisation
from curate.models.training.detect.graph import GraphModule

_TAPS: Final = {"relu": (32, 2), "relu_4": (64, 4), "relu_10": (128, 8), "relu_14": (288, 16)}
"""The last tensor of each resolution in the encoder's file: channels, and input pixels per cell."""

_FINE: Final = 16
_MOST: Final = 96
"""Channels of the level at full resolution; and at most, of those on the way back to it."""


class BuiltinUnet(nn.Module):  # type: ignore[misc]
    """Images in [0, 1], shape (n, 3, height, width), to logits of shape (n, channels, height, width).

    Args:
        size: (height, width) of the images, multiples of 16.
        channels: Of the output.
        trained: Whether the encoder keeps what it has learnt.
    """

    def __init__(self, size: Size, channels: int, *, trained: bool) -> None:
        super().__init__()
        self.encoder = _encoder(size)
        if not trained:
            for weight in self.encoder.parameters():
                if weight.ndim > 1:  # He et al., ICCV 2015
                    nn.init.kaiming_normal_(weight, nonlinearity="relu")
                else:
                    nn.init.zeros_(weight)
        self.fine = _level(3, _FINE)
        widths = [_FINE, *self.encoder.channels]
        levels, coarse = [], widths.pop()
        for width in reversed(widths):
            levels.append(_level(coarse + width, min(width, _MOST)))
            coarse = min(width, _MOST)
        self.decoder = nn.ModuleList(levels)
        self.segmentation_head = nn.Conv2d(coarse, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        maps: list[Tensor] = [self.fine(images - 0.5), *self.encoder(255.0 * images)]
        value = maps.pop()
        for level, fine in zip(self.decoder, reversed(maps), strict=True):
            value = level(torch.cat([nn.functional.interpolate(value, scale_factor=2.0), fine], dim=1))
        return self.segmentation_head(value)


def _encoder(size: Size) -> Backbone:
    """Its convolutions, which take pixels from 0 to 255."""
    with resources.as_file(resources.files("curate.models.encoders").joinpath(BUILTIN)) as path:
        network = GraphModule(path, list(_TAPS), (1, *size, 3))
    channels, strides = zip(*_TAPS.values(), strict=True)
    return Backbone(Normalisation(), network, channels, strides, channels_last=True)


def _level(before: int, after: int) -> nn.Sequential:
    """Two convolutions."""
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv2d(width, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
