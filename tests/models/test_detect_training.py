"""A detector learns shapes that are drawn here; its file says the same; a killed training goes on; bad input is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("onnxscript")

from curate.errors import InputError, UnavailableError, UsageError  # noqa: E402
from curate.models.predictors.base import Options  # noqa: E402
from curate.models.training.base import Example, TrainingSettings  # noqa: E402
from curate.models.training.detect import create  # noqa: E402
from curate.models.training.detect.learner import DetectLearner  # noqa: E402
from curate.models.training.trainer import Fit, fit  # noqa: E402

CLASSES = ("square", "disc")
SETTINGS = TrainingSettings("detect", device="cpu", workers=0, image_size=96, batch_size=8, augment=0.2, seed=1)


def draw(folder: Path, count: int, seed: int) -> list[Example]:
    """Squares and discs on noise, 96 x 128 pixels."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :128]
    examples = []
    for number in range(count):
        pixels = random.integers(60, 120, (96, 128, 3)).astype(np.uint8)
        boxes: list[list[float]] = []
        labels: list[int] = []
        for _ in range(random.integers(0, 4)):
            side, label = int(random.integers(20, 40)), int(random.integers(0, 2))
            x, y = int(random.integers(0, 128 - side)), int(random.integers(0, 96 - side))
            if any(abs(x - a) < max(side, s) and abs(y - b) < max(side, s) for a, b, s, _ in boxes):
                continue
            if label:
                middle = (y + side / 2, x + side / 2)
                inside = np.hypot(rows + 0.5 - middle[0], columns + 0.5 - middle[1]) <= side / 2
            else:
                inside = (rows >= y) & (rows < y + side) & (columns >= x) & (columns < x + side)
            pixels[inside] = random.integers(160, 256, 3)
            boxes.append([x, y, side, side])
            labels.append(label)
        path = folder / f"{seed}_{number}.png"
        Image.fromarray(pixels).save(path)
        array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        examples.append(Example(path.stem, str(path), (96, 128), boxes=array, labels=np.array(labels, np.int64)))
    return examples


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Example], list[Example]]:
    """For training, and for validation."""
    folder = tmp_path_factory.mktemp("shapes")
    return draw(folder, 64, 1), draw(folder, 24, 2)


def learner(
    examples: Sequence[Example], tell: Callable[[str], None] = lambda text: None, **changes: Any
) -> DetectLearner:
    torch.manual_seed(0)
    return create(replace(SETTINGS, **changes), CLASSES, examples, tell)


