"""Segmenters of transformers: masks lie where things are, also where a model is given padding or parts of an image."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curate.models.predictors.base import VOID, ClassMap, Objects
from curate.models.predictors.hf import masks
from curate.models.predictors.hf.masks import boxes_of_masks

transformers = pytest.importorskip("transformers")

from tests.models.hf_models import (  # noqa: E402
    SIZES,
    iou,
    noise,
    open_model,
    rectangles,
    save,
    white,
    with_oracle,
)

BOXES = [(10, 5, 30, 20), (5, 40, 22, 40), (60, 20, 30, 30), (0, 0, 64, 32)]
THINGS = ["mask2former", "mask2former_padded", "eomt", "oneformer", "detr_segments"]


def found(predictor: Any, pictures: Any) -> list[Any]:
    return list(predictor.predict([predictor.prepare(each) for each in pictures]))


def two_queries(name: str) -> Any:
    """A network whose second query is what is white, a nut; and whose first is everything, surely nothing."""
    import torch

    def look(inputs: Any) -> Any:
        shapes = torch.nn.functional.avg_pool2d(torch.where(white(inputs.pixel_values), 4.0, -4.0)[:, None], 2)
        masks = torch.cat([torch.ones_like(shapes), shapes], dim=1)
        classes = torch.tensor([[-9.0, -9.0, 9.0], [0.0, 3.0, 0.0]]).repeat(len(masks), 1, 1)
        offsets = getattr(inputs, "patch_offsets", None)
        if name == "detr_segments":
            return SimpleNamespace(logits=classes, pred_masks=masks, pred_boxes=torch.zeros(len(masks), 2, 4))
        return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks, patch_offsets=offsets)

    return look


@pytest.mark.parametrize("name", THINGS)
def test_things_are_found_where_they_are(tmp_path: Path, name: str) -> None:
    predictor = with_oracle(open_model(save(name, tmp_path)), two_queries(name))
    assert (predictor.task, predictor.classes) == ("instances", ("bolt", "nut"))
    certainty = np.exp(3) / (np.exp(3) + 2)
    for pixels, box, objects in zip(rectangles(BOXES), BOXES, found(predictor, rectangles(BOXES)), strict=True):
        assert isinstance(objects, Objects)
        assert objects.masks is not None
        assert objects.masks.shape == (1, *pixels.shape[:2])
        assert iou(objects.masks[0], pixels[..., 0] > 0) > 0.88
        np.testing.assert_allclose(objects.boxes[0], box, atol=2.1)
        assert objects.labels.tolist() == [1]
        assert 0.85 * certainty < objects.scores[0] < certainty
        assert objects.probabilities is not None
        np.testing.assert_allclose(objects.probabilities[0, 1], certainty, atol=1e-5)


@pytest.mark.parametrize("name", ["mask2former", "mask2former_padded", "eomt_in_parts", "oneformer"])
def test_classes_of_pixels_are_where_they_are(tmp_path: Path, name: str) -> None:
    task = None if name == "eomt_in_parts" else "segment"
    predictor = with_oracle(open_model(save(name, tmp_path), task), two_queries(name))
    assert predictor.task == "segment"
    for pixels, said in zip(rectangles(BOXES), found(predictor, rectangles(BOXES)), strict=True):
        assert isinstance(said, ClassMap)
        assert said.labels.shape == pixels.shape[:2]
        sure = said.confidence > 0.45  # where no query is likely, the best of the classes is still unlikely
        assert iou(sure & (said.labels == 1), pixels[..., 0] > 0) > 0.88


@pytest.mark.parametrize("size", [(384, 384), (384, 512)])
def test_things_are_those_of_transformers_where_it_neither_pads_nor_rounds(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    import torch

    folder = save("mask2former", tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (objects,) = found(open_model(folder, min_score=0.01), [pixels])
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForUniversalSegmentation.from_pretrained(folder).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=pixels, return_tensors="pt"))
        (expected,) = processor.post_process_instance_segmentation(
            outputs, threshold=0.01, target_sizes=[size], return_binary_maps=True
        )
    assert objects.masks is not None
    theirs = list(zip(expected["segments_info"], expected["segmentation"].numpy() > 0, strict=True))
    assert len(theirs) > 3
    # Theirs has a thing once for each class that it may be, and of all of these the likeliest. Stretched from 384 x 384.
    same = 1.0 if size == (384, 384) else 0.98
    for info, mask in theirs:
        alike = [place for place, ours in enumerate(objects.masks) if iou(ours, mask) >= same]
        score, label = max((each["score"], each["label_id"]) for each, other in theirs if iou(other, mask) == 1)
        assert any(abs(objects.scores[place] - score) < 1e-3 and objects.labels[place] == label for place in alike), (
            info
        )


@pytest.mark.parametrize(
    ("name", "auto"),
    [
        ("segformer", "AutoModelForSemanticSegmentation"),
        ("eomt_in_parts", "AutoModelForUniversalSegmentation"),
    ],
)
def test_classes_of_pixels_are_those_of_transformers(tmp_path: Path, name: str, auto: str) -> None:
    import torch

    folder = save(name, tmp_path)
    predictor = open_model(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = getattr(transformers, auto).from_pretrained(folder).eval()
    pictures = noise()
    for pixels, said in zip(pictures, found(predictor, pictures), strict=True):
        with torch.inference_mode():
            outputs = model(**processor(images=pixels, return_tensors="pt"))
            (expected,) = processor.post_process_semantic_segmentation(
                outputs, target_sizes=[pixels.shape[:2]], return_segmentation_scores=True
            )
        scores = expected.segmentation_scores
        confidence = (scores.softmax(0) if name == "segformer" else scores).amax(0).clamp(max=1)
        assert (said.labels == expected.segmentation.numpy()).mean() > 0.999
        np.testing.assert_allclose(said.confidence, confidence.numpy(), atol=1e-4)
        assert said.labels.dtype == np.int16
        assert said.confidence.dtype == np.float32


def test_background_is_no_class(tmp_path: Path) -> None:
    import torch

    def look(inputs: Any) -> Any:
        there = white(inputs.pixel_values)[:, None, ::2, ::2]
        return SimpleNamespace(
            logits=torch.cat([torch.where(there, -5.0, 5.0), torch.where(there, 0.0, -5.0), there * 5.0], 1)
        )

    folder = save("segformer", tmp_path, classes=("background", "road", "sky"))
    predictor = with_oracle(open_model(folder), look)
    assert predictor.classes == ("road", "sky")
    for pixels, said in zip(rectangles(BOXES), found(predictor, rectangles(BOXES)), strict=True):
        assert set(np.unique(said.labels)) == {VOID, 1}
        assert iou(said.labels == 1, pixels[..., 0] > 0) > 0.82


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_scores_of_a_large_image_are_held_at_a_smaller_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    predictor = open_model(save(name, tmp_path), "segment")
    whole = found(predictor, rectangles(BOXES))
    monkeypatch.setattr(masks, "_MOST_SCORES", 2 * 1500)
    for full, said in zip(whole, found(predictor, rectangles(BOXES)), strict=True):
        assert said.labels.shape == said.confidence.shape == full.labels.shape
        assert (said.labels == full.labels).mean() > 0.95
        assert np.abs(said.confidence - full.confidence).mean() < 0.02
        assert (said.confidence != full.confidence).any()


def test_what_a_model_is_for_follows_from_its_name(tmp_path: Path) -> None:
    folder = save("mask2former", tmp_path / "mask2former-tiny-ade-semantic")
    assert open_model(folder).task == "segment"
    asked = open_model(folder, "instances")
    assert asked.task == "instances"
    assert asked.name.endswith("?task=instances")


def test_nothing_is_found_where_nothing_is_likely(tmp_path: Path) -> None:
    (objects,) = found(open_model(save("mask2former", tmp_path), min_score=1.0), noise()[:1])
    assert isinstance(objects, Objects)
    assert objects.masks is not None
    assert objects.masks.shape == (0, *SIZES[0])
    assert objects.boxes.shape == (0, 4)
    assert objects.probabilities is not None
    assert objects.probabilities.shape == (0, 2)


def test_boxes_of_masks() -> None:
    shapes = np.zeros((3, 6, 9), bool)
    shapes[0, 2:5, 1:8] = True
    shapes[1, 5, 8] = True
    assert boxes_of_masks(shapes).tolist() == [[1, 2, 7, 3], [8, 5, 1, 1], [0, 0, 0, 0]]
