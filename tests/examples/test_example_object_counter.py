"""The object counter: crossings both ways, numbers that outlast the post, and every frame of the camera accounted for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_object_counter(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("object_counter")
    for way in ("in", "out"):
        counted = result["counts"]["gate"][way]
        assert counted["true"] >= 5
        assert abs(counted["counted"] - counted["true"]) <= 2
    kept = result["identities"]
    assert kept["followed"] >= 12
    assert kept["hidden"] >= 8
    assert kept["kept"] >= 0.3 * kept["hidden"]
    assert kept["changes_in_sight"] <= 4
    frames = result["frames"]
    assert frames["offered"] == sum(frames[name] for name in ("skipped", "lost", "abandoned", "processed"))
    assert frames["offered"] >= 160
