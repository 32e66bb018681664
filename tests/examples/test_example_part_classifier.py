"""The part classifier: planted wrong labels and copies are found, and mended labels give a better model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_part_classifier(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("part_classifier")
    mislabeled, duplicates = result["mislabeled"], result["duplicates"]
    assert mislabeled["planted"] == 30
    assert mislabeled["right"] >= 0.5 * mislabeled["planted"]
    assert mislabeled["right"] >= 0.6 * mislabeled["flagged"]
    assert duplicates == {"planted": 6, "flagged": 6, "right": 6}
    accuracy = result["accuracy"]["frozen backbone"]
    assert accuracy["after"] > 0.65
    assert accuracy["low"] <= accuracy["gained"] <= accuracy["high"]
    assert accuracy["gained"] > 0
    assert accuracy["verdict"] in ("better", "cannot tell")
    assert result["new"]["label"] == result["new"]["really"] == "gear"
