"""The lamp that was changed: the shift is found and measured, images made like it win some back, and a few labels more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_lamp_changed(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("lamp_changed")
    assert max(result["p_values"][view] for view in ("lighting", "color")) <= 0.01
    before, after = (float(value) for value in result["axes"]["brightness"])
    assert after < 0.6 * before
    white, changed = (float(value) for value in result["axes"]["red of white"])
    assert changed > white + 0.2
    new, reviewed = result["accuracy"]["new"], result["accuracy"]["reviewed"]
    assert new["exam"]["old"] < new["test"]["old"] - 0.08
    assert new["exam"]["gained"] > 0
    assert reviewed["exam"]["gained"] > 0.05
    assert reviewed["test"]["gained"] > -0.08
    assert result["landing"]["after"] < 0.8 * result["landing"]["before"]
    assert result["reviewed"] == {"labelled": 24, "of": 80}
    assert {row["strategy"] for row in result["rounds"]} == {"mix", "random"}
