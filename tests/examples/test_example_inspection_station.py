"""Inspection station: serial numbers are read, decisions are mostly right, and a new lamp is noticed where it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_inspection_station(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("inspection_station")
    usual, later = result["lots"]
    assert min(usual["read"], later["read"]) >= 0.9  # the lamp of the label's camera stays as it is
    assert usual["right"] >= 0.6
    assert later["right"] < usual["right"]
    quiet, noticed = result["alarms"]
    assert quiet is None
    assert noticed is not None
    assert noticed <= 25
    assert result["round"]["hard_frames"] > 0
    assert 0 < result["ms"]["overlapped"]["p50"] <= result["ms"]["overlapped"]["p95"]
