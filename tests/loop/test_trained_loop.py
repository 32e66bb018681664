"""A loop whose models curate trains: on the labels of each round, never on what is held out, and whatever kills it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from curate.checks.evaluation.store import stored_evaluations
from curate.cli import app
from curate.connectors.base import Row
from curate.dataset import Transaction, begin, open_dataset
from curate.dataset.home import home
from curate.dataset.query import in_layer
from curate.demo import NONE, make_parts
from curate.errors import MissingExtra, UsageError
from curate.formats.base import ReadOptions
from curate.formats.importing import import_source
from curate.loop.machine import State, read_state, rounds, run, state_path
from curate.loop.plan import Plan, Wait
from curate.loop.steps import RealSteps
from curate.loop.training import METRICS, Training
from curate.models.predictors.base import ClassMap, Objects
from curate.models.predictors.layers import write_predictions
from curate.models.predictors.seen import seen_images
from curate.models.training.runs import Run, read_run, run_path
from tests.connectors.memory_connector import Memory, box
from tests.models.toy_sets import draw_folders, import_folders
from tests.test_crash import calls
from tests.test_crash import run as child

Answers = dict[str, list[Row]]

PROGRAM = "import sys; sys.argv[0] = 'curate'; from curate.cli import main; main()"


class People:
    """Annotators who hand in all that is there whenever the loop waits, with the labels that were taken away."""

    def __init__(self, server: Memory, answers: Answers) -> None:
        self.server = server
        self.answers = answers

    def __call__(self, seconds: float) -> None:
        for task in self.server.tasks.values():
            if not task.work:
                for row in self.answers[task.location]:
                    task.rows[self.server._id("s")] = dict(row)
                task.work = "done"


def take_away(name: str, *splits: str) -> Answers:
    """Take the labels of some splits out of a dataset; by location what they were."""
    dataset = open_dataset(name)
    images = {row["image_id"]: row for row in dataset.table("images").to_pylist()}
    hidden = [row for row in dataset.table("annotations").to_pylist() if images[row["image_id"]]["split"] in splits]
    answers: Answers = defaultdict(list)
    for row in hidden:
        shape = {"type": row["type"], "label": row["label"], "bbox": row["bbox"]}
        answers[images[row["image_id"]]["location"]].append({**box("", 0), **shape})
    with begin(name, command="hide") as transaction:
        ids = pa.array([row["annotation_id"] for row in hidden])
        transaction.delete("annotations", "annotation_id", ids)
    return answers


def shapes(folder: Path, each: int = 7) -> Answers:
    """A dataset of shapes with labels on the test split only."""
    import_folders(draw_folders(folder / "images", each, splits=("train", "test")))
    return take_away("shapes", "train")


def training(**changes: Any) -> Training:
    settings = {"task": "classify", "epochs": 3, "device": "cpu", "workers": 0}
    return Training(settings, **{"validation": "0", **changes})


def finished(name: str) -> Run:
    found = read_run(name)
    assert found is not None
    return found


def ids_of(split: str, name: str = "shapes") -> set[str]:
    return set(open_dataset(name).table("images", where=f"split = '{split}'")["image_id"].to_pylist())


def seen_by(layer: str, name: str = "shapes") -> set[str]:
    found = seen_images(open_dataset(name), layer)
    assert found is not None
    return set(found["id"].to_pylist())


def test_each_round_trains_asks_and_measures_its_model(tmp_path: Path) -> None:
    server = Memory()
    answers = shapes(tmp_path)
    plan = Plan("shapes", "memory://host", budget=5, rounds=3, strategy="entropy", train=training(), wait=Wait(poll=0))
    said: list[str] = []
    steps = RealSteps("curate loop run", lambda address: server, People(server, answers), loop="toy", say=said.append)
    state = run(plan, tmp_path / "state.json", steps, tell=lambda entry: None)
    assert state.ended == "all 3 rounds are done"
    rows = rounds(state)
    assert [row["run"] for row in rows] == ["shapes-toy-1", "shapes-toy-2", "shapes-toy-3"]

    # Each learns from what was labelled by then, and nothing of the test split.
    assert [finished(row["run"]).images["train"] for row in rows] == [5, 10, 15]
    commits = [finished(row["run"]).plan.commit for row in rows]
    assert commits == [state.of("train", number)["commit"] for number in (1, 2, 3)]
    assert commits == sorted(set(commits))
    selected = {task.location for task in server.tasks.values()}
    assert not any(location.startswith("test") for location in selected)

    # The last measure is that of the command that a person would give.
    arguments = ["--layer", "shapes-toy-3", "--against", "shapes-toy-2", "--where", "split = 'test'", "--no-findings"]
    result = CliRunner().invoke(app, ["evaluate", "-d", "shapes", *arguments, "--json"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    compared = next(line for line in lines if line.get("name") == "balanced_accuracy" and line.get("of") == "all")
    assert (rows[2]["metric"], rows[2]["gain"]) == (compared["value"], compared["difference"])
    assert (rows[2]["low"], rows[2]["high"], rows[2]["verdict"]) == (
        compared["low"], compared["high"], compared["verdict"],
    )  # fmt: skip
    assert rows[0]["gain"] is None
    assert rows[1]["low"] <= rows[1]["gain"] <= rows[1]["high"]
    assert state.of("evaluate", 2)["against"] == "run:shapes-toy-1"
    assert {row["layer"] for row in stored_evaluations(open_dataset("shapes"))} == {
        f"predictions/shapes-toy-{number}" for number in (1, 2, 3)
    }

    # The second looked at what could be selected in round 3; of the first only what it is measured on is left.
    test = ids_of("test")
    assert seen_by("predictions/shapes-toy-1") == test
    assert seen_by("predictions/shapes-toy-2") > test
    assert len(seen_by("predictions/shapes-toy-2") - test) == 21 - 10
    assert open_dataset("shapes").count("annotations", where=in_layer("predictions/shapes-toy-1")) == len(test)


def test_the_last_model_says_what_to_select(tmp_path: Path) -> None:
    server = Memory()
    answers = shapes(tmp_path)
    plan = Plan("shapes", "memory://host", budget=5, rounds=3, strategy="margin", train=training(), wait=Wait(poll=0))
    said: list[str] = []
    steps = RealSteps("test", lambda address: server, People(server, answers), loop="toy")
    path = tmp_path / "state.json"
    run(plan, path, steps, tell=lambda entry: None, most=8)
    why = open_dataset("shapes").table("selection")["why"].to_pylist()
    assert all(line.startswith("predictions/shapes-toy-1 wavers") for line in why)
    # Where somebody removed the run the loop goes on, and compares nothing.
    shutil.rmtree(run_path("shapes-toy-1"))
    assert steps.select(plan, read_state(path))["images"] == 5
    run(plan, path, steps, tell=lambda entry: None, most=3)
    state = run(plan, path, replace(steps, say=said.append), tell=lambda entry: None, most=1)
    assert state.of("evaluate", 2).keys() >= {"metric", "by"}
    assert state.of("evaluate", 2).keys().isdisjoint({"gain", "against"})
    assert said == ["there is no model of round 1 to compare with"]


@pytest.mark.slow
def test_two_models_disagree(tmp_path: Path) -> None:
    server = Memory()
    answers = shapes(tmp_path)
    plan = Plan(
        "shapes", "memory://host", budget=5, rounds=3, strategy="disagreement", train=training(), wait=Wait(poll=0)
    )
    steps = RealSteps("test", lambda address: server, People(server, answers), loop="toy")
    run(plan, tmp_path / "state.json", steps, tell=lambda entry: None, most=14)
    why = open_dataset("shapes").table("selection")["why"].to_pylist()
    assert all("predictions/shapes-toy-1" in line and "predictions/shapes-toy-2" in line for line in why)


def test_a_loop_ends_when_all_is_labelled(tmp_path: Path) -> None:
    server = Memory()
    answers = shapes(tmp_path, 4)
    plan = Plan("shapes", "memory://host", budget=12, rounds=3, train=training(), wait=Wait(poll=0))
    steps = RealSteps("test", lambda address: server, People(server, answers), loop="toy")
    state = run(plan, tmp_path / "state.json", steps, tell=lambda entry: None)
    assert state.ended == "there is nothing left to label"
    assert [row["selected"] for row in rounds(state)] == [12, 0]


def test_what_cannot_be_is_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes(tmp_path)
    steps = RealSteps("test", lambda address: Memory(), loop="toy")
    commit = open_dataset("shapes").commit.number

    def refused(train: Training, error: type[Exception] = UsageError, **changes: Any) -> str:
        plan = Plan("shapes", **{"remote": "memory://host", "rounds": 3, "train": train, **changes})
        with pytest.raises(error) as caught:
            run(plan, tmp_path / "state.json", steps, tell=lambda entry: None)
        assert not (tmp_path / "state.json").exists()
        assert open_dataset("shapes").commit.number == commit
        return str(caught.value)

    assert "where do people label" in refused(training(), remote="")
    assert "no image is in the split 'val'" in refused(training(held_out="val"))
    assert "there is nothing to measure the metric on" in refused(training(held_out="train"))
    assert "no images to learn from" in refused(training(where="width > 9999"))
    assert "no network named" in refused(Training({**training().settings, "model": "no_such_network"}))
    assert "no option 'depth'" in refused(Training({**training().settings, "options": {"depth": 3}}))
    assert "nothing to learn for 'detect'" in refused(Training({"task": "detect", "device": "cpu"}))
    assert "has no 'cuda:99'" in refused(Training({**training().settings, "device": "cuda:99"}))
    run_path("shapes-toy-2").mkdir(parents=True)
    assert "there is a run named 'shapes-toy-2' already" in refused(training())
    run_path("shapes-toy-2").rmdir()
    monkeypatch.setattr("curate.models.training.defaults.importlib.util.find_spec", lambda name: None)
    assert "curate-vision[train]" in refused(training(), MissingExtra)


def test_a_command_may_measure_the_model_that_curate_trained(tmp_path: Path) -> None:
    shapes(tmp_path)
    plan = Plan("shapes", "memory://host", train=training(held_out="nowhere"), evaluate="exit 1")
    RealSteps("test", loop="toy").require(plan, State())  # nothing needs to be held out
    state = State(log=[{"round": 1, "step": "train", "run": "shapes-toy-1"}])
    program = f'"{sys.executable}" -c "import json; print(json.dumps(dict(accuracy=len(\'{{run}}\'))))"'
    plan = Plan("shapes", train=training(), evaluate=program)
    assert RealSteps("test").evaluate(plan, state)["metric"] == len("shapes-toy-1")


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_a_model_that_finds_nothing_is_measured_and_everything_can_be_selected(tmp_path: Path, task: str) -> None:
    make_parts(tmp_path / "parts", images=12, seed=1, faults=NONE)
    images = ReadOptions(images=tmp_path / "parts" / "images")
    import_source("parts", tmp_path / "parts" / "annotations", command="test", options=images)
    rows = open_dataset("parts").table("images").to_pylist()
    names = [info["name"] for info in open_dataset("parts").commit.classes]

    def nothing(size: tuple[int, int]) -> Objects | ClassMap:
        if task == "segment":
            return ClassMap(np.full(size, -1, np.int16), np.zeros(size, np.float32))
        return Objects(size, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))

    def write(transaction: Transaction) -> None:
        found = [nothing((row["height"], row["width"])) for row in rows]
        write_predictions(transaction, "predictions/none", [row["image_id"] for row in rows], found, names, model="m")

    with begin("parts", command="test") as transaction:
        write(transaction)
    result = CliRunner().invoke(app, ["evaluate", "-d", "parts", "--layer", "none", "--task", task, "--json"])
    assert result.exit_code == 0, result.stderr
    metric = METRICS[task][0]  # type: ignore[index]
    assert json.loads(result.stdout.splitlines()[0])["metrics"][metric] == 0
    select = ["select", "-d", "parts", "--budget", "3", "--strategy", "uncertainty", "--layer", "none"]
    result = CliRunner().invoke(app, [*select, "--where", "width > 0", "--json"])
    assert [json.loads(line)["why"] for line in result.stdout.splitlines()] == ["predictions/none finds nothing"] * 3


def _killed_in_training(file: Path, checkpoint: Path) -> None:
    """Go on with a loop, and kill it without warning when its training has something to go on from."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM, "loop", "run", str(file), "--steps", "1"]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        waited = time.monotonic()
        while not checkpoint.exists() and running.poll() is None and time.monotonic() - waited < 120:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == -signal.SIGKILL, errors


