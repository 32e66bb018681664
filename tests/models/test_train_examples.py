"""A layer as training examples: what is learnt from, what is left out and said, and what is never touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.checks.measures.content import update_content_hashes
from curate.dataset import begin, open_dataset
from curate.dataset.schema import FINDINGS
from curate.errors import UsageError
from curate.models.training.base import Task
from curate.models.training.examples import Material, divide, held_out, load_material
from curate.models.training.folds import make_folds
from tests.models.toy_sets import SHAPES, draw_folders, import_folders


def material(task: Task = "classify", where: str | None = None, *, empty: bool = False) -> Material:
    return load_material(open_dataset("shapes"), task, "ground_truth", where, empty=empty)


def names(found: Material, rows: Any) -> set[str]:
    return {"/".join(Path(example.path).parts[-3:]) for example in found.take(rows)}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Three images with boxes and masks, and one without anything on it."""
    folder = tmp_path / "boxes"
    folder.mkdir()
    for name in "abcd":
        Image.new("RGB", (40, 30)).save(folder / f"{name}.png")
    square = [2, 2, 12, 2, 12, 12, 2, 12]
    annotations = [
        {"image_id": 0, "category_id": 1, "bbox": [2, 2, 10, 10], "segmentation": [square], "area": 100, "iscrowd": 0},
        {"image_id": 0, "category_id": 2, "bbox": [20, 5, 6, 8], "area": 48, "iscrowd": 0},
        {"image_id": 1, "category_id": 2, "bbox": [5, 5, 0, 8], "area": 0, "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 30], "area": 300, "iscrowd": 1,
         "segmentation": {"size": [30, 40], "counts": [300, 300, 600]}},
        {"image_id": 2, "category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": [square, square], "area": 25, "iscrowd": 0},
    ]  # fmt: skip
    content = {
        "images": [{"id": n, "file_name": f"{name}.png", "width": 40, "height": 30} for n, name in enumerate("abcd")],
        "annotations": [{"id": n, **annotation} for n, annotation in enumerate(annotations)],
        "categories": [{"id": 1, "name": "nut"}, {"id": 2, "name": "bolt"}, {"id": 3, "name": "washer"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    import_folders(folder / "labels.json")
    return folder


def test_labels_of_images(tmp_path: Path) -> None:
    import_folders(draw_folders(tmp_path / "images", 4))
    found = material()
    assert found.classes == SHAPES
    assert len(found.examples) == 12
    for example in found.examples:
        assert example.size == (48, 48)
        assert SHAPES[example.label or 0] == Path(example.path).parent.name
    assert [example.image_id for example in found.examples] == sorted(example.image_id for example in found.examples)
    only = material(where="location LIKE '%disc%' OR location LIKE '%square%'")
    assert only.classes == ("disc", "square")
    assert {example.label for example in only.examples} == {0, 1}


def test_boxes(coco: Path) -> None:
    found = material("detect")
    assert found.classes == ("nut", "bolt")  # nothing is a washer
    by_name = {Path(example.path).stem: example for example in found.examples}
    boxes, labels = by_name["a"].boxes, by_name["a"].labels
    assert boxes is not None
    assert labels is not None
    assert {(*box, label) for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)} == {
        (2, 2, 10, 10, 0),
        (20, 5, 6, 8, 1),
    }
    assert by_name["b"].boxes is not None
    assert by_name["b"].boxes.tolist() == [[0, 0, 40, 30]]
    assert by_name["b"].crowd is not None
    assert by_name["b"].crowd.tolist() == [True]
    assert by_name["d"].boxes is not None
    assert by_name["d"].boxes.shape == (0, 4)
    learnt = [Path(example.path).stem for example in found.take(found.labelled)]
    assert sorted(learnt) == ["a", "b", "c"]
    assert any("1 boxes have no area" in note for note in found.notes)
    assert any("1 images have no annotation and are not learnt from" in note for note in found.notes)
    assert material("detect", empty=True).labelled.all()


def test_regions(coco: Path) -> None:
    found = material("segment")
    assert found.classes == ("nut",)
    by_name = {Path(example.path).stem: example for example in found.examples}
    assert by_name["a"].regions == [[[2, 2, 12, 2, 12, 12, 2, 12]]]
    (region,) = by_name["b"].regions or ()
    assert region["size"] == [30, 40]
    from pycocotools import mask

    assert mask.area(region) == 300
    assert len((by_name["c"].regions or [[]])[0]) == 2
    assert by_name["d"].regions == []
    assert not found.labelled[[Path(example.path).stem == "d" for example in found.examples]].any()


def test_a_layer_that_has_nothing_for_the_task_says_what_it_has(coco: Path) -> None:
    with pytest.raises(UsageError, match="nothing to learn for 'classify'") as caught:
        material("classify")
    assert "of type 'box'" in str(caught.value)


def test_several_labels_of_one_image_are_refused(tmp_path: Path) -> None:
    folder = draw_folders(tmp_path / "images", 2)
    import_folders(folder)
    with begin("shapes", command="test") as transaction:
        rows = transaction.read("annotations")
        first = rows.slice(0, 1).to_pylist()[0]
        first |= {"annotation_id": "f" * 16, "label": next(name for name in SHAPES if name != first["label"])}
        transaction.append("annotations", [pa.Table.from_pylist([first], rows.schema)])
    with pytest.raises(UsageError, match="1 images or more have several labels"):
        material()


def test_the_split_val_validates_and_test_is_never_touched(tmp_path: Path) -> None:
    import_folders(draw_folders(tmp_path / "images", 3, splits=("train", "val", "test")))
    found = material()
    parts = divide(found, None, seed=0)
    assert {name.split("/")[0] for name in names(found, parts.train)} == {"train"}
    assert {name.split("/")[0] for name in names(found, parts.validation)} == {"val"}
    assert (len(parts.train), len(parts.validation), parts.how) == (9, 9, "split 'val'")
    held = divide(found, "0.34", seed=0)
    assert {name.split("/")[0] for name in names(found, np.concatenate([held.train, held.validation]))} == {
        "train",
        "val",
    }
    assert len(held.validation) == 6
    assert len(divide(found, "0", seed=0).validation) == 0
    other = divide(found, "train", seed=0)
    assert {name.split("/")[0] for name in names(found, other.train)} == {"val"}


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ("test", "the test split is not validated on"),
        ("nowhere", "no labelled image is in the split 'nowhere'"),
        ("1.5", "a share of 1.5 cannot be held out"),
        ("-0.1", "cannot be held out"),
    ],
)
def test_validation_that_makes_no_sense(tmp_path: Path, validation: str, message: str) -> None:
    import_folders(draw_folders(tmp_path / "images", 2, splits=("train", "test")))
    with pytest.raises(UsageError, match=message):
        divide(material(), validation, seed=0)


