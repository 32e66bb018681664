"""`curate select` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from curate.loop.selection import read_selection
from curate.loop.strategies.registry import STRATEGIES

KINDS = ("red", "green", "blue")


def curate(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result


def select(dataset: str, *arguments: str) -> list[dict[str, Any]]:
    result = curate("select", "-d", dataset, "--encoder", "builtin", "--json", *arguments)
    return [json.loads(line) for line in result.stdout.splitlines()]


def draw(path: Path, kind: int, seed: int) -> None:
    """Stripes in one of three colours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48]
    wave = 110 + 60 * np.sin(x / rng.uniform(2, 7) + y / rng.uniform(3, 30) + rng.uniform(0, 6))
    pixels = wave[..., None] * np.where(np.arange(3) == kind, 1.3, 0.4) + rng.normal(0, 6, (48, 48, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def fresh(tmp_path: Path) -> str:
    """Thirty images without labels: twenty red ones, seven green, three blue."""
    for number in range(30):
        draw(tmp_path / "new" / f"{number:02d}.png", (number >= 20) + (number >= 27), number)
    curate("import", tmp_path / "new", "-d", "stripes")
    return "stripes"


@pytest.fixture
def begun(fresh: str, tmp_path: Path) -> str:
    """The same, and six labelled ones, two of each colour."""
    for number in range(6):
        draw(tmp_path / "labelled" / KINDS[number % 3] / f"old{number}.png", number % 3, 100 + number)
    curate("import", tmp_path / "labelled", "-d", fresh)
    return fresh


def test_a_cold_start(fresh: str) -> None:
    found = select(fresh, "--budget", "3")
    assert [row["rank"] for row in found] == [0, 1, 2]
    assert all(row["why"].startswith("stands for about ") for row in found)
    assert sorted(int(row["image"][:2]) >= 20 for row in found) != [False] * 3
    scores = [row["score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] < scores[0] <= 1


def test_it_is_kept_for_the_push(fresh: str) -> None:
    before = open_dataset(fresh).commit.number
    found = select(fresh, "--budget", "4", "--strategy", "k-center")
    dataset = open_dataset(fresh)
    assert dataset.commit.number == before + 1 == found[0]["commit"]
    assert dataset.commit.counts["images selected"] == 4
    assert [each.image_id for each in read_selection(dataset)] == [row["image_id"] for row in found]
    again = select(fresh, "--budget", "2", "--strategy", "random")
    assert [each.image_id for each in read_selection(open_dataset(fresh))] == [row["image_id"] for row in again]


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("suspicion", "slices")])
def test_every_strategy_says_why(begun: str, name: str) -> None:
    found = select(begun, "--budget", "20%", "--strategy", name, "--seed", "3")
    assert len(found) == 6
    assert all("/" not in row["image"] for row in found)  # none of the labelled ones, which are in folders
    assert all(row["why"] and row["strategy"] == name for row in found)
    assert [row["image"] for row in found] == [
        row["image"] for row in select(begun, "--budget", "20%", "--strategy", name, "--seed", "3")
    ]


def test_doubt_without_anything_to_doubt_by(fresh: str) -> None:
    result = curate("select", "-d", fresh, "--budget", "3", "--strategy", "margin", "--encoder", "builtin")
    assert "nothing says yet what is uncertain" in result.stderr
    assert "stands for" in result.stdout


def test_copies_are_not_chosen(begun: str, tmp_path: Path) -> None:
    for number in (0, 21, 28):
        with Image.open(tmp_path / "new" / f"{number:02d}.png") as image:
            (tmp_path / "more").mkdir(exist_ok=True)
            image.save(tmp_path / "more" / f"copy{number}.jpg", quality=95, subsampling=0)
    with Image.open(tmp_path / "labelled" / "blue" / "old2.png") as image:
        image.save(tmp_path / "more" / "copy_of_labelled.jpg", quality=95, subsampling=0)
    curate("import", tmp_path / "more", "-d", begun)
    result = curate("select", "-d", begun, "--budget", "34", "--strategy", "random", "--encoder", "builtin", "--json")
    names = {json.loads(line)["image"] for line in result.stdout.splitlines()}
    assert "copy_of_labelled.jpg" not in names
    for number in (0, 21, 28):
        assert len(names & {f"{number:02d}.png", f"copy{number}.jpg"}) == 1
    assert 25 <= len(names) <= 30  # some of the red stripes are drawn much alike
    assert f"{len(names)} of 34 could be chosen" in result.stderr


def test_where(begun: str) -> None:
    found = select(begun, "--budget", "5", "--where", "location < '05'")
    assert sorted(row["image"] for row in found) == [f"{number:02d}.png" for number in range(5)]
    result = curate("select", "-d", begun, "--budget", "2", "--where", "location LIKE 'red/%'", "--encoder", "builtin")
    assert "have labels, and are chosen from again" in result.stderr


def coco(folder: Path, layer: str) -> Path:
    """A COCO file with one box on every image; of predictions, the surer the higher the image's number."""
    boxes = [
        {"id": n + 1, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
        | ({"score": 0.5 + n / 30} if layer != "ground_truth" else {})
        for n in range(12)
    ]
    images = [{"id": n, "file_name": f"{n:02d}.png", "width": 48, "height": 48} for n in range(12)]
    path = folder / "new" / f"{layer}.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "stripe"}]}))
    return path


def test_doubt_of_predictions(fresh: str, tmp_path: Path) -> None:
    curate("import", coco(tmp_path, "ours"), "-d", fresh, "--layer", "predictions/ours", "--images", tmp_path / "new")
    arguments = ("--budget", "3", "--strategy", "entropy", "--layer", "predictions/ours")
    found = select(fresh, *arguments)
    assert [row["image"] for row in found] == ["00.png", "01.png", "02.png"]
    assert found[0]["why"] == "predictions/ours doubts 'stripe' 0.50 (of 1 found)"


def test_suspicion_goes_by_findings(tmp_path: Path) -> None:
    curate("demo", "--images", "40", "-d", "parts")
    found = select("parts", "--budget", "4", "--strategy", "suspicion")
    assert len(found) == 4
    surest = json.loads(curate("findings", "-d", "parts", "--json").stdout.splitlines()[0])
    assert surest["image"] in {row["image"] for row in found}
    result = curate("select", "-d", "parts", "--budget", "4", status=2)
    assert "every image has labels already" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "0"), "'0' is not a budget"),
        (("--budget", "150%"), "'150%' is not a budget"),
        (("--budget", "some"), "'some' is not a budget"),
        (("--budget", "nan%"), "'nan%' is not a budget"),
        (("--budget", "3", "--strategy", "best"), "there is no strategy 'best'"),
        (("--budget", "3", "--strategy", "margin", "--layer", "predictions/none"), "there is no predictions layer"),
        (("--budget", "3", "--strategy", "slices"), "there are no findings of slices that fail"),
        (("--budget", "3", "--strategy", "suspicion"), "there are no open findings of wrong labels"),
        (("--budget", "3", "--where", "location = 'none'"), "no image is chosen"),
    ],
)
def test_wrong_use(begun: str, arguments: tuple[str, ...], message: str) -> None:
    before = open_dataset(begun).commit.number
    result = curate("select", "-d", begun, "--encoder", "builtin", *arguments, status=2)
    assert message in result.stderr
    assert open_dataset(begun).commit.number == before
