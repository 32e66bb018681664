"""Learning to classify: end to end on rendered shapes, the file that comes out, and what is chosen where nobody says."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from curate.dataset import open_dataset  # noqa: E402
from curate.errors import InputError, UnavailableError, UsageError  # noqa: E402
from curate.models.predictors.base import Classes  # noqa: E402
from curate.models.predictors.registry import load_predictor  # noqa: E402
from curate.models.training import runs  # noqa: E402
from curate.models.training import train as training  # noqa: E402
from curate.models.training.base import Example, TrainingSettings  # noqa: E402
from curate.models.training.checkpoints import NotKept  # noqa: E402
from curate.models.training.classify import timm as networks  # noqa: E402
from curate.models.training.classify.create import create  # noqa: E402
from curate.models.training.classify.learner import Classifier  # noqa: E402
from curate.models.training.classify.mixing import Mixing  # noqa: E402
from curate.models.training.runs import Run, read_run, remove_run, run_folder, runs_folder  # noqa: E402
from curate.models.training.train import Asked, resume, train  # noqa: E402
from tests.models.toy_sets import SHAPES, draw_folders, import_folders  # noqa: E402

NETWORK = "test_resnet"

WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors"):
    sys.modules[name] = None
import json
from pathlib import Path
from curate.imaging import load_pixels
from curate.models.predictors.registry import load_predictor
predictor = load_predictor(sys.argv[1])
found = predictor.predict([predictor.prepare(load_pixels(path)) for path in sys.argv[2:]])
print(json.dumps([predictor.name, predictor.task, predictor.classes, [each.probabilities.tolist() for each in found]]))
"""

KILLED = """
import os, signal, sys
from curate.models.training import trainer
from curate.models.training.train import Asked, train
trainer.CHECKPOINT_SECONDS = 0.0
steps = []
def report(done, total, text):
    if "epoch" in text:
        steps.append(done)
    if len(steps) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
asked = Asked("shapes", folds=int(sys.argv[1]) or None, settings={"task": "classify", "epochs": 8, "device": "cpu"})
train(asked, name="killed", command="test", report=report, say=lambda text: None)
"""


SETTINGS = {"task": "classify", "device": "cpu", "epochs": 1}


def interrupted(done: int, total: int, text: str) -> None:
    """Progress that is interrupted with the first step of the second fold."""
    if text.startswith("fold 2"):
        raise KeyboardInterrupt


def quiet(done: int, total: int, text: str) -> None:
    """No progress."""


def unheard(text: str) -> None:
    """Nobody to tell."""


def learn(name: str, **settings: Any) -> Run:
    folds = settings.pop("folds", None)
    asked = Asked("shapes", folds=folds, settings={"task": "classify", "device": "cpu", **settings})
    return train(asked, name=name, command="test", report=quiet, say=unheard)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def files(name: str) -> dict[str, bytes]:
    folder = run_folder(name)
    return {kind: (folder / kind).read_bytes() for kind in ("model.safetensors", "model.onnx")}


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    folder = draw_folders(tmp_path / "images", 20)
    import_folders(folder)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny network that was trained on nothing."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(timm.create_model(NETWORK, pretrained=False).state_dict(), path)
    return path


