"""Importing into datasets: the first time, again, and after the source changed, as `curate import` does it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from import_cases import annotated, coco, images, load, save, write_images
from PIL import Image

from curate.dataset import open_dataset
from curate.dataset.difference import difference
from curate.dataset.store import begin
from curate.errors import DatasetNotFound, FormatError, InputError, UsageError
from curate.formats.exporting import export_dataset


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "data" / "annotations" / "instances_all.json", coco())


def test_the_first_import_and_the_same_again(source: Path) -> None:
    first = load(source)
    assert first.counts == {"images added": 4, "classes added": 2, "annotations added": 12}
    before, commit = annotated(), open_dataset("parts").commit
    again = load(source)
    assert (again.counts, again.commit) == ({}, first.commit)
    assert again.losses.carried_counts == {"images": 4, "annotations": 12, "classes": 2}
    assert (annotated(), open_dataset("parts").commit) == (before, commit)


def relabel(content: dict[str, Any]) -> None:
    content["annotations"][4]["category_id"] = 3 - content["annotations"][4]["category_id"]


def move_a_corner(content: dict[str, Any]) -> None:
    content["annotations"][5]["segmentation"][0][5] += 0.5


def say_more(content: dict[str, Any]) -> None:
    content["annotations"][0]["attributes"]["occluded"] = True


def remove_a_box(content: dict[str, Any]) -> None:
    del content["annotations"][7]


def empty_an_image(content: dict[str, Any]) -> None:
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] != 2]


def empty_all(content: dict[str, Any]) -> None:
    content["annotations"] = []


def add_a_box(content: dict[str, Any]) -> None:
    content["annotations"].insert(2, {"id": 99, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]})


def add_an_image(content: dict[str, Any]) -> None:
    content["images"].append({"id": 77, "file_name": "new.png", "width": 5, "height": 5})
    content["annotations"].append({"id": 77, "image_id": 77, "category_id": 2, "bbox": [0, 0, 5, 5]})


def resize_an_image(content: dict[str, Any]) -> None:
    content["images"][0]["width"] = 65


def shuffle(content: dict[str, Any]) -> None:
    content["annotations"].reverse()


def all_of_it(content: dict[str, Any]) -> None:
    for change in (relabel, move_a_corner, remove_a_box, add_a_box, add_an_image, resize_an_image, shuffle):
        change(content)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (relabel, {"annotations changed": 1}),
        (move_a_corner, {"annotations changed": 1}),
        (say_more, {"annotations changed": 1}),
        (remove_a_box, {"annotations removed": 1}),
        (empty_an_image, {"annotations removed": 3}),
        (empty_all, {"annotations removed": 12}),
        (add_a_box, {"annotations added": 1}),
        (add_an_image, {"images added": 1, "annotations added": 1}),
        (resize_an_image, {"images changed": 1}),
        (shuffle, {}),
        (
            all_of_it,
            {
                "images added": 1,
                "images changed": 1,
                "annotations added": 2,
                "annotations changed": 2,
                "annotations removed": 1,
            },
        ),
    ],
)
def test_after_the_source_changed(
    source: Path, change: Callable[[dict[str, Any]], None], counts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset becomes what a first import of the changed file gives; what did not change is left alone."""
    first = load(source)
    content = coco()
    change(content)
    save(source, content)
    result = load(source)
    assert result.counts == counts
    assert result.commit == first.commit + bool(counts)
    stored = annotated(), images()
    old, new = open_dataset("parts", commit=first.commit), open_dataset("parts")
    told = difference(old, new)
    changed = {
        f"{table} {kind}": told[table][kind]["count"]
        for table in ("images", "annotations")
        for kind in ("added", "changed", "removed")
        if table in told and told[table][kind]["count"]
    }
    assert changed == counts
    assert load(source).counts == {}

    monkeypatch.setenv("CURATE_HOME", str(source.parent / "another-home"))
    load(source)
    assert (annotated(), images()) == stored


def test_the_difference_shows_what_was_and_is(source: Path) -> None:
    load(source)
    content = coco()
    for each in content["annotations"][3:5]:
        each["category_id"] = 3 - each["category_id"]
    del content["annotations"][0]
    save(source, content)
    load(source)
    told = difference(open_dataset("parts", commit=1), open_dataset("parts"), examples=1)["annotations"]
    labels = ["bolt", "nut"]
    assert told["changed"]["count"] == 2
    assert told["changed"]["by_label"] == {"bolt": 1, "nut": 1}
    (pair,) = told["changed"]["first"]
    assert pair["before"]["annotation_id"] == pair["after"]["annotation_id"]
    assert {pair["before"]["label"], pair["after"]["label"]} == set(labels)
    assert pair["before"]["bbox"] == pair["after"]["bbox"]
    assert told["removed"]["by_label"] == {"bolt": 1}
    assert told["removed"]["first"][0]["bbox"] == [10.0, 12.5, 20.0, 15.0]
    assert told["added"] == {"count": 0, "by_label": {}, "first": []}


