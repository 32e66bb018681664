"""Learning a class for each pixel on rendered shapes: it learns, exports, goes on after a kill, and says what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.errors import InputError, MissingExtra, UnavailableError, UsageError
from curate.geometry import encode_rle
from curate.imaging import load_pixels
from curate.models.predictors.base import VOID, ClassMap, Options
from curate.models.predictors.onnx import load
from curate.models.predictors.sidecar import ClassMapLayout, read_sidecar
from curate.models.training import trainer
from curate.models.training.base import Example, TrainingSettings
from curate.models.training.segment import create
from curate.models.training.segment.choices import class_weights, input_size, look_at, settle_segmentation
from curate.models.training.segment.counts import METRIC
from curate.models.training.segment.learner import Segmenter
from curate.models.training.segment.regions import draw

torch = pytest.importorskip("torch")
pytest.importorskip("segmentation_models_pytorch")

MODEL = "unet/tu-test_efficientnet"
CLASSES = ("disc", "square")
SETTINGS = TrainingSettings(
    "segment",
    model=MODEL,
    weights="scratch",
    image_size=64,
    batch_size=8,
    epochs=10,
    learning_rate=4e-3,
    device="cpu",
    amp=False,
    workers=0,
)


def render(folder: Path, count: int, seed: int, size: tuple[int, int] = (64, 96)) -> list[Example]:
    """Images with a reddish disc (a mask) and a bluish square (a polygon) on grey."""
    folder.mkdir(exist_ok=True)
    rng, found = np.random.default_rng(seed), []
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    for number in range(count):
        pixels = np.full((height, width, 3), rng.integers(90, 150), dtype=np.float64)
        radius, half = rng.uniform(8, 14), rng.uniform(7, 12)
        at = rng.uniform([radius, radius], [height - radius, width / 2 - radius])
        corner = rng.uniform([0, width / 2], [height - 2 * half, width - 2 * half])
        disc = (y - at[0]) ** 2 + (x - at[1]) ** 2 < radius**2
        top, left = corner
        polygon = [left, top, left + 2 * half, top, left + 2 * half, top + 2 * half, left, top + 2 * half]
        square = (y > top) & (y < top + 2 * half) & (x > left) & (x < left + 2 * half)
        pixels[disc], pixels[square] = (210, 70, 60), (50, 90, 220)
        pixels = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255)
        path = folder / f"{seed}-{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        regions: list[Any] = [{"counts": encode_rle(disc), "size": [height, width]}, [polygon]]
        found.append(
            Example(str(path), str(path), size, labels=np.array([0, 1]), crowd=np.zeros(2, dtype=bool), regions=regions)
        )
    return found


def make(
    examples: Sequence[Example], settings: TrainingSettings = SETTINGS, said: list[str] | None = None
) -> Segmenter:
    torch.manual_seed(settings.seed)
    return create(settings, CLASSES, examples, (said if said is not None else []).append)


class Log:
    """Keeps what the trainer writes."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, line: dict[str, Any]) -> None:
        self.lines.append(line)


def train(learner: Segmenter, examples: Sequence[Example], validation: Sequence[Example], folder: Path) -> trainer.Fit:
    return trainer.fit(
        learner,
        examples,
        validation,
        folder,
        shared=folder,
        open_log=lambda epochs: nullcontext(Log()),
        report=lambda done, total, text: None,
        say=lambda line: None,
    )


