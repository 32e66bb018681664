"""Detectors that find what they are told to: a score for each prompt, boxes where things are, prompts that cannot be taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curate.errors import UsageError
from curate.models.predictors.base import Objects

transformers = pytest.importorskip("transformers")

from tests.models.hf_models import BOXES, noise, open_model, rectangles, save, white_boxes, with_oracle  # noqa: E402

PROMPTS = ("bolt", "red nut")
MODELS = ["grounding_dino", "owlv2", "owlvit"]


def found(predictor: Any, pictures: Any) -> list[Objects]:
    return list(predictor.predict([predictor.prepare(each) for each in pictures]))


def by_transformers(folder: Path, pixels: Any) -> tuple[Any, Any]:
    """Every box with its score as the model's own functions give them, and the logits of words or prompts."""
    import torch

    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    inputs = processor(images=pixels, text=[list(PROMPTS)], return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
        result = processor.post_process_grounded_object_detection(
            outputs, threshold=0.0, target_sizes=[pixels.shape[:2]]
        )
    return result[0], outputs.logits[0]


@pytest.mark.parametrize("name", MODELS)
def test_objects_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    folder = save(name, tmp_path)
    predictor = open_model(folder, min_score=0.0, nms_iou=1.0, prompts=PROMPTS)
    assert (predictor.task, predictor.classes) == ("detect", PROMPTS)
    pictures = noise()
    for pixels, objects in zip(pictures, found(predictor, pictures), strict=True):
        expected, logits = by_transformers(folder, pixels)
        corners = np.clip(expected["boxes"].numpy(), 0, [pixels.shape[1], pixels.shape[0]] * 2)
        there = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)[there]
        said = logits.sigmoid().numpy()[there]
        if name == "grounding_dino":  # [CLS] bolt . red nut . [SEP]
            said = np.stack([said[:, 1], said[:, 3:5].max(axis=1)], axis=1)
        else:
            np.testing.assert_allclose(said.max(axis=1), expected["scores"].numpy()[there], atol=1e-5)
        assert len(objects.scores) == len(boxes) > 0
        assert objects.probabilities is not None
        for box, probabilities in zip(objects.boxes, objects.probabilities, strict=True):
            alike = np.abs(boxes - box).max(axis=1) < 0.01
            assert np.abs(said[alike] - probabilities).max(axis=1).min() < 1e-4
        np.testing.assert_allclose(objects.probabilities.max(axis=1), objects.scores, atol=1e-6)
        np.testing.assert_array_equal(objects.probabilities.argmax(axis=1), objects.labels)


@pytest.mark.parametrize("name", MODELS)
def test_a_thing_is_found_where_it_is(tmp_path: Path, name: str) -> None:
    import torch

    def look(inputs: Any) -> Any:
        boxes = white_boxes(inputs.pixel_values)
        if name == "grounding_dino":  # [CLS] bolt . red nut . [SEP]
            words = torch.tensor([[9.0, -9, 9, -9, 5, 9, 9], [9.0, -9, 9, -9, 4, 9, 9], [9.0, -9, 9, -9, -9, 9, 9]])
            logits = torch.cat([words, torch.full((3, 17), -torch.inf)], dim=1)
        else:
            logits = torch.tensor([[-9.0, 5.0], [-9.0, 4.0], [-9.0, -9.0]])
        three = torch.stack([boxes, boxes, torch.full_like(boxes, 0.1)], dim=1)  # the second a double of the first
        return SimpleNamespace(logits=logits.repeat(len(boxes), 1, 1), pred_boxes=three)

    predictor = with_oracle(open_model(save(name, tmp_path), min_score=0.5, prompts=PROMPTS), look)
    for box, objects in zip(BOXES, found(predictor, rectangles(BOXES)), strict=True):
        assert objects.labels.tolist() == [1]
        assert objects.probabilities is not None
        assert objects.probabilities[0, 0] < 0.01
        np.testing.assert_allclose(objects.boxes[0], box, atol=1.5)


def test_doubles_of_one_prompt_go_and_those_of_another_stay(tmp_path: Path) -> None:
    import torch

    predictor = with_oracle(
        open_model(save("owlv2", tmp_path), prompts=PROMPTS),
        lambda inputs: SimpleNamespace(
            logits=torch.tensor([[[2.0, -9.0], [3.0, -9.0], [-9.0, 1.0]]]),
            pred_boxes=torch.tensor([[[0.4, 0.2, 0.4, 0.2], [0.4, 0.2, 0.39, 0.2], [0.4, 0.2, 0.4, 0.2]]]),
        ),
    )
    (objects,) = found(predictor, [noise()[0]])
    assert objects.labels.tolist() == [0, 1]
    assert objects.boxes[0, 2] == pytest.approx(0.39 * 90)


@pytest.mark.parametrize(
    ("name", "prompts", "message"),
    [
        ("owlv2", (), "no prompts were given"),
        ("owlv2", ("bolt", " "), "a prompt is empty"),
        ("owlv2", ("bolt", "Bolt"), "twice"),
        (
            "owlv2",
            ("bolt", "a very long text"),
            "'a very long text' is too long: 15 word pieces, and the model takes 8",
        ),
        ("grounding_dino", ("bolt", "nut no. 3"), "'nut no. 3' has a full stop"),
        ("grounding_dino", ("bolt", "\u200b\u200b"), "makes nothing of the prompt"),
        ("grounding_dino", tuple(f"bolt{' nut' * n}" for n in range(7)), "the prompts are too long: 37 word pieces"),
    ],
)
def test_prompts_that_cannot_be_taken(tmp_path: Path, name: str, prompts: tuple[str, ...], message: str) -> None:
    folder = save(name, tmp_path)
    with pytest.raises(UsageError, match=message) as caught:
        open_model(folder, prompts=prompts)
    assert caught.value.remedy


def test_kinds_that_are_not_read_are_refused(tmp_path: Path) -> None:
    from curate.models.predictors.hf.network import load_network
    from curate.models.predictors.hf.prompted import add_prompts
    from curate.models.predictors.hf.snapshots import find_snapshot

    folder = save("owlv2", tmp_path)
    network = load_network(find_snapshot(str(folder)), "AutoModelForZeroShotObjectDetection", processor="AutoProcessor")
    network.config.model_type = "omdet-turbo"
    with pytest.raises(UsageError, match="omdet-turbo"):
        add_prompts(network, PROMPTS)
