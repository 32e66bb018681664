"""Detectors of transformers: what they say is what transformers says, where it says it, for pictures of any size together."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curate.errors import ImageError
from curate.models.predictors.base import Objects

transformers = pytest.importorskip("transformers")

from tests.models.hf_models import BOXES, noise, open_model, rectangles, save, white_boxes, with_oracle  # noqa: E402

MIN_SCORE = 0.1


def found(predictor: Any, pictures: Any) -> list[Objects]:
    return list(predictor.predict([predictor.prepare(each) for each in pictures]))


def by_transformers(folder: Path, pixels: Any) -> tuple[Any, Any]:
    """What the model's own functions give for one picture, and the logits."""
    import torch

    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=pixels, return_tensors="pt"))
    result = processor.post_process_object_detection(outputs, threshold=MIN_SCORE, target_sizes=[pixels.shape[:2]])
    return result[0], outputs.logits[0]


@pytest.mark.parametrize("name", ["detr", "yolos", "rtdetr"])
def test_objects_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    folder = save(name, tmp_path)
    pictures = noise()
    predictor = open_model(folder, min_score=MIN_SCORE)
    assert (predictor.task, predictor.classes, predictor.input_size) == ("detect", ("bolt", "nut"), 64)
    for pixels, objects in zip(pictures, found(predictor, pictures), strict=True):
        expected, logits = by_transformers(folder, pixels)
        order = np.argsort(-expected["scores"].numpy(), kind="stable")
        corners = np.clip(expected["boxes"].numpy()[order], 0, [pixels.shape[1], pixels.shape[0]] * 2)
        there = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        assert objects.size == pixels.shape[:2]
        assert len(objects.scores) == there.sum() > 0
        np.testing.assert_allclose(objects.scores, expected["scores"].numpy()[order][there], atol=1e-5)
        assert (objects.labels == expected["labels"].numpy()[order][there]).all()
        np.testing.assert_allclose(objects.boxes[:, :2] + objects.boxes[:, 2:], corners[there][:, 2:], atol=1e-3)
        np.testing.assert_allclose(objects.boxes[:, :2], corners[there][:, :2], atol=1e-3)
        assert objects.probabilities is not None
        rows = np.arange(len(objects.labels))
        np.testing.assert_allclose(objects.probabilities[rows, objects.labels], objects.scores, atol=1e-6)
        all_of_them = (logits.sigmoid() if name == "rtdetr" else logits.softmax(-1)[:, :-1]).numpy()
        gaps = np.abs(objects.probabilities[:, None] - all_of_them[None]).max(-1)
        assert gaps.min(axis=1).max() < 1e-5  # each row is one query's


@pytest.mark.parametrize("name", ["detr", "yolos", "rtdetr"])
def test_a_thing_is_found_where_it_is_in_pictures_of_any_shape(tmp_path: Path, name: str) -> None:
    def look(inputs: Any) -> Any:
        import torch

        boxes = white_boxes(inputs.pixel_values)
        logits = torch.tensor([[-9.0, -9.0, 9.0], [-9.0, 9.0, -9.0]])[:, : 2 if name == "rtdetr" else 3]
        both = torch.stack([torch.full_like(boxes, 0.1), boxes], dim=1)
        return SimpleNamespace(logits=logits.repeat(len(boxes), 1, 1), pred_boxes=both)

    predictor = with_oracle(open_model(save(name, tmp_path), min_score=0.5), look)
    for box, objects in zip(BOXES, found(predictor, rectangles(BOXES)), strict=True):
        assert objects.labels.tolist() == [1]
        np.testing.assert_allclose(objects.boxes[0], box, atol=1.5)


