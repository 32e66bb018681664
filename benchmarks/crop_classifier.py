"""A small network that learns to tell crops apart from nothing, in seconds of one core, and how right it is."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_WIDTHS: Final = (3, 16, 24, 32, 48, 64, 64)
_BATCH: Final = 64
_RATE: Final = 2e-3
_DECAY: Final = 0.05
_MIRRORED: Final = 0.5
_TURN: Final = 0.13
_SCALES: Final = (0.85, 1.2)
_MOVE: Final = 0.1
"""What every training changes of a crop: sides, radians, sizes, and parts of half the side."""

_MEAN: Final = 114.75
_SPREAD: Final = 63.75
_CHANGED: Final = 0.8
"""Chance that a crop is taken from a changed image, where there are any."""


def train(crops: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], *, classes: int, steps: int, seed: int) -> Any:
    """Learn.

    Args:
        crops: Of shape (1 + v, n, side, side, 3): as the images are, and cut from v changed versions of each.
        labels: Of shape (n,).
        classes: How many there are.
        steps: Of 64 crops each.
        seed: Of the weights and of everything drawn.

    Returns:
        The network, in eval mode.
    """
    import torch

    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(classes)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
        versions, targets = len(crops) - 1, torch.from_numpy(labels)
        for _ in range(steps):
            rows = rng.integers(0, len(labels), _BATCH)
            # Drawn alike whatever there is to draw from, so that the arms of a comparison see the same crops moved alike.
            changed, version = rng.random(_BATCH) < _CHANGED, rng.random(_BATCH)
            chosen = np.where(changed & (versions > 0), 1 + (version * versions).astype(np.int64), 0)
            images = _moved(_tensor(crops[chosen, rows]), rng)
            loss = torch.nn.functional.cross_entropy(network(images), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def recalls(network: Any, crops: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of each class's crops, of shape (n, side, side, 3), that is told right."""
    import torch

    with torch.inference_mode():
        said = np.concatenate(
            [network(_tensor(crops[at : at + 256])).argmax(dim=1).numpy() for at in range(0, len(crops), 256)]
        )
    return np.array([np.mean(said[labels == k] == k) for k in np.unique(labels)])


def _network(classes: int) -> Any:
    from torch import nn

    layers: list[Any] = []
    for number, (before, after) in enumerate(pairwise(_WIDTHS)):
        layers += [nn.Conv2d(before, after, 3, 2 - number % 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_WIDTHS[-1], classes))


def _tensor(crops: npt.NDArray[np.uint8]) -> Any:
    import torch

    return (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - _MEAN) / _SPREAD


def _moved(images: Any, rng: np.random.Generator) -> Any:
    """Mirrored, turned, scaled and shifted at random."""
    import torch

    count = len(images)
    angle, scale = rng.uniform(-_TURN, _TURN, count), rng.uniform(*_SCALES, count)
    side = np.where(rng.random(count) < _MIRRORED, -1.0, 1.0)
    matrix = np.empty((count, 2, 3), np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = side * scale * np.cos(angle), -scale * np.sin(angle)
    matrix[:, 1, 0], matrix[:, 1, 1] = side * scale * np.sin(angle), scale * np.cos(angle)
    matrix[:, :, 2] = rng.uniform(-_MOVE, _MOVE, (count, 2))
    grid = torch.nn.functional.affine_grid(torch.from_numpy(matrix), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
