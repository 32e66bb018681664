"""`curate tag` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from tests.models import colour_encoder
from tests.models.colour_encoder import COLOURS, paint


def curate(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def tag(*arguments: str | Path, status: int = 0) -> Result:
    return curate("tag", "-d", "toys", "--encoder", "colours", *arguments, status=status)


def lines(result: Result, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return [row for row in rows if row["kind"] == kind]


def tags() -> dict[str, list[str] | None]:
    table = open_dataset("toys").table("images", columns=["location", "tags"])
    return dict(zip(table["location"].to_pylist(), table["tags"].to_pylist(), strict=True))


@pytest.fixture(autouse=True)
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images of a colour each, and one between two; returns their folder."""
    colour_encoder.register(monkeypatch)
    folder = tmp_path / "toys"
    for name in ("red", "green", "blue"):
        paint(folder / f"{name}.png", COLOURS[name])
    paint(folder / "dark_red.png", (120, 20, 20))
    paint(folder / "red_and_blue.png", COLOURS["red"], COLOURS["blue"])
    curate("import", folder, "-d", "toys")
    return folder


def test_the_best_of_the_prompts_is_put_on(toys: Path) -> None:
    result = tag("--prompts", "red, blue, green", "--threshold", "0.6", "--json")
    assert tags() == {
        "red.png": ["red"],
        "dark_red.png": ["red"],
        "blue.png": ["blue"],
        "green.png": ["green"],
        "red_and_blue.png": None,
    }
    rows = {row["image"]: row for row in lines(result, "image")}
    assert list(rows) == sorted(tags())
    assert rows["red_and_blue.png"]["tag"] is None
    assert rows["red_and_blue.png"]["probability"] == pytest.approx(0.5, abs=0.01)
    assert rows["red.png"] == {
        "kind": "image",
        "image": "red.png",
        "image_id": rows["red.png"]["image_id"],
        "tag": "red",
        "best": "red",
        "probability": pytest.approx(1 / (1 + 2 * np.exp(-20)), abs=1e-4),
    }
    assert lines(result, "table") == [
        {"kind": "table", "table": "tags", "tag": "red", "images": 2, "added": 2, "removed": 0},
        {"kind": "table", "table": "tags", "tag": "blue", "images": 1, "added": 1, "removed": 0},
        {"kind": "table", "table": "tags", "tag": "green", "images": 1, "added": 1, "removed": 0},
    ]
    assert "1 image: no tag is at least 0.6 probable" in result.stderr
    assert open_dataset("toys").count("images", where="array_has(tags, 'red')") == 2


def test_again_changes_nothing_and_undo_takes_it_back(toys: Path) -> None:
    tag("--prompts", "red, blue, green")
    number = open_dataset("toys").commit.number
    counts = {row["tag"]: row["added"] for row in lines(tag("--prompts", "red, blue, green", "--json"), "table")}
    assert counts == {"red": 0, "blue": 0, "green": 0}
    tag("--prompts", "red, blue, green", "--replace")
    assert open_dataset("toys").commit.number == number
    curate("undo", "-d", "toys")
    assert set(map(str, tags().values())) == {"None"}


def test_one_commit_for_vectors_and_tags(toys: Path) -> None:
    before = open_dataset("toys").commit.number
    tag("--prompts", "red, blue, green", "--threshold", "0.6")
    commit = open_dataset("toys").commit
    assert commit.number == before + 1
    assert commit.counts == {"images embedded": 5, "tags added": 4}


def test_several_groups_one_after_the_other(toys: Path) -> None:
    tag("--prompts", "red, green, blue", "--threshold", "0.6")
    tag("--prompts", "warm: red, warm: yellow, cold: blue", "--where", "location <> 'green.png'")
    found = tags()
    assert found["red.png"] == ["red", "warm"]
    assert found["blue.png"] == ["blue", "cold"]
    assert found["green.png"] == ["green"]


def test_replace_takes_away_what_holds_no_longer(toys: Path) -> None:
    curate("search", "-d", "toys", "--encoder", "colours", "red", "--tag", "mine")
    tag("--prompts", "red, blue, green")
    paint(toys / "red.png", COLOURS["blue"])
    result = tag("--prompts", "red, blue, green")
    assert tags()["red.png"] == ["mine", "red", "blue"]
    assert "1 tag from before that hold no longer" in result.stderr
    result = tag("--prompts", "red, blue, green", "--replace", "--json")
    assert tags()["red.png"] == ["mine", "blue"]
    assert [row["removed"] for row in lines(result, "table")] == [1, 0, 0]
    assert open_dataset("toys").commit.counts == {"tags removed": 1}


def test_what_is_too_doubtful_loses_its_tag_with_replace(toys: Path) -> None:
    tag("--prompts", "red, blue", "--threshold", "0.4")
    assert tags()["red_and_blue.png"] is not None
    tag("--prompts", "red, blue", "--threshold", "0.6", "--replace")
    assert tags()["red_and_blue.png"] is None
    assert tags()["red.png"] == ["red"]


def test_a_dry_run(toys: Path) -> None:
    result = tag("--prompts", "red, blue, green", "--dry-run")
    assert set(map(str, tags().values())) == {"None"}
    assert "a dry run: nothing was tagged" in result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["toys:", "5", "images", "looked", "at", "by", "colours"],
        [],
        ["tag", "images", "added", "removed"],
        ["red", "2", "2", "0"],
        ["blue", "1", "1", "0"],
        ["green", "1", "1", "0"],
    ]
    assert open_dataset("toys").commit.counts == {"images embedded": 5}


def test_a_file_of_prompts(toys: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text("warm: [a red toy, something yellow]\ncold: a blue toy\n")
    tag("--prompts", path, "--where", "location IN ('red.png', 'blue.png', 'green.png')")
    assert tags()["red.png"] == ["warm"]
    assert tags()["blue.png"] == ["cold"]
    assert tags()["dark_red.png"] is None


def test_where_chooses_the_images(toys: Path) -> None:
    result = tag("--prompts", "red, blue", "--where", "location = 'red.png'", "--json")
    assert [row["image"] for row in lines(result, "image")] == ["red.png"]
    assert {name for name, given in tags().items() if given} == {"red.png"}


def test_importing_again_keeps_tags(toys: Path) -> None:
    tag("--prompts", "red, blue")
    before = tags()
    curate("import", toys, "-d", "toys")
    assert tags() == before


def test_an_image_that_cannot_be_read(toys: Path) -> None:
    (toys / "red.png").write_bytes(b"no image")
    result = tag("--prompts", "red, blue", "--json")
    assert "red.png" not in {row["image"] for row in lines(result, "image")}
    assert "1 image cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", "red"), "at least two classes"),
        (("--prompts", "none.txt"), "there is no such file"),
        (("--prompts", "a\udcff, blue"), "is not UTF-8"),
        (("--prompts", "red, blue", "--threshold", "1.5"), "1.5 is no probability"),
        (("--prompts", "red, blue", "--threshold", "nan"), "nan is no probability"),
        (("--prompts", "red, blue", "--template", "a photo"), "no place for a name"),
        (("--prompts", "red, blue", "--where", "location = 'none'"), "there are no images"),
        (("--prompts", "red, blue", "--encoder", "builtin"), "knows images only, no texts"),
    ],
)
def test_wrong_use(toys: Path, arguments: tuple[str, ...], message: str) -> None:
    before = open_dataset("toys").commit.number
    chosen = () if "--encoder" in arguments else ("--encoder", "colours")
    result = curate("tag", "-d", "toys", *arguments, *chosen, status=2)
    assert message in result.stderr
    assert open_dataset("toys").commit.number == before