def test_it_learns_shapes_and_the_onnx_file_finds_them_at_the_images_own_size(tmp_path: Path) -> None:
    examples, validation = render(tmp_path / "a", 16, 0), render(tmp_path / "b", 4, 1)
    learner = make(examples)
    fit = train(learner, examples, validation, tmp_path / "checkpoint")
    # All background, or any one class everywhere, has 0.1 at most.
    assert fit.numbers[METRIC] > 0.6, fit.numbers
    assert fit.numbers[METRIC] == pytest.approx(np.mean([fit.numbers["iou/disc"], fit.numbers["iou/square"]]))

    path = learner.export(tmp_path)
    sidecar = read_sidecar(path)
    assert (sidecar.task, sidecar.classes, sidecar.size) == ("segment", CLASSES, (64, 96))
    assert isinstance(sidecar.output, ClassMapLayout)
    assert sidecar.output.background
    predictor = load(str(path), Options())
    assert (predictor.task, predictor.classes, predictor.input_size) == ("segment", CLASSES, 64)
    # An image of another size, and of another shape than the input.
    large = [replace(each, size=(192, 288)) for each in validation[:2]]
    pictures = [
        np.kron(load_pixels(each.path), np.ones((3, 3, 1), np.uint8))[:, : 288 - 40 * k] for k, each in enumerate(large)
    ]
    found = predictor.predict([predictor.prepare(picture) for picture in pictures])
    for map_, picture, each in zip(found, pictures, validation, strict=False):
        assert isinstance(map_, ClassMap)
        assert map_.labels.shape == picture.shape[:2]
        truth = np.kron(draw(each, background=True), np.ones((3, 3), np.int16))[:, : picture.shape[1]] - 1
        assert (map_.labels == truth).mean() > 0.9
        assert set(np.unique(map_.labels)) <= {VOID, 0, 1}


def test_by_default_it_learns_in_seconds_on_the_built_in_encoder(tmp_path: Path) -> None:
    examples, validation = render(tmp_path / "a", 16, 0), render(tmp_path / "b", 4, 1)
    said: list[str] = []
    learner = make(examples, TrainingSettings("segment", epochs=5, device="cpu", amp=False, workers=0), said)
    assert (learner.settings.model, learner.settings.weights) == ("unet/builtin", "pretrained")
    assert not any("random" in line for line in said)
    fit = train(learner, examples, validation, tmp_path / "checkpoint")
    assert fit.numbers[METRIC] > 0.5, fit.numbers

    predictor = load(str(learner.export(tmp_path)), Options())
    found = predictor.predict([predictor.prepare(load_pixels(each.path)) for each in validation])
    for map_, each in zip(found, validation, strict=True):
        assert isinstance(map_, ClassMap)
        assert (map_.labels == draw(each, background=True) - 1).mean() > 0.8


def test_the_built_in_encoder_without_what_it_has_learnt(tmp_path: Path) -> None:
    examples = render(tmp_path / "a", 2, 0)
    begun = {
        weights: dict(make(examples, replace(SETTINGS, model=None, weights=weights)).module.named_parameters())
        for weights in ("pretrained", "scratch")
    }
    kernels = [name for name, value in begun["scratch"].items() if name.startswith("encoder.") and value.ndim > 1]
    assert kernels
    assert not any(torch.equal(begun["scratch"][name], begun["pretrained"][name]) for name in kernels)
    with pytest.raises(UsageError, match="learnt nothing cannot be frozen"):
        make(examples, replace(SETTINGS, model=None, freeze="backbone"))
    frozen = make(examples, replace(SETTINGS, model=None, weights="pretrained", freeze="backbone")).module
    assert not any(weight.requires_grad for weight in frozen.encoder.parameters())
    assert all(weight.requires_grad for weight in frozen.fine.parameters())


def test_the_numbers_are_those_of_the_predictor(tmp_path: Path) -> None:
    """What validation says is what `curate predict` will give: the same fitting, scaling and choice."""
    examples = render(tmp_path / "a", 4, 0, size=(100, 70))
    learner = make(examples, replace(SETTINGS, epochs=1, batch_size=4))
    learner.module.eval()
    batch = learner.collate([learner.sample(each, load_pixels(each.path), None) for each in examples])
    with torch.inference_mode():
        counts = learner.predict(batch)
    predictor = load(str(learner.export(tmp_path)), Options())
    for each, count in zip(examples, counts, strict=True):
        found = predictor.predict([predictor.prepare(load_pixels(each.path))])[0]
        assert isinstance(found, ClassMap)
        truth = draw(each, background=True)
        np.testing.assert_array_equal(count.truth, np.bincount(truth.ravel(), minlength=3))
        # Logits are a little different, so that a pixel on an edge may fall on the other side.
        said = np.bincount(found.labels.ravel() + 1, minlength=3)
        assert np.abs(count.said - said).max() <= 0.002 * truth.size
        right = np.bincount(truth[found.labels + 1 == truth], minlength=3)
        assert np.abs(count.both - right).max() <= 0.002 * truth.size