def finding(kind: str, ids: list[str], status: str = "open") -> dict[str, Any]:
    related = [{"image": "x", "image_id": ids[1], "annotation_id": None, "score": 1.0}]
    return {
        "id": f"{hash((kind, *ids)) & (2**64 - 1):016x}", "kind": kind, "score": 0.9, "image": "x", "image_id": ids[0],
        "annotation_id": None, "related": related, "evidence": "{}", "status": status, "check": "duplicates", "commit": 1,
    }  # fmt: skip


def test_videos_and_copies_stay_together(tmp_path: Path) -> None:
    folder = draw_folders(tmp_path / "images", 8)
    (folder / "disc" / "copy.png").write_bytes((folder / "disc" / "000.png").read_bytes())
    import_folders(folder)
    with begin("shapes", command="test") as transaction:
        images = transaction.read("images").sort_by("location")
        ids = dict(zip(images["location"].to_pylist(), images["image_id"].to_pylist(), strict=True))
        rows = images.to_pylist()
        for row in rows:
            row["group"] = "video" if row["location"] in ("cross/000.png", "cross/001.png") else row["group"]
        transaction.overwrite("images", [pa.Table.from_pylist(rows, images.schema)])
        found = [
            finding("near_duplicate", [ids["cross/001.png"], ids["cross/002.png"]]),
            finding("exact_duplicate", [ids["square/000.png"], ids["square/001.png"]], "confirmed"),
            finding("near_duplicate", [ids["square/002.png"], ids["square/003.png"]], "rejected"),
            finding("mislabeled", [ids["square/004.png"], ids["square/005.png"]]),
        ]
        transaction.append("findings", [pa.Table.from_pylist(found, FINDINGS)])
    loaded = material()
    group = dict(zip(("/".join(Path(each.path).parts[-2:]) for each in loaded.examples), loaded.groups, strict=True))
    together = [{name for name, number in group.items() if number == each} for each in set(loaded.groups.tolist())]
    assert [each for each in sorted(map(sorted, together)) if len(each) > 1] == [
        ["cross/000.png", "cross/001.png", "cross/002.png"],
        ["disc/000.png", "disc/copy.png"],
        ["square/000.png", "square/001.png"],
    ]
    for seed in range(5):
        parts = divide(loaded, "0.3", seed)
        assert not set(loaded.groups[parts.train]) & set(loaded.groups[parts.validation])
        assert len(parts.train) + len(parts.validation) == 25


