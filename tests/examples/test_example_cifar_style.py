"""Four kinds of network under one budget: each learns, wrong labels cost, and the curves are TensorBoard's."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.commands.train import settings_of

pytest.importorskip("tensorboard")

NETWORKS = ["plain CNN", "ResNet", "SE-ResNet", "ViT"]


@pytest.mark.slow
def test_cifar_style(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("cifar_style")
    assert result["wrong"] == {"planted": 180, "of": 600}
    assert result["weeded"] is None
    judged = result["networks"]
    assert list(judged) == list(result["costs"]) == NETWORKS
    right = np.array([judged[name]["right"]["top1"] for name in NETWORKS])
    wrong = np.array([judged[name]["wrong"]["top1"] for name in NETWORKS])
    assert right.max() > 0.6  # of three classes, equally often
    assert right.mean() > 0.5
    assert right.mean() - wrong.mean() > 0.03
    for name in NETWORKS:
        cost = judged[name]["wrong"]
        assert cost["low"] <= cost["difference"] <= cost["high"]
        assert cost["difference"] == pytest.approx(cost["top1"] - judged[name]["right"]["top1"])
        assert cost["verdict"] == ("worse" if cost["high"] < 0 else "better" if cost["low"] > 0 else "cannot tell")
    # The budget is the same, and so is the size, nearly.
    assert result["steps"] == 120
    parameters = [result["costs"][name]["parameters"] for name in NETWORKS]
    assert max(parameters) < 1.4 * min(parameters)
    # What TensorBoard shows is what the run says of its best epoch; 480 images are 15 steps of 32.
    for training in result["trainings"]:
        labels = f"{training['labels']} labels"
        of = [row for row in result["curves"] if (row["network"], row["labels"]) == (training["network"], labels)]
        assert [row["epoch"] for row in of] == list(range(1, 9))
        assert min(abs(row["right"] - training["val"]["top1"]) for row in of) < 1e-6


def test_the_command_that_a_run_keeps_asks_for_the_same() -> None:
    from examples.cifar_style.run import RECIPE, command_of

    settings = {**RECIPE, "model": "small_vit", "steps": 120, "seed": 3}
    curate, train, *words = shlex.split(command_of("wrong", "small_vit-wrong", settings))
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert (curate, train) == ("curate", "train")
    assert (options["-d"], options["--name"]) == ("wrong", "small_vit-wrong")
    pairs = [value for key, value in zip(words[::2], words[1::2], strict=True) if key == "--set"]
    assert settings_of(pairs, task=options["--task"]) == settings
