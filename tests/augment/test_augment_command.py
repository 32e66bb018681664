"""curate augment, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from curate.recipes import read_recipe
from tests.augment.discs import make_discs


@pytest.fixture
def discs(tmp_path: Path) -> str:
    make_discs(tmp_path / "images")
    return "discs"


def curate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["augment", "-d", "discs", *arguments])


def test_json_is_one_line_of_what_was_made(discs: str) -> None:
    result = curate("--recipe", "jpeg_stream", "--count", "3", "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    said = json.loads(line)
    assert (said["recipe"], said["added"], said["commit"], said["output"]) == ("jpeg_stream", 3, 2, None)
    assert said["check"]["images"] == 3
    assert curate("--recipe", "jpeg_stream", "--count", "3").stdout.startswith("nothing new: 3 images")


def test_a_preview_is_a_sheet_and_makes_nothing(discs: str, tmp_path: Path) -> None:
    result = curate("--transplant", "scratch", "--copy-paste", "bar", "--preview", str(tmp_path / "sheet.png"))
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2 * 200
    assert open_dataset("discs").commit.number == 1
    refused = curate("--recipe", "night", "--preview", str(tmp_path / "sheet.gif"))
    assert refused.exit_code == 2
    assert "cannot be written as .gif" in refused.stderr


def test_a_named_recipe_is_written_for_albumentations(discs: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    result = curate("--recipe", "night", "--count", "1", "--save-recipe", str(path))
    assert result.exit_code == 0, result.output
    assert read_recipe(path).name == "night"
    assert "needs curate installed" in result.stderr


def test_a_plain_recipe_is_read_without_curate(discs: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    result = curate("--recipe", "night", "--count", "1", "--save-recipe", str(path), "--plain")
    assert result.exit_code == 0, result.output
    assert "curate." not in path.read_text()
    assert "lost in it: Exposure became RandomBrightnessContrast" in result.stderr
    assert "needs curate" not in result.stderr
    refused = curate("--recipe", "night", "--plain")
    assert refused.exit_code == 2
    assert "add --save-recipe" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "class:disc", "--where", "split = 'train'"), "--target and --where all say"),
        (("--recipe", "night", "--prove", "--output", "there"), "cannot be proved"),
        (("--recipe", "night", "--prove", "--fit-only"), "nothing is made"),
        (("--recipe", "night", "--set", "epochs=3"), "nothing is trained"),
        (("--copy-paste", "disc", "--fit-only"), "there is no recipe"),
        (("--reference", "split = 'train'", "--recipe", "night"), "like what"),
        (("--recipe", "missing.yaml"), "recipe"),
        (("--recipe", "night", "--prove"), "there is none"),
        (("--target", "class:disc", "--recipe", "night", "--prove", "--set", "minutes=3"), "minutes"),
        (("--target", "slic:dark"), "no target of the kind 'slic'"),
        (("--incoming", "split = 'nothing'"), "--incoming \"split = 'nothing'\""),
        ((), "nothing says"),
    ],
)
def test_wrong_use_is_told_in_one_error(discs: str, arguments: tuple[str, ...], said: str) -> None:
    result = curate(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert open_dataset("discs").commit.number == 1


def test_much_is_asked_about_before_it_is_made(discs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.commands.augment._MUCH", 1)
    result = curate("--recipe", "night", "--count", "2")
    assert result.exit_code == 2
    assert "Make 2 images" in result.stderr
    assert open_dataset("discs").commit.number == 1
    assert curate("--recipe", "night", "--count", "2", "--yes").exit_code == 0


def test_fog_without_depth_and_named_recipes_with_a_target_are_explained(discs: str, tmp_path: Path) -> None:
    sheet = str(tmp_path / "sheet.png")
    fog = curate("--recipe", "rain", "--count", "2", "--preview", sheet)
    assert "is not known of 12 of 12 parents" in fog.stderr.replace("\n", " ")
    plain = curate("--recipe", "night", "--count", "2", "--preview", sheet)
    assert "horizon" not in plain.stderr
    both = curate("--recipe", "night", "--where", "location = '000.png'", "--count", "2", "--preview", sheet)
    assert "the others are changed" in both.stderr.replace("\n", " ")
