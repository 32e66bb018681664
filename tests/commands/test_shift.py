"""`curate shift` as a user types it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.checks.base import Check, Judgement, Settings, run_checks
from curate.checks.findings import Finding
from curate.checks.shift.check import CHECK
from curate.checks.shift.explore import _Part, _told_apart
from curate.checks.shift.stored import read_slices
from curate.checks.store import stored_findings
from curate.cli import app
from curate.dataset import Transaction, begin, open_dataset
from curate.dataset.home import home

REFERENCE = ["--reference", "split = 'train'", "--incoming", "split = 'test'"]
COMPARED = ["--reference", "location LIKE 'train/%'", "--incoming", "location LIKE 'test/%'"]
DARK = 14
"""As many of the first new pictures are dark."""


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
            pixels = pixels * 0.3 if split == "test" and number < DARK else pixels
            (root / split / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / kind / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def measured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the pictures, as images with one label each and as detection with predictions, measured and embedded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_HOME", str(tmp_path_factory.mktemp("store")))
        run("import", folder, "-d", "pictures")
        run("shift", "-d", "pictures", "--encoder", "builtin")
        import_boxes("boxes", "pictures", tmp_path_factory.mktemp("boxes"), range(90))
        run("shift", "-d", "boxes", "--encoder", "builtin")
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
    dark = {f"{k:02d}.png" for k in range(DARK)}
    assert {row["image"].rpartition("/")[2] for row in flagged} >= dark
    assert len(flagged) <= DARK + 26 // 4  # of the 26 others, by chance
    evidence = flagged[0]["evidence"]
    assert evidence["value"] < evidence["reference_low"]
    assert evidence["axis"] in evidence["why"]


def test_the_gate_is_a_level_of_significance(dataset: str) -> None:
    arguments = ["shift", "-d", dataset, "--encoder", "builtin"]
    run(*arguments, *REFERENCE, "--fail-on", "shifted:0.01", status=1)
    run(*arguments, "--reference", "split = 'train'", "--incoming", "split = 'val'", "--fail-on", "shifted:0.01")
    run(*arguments, *REFERENCE, "--fail-on", "dark", status=2)
    run(*arguments, *REFERENCE, "--fail-on", "shifted:0.0001", status=2)


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


def test_a_failing_slice_comes_first(dataset: str) -> None:
    """Predictions that are wrong on dark images: their slice is named, and just they carry the finding, which names it."""
    found = rows("-d", "boxes")
    # Plain images are wrong more often too, but only those that are dark: no slice of their own.
    (failing,) = [row for row in found if row.get("table") == "Slices that fail"]
    assert failing["p_value"] <= 0.01
    assert failing["error"] > 0.8 > 0.2 > failing["error_rest"]
    assert failing["mAP50"] < 0.3 < 0.9 < failing["mAP50_rest"]
    name = failing["slice"]
    assert {"dark", "dim light"} & set(name.replace(" (", ", ").split(", "))
    flagged = [row for row in found if row["kind"] == "shifted" and row["score"] >= 0.5]
    wrong = {f"test/{'bolt' if k % 2 else 'nut'}/{k:02d}.png" for k in range(DARK)}
    assert {row["image"] for row in flagged} == wrong
    assert {row["evidence"]["slice"] for row in flagged} == {name}
    assert all(name in row["evidence"]["why"] for row in flagged)
    run("shift", "-d", "boxes", "--encoder", "builtin", "--fail-on", "shifted:0.01", status=1)
    # The same limit means the same among other checks: findings that score more are no reason to fail.
    run("check", "-d", "boxes", "--encoder", "builtin", "--only", "shift", "--fail-on", "shifted:0.01", status=1)
    run("check", "-d", "pictures", "--encoder", "builtin", "--only", "shift", "--fail-on", "shifted:1")


def test_slices_are_kept(dataset: str) -> None:
    """Those that are printed, with the numbers that are printed; the failing one first, and whole."""
    found = rows("-d", "boxes")
    (failing,) = [row["slice"] for row in found if row.get("table") == "Slices that fail"]
    kept = read_slices(open_dataset("boxes"))
    assert next(iter(kept)) == failing
    assert [each.name for each in kept.values() if each.fails] == [failing]
    locations = open_dataset("boxes").table("images", columns=["image_id", "location"]).to_pylist()
    dark = {row["image_id"] for row in locations if is_dark(row["location"])}
    assert set(kept[failing].image_ids.to_pylist()) >= dark
    assert kept[failing].errors_by == "predictions/model"
    for row in found:
        if row.get("table") in {"Light", "Content"}:
            same = kept[row["cluster"].rpartition(f", {row['images']}")[0]]
            assert len(same) == row["images"]
            assert (round(same.error or 0, 3), same.metadata) == (row["error"], row["metadata"])
    assert {each.kind for each in kept.values()} == {"light", "content", "axis"}
    # Of other images, other slices.
    rows("-d", "boxes", "--where", "location LIKE 'train/%'")
    assert sum(len(each) for each in read_slices(open_dataset("boxes")).values() if each.kind == "light") in {0, 40}
    run("undo", "-d", "boxes")
    assert read_slices(open_dataset("boxes")) == kept


def test_slices_of_one_name_are_told_apart() -> None:
    inside = np.array([True, False])
    same = [_Part("light", "dark", inside), _Part("content", "dark", inside), _Part("content", "dark", inside)]
    named = [each.name for each in _told_apart([*same, _Part("axis", "warm", inside)])]
    assert named == ["dark (light)", "dark (content)", "dark (content) 2", "warm"]


@pytest.mark.slow
def test_nothing_depends_on_the_order_of_images(dataset: str, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(90)
    import_boxes("shuffled", dataset, tmp_path, order.tolist())
    first, second = (open_dataset(name).table("images")["location"].to_pylist() for name in ("boxes", "shuffled"))
    assert first != second
    assert sorted(first) == sorted(second)
    explored, compared = rows("-d", "boxes"), rows("-d", "boxes", *COMPARED)
    assert {"Slices that fail", "Light", "Content", "Measured"} <= {row.get("table") for row in explored}
    assert {"Tests", "Axes", "Classes"} <= {row.get("table") for row in compared}
    for found, options in ((explored, []), (compared, COMPARED)):
        assert [row for row in found if row["kind"] == "shifted"]
        assert rows("-d", "shuffled", *options) == found


def test_mistakes_of_the_same_run_fail_a_slice_of_the_metadata(dataset: str) -> None:
    locations = open_dataset(dataset).table("images")["location"].to_pylist()
    by_b = set(np.random.default_rng(2).permutation(locations)[:20].tolist())
    with begin(dataset, command="test") as transaction:
        images = transaction.read("images")
        cameras = [json.dumps({"camera": "b" if each in by_b else "a"}) for each in locations]
        place = images.column_names.index("metadata")
        transaction.overwrite("images", [images.set_column(place, images.schema.field(place), pa.array(cameras))])

    def mislabeled(transaction: Transaction, settings: Settings) -> Judgement:
        chosen = transaction.base.table("images", columns=["image_id", "location"]).to_pylist()
        return Judgement(
            [
                Finding("mislabeled", 0.9, row["location"], row["image_id"], "mistakes")
                for row in chosen
                if row["location"] in by_b
            ],
            "",
        )

    settings = Settings(encoder="builtin")
    result = run_checks([Check("mistakes", mislabeled), CHECK], dataset, settings, command="test")[1]
    first = result.tables["Slices that fail"][0]
    assert (first["slice"], first["found_by"]) == ("camera b", "metadata")
    found = [finding for finding in result.findings if finding.evidence.get("slice") == "camera b"]
    assert {finding.image for finding in found} == by_b
    why = found[0].evidence["why"]
    assert re.match(r"labels look wrong on (100|99)% of the images with camera b, and on 0% of the others", why)
    assert "first of all camera b" in result.summary


def test_neither_way_of_asking_judges_what_the_other_found(dataset: str) -> None:
    def stored(check: str) -> list[str]:
        return [each.id for each in stored_findings(open_dataset("boxes"), where=f"check = '{check}'")]

    rows("-d", "boxes", *COMPARED)
    drifted = stored("drift")
    rows("-d", "boxes")
    failing = stored("shift")
    assert drifted
    assert failing
    assert stored("drift") == drifted
    unlike = ["--reference", "location LIKE 'train/%'", "--incoming", "location LIKE 'val/%'"]
    rows("-d", "boxes", *unlike)
    assert stored("drift") == drifted
    assert stored("shift") == failing


def test_next_to_nothing_to_look_at(tmp_path: Path) -> None:
    """One image; many copies of it; then their files are gone."""
    pixels = np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name, count in (("one", 1), ("same", 30)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
        run("import", tmp_path / name, "-d", name)
        run("shift", "-d", name, "--encoder", "builtin")
        run("shift", "-d", name, "--encoder", "builtin", "--clusters", "3", "--map")
    (tmp_path / "gone").mkdir()
    for number in range(3):
        Image.fromarray(pixels).save(tmp_path / "gone" / f"{number}.png")
    run("import", tmp_path / "gone", "-d", "gone")
    for file in (tmp_path / "gone").iterdir():
        file.unlink()
    for options in ([], ["--reference", "location = '0.png'"]):
        arguments = ["shift", "-d", "gone", "--encoder", "builtin", *options]
        told = CliRunner().invoke(app, arguments)
        assert told.exit_code == 2
        assert "not one image can be read" in told.stderr
        assert "3 of 3 images" in told.stderr
    # Among other checks, which say what is wrong with the files, it is no reason to stop.
    assert "not one image can be read" in run("check", "-d", "gone", "--encoder", "builtin", "--only", "shift")


def is_dark(location: str) -> bool:
    split, _, file = location.split("/")
    return split == "test" and int(file[:2]) < DARK


def import_boxes(name: str, pictures: str, folder: Path, order: Sequence[int]) -> None:
    """The pictures in some order, one box on each, with predictions that mistake the dark ones for the other class."""
    table = open_dataset(pictures).table("images", columns=["location", "path"])
    seen = sorted(table["location"].to_pylist())
    classes = {"bolt": 1, "nut": 2}
    images, truth, guesses = [], [], []
    for number, place in enumerate(order, 1):
        kind = seen[place].split("/")[1]
        guess = 3 - classes[kind] if is_dark(seen[place]) else classes[kind]
        images.append({"id": number, "file_name": seen[place], "width": 96, "height": 96})
        box = {"id": number, "image_id": number, "bbox": [8, 8, 80, 80]}
        truth.append({**box, "category_id": classes[kind]})
        guesses.append({**box, "category_id": guess, "score": 0.9 - place / 1000})
    categories = [{"id": number, "name": label} for label, number in classes.items()]
    root = Path(str(table["path"][0])).parents[2]
    for layer, content in (("ground_truth", truth), ("predictions/model", guesses)):
        file = folder / f"{name}-{layer.partition('/')[0]}.json"
        file.write_text(json.dumps({"images": images, "annotations": content, "categories": categories}))
        run("import", file, "-d", name, "--images", root, "--layer", layer)
