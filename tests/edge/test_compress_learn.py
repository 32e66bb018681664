"""Learning again: rounding while it learns, channels taken out, answers of a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from curate.dataset import open_dataset  # noqa: E402
from curate.edge.compress.images import choose_images, open_parent  # noqa: E402
from curate.edge.compress.learn import learn_again  # noqa: E402
from curate.edge.compress.prune import prune, require_prunable  # noqa: E402
from curate.edge.compress.qat import Rounding, round_weight  # noqa: E402
from curate.edge.compress.rebuild import rebuild, why_not_trainable  # noqa: E402
from curate.edge.compress.teacher import Taught, Teacher, imitation  # noqa: E402
from curate.errors import InputError, UsageError  # noqa: E402
from curate.models.predictors.registry import load_predictor  # noqa: E402
from curate.models.training.train import Asked, train  # noqa: E402
from tests.models.toy_sets import draw_folders, import_folders  # noqa: E402


def quiet(*told: object) -> None:
    """What progress and notes are told to."""


def test_weights_are_rounded_for_each_channel() -> None:
    weight = torch.randn(4, 3, 3, 3) * torch.tensor([1.0, 10.0, 0.1, 0.0]).reshape(4, 1, 1, 1)
    rounded = round_weight(weight, 0)
    scale = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    assert torch.all((rounded - weight).abs() <= scale / 2 + 1e-7)
    steps = rounded[:3] / scale[:3]
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    # A normalisation that is folded in later changes nothing: every channel has its own scale.
    assert torch.allclose(round_weight(7 * weight, 0), 7 * rounded, atol=1e-5)


def test_layers_compute_with_rounded_numbers_and_learn() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 4, 3)
    images = torch.rand(2, 3, 8, 8)
    ranges: dict[int, tuple[float, float]] = {}
    with torch.no_grad(), Rounding(ranges, measure=True):
        assert torch.equal(layer(images), torch.nn.functional.conv2d(images, layer.weight, layer.bias))
    assert ranges == {id(layer.weight): (0.0, float(images.max()))}
    with Rounding(ranges):
        given = layer(images)
    step = float(images.max()) / 255
    wanted = torch.nn.functional.conv2d((images / step).round() * step, round_weight(layer.weight, 0), layer.bias)
    assert torch.allclose(given, wanted, atol=1e-5)
    assert not torch.equal(given, layer(images))
    given.sum().backward()
    assert layer.weight.grad is not None
    assert float(layer.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("task", ["classify", "segment", "detect"])
def test_a_learner_that_says_the_same_has_nothing_to_learn(task: str) -> None:
    torch.manual_seed(0)
    if task == "detect":
        corners = torch.rand(2, 9, 2) * 50
        teacher = [torch.cat([corners, corners + 20], dim=2), (torch.rand(2, 9, 3) > 0.7).float()]
    else:
        teacher = [torch.randn(2, 3) if task == "classify" else torch.randn(2, 3, 4, 4)]
    others = [(each + torch.rand_like(each)).requires_grad_() for each in teacher]
    apart, same = imitation(task, others, teacher), imitation(task, teacher, teacher)
    assert float(same.detach()) == pytest.approx(0.0, abs=1e-5)
    assert float(apart.detach()) > 0.001
    apart.backward()
    assert all(float(each.grad.abs().sum()) > 0 for each in others)


def test_detectors_of_other_cells_are_refused() -> None:
    with pytest.raises(UsageError, match="other cells"):
        imitation("detect", [torch.zeros(1, 4, 4), torch.zeros(1, 4, 2)], [torch.zeros(1, 9, 4), torch.zeros(1, 9, 2)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a small network of timm, trained on shapes."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_HOME", str(folder / "home"))
        import_folders(draw_folders(folder / "shapes", 8, splits=("train", "val")))
        settings: dict[str, Any] = {"task": "classify", "model": "test_resnet", "weights": "scratch", "image_size": 48}
        asked = Asked(dataset="shapes", settings={**settings, "epochs": 2, "workers": 0, "batch_size": 8})
        train(asked, name="small", command="", report=quiet, say=quiet)
    return folder / "home"


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CURATE_HOME", str(trained))
    return "run:small"


@pytest.mark.slow
def test_a_run_is_made_again_as_it_was(run: str) -> None:
    parent = open_parent(run)
    assert why_not_trainable(parent) is None
    again = rebuild(parent, minutes=0.01, seed=0, say=quiet)
    assert len(again.train) == 24
    assert len(again.validation) == 24
    images = choose_images(parent, open_dataset("shapes"), calibration=4).calibration
    rows = np.concatenate(parent.rows(images))
    with torch.inference_mode():
        given = again.learner.module.eval()(torch.from_numpy(rows)).numpy()
    teacher = Teacher.of(parent, again.learner.classes)
    wanted = teacher(torch.from_numpy(np.stack([parent.preparation.fit(each).array for each in images])))[0].numpy()
    np.testing.assert_allclose(given, wanted, atol=1e-3)


@pytest.mark.slow
def test_a_teacher_of_other_classes_is_refused(run: str) -> None:
    with pytest.raises(UsageError, match="knows other classes"):
        Teacher.of(open_parent(run), ("cross", "disc", "star"))


@pytest.mark.slow
def test_channels_are_taken_out(run: str) -> None:
    pytest.importorskip("torch_pruning")
    parent = open_parent(run)
    learner = rebuild(parent, minutes=0.01, seed=0, say=quiet).learner
    taught = Taught(learner, Teacher.of(parent, learner.classes))
    image = np.zeros((1, 3, 48, 48), np.float32)
    found = prune(taught, image, 0.5)
    assert found["weights"] < 0.5 * found["weights_before"]
    with torch.inference_mode():
        assert taught.module.eval()(torch.from_numpy(image)).shape == (1, 3)


def test_networks_of_graphs_do_not_lose_channels() -> None:
    from curate.models.training.detect.backbones import builtin_backbone

    with pytest.raises(UsageError, match="cannot lose channels"):
        require_prunable(builtin_backbone((96, 96)))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qat", "distil", "prune"])
def test_a_run_learns_again(run: str, method: Any, tmp_path: Path) -> None:
    if method == "prune":
        pytest.importorskip("torch_pruning")
    parent = open_parent(run)
    rows = parent.rows(choose_images(parent, open_dataset("shapes"), calibration=4).calibration)
    learnt = learn_again(
        parent, method, tmp_path / "again", teacher=run, share=0.3, minutes=0.05, seed=0, calibration=rows, say=quiet,
        report=quiet,
    )  # fmt: skip
    model = load_predictor(f"onnx:{learnt.path}")
    assert model.classes == ("cross", "disc", "square")
    assert learnt.details["epochs"] >= 1
    smaller = learnt.path.stat().st_size < 0.8 * parent.path.stat().st_size
    assert smaller == (method == "prune")


@pytest.mark.slow
def test_so_many_steps_give_the_same_model_again(run: str, tmp_path: Path) -> None:
    parent = open_parent(run)
    rows = parent.rows(choose_images(parent, open_dataset("shapes"), calibration=4).calibration)
    made = [
        learn_again(
            parent, "distil", tmp_path / name, teacher=run, share=0.0, steps=4, seed=0, calibration=rows, say=quiet,
            report=quiet,
        )
        for name in ("one", "other")
    ]  # fmt: skip
    assert made[0].details == made[1].details
    assert (made[0].details["steps"], made[0].details["epochs"]) == (4, 2)  # of 24 images in batches of 8
    assert "minutes" not in made[0].details
    assert made[0].path.read_bytes() == made[1].path.read_bytes()


@pytest.mark.slow
def test_a_network_that_is_not_the_same_any_more_is_told(run: str, tmp_path: Path) -> None:
    from msgspec.structs import replace

    from curate.edge.compress.learn import _require_alike
    from curate.models.predictors.sidecar import write_sidecar

    parent = open_parent(run)
    path = tmp_path / "model.onnx"
    write_sidecar(path, replace(parent.predictor.sidecar, size=64))
    with pytest.raises(InputError, match=r"something else \('size'\)"):
        _require_alike(parent, path)