def test_validation_counts_at_full_size_where_images_were_decoded_smaller(tmp_path: Path) -> None:
    examples = render(tmp_path / "a", 2, 0)
    learner = make(examples, replace(SETTINGS, epochs=1))
    learner.module.eval()
    full = replace(examples[0], size=(640, 960), regions=[examples[0].regions[0]] if examples[0].regions else [])
    full = replace(full, labels=np.array([0]), crowd=np.array([False]))
    with torch.inference_mode():
        counts = learner.predict(learner.collate([learner.sample(full, load_pixels(full.path), None)]))
    assert counts[0].truth.sum() == 640 * 960
    assert counts[0].said.sum() == 640 * 960


def test_a_training_that_was_killed_ends_as_if_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples, validation = render(tmp_path / "a", 8, 0), render(tmp_path / "b", 2, 1)
    settings = replace(SETTINGS, batch_size=4, epochs=3)
    whole = make(examples, settings)
    train(whole, examples, validation, tmp_path / "whole")

    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(make(examples, settings).__class__, "score", _killed_in_second_epoch(Segmenter.score))
    with pytest.raises(KeyboardInterrupt):
        train(make(examples, settings), examples, validation, tmp_path / "killed")
    monkeypatch.undo()
    again = make(examples, settings)
    train(again, examples, validation, tmp_path / "killed")
    for name, value in whole.module.state_dict().items():
        np.testing.assert_array_equal(again.module.state_dict()[name].numpy(), value.numpy(), err_msg=name)


def _killed_in_second_epoch(score: Any) -> Any:
    calls = []

    def dying(self: Segmenter, predictions: Any, examples: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(self, predictions, examples)

    return dying


def test_samples_are_the_same_for_the_same_state_and_keep_pixels_and_channels_together(tmp_path: Path) -> None:
    examples = render(tmp_path / "a", 3, 0)
    learner = make(examples, replace(SETTINGS, augment=1.0))
    for number in range(12):
        each = examples[number % 3]
        pixels = load_pixels(each.path)
        one, two = (learner.sample(each, pixels, np.random.default_rng(number)) for _ in range(2))
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["targets"], two["targets"])
        assert one["image"].shape == (64, 96, 3)
        assert one["targets"].shape == (64, 96)
        # Red is disc and blue is square, wherever they went: of what is surely coloured, nearly all.
        image, targets = one["image"].numpy().astype(int), one["targets"].numpy()
        red = (image[..., 0] - image[..., 1:].max(axis=2)) > 70
        blue = (image[..., 2] - image[..., :2].max(axis=2)) > 70
        for colour, channel in ((red, 1), (blue, 2)):
            if colour.sum() > 50:
                assert (targets[colour] == channel).mean() > 0.8


def test_settings_are_recorded_and_what_is_chosen_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    examples = render(tmp_path / "a", 6, 0)
    learner = make(examples, TrainingSettings("segment", model=MODEL, device="cpu"), said)
    settings = learner.settings
    assert settings.weights == "scratch"
    assert settings.image_size == 64
    assert settings.batch_size == 6
    assert None not in (settings.freeze, settings.epochs, settings.patience, settings.learning_rate, settings.augment)
    assert dict(settings.options or {})["background"] == "yes"
    text = "\n".join(said)
    assert "begins with random weights" in text
    assert "image size: 64 pixels" in text
    assert "learnt as background (--set background=yes)" in text


def test_regions_that_cover_all_leave_no_background(tmp_path: Path) -> None:
    examples = [
        replace(each, regions=[[[0, 0, 48, 0, 48, 64, 0, 64]], [[48, 0, 96, 0, 96, 64, 48, 64]]])
        for each in render(tmp_path / "a", 4, 0)
    ]
    learner = make(examples)
    assert len(learner.weights) == 2
    assert isinstance(learner.sidecar.output, ClassMapLayout)
    assert not learner.sidecar.output.background
    learner = make(examples, replace(SETTINGS, options={"background": "yes"}))
    assert len(learner.weights) == 3


