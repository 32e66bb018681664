"""CSV: real files, the columns and separators that are understood, bad rows, absent images, and round trips."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import (
    CLASSES,
    Case,
    box_annotations,
    by_location,
    cases,
    make_export,
    read,
    reasons,
    write_image,
    written,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.errors import FormatError, UsageError
from curate.formats.base import ClassInfo, ReadOptions, WriteOptions
from curate.formats.csv import FORMAT
from curate.formats.losses import LossReport

PIXELS = 1.5e-6
"""What a round trip may change: corners are written with six decimals."""

BOX_HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


def file(root: Path, text: str, *, images: tuple[str, ...] = ("a.png",), name: str = "labels.csv") -> Path:
    for image in images:
        write_image(root / image, (100, 50))
    (root / name).write_text(text, encoding="utf-8")
    return root / name


# ------------------------------------------------------------------------------------------------------------ real files


def test_roboflows_classes(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats/datumaro/roboflow_dataset/multiclass")
    labels = {name: [row["label"] for row in rows] for name, rows in by_location(records, table).items()}
    assert labels == {
        "train/train_001.jpg": ["label_0"],
        "train/train_002.jpg": ["label_1"],
        "val/val_001.jpg": ["label_0", "label_1"],
    }
    assert records.images["split"].to_pylist() == ["train", "train", "val"]
    assert losses.losses == []


def test_raccoon(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "detection/raccoon/data/raccoon_labels.csv")
    assert (records.images.num_rows, table.num_rows) == (200, 217)
    assert None not in records.images["path"].to_pylist()
    assert by_location(records, table)["raccoon-1.jpg"][0]["bbox"] == [81, 88, 441, 320]
    assert [info.name for info in records.classes] == ["raccoon"]
    assert losses.losses == []


def test_raccoon_folder_takes_each_box_once_with_its_split(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "detection/raccoon/data")
    assert (records.images.num_rows, table.num_rows) == (200, 217)
    assert Counter(records.images["split"].to_pylist()) == {"train": 160, "test": 40}
    assert losses.losses == []


def test_real_names_without_endings_and_columns_that_say_too_little(shared_data: Path) -> None:
    kaggle = shared_data / "formats/datumaro/kaggle_dataset"
    records, table, losses = read(FORMAT, kaggle / "image_csv/ann_wo_ext.csv")
    assert records.images["location"].to_pylist() == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    assert table.num_rows == 5
    assert losses.losses == []
    _, table, _ = read(FORMAT, kaggle / "image_csv_det/ann.csv")
    _, same, _ = read(FORMAT, kaggle / "image_csv_det/ann2.csv")
    assert same["bbox"].to_pylist() == table["bbox"].to_pylist()
    with pytest.raises(FormatError, match="first line must name them"):
        read(FORMAT, kaggle / "image_csv_det/ann3.csv")


# --------------------------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("image", ["image", "Filename", "path", "file", "image_path", "file_name", '"Image Name"'])
@pytest.mark.parametrize("label", ["label", "class", "Category", "target"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_headers_and_separators(tmp_path: Path, image: str, label: str, separator: str) -> None:
    path = file(tmp_path, f"\ufeff{image}{separator}{label}\r\na.png{separator}x\r\n")
    records, table, losses = read(FORMAT, path)
    assert table.select(["type", "label"]).to_pylist() == [{"type": "label", "label": "x"}]
    assert records.images["path"].to_pylist() == [str(tmp_path / "a.png")]
    assert losses.losses == []


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (BOX_HEADER, "a.png,100,50,x,10,20,30,25"),
        ("image,x1,y1,x2,y2,label", "a.png,10,20,30,25,x"),
        ("image,x,y,w,h,label", "a.png,10,20,20,5,x"),
        ("image,x,y,width,height,label", "a.png,10,20,20,5,x"),
    ],
)
def test_boxes_as_corners_and_sides(tmp_path: Path, header: str, row: str) -> None:
    _, table, losses = read(FORMAT, file(tmp_path, f"{header}\n{row}\n"))
    assert table.select(["type", "label", "bbox"]).to_pylist() == [
        {"type": "box", "label": "x", "bbox": [10, 20, 20, 5]}
    ]
    assert losses.losses == []


def test_columns_of_classes(tmp_path: Path) -> None:
    text = "image,Rust,scab,Never\na.png,1,1,0\n" + "b.png,0,0,0\n" * 20 + "c.png,1,2,0\n"
    path = file(tmp_path, text, images=("a.png", "b.png"))
    records, table, losses = read(FORMAT, path)
    assert table["label"].to_pylist() == ["Rust", "scab"]
    assert records.images["location"].to_pylist() == ["a.png", "b.png"]
    assert [info.name for info in records.classes] == ["Rust", "scab", "Never"]
    assert [(loss.reason, loss.places) for loss in losses.losses] == [
        ("a number is malformed or missing", ["labels.csv:23"])
    ]


def test_rows_without_a_header(tmp_path: Path) -> None:
    path = file(tmp_path, "a.png,10,5,30,25,bolt\na.png,1,2,3,4,Nut 2\nb.png,,,,,\n", images=("a.png", "b.png"))
    detection = FORMAT.detect(path)
    assert detection is not None
    assert "no header" in detection.reason
    records, table, losses = read(FORMAT, path)
    assert table["bbox"].to_pylist() == [[10, 5, 20, 20], [1, 2, 2, 2]]
    assert table["label"].to_pylist() == ["bolt", "Nut 2"]
    assert records.images.num_rows == 2
    assert losses.losses == []


def test_parts_of_the_size_become_pixels_and_are_reported(tmp_path: Path) -> None:
    text = "filename,class,xmin,ymin,xmax,ymax\na.png,x,0.1,0.2,0.5,1\na.png,y,0,0,1,1\ngone.png,x,0.1,0.2,0.5,1\n"
    _, table, losses = read(FORMAT, file(tmp_path, text))
    assert table["bbox"].to_pylist() == [pytest.approx([10, 10, 40, 40]), pytest.approx([0, 0, 100, 50])]
    assert {loss.reason: loss.count for loss in losses.losses} == {
        "boxes read as parts of the image's size, since all their numbers are between 0 and 1": 3,
        "the image's size is not known": 1,
        "not there; kept without a file": 1,
    }


def test_small_boxes_in_whole_pixels_stay(tmp_path: Path) -> None:
    _, table, losses = read(FORMAT, file(tmp_path, "filename,class,xmin,ymin,xmax,ymax\na.png,x,0,0,1,1\n"))
    assert table["bbox"].to_pylist() == [[0, 0, 1, 1]]
    assert losses.losses == []


def test_several_labels_of_an_image_are_all_kept(tmp_path: Path) -> None:
    text = "image,label,split\na.png,x,valid\na.png,y,valid\nb.png,,train\n"
    records, table, losses = read(FORMAT, file(tmp_path, text, images=("a.png", "b.png")))
    assert {name: [row["label"] for row in rows] for name, rows in by_location(records, table).items()} == {
        "a.png": ["x", "y"],
        "b.png": [],
    }
    assert records.images["split"].to_pylist() == ["val", "train"]
    assert len(set(table["annotation_id"].to_pylist())) == 2
    assert losses.losses == []


def test_quoted_values(tmp_path: Path) -> None:
    _, table, _ = read(FORMAT, file(tmp_path, 'image,label\n"a.png","x, ""y"""\n'))
    assert table["label"].to_pylist() == ['x, "y"']