@pytest.mark.slow
def test_a_detector_is_trained_whatever_kills_the_loop(tmp_path: Path) -> None:
    make_parts(tmp_path / "parts", images=60, seed=1, faults=NONE)
    images = ReadOptions(images=tmp_path / "parts" / "images")
    import_source("parts", tmp_path / "parts" / "annotations", command="test", options=images)
    answers = take_away("parts", "train")
    file = tmp_path / "loop.yaml"
    file.write_text(
        "dataset: parts\nremote: memory://host\nbudget: 8\nrounds: 2\nstrategy: uncertainty\n"
        "train: {task: detect, epochs: 4, image-size: 64, batch_size: 4, device: cpu, workers: 0, lr: 1e-3}\n"
    )
    from curate.loop.plan import read_plan

    plan, path = read_plan(file), state_path(read_plan(file), file)
    server = Memory()
    steps = RealSteps("curate loop run", lambda address: server, People(server, answers))
    run(plan, path, steps, tell=lambda entry: None, most=4)

    folder = run_path("parts-loop-1")
    _killed_in_training(file, folder / "checkpoint" / "checkpoint.safetensors")
    begun = (folder / "plan.json").stat().st_mtime_ns
    assert read_state(path).step == "train"
    assert read_run("parts-loop-1") is None
    trained = CliRunner().invoke(app, ["loop", "run", str(file), "--steps", "1"])
    assert trained.exit_code == 0, trained.stderr
    assert (folder / "plan.json").stat().st_mtime_ns == begun  # the run went on, and was not begun anew
    epochs = [json.loads(line)["epoch"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]

    # Killed in the middle of predicting and measuring, it comes to the same number.
    shutil.copytree(home(), tmp_path / "home")
    total = calls(child("loop", "run", str(file), "--steps", "1"))
    expected = read_state(path).of("evaluate", 1)
    shutil.rmtree(home())
    shutil.copytree(tmp_path / "home", home())
    for share in (0.4, 0.9):
        assert child("loop", "run", str(file), "--steps", "1", kill_at=int(share * total)).returncode == -9
        assert read_state(path).step == "evaluate"
    assert CliRunner().invoke(app, ["loop", "run", str(file), "--steps", "1"]).exit_code == 0
    measured = read_state(path).of("evaluate", 1)
    assert (measured["metric"], measured["images"]) == (expected["metric"], expected["images"])

    state = run(plan, path, steps, tell=lambda entry: None)
    assert state.ended == "all 2 rounds are done"
    table = CliRunner().invoke(app, ["loop", "status", str(file)]).stdout
    assert "95% interval" in table
    assert "parts-loop-2" in table
    last = json.loads(CliRunner().invoke(app, ["loop", "status", str(file), "--json"]).stdout.splitlines()[1])
    assert last["low"] <= last["high"]
    assert last["gain"] == pytest.approx(state.of("evaluate", 2)["metric"] - expected["metric"])
