"""What a run leaves behind and what it says: folders elsewhere, short parts, previews, recipes that do nothing, long names."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import curate.augment.making as making
import curate.augment.synthesise as synthesise
import curate.models.spool as spool
from curate.augment.encoding import encode
from curate.augment.making import Drawn
from curate.augment.request import Augmented, Request
from curate.augment.run import augment, plan_images, understand
from curate.augment.sheet import write_preview
from curate.augment.targets import find_target
from curate.checks.shift.stored import Slice, store_slices
from curate.cli import app
from curate.dataset import begin, open_dataset
from curate.errors import UsageError
from tests.augment.discs import make_discs


def nothing(*_: object) -> None:
    pass


def run(**asked: Any) -> Augmented:
    return augment(understand("discs", Request(**asked), report=nothing), command="curate augment", report=nothing)


def curate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["augment", "-d", "discs", *arguments])


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    make_discs(tmp_path / "images")
    return tmp_path


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fifth image is where Ctrl-C falls."""
    numbers = count(1)

    def until_stopped(*arguments: Any) -> bytes:
        if next(numbers) == 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(making, "encode", until_stopped)


def test_what_is_finished_is_on_disk_after_some_seconds(discs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, parts = count(), []
    monkeypatch.setattr("curate.models.spool.time.monotonic", lambda: float(next(clock)))
    folder = open_dataset("discs").path / "spool"
    add = spool.Spool.add

    def watched(self: spool.Spool, columns: Any) -> None:
        add(self, columns)
        parts.append(len(list(folder.glob("augment-*/part-*.arrow"))))

    monkeypatch.setattr(spool.Spool, "add", watched)
    run(recipe="jpeg_stream", count=12)
    assert synthesise.PART_SECONDS <= 5
    assert parts[-1] >= 12 // (synthesise.PART_SECONDS + 2)


def test_an_interrupted_folder_is_beside_it_and_goes_on(discs: Path, interrupted: None) -> None:
    target = discs / "out" / "set"
    before = sorted(open_dataset("discs").path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        run(recipe="jpeg_stream", count=8, output=target)
    assert [path.name for path in target.parent.iterdir()] == [".set.unfinished"]
    inside = run(recipe="jpeg_stream", count=2)
    assert inside.reused == 0  # of images for the dataset, whatever is made for a folder
    result = run(recipe="jpeg_stream", count=8, output=target)
    assert (result.added, result.reused) == (8, 4)
    assert [path.name for path in target.parent.iterdir()] == ["set"]
    (annotations,) = (target / "annotations").glob("*.json")
    assert len(json.loads(annotations.read_text())["images"]) == 8
    left = {path for path in open_dataset("discs").path.rglob("*") if "spool" in path.parts and path.is_file()}
    assert left <= set(before)


def test_where_no_folder_can_be_is_seen_before_anything_is_read(discs: Path) -> None:
    file = discs / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="this is no folder") as caught:
        understand("discs", Request(recipe="no such recipe", output=file / "out"), report=nothing)
    assert str(file) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told(discs: Path) -> None:
    locked = discs / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(UsageError, match="no folder can be made in it"):
        understand("discs", Request(recipe="night", output=locked / "out"), report=nothing)


def test_a_folder_of_which_nothing_can_be_made_leaves_nothing(discs: Path) -> None:
    for path in (discs / "images").glob("*.png"):
        with Image.open(path) as image:
            Image.fromarray((np.asarray(image) * 0.05).astype(np.uint8)).save(path)
    with pytest.raises(UsageError, match="not one of 3 images could be made"):
        run(recipe="night", count=3, output=discs / "out" / "set")
    assert not list((discs / "out").iterdir())


def test_a_preview_shows_what_would_be_made_and_no_more(discs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan_images(understand("discs", Request(recipe="night", count=5), report=nothing))
    drawn: list[str] = []
    draw = making.Maker.draw

    def noted(self: making.Maker, job: making.Job) -> Drawn | str:
        drawn.append(job.image_id)
        return draw(self, job)

    monkeypatch.setattr(making.Maker, "draw", noted)
    assert write_preview(planned, discs / "sheet.png") == 5
    assert sorted(drawn) == sorted(job.image_id for job in planned.jobs)
    monkeypatch.undo()


@pytest.mark.parametrize("option", ["--save-recipe", "--preview", "--output"])
def test_files_that_cannot_be_written_are_named_as_they_were_given(discs: Path, option: str) -> None:
    (discs / "file").write_text("")
    for folder in ("missing", "file") if option != "--output" else ("file",):
        result = curate("--recipe", "night", "--count", "1", option, str(discs / folder / "a.png"))
        assert result.exit_code == 2, result.output
        assert str(discs / folder) in result.stderr.replace("\n", "")
        assert ".tmp" not in result.stderr
    assert open_dataset("discs").commit.number == 1


def test_a_size_that_no_image_has_is_refused_in_words(discs: Path) -> None:
    recipe = discs / "huge.yaml"
    step = "{__class_fullname__: Resize, height: 200000, width: 9, p: 1.0}"
    recipe.write_text(f"transform: {{__class_fullname__: Compose, transforms: [{step}]}}")
    result = curate("--recipe", str(recipe), "--count", "1")
    assert result.exit_code == 2
    assert "height is 200,000" in result.stderr
    assert "OpenCV" not in result.stderr


def test_that_nothing_differs_is_an_answer(discs: Path) -> None:
    make_discs(discs / "many", "alike", images=60, dark=lambda k: False)
    with begin("alike", command="tag") as transaction:
        rows = transaction.read("images").to_pylist()
        tagged = [{**row, "tags": ["half"] if number % 2 else None} for number, row in enumerate(rows)]
        transaction.upsert("images", pa.Table.from_pylist(tagged, schema=transaction.base.schema("images")), "image_id")
    arguments = ["augment", "-d", "alike", "--where", "array_has(tags, 'half')"]
    result = CliRunner().invoke(app, [*arguments, "--fit-only", "--save-recipe", str(discs / "none.yaml")])
    assert result.exit_code == 0, result.output
    assert "differ from the rest in nothing" in result.stderr
    assert "no recipe was written" in result.stderr
    assert not (discs / "none.yaml").exists()
    refused = CliRunner().invoke(app, [*arguments, "--count", "2"])
    assert refused.exit_code == 2


def test_a_slice_is_found_by_how_its_name_begins(discs: Path) -> None:
    ids = open_dataset("discs").table("images")["image_id"].combine_chunks().sort()
    parts = [
        Slice("dark corners, dim light, cool, lighting dim", "light", ids[:4]),
        Slice("dark (brightness <= 0.2)", "axis", ids[:3]),
        Slice("bright (brightness >= 0.8)", "axis", ids[5:]),
    ]
    with begin("discs", command="shift") as transaction:
        store_slices(transaction, parts)
    dataset = open_dataset("discs")
    assert find_target(dataset, "slice:dark_corners").image_ids == ids[:4]
    assert find_target(dataset, "slice:dark").image_ids == ids[:3]
    with pytest.raises(UsageError, match=r"no slice 'dim_lights' .near ones: dark_corners; 'curate shift'"):
        find_target(dataset, "slice:dim_lights")
