"""Model versions in production: the one that was taught wrong labels is taken back, the one that knows the new light stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_model_versions(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("model_versions")
    assert [(event["version"], event["what"]) for event in result["events"]] == [
        ("1.1.0", "rolled back"),
        ("1.2.0", "promoted"),
    ]
    assert result["live"] == "1.2.0"
    rows = {(row["hour"], row["version"]): row for row in result["hours"]}
    assert rows[2, "1.1.0"]["right"] < rows[2, "1.0.0"]["right"] - 0.1
    assert rows[6, "1.2.0"]["right"] > rows[4, "1.0.0"]["right"]
    assert rows[4, "1.0.0"]["drift"] > rows[1, "1.0.0"]["drift"] + 0.05
