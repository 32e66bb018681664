"""The screw counter: the count is the true one or nearly, with curate and with onnxruntime alone, and each stage is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_screw_counter(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("screw_counter")
    assert result["ap50"] > 0.7
    for counted in result["counts"].values():
        assert counted["true"] >= 7
        assert counted["missed"] <= 1
        assert counted["extra"] <= 1
        assert counted["off"] <= 5
    assert result["way"]["in"] == 0
    alone = result["alone"]
    assert alone["packages"] == ["PIL", "numpy", "onnxruntime"]
    assert alone["frames"] == 200
    assert list(alone["ms"]) == ["decode", "pre-process", "inference", "post-process"]
    assert alone["ms"]["inference"] == max(alone["ms"].values())
    assert alone["fps"] == pytest.approx(1000 / sum(alone["ms"].values()), rel=0.01)
