"""`curate search` and `curate tag` with a CLIP model, against what open_clip computes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.models.zero_shot import TEMPLATES
from tests.models.test_clip import TALKING, new_model, save

NAMES = ["a.png", "b.png", "c.png", "d.png", "e.png"]


def lines(*arguments: str | Path) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_scores_and_probabilities_are_open_clip_s_own(tmp_path: Path) -> None:
    model = new_model(TALKING, tmp_path, "search-clip").eval()
    import open_clip
    import torch

    encoder = f"clip:search-clip/{save(model, tmp_path / 'weights.safetensors')}"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    (tmp_path / "images").mkdir()
    for name, image in zip(NAMES, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / "images" / name)
    lines("import", tmp_path / "images", "-d", "toys", "--json")

    mean, std = np.array(open_clip.OPENAI_DATASET_MEAN), np.array(open_clip.OPENAI_DATASET_STD)
    normalised = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    tokens = open_clip.get_tokenizer("search-clip")
    groups = [["a scratched bolt"], *([template.format(name) for template in TEMPLATES] for name in ("night", "day"))]
    with torch.inference_mode():
        images = model.encode_image(normalised, normalize=True).numpy()
        texts = [model.encode_text(tokens(group), normalize=True).numpy().mean(axis=0) for group in groups]
        scale = float(model.logit_scale.exp())
    bolt, night, day = (images @ (text / np.linalg.norm(text)) for text in texts)

    found = lines("search", "a scratched bolt", "-d", "toys", "--encoder", encoder, "--json")
    np.testing.assert_allclose([row["score"] for row in found], np.sort(bolt)[::-1], atol=2e-3)
    assert {row["image"]: row["score"] for row in found} == pytest.approx(
        dict(zip(NAMES, bolt.tolist(), strict=True)), abs=2e-3
    )
    told = lines("tag", "--prompts", "night, day", "-d", "toys", "--encoder", encoder, "--threshold", "0", "--json")
    of_night = 1 / (1 + np.exp(scale * (day - night)))
    for row, probability in zip(told[:5], of_night.tolist(), strict=True):
        assert row["tag"] == ("night" if probability >= 0.5 else "day")
        assert row["probability"] == pytest.approx(max(probability, 1 - probability), abs=0.02)
