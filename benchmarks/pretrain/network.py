"""The network: a small residual network with two views of an image, what it shows and how it was taken."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEM: Final = 32
WIDTHS: Final = (64, 128, 288)
BLOCKS: Final = (2, 3, 2)
SEMANTIC: Final = 256
STYLE: Final = 64


class Network(nn.Module):
    """A residual network (He et al., CVPR 2016) whose first layers also tell light, colour, blur and noise.

    Args:
        widths: Channels of the stages; each halves the resolution of the one before.
        blocks: Residual blocks of the stages.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True))
        stages, before = [], STEM
        for width, count in zip(widths, blocks, strict=True):
            layers = [Block(before if k == 0 else width, width, 2 if k == 0 else 1) for k in range(count)]
            stages.append(nn.Sequential(*layers))
            before = width
        self.stages = nn.ModuleList(stages)
        self.semantic = nn.Linear(widths[-2] + widths[-1], SEMANTIC)
        low = 2 * (3 + STEM + widths[0])
        self.style = nn.Sequential(nn.Linear(low, 192), nn.ReLU(), nn.Linear(192, STYLE))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Two views of n images.

        Args:
            images: Values in [0, 1]; shape (n, 3, height, width), sides of 32 pixels or more.

        Returns:
            Semantic vectors of shape (n, SEMANTIC), style vectors of shape (n, STYLE); of any length.
        """
        pooled, low = self.features(images)
        return self.semantic(pooled), self.style(low)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the last two stages; means and deviations of pixels and first stages; per image."""
        x = self.stem((images - 0.45) / 0.25)
        low, high = [*_statistics(images), *_statistics(x)], []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number == 0:
                low += _statistics(x)
            if number >= len(self.stages) - 2:
                high.append(x.mean(dim=(2, 3)))
        return torch.cat([each.float() for each in high], dim=1), torch.cat([each.float() for each in low], dim=1)


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.around = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps of shape (n, before, h, w) to (n, width, h / stride, w / stride)."""
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.around(x))


def _statistics(x: Tensor) -> list[Tensor]:
    """Mean and standard deviation over space, each of shape (n, channels)."""
    x = x[:, :, ::2, ::2].float()  # every other pixel tells as much, for a quarter of the time
    mean = x.mean(dim=(2, 3))
    return [mean, ((x - mean[..., None, None]).square().mean(dim=(2, 3)) + 1e-5).sqrt()]
