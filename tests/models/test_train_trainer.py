"""The training loop: the same numbers on every run, whatever interrupts it, and an end where nothing gets better."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from curate.errors import InputError, UsageError  # noqa: E402
from curate.models.training import checkpoints, trainer  # noqa: E402
from curate.models.training.base import Example, TrainingSettings  # noqa: E402
from curate.models.training.logs import open_log, read_log  # noqa: E402
from curate.models.training.trainer import Fit, fit  # noqa: E402
from tests.models.toy_learner import ToyLearner, paint  # noqa: E402

SETTINGS = TrainingSettings(
    "classify", epochs=4, batch_size=8, learning_rate=0.05, image_size=8, device="cpu", amp=False, workers=2
)

PROGRAM = """
import os, sys
from pathlib import Path
from tests.models.test_train_trainer import SETTINGS, train
from tests.models.toy_learner import paint
from curate.models.training import trainer

trainer.CHECKPOINT_SECONDS = 0.0
steps = []

def report(done, total, text):
    steps.append(done)
    if len(steps) == int(sys.argv[2]):
        os.kill(os.getpid(), int(sys.argv[3]))

folder = Path(sys.argv[1])
train(folder, paint(folder / "images", 50), settings=SETTINGS, report=report)
"""


def train(
    folder: Path,
    examples: list[Example],
    settings: TrainingSettings = SETTINGS,
    learner: ToyLearner | None = None,
    report: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> tuple[dict[str, Any], Fit]:
    """Train on the first forty examples, validate on the others; the weights, and what the trainer says."""
    learner = learner or ToyLearner(settings)
    folder.mkdir(parents=True, exist_ok=True)
    log = partial(_log, folder)
    result = fit(
        learner, examples[:40], examples[40:], folder / "checkpoint", shared=folder / "shared", open_log=log,
        report=report, say=lambda text: None,
    )  # fmt: skip
    return {name: value.clone() for name, value in learner.module.state_dict().items()}, result


def _log(folder: Path, epochs: int) -> Any:
    return open_log(folder, "toy", {}, epochs=epochs)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def numbers_in_log(folder: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_log(folder)]


def test_two_runs_give_the_same_and_another_seed_does_not(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    weights, result = train(tmp_path / "a", examples)
    again, _ = train(tmp_path / "b", examples, replace(SETTINGS, workers=0))
    other, _ = train(tmp_path / "c", examples, replace(SETTINGS, seed=1))
    assert same(weights, again)
    assert not same(weights, other)
    assert (result.epochs, result.stopped, result.unreadable) == (4, "epochs", {})
    assert result.numbers == {"right": 1.0, "count": 10.0}
    lines = numbers_in_log(tmp_path / "a")
    assert lines == numbers_in_log(tmp_path / "b")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert lines[-1]["step"] == 20
    assert lines[-1]["twice"] == pytest.approx(2 * lines[-1]["loss"])
    assert list((tmp_path / "a" / "tensorboard").glob("events.*"))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, average=0.9)], ids=["plain", "averaged"])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path: Path, settings: TrainingSettings) -> None:
    examples = paint(tmp_path / "images", 50)
    expected, of_expected = train(tmp_path / "whole", examples, settings)
    program = PROGRAM.replace(
        "settings=SETTINGS", f"settings=__import__('dataclasses').replace(SETTINGS, average={settings.average})"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    folder = tmp_path / "killed"
    for steps in (3, 4):  # in the middle of the first epoch, and at the second step of the second
        command = [sys.executable, "-c", program, str(folder), str(steps), str(int(signal.SIGKILL))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    at, _ = checkpoints.read_checkpoint(folder / "checkpoint") or pytest.fail("no checkpoint")
    assert at.step == 5  # the steps at which it was killed were not kept
    weights, result = train(folder, paint(folder / "images", 50), settings)
    assert same(weights, expected)
    assert (result.numbers, result.best_epoch) == (of_expected.numbers, of_expected.best_epoch)
    assert numbers_in_log(folder) == numbers_in_log(tmp_path / "whole")


def test_ctrl_c_keeps_all_that_was_done(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    expected, _ = train(tmp_path / "whole", examples)
    steps: list[int] = []

    def interrupt(done: int, total: int, text: str) -> None:
        steps.append(done)
        if len(steps) == 7:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part", examples, report=interrupt)
    at, _ = checkpoints.read_checkpoint(tmp_path / "part" / "checkpoint") or pytest.fail("no checkpoint")
    assert (at.step, at.epoch, at.batch) == (7, 1, 2)
    assert signal.getsignal(signal.SIGINT) is before
    told: list[tuple[int, int]] = []
    weights, _ = train(tmp_path / "part", examples, report=lambda done, total, text: told.append((done, total)))
    assert same(weights, expected)
    assert told[0] == (1, 13)
    assert told[-1] == (13, 13)


def test_it_trains_in_other_threads_too(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    expected, _ = train(tmp_path / "a", examples)
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(train(tmp_path / "b", examples)[0]))
    thread.start()
    thread.join()
    assert same(found[0], expected)


def test_it_stops_when_nothing_gets_better_and_keeps_the_best(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    learner = ToyLearner(SETTINGS)
    learner.told = [0.5, 0.9, 0.6, 0.9, 0.7, 0.8, 0.1]
    kept: list[dict[str, Any]] = []
    score = learner.score

    def noted(*arguments: Any) -> dict[str, float]:
        kept.append({name: value.clone() for name, value in learner.module.state_dict().items()})
        return score(*arguments)

    learner.score = noted  # type: ignore[assignment, method-assign]
    weights, result = train(tmp_path / "a", examples, replace(SETTINGS, epochs=50, patience=3), learner)
    assert result.epochs == 4  # the settings of the learner count
    learner = ToyLearner(replace(SETTINGS, epochs=50, patience=3))
    learner.told = [0.5, 0.9, 0.6, 0.9, 0.7, 0.8, 0.1]
    score = learner.score
    learner.score = noted  # type: ignore[assignment, method-assign]
    kept.clear()
    weights, result = train(tmp_path / "b", examples, learner=learner)
    # Equal is not better, but of equal ones the later is kept.
    assert (result.epochs, result.stopped, result.best_epoch, result.numbers["right"]) == (5, "early", 4, 0.9)
    assert same(weights, kept[3])
    # A training that ended has ended.
    again, result = train(tmp_path / "b", examples, learner=ToyLearner(learner.settings))
    assert (result.epochs, result.stopped) == (5, "early")
    assert same(again, weights)


def test_without_validation_the_last_weights_count(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 40)
    _, result = train(tmp_path / "a", examples)
    assert (result.epochs, result.best_epoch, result.numbers) == (4, 4, {})


def test_minutes_end_it(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    _, result = train(tmp_path / "a", examples, replace(SETTINGS, epochs=100_000, minutes=0.01))
    assert result.stopped == "minutes"
    assert 0 < result.epochs < 100_000
    assert read_log(tmp_path / "a")[-1]["rate"] == pytest.approx(0.01, abs=0.05)


def test_a_number_of_steps_takes_the_place_of_epochs(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    told: list[tuple[int, int]] = []
    _, result = train(  # of 5 steps an epoch: two whole ones and 3 steps of a third
        tmp_path / "a",
        examples,
        replace(SETTINGS, steps=13),
        report=lambda done, total, text: told.append((done, total)),
    )
    assert told == [(step, 13) for step in range(1, 14)]
    assert (result.epochs, result.stopped) == (3, "steps")
    assert [line["step"] for line in read_log(tmp_path / "a")] == [5, 10, 13]


def test_as_many_steps_as_epochs_have_give_the_same(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    weights, _ = train(tmp_path / "a", examples)
    by_steps, _ = train(tmp_path / "b", examples, replace(SETTINGS, epochs=99, steps=20))
    assert same(weights, by_steps)


def test_a_loss_that_is_no_number_stops_it(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    learner = ToyLearner(SETTINGS)
    loss = learner.loss
    calls: list[int] = []

    def diverging(batch: Any, rng: np.random.Generator) -> Any:
        calls.append(1)
        value, parts = loss(batch, rng)
        return value * (float("nan") if len(calls) == 7 else 1), parts

    learner.loss = diverging  # type: ignore[method-assign]
    with pytest.raises(InputError, match="the loss is nan in epoch 2, step 7") as caught:
        train(tmp_path / "a", examples, learner=learner)
    assert "--lr" in str(caught.value)


def test_images_that_cannot_be_read_are_left_out_and_told(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    Path(examples[3].path).write_bytes(b"no image")
    Path(examples[45].path).unlink()
    _, result = train(tmp_path / "a", examples)
    assert set(result.unreadable) == {examples[3].path, examples[45].path}
    assert result.numbers["count"] == 9
    for example in examples[:40]:
        Path(example.path).write_bytes(b"no image")
    with pytest.raises(InputError, match="not one of the training images can be read"):
        train(tmp_path / "b", examples)


def test_a_full_disk_is_one_clear_error_and_the_old_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = paint(tmp_path / "images", 50)
    train(tmp_path / "a", examples)
    before = (tmp_path / "a" / "checkpoint" / checkpoints.FILE).read_bytes()
    resource = pytest.importorskip("resource")
    program = """
