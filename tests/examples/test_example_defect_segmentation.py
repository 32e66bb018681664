"""Defect segmentation: wrong masks are found and mended, defects are found, and small regions are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from examples.defect_segmentation.label_studio import regions_for


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


def test_on_a_server_only_tasks_of_our_pictures_are_drawn_anew() -> None:
    scratch, dent = {"id": "a", "type": "brushlabels"}, {"id": "b", "type": "brushlabels"}
    right: dict[str, dict[str, Any]] = {
        "images/train/00007.jpg": {"annotations": [{"result": [scratch, dent]}]},
        "images/train/00008.jpg": {"annotations": []},
    }

    def shows(location: str) -> dict[str, Any]:
        return {"data": {"image": "/data/upload/1/x.jpg"}, "meta": made({"location": location})}

    def made(image: dict[str, Any]) -> dict[str, Any]:
        return {"curate": {"images": {"image": image}}}

    assert regions_for(shows("images/train/00007.jpg"), right) == [scratch, dent]
    assert regions_for(shows("images/train/00008.jpg"), right) == []  # without defects: nothing is to be drawn
    assert regions_for(shows("images/val/00007.jpg"), right) is None
    for meta in (None, {}, {"curate": None}, made({})):
        assert regions_for({"data": {"image": "http://host/images/train/00007.jpg"}, "meta": meta}, right) is None
