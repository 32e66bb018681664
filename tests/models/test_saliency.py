"""Grad-CAM: on a network whose answer is known, on timm's, and on what was trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from curate.errors import UsageError  # noqa: E402
from curate.models.saliency import grad_cam, load_explainer, overlay  # noqa: E402
from curate.models.training.train import Asked, train  # noqa: E402
from tests.models.toy_sets import draw_folders, import_folders  # noqa: E402


class Corners(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Three classes: the red of the upper left quarter speaks for class 0, the green of the lower right one for class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = torch.nn.Conv2d(3, 3, 1, bias=False)
        self.maps.weight.data = torch.eye(3)[..., None, None]
        self.change = torch.nn.ReLU(inplace=True)
        self.unused = torch.nn.Conv2d(3, 3, 1)

    def forward(self, inputs: Any) -> Any:
        maps = self.change(self.maps(inputs))
        self.unused(inputs)
        red, green = maps[:, 0, :4, :4].mean(dim=(1, 2)), maps[:, 1, 4:, 4:].mean(dim=(1, 2))
        return torch.stack([red, green, -red], dim=1)


@pytest.fixture
def picture() -> Any:
    """Red in the upper left and green in the lower right corner, 8 x 8 pixels."""
    pixels = torch.zeros(1, 3, 8, 8)
    pixels[0, 0, :3, :3] = 1.0
    pixels[0, 1, 6:, 6:] = 0.5
    return pixels


def test_heat_is_where_the_class_is_decided(picture: Any) -> None:
    network = Corners().eval()
    expected = np.zeros((8, 8), np.float32)
    expected[:3, :3] = 1
    heat = grad_cam(network, picture, 0, layer="maps")
    assert heat.dtype == np.float32
    np.testing.assert_array_equal(heat, expected)
    expected = np.zeros((8, 8), np.float32)
    expected[6:, 6:] = 1
    np.testing.assert_array_equal(grad_cam(network, picture, 1, layer="maps"), expected)
    assert not grad_cam(network, picture, 2, layer="maps").any()  # nothing speaks for it
    # Against class 2, which red speaks against, red speaks for class 1 as well: it is twice as bright, on 9 places and not 4.
    both = grad_cam(network, picture, 1, against=2, layer="maps")
    assert both[:3, :3].min() == 1
    np.testing.assert_allclose(both[6:, 6:], (0.5 * 4) / (1.0 * 9), rtol=1e-6)
    assert np.count_nonzero(both) == 9 + 4


def test_a_frozen_network_is_not_changed_and_has_heat_all_the_same(picture: Any) -> None:
    network = Corners().eval().requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        heat = grad_cam(network, picture, 0, layer="maps")
    assert heat[0, 0] == 1
    assert not picture.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(len(part._forward_hooks) for part in network.modules())


def test_what_cannot_be_asked(picture: Any) -> None:
    network = Corners().eval()
    with pytest.raises(UsageError, match="3 classes, and none of number 3"):
        grad_cam(network, picture, 3, layer="maps")
    with pytest.raises(UsageError, match="'nowhere' gives no maps"):
        grad_cam(network, picture, 0, layer="nowhere")
    with pytest.raises(UsageError, match="'unused' gives has no part in the answer"):
        grad_cam(network, picture, 0, layer="unused")
    tokens = timm.create_model("test_vit", num_classes=2).eval()
    with pytest.raises(UsageError, match="no maps: nothing says where"):
        grad_cam(tokens, torch.zeros(1, 3, 160, 160), 0)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_mambaout"])
def test_networks_of_timm(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval()
    inputs = torch.randn(1, 3, 96, 64)
    heat = grad_cam(network, inputs, 1)
    assert heat.shape == (96, 64)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() <= 1
    # As by hand from the last features, where what follows is a pooling.
    features = network.forward_features(inputs)
    logits = network.forward_head(features)
    gradient = torch.autograd.grad(logits[0, 1], features)[0][0]
    maps, slopes = features[0].detach(), gradient
    if name == "test_mambaout":
        maps, slopes = maps.permute(2, 0, 1), slopes.permute(2, 0, 1)
    by_hand = torch.relu((slopes.mean(dim=(1, 2), keepdim=True) * maps).sum(0))[None, None]
    by_hand = torch.nn.functional.interpolate(by_hand, (96, 64), mode="bilinear")[0, 0]
    np.testing.assert_allclose(heat, (by_hand / by_hand.max().clamp(min=1e-12)).numpy(), atol=1e-5)


def test_a_run_is_asked_where_it_looks(tmp_path: Path) -> None:
    folder = draw_folders(tmp_path / "images", 10)
    import_folders(folder)

    def learn(name: str, **settings: Any) -> None:
        asked = Asked("shapes", settings={"task": "classify", "device": "cpu", "epochs": 1, **settings})
        train(asked, name=name, command="test", report=lambda done, total, text: None, say=lambda text: None)

    learn("toy", model="test_resnet", weights="scratch", image_size=64)
    explainer = load_explainer("run:toy")
    assert explainer.classes == ("cross", "disc", "square")
    pixels = np.asarray(Image.open(folder / "disc" / "000.png").crop((0, 0, 48, 40)))
    heat = explainer.heat(pixels, "disc", against="square", layer="layer3")
    assert heat.shape == (40, 48)
    assert heat.dtype == np.float32
    assert 0 <= heat.min() <= heat.max() <= 1
    assert not np.array_equal(heat, explainer.heat(pixels, "square", against="disc", layer="layer3"))
    with pytest.raises(UsageError, match="knows no class 'ring'"):
        explainer.heat(pixels, "ring")
    learn("head")
    with pytest.raises(UsageError, match="only a finished classifier of a network of timm"):
        load_explainer("run:head")
    with pytest.raises(UsageError, match="there is no run named 'none'"):
        load_explainer("run:none")


def test_heat_is_drawn_in_red() -> None:
    pixels = np.full((2, 2, 3), 100, np.uint8)
    drawn = overlay(pixels, np.array([[0, 1], [0, 0.5]], np.float32))
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[:, 0], pixels[:, 0])
    assert drawn[0, 1, 0] > drawn[1, 1, 0] > 100 > drawn[1, 1, 2] > drawn[0, 1, 2]
