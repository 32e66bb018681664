"""Masks of the things in boxes: SAM 2 (Ravi et al., 2024), SAM (Kirillov et al., ICCV 2023), and what works like them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.errors import UsageError
from curate.imaging import Pixels
from curate.models.predictors.hf.detection import to_numpy
from curate.models.predictors.hf.network import Network, exact, preparing

_AT_A_TIME: Final = 16  # masks at an image's full size are large


@dataclass
class HfBoxSegmenter:
    """See `curate.models.predictors.base.BoxSegmenter`. The image goes through the network once for all its boxes."""

    name: str
    network: Network

    def segment(
        self, pixels: Pixels, boxes: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Masks of the things in k boxes on one image; bool of shape (k, height, width), and estimates of IoU of shape (k,).

        Raises:
            UsageError: A box is not four finite numbers, or has no area.
            ImageError: As for `Network.prepare`.
        """
        height, width = pixels.shape[:2]
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if not np.isfinite(boxes).all() or (boxes[:, 2:] <= 0).any():
            raise UsageError("a box has no area, or is not made of numbers", remedy="leave such boxes out")
        if not len(boxes):
            return np.zeros((0, height, width), bool), np.zeros(0)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        network = self.network
        with preparing(pixels):
            inputs = network.processor(
                images=np.array(pixels),
                input_data_format="channels_last",
                input_boxes=[corners.tolist()],
                return_tensors="pt",
            )
        sizes = [inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        masks, scores = [], []
        with exact():
            embeddings = network.model.get_image_embeddings(inputs["pixel_values"].to(network.device))
            for some in inputs["input_boxes"].to(network.device, dtype=_float32()).split(_AT_A_TIME, dim=1):
                # One mask a box: the three that the network can give are for prompts that may mean a part or the whole.
                said = network.model(image_embeddings=embeddings, input_boxes=some, multimask_output=False)
                masks.append(to_numpy(network.processor.post_process_masks(said.pred_masks.cpu(), *sizes)[0])[:, 0])
                scores.append(to_numpy(said.iou_scores)[0, :, 0])
        return np.concatenate(masks).astype(bool), np.clip(np.concatenate(scores), 0, 1, dtype=np.float64)


def _float32() -> object:
    import torch

    return torch.float32
