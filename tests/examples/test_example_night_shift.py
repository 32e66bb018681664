"""The night shift: labels that a loop chooses by itself are worth more than as many drawn by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_night_shift(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("night_shift")
    curves = {name: {point["round"]: point for point in points} for name, points in result["curves"].items()}
    assert set(curves) == {"mix", "random"}
    assert all(len(points) == 5 for points in curves.values())
    assert result["nights"] == 4
    assert result["ahead"]["mix"]["nights"] >= 3
    assert result["ahead"]["mix"]["mean"] > 0.03
    assert curves["mix"][5]["images"] <= curves["random"][5]["images"] == 80
    assert curves["mix"][5]["accuracy"] > curves["mix"][1]["accuracy"] + 0.15
