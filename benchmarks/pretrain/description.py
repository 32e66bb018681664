"""The descriptor of `curate.models.encoders.descriptor` as a network with fixed weights, so that it can be part of a graph."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.models.encoders import descriptor
from curate.models.encoders.descriptor import BINS, FLAT, GRID, NOISE, PATCH, SIZE

_PIXELS: Final = 3 * PATCH * PATCH


class Description(nn.Module):
    """Gives the descriptor's vectors: the same numbers but for rounding."""

    bank: Tensor
    pooling: Tensor
    cells: Tensor

    def __init__(self) -> None:
        super().__init__()
        bank, same, odd = descriptor.read_weights()
        filters = bank.filters.T.reshape(-1, 3, PATCH, PATCH)
        self.threshold = bank.threshold
        filters = filters - filters.mean(axis=(1, 2, 3), keepdims=True)
        self.register_buffer("bank", torch.from_numpy(np.ascontiguousarray(filters)))
        self.register_buffer("pooling", torch.from_numpy(descriptor.quadrants()))
        self.register_buffer("cells", torch.from_numpy(descriptor.cells()))
        self.same, self.odd = (_linear(part.components, part.mean) for part in (same, odd))

    def forward(self, images: Tensor) -> Tensor:
        """Vectors of unit length.

        Args:
            images: Values in [0, 1]; shape (n, 3, SIZE, SIZE).

        Returns:
            Shape (n, 960).
        """
        blocks = [_halves(*block) for block in (self._patches(images), self._edges(images), _colors(images))]
        same, odd = (torch.cat([block[k] for block in blocks], dim=1) for k in (0, 1))
        return F.normalize(torch.cat([self.same(same), self.odd(odd)], dim=1), dim=1)

    def _patches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The patch block and that of the mirrored image, each of shape (n, 2, 2, 2, 2, filters / 2)."""
        ones = torch.ones(1, 3, PATCH, PATCH) / _PIXELS
        mean, square = F.conv2d(images, ones), F.conv2d(images.square(), ones)
        contrast = (square - mean.square()).clamp(min=0).add(NOISE**2).sqrt().flatten(2)  # n, 1, positions
        # A filter without its mean does to a patch what the filter does to the patch without its mean; and what a response is
        # divided by can be left to the pooling, of four numbers instead of 512.
        response, least = F.conv2d(images, self.bank).flatten(2), self.threshold * contrast
        pooling = (self.pooling / contrast).transpose(1, 2)  # n, positions, quadrants
        positive = F.relu(response - least) @ pooling
        negative = F.relu(-response - least) @ pooling
        pooled = torch.stack([positive, negative], dim=1)  # n, sign, filters, quadrants
        pooled = _unit_root(pooled.permute(0, 3, 1, 2).flatten(1)).reshape(-1, 2, 2, 2, 2, self.bank.shape[0] // 2)
        return pooled, pooled.flip(dims=(2, 4))

    def _edges(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The edge block and that of the mirrored image, each of shape (n, GRID, GRID, BINS)."""
        padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
        across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        strength = (across.square() + down.square()).sqrt()
        red, green, blue = strength.unbind(dim=1)
        first = (red >= green) & (red >= blue)
        second = ~first & (green >= blue)
        across, down, strength = (
            torch.where(first, each[:, 0], torch.where(second, each[:, 1], each[:, 2]))
            for each in (across, down, strength)
        )
        position = torch.remainder(torch.atan2(down, across) * (BINS / (2 * torch.pi)), BINS)
        away = (position[:, None] - torch.arange(BINS)[None, :, None, None]).abs()
        share = F.relu(1 - torch.minimum(away, BINS - away))
        votes = (share * strength[:, None]).flatten(2) @ self.cells.T  # n, bins, cells
        votes = votes.reshape(-1, BINS, GRID, GRID)
        energy = (votes.square().sum(dim=1, keepdim=True) + 1e-4).sqrt()
        around = F.avg_pool2d(F.pad(energy, (1, 1, 1, 1), mode="replicate"), 3, 1)
        block = _unit_root((votes / (around + FLAT)).permute(0, 2, 3, 1).flatten(1)).reshape(-1, GRID, GRID, BINS)
        turned = torch.from_numpy((BINS // 2 - np.arange(BINS)) % BINS)
        return block, block.flip(dims=(2,))[..., turned]


def _colors(images: Tensor) -> tuple[Tensor, Tensor]:
    """The colour block and that of the mirrored image, each of shape (n, GRID, GRID, 5)."""
    linear = torch.where(images > 0.04045, ((images.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, images / 12.92)
    to_xyz = torch.tensor(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    )
    xyz = F.conv2d(linear, (to_xyz / torch.tensor([0.950456, 1.0, 1.088754])[:, None])[:, :, None, None])
    root = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(dim=1)
    lab = torch.stack([1.16 * y - 0.16, 5 * (x - y), 2 * (y - z)], dim=1)
    cells = F.avg_pool2d(lab, SIZE // GRID).permute(0, 2, 3, 1)
    lightness, opponents = cells[..., :1] - 0.5, cells[..., 1:]
    block = torch.cat([F.relu(opponents).sqrt(), F.relu(-opponents).sqrt(), lightness], dim=3)
    return block, block.flip(dims=(2,))


def _halves(block: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
    """What mirroring leaves as it is and what it negates, each of shape (n, d)."""
    half = block.shape[2] // 2
    left, other = block[:, :, :half], mirrored[:, :, :half]
    return ((left + other) * 0.5**0.5).flatten(1), ((left - other) * 0.5**0.5).flatten(1)


def _unit_root(histogram: Tensor) -> Tensor:
    root = histogram.sqrt()
    return root / root.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-9)


def _linear(components: descriptor.Float, mean: descriptor.Float) -> nn.Linear:
    layer = nn.Linear(*components.shape)
    layer.weight.data = torch.from_numpy(np.ascontiguousarray(components.T))
    layer.bias.data = torch.from_numpy(-(mean @ components))
    return layer