def test_rare_classes_weigh_more_but_not_too_much() -> None:
    weights = class_weights(np.array([0.9899, 0.01, 0.0001]), "balanced")
    assert (np.diff(weights) > 0).all()
    assert weights[1] / weights[0] == pytest.approx(np.sqrt(0.9899 / 0.01))
    assert weights[2] / weights[0] == pytest.approx(10)
    assert weights @ [0.9899, 0.01, 0.0001] == pytest.approx(1)
    np.testing.assert_array_equal(class_weights(np.array([0.5, 0.5, 0.0]), "even"), [1, 1, 1])
    assert np.isfinite(class_weights(np.array([1.0, 0.0]), "balanced")).all()


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.75, (256, 352)), (1.0, (256, 256)), (1.5, (384, 256)), (0.5, (256, 512)), (0.01, (256, 1024))],
)
def test_the_input_has_the_shape_of_most_images(ratio: float, expected: tuple[int, int]) -> None:
    assert input_size(256, ratio) == expected


def test_small_regions_ask_for_a_larger_input() -> None:
    def chosen(side: float, device: str = "cpu") -> int | None:
        polygon = [10.0, 10.0, 10 + side, 10.0, 10 + side, 10 + side, 10.0, 10 + side]
        examples = [Example("a", "a", (1200, 1600), labels=np.array([0]), crowd=np.array([False]), regions=[[polygon]])]
        settings = TrainingSettings("segment", device=device)
        return settle_segmentation(settings, look_at(examples, 1, 0), 1, lambda line: None).image_size

    assert [chosen(side) for side in (200, 20, 8)] == [256, 384, 512]
    assert chosen(200, "cuda") == 512


def test_images_are_enlarged_for_lines_up_to_twice() -> None:
    def chosen(width: float, side: int = 64) -> int | None:
        polygon = [4.0, 10.0, 4 + 40.0, 10.0, 4 + 40.0, 10 + width, 4.0, 10 + width]
        examples = [Example("a", "a", (side, side), labels=np.array([0]), crowd=np.array([False]), regions=[[polygon]])]
        settings = TrainingSettings("segment", device="cpu")
        return settle_segmentation(settings, look_at(examples, 1, 0), 1, lambda line: None).image_size

    # Of a bar 40 pixels long the thickness is a little less than its width.
    assert [chosen(width) for width in (20, 3, 2, 1)] == [64, 96, 128, 128]
    assert chosen(2, side=480) == 512


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mse"}, "no loss 'mse'"),
        ({"speed": 3}, "no option 'speed'.*class_weights"),
        ({"background": "maybe"}, "no background 'maybe'.*auto, yes, no"),
        ({"flips": "vertical"}, "no flips 'vertical'"),
    ],
)
def test_options_that_do_not_exist_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(render(tmp_path / "a", 2, 0), replace(SETTINGS, options=options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "unet"}, "write unet/builtin, or ARCHITECTURE/ENCODER"),
        ({"model": "net/resnet18"}, "architectures: unet, fpn"),
        ({"model": "unet/resnet19"}, "no encoder 'resnet19'.*resnet18"),
        ({"model": "unet/lcnet_035"}, "no encoder 'lcnet_035'.*tu-lcnet_035"),
        ({"model": "deeplabv3plus/tu-test_mambaout"}, "cannot be built"),
        ({"model": "deeplabv3plus/tu-test_efficientnet", "batch_size": 1}, "one image at a time"),
        ({"freeze": "backbone"}, "learnt nothing cannot be frozen"),
        ({"augment": 2.0}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){message}"):
        make(render(tmp_path / "a", 2, 0), replace(SETTINGS, **changes))


def test_what_cannot_be_learnt_from_is_told_at_once(tmp_path: Path) -> None:
    examples = render(tmp_path / "a", 2, 0)
    empty = [replace(each, regions=[[[1.0, 1.0, 5.0, 5.0]], [[0.0, 0.0, 2.0, 0.0]]]) for each in examples]
    with pytest.raises(UsageError, match="encloses anything"):
        make(empty)
    with pytest.raises(UsageError, match="encloses anything"):
        make([Example("a", examples[0].path, (64, 96))])
    said: list[str] = []
    make([examples[0], empty[1]], said=said)
    assert "2 regions or more enclose nothing and are not learnt from" in said[0]
    larger = replace(examples[0], regions=[{"counts": encode_rle(np.ones((300, 300))), "size": [300, 300]}] * 2)
    with pytest.raises(InputError, match="a mask is 300 x 300 pixels, the image 96 x 64"):
        make([examples[1], larger])


