"""Depth estimators and classifiers of transformers, against transformers itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curate.errors import InputError, UsageError
from curate.models.predictors.base import Classes, DepthMap
from curate.models.predictors.hf.snapshots import Snapshot

transformers = pytest.importorskip("transformers")

from tests.models.hf_models import SIZES, noise, open_model, save, with_oracle  # noqa: E402


def found(predictor: Any, pictures: Any) -> list[Any]:
    return list(predictor.predict([predictor.prepare(each) for each in pictures]))


def raw_depth(folder: Path, pixels: Any) -> Any:
    import torch

    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForDepthEstimation.from_pretrained(folder).eval()
    with torch.inference_mode():
        outputs = model(**processor(images=pixels, return_tensors="pt"))
    (result,) = processor.post_process_depth_estimation(outputs, target_sizes=[pixels.shape[:2]])
    return result["predicted_depth"].numpy()


def test_metres_are_those_of_transformers(tmp_path: Path) -> None:
    folder = save("depth_anything_metric", tmp_path)
    predictor = open_model(folder)
    assert (predictor.task, predictor.classes) == ("depth", ())
    pictures = noise()
    for pixels, said in zip(pictures, found(predictor, pictures), strict=True):
        assert isinstance(said, DepthMap)
        assert said.metric
        np.testing.assert_allclose(said.depth, raw_depth(folder, pixels).clip(min=0), atol=1e-3)
        assert said.depth.std() > 0


def test_what_only_has_an_order_is_turned_round(tmp_path: Path) -> None:
    folder = save("depth_anything", tmp_path)
    pictures = noise()
    for pixels, said in zip(pictures, found(open_model(folder), pictures), strict=True):
        nearness = raw_depth(folder, pixels)
        assert not said.metric
        assert (said.depth.min(), said.depth.max()) == (0, 1)
        expected = (nearness.max() - nearness) / (nearness.max() - nearness.min())
        np.testing.assert_allclose(said.depth, expected, atol=2e-3)


@pytest.mark.parametrize(("value", "expected"), [(3.0, 0.0), (np.nan, np.nan)])
def test_a_wall_has_no_order(tmp_path: Path, value: float, expected: float) -> None:
    import torch

    predictor = with_oracle(
        open_model(save("depth_anything", tmp_path)),
        lambda inputs: SimpleNamespace(predicted_depth=torch.full((len(inputs.pixel_values), 4, 4), value)),
    )
    for said in found(predictor, noise()):
        np.testing.assert_array_equal(said.depth, np.full_like(said.depth, expected))


def test_padding_of_zoedepth_is_taken_off(tmp_path: Path) -> None:
    from curate.models.predictors.hf.depth import read_depth
    from curate.models.predictors.hf.network import Network
    from curate.models.predictors.hf.predictor import HfPredictor

    processor = transformers.ZoeDepthImageProcessor(size={"height": 96, "width": 128}, ensure_multiple_of=32)
    network = Network(Snapshot(tmp_path, "zoe", "0"), SimpleNamespace(model_type="zoedepth"), None, processor, "cpu")
    predictor = with_oracle(
        HfPredictor("hf:zoe@0", "depth", (), network, read_depth(network)),
        lambda inputs: SimpleNamespace(predicted_depth=inputs.pixel_values[:, 0] + 1),
    )
    for size in SIZES:  # as far away as it is right in the picture
        ramp = np.linspace(40, 220, size[1])
        pixels = np.broadcast_to(ramp[None, :, None], (*size, 3)).astype(np.uint8)
        (said,) = found(predictor, [pixels])
        assert said.metric
        assert said.depth.shape == size
        expected = (ramp / 255 - processor.image_mean[0]) / processor.image_std[0] + 1
        np.testing.assert_allclose(said.depth[size[0] // 2], expected, atol=0.06)


def test_depths_of_unknown_meaning_are_refused(tmp_path: Path) -> None:
    from curate.models.predictors.hf.depth import read_depth
    from curate.models.predictors.hf.network import Network

    network = Network(Snapshot(tmp_path, "x", "0"), SimpleNamespace(model_type="chmv2"), None, None, "cpu")
    with pytest.raises(UsageError, match="'chmv2' stand for is not known"):
        read_depth(network)


@pytest.mark.parametrize("several", [False, True])
def test_probabilities_are_those_of_transformers(tmp_path: Path, several: bool) -> None:
    import torch

    kind = "multi_label_classification" if several else None
    folder = save("vit", tmp_path, classes=("bolt", "crane", "nut", "crane"), problem_type=kind)
    predictor = open_model(folder)
    assert (predictor.task, predictor.input_size) == ("classify", 32)
    assert predictor.classes == ("bolt", "crane (1)", "nut", "crane (3)")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    pictures = noise()
    for pixels, said in zip(pictures, found(predictor, pictures), strict=True):
        with torch.inference_mode():
            logits = model(**processor(images=pixels, return_tensors="pt")).logits[0]
        assert isinstance(said, Classes)
        expected = (logits.sigmoid() if several else logits.softmax(-1)).numpy()
        np.testing.assert_allclose(said.probabilities, expected, atol=1e-6)
        assert several or said.probabilities.sum() == pytest.approx(1, abs=1e-6)


def test_a_number_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gives a number, not a class"):
        open_model(save("vit", tmp_path, classes=("sharpness",)))