import resource, signal, sys
from pathlib import Path
import torch
from curate.models.training.checkpoints import Progression, write_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write_checkpoint(Path(sys.argv[1]), Progression(), {"module": {"weight": torch.zeros(10_000)}})
except Exception as error:
    print(type(error).__name__, "|", error)
"""
    assert resource
    folder = tmp_path / "a" / "checkpoint"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program, str(folder)], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("NotKept | "), done.stderr
    assert "the training cannot be kept" in done.stdout
    assert (folder / checkpoints.FILE).read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [checkpoints.FILE]


def test_a_full_memory_says_what_to_do(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    learner = ToyLearner(SETTINGS)

    def too_large(batch: Any, rng: np.random.Generator) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    learner.loss = too_large  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="memory of 'cpu' is full: 8 images of 8 pixels") as caught:
        train(tmp_path / "a", examples, learner=learner)
    assert "--batch-size 4" in str(caught.value)


def test_a_checkpoint_that_is_damaged_or_of_another_network_is_refused(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    train(tmp_path / "a", examples)
    path = tmp_path / "a" / "checkpoint" / checkpoints.FILE
    other = ToyLearner(SETTINGS)
    other.module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    with pytest.raises(InputError, match="of another network"):
        train(tmp_path / "a", examples, learner=other)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read"):
        train(tmp_path / "a", examples)


def test_frozen_parts_stay_as_they_are_and_are_not_kept(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    learner = ToyLearner(SETTINGS)
    norm = torch.nn.BatchNorm1d(3)
    learner.module = torch.nn.Sequential(norm, torch.nn.Linear(3, 2))
    norm.requires_grad_(False)
    weights, _ = train(tmp_path / "a", examples, learner=learner)
    assert torch.equal(weights["0.running_mean"], torch.zeros(3))
    _, parts = checkpoints.read_checkpoint(tmp_path / "a" / "checkpoint") or pytest.fail("no checkpoint")
    assert parts["module"].keys() == parts["best"].keys() == {"1.weight", "1.bias"}


def test_the_running_average_is_what_is_kept(tmp_path: Path) -> None:
    examples = paint(tmp_path / "images", 50)
    learner = ToyLearner(replace(SETTINGS, average=0.3))
    expected = {name: value.clone() for name, value in learner.module.state_dict().items()}

    def follow(done: int, total: int, text: str) -> None:
        decay = min(0.3, done / (9 + done))
        for name, value in learner.module.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value

    weights, result = train(tmp_path / "a", examples, learner=learner, report=follow)
    assert result.best_epoch == 4
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name])


def test_mlflow_is_told_only_where_it_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packages" / "mlflow"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "import json\n"
        "def note(*said):\n"
        f"    with open({str(tmp_path / 'told')!r}, 'a') as file:\n"
        "        file.write(json.dumps(said) + '\\n')\n"
        "def set_experiment(name): note('experiment', name)\n"
        "def start_run(run_name): note('run', run_name)\n"
        "def log_params(params): note('params', params)\n"
        "def log_metrics(metrics, step): note('metrics', sorted(metrics), step)\n"
        "def end_run(): note('end')\n"
    )
    monkeypatch.syspath_prepend(str(folder.parent))
    examples = paint(tmp_path / "images", 50)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    train(tmp_path / "a", examples)
    assert not (tmp_path / "told").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:/nowhere")
    train(tmp_path / "b", examples)
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [line[0] for line in told] == ["experiment", "run", "params", *["metrics"] * 4, "end"]
    assert told[1] == ["run", "toy"]
    assert told[3] == ["metrics", ["count", "loss", "rate", "right", "seconds", "step", "twice"], 1]
    sys.modules.pop("mlflow", None)


def test_the_interval_of_checkpoints_is_that_of_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = paint(tmp_path / "images", 50)
    written: list[int] = []

    def write(folder: Path, at: checkpoints.Progression, parts: Any) -> None:
        written.append(at.step)
        checkpoints.write_checkpoint(folder, at, parts)

    monkeypatch.setattr(trainer, "write_checkpoint", write)
    train(tmp_path / "a", examples)
    assert written == [20]  # in less than the interval only the end
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    written.clear()
    train(tmp_path / "b", examples)
    assert written[:6] == [1, 2, 3, 4, 5, 5]
