"""The small networks: what each is made of, that each learns, and that the file which comes out says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from curate.errors import UsageError  # noqa: E402
from curate.models.predictors.base import Classes  # noqa: E402
from curate.models.predictors.registry import load_predictor  # noqa: E402
from curate.models.training.base import SCRATCH  # noqa: E402
from curate.models.training.classify.timm import TimmNetwork, input_side, require_network  # noqa: E402
from curate.models.training.train import Asked, train  # noqa: E402
from tests.models.toy_sets import SHAPES, draw_folders, import_folders  # noqa: E402

NETWORKS = ("small_cnn", "small_resnet", "small_seresnet", "small_vit")


def make(name: str, weights: str = SCRATCH, image_size: int | None = None) -> Any:
    return TimmNetwork(name, weights, SHAPES, "nothing", image_size, "cpu").module


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [32, 64])
def test_they_are_small_and_take_small_pictures(name: str, side: int) -> None:
    require_network(name)
    assert input_side(name) == 32
    network = make(name, image_size=side)
    assert 150_000 < sum(weights.numel() for weights in network.parameters()) < 250_000
    with torch.inference_mode():
        assert network.eval()(torch.zeros(2, 3, side, side)).shape == (2, len(SHAPES))


def test_they_differ_in_what_they_are_named_for() -> None:
    parts = {name: [type(part).__name__ for part in make(name).modules()] for name in NETWORKS}
    convolutions = {name: found.count("Conv2d") for name, found in parts.items()}
    squeezes = {name: found.count("SEModule") for name, found in parts.items()}
    assert squeezes == {"small_cnn": 0, "small_resnet": 0, "small_seresnet": 6, "small_vit": 0}
    assert convolutions["small_cnn"] == 13
    assert convolutions["small_resnet"] == 13 + 2  # a shortcut past a change of width is a convolution
    assert convolutions["small_seresnet"] == 13 + 2 + 2 * 6
    assert convolutions["small_vit"] == 1  # of the patches
    assert [name for name, found in parts.items() if "Attention" in found] == ["small_vit"]


def test_only_the_plain_one_has_no_way_around() -> None:
    """With the last factor of each block at nothing, what is put in reaches the answer by the shortcuts alone."""
    moved = {}
    for name in ("small_cnn", "small_resnet"):
        network = make(name).eval()
        for key, weights in network.named_parameters():
            if "conv2_kxk.bn.weight" in key:
                torch.nn.init.zeros_(weights)
        with torch.inference_mode():
            answers = network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        moved[name] = float((answers[0] - answers[1]).abs().max())
    assert moved["small_cnn"] == 0
    assert moved["small_resnet"] > 0


def test_there_are_no_weights_of_them() -> None:
    with pytest.raises(UsageError, match="no weights for 'small_cnn'") as caught:
        make("small_cnn", "pretrained")
    assert "--weights scratch" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_they_learn_and_are_exported(name: str, tmp_path: Path) -> None:
    import_folders(draw_folders(tmp_path / "images", 20))
    settings = {
        "task": "classify",
        "model": name,
        "weights": SCRATCH,
        "steps": 40,
        "learning_rate": 3e-3,
        "augment": 0.0,
    }
    options = {"options": {"cutmix": 1.0, "mixup": 0.2}, "device": "cpu"}
    run = train(
        Asked("shapes", settings=settings | options),
        name="toy",
        command="test",
        report=lambda done, total, text: None,
        say=lambda text: None,
    )
    assert (run.model, run.settings["image_size"]) == (name, 32)
    assert run.numbers["top1"] > 0.4
    predictor = load_predictor("run:toy")
    (found,) = predictor.predict([predictor.prepare(np.asarray(Image.open(next(tmp_path.rglob("*.png")))))])
    assert isinstance(found, Classes)
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-5)
