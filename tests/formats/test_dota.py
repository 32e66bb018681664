"""DOTA: corners as rotated boxes, headers, versions of the labels, results, and what is YOLO's instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from format_cases import by_location, read, reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dataset.ids import image_ids
from curate.errors import FormatError
from curate.formats.base import ReadOptions
from curate.formats.columns import images_table
from curate.formats.detect import detect_format
from curate.formats.dota import FORMAT
from curate.geometry import rotated_box_corners

NOT_A_RECTANGLE = "corners that are no rectangle: a polygon, with a rotated box round it"


def dataset(root: Path, text: str, *, folder: str = "train/labelTxt", name: str = "P1") -> Path:
    write_image(root / f"train/images/{name}.png", (200, 100))
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return root


def test_real_folder(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats/datumaro/dota_dataset")
    assert dict(zip(records.images["location"].to_pylist(), records.images["split"].to_pylist(), strict=True)) == {
        "train/images/train_001.jpg": "train",
        "train/images/train_002.jpg": "train",
        "val/images/val_001.jpg": "val",
    }
    assert table["label"].to_pylist() == ["label_0", "label_1", "label_0", "label_1"]
    assert table["bbox"].to_pylist() == [[0, 0, 2, 2], [1, 1, 4, 4], [0, 0, 1, 1], [1, 2, 9, 3]]
    assert set(table["type"].to_pylist()) == {"rotated_box"}
    assert losses.losses == []


@pytest.mark.parametrize(
    "folder", ["dota_dataset", "roboflow_dataset/yolo_obb", "dota_dataset/train/labelTxt/train_001.txt"]
)
def test_detection(shared_data: Path, folder: str) -> None:
    assert detect_format(shared_data / "formats/datumaro" / folder)[0].name == "dota"


def test_classes_of_roboflows_data_yaml(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats/datumaro/roboflow_dataset/yolo_obb")
    assert [(info.name, info.source_id) for info in records.classes] == [("label_0", 0), ("label_1", 1)]
    assert (records.images.num_rows, table.num_rows) == (3, 4)
    assert losses.losses == []


def test_normalised_corners_are_yolos(tmp_path: Path) -> None:
    dataset(tmp_path, "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n")
    assert FORMAT.detect(tmp_path) is None
    assert detect_format(tmp_path)[0].name == "yolo"


def test_headers_difficulty_and_heading(tmp_path: Path) -> None:
    # The head is the lower right corner of a box that is twice as wide as high: it is turned by half a circle.
    objects = "60 40 20 40 20 20 60 20 large-vehicle 1\n0 0 9 0 9 9 0 9 ship 2\n0 0 9 0 9 9 0 9 x\n"
    text = f"imagesource:GoogleEarth\ngsd:0.146\n{objects}"
    records, table, losses = read(FORMAT, dataset(tmp_path, text))
    assert json.loads(records.images["metadata"][0].as_py()) == {"dota": {"imagesource": "GoogleEarth", "gsd": "0.146"}}
    first, second, third = table.to_pylist()
    assert first["label"] == "large-vehicle"
    assert first["rotated_box"] == pytest.approx([40, 30, 40, 20, 180])
    assert first["bbox"] == pytest.approx([20, 20, 40, 20])
    assert json.loads(first["attributes"]) == {"difficult": True}
    assert json.loads(second["attributes"]) == {"difficult": True, "difficulty": 2}
    assert third["attributes"] is None
    assert losses.losses == []


def test_other_quadrilaterals_keep_their_outline(tmp_path: Path) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, "10 10 90 30 80 60 5 40 plane 0\n"))
    row = table.to_pylist()[0]
    assert row["polygons"] == [[10, 10, 90, 30, 80, 60, 5, 40]]
    corners = rotated_box_corners([row["rotated_box"]])[0]
    centre = np.array(row["rotated_box"][:2])
    side = (corners[1] - corners[0]) / row["rotated_box"][2]
    reach = np.abs((np.array(row["polygons"][0]).reshape(-1, 2) - centre) @ side)
    assert reach.max() <= row["rotated_box"][2] / 2 + 1e-3
    assert [(loss.outcome, loss.reason, loss.count) for loss in losses.losses] == [("converted", NOT_A_RECTANGLE, 1)]


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.floats(-500, 500), st.floats(-500, 500), st.floats(4, 300), st.floats(4, 300), st.floats(-179, 179)),
    st.booleans(),
)
def test_corners_of_any_box_are_found_again(
    tmp_path_factory: pytest.TempPathFactory, box: tuple[float, ...], clockwise: bool
) -> None:
    corners = rotated_box_corners([box])[0]
    written = corners if clockwise else corners[[0, 3, 2, 1]]
    line = " ".join(f"{value:.6f}" for value in written.ravel())
    _, table, losses = read(FORMAT, dataset(tmp_path_factory.mktemp("dota"), f"{line} ship 0\n"))
    found = rotated_box_corners([table["rotated_box"][0].as_py()])[0]
    assert found == pytest.approx(corners, abs=1e-4)
    assert losses.losses == []


def test_the_newest_version_with_corners_is_read(tmp_path: Path) -> None:
    square = "0 0 9 0 9 9 0 9 {} 0\n"
    dataset(tmp_path, square.format("old"), folder="train/labelTxt-v1.0")
    dataset(tmp_path, square.format("upright"), folder="train/labelTxt-v1.5/DOTA-v1.5_train_hbb")
    dataset(tmp_path, square.format("new"), folder="train/labelTxt-v1.5/DOTA-v1.5_train")
    _, table, losses = read(FORMAT, tmp_path)
    assert table["label"].to_pylist() == ["new"]
    assert {(loss.reason, loss.count) for loss in losses.losses} == {
        ("another version of an image's labels is read", 2)
    }


def test_images_without_objects_or_labels(tmp_path: Path) -> None:
    dataset(tmp_path, "0 0 9 0 9 9 0 9 ship 0\n")
    dataset(tmp_path, "imagesource:None\n", name="P2")
    write_image(tmp_path / "test/images/P3.png", (9, 9))
    records, table, losses = read(FORMAT, tmp_path)
    assert [len(rows) for rows in by_location(records, table).values()] == [1, 0, 0]
    assert records.images["split"].to_pylist() == ["train", "train", "test"]
    assert losses.losses == []


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    dataset(tmp_path, "0 0 9 0 9 9 0 9 ship 0\n")
    (tmp_path / "train/images/P1.png").unlink()
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images.select(["location", "path"]).to_pylist() == [
        {"location": "train/images/P1.png", "path": None}
    ]
    assert table.num_rows == 1
    assert reasons(losses) == {"not there; kept without a file"}


def test_bad_lines_are_dropped_with_their_place(tmp_path: Path) -> None:
    text = "0 0 9 0 9 9 0 9 ship 0\n0 0 9 0 ship 0\n0 0 9 0 9 9 0 1e999 ship 0\n0 0 9 0 9 9 0 nan ship 0\n"
    _, table, losses = read(FORMAT, dataset(tmp_path, text))
    assert table.num_rows == 1
    assert {(loss.reason, loss.count, loss.places[0]) for loss in losses.losses} == {
        ("malformed line", 2, "train/labelTxt/P1.txt:2"),
        ("coordinates that cannot be pixels", 1, "train/labelTxt/P1.txt:3"),
    }


def test_ids_are_the_same_again(tmp_path: Path) -> None:
    dataset(tmp_path, "0 0 9 0 9 9 0 9 ship 0\n0 0 9 0 9 9 0 9 ship 0\n")
    first, second = (read(FORMAT, tmp_path)[1]["annotation_id"].to_pylist() for _ in range(2))
    assert first == second
    assert len(set(first)) == 2


def known_images() -> pa.Table:
    sizes = np.array([200, 200])
    return images_table(["train/images/P1.png", "train/images/P2.png"], [None, None], sizes, sizes, {})


def test_results_go_to_the_images_the_dataset_has(tmp_path: Path) -> None:
    (tmp_path / "Task1_plane.txt").write_text("P2 0.75 10 10 30 10 30 20 10 20\nP9 0.5 0 0 9 0 9 9 0 9\n")
    (tmp_path / "Task2_small-vehicle.txt").write_text("P1 0.25 1 2 4 6\n")
    options = ReadOptions(layer="predictions/x", known_images=known_images())
    assert detect_format(tmp_path)[0].name == "dota"
    records, table, losses = read(FORMAT, tmp_path, options)
    assert records.images.num_rows == 0
    first, second = table.to_pylist()
    assert [first["image_id"], second["image_id"]] == image_ids(
        ["train/images/P2.png", "train/images/P1.png"]
    ).to_pylist()
    assert (first["type"], first["label"], first["score"]) == ("rotated_box", "plane", 0.75)
    assert first["rotated_box"] == pytest.approx([20, 15, 20, 10, 0])
    assert (second["type"], second["label"], second["bbox"]) == ("box", "small-vehicle", [1, 2, 3, 4])
    assert second["rotated_box"] is None
    assert [(loss.reason, loss.count) for loss in losses.losses] == [("the dataset has no image of this name", 1)]


def test_results_without_a_dataset_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "Task1_plane.txt").write_text("P2 0.75 10 10 30 10 30 20 10 20\n")
    with pytest.raises(FormatError, match="name images that are not in the file"):
        read(FORMAT, tmp_path)


def test_a_folder_without_labels_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(FormatError, match="no lines of DOTA labels"):
        read(FORMAT, tmp_path)
