from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app


@pytest.fixture
def dataset(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        pixels = np.kron(rng.integers(0, 255, (12, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    assert CliRunner().invoke(app, ["import", str(folder), "--dataset", "set"]).exit_code == 0


@pytest.mark.usefixtures("dataset")
def test_copies_are_printed_as_json_with_their_groups() -> None:
    result = CliRunner().invoke(app, ["duplicates", "--dataset", "set", "--encoder", "builtin", "--json"])
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    (finding,) = [row for row in rows if row["kind"] == "exact_duplicate"]
    assert {finding["image"], finding["related"][0]["image"]} == {"a.png", "copy.png"}
    (group,) = [row for row in rows if row["kind"] == "table"]
    assert group["keeper"] == finding["related"][0]["image"]


@pytest.mark.usefixtures("dataset")
def test_the_gate_fails_on_copies() -> None:
    arguments = ["duplicates", "--dataset", "set", "--encoder", "builtin", "--fail-on"]
    assert CliRunner().invoke(app, [*arguments, "exact_duplicate"]).exit_code == 1
    assert CliRunner().invoke(app, [*arguments, "near_duplicate"]).exit_code == 0
