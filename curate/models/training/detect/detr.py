"""RT-DETR and D-FINE of transformers as `Detector`s (Zhao et al., CVPR 2024; Peng et al., ICLR 2025).

They look at boxes as a set, so nothing has to be suppressed; and they learn slowly: from scratch on a few hundred images next
to nothing. They pay with weights from the hub or a folder, and on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from curate.errors import InputError, MissingExtra, UsageError
from curate.models.encoders.hub import first_line, hub
from curate.models.training.detect.base import Loss, Targets
from curate.models.training.detect.fetching import fetched

FAMILIES: Final = {
    "rtdetr": ("RTDetrV2ForObjectDetection", "RTDetrV2Config", "PekingU/rtdetr_v2_r18vd"),
    "dfine": ("DFineForObjectDetection", "DFineConfig", "ustc-community/dfine-small-coco"),
}
"""Model and configuration of transformers, and which weights are meant where none are named."""


class Detr(nn.Module):  # type: ignore[misc]
    """See `Detector`. Pixels are scaled to 0 to 1, as both families were trained.

    Args:
        network: transformers'.
    """

    suppress = False
    fixed_batch = True
    of_classes = ("class_embed", "enc_score_head", "denoising_class_embed")

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and scores; see `Detector`."""
        found = self.network(pixel_values=images / 255)
        centre, half = found.pred_boxes.float()[..., :2], found.pred_boxes.float()[..., 2:] / 2
        height, width = images.shape[2:]
        sides = torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device)
        return torch.cat([centre - half, centre + half], dim=-1) * sides, found.logits.float().sigmoid()

    def loss(self, images: Tensor, targets: Sequence[Targets]) -> Loss:
        """transformers' own. It knows no crowds: what they cover counts as background."""
        height, width = images.shape[2:]
        sides = torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device)
        labels = [{"class_labels": each.labels, "boxes": _middle_and_size(each.boxes) / sides} for each in targets]
        found = self.network(pixel_values=images / 255, labels=labels)
        names = {"loss_vfl": "class", "loss_bbox": "box", "loss_giou": "overlap"}
        parts = {short: float(found.loss_dict[name].detach()) for name, short in names.items()}
        return found.loss, parts

    def backbone_parameters(self) -> list[nn.Parameter]:
        """In the order in which the image meets them."""
        return list(self.network.model.backbone.parameters())


def build_detr(family: str, source: str, classes: int, *, pretrained: bool) -> Detr:
    """A network of transformers for some classes.

    Args:
        family: A key of `FAMILIES`.
        source: Folder of weights or of a configuration alone, or a hub id; '' for the family's usual weights.
        classes: How many.
        pretrained: With the weights; else the configuration's network, knowing nothing.

    Raises:
        InputError: The folder holds no such network.
        UnavailableError: The hub cannot be reached.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("transformers", "train") from error
    model_name, config_name, usual = FAMILIES[family]
    model, config_class = getattr(transformers, model_name), getattr(transformers, config_name)
    change = {"id2label": {n: str(n) for n in range(classes)}, "label2id": {str(n): n for n in range(classes)}}
    folder = Path(source).expanduser()
    if not pretrained:
        with hub(online=False):
            config = _config(config_class, folder if source else None, change)
            return Detr(model(config))
    fetch = partial(model.from_pretrained, ignore_mismatched_sizes=True, use_safetensors=True, **change)
    if source and folder.is_dir():
        with hub(online=False):
            try:
                return Detr(fetch(str(folder)))
            except (OSError, ValueError, RuntimeError) as error:
                raise InputError(f"no {family} can be loaded: {first_line(error)}", where=folder) from error
    if source.startswith((".", "/", "~")):
        raise InputError("the folder of the model is not there", where=folder)
    name = source or usual
    return Detr(fetched(partial(fetch, name), name))


def _config(config_class: Any, folder: Path | None, change: dict[str, Any]) -> Any:
    """A configuration: a folder's, or the family's own with a backbone that is not fetched.

    Raises:
        UsageError: The folder holds none.
    """
    if folder is None:
        return config_class(**change)
    try:
        return config_class.from_pretrained(str(folder), **change)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the folder holds no configuration: {first_line(error)}", where=folder, remedy="leave the folder out"
        ) from error


def _middle_and_size(boxes: Tensor) -> Tensor:
    """[x0, y0, x1, y1] to [x, y of the middle, width, height]."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return torch.cat([(low + high) / 2, high - low], dim=1)