def test_scores_are_kept_in_a_predictions_layer_only(tmp_path: Path) -> None:
    path = file(tmp_path, "image,label,score\na.png,x,0.25\n")
    _, table, losses = read(FORMAT, path, ReadOptions(layer="predictions/m"))
    assert table["score"].to_pylist() == [0.25]
    assert losses.losses == []
    _, table, losses = read(FORMAT, path)
    assert table["score"].to_pylist() == [None]
    assert [loss.what for loss in losses.losses] == ["scores"]


def test_a_column_that_is_not_understood_is_reported(tmp_path: Path) -> None:
    _, _, losses = read(FORMAT, file(tmp_path, "image,label,age\na.png,x,3\n"))
    assert [(loss.what, loss.places) for loss in losses.losses] == [("values", ["labels.csv: age"])]


def test_a_stored_size_means_coordinates_before_exif(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (100, 50), orientation=6)
    path = file(tmp_path, f"{BOX_HEADER}\na.jpg,100,50,x,10,20,30,25\n", images=())
    records, table, losses = read(FORMAT, path)
    assert (records.images["width"].to_pylist(), records.images["height"].to_pylist()) == ([50], [100])
    assert table["bbox"].to_pylist() == [[25, 10, 5, 20]]
    assert losses.losses == []


# --------------------------------------------------------------------------------------------------------------- bad rows


