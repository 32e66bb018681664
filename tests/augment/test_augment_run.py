"""New images in their dataset: labels, parents, one commit, and what interruptions leave."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import curate.augment.making as making
import curate.models.spool as spool
from curate.augment.balance import deal, default_count, repeat_weights
from curate.augment.encoding import encode
from curate.augment.parents import is_measured_on, labelled_images
from curate.augment.request import Augmented, Request
from curate.augment.run import augment, understand
from curate.dataset import begin, open_dataset, undo
from curate.dataset.synthetic import SYNTHETIC, is_synthetic, parent_ids
from curate.errors import CurateError, InputError, UsageError
from curate.imaging import load_pixels
from tests.augment.discs import make_discs

LIGHT = """
__version__: 2.0.8
transform:
  __class_fullname__: Compose
  p: 1.0
  transforms:
  - __class_fullname__: RandomGamma
    gamma_limit: [140, 160]
    p: 1.0
curate: {name: gamma, description: darker}
"""
MIRROR = LIGHT.replace("RandomGamma\n    gamma_limit: [140, 160]", "HorizontalFlip").replace("gamma", "mirror")
CROP = LIGHT.replace("RandomGamma\n    gamma_limit: [140, 160]", "Crop\n    x_max: 60\n    y_max: 120").replace(
    "gamma", "crop"
)


def nothing(*_: object) -> None:
    pass


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "gamma.yaml"
    path.write_text(LIGHT)
    return path


def run(name: str = "discs", **asked: Any) -> Augmented:
    return augment(understand(name, Request(**asked), report=nothing), command="curate augment", report=nothing)


def rows(name: str = "discs") -> list[dict[str, Any]]:
    """The synthetic images with their annotations."""
    dataset = open_dataset(name)
    images = dataset.table("images")
    made = images.filter(np.asarray(is_synthetic(images))).to_pylist()
    annotations = dataset.table("annotations").to_pylist()
    return [
        {**row, "annotations": [each for each in annotations if each["image_id"] == row["image_id"]]} for row in made
    ]


def test_new_images_have_their_parents_labels_and_say_who_they_are(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images", splits=("train", "val", "test", None))
    before = open_dataset("discs")
    result = run(recipe=str(recipe), count=9)
    dataset = open_dataset("discs")
    assert (result.added, dataset.commit.number) == (9, before.commit.number + 1)
    assert dataset.commit.counts["synthetic images added"] == 9
    images = {row["image_id"]: row for row in before.table("images").to_pylist()}
    labels = before.table("annotations").to_pylist()
    for row in rows():
        about = json.loads(row["metadata"])[SYNTHETIC]
        (parent,) = (images[each] for each in about["parents"])
        assert parent["split"] in {"train", None}
        assert row["split"] == parent["split"]
        assert row["tags"] == [SYNTHETIC, "augment:gamma"]
        assert (about["recipe"], about["seed"], about["digest"]) == ("gamma", 0, result.digest)
        assert about["applied"][0]["transform"] == "RandomGamma"
        assert Path(row["path"]).is_relative_to(dataset.path / "files" / "augment")
        assert load_pixels(row["path"]).mean() < load_pixels(parent["path"]).mean()
        drawn = ("type", "label", "bbox", "rle", "rle_size", "area", "iscrowd", "attributes", "polygons")
        own = sorted(json.dumps([each[name] for name in drawn]) for each in row["annotations"])
        theirs = sorted(json.dumps([x[name] for name in drawn]) for x in labels if x["image_id"] == parent["image_id"])
        assert own == theirs
    undo("discs", command="undo")
    assert not rows()
    assert open_dataset("discs").count("annotations") == len(labels)


def test_the_same_again_makes_nothing_new_and_more_goes_on(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images")
    run(recipe=str(recipe), count=5)
    first = {row["image_id"]: Path(row["path"]).read_bytes() for row in rows()}
    again = run(recipe=str(recipe), count=5)
    assert (again.added, again.present) == (0, 5)
    more = run(recipe=str(recipe), count=8)
    assert (more.added, more.present) == (3, 5)
    after = {row["image_id"]: Path(row["path"]).read_bytes() for row in rows()}
    assert first.items() <= after.items()
    assert run(recipe=str(recipe), count=5, seed=1).added == 5


def test_children_of_labels_that_changed_are_made_anew(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images")
    run(recipe=str(recipe), count=12)
    with begin("discs", command="relabel") as transaction:
        changed = transaction.read("annotations", where="layer = 'ground_truth'").to_pylist()
        parent = next(row["image_id"] for row in changed if row["label"] == "bar")
        mended = [{**row, "label": "disc"} for row in changed if row["image_id"] == parent and row["label"] == "bar"]
        transaction.upsert("annotations", transaction.read("annotations").schema.empty_table().from_pylist(
            mended, schema=transaction.base.schema("annotations")), "annotation_id")  # fmt: skip
    total = open_dataset("discs").count("annotations")
    again = run(recipe=str(recipe), count=12)
    assert (again.added, again.present) == (1, 11)
    assert open_dataset("discs").count("annotations") == total
    child = next(row for row in rows() if json.loads(row["metadata"])[SYNTHETIC]["parents"] == [parent])
    assert {each["label"] for each in child["annotations"]} <= {"disc", "scratch"}


def test_what_a_crop_takes_off_is_gone_and_a_mirror_mirrors(tmp_path: Path) -> None:
    make_discs(tmp_path / "images")
    for text, name in ((MIRROR, "mirror"), (CROP, "crop")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        run(recipe=str(path), count=4)
    for row in rows():
        parent = json.loads(row["metadata"])[SYNTHETIC]["parents"][0]
        theirs = open_dataset("discs").table("annotations", where=f"image_id = '{parent}'").to_pylist()
        if "augment:crop" in row["tags"]:
            assert (row["width"], row["height"]) == (60, 120)
            assert {each["label"] for each in row["annotations"]} <= {"disc", "scratch"}
            assert all(each["rle_size"] == [120, 60] for each in row["annotations"])
        else:
            centres = [
                sorted(160 - x["bbox"][0] - x["bbox"][2] for x in theirs),
                sorted(x["bbox"][0] for x in row["annotations"]),
            ]
            assert centres[0] == centres[1]


def test_files_are_of_their_parents_kind(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images", suffix=".jpg", images=4)
    run(recipe=str(recipe), count=4)
    for row in rows():
        parent = open_dataset("discs").table("images", where=f"image_id = '{parent_of(row)}'").to_pylist()[0]
        with Image.open(row["path"]) as child, Image.open(parent["path"]) as own:
            assert child.format == "JPEG"
            assert child.quantization == own.quantization  # type: ignore[attr-defined]


def test_orientation_is_applied_and_grey_stays_grey(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images", suffix=".jpg", images=3)
    path = tmp_path / "images" / "000.jpg"
    with Image.open(path) as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = image.convert("L").rotate(90, expand=True)
    turned.save(path, exif=exif, quality=90)
    run(recipe=str(recipe), count=3)
    child = next(row for row in rows() if Path(row["location"]).name.startswith("000-"))
    with Image.open(child["path"]) as image:
        assert (image.mode, image.size, dict(image.getexif())) == ("L", (160, 120), {})


def parent_of(row: dict[str, Any]) -> str:
    return str(json.loads(row["metadata"])[SYNTHETIC]["parents"][0])


def test_everything_made_of_several_images_names_all_of_them(tmp_path: Path) -> None:
    make_discs(tmp_path / "images")
    run(copy_paste=("disc",), transplant=("scratch",), count=12)
    dataset = open_dataset("discs")
    images = dataset.table("images")
    for row in rows():
        said = json.loads(row["metadata"])[SYNTHETIC]
        put = [each for each in row["annotations"] if "pasted_from" in (each["attributes"] or "")]
        sources = {json.loads(each["attributes"])["pasted_from"] for each in put}
        owners = {
            each["image_id"] for each in dataset.table("annotations").to_pylist() if each["annotation_id"] in sources
        }
        assert owners <= set(said["parents"])
        assert said["applied"]
    assert any(len(parents) > 1 for parents in parent_ids(images))


@pytest.mark.parametrize("notes_fit", [True, False])
def test_a_run_that_stopped_goes_on(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch, notes_fit: bool
) -> None:
    make_discs(tmp_path / "images")
    whole, count, home = encode, 0, os.environ["CURATE_HOME"]

    def full(*arguments: Any) -> bytes:
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(*arguments)

    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(making, "encode", full)
    if not notes_fit:
        monkeypatch.setattr(spool, "write_atomic", no_room)
    with pytest.raises(InputError, match="the disk is full" if notes_fit else "No space left") as caught:
        run(recipe=str(recipe), count=8)
    assert "4 images" in str(caught.value.remedy)
    assert open_dataset("discs").count("images") == 12
    monkeypatch.undo()
    monkeypatch.setenv("CURATE_HOME", home)
    result = run(recipe=str(recipe), count=8)
    assert (result.added, result.reused) == (8, 4 if notes_fit else 0)
    assert not list((open_dataset("discs").path / "spool").glob("**/*.arrow"))


def test_an_output_folder_is_a_coco_set_and_leaves_the_dataset_alone(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images")
    before = open_dataset("discs").commit
    result = run(recipe=str(recipe), count=6, output=tmp_path / "out")
    assert result.added == 6
    assert open_dataset("discs").commit == before
    (file,) = (tmp_path / "out" / "annotations").glob("*.json")
    content = json.loads(file.read_text())
    assert (len(content["images"]), len(content["annotations"])) == (6, result.annotations)
    assert all((tmp_path / "out" / "images" / row["file_name"]).is_file() for row in content["images"])
    assert not list(open_dataset("discs").path.glob("spool/**/*.png"))
    again = run(recipe=str(recipe), count=6, output=tmp_path / "out")
    assert (again.added, again.present) == (0, 6)
    assert again.describe().startswith("nothing new: 6 images")
    with pytest.raises(UsageError, match="there already"):
        run(recipe=str(recipe), count=7, output=tmp_path / "out")
    next((tmp_path / "out" / "images").rglob("*.*")).unlink()
    with pytest.raises(UsageError, match="there already"):
        run(recipe=str(recipe), count=6, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing says"),
        ({"recipe": "nigth"}, "no recipe"),
        ({"target": "split = 'nope'"}, "the target has no images"),
        ({"target": "split = 'train'"}, "every image there is"),
        ({"target": "slice:dark"}, "no slice"),
        ({"target": "class:cat"}, "no class"),
        ({"target": "finding:hard"}, "the target has no images"),
        ({"target": "finding:worse"}, "no kind of finding"),
        ({"copy_paste": ("cat",)}, "no class"),
        ({"transplant": ("disc",)}, "nothing to transplant"),
        ({"recipe": "night", "parents": "split = 'nope'"}, "no image is left"),
        ({"count": 0}, "cannot be made"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path: Path, asked: dict[str, Any], said: str
) -> None:
    make_discs(tmp_path / "images")
    before = open_dataset("discs").commit
    with pytest.raises(CurateError, match=said):
        run(**{"count": 3, **asked})
    assert open_dataset("discs").commit == before


def test_copy_paste_needs_masks(tmp_path: Path) -> None:
    make_discs(tmp_path / "images", boxes_only=True)
    with pytest.raises(UsageError, match="only boxes"):
        run(copy_paste=("disc",), count=3)
    with pytest.raises(UsageError, match="no masks"):
        run(target="class:disc", count=3)


def test_a_class_says_how_more_of_it_are_made(tmp_path: Path) -> None:
    make_discs(tmp_path / "images")
    assert understand("discs", Request(target="class:scratch"), report=nothing).request.transplant == ("scratch",)
    assert understand("discs", Request(target="class:disc"), report=nothing).request.copy_paste == ("disc",)


def test_labels_that_leave_the_image_are_told_and_their_images_left_out(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images")
    with begin("discs", command="spoil") as transaction:
        table = transaction.read("annotations").to_pylist()
        table[0] = {**table[0], "bbox": [500.0, 3.0, 5.0, 5.0]}
        transaction.overwrite("annotations", [transaction.read("annotations").from_pylist(
            table, schema=transaction.base.schema("annotations"))])  # fmt: skip
    result = run(recipe=str(recipe), count=30)
    assert result.parents == 11
    assert any("lies outside of its image" in line for line in result.notes)


def test_images_of_splits_that_are_measured_on_are_no_parents(tmp_path: Path) -> None:
    make_discs(tmp_path / "images", splits=("train", "val", "test"))
    assert {each.split for each in labelled_images(open_dataset("discs"), notes=[])} == {"train"}
    assert [is_measured_on(name) for name in ("train", None, "val", "valid", "testing", "dev", "holdout", "extra")] == [
        False, False, True, True, True, True, True, False,
    ]  # fmt: skip


def test_parents_are_dealt_out_evenly_and_rare_classes_more_often(tmp_path: Path) -> None:
    assert sorted(k for k, _ in deal(np.ones(5), 10, 0)) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert deal(np.ones(7), 20, 3)[:9] == deal(np.ones(7), 9, 3)
    uses = deal(np.array([3.0, 1.0, 0.0]), 8, 0)
    assert [sum(k == number for k, _ in uses) for number in range(3)] == [6, 2, 0]
    assert sorted(repeat for k, repeat in uses if k == 0) == list(range(6))
    make_discs(tmp_path / "images")
    parents = labelled_images(open_dataset("discs"), notes=[])
    weights = repeat_weights(parents)
    scratched = np.array(["scratch" in {label.label for label in parent.labels} for parent in parents])
    assert (weights[scratched] > 0).all()
    assert (weights[~scratched] == 0).all()


@pytest.mark.parametrize(("training", "inside", "count"), [(90, 0, 45), (90, 20, 15), (90, 60, 9), (3, 0, 2)])
def test_a_third_of_what_is_learnt_from_should_look_as_is_wanted(training: int, inside: int, count: int) -> None:
    assert default_count(training, inside) == count
    if count > 0.1 * training:
        assert (inside + count) / (training + count) >= 1 / 3


KILLED = """
import sys
from curate.augment.request import Request
from curate.augment.run import augment, understand
nothing = lambda *_: None
if __name__ == "__main__":
    intent = understand("discs", Request(recipe=sys.argv[1], count=90), report=nothing)
    print(augment(intent, command="augment", report=nothing, workers=2).reused)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
def test_a_killed_run_leaves_whole_images_and_goes_on(tmp_path: Path, recipe: Path) -> None:
    make_discs(tmp_path / "images")
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(recipe)]
    folder = open_dataset("discs").path / "files" / "augment"
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*/*.png"))) < 20 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = {path.name: path.read_bytes() for path in folder.glob("*/*.png")}
    assert len(left) >= 20
    for name in left:
        load_pixels(next(folder.glob(f"*/{name}")))
    assert open_dataset("discs").count("images") == 12
    subprocess.run(command, env=environment, check=True, capture_output=True)
    found = {Path(row["path"]).name: Path(row["path"]).read_bytes() for row in rows()}
    assert len(found) == 90
    assert left.items() <= found.items()