def test_shapes_are_learnt_and_predicted_without_torch(shapes: Path) -> None:
    run = learn("toy")
    assert run.model == "builtin"
    assert run.numbers["balanced_accuracy"] >= 0.9
    assert (run.images, run.classes) == ({"train": 48, "validation": 12, "unreadable": 0}, SHAPES)
    assert run == read_run("toy")
    assert sorted(path.name for path in run_folder("toy").iterdir() if path.name != "lock") == [
        "log.jsonl", "model.curate.json", "model.onnx", "model.safetensors", "plan.json", "run.json", "tensorboard",
    ]  # fmt: skip
    paths = [str(path) for path in sorted(shapes.rglob("*.png"))]
    command = [sys.executable, "-c", WITHOUT_TORCH, "run:toy", *paths]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, task, classes, probabilities = json.loads(done.stdout)
    assert name.startswith("run:toy@")
    assert (task, tuple(classes)) == ("classify", SHAPES)
    assert np.asarray(probabilities).sum(axis=1) == pytest.approx(1, abs=1e-5)
    said = [SHAPES[k] for k in np.argmax(probabilities, axis=1)]
    assert np.mean([Path(path).parent.name == shape for path, shape in zip(paths, said, strict=True)]) >= 0.95


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_file(shapes: Path) -> None:
    whole = learn("whole", epochs=8)
    done = subprocess.run([sys.executable, "-c", KILLED, "0", "5"], env=environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_run("killed") is None
    with pytest.raises(UsageError, match="the run 'killed' is unfinished"):
        load_predictor("run:killed")
    told: list[str] = []
    run = resume("killed", Asked(), report=lambda done, total, text: told.append(text), say=unheard)
    assert run.numbers == whole.numbers
    assert files("killed") == files("whole")
    assert not (run_folder("killed") / "checkpoint").exists()
    assert sum("epoch" in text for text in told) == 4  # what was done is not done again


def test_a_seed_decides_it_all(shapes: Path) -> None:
    learn("a", epochs=3)
    learn("b", epochs=3)
    learn("c", epochs=3, seed=1)
    assert files("a") == files("b")
    assert files("a")["model.safetensors"] != files("c")["model.safetensors"]


def out_of_fold(layer: str) -> dict[str, tuple[str, list[float]]]:
    """Label and probabilities of each image's prediction."""
    table = open_dataset("shapes").table("annotations", where=f"layer = '{layer}'")
    assert len(set(table["image_id"].to_pylist())) == table.num_rows
    rows = table.to_pylist()
    return {row["image_id"]: (row["label"], row["probabilities"]) for row in rows}


@pytest.mark.slow
def test_folds_predict_every_image_once_and_go_on_after_a_kill(tmp_path: Path) -> None:
    import_folders(draw_folders(tmp_path / "images", 12, splits=("train", "test")))
    before = open_dataset("shapes").commit.number
    run = learn("whole", epochs=8, folds=3)
    assert run.predictions == "predictions/oof-whole"
    dataset = open_dataset("shapes")
    assert dataset.commit.number == before + 1
    found = out_of_fold(run.predictions)
    images = dataset.table("images").to_pylist()
    assert found.keys() == {image["image_id"] for image in images}
    for _, probabilities in found.values():
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    right = [found[image["image_id"]][0] == image["location"].split("/")[-2] for image in images]
    assert np.mean(right) > 0.8
    assert run.folds is not None
    assert sum(fold["predicts"] for fold in run.folds) == 72
    # Nothing of the test split is learnt from: 36 images in training, a third of them out of each fold.
    assert all(fold["images"]["train"] + fold["images"]["validation"] <= 36 for fold in run.folds)
    with pytest.raises(UsageError, match="has a model for each fold") as caught:
        load_predictor("run:whole")
    assert "run:whole/fold-2" in str(caught.value)
    assert load_predictor("run:whole/fold-2").classes == SHAPES

    done = subprocess.run([sys.executable, "-c", KILLED, "3", "12"], env=environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (run_folder("killed") / "fold-1" / "run.json").exists()
    assert not (run_folder("killed") / "fold-2" / "run.json").exists()
    again = resume("killed", Asked(), report=quiet, say=unheard)
    assert again.numbers == run.numbers
    assert out_of_fold("predictions/oof-killed") == found


def test_no_model_has_seen_what_it_predicts_out_of_fold(shapes: Path) -> None:
    run = learn("toy", epochs=1, folds=2)
    seen = open_dataset("shapes").table("predicted/oof-toy").to_pylist()
    of_model: dict[str, set[str]] = {}
    for row in seen:
        of_model.setdefault(row["model"].partition("@")[0], set()).add(row["id"])
    assert set(of_model) == {"run:toy/fold-1", "run:toy/fold-2"}
    assert run.folds is not None
    assert [len(of_model[f"run:{fold['name']}"]) for fold in run.folds] == [fold["predicts"] for fold in run.folds]


def test_out_of_fold_predictions_are_of_one_run_alone(shapes: Path) -> None:
    learn("toy", epochs=1, folds=2)
    remove_run("toy")
    told: list[str] = []
    asked = Asked("shapes", where="location NOT LIKE '%disc%'", folds=2, settings=SETTINGS)
    run = train(asked, name="toy", command="test", report=quiet, say=told.append)
    assert "what predictions/oof-toy has already, 60 annotations, will make room for this run's" in told
    dataset = open_dataset("shapes")
    wanted = set(dataset.table("images", where="location NOT LIKE '%disc%'")["image_id"].to_pylist())
    assert out_of_fold("predictions/oof-toy").keys() == wanted
    assert set(dataset.table("predicted/oof-toy")["id"].to_pylist()) == wanted
    names = {load_predictor(f"run:toy/fold-{number}").name for number in (1, 2)}
    assert set(dataset.table("predicted/oof-toy")["model"].to_pylist()) == names
    assert run.folds is not None
    assert sum(fold["predicts"] for fold in run.folds) == 40


def test_copies_are_predicted_by_a_model_that_saw_neither(shapes: Path) -> None:
    for path in sorted((shapes / "disc").iterdir()):
        path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    import_folders(shapes, "copies")
    asked = Asked("copies", folds=3, settings=SETTINGS)
    train(asked, name="toy", command="test", report=quiet, say=unheard)
    dataset = open_dataset("copies")
    model = {row["id"]: row["model"] for row in dataset.table("predicted/oof-toy").to_pylist()}
    by_name = {row["location"]: model[row["image_id"]] for row in dataset.table("images").to_pylist()}
    pairs = [name for name in by_name if "copy-" in name]
    assert len(pairs) == 20
    assert all(by_name[name] == by_name[name.replace("copy-", "")] for name in pairs)


def test_files_that_changed_would_hold_out_other_images_and_are_told(shapes: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Asked("shapes", folds=2, settings=SETTINGS), name="toy", command="test", report=interrupted, say=unheard)
    for number in range(1, 20):
        (shapes / "disc" / f"{number:03d}.png").write_bytes((shapes / "disc" / "000.png").read_bytes())
    with pytest.raises(InputError, match="other images would be held out than when the run began"):
        resume("toy", Asked(), report=quiet, say=unheard)


def test_what_cannot_be_read_is_told_once_and_not_counted(shapes: Path) -> None:
    for name in ("disc/003.png", "cross/004.png"):
        (shapes / name).write_bytes(f"no image {name}".encode())
    told: list[str] = []
    run = train(Asked("shapes", folds=3, settings=SETTINGS), name="toy", command="test", report=quiet, say=told.append)
    unread = [line for line in told if "images cannot be read" in line]
    assert sum(int(line.partition(" ")[0]) for line in unread) == 2
    assert [line.partition(";")[0] for line in told if "no prediction" in line] == ["2 images have no prediction"]
    assert run.folds is not None
    assert sum(fold["predicts"] for fold in run.folds) == 58


def test_a_taken_name_is_refused_before_anything_is_read(shapes: Path) -> None:
    learn("toy", epochs=1)
    with pytest.raises(UsageError, match="there is a run named 'toy' already"):
        train(Asked("nowhere", settings=SETTINGS), name="toy", command="test", report=quiet, say=unheard)
    with pytest.raises(UsageError, match="cannot be a run's name"):
        train(Asked("nowhere", settings=SETTINGS), name="../toy", command="test", report=quiet, say=unheard)


def test_a_finished_run_is_not_asked_for_something_else(shapes: Path) -> None:
    run = learn("toy", epochs=1)
    with pytest.raises(UsageError, match="the run began with another epochs"):
        resume("toy", Asked(settings={"epochs": 3}), report=quiet, say=unheard)
    assert resume("toy", Asked("shapes", settings={"epochs": 1}), report=quiet, say=unheard) == run


def test_a_disk_that_is_full_says_how_to_go_on(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:  # before there is anything to go on from
        patch.setattr(training, "_learner", full)
        with pytest.raises(NotKept, match="No space left on device") as caught:
            learn("toy", epochs=1)
    assert "train again: nothing is left of the run" in str(caught.value)
    assert "--resume" not in str(caught.value)
    assert not (runs_folder() / "toy").exists()
    with monkeypatch.context() as patch:  # when a model is there
        patch.setattr(training, "finish_run", full)
        with pytest.raises(NotKept, match="No space left on device") as caught:
            learn("toy", epochs=1, folds=2)
    assert "go on with: curate train --name toy --resume" in str(caught.value)
    assert resume("toy", Asked(), report=quiet, say=unheard).folds
    with monkeypatch.context() as patch:  # a folder that says nothing would take the name for good
        patch.setattr(runs, "write_atomic", full)
        with pytest.raises(NotKept):
            learn("other", epochs=1)
    learn("other", epochs=1)


def test_nothing_is_guessed_of_what_was_trained_here(shapes: Path) -> None:
    learn("toy", epochs=1)
    assert not getattr(load_predictor("run:toy"), "notes", ())


@pytest.mark.parametrize("freeze", ["backbone", "most", pytest.param("nothing", marks=pytest.mark.slow)])
def test_networks_of_timm_from_a_local_file(shapes: Path, weights: Path, freeze: str) -> None:
    run = learn(
        "toy", model=NETWORK, weights=str(weights), freeze=freeze, image_size=48, epochs=2, batch_size=16,
        options={"mixup": 0.2, "cutmix": 0.5},
    )  # fmt: skip
    assert (run.settings["freeze"], run.settings["image_size"]) == (freeze, 48)
    from safetensors.torch import load_file

    before, after = load_file(weights), load_file(run_folder("toy") / "model.safetensors")
    changed = {name for name in before if not name.startswith("fc") and not torch.equal(before[name], after[name])}
    parts = {name.partition(".")[0] for name in changed}
    assert (
        parts
        == {
            "backbone": set(),
            "most": {"layer4"},
            "nothing": {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"},
        }[freeze]
    )
    model = timm.create_model(NETWORK, pretrained=False, num_classes=3)
    model.load_state_dict(after)
    pixels = np.asarray(Image.open(next(shapes.rglob("*.png"))))
    config = timm.data.resolve_model_data_config(model)
    inputs = ((pixels / 255 - config["mean"]) / config["std"]).transpose(2, 0, 1)[None].astype(np.float32)
    with torch.inference_mode():
        expected = torch.softmax(model.eval()(torch.from_numpy(inputs)), dim=1).numpy()[0]
    predictor = load_predictor("run:toy")
    (found,) = predictor.predict([predictor.prepare(pixels)])
    assert isinstance(found, Classes)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    # The weights of a run are what another begins with; a head for other classes is left out.
    learner = make(model=NETWORK, weights=str(run_folder("toy") / "model.safetensors"), classes=("a", "b"))
    assert torch.equal(learner.module.state_dict()["conv1.0.weight"], after["conv1.0.weight"])


def make(*, classes: tuple[str, ...] = SHAPES, labels: list[int] | None = None, **settings: Any) -> Any:
    examples = [Example(f"{n:016x}", "x", None, label=label) for n, label in enumerate(labels or [0, 1, 0, 1])]
    settled = TrainingSettings("classify", device="cpu", amp=False, workers=0)
    from dataclasses import replace

    return create(replace(settled, **settings), classes, examples, lambda text: None)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": "no_such_network"}, UsageError, "timm has no network named 'no_such_network'"),
        ({"model": NETWORK, "weights": "/nowhere/w.safetensors"}, InputError, "the weights file is not there"),
        ({"model": "builtin", "freeze": "nothing"}, UsageError, "stays as it is"),
        ({"model": "builtin", "weights": "scratch"}, UsageError, "has its own weights"),
        ({"model": "builtin", "image_size": 64}, UsageError, "takes 96 pixels"),
        ({"model": "builtin", "augment": 0.5}, UsageError, "nothing changes at random"),
        ({"model": "builtin", "options": {"head": "deep"}}, UsageError, "no head 'deep'"),
        ({"model": NETWORK, "weights": "scratch", "freeze": "most"}, UsageError, "nothing worth freezing"),
        ({"model": NETWORK, "weights": "scratch", "options": {"head": "mlp"}}, UsageError, "option of the built-in"),
        ({"model": "builtin", "options": {"backbone_lr": 0.1}}, UsageError, "the backbone does not learn"),
        ({"model": NETWORK, "weights": "scratch", "options": {"backbone_lr": 0}}, UsageError, "from 0.001 to 1"),
        ({"model": NETWORK, "weights": "scratch", "options": {"last_parts": 1}}, UsageError, "with 'most' frozen"),
        ({"options": {"no_such": 1}}, UsageError, "no option 'no_such'"),
        ({"options": {"mixup": "much"}}, UsageError, "'mixup' must be a number"),
        ({"options": {"balance": 2}}, UsageError, "'balance' must be a number from 0 to 1"),
        ({"classes": ("one",), "labels": [0, 0]}, UsageError, "nothing to tell apart"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(**settings)


def rates(learner: Any) -> dict[str, float]:
    """Learning rate of each part of a network that learns."""
    names = {id(weight): name.partition(".")[0] for name, weight in learner.module.named_parameters()}
    return {names[id(weight)]: group["lr"] for group in learner.parameter_groups() for weight in group["params"]}


def test_the_backbone_learns_more_slowly_and_its_last_parts_alone(weights: Path) -> None:
    frozen: dict[str, Any] = {"model": NETWORK, "weights": str(weights), "freeze": "most", "learning_rate": 0.01}
    assert rates(make(**frozen)) == pytest.approx({"layer4": 0.001, "fc": 0.01})
    two = make(**frozen, options={"last_parts": 2, "backbone_lr": 0.5})
    assert rates(two) == pytest.approx({"layer3": 0.005, "layer4": 0.005, "fc": 0.01})
    all_of_it = rates(make(**frozen, options={"last_parts": 100, "backbone_lr": 1}))
    assert set(all_of_it) == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}
    assert set(rates(make(**{**frozen, "freeze": "nothing"}, options={"last_parts": 2}))) == set(all_of_it)
    assert set(rates(make(model=NETWORK, weights="scratch", learning_rate=0.01)).values()) == {0.01}


def test_weights_of_another_network_are_named(weights: Path) -> None:
    with pytest.raises(InputError, match="do not fit"):
        make(model="test_efficientnet", weights=str(weights))


def test_weights_that_cannot_be_fetched_fail_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.models.encoders import hub

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setattr(hub, "_reachable", lambda: False)
    with pytest.raises(UnavailableError, match="not on this disk") as caught:
        make(weights="pretrained")
    assert "--model builtin" in str(caught.value)


def test_the_default_is_what_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(networks, "are_weights_here", lambda name: False)
    examples = [Example(f"{n:016x}", "x", None, label=n % 2) for n in range(100)]
    learner = create(TrainingSettings("classify", device="cpu"), ("a", "b"), examples, told.append)
    assert (learner.settings.model, learner.settings.freeze) == ("builtin", "backbone")
    assert "are not on this disk" in told[0]


def test_rare_classes_count_more() -> None:
    told: list[str] = []
    examples = [Example(f"{n:016x}", "x", None, label=int(n < 4)) for n in range(100)]
    learner = create(TrainingSettings("classify", model="builtin", device="cpu"), ("a", "b"), examples, told.append)
    assert isinstance(learner, Classifier)
    weights = learner._weights
    assert weights[1] / weights[0] == pytest.approx((96 / 4) ** 0.5)
    assert (weights * [96, 4]).sum() == pytest.approx(100)
    assert any("24.0 times" in line for line in told)
    even = make(model="builtin")
    np.testing.assert_allclose(even._weights[:2], 1)


def test_scores() -> None:
    learner = make(model="builtin", labels=[0, 1, 2, 1])
    probabilities = [np.array(row, np.float32) for row in ([0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1])]
    examples = [Example("0" * 16, "x", None, label=label) for label in (0, 1, 1)]
    found = learner.score(probabilities, examples)
    assert found["top1"] == pytest.approx(2 / 3)
    assert found["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.3, 0.8]).mean())


def test_mixing() -> None:
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 20, 30).clone()
    targets = torch.eye(4)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mixed, soft = Mixing(cutmix=1.0)(images, targets, rng)
        assert soft.sum(dim=1).tolist() == pytest.approx([1.0] * 4)
        for k in range(4):
            # A pixel is of one of two images, and the target says how many are of which.
            for other in range(4):
                share = float((mixed[k, 0] == other).float().mean())
                assert float(soft[k, other]) == pytest.approx(share, abs=1e-6)
        blended, soft = Mixing(mixup=0.4)(images, targets, rng)
        np.testing.assert_allclose(blended[:, 0, 0, 0], soft @ torch.arange(4.0), atol=1e-5)
    features = torch.randn(4, 8)
    assert Mixing(cutmix=1.0)(features, targets, np.random.default_rng(0))[0] is features
    assert Mixing()(images, targets, np.random.default_rng(0))[0] is images


def test_a_head_with_a_hidden_layer(shapes: Path) -> None:
    run = learn("toy", epochs=30, options={"head": "mlp"})
    assert run.numbers["balanced_accuracy"] >= 0.9
    assert load_predictor("run:toy").classes == SHAPES


def test_an_image_that_cannot_be_read_is_left_out(shapes: Path) -> None:
    (shapes / "disc" / "003.png").write_bytes(b"no image")
    told: list[str] = []
    asked = Asked("shapes", settings={"task": "classify", "device": "cpu", "epochs": 4})
    run = train(asked, name="toy", command="test", report=quiet, say=told.append)
    assert run.images["unreadable"] == 1
    assert any("1 images cannot be read" in line for line in told)
