"""Tiered screening: the cascade is nearly as often right as the heavy model, and costs far less of the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_tiered_screening(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("tiered_screening")
    light, cascade, heavy = result["models"]
    assert [row["model"] for row in result["models"]] == ["light", "cascade", "heavy"]
    assert heavy["right"] > light["right"] + 0.05
    assert cascade["right"] > light["right"] + 0.03
    assert cascade["right"] > heavy["right"] - 0.04
    assert 0.1 < cascade["seen by heavy"] < 0.8
    # What the cascade asked the heavy model for is what the light one was unsure of, when both saw everything.
    assert cascade["seen by heavy"] == pytest.approx(result["expected"]["seen by heavy"])
    assert light["ms"] < 0.3 * heavy["ms"]
    assert light["ms"] < cascade["ms"] < 0.9 * heavy["ms"]
    tuned = result["tuned"]
    assert tuned["helps"] is (tuned["lost"] <= tuned["max_loss"] and tuned["speed_up"] > 1)
    assert tuned["threshold"] == (tuned["tried"] if tuned["helps"] else None)
    assert tuned["lost"] < 0.05