def test_bad_rows_are_dropped_with_their_line(tmp_path: Path) -> None:
    rows = [
        "a.png,1,1,x,1,1,3,3",
        "a.png,1,1,x,1,?,3,3",
        "",
        "a.png,1,1,x,1,1",
        "a.png,1,1,x,nan,1,3,3",
        ",1,1,x,1,1,3,3",
    ]
    rows += ["a.png,100,50,y,1,1,3,", "a.png,100,50,z,5,5,1,1"]
    _, table, losses = read(FORMAT, file(tmp_path, "\n".join([BOX_HEADER, *rows])))
    assert table["label"].to_pylist() == ["x", "z"]
    assert table["bbox"][1].as_py() == [5, 5, -4, -4]
    places = {loss.reason: loss.places for loss in losses.losses if loss.outcome == "dropped"}
    assert places == {
        "a number is malformed or missing": ["labels.csv:3", "labels.csv:6", "labels.csv:8"],
        "not 8 columns as the header has": ["labels.csv:5"],
        "no image is named": ["labels.csv:7"],
    }


def test_images_that_are_not_there_keep_their_labels(tmp_path: Path) -> None:
    text = f"{BOX_HEADER}\n/home/me/gone.png,64,32,x,1,1,3,3\n"
    records, table, losses = read(FORMAT, file(tmp_path, text, images=()))
    assert records.images.select(["location", "path", "width", "height"]).to_pylist() == [
        {"location": "home/me/gone.png", "path": None, "width": 64, "height": 32}
    ]
    assert table.num_rows == 1
    assert reasons(losses) == {"not there; kept without a file"}


@pytest.mark.parametrize("name", ["images/a.png", "/elsewhere/set/images/a.png", "a", "..\\x\\a.png"])
def test_images_are_found_below_the_file(tmp_path: Path, name: str) -> None:
    records, _, losses = read(FORMAT, file(tmp_path, f"image,label\n{name},x\n", images=("images/a.png",)))
    assert records.images["path"].to_pylist() == [str(tmp_path / "images/a.png")]
    assert losses.losses == []


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "image\na.png\n", 'image,label\n"a.png,x\n'])
def test_what_is_no_such_csv_is_one_clear_error_or_no_rows(tmp_path: Path, text: str) -> None:
    path = file(tmp_path, text)
    if text.startswith("image,label"):
        assert read(FORMAT, path)[1].num_rows == 0
        return
    with pytest.raises(FormatError) as caught:
        read(FORMAT, path)
    assert caught.value.remedy


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    records, table, _ = read(FORMAT, file(tmp_path, "image,label"))
    assert (records.images.num_rows, table.num_rows) == (0, 0)


# ----------------------------------------------------------------------------------------------------------- round trips


def box_or_label(size: tuple[int, int]) -> st.SearchStrategy[dict[str, Any]]:
    label = st.fixed_dictionaries({"type": st.just("label"), "label": st.sampled_from(CLASSES)})
    return st.one_of(box_annotations(size), label)


