"""Cells: the places at which an anchor-free detector speaks, and boxes as seen from them.

A map of stride s has a cell for every s x s pixels of the input. A cell says of one box where its centre is relative to the
cell's own, in strides, and the logarithms of its sides in strides (Ge et al., "YOLOX: Exceeding YOLO Series in 2021").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_MOST_LOG_SIDE: Final = 7.0  # exp of more is no side of a box, and soon no number


@dataclass(frozen=True)
class Cells:
    """All cells of an image, level by level, each by rows.

    Attributes:
        centres: x and y in pixels of the input; float32 of shape (cells, 2).
        strides: Pixels; float32 of shape (cells, 1).
    """

    centres: Tensor
    strides: Tensor


def make_cells(sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device) -> Cells:
    """The cells of maps of (height, width), each with its stride."""
    centres, spacing = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        rows, columns = (
            (torch.arange(side, device=device, dtype=torch.float32) + 0.5) * stride for side in (height, width)
        )
        grid = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], dim=-1)
        centres.append(grid.reshape(-1, 2))
        spacing.append(torch.full((height * width, 1), float(stride), device=device))
    return Cells(torch.cat(centres), torch.cat(spacing))


def encode(cells: Cells, boxes: Tensor) -> Tensor:
    """What each cell would have to say of its box.

    Args:
        cells: Of any number.
        boxes: [x0, y0, x1, y1] in pixels, with an area; shape (..., cells, 4).

    Returns:
        [dx, dy, log width, log height] in strides; shape (..., cells, 4).
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    offset = ((low + high) / 2 - cells.centres) / cells.strides
    return torch.cat([offset, ((high - low) / cells.strides).log()], dim=-1)


def decode(cells: Cells, said: Tensor) -> Tensor:
    """The boxes that cells speak of; the inverse of `encode`, for sides of less than a thousand strides."""
    centre = cells.centres + said[..., :2] * cells.strides
    half = said[..., 2:].clamp(max=_MOST_LOG_SIDE).exp() * cells.strides / 2
    return torch.cat([centre - half, centre + half], dim=-1)
