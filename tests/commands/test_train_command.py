"""curate train and curate runs: what is asked for and told, what is refused, and going on after an interrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

pytest.importorskip("torch")

from curate.cli import app
from curate.dataset import open_dataset
from curate.models.training.runs import locked, run_folder, run_names, runs_folder
from tests.models.toy_sets import draw_folders, import_folders


def curate(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def train(*arguments: str | Path, status: int = 0) -> Result:
    return curate("train", "-d", "shapes", "--task", "classify", "--device", "cpu", *arguments, status=status)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    folder = draw_folders(tmp_path / "images", 8)
    import_folders(folder)
    return folder


def test_a_run_is_recorded_listed_used_and_removed(shapes: Path) -> None:
    number = open_dataset("shapes").commit.number
    done = train("--epochs", "5", "--set", "weight_decay=0.1", "--set", "label_smoothing=0.1", "--seed", "3", "--json")
    run = json.loads(done.stdout)
    assert run["name"] == "shapes-classify-1"
    assert (run["plan"]["dataset"], run["plan"]["commit"], run["plan"]["layer"]) == ("shapes", number, "ground_truth")
    settings = run["settings"]
    assert (settings["epochs"], settings["seed"], settings["weight_decay"]) == (5, 3, 0.1)
    assert settings["options"]["label_smoothing"] == 0.1
    assert {"curate", "torch", "onnxruntime"} <= run["versions"].keys()
    assert run["numbers"].keys() == {"balanced_accuracy", "top1", "log_loss"}
    assert "19 images to learn from, 5 to validate on (20% held out)" in done.stderr
    assert open_dataset("shapes").commit.number == number

    table = curate("runs").stdout
    assert "shapes-classify-1" in table
    assert f"shapes, commit {number}" in table
    assert json.loads(curate("runs", "--json").stdout) == run
    curate("predict", "-d", "shapes", "--model", "run:shapes-classify-1")
    assert "predictions/shapes-classify-1" in str(
        open_dataset("shapes").table("annotations", columns=["layer"])["layer"].to_pylist()
    )
    assert "is removed" in curate("runs", "--remove", "shapes-classify-1").stderr
    assert "no runs yet" in curate("runs").stdout
    assert list(runs_folder().iterdir()) == []


def test_folds_are_shown(shapes: Path) -> None:
    done = train("--folds", "2", "--epochs", "3", "--name", "toy")
    assert "run:toy/fold-2" in done.stdout
    assert "out-of-fold predictions: predictions/oof-toy" in done.stdout
    # The numbers are not those of the predictions, and say so; the command that gives these runs.
    assert "toy: builtin, 2 models, inner validation balanced_accuracy 0." in done.stdout
    assert "(inner validation)" in curate("runs").stdout
    command = done.stdout.partition("how good they are: ")[2].splitlines()[0].split()
    assert command == ["curate", "evaluate", "-d", "shapes", "--layer", "predictions/oof-toy"]
    assert "24" in curate(*command[1:]).stdout
    dataset = open_dataset("shapes")
    assert dataset.count("annotations", where="layer = 'predictions/oof-toy'") == 24


def test_a_run_is_never_overwritten(shapes: Path) -> None:
    train("--epochs", "2", "--name", "toy")
    before = (run_folder("toy") / "model.onnx").read_bytes()
    assert "there is a run named 'toy' already" in train("--epochs", "3", "--name", "toy", status=2).stderr
    assert (run_folder("toy") / "model.onnx").read_bytes() == before
    assert "finished already" in curate("train", "--name", "toy", "--resume").stderr
    assert (run_folder("toy") / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--val", "test"), "the test split is not validated on"),
        (("--folds", "2", "--val", "0.2"), "leave --val out"),
        (("--folds", "1"), "1 cannot be a number of folds"),
        (("--folds", "-3"), "-3 cannot be a number of folds"),
        (("--folds", "99"), "24 groups of images cannot make 99 folds"),
        (("--epochs", "0"), "0 is too small"),
        (("--lr", "-1"), "-1.0 is not above 0"),
        (("--device", "tpu"), "'tpu' is no device"),
        (("--device", "cuda:99"), "has no 'cuda:99'"),
        (("--set", "mixup"), "is not KEY=VALUE"),
        (("--set", "mixup=0.1", "--model", "builtin", "--set", "depth=3"), "no option 'depth'"),
        (("--set", "weight_decay=much"), "a setting cannot be understood"),
        (("--set", "seed=1", "--seed", "2"), "'seed' is set twice"),
        (("--where", "path = ''"), "there are no images to learn from"),
        (("--layer", "predictions/x"), "nothing to learn for 'classify'"),
        (("--name", "../x"), "cannot be a run's name"),
        (("--model", "no_such_network"), "no network named"),
        (("--weights", "/nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    shapes: Path, arguments: tuple[str, ...], message: str
) -> None:
    arguments = arguments if "--device" in arguments else ("--device", "cpu", *arguments)
    result = curate("train", "-d", "shapes", "--task", "classify", *arguments, status=2)
    assert message in result.stderr, result.stderr
    assert run_names() == []
    assert not runs_folder().exists() or list(runs_folder().iterdir()) == []


def test_other_tasks_say_what_the_layer_has(shapes: Path) -> None:
    result = curate("train", "-d", "shapes", "--task", "detect", status=2)
    assert "24 of type 'label'" in result.stderr


def test_a_dataset_and_a_task_are_needed(shapes: Path) -> None:
    assert "needs a dataset and a task" in curate("train", "--task", "classify", status=2).stderr
    assert "needs a dataset and a task" in curate("train", "-d", "shapes", status=2).stderr
    assert "which run" in curate("train", "--resume", status=2).stderr
    assert "there is no run named 'x'" in curate("train", "--resume", "--name", "x", status=2).stderr
    assert "there is no run named 'x'" in curate("runs", "--remove", "x", status=2).stderr


def test_without_torch_the_extra_is_named(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    result = train(status=3)
    assert "torch is not installed" in result.stderr
    assert "curate-vision[train]" in result.stderr


PROGRAM = """
import sys, time
from curate.models.training.batches import Reader
training = Reader.training
def slow(self, *arguments):
    for batch in training(self, *arguments):
        time.sleep(0.1)
        yield batch
