"""`curate shift` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from curate.dataset.home import home

REFERENCE = ["--reference", "split = 'train'", "--incoming", "split = 'test'"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of two kinds for training; forty new ones, fourteen of them dark; ten like the first for validation."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 40), ("val", 10)):
        for number in range(count):
            kind = "bolt" if number % 2 else "nut"
            size = (6, 6) if kind == "bolt" else (12, 12)
            pixels = np.kron(rng.integers(60, 220, (*size, 3)), np.ones((96 // size[0], 96 // size[1], 1)))
            pixels = pixels * 0.3 if split == "test" and number < 14 else pixels
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / kind / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def measured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the pictures imported, measured and embedded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_HOME", str(tmp_path_factory.mktemp("store")))
        run("import", folder, "-d", "pictures")
        run("shift", "-d", "pictures", "--encoder", "builtin")
        return home()


@pytest.fixture
def dataset(measured: Path) -> str:
    shutil.copytree(measured, home(), dirs_exist_ok=True)
    return "pictures"


def run(*arguments: str | Path, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result.stdout


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("shift", *arguments, "--encoder", "builtin", "--json").splitlines()]


def test_dark_images_among_new_ones_are_found_along_their_axis(dataset: str) -> None:
    found = rows("-d", dataset, *REFERENCE)
    tests = {row["tested"]: row for row in found if row.get("table") == "Tests"}
    assert tests["everything measured"]["p_value"] <= 0.01
    assert tests["lighting"]["shifted"]
    assert not tests["classes, p(y)"]["shifted"]
    flagged = [row for row in found if row["kind"] == "shifted" and row["score"] >= 0.5]
    dark = {f"{k:02d}.png" for k in range(14)}
    assert {row["image"].rpartition("/")[2] for row in flagged} >= dark
    assert len(flagged) <= 18
    evidence = flagged[0]["evidence"]
    assert evidence["value"] < evidence["reference_low"]
    assert evidence["axis"] in evidence["why"]


def test_the_gate_is_a_level_of_significance(dataset: str) -> None:
    arguments = ["shift", "-d", dataset, "--encoder", "builtin"]
    run(*arguments, *REFERENCE, "--fail-on", "shifted:0.01", status=1)
    run(*arguments, "--reference", "split = 'train'", "--incoming", "split = 'val'", "--fail-on", "shifted:0.01")
    run(*arguments, *REFERENCE, "--fail-on", "dark", status=2)


def test_without_shift_nothing_is_flagged(dataset: str) -> None:
    found = rows("-d", dataset, "--reference", "split = 'train'", "--incoming", "split = 'val'")
    assert not [row for row in found if row["kind"] == "shifted"]


def test_set_ups_and_a_map(dataset: str) -> None:
    found = rows("-d", dataset, "--clusters", "2", "--map")
    light = [row for row in found if row.get("table") == "Light"]
    assert sum(row["images"] for row in light) == 90
    assert any("dark" in row["cluster"] or "dim" in row["cluster"] for row in light)
    (name,) = [name for name in open_dataset(dataset).commit.tables if name.startswith("maps/")]
    placed = open_dataset(dataset).table(name)
    assert placed.column_names == ["id", "x", "y"]
    assert placed.num_rows == 90


def test_the_same_again_changes_nothing(dataset: str) -> None:
    first = rows("-d", dataset, *REFERENCE)
    commit = open_dataset(dataset).commit.number
    assert rows("-d", dataset, *REFERENCE) == first
    assert open_dataset(dataset).commit.number == commit


@pytest.mark.parametrize(
    "options",
    [
        ["--incoming", "split = 'test'"],
        ["--reference", "split = 'train'", "--incoming", "split = 'train'"],
        ["--reference", "split = 'nowhere'"],
        ["--reference", "split ="],
    ],
)
def test_wrong_use_is_told(dataset: str, options: list[str]) -> None:
    run("shift", "-d", dataset, *options, status=2)


def test_a_failing_slice_comes_first(dataset: str, tmp_path: Path) -> None:
    """Predictions that are wrong on dark images: the slice is named, and the lamp's images carry the finding."""
    seen = open_dataset(dataset).table("images", columns=["image_id", "location", "width", "height"]).to_pylist()
    classes = {"bolt": 1, "nut": 2}
    images, annotations = [], []
    for number, image in enumerate(seen, 1):
        split, kind, name = image["location"].split("/")[-3:]
        wrong = split == "test" and int(name[:2]) < 14
        images.append({"id": number, "file_name": image["location"], "width": 96, "height": 96})
        guess = classes[kind] if not wrong else 3 - classes[kind]
        annotations.append(
            {"id": number, "image_id": number, "category_id": guess, "bbox": [8, 8, 80, 80], "score": 0.9}
        )
    truth = [{**each, "category_id": classes[seen[k]["location"].split("/")[-2]]} for k, each in enumerate(annotations)]
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    for name, content in (("truth", truth), ("model", annotations)):
        text = json.dumps({"images": images, "annotations": content, "categories": categories})
        (tmp_path / f"{name}.json").write_text(text)
    root = Path(str(open_dataset(dataset).table("images")["path"][0])).parents[2]
    run("import", tmp_path / "truth.json", "-d", "boxes", "--images", root)
    run("import", tmp_path / "model.json", "-d", "boxes", "--images", root, "--layer", "predictions/model")
    found = rows("-d", "boxes")
    slices = [row for row in found if row.get("table") == "Slices that fail"]
    assert slices[0]["p_value"] <= 0.01
    assert slices[0]["error"] > 0.8 > 0.2 > slices[0]["error_rest"]
    assert slices[0]["mAP50"] < 0.3 < 0.9 < slices[0]["mAP50_rest"]
