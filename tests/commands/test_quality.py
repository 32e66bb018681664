"""`curate quality` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Thirty pictures, one of them almost black."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures" / "things"
    folder.mkdir(parents=True)
    for number in range(30):
        pixels = np.kron(rng.integers(30, 230, (8, 8, 3)), np.ones((12, 12, 1)))
        dark = pixels * 0.05 if number == 7 else pixels
        Image.fromarray(dark.astype(np.uint8)).save(folder / f"{number:02d}.png")
    run("import", tmp_path / "pictures", "-d", "pictures")
    return "pictures"


def run(*arguments: str | Path, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result.stdout


def test_findings_as_json(dataset: str) -> None:
    rows = [json.loads(line) for line in run("quality", "-d", dataset, "--json").splitlines()]
    (dark,) = [row for row in rows if row["kind"] == "dark" and row["score"] >= 0.5]
    assert dark["image"].endswith("07.png")
    assert dark["check"] == "quality"
    assert dark["evidence"]["luminance_p95"] < 0.1


def test_a_gate_fails_with_status_1(dataset: str) -> None:
    run("quality", "-d", dataset, "--no-objects", "--fail-on", "dark", status=1)
    run("quality", "-d", dataset, "--no-objects", "--fail-on", "corrupt")


def test_the_table_says_why(dataset: str) -> None:
    out = run("quality", "-d", dataset)
    assert "30 images" in out
    assert "even its lightest parts are dark" in out
