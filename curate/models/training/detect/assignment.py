"""Which cells learn which box: decided at every step by what the network already gets right.

The cost of a pair is how far the cell's class scores and box are from the object's, and how far the cell is from its middle;
each object takes its k cheapest cells, k being about how many cells already fit it (Ge et al., "OTA: Optimal Transport
Assignment", CVPR 2021; soft labels as in Lyu et al., "RTMDet", 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou

from curate.models.training.detect.cells import Cells

NOBODY: Final = -1
"""The object of a cell that has none."""

_MOST_CELLS: Final = 13  # of one object; the overlaps of so many are summed for k
_NEAR: Final = 1.5  # strides from the middle of an object within which a cell may always take it, however small that is
_BOX_WEIGHT: Final = 3.0
_PRIOR_BASE, _PRIOR_SHIFT = 10.0, 3.0
_NEVER: Final = 1e8


@dataclass(frozen=True)
class Assignment:
    """What each cell of an image learns.

    Attributes:
        objects: Number of its object, or `NOBODY`; int64 of shape (cells,).
        overlaps: IoU of its box, as now predicted, with that object's, 0 for none; float32 of shape (cells,).
    """

    objects: Tensor
    overlaps: Tensor


@torch.no_grad()  # type: ignore[untyped-decorator]
def assign(cells: Cells, logits: Tensor, boxes: Tensor, objects: Tensor, labels: Tensor) -> Assignment:
    """Give objects to cells, each cell at most one and each object at least one, unless others take them all.

    Args:
        cells: Of the image.
        logits: Class scores that cells now give; shape (cells, classes).
        boxes: [x0, y0, x1, y1] that they now give; shape (cells, 4).
        objects: Boxes of the k objects; shape (k, 4).
        labels: Their classes; int64 of shape (k,).
    """
    found = torch.full((len(boxes),), NOBODY, dtype=torch.int64, device=boxes.device)
    if not len(objects):
        return Assignment(found, boxes.new_zeros(len(boxes)))
    candidates, distance = _candidates(cells, objects)
    overlap = box_iou(boxes, objects) * candidates
    cost = _class_cost(logits[:, labels], overlap) - _BOX_WEIGHT * overlap.clamp(min=1e-7).log()
    cost = cost + _PRIOR_BASE ** (distance - _PRIOR_SHIFT)
    cost = torch.where(candidates, cost, _NEVER).nan_to_num(nan=_NEVER)
    taken = _cheapest(cost, overlap) & candidates
    best = torch.where(taken, cost, torch.inf).argmin(dim=1)
    some = taken.any(dim=1)
    found[some] = best[some]
    overlaps = overlap.gather(1, best[:, None])[:, 0]
    return Assignment(found, torch.where(some, overlaps, 0.0))


def _candidates(cells: Cells, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each cell may take each object, and how many strides it is from its middle; shapes (cells, k)."""
    x, y = cells.centres[:, :1], cells.centres[:, 1:]
    inside = (x > objects[:, 0]) & (y > objects[:, 1]) & (x < objects[:, 2]) & (y < objects[:, 3])
    middle = (objects[:, :2] + objects[:, 2:]) / 2
    distance = torch.cdist(cells.centres, middle) / cells.strides
    return inside | (distance < _NEAR), distance


def _class_cost(logits: Tensor, overlap: Tensor) -> Tensor:
    """Cross-entropy with the overlap as the wanted score, weighed by how far away that is; shape (cells, k)."""
    wide = functional.binary_cross_entropy_with_logits(logits, overlap, reduction="none")
    return wide * (overlap - logits.sigmoid()).square()


def _cheapest(cost: Tensor, overlap: Tensor) -> Tensor:
    """The k cheapest cells of each object, k being the sum of its largest overlaps; bool of shape (cells, objects)."""
    most = min(_MOST_CELLS, len(cost))
    count = overlap.topk(most, dim=0).values.sum(dim=0).long().clamp(min=1, max=most)
    order = cost.topk(most, dim=0, largest=False).indices
    chosen = torch.arange(most, device=cost.device)[:, None] < count
    return torch.zeros_like(cost, dtype=torch.bool).scatter_(0, order, chosen)
