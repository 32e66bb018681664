"""The loop's state machine: every step once, whatever interrupts it, and an end with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from curate.errors import InputError
from curate.loop.machine import STEPS, State, read_state, rounds, run
from curate.loop.plan import Plan, Stop, Wait, read_plan


class Script:
    """Steps that count how often they were done, and fail when told to."""

    def __init__(self, metrics: list[float], *, fail: str = "", images: int = 10) -> None:
        self.metrics = metrics
        self.fail = fail
        self.images = images
        self.done: list[tuple[int, str]] = []

    def _do(self, step: str, state: State) -> None:
        if self.fail == f"{state.round} {step}":
            self.fail = ""
            raise KeyboardInterrupt
        self.done.append((state.round, step))

    def require(self, plan: Plan, state: State) -> None:
        pass

    def find(self, plan: Plan, state: State) -> Mapping[str, Any]:
        self._do("find", state)
        return {}

    def select(self, plan: Plan, state: State) -> Mapping[str, Any]:
        self._do("select", state)
        return {"images": self.images}

    def push(self, plan: Plan, state: State) -> Mapping[str, Any]:
        self._do("push", state)
        return {"images": self.images}

    def wait(self, plan: Plan, state: State) -> Mapping[str, Any]:
        self._do("wait", state)
        return {"handed_in": self.images, "fixed": 1, "rejected": 2}

    def train(self, plan: Plan, state: State) -> Mapping[str, Any]:
        self._do("train", state)
        return {}

    def evaluate(self, plan: Plan, state: State) -> Mapping[str, Any]:
        self._do("evaluate", state)
        return {"metric": self.metrics[state.round - 1]}


def play(plan: Plan, path: Path, steps: Script, most: int | None = None) -> State:
    return run(plan, path, steps, tell=lambda entry: None, most=most)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("round_", [1, 2])
def test_a_loop_goes_on_where_it_was_interrupted(tmp_path: Path, step: str, round_: int) -> None:
    plan = Plan("parts", rounds=3)
    steps = Script([0.5, 0.6, 0.7], fail=f"{round_} {step}")
    with pytest.raises(KeyboardInterrupt):
        play(plan, tmp_path / "state.json", steps)
    state = play(plan, tmp_path / "state.json", steps)
    assert steps.done == [(number, each) for number in (1, 2, 3) for each in STEPS]
    assert state.ended == "all 3 rounds are done"
    assert [row["gain"] for row in rounds(state)] == [None, pytest.approx(0.1), pytest.approx(0.1)]
    assert [row["fixed"] for row in rounds(state)] == [1, 1, 1]


def test_a_loop_may_be_played_a_step_at_a_time(tmp_path: Path) -> None:
    plan, steps = Plan("parts", rounds=2), Script([0.5, 0.6])
    for number in range(1, 13):
        state = play(plan, tmp_path / "state.json", steps, most=1)
        assert len(steps.done) == number
    assert state.ended
    assert play(plan, tmp_path / "state.json", steps).log == state.log
    assert len(steps.done) == 12


@pytest.mark.parametrize(
    ("stop", "metrics", "played", "reason"),
    [
        (Stop(gain=0.01, patience=2), [0.5, 0.6, 0.605, 0.609, 0.9], 4, "has not risen by 0.01 in 2 rounds"),
        (Stop(gain=0.01, patience=1), [0.5, 0.52, 0.54, 0.56, 0.58], 5, "all 5 rounds"),
        (Stop(metric=0.55), [0.5, 0.6, 0.7, 0.8, 0.9], 2, "which was asked for"),
        (Stop(), [0.5, 0.4, 0.3, 0.2, 0.1], 5, "all 5 rounds"),
    ],
)
def test_a_loop_ends_for_a_reason(tmp_path: Path, stop: Stop, metrics: list[float], played: int, reason: str) -> None:
    state = play(Plan("parts", rounds=5, stop=stop), tmp_path / "state.json", Script(metrics))
    assert (len(rounds(state)), reason in state.ended) == (played, True), state.ended


def test_a_loop_ends_where_nothing_is_left_to_label(tmp_path: Path) -> None:
    steps = Script([0.5], images=0)
    assert play(Plan("parts", rounds=5), tmp_path / "s.json", steps).ended == "there is nothing left to label"
    assert steps.done == [(1, "find"), (1, "select")]


def test_a_state_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"rounds": 3}')
    with pytest.raises(InputError, match="not a loop's state"):
        read_state(tmp_path / "s.json")


def test_a_plan_is_read_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text(
        "dataset: parts\nremote: labelstudio://host\nbudget: 20\nchecks: [mistakes]\nwait: {handed-in: 0.9, poll: 5}\n"
        "stop:\n  patience: 2\n"
    )
    assert read_plan(tmp_path / "loop.yaml") == Plan(
        "parts", "labelstudio://host", 20, checks=("mistakes",), wait=Wait(0.9, 5.0), stop=Stop(patience=2)
    )


def test_what_is_to_be_trained_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(
        "dataset: parts\ntrain:\n  task: detect\n  lr: 1e-3\n  image-size: 320\n  where: tag = 'day'\n  val: 0.1\n"
        "  options: {flips: any}\n"
    )
    plan = read_plan(path)
    assert plan.trained is not None
    assert plan.trained.settings == {
        "task": "detect", "learning_rate": 0.001, "image_size": 320, "options": {"flips": "any"},
    }  # fmt: skip
    assert plan.trained.learnt == "(tag = 'day') AND (split IS NULL OR split <> 'test')"
    assert (plan.trained.validation, plan.trained.held_out, plan.measure) == ("0.1", "test", "AP")
    path.write_text("dataset: parts\ntrain: {task: segment, held_out: val}\nmetric: mDice\n")
    plan = read_plan(path)
    assert plan.trained is not None
    assert (plan.trained.measured, plan.measure) == ("split = 'val'", "mDice")
    path.write_text("dataset: parts\ntrain: {task: segment}\nevaluate: python e.py {run}\n")
    assert read_plan(path).measure == "accuracy"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dataset: a\ntrain: {epochs: 3}", "missing required field `task`"),
        ("dataset: a\ntrain: {task: sing}", "train: this cannot be understood"),
        ("dataset: a\ntrain: {task: detect, epoch: 3}", "train.epoch: there is no such key"),
        ("dataset: a\ntrain: {task: detect, empty: true}", "train.empty: there is no such key"),
        ("dataset: a\ntrain: {task: detect, epochs: many}", "$.epochs"),
        ("dataset: a\ntrain: {task: detect, where: [a]}", "train.where: ['a'] is of the wrong type"),
        ("dataset: a\ntrain: {task: detect, held_out: val, val: val}", "cannot choose the best epoch"),
        ("dataset: a\ntrain: {task: detect}\nmetric: top1", "'top1' cannot be the metric"),
        ("dataset: a\ntrain: [a]", "train: ['a'] is of the wrong type"),
        ("budget: 3", "which dataset"),
        ("dataset: a\nbugdet: 3", "bugdet: there is no such key"),
        ("dataset: a\nbudget: many", "budget: 'many' is of the wrong type"),
        ("dataset: a\nbudget: 0", "budget: out of range"),
        ("dataset: a\nwait: {handed_in: 2}", "wait.handed_in: out of range"),
        ("dataset: a\nwait: {hurry: 2}", "wait.hurry: there is no such key"),
        ("- a", "a mapping is needed"),
        ("a: [", "not YAML"),
    ],
)
def test_a_plan_that_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_plan(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_plan_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path / "none.yaml")
