"""`curate outliers` as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.typed import curate, lines


@pytest.fixture
def waves(tmp_path: Path) -> str:
    """Soft green waves, and one red checkerboard."""
    y, x = np.mgrid[:48, :48]
    (tmp_path / "set" / "waves").mkdir(parents=True)
    for number in range(70):
        rng = np.random.default_rng(number)
        wave = 120 + 50 * np.sin(x / rng.uniform(2, 7) + y / rng.uniform(6, 30) + rng.uniform(0, 6))
        pixels = np.stack([wave * 0.6, wave, wave * 0.7], axis=-1)
        if number == 41:
            pixels = np.where(((x // 6 + y // 6) % 2)[..., None] == 0, [250, 20, 30], [20, 20, 240])
        noisy = (pixels + rng.normal(0, 6, (48, 48, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / "set" / "waves" / f"{number:02d}.png")
    curate("import", tmp_path / "set", "-d", "waves")
    return "waves"


def test_the_one_that_does_not_belong(waves: str) -> None:
    arguments = ("outliers", "-d", waves, "--encoder", "builtin", "--no-objects")
    found = lines(curate(*arguments, "--json"))
    assert found[0]["image"] == "waves/41.png"
    assert found[0]["kind"] == "outlier"
    assert [row["image"] for row in found if row["score"] >= 0.5] == ["waves/41.png"]
    assert "failed: 1 outlier" in curate(*arguments, "--fail-on", "outlier", status=1).stderr
    curate("reject", found[0]["id"], "-d", waves)
    curate(*arguments, "--fail-on", "outlier")


def test_a_layer_that_is_not_there(waves: str) -> None:
    assert "there is no layer 'other'" in curate("outliers", "-d", waves, "--layer", "other", status=2).stderr