Reader.training = slow
from curate.cli import main
main()
"""


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_it_does(shapes: Path) -> None:
    train("--epochs", "30", "--set", "batch_size=8", "--name", "whole")
    arguments = ["train", "-d", "shapes", "--task", "classify", "--device", "cpu", "--epochs", "30", "--name", "toy"]
    command = [sys.executable, "-c", PROGRAM, *arguments, "--set", "batch_size=8"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        log = runs_folder() / "toy" / "log.jsonl"
        waited = time.monotonic()
        while not log.exists() and running.poll() is None and time.monotonic() - waited < 60:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130, errors
    assert "go on with: curate train --name toy --resume" in errors
    assert "unfinished: --resume goes on" in curate("runs").stdout
    assert json.loads(curate("runs", "--json").stdout.splitlines()[0]) == {"name": "toy"}
    result = curate("train", "--resume", "--name", "toy", "--epochs", "9", status=2)
    assert "the run began with another epochs" in result.stderr
    curate("train", "--resume", "--name", "toy", "-d", "shapes", "--epochs", "30")
    for file in ("model.onnx", "model.safetensors"):
        assert (run_folder("toy") / file).read_bytes() == (run_folder("whole") / file).read_bytes()


def test_one_process_trains_a_run(shapes: Path) -> None:
    train("--epochs", "2", "--name", "toy")
    with locked(run_folder("toy")):
        assert "another process is training this run" in curate("runs", "--remove", "toy", status=2).stderr
        assert "another process" in curate("train", "--resume", "--name", "toy", status=2).stderr
