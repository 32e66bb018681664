"""ViT on video: repeated frames are weeded out, fewer are looked at, and the answer is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
def test_vit_video(run_example: Callable[[str], dict[str, Any]]) -> None:
    result = run_example("vit_video")
    frames, weeded = result["film"]["frames"], result["weeded"]
    assert weeded["sampled"] == frames / 2
    assert weeded["repeats"] >= 30
    assert weeded["right"] >= 0.8 * weeded["repeats"]
    assert weeded["right"] >= 0.8 * weeded["found"]

    one, four, sixteen, sampled, kept = result["ways"]
    assert one["frames"] == four["frames"] == sixteen["frames"] == frames
    assert sampled["frames"] == weeded["sampled"]
    assert kept["frames"] == weeded["sampled"] - weeded["found"] < 0.85 * sampled["frames"]
    for way in result["ways"]:
        assert list(way["ms"]) == ["decode", "pre-process", "inference", "post-process"]
        assert way["fps"] == pytest.approx(1000 / sum(way["ms"].values()), rel=0.01)

    # Batches, sampling and weeding change how much is looked at, and not what is seen.
    assert one["right"] == pytest.approx(sixteen["right"], abs=0.01)
    assert sixteen["right"] > 0.85
    assert result["right"]["weeded"] > 0.85
    assert result["same"]["weeded"] > 0.95
    assert result["same"]["curate run"] > 0.99
    truth, *answers = result["lit"].values()
    assert all(abs(seconds - truth[lamp]) < 2.0 for answer in answers for lamp, seconds in answer.items())