@settings(deadline=None, max_examples=25)
@given(cases(box_or_label))
def test_round_trip(found: list[Case]) -> None:
    drawn = [row["bbox"] for case in found for row in case.annotations if "bbox" in row]
    # Boxes of no more than a pixel in all of the set would be read as parts of the images' sizes.
    assume(not drawn or max(max(box[0] + box[2], box[1] + box[3]) for box in drawn) > 2)
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        records, table, back_losses = read(FORMAT, target)
        back = by_location(records, table)
        splits = dict(zip(back, records.images["split"].to_pylist(), strict=True))
        assert {loss.what for loss in losses.losses} <= {"classes", "category ids"}
        assert back_losses.losses == []
        assert splits == {case.location: case.split for case in found}
        for case in found:
            for given_row, row in zip(case.annotations, back[case.location], strict=True):
                assert (row["type"], row["label"]) == (given_row["type"], given_row["label"])
                assert row["bbox"] == (pytest.approx(given_row["bbox"], abs=PIXELS) if "bbox" in given_row else None)


def test_a_classification_csv_is_short(tmp_path: Path) -> None:
    box = {"type": "box", "label": "bolt", "bbox": [0.0, 0.0, 1.0, 1.0]}
    export = make_export(tmp_path, [Case("d/a.png", (4, 4), None, [{"type": "label", "label": "a,b"}, box])], ["a,b"])
    losses = LossReport()
    FORMAT.write(export, tmp_path, WriteOptions("none", "classification"), losses)
    assert (tmp_path / "labels.csv").read_text() == '"filename","label"\n"d/a.png","a,b"\n'
    assert reasons(losses) == {"boxes have no place in a classification CSV", "CSV has no place for them"}
    with pytest.raises(UsageError, match="detection"):
        FORMAT.write(export, tmp_path, WriteOptions("none", "panoptic"), losses)


@pytest.mark.parametrize("variant", ["classification", "detection"])
def test_what_a_row_cannot_hold_is_dropped_and_counted(tmp_path: Path, variant: str) -> None:
    box = {"type": "box", "label": "bolt", "bbox": [0.0, 0.0, 1.0, 1.0], "area": 1.0}
    caption = {"type": "label", "attributes": '{"caption": "a bolt"}'}
    found = [Case(f"{row}.png", (4, 4), None, [{"type": "label", "label": "bolt"}, caption, box]) for row in range(7)]
    losses, target = LossReport(), tmp_path / "out"
    target.mkdir()
    export = make_export(tmp_path, found, [])
    export.classes.append(ClassInfo("bolt", supercategory="part", keypoints=("head",), skeleton=((1, 1),)))
    FORMAT.write(export, target, WriteOptions("copy", variant), losses)
    told = {(loss.what, loss.reason): (loss.count, loss.places) for loss in losses.losses}
    places = [f"{row}.png" for row in range(5)]
    assert told["annotations", "neither a class nor a box: a row would hold nothing"] == (7, places)
    assert {"supercategories", "names of keypoints", "skeletons"} <= {what for what, _ in told}
    assert told.get(("areas", "CSV has no place for them")) == ((7, places) if variant == "detection" else None)
    dropped = sum(count for (what, _), (count, _) in told.items() if what == "annotations")
    back = read(FORMAT, target)[1].num_rows
    assert losses.carried_counts["annotations"] == back == 21 - dropped == (14 if variant == "detection" else 7)


@pytest.mark.slow
def test_a_million_rows(tmp_path: Path) -> None:
    corners = np.random.default_rng(0).integers(0, 50, (1_000_000, 2))
    rows = "\n".join(
        f"i{row // 50}.png,100,100,c{row % 7},{x},{y},60,60" for row, (x, y) in enumerate(corners.tolist())
    )
    path = file(tmp_path, f"{BOX_HEADER}\n{rows}\n", images=())
    _, table, _ = read(FORMAT, path)
    assert table.num_rows == 1_000_000
    assert table["bbox"][999_999].as_py() == [*corners[-1], 60 - corners[-1][0], 60 - corners[-1][1]]
