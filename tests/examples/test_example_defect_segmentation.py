"""Defect segmentation: wrong masks are found and mended, defects are found, and small regions are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_defect_segmentation(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("defect_segmentation")
    masks = result["masks"]
    assert masks["wrong"] >= 8
    assert masks["found"] >= 0.4 * masks["wrong"]
    assert masks["found"] >= 0.4 * masks["looked_at"]
    assert set(result["iou"]["after"]) == {"scratch", "dent"}
    assert min(result["iou"]["after"].values()) > 0.15
    every, large = result["line"]["all regions"], result["line"]["at least 0.06 mm2"]
    assert large["false"] <= every["false"]
    assert large["missed"] <= 0.2 * large["defects"]
    assert large["right_unasked"] > 0.8
