"""torchvision's SSDlite with MobileNetV3 as a `Detector`: its boxes before suppression, which is done outside.

Liu et al., "SSD", ECCV 2016; Sandler et al., "MobileNetV2", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curate.errors import UnavailableError
from curate.models.encoders.hub import first_line
from curate.models.training.detect.base import Loss, Targets


class Ssdlite(nn.Module):  # type: ignore[misc]
    """See `Detector`.

    Args:
        network: torchvision's.
    """

    suppress = True
    fixed_batch = False
    of_classes = ("classification_head",)

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores; see `Detector`."""
        outputs, anchors = self._outputs(images)
        scores = outputs["cls_logits"].float().softmax(dim=-1)[..., 1:]
        return _decode(outputs["bbox_regression"].float(), anchors, self.network.box_coder.weights), scores

    def loss(self, images: Tensor, targets: Sequence[Targets]) -> Loss:
        """torchvision's own. It knows no crowds: what they cover counts as background."""
        outputs, anchors = self._outputs(images)
        outputs = {name: value.float() for name, value in outputs.items()}
        wanted = [{"boxes": each.boxes, "labels": each.labels + 1} for each in targets]
        matched = [self._match(each.boxes, anchors) for each in targets]
        parts = self.network.compute_loss(wanted, outputs, [anchors] * len(images), matched)
        total = sum(parts.values())
        return total, {
            "class": float(parts["classification"].detach()), "box": float(parts["bbox_regression"].detach())
        }  # fmt: skip

    def backbone_parameters(self) -> list[nn.Parameter]:
        """In the order in which the image meets them."""
        return list(self.network.backbone.parameters())

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        from torchvision.ops import box_iou

        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        matched: Tensor = self.network.proposal_matcher(box_iou(boxes, anchors))
        return matched

    def _outputs(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What its heads give, and the anchors [x0, y0, x1, y1] of shape (k, 4)."""
        maps = list(self.network.backbone(images / 127.5 - 1).values())
        return self.network.head(maps), self._anchors(images, maps)

    def _anchors(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        from torchvision.models.detection.image_list import ImageList

        size = (images.shape[2], images.shape[3])
        anchors: Tensor = self.network.anchor_generator(ImageList(images[:1], [size]), maps)[0]
        return anchors


def build_ssdlite(classes: int, *, pretrained: bool) -> Ssdlite:
    """SSDlite for some classes and one more for the background.

    Args:
        classes: How many.
        pretrained: With torchvision's weights of COCO, but for the classes.

    Raises:
        UnavailableError: The weights are not in torch's cache and cannot be fetched.
    """
    from torchvision.models.detection import (
        SSDLite320_MobileNet_V3_Large_Weights,
        ssdlite320_mobilenet_v3_large,
    )

    own = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
    if pretrained:
        try:
            weights = SSDLite320_MobileNet_V3_Large_Weights.DEFAULT.get_state_dict(check_hash=True, progress=False)
        except OSError as error:
            raise UnavailableError(
                f"torchvision's weights are not on this disk and cannot be fetched: {first_line(error)}",
                where=Path(torch.hub.get_dir(), "checkpoints"),
                remedy="--weights scratch, --model fcos/builtin, or copy the file there",
            ) from error
        state = own.state_dict()
        own.load_state_dict({k: v for k, v in weights.items() if state[k].shape == v.shape}, strict=False)
    return Ssdlite(own)


def _decode(said: Tensor, anchors: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes [x0, y0, x1, y1] of what the head says of each anchor (Ren et al., "Faster R-CNN", section 3.1.2)."""
    low, high = anchors[:, :2], anchors[:, 2:]
    sides, middle = high - low, (low + high) / 2
    divisors = torch.tensor(weights, device=said.device)
    said = said / divisors
    centre = middle + said[..., :2] * sides
    half = said[..., 2:].clamp(max=4.0).exp() * sides / 2
    return torch.cat([centre - half, centre + half], dim=-1)
