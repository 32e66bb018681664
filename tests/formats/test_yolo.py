"""YOLO: real exports, the layouts, what nine columns mean, malformed files, and round trips of every variant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from format_cases import CLASSES, Case, by_location, cases, make_export, read, reasons, write_image, written
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from curate.errors import FormatError, UsageError
from curate.formats.base import ClassInfo, Export, ReadOptions, WriteOptions
from curate.formats.locations import strip_layout
from curate.formats.losses import LossReport
from curate.formats.yolo import FORMAT
from curate.geometry import rotated_box_corners

PIXELS = 1e-6
"""What a round trip may change."""


def dataset(root: Path, labels: dict[str, str], data: dict[str, Any] | None = None) -> Path:
    """images/NAME.png of 100 x 50 pixels and labels/NAME.txt, with a data.yaml."""
    for name, text in labels.items():
        write_image(root / "images" / f"{name}.png", (100, 50))
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{name}.txt").write_text(text, encoding="utf-8")
    if data is not None:
        (root / "data.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return root


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("folder", "images", "annotations", "classes", "splits"),
    [
        ("same_images_ten_formats/yolo", 4, 25, 8, {None}),
        ("same_images_ten_formats/yolo1.1", 4, 18, 8, {"train"}),
        ("datumaro/yolo_dataset/strict", 1, 2, 10, {"train"}),
        ("datumaro/yolo_dataset/labels", 2, 4, 10, {"train", "val"}),
        ("datumaro/yolo_dataset/annotations", 1, 2, 10, {None}),
        ("datumaro/roboflow_dataset/yolo", 3, 4, 2, {"train", "val"}),
        ("label_studio/test_import_yolo_data", 7, 25, 4, {None}),
        ("label_studio/test_import_yolo_data_unif_dims", 5, 19, 4, {None}),
    ],
)
def test_real_exports(
    shared_data: Path, folder: str, images: int, annotations: int, classes: int, splits: set[str | None]
) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats" / folder)
    assert (records.images.num_rows, table.num_rows, len(records.classes)) == (images, annotations, classes)
    assert set(records.images["split"].to_pylist()) == splits
    assert set(table["type"].to_pylist()) == {"box"}
    assert losses.losses == []


def test_real_boxes_are_the_annotators_pixels(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/same_images_ten_formats/yolo")
    birds = by_location(records, table)["birds.jpg"]
    assert birds[0]["bbox"] == pytest.approx([207, 38, 303, 603], abs=1e-3)
    assert [bird["label"] for bird in birds] == ["bird", "bird"]


def test_dota_lines_are_another_formats(shared_data: Path) -> None:
    folder = shared_data / "formats/datumaro/roboflow_dataset/yolo_obb"
    assert FORMAT.detect(folder) is None
    with pytest.raises(FormatError, match="--format dota"):
        read(FORMAT, folder)


def test_a_dota_line_among_others_is_dropped_and_named(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": "0 .5 .5 .2 .2\n1 1 9 1 9 9 1 9 plane 0\n0 .1 .1 .5 .1 .5 .5 .1 nan"}, {"names": ["x"]})
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert {(loss.reason, loss.places[0]) for loss in losses.losses} == {
        ("pixels and a class name, as DOTA has them: import with --format dota", "labels/a.txt:2"),
        ("malformed line", "labels/a.txt:3"),
    }


def test_real_labels_without_names_are_named_by_number(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats/datumaro/kaggle_dataset/relaxed_yolo")
    assert table.num_rows == 4
    assert [info.name for info in records.classes] == ["1", "2", "3", "4"]
    assert [info.source_id for info in records.classes] == [1, 2, 3, 4]
    assert reasons(losses) == {"no class names were found; each is named by its number"}


# --------------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("names", [["no", "07"], {0: "no", 1: "07"}, {"0": "no", "1": "07"}])
def test_names_as_list_or_dictionary_stay_text(tmp_path: Path, names: object) -> None:
    dataset(tmp_path, {"a": "1 .5 .5 .2 .2"})
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"names": names}).replace("'", ""))
    records, table, _ = read(FORMAT, tmp_path)
    assert [info.name for info in records.classes] == ["no", "07"]
    assert table["label"].to_pylist() == ["07"]


def test_missing_and_empty_label_files_are_background_images(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": "0 .5 .5 .2 .2", "empty": "\n\n"}, {"names": ["x"]})
    write_image(tmp_path / "images/none.png", (9, 9))
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["images/a.png", "images/empty.png", "images/none.png"]
    assert records.images["metadata"].to_pylist() == [None, None, '{"yolo":{"label_file":false}}']
    assert table.num_rows == 1
    assert losses.losses == []
    predictions, _, _ = read(FORMAT, tmp_path, ReadOptions(layer="predictions/m"))
    assert predictions.images["metadata"].null_count == 3
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(Export(records.images, table, records.classes, {}), target, WriteOptions("copy"), losses)
    assert sorted(path.name for path in (target / "labels").iterdir()) == ["a.txt", "empty.txt"]
    assert losses.losses == []


def test_splits_as_folder_folders_and_list(tmp_path: Path) -> None:
    for name in ("one/a", "two/b", "three/c", "four/d"):
        write_image(tmp_path / f"images/{name}.png", (10, 10))
    (tmp_path / "test.txt").write_text("./images/four/d.png\n/elsewhere/images/gone.png\n")
    data = {
        "path": ".",
        "train": ["images/one", "images/two"],
        "val": "images/three",
        "test": "test.txt",
        "names": ["x"],
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    records, _, losses = read(FORMAT, tmp_path / "data.yaml")
    splits = dict(zip(records.images["location"].to_pylist(), records.images["split"].to_pylist(), strict=True))
    assert splits == {
        "images/one/a.png": "train",
        "images/two/b.png": "train",
        "images/three/c.png": "val",
        "images/four/d.png": "test",
        "elsewhere/images/gone.png": "test",
    }
    assert reasons(losses) == {"listed, but not there; kept without a file"}


def test_data_yaml_beside_the_images_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "store/images/train/a.png", (10, 10))
    (tmp_path / "store/labels/train").mkdir(parents=True)
    (tmp_path / "store/labels/train/a.txt").write_text("0 .5 .5 1 1")
    config = tmp_path / "config"
    config.mkdir()
    (config / "data.yaml").write_text("path: ../store\ntrain: images/train\nnames: [x]\n")
    records, table, losses = read(FORMAT, config)
    assert records.images["location"].to_pylist() == ["store/images/train/a.png"]
    assert records.images["split"].to_pylist() == ["train"]
    assert table["bbox"].to_pylist() == [[0, 0, 10, 10]]
    assert losses.losses == []


def test_lists_name_images_anywhere(tmp_path: Path) -> None:
    write_image(tmp_path / "store/a.png", (10, 10))
    write_image(tmp_path / "store/unlisted.png", (10, 10))
    (tmp_path / "store/a.txt").write_text("0 .5 .5 1 1")
    set_folder = tmp_path / "set"
    set_folder.mkdir()
    (set_folder / "train.txt").write_text(f"{tmp_path}/store/a.png\n")
    (set_folder / "obj.data").write_text(
        "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    (set_folder / "obj.names").write_text("x\n")
    records, table, losses = read(FORMAT, set_folder)
    assert records.images["location"].to_pylist() == ["store/a.png"]
    assert (records.images["split"].to_pylist(), table["label"].to_pylist()) == (["train"], ["x"])
    assert losses.losses == []


@pytest.mark.parametrize("entry", ["/", "..", "../.."])
def test_a_folder_above_the_dataset_is_no_split(tmp_path: Path, entry: str) -> None:
    write_image(tmp_path / "other.png", (10, 10))
    dataset(tmp_path / "set", {"a": ""}, {"names": ["x"], "train": entry, "val": "images"})
    records, _, losses = read(FORMAT, tmp_path / "set")
    assert records.images["location"].to_pylist() == ["images/a.png"]
    assert reasons(losses) == {"a folder or list that is not there"}


def test_images_in_another_folder(tmp_path: Path) -> None:
    dataset(tmp_path / "in", {"a": ""})
    labels = tmp_path / "out"
    (labels / "labels").mkdir(parents=True)
    (labels / "labels/a.txt").write_text("0 .5 .5 .2 .2")
    (labels / "labels/z.txt").write_text("0 .5 .5 .2 .2\n1 .5 .5 .2 .2")
    (labels / "classes.txt").write_text("x\ny\n")
    with pytest.raises(FormatError, match="--images"):
        read(FORMAT, labels)
    records, table, losses = read(FORMAT, labels, ReadOptions(images=tmp_path / "in/images"))
    assert records.images["location"].to_pylist() == ["a.png"]
    assert table["label"].to_pylist() == ["x"]
    assert [(loss.reason, loss.count) for loss in losses.losses] == [("the label file has no image", 2)]


def test_coordinates_are_of_the_oriented_image(tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg", (100, 50), orientation=6)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .2 .1")
    records, table, _ = read(FORMAT, tmp_path)
    assert (records.images["width"][0].as_py(), records.images["height"][0].as_py()) == (50, 100)
    assert table["bbox"][0].as_py() == pytest.approx([20, 45, 10, 10])


# ----------------------------------------------------------------------------------------------------------------- lines


def test_malformed_lines_are_dropped_with_their_place(tmp_path: Path) -> None:
    text = (
        "0 .5 .5 .2 .2\n0 .5 .5 .2\nx .5 .5 .2 .2\n0 nan .5 .2 .2\n0.5 .5 .5 .2 .2\n-1 .5 .5 .2 .2\n\n7 .5 .5 .1 .1\r\n"
    )
    dataset(tmp_path, {"a": text}, {"names": ["x"]})
    records, table, losses = read(FORMAT, tmp_path)
    assert table["label"].to_pylist() == ["x", "7"]
    assert [info.name for info in records.classes] == ["x", "7"]
    malformed = next(loss for loss in losses.losses if loss.reason == "malformed line")
    assert malformed.count == 5
    assert malformed.places[0] == "labels/a.txt:2"


def test_a_confidence_is_kept_in_a_predictions_layer_only(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": "0 .5 .5 .2 .2 .75"}, {"names": ["x"]})
    _, predictions, losses = read(FORMAT, tmp_path, ReadOptions(layer="predictions/m"))
    assert predictions["score"].to_pylist() == [0.75]
    assert losses.losses == []
    _, truth, losses = read(FORMAT, tmp_path)
    assert truth["score"].to_pylist() == [None]
    assert [(loss.what, loss.count) for loss in losses.losses] == [("scores", 1)]


QUAD = "0 .1 .1 .5 .1 .5 .5 .1 .5"
KITE = "0 .1 .2 .5 .1 .9 .5 .1 .9"


def test_nine_columns_with_other_polygons_are_polygons(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": f"{QUAD}\n0 .1 .1 .5 .1 .3 .9"}, {"names": ["x"]})
    _, table, losses = read(FORMAT, tmp_path)
    assert table["type"].to_pylist() == ["polygon", "polygon"]
    assert table["polygons"][0].as_py()[0] == pytest.approx([10, 5, 50, 5, 50, 25, 10, 25])
    assert table["bbox"][1].as_py() == pytest.approx([10, 5, 40, 40])
    assert losses.losses == []


def test_nine_columns_that_are_rectangles_are_oriented_boxes_and_reported(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": QUAD}, {"names": ["x"]})
    _, table, losses = read(FORMAT, tmp_path)
    assert table["rotated_box"][0].as_py() == pytest.approx([30, 15, 40, 20, 0])
    assert reasons(losses) == {"nine columns read as oriented boxes, since all are rectangles"}


def test_nine_columns_that_may_be_either_are_an_error_that_asks(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": f"{QUAD}\n{KITE}"}, {"names": ["x"]})
    with pytest.raises(FormatError, match=r"--variant obb or --variant segment.*task: obb"):
        read(FORMAT, tmp_path)


@pytest.mark.parametrize(
    ("variant", "types"),
    [("obb", ["rotated_box", "polygon", "polygon"]), ("segment", ["polygon"] * 3), ("detect", [])],
)
def test_the_user_may_say_what_lines_are(tmp_path: Path, variant: str, types: list[str]) -> None:
    dataset(tmp_path, {"a": f"{QUAD}\n{KITE}\n0 .1 .1 .5 .1 .3 .9"}, {"names": ["x"], "task": "segment"})
    _, table, losses = read(FORMAT, tmp_path, ReadOptions(variant=variant))
    assert table["type"].to_pylist() == types
    expected = {
        "obb": {"corners that are no rectangle: a polygon, with a rotated box round it": 1},
        "segment": {},
        "detect": {"9 columns do not fit YOLO detect": 2, "7 columns do not fit YOLO detect": 1},
    }
    assert {loss.reason: loss.count for loss in losses.losses} == expected[variant]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".1 .2 2 .3 .4 0", [10, 10, 2, 30, 20, 0]),
        (".1 .2 .3 .4 .5 .6", [10, 10, 2, 30, 20, 2, 50, 30, 2]),
        (".1 .2 .3 .4", [10, 10, 2, 30, 20, 2]),
        (".1 .2 1", [10, 10, 1]),
    ],
)
def test_poses_without_a_data_yaml(tmp_path: Path, text: str, expected: list[float]) -> None:
    dataset(tmp_path, {"a": f"0 .5 .5 .2 .2 {text}"})
    _, table, _ = read(FORMAT, tmp_path, ReadOptions(variant="pose"))
    assert table["type"].to_pylist() == ["keypoints"]
    assert table["keypoints"][0].as_py() == pytest.approx(expected)


def test_poses_of_several_lengths_ask_for_their_shape(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": "0 .5 .5 .2 .2 .1 .2 2\n0 .5 .5 .2 .2 .1 .2 2 .1 .2 2"})
    with pytest.raises(FormatError, match="kpt_shape"):
        read(FORMAT, tmp_path, ReadOptions(variant="pose"))
    dataset(tmp_path / "boxes", {"a": "0 .5 .5 .2 .2"})
    assert read(FORMAT, tmp_path / "boxes", ReadOptions(variant="pose"))[1]["type"].to_pylist() == ["box"]


def test_classify_is_a_folder_of_images_for_each_class(tmp_path: Path) -> None:
    label = {"type": "label", "label": "bolt"}
    target, _ = write(
        [Case("a.png", (8, 8), "train", [label]), Case("b.png", (8, 8), "val", [label])], tmp_path, "classify"
    )
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
    assert files == ["train/bolt/a.png", "val/bolt/b.png"]
    records, table, _ = read(FORMAT, target, ReadOptions(variant="classify"))
    assert table["label"].to_pylist() == ["bolt", "bolt"]
    assert records.images["split"].to_pylist() == ["train", "val"]


@pytest.mark.parametrize(("task", "kind"), [("obb", "rotated_box"), ("segment", "polygon")])
def test_data_yaml_may_say_what_nine_columns_are(tmp_path: Path, task: str, kind: str) -> None:
    dataset(tmp_path, {"a": f"{QUAD}\n{KITE}"}, {"names": ["x"], "task": task})
    _, table, _ = read(FORMAT, tmp_path)
    assert table["type"].to_pylist() == [kind, "polygon"]


def test_corners_that_are_no_rectangle_are_kept_beside_the_rotated_box(tmp_path: Path) -> None:
    dataset(tmp_path / "a", {"a": f"{QUAD}\n{KITE}"}, {"names": ["x"], "task": "obb"})
    records, table, losses = read(FORMAT, tmp_path / "a")
    assert table["polygons"][1].as_py()[0] == pytest.approx([10, 10, 50, 5, 90, 25, 10, 45])
    assert table["rotated_box"].null_count == 0
    assert [(loss.outcome, loss.count, loss.places) for loss in losses.losses] == [("converted", 1, ["labels/a.txt:2"])]
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(Export(records.images, table, records.classes, {}), target, WriteOptions("copy"), losses)
    assert losses.losses == []
    assert read(FORMAT, target)[1]["polygons"].to_pylist() == table["polygons"].to_pylist()


@pytest.mark.parametrize(("numbers", "text"), [(2, ".1 .2 0 0"), (3, ".1 .2 2 0 0 0")])
def test_keypoints(tmp_path: Path, numbers: int, text: str) -> None:
    dataset(tmp_path, {"a": f"0 .5 .5 .2 .2 {text}"}, {"names": ["x"], "kpt_shape": [2, numbers]})
    _, table, _ = read(FORMAT, tmp_path)
    assert table["type"].to_pylist() == ["keypoints"]
    assert table["keypoints"][0].as_py() == pytest.approx([10, 10, 2, 0, 0, 0])
    assert table["bbox"][0].as_py() == pytest.approx([40, 20, 20, 10])


def test_an_unreadable_image_keeps_its_row_and_loses_its_boxes(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": "0 .5 .5 .2 .2"}, {"names": ["x"]})
    (tmp_path / "images/a.png").write_bytes(b"no image")
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images["width"].to_pylist() == [None]
    assert table.num_rows == 0
    assert reasons(losses) == {"cannot be read; kept without a size", "the image's size is not known"}


def test_equal_names_stay_two_classes(tmp_path: Path) -> None:
    dataset(tmp_path, {"a": "0 .5 .5 .2 .2\n1 .5 .5 .2 .2"}, {"names": ["x", "x"]})
    _, table, losses = read(FORMAT, tmp_path)
    assert table["label"].to_pylist() == ["x", "x_1"]
    assert len(losses.losses) == 1


@pytest.mark.parametrize("text", ["names: [x", "names: 3", "- a\nnames: b", "names: [x]\nkpt_shape: [17, 9]"])
def test_a_broken_data_yaml_is_one_clear_error(tmp_path: Path, text: str) -> None:
    dataset(tmp_path, {"a": ""})
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(FormatError) as caught:
        read(FORMAT, tmp_path)
    assert "data.yaml" in str(caught.value)
    assert caught.value.remedy


def test_ids_stay_when_a_line_above_goes(tmp_path: Path) -> None:
    first = read(FORMAT, dataset(tmp_path, {"a": "0 .5 .5 .2 .2\n0 .4 .4 .2 .2"}))[1]["annotation_id"].to_pylist()
    second = read(FORMAT, dataset(tmp_path, {"a": "broken\n0 .4 .4 .2 .2"}))[1]["annotation_id"].to_pylist()
    assert second == first[1:]


# ----------------------------------------------------------------------------------------------------------- round trips


def rotated_annotations(size: tuple[int, int]) -> st.SearchStrategy[dict[str, Any]]:
    # In the middle, so that it is within the image however it is turned.
    part = st.floats(0.01, 0.3).map(lambda part: part * min(size))
    centre = st.floats(0.4, 0.6)
    rotated = st.builds(
        lambda x, y, width, height, angle: [x * size[0], y * size[1], width, height, angle],
        *(centre, centre, part, part, st.floats(-180, 180)),
    )
    return st.builds(
        lambda label, box: {"type": "rotated_box", "label": label, "rotated_box": box, "bbox": [0.0, 0.0, 1.0, 1.0]},
        st.sampled_from(CLASSES),
        rotated,
    )


def polygon_annotations(size: tuple[int, int]) -> st.SearchStrategy[dict[str, Any]]:
    point = st.tuples(st.floats(0, size[0]), st.floats(0, size[1]))
    points = st.lists(point, min_size=5, max_size=9).map(lambda pairs: [value for pair in pairs for value in pair])
    return st.builds(
        lambda label, part: {"type": "polygon", "label": label, "polygons": [part], "bbox": [0.0, 0.0, 1.0, 1.0]},
        st.sampled_from(CLASSES),
        points,
    )


def assert_same_files(found: list[Case], target: Path) -> dict[str, list[dict[str, Any]]]:
    """Read a folder back; images, sizes, splits and classes must be those written."""
    records, table, losses = read(FORMAT, target)
    assert losses.losses == []
    assert [info.name for info in records.classes] == CLASSES
    images = records.images.to_pylist()
    back = {strip_layout(row["location"], row["split"]): row for row in images}
    assert {case.location: (case.split, *case.size) for case in found} == {
        name: (row["split"], row["width"], row["height"]) for name, row in back.items()
    }
    every = by_location(records, table)
    return {name: every[row["location"]] for name, row in back.items()}


@settings(deadline=None, max_examples=25)
@given(cases())
def test_detect_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="link", variant="detect")) as (target, losses):
        assert losses.losses == []
        back = assert_same_files(found, target)
        for case in found:
            assert [row["label"] for row in back[case.location]] == [row["label"] for row in case.annotations]
            for given_row, row in zip(case.annotations, back[case.location], strict=True):
                assert row["bbox"] == pytest.approx(given_row["bbox"], abs=PIXELS)


@settings(deadline=None, max_examples=25)
@given(cases(polygon_annotations))
def test_segment_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy", variant="segment")) as (target, losses):
        assert losses.losses == []
        back = assert_same_files(found, target)
        for case in found:
            for given_row, row in zip(case.annotations, back[case.location], strict=True):
                assert (row["type"], row["label"]) == ("polygon", given_row["label"])
                assert row["polygons"][0] == pytest.approx(given_row["polygons"][0], abs=PIXELS)


@settings(deadline=None, max_examples=25)
@given(cases(rotated_annotations))
def test_obb_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy", variant="obb")) as (target, losses):
        assert losses.losses == []
        back = assert_same_files(found, target)
        for case in found:
            for given_row, row in zip(case.annotations, back[case.location], strict=True):
                assert (row["type"], row["label"]) == ("rotated_box", given_row["label"])
                np.testing.assert_allclose(
                    rotated_box_corners([row["rotated_box"]]),
                    rotated_box_corners([given_row["rotated_box"]]),
                    atol=PIXELS,
                )


def write(found: list[Case], tmp_path: Path, variant: str | None = None) -> tuple[Path, LossReport]:
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(make_export(tmp_path / "in", found), target, WriteOptions("copy", variant), losses)
    return target, losses


BOX = {"type": "box", "label": "bolt", "bbox": [1.0, 2.0, 3.0, 4.0]}


def test_written_files_are_ultralytics_layout(tmp_path: Path) -> None:
    target, _ = write([Case("deep/a.png", (8, 16), "train", [BOX]), Case("b.png", (8, 8), "val", [])], tmp_path)
    files = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert files == [
        "data.yaml",
        "images/train/deep/a.png",
        "images/val/b.png",
        "labels/train/deep/a.txt",
        "labels/val/b.txt",
    ]
    assert (target / "labels/train/deep/a.txt").read_text() == "0 0.3125 0.25 0.375 0.25\n"
    assert (target / "labels/val/b.txt").read_text() == ""
    data = yaml.safe_load((target / "data.yaml").read_text(encoding="utf-8"))
    assert data["names"] == dict(enumerate(CLASSES))
    assert (data["train"], data["val"], data["task"]) == ("images/train", "images/val", "detect")


def test_without_splits_the_dataset_stays_unsplit(tmp_path: Path) -> None:
    target, losses = write([Case("a.png", (8, 8), None, [BOX])], tmp_path)
    records, _, _ = read(FORMAT, target)
    assert (target / "images/a.png").is_file()
    assert records.images["split"].to_pylist() == [None]
    assert losses.losses == []


def test_names_that_clash_are_kept_apart(tmp_path: Path) -> None:
    found = [Case(name, (8, 8), None, [BOX]) for name in ("a.png", "images/a.png", "A.png", "a.bmp")]
    target, losses = write(found, tmp_path)
    records, table, _ = read(FORMAT, target)
    assert records.images.num_rows == table.num_rows == 4
    assert losses.losses[0].count == 3


def test_what_yolo_cannot_say_is_reported(tmp_path: Path) -> None:
    row = {**BOX, "attributes": '{"occluded": true}', "iscrowd": True, "score": 0.5, "source_id": "7"}
    label = {"type": "label", "label": "bolt"}
    _, losses = write([Case("a.png", (8, 8), None, [row, label])], tmp_path)
    assert {loss.what: loss.count for loss in losses.losses} == {
        "attributes": 1, "crowd flags": 1, "scores": 1, "annotation ids": 1, "annotations": 1,
    }  # fmt: skip
    assert losses.carried_counts["annotations"] == 1


def test_masks_become_outlines_and_holes_are_reported(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:30, 10:50] = 1
    mask[15:25, 20:30] = 0
    rle = coco_mask.encode(np.asfortranarray(mask))
    row = {
        "type": "mask", "label": "bolt", "bbox": [10.0, 10.0, 40.0, 20.0],
        "rle": rle["counts"].decode(), "rle_size": [40, 60],
    }  # fmt: skip
    target, losses = write([Case("a.png", (60, 40), None, [row])], tmp_path)
    assert {loss.what for loss in losses.losses} == {"masks", "holes in masks"}
    _, table, _ = read(FORMAT, target)
    assert table["bbox"][0].as_py() == pytest.approx([10, 10, 40, 20], abs=0.5)


def test_several_parts_are_joined_without_changing_the_area(tmp_path: Path) -> None:
    parts = [[1.0, 1.0, 11.0, 1.0, 11.0, 11.0, 1.0, 11.0], [30.0, 30.0, 40.0, 30.0, 40.0, 40.0, 30.0, 40.0]]
    row = {"type": "polygon", "label": "bolt", "bbox": [1.0, 1.0, 39.0, 39.0], "polygons": parts}
    target, losses = write([Case("a.png", (60, 40), None, [row, BOX])], tmp_path)
    assert reasons(losses) == {"several parts, joined by bridges of no width", "written as a polygon of four points"}
    _, table, _ = read(FORMAT, target)
    points = np.reshape(table["polygons"][0].as_py()[0], (-1, 2))
    x, y = points.T
    assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == pytest.approx(200)
    assert table["polygons"][1].as_py()[0] == pytest.approx([1, 2, 4, 2, 4, 6, 1, 6])


def test_pose_round_trip(tmp_path: Path) -> None:
    row = {**BOX, "type": "keypoints", "keypoints": [1.0, 2.0, 2.0, 0.0, 0.0, 0.0, 3.0, 5.0, 1.0]}
    target, losses = write([Case("a.png", (8, 8), "train", [row])], tmp_path)
    _, table, _ = read(FORMAT, target)
    assert losses.losses == []
    assert table["keypoints"][0].as_py() == pytest.approx(row["keypoints"])
    assert table["bbox"][0].as_py() == pytest.approx(BOX["bbox"])


PERSON = {**BOX, "type": "keypoints", "keypoints": [1.0, 2.0, 2.0, 3.0, 4.0, 1.0]}
POLYGON = {**BOX, "type": "polygon", "polygons": [[1.0, 2.0, 4.0, 2.0, 4.0, 6.0]]}
MASK = {**BOX, "type": "mask", "rle_size": [8, 8]}
LINE = {**BOX, "type": "polyline", "polygons": [[1.0, 2.0, 4.0, 2.0, 4.0, 6.0]]}
TURNED = {**BOX, "type": "rotated_box", "rotated_box": [4.0, 4.0, 2.0, 2.0, 30.0]}


@pytest.mark.parametrize(
    ("variant", "converted"),
    [
        ("detect", {"keypoints", "polygons", "masks", "polylines", "rotated boxes"}),
        ("pose", {"polygons", "masks", "polylines", "rotated boxes"}),
        ("obb", {"keypoints", "polygons", "masks", "polylines"}),
        ("segment", {"keypoints", "polylines"}),
        (None, {"keypoints", "polylines"}),
    ],
)
def test_geometry_that_a_variant_cannot_say_is_reported(
    tmp_path: Path, variant: str | None, converted: set[str]
) -> None:
    mask = coco_mask.encode(np.asfortranarray(np.eye(8, dtype=np.uint8)))
    drawn = {**MASK, "rle": mask["counts"].decode()}
    rows = [PERSON, POLYGON, drawn, LINE, TURNED]
    found = [Case(f"{number}.png", (8, 8), None, [row]) for number, row in enumerate(rows)]
    target, losses = write(found, tmp_path, variant)
    told = {loss.what: loss for loss in losses.losses if loss.reason.startswith("only the box is written")}
    assert set(told) == converted
    assert {loss.outcome for loss in told.values()} == {"converted"}
    assert told["polylines"].places == ["3.png"]
    assert losses.carried_counts["annotations"] == 5 == read(FORMAT, target)[1].num_rows


def test_geometry_beside_what_is_written_is_dropped_and_reported(tmp_path: Path) -> None:
    both = {**PERSON, "polygons": POLYGON["polygons"]}
    _, losses = write([Case("a.png", (8, 8), None, [both])], tmp_path, "pose")
    assert [(loss.outcome, loss.what, loss.places) for loss in losses.losses] == [("dropped", "polygons", ["a.png"])]


def test_boxes_among_poses_get_keypoints_that_are_not_labelled(tmp_path: Path) -> None:
    target, losses = write([Case("a.png", (8, 8), None, [PERSON, BOX])], tmp_path)
    assert [(loss.outcome, loss.what, loss.count) for loss in losses.losses] == [("converted", "boxes", 1)]
    assert read(FORMAT, target)[1]["keypoints"].to_pylist()[1] == [0.0] * 6


@pytest.mark.parametrize("variant", ["detect", "segment", "pose"])
def test_what_reaches_outside_the_image_is_cut(tmp_path: Path, variant: str) -> None:
    polygon = {"type": "polygon", "label": "bolt", "polygons": [[-4.0, 2.0, 4.0, 2.0, 4.0, 6.0, -4.0, 6.0]]}
    far = [
        {**polygon, "bbox": [-4.0, 2.0, 8.0, 4.0]},
        {**BOX, "bbox": [6.0, 6.0, 9.0, 9.0]},
        {**BOX, "bbox": [8.0, 0.0, 3.0, 3.0]},
        {**BOX, "bbox": [-9.0, 0.0, 3.0, 3.0]},
        BOX,
    ]
    target, losses = write([Case("a.png", (8, 8), None, far)], tmp_path, variant)
    counts = {(loss.outcome, loss.reason): loss.count for loss in losses.losses}
    assert counts["dropped", "outside the image"] == 2
    assert counts["converted", "reaching outside the image: cut at its edge"] == 2
    assert losses.carried_counts["annotations"] == 3
    _, table, _ = read(FORMAT, target)
    for box, expected in zip(table["bbox"].to_pylist(), ([0, 2, 4, 4], [6, 6, 2, 2], BOX["bbox"]), strict=True):
        assert box == pytest.approx(expected)


def test_a_slanted_edge_is_cut_where_it_leaves_the_image(tmp_path: Path) -> None:
    row = {
        "type": "polygon",
        "label": "bolt",
        "bbox": [2.0, -4.0, 8.0, 8.0],
        "polygons": [[2.0, -4.0, 10.0, 4.0, 2.0, 4.0]],
    }
    target, _ = write([Case("a.png", (8, 8), None, [row])], tmp_path)
    points = np.reshape(read(FORMAT, target)[1]["polygons"].to_pylist()[0][0], (-1, 2)).tolist()
    assert sorted(map(tuple, points)) == [(2, 0), (2, 4), (6, 0), (8, 2), (8, 4)]


def test_oriented_boxes_that_ultralytics_would_refuse_are_moved_to_the_edge(tmp_path: Path) -> None:
    rows = [{**TURNED, "rotated_box": [x, 4.0, 6.0, 2.0, 0.0]} for x in (7.0, 9.0, 20.0)]
    target, losses = write([Case("a.png", (8, 8), None, rows)], tmp_path, "obb")
    assert [(loss.outcome, loss.what, loss.count) for loss in losses.losses] == [
        ("dropped", "annotations", 1),
        ("converted", "rotated boxes", 1),
    ]
    assert [box[:4] for box in read(FORMAT, target)[1]["rotated_box"].to_pylist()] == [
        pytest.approx([7, 4, 6, 2]),
        pytest.approx([7, 4, 2, 2]),
    ]


def test_a_negative_box_and_keypoints_outside_are_dropped(tmp_path: Path) -> None:
    rows = [{**PERSON, "bbox": [5.0, 5.0, -2.0, 1.0]}, {**PERSON, "keypoints": [1.0, 2.0, 2.0, 9.0, 4.0, 2.0]}]
    target, losses = write([Case("a.png", (8, 8), None, rows)], tmp_path)
    assert {(loss.what, loss.count) for loss in losses.losses} == {("annotations", 1), ("single keypoints", 1)}
    assert read(FORMAT, target)[1]["keypoints"].to_pylist() == [pytest.approx([1, 2, 2, 0, 0, 0])]


def test_details_of_classes_and_areas_are_reported(tmp_path: Path) -> None:
    export = make_export(tmp_path / "in", [Case("a.png", (8, 8), None, [{**BOX, "area": 7.5}])])
    info = ClassInfo("bolt", supercategory="part", keypoints=("head", "tip"), skeleton=((1, 2),), color="#ff0000")
    losses = LossReport()
    FORMAT.write(replace(export, classes=[info]), tmp_path, WriteOptions(), losses)
    assert {(loss.what, *loss.places) for loss in losses.losses} == {
        ("supercategories", "bolt"), ("names of keypoints", "bolt"), ("skeletons", "bolt"), ("colors of classes", "bolt"),
        ("areas", "a.png"),
    }  # fmt: skip


def test_places_are_the_first_five_images(tmp_path: Path) -> None:
    row = {**BOX, "attributes": '{"a": 1}'}
    found = [Case(f"{number}.png", (8, 8), None, [row, row]) for number in range(7)]
    _, losses = write(found, tmp_path)
    assert [(loss.what, loss.count) for loss in losses.losses] == [("attributes", 14)]
    assert losses.losses[0].places == ["0.png", "1.png", "2.png", "3.png", "4.png"]


def test_an_unknown_variant_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="segment"):
        write([], tmp_path, "panoptic")
    with pytest.raises(UsageError, match="segment"):
        read(FORMAT, dataset(tmp_path / "x", {"a": ""}), ReadOptions(variant="panoptic"))