def test_files_of_the_same_bytes_stay_together_though_nobody_looked_for_copies(tmp_path: Path) -> None:
    folder = draw_folders(tmp_path / "images", 8)
    for number in range(4):
        (folder / "disc" / f"copy-{number}.png").write_bytes((folder / "disc" / f"00{number}.png").read_bytes())
    import_folders(folder)
    loaded = material()
    row = {Path(each.path).relative_to(folder).as_posix(): number for number, each in enumerate(loaded.examples)}
    pairs = [(row[f"disc/00{number}.png"], row[f"disc/copy-{number}.png"]) for number in range(4)]
    assert len(set(loaded.groups.tolist())) == len(loaded.examples) - 4
    for seed in range(5):
        fold = make_folds(loaded.groups, loaded.strata, 3, seed)
        held = held_out(loaded, loaded.labelled, 0.3, seed)
        for part in (loaded.groups, fold, held):
            assert [part[first] for first, _ in pairs] == [part[second] for _, second in pairs]


def test_what_changes_in_a_file_changes_whose_copy_it_is(tmp_path: Path) -> None:
    folder = draw_folders(tmp_path / "images", 2)
    import_folders(folder)
    with begin("shapes", command="test") as transaction:
        update_content_hashes(transaction, transaction.read("images"))
    (folder / "disc" / "001.png").write_bytes((folder / "disc" / "000.png").read_bytes())
    (folder / "cross" / "000.png").write_bytes(b"no image")
    (folder / "cross" / "001.png").unlink()
    (folder / "square" / "000.png").unlink()  # what cannot be read is nobody's copy
    assert len(set(material().groups.tolist())) == 5


def test_copies_across_given_splits_are_told(tmp_path: Path) -> None:
    folder = draw_folders(tmp_path / "images", 3, splits=("train", "val"))
    (folder / "val" / "disc" / "copy.png").write_bytes((folder / "train" / "disc" / "000.png").read_bytes())
    import_folders(folder)
    assert "1 of its images have a copy" in divide(material(), None, seed=0).how


def test_images_without_a_file_and_without_a_label_are_told(tmp_path: Path) -> None:
    import_folders(draw_folders(tmp_path / "images", 3))
    with begin("shapes", command="test") as transaction:
        rows = transaction.read("images").to_pylist()
        rows[0]["path"] = None
        transaction.overwrite("images", [pa.Table.from_pylist(rows, transaction.read("images").schema)])
        annotations = transaction.read("annotations").to_pylist()
        kept = [row for row in annotations if row["image_id"] != rows[1]["image_id"]]
        transaction.overwrite("annotations", [pa.Table.from_pylist(kept, transaction.read("annotations").schema)])
    found = material()
    assert len(found.examples) == 8
    assert int(found.labelled.sum()) == 7
    assert any("1 images have no file" in note for note in found.notes)
    assert any("1 images have no label" in note for note in found.notes)
    parts = divide(found, None, seed=0)
    assert len(parts.train) + len(parts.validation) == 7


def test_images_without_a_file_are_told_where_nothing_can_be_learnt_from_the_others(tmp_path: Path) -> None:
    import_folders(draw_folders(tmp_path / "images", 3))
    with begin("shapes", command="test") as transaction:
        rows = transaction.read("images").to_pylist()
        for row in rows[:-1]:
            row["path"] = None
        transaction.overwrite("images", [pa.Table.from_pylist(rows, transaction.read("images").schema)])
        annotations = transaction.read("annotations")
        there = [row for row in annotations.to_pylist() if row["image_id"] != rows[-1]["image_id"]]
        transaction.overwrite("annotations", [pa.Table.from_pylist(there, annotations.schema)])
    with pytest.raises(UsageError, match=r"nothing to learn for 'classify'.*8 images have no file") as caught:
        material()
    assert "import again with --images FOLDER" in str(caught.value)
    with begin("shapes", command="test") as transaction:
        rows[-1]["path"] = None
        transaction.overwrite("images", [pa.Table.from_pylist(rows, transaction.read("images").schema)])
    with pytest.raises(UsageError, match="not one of the images has a file"):
        material()


def test_no_images_and_no_such_layer(tmp_path: Path) -> None:
    import_folders(draw_folders(tmp_path / "images", 1))
    with pytest.raises(UsageError, match="there are no images to learn from"):
        material(where="path = ''")
    with pytest.raises(UsageError, match="nothing to learn") as caught:
        load_material(open_dataset("shapes"), "classify", "predictions/none", None)
    assert "no annotation" in str(caught.value)