def test_an_unknown_size_is_read_from_the_file(tmp_path: Path) -> None:
    examples = [replace(each, size=None) for each in render(tmp_path / "a", 2, 0)]
    assert make(examples).sidecar.size == (64, 96)


def test_pretrained_weights_fail_at_once_where_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UnavailableError, match=r"not on this disk.*--weights scratch"):
        make(render(tmp_path / "a", 2, 0), replace(SETTINGS, weights="pretrained"))


def test_weights_of_a_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    examples = render(tmp_path / "a", 2, 0)
    torch.manual_seed(5)
    other = create(replace(SETTINGS, seed=5), CLASSES, examples, print)
    state = {name: value.clone().contiguous() for name, value in other.module.state_dict().items()}
    save_file(state, tmp_path / "whole.safetensors")
    encoder = {
        name.removeprefix("encoder.model."): value for name, value in state.items() if name.startswith("encoder.")
    }
    save_file(encoder, tmp_path / "encoder.safetensors")
    save_file({"something": torch.zeros(3)}, tmp_path / "wrong.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")

    def loaded(name: str, **changes: Any) -> tuple[Segmenter, str]:
        said: list[str] = []
        settings = replace(SETTINGS, weights=str(tmp_path / name), **changes)
        return make(examples, settings, said), "\n".join(said)

    learner, said = loaded("whole.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in learner.module.state_dict().items())
    assert "random" not in said
    rates = sorted({group["lr"] for group in learner.parameter_groups()})
    assert rates == pytest.approx([8e-4, 4e-3])  # the encoder's is a fifth

    learner, said = loaded("encoder.safetensors", freeze="backbone")
    own = learner.module.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own if name.startswith("encoder."))
    assert not any(torch.equal(own[name], state[name]) for name in own if name.startswith("segmentation_head.0.weight"))
    assert "weights of the encoder alone" in said
    assert not any(weight.requires_grad for weight in learner.module.encoder.parameters())
    learner, _ = loaded("encoder.safetensors", freeze="most")
    frozen = [not weight.requires_grad for weight in learner.module.encoder.parameters()]
    assert frozen == sorted(frozen, reverse=True)
    assert 0.5 < np.mean(frozen) < 0.8

    torch.manual_seed(0)
    said_of_head: list[str] = []
    create(
        replace(SETTINGS, weights=str(tmp_path / "whole.safetensors")),
        (*CLASSES, "ring"),
        examples,
        said_of_head.append,
    )
    assert any("trained for other classes" in line for line in said_of_head)
    for name in ("wrong.safetensors", "broken.safetensors", "absent.safetensors"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            loaded(name)


def test_biases_and_scales_do_not_decay(tmp_path: Path) -> None:
    learner = make(render(tmp_path / "a", 2, 0))
    for group in learner.parameter_groups():
        assert {weight.ndim > 1 for weight in group["params"]} == {group["weight_decay"] > 0}
    grouped = [weight for group in learner.parameter_groups() for weight in group["params"]]
    assert len(grouped) == len(list(learner.module.parameters())) == len({id(weight) for weight in grouped})


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["fpn", "deeplabv3plus", "segformer"])
def test_other_architectures_learn_and_export(tmp_path: Path, architecture: str) -> None:
    examples = render(tmp_path / "a", 8, 0)
    learner = make(examples, replace(SETTINGS, model=f"{architecture}/tu-test_efficientnet", epochs=20))
    fit = train(learner, examples, examples, tmp_path / "checkpoint")
    assert fit.numbers[METRIC] > 0.3, fit.numbers
    predictor = load(str(learner.export(tmp_path)), Options())
    found = predictor.predict([predictor.prepare(load_pixels(examples[0].path))])[0]
    assert isinstance(found, ClassMap)
    assert found.labels.shape == (64, 96)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"curate-vision\[train\]"):
        make(render(tmp_path / "a", 2, 0))


def test_importing_the_learner_imports_no_torch() -> None:
    code = "import sys, curate.models.training.segment; print([m for m in ('torch', 'albumentations') if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