def test_a_part_of_the_images_replaces_their_annotations_only(source: Path) -> None:
    load(source)
    content = coco()
    content["images"] = content["images"][:1]
    content["annotations"] = content["annotations"][1:2]
    save(source, content)
    assert load(source).counts == {"annotations removed": 2}
    assert len(annotated()) == 10


def test_a_second_file_on_the_same_images_stands_beside_the_first(source: Path) -> None:
    load(source)
    first = annotated()
    content = coco()
    for each in content["annotations"]:
        each["bbox"][0] += 5.0
    other = save(source.with_name("instances_more.json"), content)
    added = load(other)
    assert (added.counts["annotations added"], added.kept) == (12, {"annotations/instances_all.json": 12})
    both = annotated()
    assert len(both) == 24
    assert {key: both[key] for key in first} == first
    # The second file's change touches nothing of the first, and the other way round.
    remove_a_box(content)
    save(other, content)
    assert load(other).counts == {"annotations removed": 1}
    assert {key: annotated()[key] for key in first} == first
    again = load(source)
    assert "annotations removed" not in again.counts
    assert again.kept == {"annotations/instances_more.json": 11}
    assert len(annotated()) == 23


def test_two_files_of_a_folder_are_imported_again(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "annotations"
    train, val = coco(), coco(2)
    for image in val["images"]:
        image["file_name"] = f"val_{image['file_name']}"
    save(folder / "instances_train.json", train)
    save(folder / "instances_val.json", val)
    load(folder)
    assert load(folder).counts == {}
    relabel(val)
    save(folder / "instances_val.json", val)
    assert load(folder).counts == {"annotations changed": 1}


def test_only_what_stays_from_other_files_on_the_same_images_is_told(source: Path) -> None:
    load(source)
    part = coco(3)
    part["images"] = part["images"][1:3]
    part["annotations"] = [each for each in part["annotations"] if each["image_id"] > 1]
    for each in part["annotations"]:
        each["bbox"][0] += 5.0
    assert load(save(source.with_name("part.json"), part)).kept == {"annotations/instances_all.json": 6}
    assert load(source.parent).kept == {}
    assert load(source, "predictions/net").kept == {}


@pytest.mark.parametrize(
    "layer",
    [
        *("foo/bar", "predictions/", "predictions", "predictions/ ", ""),
        *(
            "predictions/../x",
            "annotators/..",
            "predictions/a/../../b",
            "predictions/a\\..\\b",
            "annotators//x",
            "predictions/a\nb",
        ),
    ],
)
def test_layers_that_cannot_be(source: Path, layer: str) -> None:
    with pytest.raises(UsageError, match="cannot be a layer") as error:
        load(source, layer)
    assert error.value.where == "--layer"
    assert "predictions/NAME" in str(error.value.remedy)
    with pytest.raises(DatasetNotFound):
        open_dataset("parts")


def test_settings_are_neither_exported_nor_imported(source: Path, tmp_path: Path) -> None:
    load(source)
    with begin("parts", command="test") as transaction:
        transaction.info = {**transaction.info, "encoder": "builtin-v0"}
    export_dataset("parts", tmp_path / "out", format="coco")
    content = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    assert content.keys() == {"info", "licenses", "categories", "images", "annotations"}
    result = load(save(source, coco() | {"encoder": "other", "year": 2026}))
    assert open_dataset("parts").commit.info == {"encoder": "builtin-v0", "year": 2026}
    dropped = [(loss.what, loss.places) for loss in result.losses.losses if loss.outcome == "dropped"]
    assert dropped == [("fields", ["encoder"])]


def test_fields_of_two_files_go_back_where_they_came_from(source: Path, tmp_path: Path) -> None:
    content = coco(1, 2)
    content["annotations"][0] |= {"note": "x", "attributes": {"note": "inside", "occluded": True}}
    content["annotations"][1] |= {"note": [1], "score": 0.5}
    load(save(source, content))
    second = coco(1, 1)
    second["images"][0]["file_name"] = "other.png"
    second["annotations"][0] |= {"id": 9, "checked": None}
    load(save(source.with_name("second.json"), second))
    commit = open_dataset("parts").commit.number
    assert load(source).commit == commit
    export_dataset("parts", tmp_path / "out", format="coco")
    written = json.loads((tmp_path / "out" / "annotations" / "instances.json").read_text())
    assert "annotation_fields" not in written
    expected = {each["id"]: each for each in [*content["annotations"], *second["annotations"]]}
    for each in written["annotations"]:
        known = expected.pop(each["id"])
        for key in ("note", "score", "checked", "attributes"):
            assert each.get(key, "none") == known.get(key, "none")
    assert not expected


def test_another_layer_does_not_touch_the_first(source: Path) -> None:
    load(source)
    first = annotated()
    assert load(source, "predictions/old").counts == {"annotations added": 12}
    content = coco()
    empty_all(content)
    save(source, content)
    assert load(source, "predictions/old").counts == {"annotations removed": 12}
    assert annotated() == first
    assert annotated("predictions/old") == {}


def test_predictions_are_imported_again(source: Path) -> None:
    load(source)
    truth = annotated()
    results = [
        {"image_id": image, "category_id": 1, "bbox": [float(box), 0.0, 9.0, 9.0], "score": 0.5 + box / 10}
        for image in (1, 2, 3)
        for box in range(2)
    ]
    file = save(source.parents[1] / "results.json", results)
    layer = "predictions/model"
    assert load(file, layer).counts == {"annotations added": 6}
    assert load(file, layer).counts == {}
    results[1]["score"] = 0.9
    del results[3]
    save(file, results)
    # A results file speaks of the images that it has annotations on: image 3, left out, keeps what it has.
    assert load(file, layer).counts == {"annotations changed": 1, "annotations removed": 1}
    save(file, [each for each in results if each["image_id"] != 3])
    assert load(file, layer).counts == {}
    assert sorted(row["score"] for row in annotated(layer).values()) == pytest.approx([0.5, 0.5, 0.5, 0.6, 0.9])
    assert annotated() == truth


def test_ids_used_twice_stay_apart(source: Path) -> None:
    content = coco()
    content["annotations"] += copy.deepcopy(content["annotations"][:2])
    save(source, content)
    assert load(source).counts["annotations added"] == 14
    assert load(source).counts == {}
    content["annotations"].pop()
    save(source, content)
    assert load(source).counts == {"annotations removed": 1}


def test_many_pieces(tmp_path: Path) -> None:
    """A file that is read in several pieces, and stored rows that are scanned in several batches."""
    content = coco(4000, 10)
    file = save(tmp_path / "annotations" / "all.json", content)
    load(file)
    assert load(file).counts == {}
    before = annotated()
    for each in content["annotations"][::1000]:
        each["area"] = 1.0
    del content["annotations"][1::2000]
    content["annotations"] += [{"id": 10**6 + n, "image_id": n + 1, "bbox": [1, 1, 2, 2]} for n in range(7)]
    save(file, content)
    assert load(file).counts == {"annotations added": 7, "annotations changed": 40, "annotations removed": 20}
    after = annotated()
    assert len(after) == 40_000 + 7 - 20
    assert sum(after[key] == row for key, row in before.items() if key in after) == 40_000 - 40 - 20


def test_moved_images_are_updated_and_keep_their_tags(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        write_images(root / "images")
        save(root / "annotations" / "all.json", coco())
    load(here)
    tagged = open_dataset("parts").table("images").slice(1, 2)
    place = tagged.schema.get_field_index("tags")
    tagged = tagged.set_column(place, "tags", pa.array([["night"], ["day", "rain"]], pa.list_(pa.string())))
    with begin("parts", command="tag") as transaction:
        transaction.upsert("images", tagged, "image_id")
    assert load(there).counts == {"images changed": 4}
    found = images()
    assert {row["path"] for row in found.values()} == {str(there / "images" / f"{n}.png") for n in range(4)}
    tags = [found[location]["tags"] for location in sorted(found)]
    assert tags == [None, ["night"], ["day", "rain"], None]
    assert load(there).counts == {}


def test_a_location_does_not_come_to_stand_for_another_image(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        write_images(root / "images")
        save(root / "annotations" / "all.json", coco())
    load(here)
    Image.new("RGB", (64, 48)).save(there / "images" / "2.png")
    with pytest.raises(InputError, match=r"already has another image at '.*2\.png'") as raised:
        load(there)
    assert raised.value.where == str(there / "images" / "2.png")
    assert open_dataset("parts").commit.number == 1
    # A file that is gone is no other image: its location is free to be found elsewhere.
    (here / "images" / "2.png").unlink()
    assert load(there).counts == {"images changed": 4}


def test_labels_without_the_images_leave_known_files_alone(tmp_path: Path) -> None:
    """As labels come back from a tool: a file of annotations, beside which no image lies."""
    write_images(tmp_path / "here" / "images")
    load(save(tmp_path / "here" / "annotations" / "all.json", coco()))
    before, content = images(), coco()
    content["annotations"][0]["category_id"] = 3 - content["annotations"][0]["category_id"]
    content["images"].append({"id": 99, "file_name": "new.png", "width": 64, "height": 48})
    found = load(save(tmp_path / "elsewhere" / "labels.json", content))
    after = images()
    assert after.pop("new.png")["path"] is None
    for location, row in before.items():
        assert row["path"] == str(tmp_path / "here" / "images" / location)
        for name in ("path", "content_hash", "width", "height"):
            assert after[location][name] == row[name], name
    assert found.counts["images added"] == 1


def test_images_that_are_gone_and_come_back(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    file = save(tmp_path / "annotations" / "all.json", coco())
    load(file)
    (tmp_path / "images" / "0.png").rename(tmp_path / "elsewhere")
    assert load(file).counts == {"images changed": 1}
    assert images()["0.png"]["path"] is None
    (tmp_path / "elsewhere").rename(tmp_path / "images" / "0.png")
    assert load(file).counts == {"images changed": 1}


@pytest.mark.parametrize("known", [False, True])
def test_strict_stops_where_something_is_lost_and_writes_nothing(source: Path, known: bool) -> None:
    """The loss is met while annotations are already being written; the error is still the reader's own."""
    content = coco(1500, 15)
    write_images(source.parents[1] / "images", 1500)
    if known:
        load(save(source, coco(4, 15)), strict=True)
    content["annotations"].append({"id": 10**6, "image_id": 10**6, "category_id": 1, "bbox": [1, 1, 2, 2]})
    save(source, content)
    with pytest.raises(FormatError, match="image_id is not among the images"):
        load(source, strict=True)
    if known:
        assert open_dataset("parts").commit.number == 1
        assert len(annotated()) == 60
        assert load(source).counts == {"images added": 1496, "annotations added": 22_500 - 60}
    else:
        with pytest.raises(DatasetNotFound):
            open_dataset("parts")


def csv(path: Path, rows: list[tuple[object, ...]], header: str = "image,label") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_csv_labels(tmp_path: Path) -> None:
    write_images(tmp_path)
    file = csv(tmp_path / "labels.csv", [("0.png", "cat"), ("1.png", "dog"), ("2.png", "cat"), ("3.png", "dog")])
    assert load(file).counts == {"images added": 4, "classes added": 2, "annotations added": 4}
    assert load(file).counts == {}
    before = annotated()
    csv(file, [("3.png", "dog"), ("1.png", "cat"), ("0.png", "cat"), ("2.png", "")])
    assert load(file).counts == {"annotations changed": 1, "annotations removed": 1}
    after = annotated()
    assert after.keys() < before.keys()
    assert sorted(row["label"] for row in after.values()) == ["cat", "cat", "dog"]


def test_a_second_csv_on_the_same_images_leaves_ids_unique(tmp_path: Path) -> None:
    """CSV has no ids: an image's first label has the same id in every file, so the newest file's word stands."""
    write_images(tmp_path)
    load(csv(tmp_path / "a.csv", [("0.png", "cat"), ("1.png", "dog")]))
    result = load(csv(tmp_path / "b.csv", [("1.png", "cat"), ("2.png", "cat")]))
    assert (result.counts["annotations added"], result.counts["annotations changed"]) == (1, 1)
    assert result.kept == {}
    assert sorted((row["source"], row["label"]) for row in annotated().values()) == [
        ("a.csv", "cat"),
        ("b.csv", "cat"),
        ("b.csv", "cat"),
    ]


def test_voc_again(tmp_path: Path) -> None:
    write_images(tmp_path / "JPEGImages", 2)
    folder = tmp_path / "Annotations"
    folder.mkdir()

    def write(number: int, *names: str) -> None:
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{5 + place}</xmin><ymin>5</ymin><xmax>30</xmax><ymax>30</ymax>"
            "</bndbox></object>"
            for place, name in enumerate(names)
        )
        size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
        text = f"<annotation><filename>{number}.png</filename>{size}{objects}</annotation>"
        (folder / f"{number}.xml").write_text(text, encoding="utf-8")

    write(0, "bolt", "nut")
    write(1, "bolt")
    assert load(tmp_path).counts["annotations added"] == 3
    assert load(tmp_path).counts == {}
    write(0, "bolt")
    write(1, "nut", "nut")
    assert load(tmp_path).counts == {"annotations added": 1, "annotations changed": 1, "annotations removed": 1}