def test_boxes_are_cut_at_the_border_and_those_outside_are_left_out(tmp_path: Path) -> None:
    import torch

    predictor = with_oracle(
        open_model(save("detr", tmp_path)),
        lambda inputs: SimpleNamespace(
            logits=torch.tensor([[[0.0, 9.0, 0.0], [9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]]),
            pred_boxes=torch.tensor([[[0.0, 0.5, 0.5, 2.0], [1.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.0, 0.2]]]),
        ),
    )
    (objects,) = found(predictor, [noise()[0]])
    np.testing.assert_allclose(objects.boxes, [[0, 0, 22.5, 50]])


def test_numbers_that_a_dataset_skips_are_no_classes(tmp_path: Path) -> None:
    import torch

    folder = save("detr", tmp_path, classes=("N/A", "bolt", "N/A ", "nut"))
    predictor = with_oracle(
        open_model(folder),
        lambda inputs: SimpleNamespace(
            logits=torch.tensor([[[9.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0, 0.0], [0.0, 5.0, 0.0, 0.0, 0.0]]]),
            pred_boxes=torch.full((1, 3, 4), 0.5),
        ),
    )
    assert predictor.classes == ("bolt", "nut")
    (objects,) = found(predictor, [noise()[0]])
    assert objects.labels.tolist() == [1, 0]
    assert objects.probabilities is not None
    assert objects.probabilities.argmax(axis=1).tolist() == [1, 0]
    assert objects.probabilities.shape == (2, 2)


def test_no_more_than_wanted_and_the_surest(tmp_path: Path) -> None:
    folder = save("rtdetr", tmp_path)
    (every,) = found(open_model(folder, min_score=0.0), [noise()[0]])
    (some,) = found(open_model(folder, min_score=0.0, most_objects=3), [noise()[0]])
    assert len(every.scores) > 3
    assert (np.diff(every.scores) <= 0).all()
    np.testing.assert_array_equal(some.boxes, every.boxes[:3])


def test_an_image_is_told_the_same_whatever_is_beside_it(tmp_path: Path) -> None:
    predictor = open_model(save("detr", tmp_path), min_score=MIN_SCORE)
    pictures = noise()
    together = found(predictor, pictures)
    with ThreadPoolExecutor(3) as pool:
        prepared = list(pool.map(predictor.prepare, pictures))
    backwards = list(predictor.predict(prepared[::-1]))[::-1]
    for pixels, one, other in zip(pictures, together, backwards, strict=True):
        (alone,) = found(predictor, [pixels])
        for objects in (one, other):
            assert isinstance(objects, Objects)
            np.testing.assert_allclose(objects.boxes, alone.boxes, atol=1e-3)
            np.testing.assert_allclose(objects.scores, alone.scores, atol=1e-5)
    assert predictor.predict([]) == []
    for one, other in zip(together, found(predictor, pictures), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)  # and exactly the same again


def test_pictures_that_cannot_be_written_to_are_taken(tmp_path: Path) -> None:
    predictor = open_model(save("detr", tmp_path))
    pixels = noise()[0]
    pixels.setflags(write=False)
    predictor.prepare(pixels)
    narrow = predictor.prepare(np.zeros((3, 40, 3), np.uint8))  # three rows are not three channels
    assert narrow.size == (3, 40)
    assert isinstance(predictor.predict([narrow])[0], Objects)


def test_an_image_that_cannot_be_scaled_is_told_by_its_size(tmp_path: Path) -> None:
    predictor = open_model(save("detr", tmp_path))
    with pytest.raises(ImageError, match="cannot take an image of 200 x 1 pixels"):
        predictor.prepare(np.zeros((1, 200, 3), np.uint8))


def test_detectors_that_keep_a_hundred_keep_what_is_wanted(tmp_path: Path) -> None:
    """Deformable DETR's own function keeps the best 100 of all queries and classes."""
    import torch

    folder = save("detr", tmp_path)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["image_processor_type"] = "DeformableDetrImageProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 70, 2, generator=generator)
    boxes = torch.rand(1, 70, 4, generator=generator)
    predictor = with_oracle(
        open_model(folder, min_score=0.0, most_objects=130),
        lambda inputs: SimpleNamespace(logits=logits, pred_boxes=boxes),
    )
    (objects,) = found(predictor, [noise()[0]])
    np.testing.assert_allclose(objects.scores, logits.sigmoid().flatten().sort(descending=True)[0][:130], atol=1e-6)
    assert objects.probabilities is not None
    np.testing.assert_allclose(objects.probabilities[np.arange(130), objects.labels], objects.scores, atol=1e-6)
