"""`curate embed` as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from tests.models import colour_encoder
from tests.models.colour_encoder import COLOURS, paint


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    colour_encoder.register(monkeypatch)
    paint(tmp_path / "toys" / "red.png", COLOURS["red"])
    assert CliRunner().invoke(app, ["import", str(tmp_path / "toys"), "-d", "toys"]).exit_code == 0
    return "toys"


def test_a_layer_that_is_not_there_is_refused(toys: str) -> None:
    before = open_dataset(toys).commit.number
    command = ["embed", "-d", toys, "--encoder", "colours", "--crops"]
    result = CliRunner().invoke(app, [*command, "--layer", "predictions/zz"])
    assert result.exit_code == 2
    assert "there is no layer 'predictions/zz'" in result.stderr
    assert open_dataset(toys).commit.number == before
    result = CliRunner().invoke(app, command)  # the labels may be none yet
    assert result.exit_code == 0, result.stderr
    assert "crops: 0 embedded" in result.stderr


@pytest.mark.parametrize("command", ["embed", "search", "tag", "duplicates"])
def test_the_help_names_both_views_of_builtin(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert "builtin:style" in result.stdout
