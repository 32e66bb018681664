"""The drift detective: a changed mix of parts and a changed lamp are told apart, each day as it was planted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_drift_detective(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("drift_detective")
    assert result["planted"] == {
        "monday": [False, False],
        "tuesday": [True, False],
        "wednesday": [False, True],
        "thursday": [True, True],
    }
    assert result["told"] == result["planted"]
    accuracy = result["accuracy"]
    assert set(accuracy) > {"all", "test", "monday-1", "thursday-2"}
    assert accuracy["all"]["value"] > 0.7
    assert abs(accuracy["all"]["difference"]) < 0.06
    assert all(row["low"] <= row["difference"] <= row["high"] for row in accuracy.values())
    relit = accuracy["wednesday-2"]["value"] + accuracy["thursday-2"]["value"]
    assert relit < accuracy["wednesday-1"]["value"] + accuracy["thursday-1"]["value"]
    assert min(row["size"] for row in result["compressed"].values()) < result["compressed"]["original"]["size"]
