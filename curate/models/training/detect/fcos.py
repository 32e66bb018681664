"""A light detector without anchors on any backbone: a pyramid of maps, and one small head for all of them.

One stage, a score for each class and a box at every cell (Tian et al., "FCOS", ICCV 2019). The score to be learnt is the
overlap of the cell's own box with the object (Li et al., "Generalized Focal Loss", NeurIPS 2020), so that of two boxes on one
thing the better is also the surer; cells and objects find one another as in `assignment`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from curate.models.training.detect.assignment import NOBODY, assign
from curate.models.training.detect.backbones import Backbone
from curate.models.training.detect.base import Loss, Targets
from curate.models.training.detect.cells import Cells, decode, make_cells

_GROUPS: Final = 8  # of channels that are normalised together: as good for two images in a batch as for many
_PRIOR: Final = 0.01  # score of every class at the start, or the many empty cells would drown everything else
_USUAL_SIDE: Final = 4.0  # strides: what boxes are at the start
_BOX_WEIGHT: Final = 2.0
_LEAST_AND_MOST_WEIGHT: Final = (0.3, 3.0)


class Fcos(nn.Module):  # type: ignore[misc]
    """See the module's docstring and `curate.models.training.detect.base.Detector`.

    Args:
        backbone: Gives the maps.
        counts: Objects of each class in the training images.
        width: Channels of the pyramid and the head.
        depth: Convolutions before each of the head's two outputs.
        levels: Maps, from the backbone's finest on; what the backbone lacks is made of its coarsest.
    """

    suppress = True
    fixed_batch = False
    of_classes = ("class_output",)

    def __init__(
        self, backbone: Backbone, counts: Sequence[int], *, width: int = 64, depth: int = 2, levels: int = 3
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights(counts), persistent=False)
        self.backbone = backbone
        self.pyramid = Pyramid(backbone.channels, width, levels)
        self.strides = [*backbone.strides, *(backbone.strides[-1] * 2**more for more in range(1, levels))][:levels]
        self.class_tower, self.box_tower = (
            nn.Sequential(*(_block(width, width, 3) for _ in range(depth))) for _ in range(2)
        )
        self.class_output = nn.Conv2d(width, len(counts), 3, padding=1)
        self.box_output = nn.Conv2d(width, 4, 3, padding=1)
        for output in (self.class_output, self.box_output):
            nn.init.normal_(output.weight, std=0.01)
        nn.init.constant_(self.class_output.bias, math.log(_PRIOR / (1 - _PRIOR)))
        with torch.no_grad():
            self.box_output.bias.copy_(torch.tensor([0.0, 0.0, *[math.log(_USUAL_SIDE)] * 2]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores; see `Detector`."""
        _, logits, boxes = self._cells(images)
        return boxes, logits.sigmoid()

    def loss(self, images: Tensor, targets: Sequence[Targets]) -> Loss:
        """Of class scores and boxes; see `Detector`."""
        cells, logits, boxes = self._cells(images)
        wanted, weights = torch.zeros_like(logits), torch.ones_like(logits[..., :1])
        fits, shares = [], []
        for row, target in enumerate(targets):
            given = assign(cells, logits[row], boxes[row], target.boxes, target.labels)
            mine = (given.objects != NOBODY).nonzero()[:, 0]
            objects = given.objects[mine]
            wanted[row, mine, target.labels[objects]] = given.overlaps[mine]
            weights[row, _within(cells, target.ignored) & (given.objects == NOBODY)] = 0
            fits.append(generalized_box_iou_loss(boxes[row, mine], target.boxes[objects]))
            shares.append(given.overlaps[mine])
        share = torch.cat(shares)
        total = share.sum().clamp(min=1.0)
        classes = (quality_focal_loss(logits, wanted) * weights * self.class_weights).sum() / total
        fit = _BOX_WEIGHT * (torch.cat(fits) * share).sum() / total
        return classes + fit, {"class": float(classes.detach()), "box": float(fit.detach())}

    def backbone_parameters(self) -> list[nn.Parameter]:
        """In the order in which the image meets them."""
        return list(self.backbone.parameters())

    def _cells(self, images: Tensor) -> tuple[Cells, Tensor, Tensor]:
        """The cells, their logits (n, cells, classes), and their boxes (n, cells, 4) in pixels; in full precision."""
        maps = self.pyramid(self.backbone(images))
        logits = [self.class_output(self.class_tower(each)) for each in maps]
        said = [self.box_output(self.box_tower(each)) for each in maps]
        cells = make_cells([(each.shape[2], each.shape[3]) for each in maps], self.strides, images.device)
        return cells, _rows(logits).float(), decode(cells, _rows(said).float())


class Pyramid(nn.Module):  # type: ignore[misc]
    """Maps of one width, into which what the coarser ones have seen is carried (Lin et al., CVPR 2017)."""

    def __init__(self, channels: Sequence[int], width: int, levels: int) -> None:
        super().__init__()
        own = min(levels, len(channels))
        self.lateral = nn.ModuleList(_block(each, width, 1) for each in channels[:own])
        self.coarser = nn.ModuleList(
            _block(channels[own - 1] if number == 0 else width, width, 3, stride=2) for number in range(levels - own)
        )
        self.smooth = nn.ModuleList(_block(width, width, 3) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Finest first, as given."""
        own = len(self.lateral)
        levels = [lateral(each) for lateral, each in zip(self.lateral, maps[:own], strict=True)]
        coarsest = maps[own - 1]
        for down in self.coarser:
            coarsest = down(coarsest)
            levels.append(coarsest)
        for finer in reversed(range(len(levels) - 1)):
            levels[finer] = levels[finer] + functional.interpolate(
                levels[finer + 1], levels[finer].shape[2:], mode="nearest"
            )
        return [smooth(each) for smooth, each in zip(self.smooth, levels, strict=True)]


def quality_focal_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy with a wanted score between 0 and 1, weighed by the square of how far away it is; of each number."""
    wide = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return wide * (wanted - logits.sigmoid()).square()


def class_weights(counts: Sequence[int]) -> Tensor:
    """How much the scores of each class count: rare classes more, or the common ones would have the network to themselves.

    All of a class's scores count alike, wanted or not, so they still mean what they did.

    Args:
        counts: Objects of each class.

    Returns:
        The root of the mean count by a class's own, within limits; float32 of shape (classes,).
    """
    objects = torch.tensor(counts, dtype=torch.float32)
    return (objects.mean().clamp(min=1) / objects.clamp(min=1)).sqrt().clamp(*_LEAST_AND_MOST_WEIGHT)


def _block(before: int, after: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, side, stride, side // 2, bias=False),
        nn.GroupNorm(_GROUPS, after),
        nn.SiLU(inplace=True),
    )


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """Maps of shape (n, channels, h, w) as one row for each cell; (n, cells, channels)."""
    return torch.cat([each.flatten(2).transpose(1, 2) for each in maps], dim=1)


def _within(cells: Cells, areas: Tensor) -> Tensor:
    """Which cells have their centre in any of some boxes; bool of shape (cells,)."""
    x, y = cells.centres[:, :1], cells.centres[:, 1:]
    return ((x >= areas[:, 0]) & (y >= areas[:, 1]) & (x <= areas[:, 2]) & (y <= areas[:, 3])).any(dim=1)