class Quiet:
    """A log that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def write(self, line: Any) -> None:
        self.lines.append(line)


def train(own: DetectLearner, shapes: tuple[list[Example], list[Example]], folder: Path, **changes: Any) -> Fit:
    given: dict[str, Any] = {"report": lambda done, total, text: None, **changes}
    return fit(
        own, *shapes, folder, shared=folder, open_log=lambda done: nullcontext(Quiet()), say=lambda text: None, **given
    )


def one_batch(own: DetectLearner, examples: Sequence[Example]) -> Any:
    pixels = [np.asarray(Image.open(example.path)) for example in examples]
    return own.collate([own.sample(example, each, None) for example, each in zip(examples, pixels, strict=True)])


@pytest.fixture(scope="module")
def trained(
    shapes: tuple[list[Example], list[Example]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[DetectLearner, Fit]:
    own = learner(shapes[0], epochs=10)
    return own, train(own, shapes, tmp_path_factory.mktemp("run"))


@pytest.mark.slow
def test_shapes_are_learnt(trained: tuple[DetectLearner, Fit]) -> None:
    assert trained[1].numbers["mAP50"] > 0.5


@pytest.mark.slow
def test_the_exported_file_finds_what_the_learner_finds(
    trained: tuple[DetectLearner, Fit], shapes: tuple[list[Example], list[Example]], tmp_path: Path
) -> None:
    from curate.models.predictors.registry import load_predictor

    own, _ = trained
    path = own.export(tmp_path)
    predictor = load_predictor(f"onnx:{path}", Options(min_score=0.01, nms_iou=0.6, most_objects=100))
    assert predictor.classes == CLASSES
    some = shapes[1][:6]
    with torch.inference_mode():
        expected = own.predict(one_batch(own, some))
    pixels = [np.asarray(Image.open(example.path)) for example in some]
    given: list[Any] = predictor.predict([predictor.prepare(each) for each in pixels])
    assert sum(len(found.boxes) for found in expected) > 6
    for a, b in zip(given, expected, strict=True):
        sure = int((b.scores > 0.05).sum())  # the last of a hundred may change places
        np.testing.assert_allclose(a.boxes[:sure], b.boxes[:sure], atol=0.1)
        np.testing.assert_allclose(a.scores[:sure], b.scores[:sure], atol=1e-3)
        assert a.labels[:sure].tolist() == b.labels[:sure].tolist()


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    shapes: tuple[list[Example], list[Example]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (shapes[0][:16], shapes[1][:4])
    whole = learner(small[0], epochs=2)
    train(whole, small, tmp_path / "a")

    def stop(done: int, total: int, text: str) -> None:
        if done == 3:
            raise SystemExit

    torn = learner(small[0], epochs=2)
    monkeypatch.setattr("curate.models.training.trainer.CHECKPOINT_SECONDS", 0)
    with pytest.raises(SystemExit):
        train(torn, small, tmp_path / "b", report=stop)
    again = learner(small[0], epochs=2)
    train(again, small, tmp_path / "b")
    for (name, a), b in zip(whole.module.state_dict().items(), again.module.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(("freeze", "moving"), [("backbone", 0.0), ("most", 1 / 3), ("nothing", 1.0)])
def test_frozen_weights_stay(shapes: tuple[list[Example], list[Example]], freeze: Any, moving: float) -> None:
    own = learner(shapes[0], freeze=freeze)
    backbone = own.module.backbone_parameters()
    assert np.mean([weight.requires_grad for weight in backbone]) == pytest.approx(moving, abs=0.03)
    trained = {id(weight) for group in own.parameter_groups() for weight in group["params"]}
    assert trained == {id(weight) for weight in own.module.parameters() if weight.requires_grad}
    loss, _ = own.loss(one_batch(own, shapes[0][:4]), np.random.default_rng(0))
    loss.backward()
    assert all(weight.grad is None for weight in backbone if not weight.requires_grad)


def test_a_trained_backbone_learns_more_slowly_than_a_new_one(shapes: tuple[list[Example], list[Example]]) -> None:
    def rates(weights: str) -> set[float]:
        return {group["lr"] for group in learner(shapes[0], weights=weights, learning_rate=1.0).parameter_groups()}

    assert rates("pretrained") == {1.0, 0.1}
    assert rates("scratch") == {1.0}


def test_images_without_boxes_have_a_loss_that_falls_on_what_is_seen_there(
    shapes: tuple[list[Example], list[Example]],
) -> None:
    own = learner(shapes[0])
    empty = [replace(example, boxes=np.zeros((0, 4)), labels=np.zeros(0, np.int64)) for example in shapes[0][:4]]
    loss, parts = own.loss(one_batch(own, empty), np.random.default_rng(0))
    assert float(loss.detach()) > 0
    assert parts["box"] == 0
    loss.backward()


def test_a_crowd_is_neither_right_nor_wrong(shapes: tuple[list[Example], list[Example]]) -> None:
    own = learner(shapes[0])
    all_of_it = np.array([[0.0, 0, 128, 96]])
    crowd = replace(shapes[0][0], boxes=all_of_it, labels=np.zeros(1, np.int64), crowd=np.ones(1, bool))
    _, parts = own.loss(one_batch(own, [crowd]), np.random.default_rng(0))
    assert parts == {"class": 0.0, "box": 0.0}


# --- other networks


def test_weights_of_a_run_are_taken_on_and_other_classes_start_anew(
    shapes: tuple[list[Example], list[Example]], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    own = learner(shapes[0])
    save_file(own.module.state_dict(), tmp_path / "a.safetensors")
    told: list[str] = []
    same = learner(shapes[0], told.append, weights=str(tmp_path / "a.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(own.module.parameters(), same.module.parameters(), strict=True))
    assert not any("anew" in text for text in told)
    more = create(
        replace(SETTINGS, weights=str(tmp_path / "a.safetensors")), (*CLASSES, "star"), shapes[0], told.append
    )
    assert torch.equal(more.module.box_output.weight, own.module.box_output.weight)
    assert any("learnt anew" in text for text in told)


def test_weights_of_another_network_are_refused(shapes: tuple[list[Example], list[Example]], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"layer.weight": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="not those of the network"):
        learner(shapes[0], weights=str(tmp_path / "a.safetensors"))
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        learner(shapes[0], weights=str(tmp_path / "b.safetensors"))
    with pytest.raises(InputError, match="not there"):
        learner(shapes[0], weights=str(tmp_path / "c.safetensors"))


@pytest.mark.parametrize("model", ["yolo", "fcos", "fcos/no_such_network", "rcnn/resnet50"])
def test_a_model_that_does_not_exist_is_told(shapes: tuple[list[Example], list[Example]], model: str) -> None:
    with pytest.raises(UsageError, match=model.rpartition("/")[2]):
        learner(shapes[0], model=model)


def test_weights_that_would_have_to_be_fetched_are_told_at_once(
    shapes: tuple[list[Example], list[Example]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("curate.models.encoders.hub._USER_OFFLINE", True)
    for model in ("fcos/resnet18", "rtdetr", "dfine/some/one"):
        with pytest.raises(UnavailableError, match="not on this disk"):
            learner(shapes[0], model=model, weights="pretrained")


def learn_and_export(own: DetectLearner, examples: Sequence[Example], folder: Path) -> None:
    """One step, and the export, which compares."""
    own.module.train()
    loss, parts = own.loss(one_batch(own, examples), np.random.default_rng(0))
    assert torch.isfinite(loss)
    assert all(np.isfinite(number) for number in parts.values())
    loss.backward()
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in own.module.backbone_parameters())
    own.module.eval()
    with torch.inference_mode():
        for found in own.predict(one_batch(own, examples)):
            assert (found.boxes[:, 2:] > 0).all()
    assert own.export(folder).is_file()


@pytest.mark.parametrize("model", ["ssdlite320", "fcos/test_resnet"])
@pytest.mark.slow
def test_networks_of_other_libraries(shapes: tuple[list[Example], list[Example]], tmp_path: Path, model: str) -> None:
    own = learner(shapes[0], model=model, weights="scratch")
    learn_and_export(own, [*shapes[0][:3], replace(shapes[0][3], boxes=None, labels=None)], tmp_path)


@pytest.mark.parametrize("family", ["rtdetr", "dfine"])
@pytest.mark.slow
def test_networks_of_transformers(shapes: tuple[list[Example], list[Example]], tmp_path: Path, family: str) -> None:
    folder = tiny_detr(tmp_path, family)
    own = learner(shapes[0], model=f"{family}/{folder}", weights="pretrained")
    learn_and_export(own, shapes[0][:3], tmp_path)


def tiny_detr(folder: Path, family: str) -> Path:
    """A network of random weights, saved. It has a query for every cell: which are chosen would hang on the last digit."""
    transformers = pytest.importorskip("transformers")
    small: dict[str, Any] = {
        "d_model": 32, "encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_layers": 2,
        "num_queries": 252, "encoder_in_channels": [16, 24, 32], "decoder_in_channels": [32] * 3, "feat_strides": [8, 16, 32],
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_denoising": 4, "hidden_expansion": 0.5,
    }  # fmt: skip
    if family == "rtdetr":
        backbone = transformers.RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )  # fmt: skip
        config = transformers.RTDetrV2Config(backbone_config=backbone, num_labels=2, **small)
        network = transformers.RTDetrV2ForObjectDetection(config)
    else:
        backbone = transformers.HGNetV2Config(
            stem_channels=[3, 8, 8], stage_in_channels=[8, 8, 16, 24], stage_mid_channels=[8, 8, 8, 8],
            stage_out_channels=[8, 16, 24, 32], stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[1, 1, 1, 1],
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1],
            out_features=["stage2", "stage3", "stage4"],
        )  # fmt: skip
        config = transformers.DFineConfig(backbone_config=backbone, num_labels=2, **small)
        network = transformers.DFineForObjectDetection(config)
    network.save_pretrained(folder / "tiny")
    return folder / "tiny"


# --- bad input


def test_without_boxes_there_is_nothing_to_learn(shapes: tuple[list[Example], list[Example]]) -> None:
    with pytest.raises(InputError, match="not one of 2 images has a box"):
        learner([replace(example, boxes=None, labels=None) for example in shapes[0][:2]])


def test_a_label_that_is_no_class_is_told(shapes: tuple[list[Example], list[Example]]) -> None:
    wrong = replace(shapes[0][0], boxes=np.array([[1.0, 1, 9, 9]]), labels=np.array([2]))
    with pytest.raises(InputError, match="none of the 2 classes"):
        learner([wrong])


def test_boxes_that_are_none_and_classes_without_boxes_are_told(shapes: tuple[list[Example], list[Example]]) -> None:
    told: list[str] = []
    odd = replace(
        shapes[0][0],
        boxes=np.array([[1.0, 1, 9, 9], [5, 5, 0, 3], [np.nan, 0, 1, 1]]),
        labels=np.zeros(3, np.int64),
    )
    own = learner([odd], told.append)
    assert any(text.startswith("2 boxes have no area") and odd.path in text for text in told)
    assert any(text.endswith("cannot be learnt: disc") for text in told)
    loss, _ = own.loss(one_batch(own, [odd]), np.random.default_rng(0))
    assert torch.isfinite(loss)


def test_one_class_is_enough(shapes: tuple[list[Example], list[Example]]) -> None:
    one = [replace(example, labels=np.zeros_like(example.labels)) for example in shapes[0]]
    own = create(replace(SETTINGS), ("thing",), one, lambda text: None)
    loss, _ = own.loss(one_batch(own, one[:4]), np.random.default_rng(0))
    loss.backward()
    with torch.inference_mode():
        found = own.predict(one_batch(own, one[:4]))
    assert set(own.score(found, one[:4])) == {"mAP50", "mAP"}


def test_weights_that_are_no_numbers_end_the_training(
    shapes: tuple[list[Example], list[Example]], tmp_path: Path
) -> None:
    own = learner(shapes[0], epochs=1)
    with torch.no_grad():
        own.module.box_output.bias.fill_(torch.nan)
    with pytest.raises(InputError, match="diverged"):
        train(own, shapes, tmp_path)
