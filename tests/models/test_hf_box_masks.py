"""SAM 2 and SAM: masks of what is in boxes, against transformers itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curate.errors import UsageError
from curate.models.predictors.base import BoxSegmenter, Options
from curate.models.predictors.hf.box_masks import HfBoxSegmenter
from curate.models.predictors.hf.load import load

transformers = pytest.importorskip("transformers")

from tests.models.hf_models import SIZES, iou, noise, save  # noqa: E402

BOXES = np.array([[5, 6, 20, 30], [30, 10, 15, 25], [0, 0, 50, 50]], float)


def open_segmenter(folder: Path) -> HfBoxSegmenter:
    segmenter = load(str(folder), Options())
    assert isinstance(segmenter, BoxSegmenter)
    assert isinstance(segmenter, HfBoxSegmenter)
    return segmenter


@pytest.mark.parametrize("name", ["sam2", "sam"])
def test_masks_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    import torch

    folder = save(name, tmp_path)
    segmenter = open_segmenter(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForMaskGeneration.from_pretrained(folder).eval()
    many = np.tile(BOXES, (7, 1)) + np.arange(21)[:, None] * [0.5, 0.5, 0, 0]  # more than go through at a time
    for pixels in noise()[:2]:
        masks, scores = segmenter.segment(pixels, many)
        corners = np.concatenate([many[:, :2], many[:, :2] + many[:, 2:]], axis=1)
        inputs = processor(images=pixels, input_boxes=[corners.tolist()], return_tensors="pt")
        with torch.inference_mode():
            outputs = model(
                **{key: value for key, value in inputs.items() if "sizes" not in key}, multimask_output=False
            )
        sizes = [inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        (expected,) = processor.post_process_masks(outputs.pred_masks, *sizes)
        assert masks.shape == (21, *pixels.shape[:2])
        assert masks.dtype == bool
        assert (masks == expected[:, 0].numpy()).mean() > 0.999
        np.testing.assert_allclose(scores, outputs.iou_scores[0, :, 0].numpy().clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("name", ["sam2", "sam"])
@pytest.mark.parametrize("size", SIZES[:2])
def test_boxes_and_masks_are_in_pixels_of_the_image(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    import torch

    def fill(*, input_boxes: Any, **how: Any) -> Any:
        """Mask logits at a quarter of what the network sees: what is in each box."""
        assert how["multimask_output"] is False
        side = 128 if name == "sam2" else 64
        y, x = torch.meshgrid(torch.arange(side // 4) * 4 + 2, torch.arange(side // 4) * 4 + 2, indexing="ij")
        left, top, right, bottom = (input_boxes[0, :, i, None, None] for i in range(4))
        inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
        masks = torch.where(inside, 1.0, -1.0)[None, :, None]
        return SimpleNamespace(pred_masks=masks, iou_scores=torch.full(masks.shape[:3], 1.25))

    fill.get_image_embeddings = lambda pixel_values: [pixel_values]  # type: ignore[attr-defined]
    segmenter = open_segmenter(save(name, tmp_path))
    segmenter = dataclasses.replace(segmenter, network=dataclasses.replace(segmenter.network, model=fill))
    masks, scores = segmenter.segment(np.zeros((*size, 3), np.uint8), BOXES)
    for box, mask in zip(BOXES.astype(int), masks, strict=True):
        expected = np.zeros(size, bool)
        expected[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
        assert iou(mask, expected) > 0.65  # of cells some pixels wide
        rows, columns = np.nonzero(mask)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        wanted = [box[0], box[1], min(box[0] + box[2], size[1]), min(box[1] + box[3], size[0])]
        np.testing.assert_allclose(edges, wanted, atol=4.5)
    assert scores.tolist() == [1, 1, 1]  # an estimate above 1 is no IoU


def test_no_boxes_and_impossible_ones(tmp_path: Path) -> None:
    segmenter = open_segmenter(save("sam2", tmp_path))
    masks, scores = segmenter.segment(noise()[0], np.zeros((0, 4)))
    assert (masks.shape, scores.shape) == ((0, *SIZES[0]), (0,))
    for box in ([5, 5, 0, 9], [5, 5, np.nan, 9]):
        with pytest.raises(UsageError, match="has no area"):
            segmenter.segment(noise()[0], np.array([box], float))


def test_the_weights_of_a_tracker_of_videos_are_read_for_single_images(tmp_path: Path) -> None:
    folder = save("sam2", tmp_path)
    expected, _ = open_segmenter(folder).segment(noise()[0], BOXES)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "sam2_video", "architectures": ["Sam2VideoModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    masks, _ = open_segmenter(folder).segment(noise()[0], BOXES)
    np.testing.assert_array_equal(masks, expected)
