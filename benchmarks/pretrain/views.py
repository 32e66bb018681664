"""What augmentation makes of a picture: a piece of it, under another light and through another camera.

Content (where the piece is cut) and photometry (what light and camera do) are drawn apart, so that views can share either.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

PHOTOMETRY: Final = (
    "brightness", "gamma", "red", "blue", "saturation", "slope across", "slope down", "vignette", "blur", "noise", "haze",
)  # fmt: skip
"""What `photometry` draws, each about 0 on average and 1 in spread."""

_CHANNELS: Final = {name: number for number, name in enumerate(PHOTOMETRY)}
_LUMA: Final = torch.tensor([0.299, 0.587, 0.114])


def photometry(count: int, generator: Generator) -> Tensor:
    """Random light and camera for `count` images; float32 of shape (count, len(PHOTOMETRY))."""
    drawn = torch.randn(count, len(PHOTOMETRY), generator=generator)
    # Half of what a camera does is hardly to be seen in a good picture.
    strength = torch.rand(count, 1, generator=generator) * 1.2
    gray = (torch.rand(count, generator=generator) < 0.1).float()
    drawn = drawn * strength
    drawn[:, _CHANNELS["saturation"]] -= gray * 3
    for name in ("vignette", "blur", "noise", "haze"):
        drawn[:, _CHANNELS[name]] = drawn[:, _CHANNELS[name]].abs()
    return drawn


def cut(pixels: Tensor, side: int, generator: Generator, *, smallest: float = 0.25) -> Tensor:
    """A random piece of each picture, mirrored or not, squeezed and slightly turned.

    Args:
        pixels: uint8 of shape (n, height, width, 3).
        side: Of the result.
        generator: For what is random.
        smallest: Part of the picture's area that a piece has at least.

    Returns:
        float32 of shape (n, 3, side, side) in [0, 1].
    """
    count = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    scale = uniform(smallest, 1.0).sqrt()
    squeeze = uniform(-0.28, 0.28).exp()
    width, height = (scale * squeeze).clamp(max=1.0), (scale / squeeze).clamp(max=1.0)
    x, y = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    turn = uniform(-0.26, 0.26) * (uniform(0, 1) < 0.5)
    c, s = turn.cos(), turn.sin()
    rows = [
        torch.stack([width * mirror * c, -height * s, x], dim=1),
        torch.stack([width * mirror * s, height * c, y], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 3, side, side], align_corners=False)
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def expose(images: Tensor, drawn: Tensor, generator: Generator) -> Tensor:
    """What a light and a camera make of images.

    Args:
        images: float32 of shape (n, 3, side, side) in [0, 1].
        drawn: As `photometry` draws it, shape (n, len(PHOTOMETRY)).
        generator: For the noise.

    Returns:
        The same shape and range.
    """
    part = {name: drawn[:, number, None, None, None] for name, number in _CHANNELS.items()}
    side = images.shape[-1]
    along = torch.linspace(-1, 1, side)
    luma = (images * _LUMA[:, None, None]).sum(dim=1, keepdim=True)
    images = luma + (images - luma) * (1 + 0.45 * part["saturation"]).clamp(0, 2.5)
    gains = torch.cat([0.16 * part["red"], torch.zeros_like(part["red"]), 0.2 * part["blue"]], dim=1).exp()
    light = 0.35 * part["slope across"] * along + 0.35 * part["slope down"] * along[:, None]
    light = light - 0.35 * part["vignette"] * (along.square() + along[:, None].square()) / 2
    images = images.clamp(0, 1).pow((0.3 * part["gamma"]).exp()) * gains * (0.3 * part["brightness"] + light).exp()
    veil = (0.15 * part["haze"]).clamp(max=0.6)
    images = _blur(images * (1 - veil) + 0.75 * veil, drawn[:, _CHANNELS["blur"]])
    images = images + 0.035 * part["noise"] * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 1)


def _blur(images: Tensor, amount: Tensor) -> Tensor:
    """Gaussian blur, of its own strength for each image: sigma about 0.8 pixels for amount 1, none below 0.3."""
    sigma = (0.9 * amount - 0.25).clamp(min=0.05)[:, None]
    offsets = torch.arange(-3, 4)[None]
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    count, channels, height, width = images.shape
    weight = kernel.repeat_interleave(channels, dim=0)[:, None]
    flat = F.pad(images, (3, 3, 3, 3), mode="replicate").reshape(1, count * channels, height + 6, width + 6)
    flat = F.conv2d(flat, weight[:, :, None, :], groups=count * channels)
    flat = F.conv2d(flat, weight[:, :, :, None], groups=count * channels)
    return flat.reshape(count, channels, height, width)
