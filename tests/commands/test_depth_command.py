"""curate depth, and what its tags choose in other commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import begin
from tests.checks.depth.depth_scenes import NAME, depth_network, make_scenes, things


def curate(*arguments: str, status: int = 0) -> Any:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


@pytest.fixture
def network(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    make_scenes(tmp_path / "pictures", [things(rng, 4) for _ in range(20)])
    return f"onnx:{depth_network(tmp_path / 'depth.onnx')}"


def test_from_a_model_to_slices(network: str) -> None:
    result = curate("predict", "-d", NAME, "--model", network)
    assert "20 depth maps made with onnx:depth.onnx" in result.stdout
    said = json.loads(curate("predict", "-d", NAME, "--model", network, "--json").stdout)
    assert (said["predicted"], said["reused"], said["table"][:6]) == (0, 20, "depth/")
    assert f"{said['table']}" in curate("info", NAME, "--json").stdout
    told = curate("depth", "-d", NAME, "--tag")
    assert "80 objects on 20 depth maps" in told.stdout
    assert "Depth by class" in told.stdout
    assert "images tagged: depth:near" in told.stderr
    lines = [json.loads(line) for line in curate("depth", "-d", NAME, "--objects", "--json").stdout.splitlines()]
    objects = [line for line in lines if line.get("table") == "Objects"]
    assert len(objects) == 80
    assert {line["third"] for line in objects} == {"near", "middle", "far"}
    with begin(NAME, command="predictions that are right") as transaction:
        rows = transaction.read("annotations").to_pylist()
        for number, row in enumerate(rows):
            row |= {"annotation_id": f"{number:016x}", "layer": "predictions/good", "score": 0.9}
        table = transaction.read("annotations")
        transaction.append("annotations", [type(table).from_pylist(rows, table.schema)])
    lines = curate("evaluate", "-d", NAME, "--slices", "tag:depth:far,tag:depth:near", "--json").stdout.splitlines()
    assert {json.loads(line).get("slice") for line in lines} >= {"tag:depth:far", "tag:depth:near"}
    far = curate("depth", "-d", NAME, "--where", "array_has(tags, 'depth:far')", "--objects", "--json").stdout
    assert 0 < len([line for line in far.splitlines() if '"Objects"' in line]) < 80


def test_without_maps(network: str) -> None:
    assert "no depth maps; 'curate predict" in curate("depth", "-d", NAME).stdout
    result = curate("depth", "-d", NAME, "--tag", status=2)
    assert "there are no depth maps" in result.stderr
    assert "curate predict --model onnx:DEPTH.onnx" in result.stderr
    assert curate("depth", "-d", NAME, "--json").stdout == ""
