"""Compress to fit: each step makes the file smaller, and what is kept holds the budget when this test measures it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.demo import load_crops
from curate.demo.crops import Crop
from curate.imaging import load_pixels
from curate.models.predictors.base import Classes
from curate.models.predictors.registry import load_predictor


@pytest.mark.slow
def test_compress_to_fit(run_example: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    result = run_example("compress_to_fit")
    work, budget = tmp_path / "compress_to_fit", result["budget"]
    candidates = {row["name"]: row for row in result["candidates"]}
    original, chosen = candidates["original"], candidates[result["chosen"]]
    assert {row["method"].partition("+")[0] for row in candidates.values()} == {
        "original",
        "quantised",
        "distilled",
        "pruned",
    }
    assert original["accuracy"] > 0.65
    assert result["teacher"]["top1"] > original["accuracy"] + 0.05
    assert all(row["latency_ms"] > 0 for row in candidates.values())
    assert [row["name"] for row in candidates.values() if row["name"] != "original" and not row["refused"]]

    # Each step makes it smaller; the original and what is only quantised are too large for the device.
    sizes = [original["size"], *(candidates[f"pruned {share}"]["size"] for share in ("30%", "50%")), chosen["size"]]
    assert sizes == sorted(sizes, reverse=True)
    assert chosen["method"] == "pruned+quantised"
    assert chosen["size"] < 0.2 * original["size"]
    assert min(row["size"] for row in candidates.values() if row["method"] == "quantised") > budget["size"]

    # What is kept, measured here: its file, and what it says of pictures that chose nothing.
    file = work / result["file"]
    assert file.stat().st_size == chosen["size"] <= budget["size"]
    assert chosen["drop"] <= budget["drop"]
    unseen = [crop for crop in load_crops(work / "parts").crops if crop.batch == "test"]
    after = right(file, work, unseen)
    before = right(file.parents[1] / "small" / "model.onnx", work, unseen)
    assert after == pytest.approx(result["confirmed"]["after"], abs=0.01)
    assert before - after == pytest.approx(result["confirmed"]["drop"], abs=0.01)
    assert before - after < 0.12


def right(model: Path, work: Path, crops: list[Crop]) -> float:
    """Share of pictures that a model is right about."""
    predictor = load_predictor(f"onnx:{model}")
    answers = []
    for crop in crops:
        (said,) = predictor.predict([predictor.prepare(load_pixels(work / "parts" / "images" / crop.file))])
        assert isinstance(said, Classes)
        answers.append(predictor.classes[int(said.probabilities.argmax())] == crop.label)
    return sum(answers) / len(answers)
