"""KITTI: objects, tracks, instance masks and raw recordings; what is 3-D, and what is not kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from format_cases import by_location, read, reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import FormatError
from curate.formats.base import ReadOptions
from curate.formats.detect import detect_format
from curate.formats.kitti import FORMAT
from curate.geometry import decode_rle

CAR = "Car 0.50 1 1.85 10.5 20 30.25 44 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
DONT_CARE = "DontCare -1 -1 -10 5 5 9 9 -1 -1 -1 -1000 -1000 -1000 -10"


def dataset(root: Path, *lines: str, folder: str = "label_2", images: str = "image_2", name: str = "000001") -> Path:
    write_image(root / f"training/{images}/{name}.png", (100, 50))
    (root / f"training/{folder}").mkdir(parents=True, exist_ok=True)
    (root / f"training/{folder}/{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


# ------------------------------------------------------------------------------------------------------------ real files


def test_detection_folder(shared_data: Path) -> None:
    source = shared_data / "formats/datumaro/kitti_dataset/kitti_detection"
    lines = [line for path in source.rglob("label_2/*.txt") for line in path.read_text().splitlines()]
    records, table, losses = read(FORMAT, source)
    assert Counter(table["label"].to_pylist()) == Counter(line.split()[0] for line in lines)
    assert records.images.select(["location", "split"]).to_pylist() == [
        {"location": "training/image_2/000030_10.png", "split": "train"},
        {"location": "training/image_2/000030_11.png", "split": "train"},
    ]
    assert by_location(records, table)["training/image_2/000030_10.png"][0]["bbox"] == [0, 1, 2, 2]
    assert losses.losses == []


def test_3d_folder_says_what_is_not_kept(shared_data: Path) -> None:
    _, table, losses = read(FORMAT, shared_data / "formats/datumaro/kitti_dataset/kitti_3d")
    truck, _, region = table.to_pylist()
    assert json.loads(truck["attributes"]) == {
        "truncated": 0.0, "occluded": 0, "alpha": -1.57, "dimensions": [2.85, 2.63, 12.34], "location": [0.47, 1.49, 69.44],
        "rotation_y": -1.56,
    }  # fmt: skip
    assert (region["label"], region["iscrowd"], region["attributes"]) == ("DontCare", True, None)
    assert {(loss.reason, loss.count) for loss in losses.losses} == {
        ("point clouds have no place", 3),
        ("camera calibration has no place", 1),
    }


def test_instance_masks(shared_data: Path) -> None:
    source = shared_data / "formats/datumaro/kitti_dataset/kitti_segmentation"
    records, table, losses = read(FORMAT, source)
    found = by_location(records, table)
    for name, rows in found.items():
        values = np.asarray(Image.open(source / name.replace("image_2", "instance")))
        assert sorted(row["area"] for row in rows) == sorted(np.unique(values, return_counts=True)[1].tolist())
    rows = found["training/image_2/000030_10.png"]
    assert [(row["label"], row["attributes"]) for row in rows] == [
        ("out of roi", None), ("truck", '{"instance": 1}'), ("truck", '{"instance": 2}'),
    ]  # fmt: skip
    assert decode_rle(rows[2]["rle"], rows[2]["rle_size"]).tolist() == [[0, 0, 0, 1, 1]]
    assert losses.losses == []
    assert next(info.source_id for info in records.classes if info.name == "truck") == 27


def test_raw_recording(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats/datumaro/kitti_dataset/kitti_raw")
    assert records.images["frame"].to_pylist() == [0, 1, 2]
    assert table.num_rows == 0
    assert ("3-D tracklets have no box in the image", 3) in {(loss.reason, loss.count) for loss in losses.losses}


@pytest.mark.parametrize(
    "folder",
    [
        "kitti_detection",
        "kitti_3d",
        "kitti_segmentation",
        "kitti_raw",
        "kitti_detection/training/label_2/000030_10.txt",
    ],
)
def test_detection(shared_data: Path, folder: str) -> None:
    assert detect_format(shared_data / "formats/datumaro/kitti_dataset" / folder)[0].name == "kitti"


# --------------------------------------------------------------------------------------------------------------- objects


def test_a_line_in_full(tmp_path: Path) -> None:
    row = read(FORMAT, dataset(tmp_path, CAR))[1].to_pylist()[0]
    assert (row["label"], row["type"], row["bbox"]) == ("Car", "box", [10.5, 20, 19.75, 24])
    assert json.loads(row["attributes"]) == {
        "truncated": 0.5, "occluded": 1, "alpha": 1.85, "dimensions": [1.67, 1.87, 3.69], "location": [-16.53, 2.39, 58.49],
        "rotation_y": 1.57,
    }  # fmt: skip
    assert row["iscrowd"] is None


def test_scores_are_for_predictions(tmp_path: Path) -> None:
    dataset(tmp_path, f"{CAR} 0.75")
    assert read(FORMAT, tmp_path, ReadOptions(layer="predictions/x"))[1]["score"].to_pylist() == [0.75]
    _, table, losses = read(FORMAT, tmp_path)
    assert table["score"].to_pylist() == [None]
    assert [loss.what for loss in losses.losses] == ["scores"]


def test_labels_beside_images_and_a_folder_elsewhere(tmp_path: Path) -> None:
    dataset(tmp_path, CAR, folder="labels", images="images")
    assert read(FORMAT, tmp_path)[0].images["location"].to_pylist() == ["training/images/000001.png"]
    options = ReadOptions(images=tmp_path / "training/images")
    records, table, losses = read(FORMAT, tmp_path / "training/labels", options)
    assert records.images["path"].to_pylist() == [str(tmp_path / "training/images/000001.png")]
    assert table.num_rows == 1
    assert losses.losses == []


def test_unlabelled_and_other_cameras_images(tmp_path: Path) -> None:
    dataset(tmp_path, CAR)
    for name in ("training/image_3/000001.png", "testing/image_2/000007.png", "training/image_2/000002.png"):
        write_image(tmp_path / name, (9, 9))
    (tmp_path / "training/label_2/000002.txt").write_text("")
    records, table, losses = read(FORMAT, tmp_path)
    assert {name: len(rows) for name, rows in by_location(records, table).items()} == {
        "training/image_2/000001.png": 1, "training/image_2/000002.png": 0, "testing/image_2/000007.png": 0,
    }  # fmt: skip
    assert records.images["split"].to_pylist() == ["train", "train", "test"]
    assert [(loss.what, loss.count, loss.places) for loss in losses.losses] == [
        ("images", 1, ["training/image_3/000001.png"])
    ]


def test_bad_lines_and_numbers(tmp_path: Path) -> None:
    lines = [CAR, "Car 0 0", CAR.replace("44", "nan"), CAR.replace("1.57", "inf"), "1 " * 15]
    _, table, losses = read(FORMAT, dataset(tmp_path, *lines))
    assert table.num_rows == 2
    assert "rotation_y" not in json.loads(table["attributes"][1].as_py())
    assert {(loss.what, loss.reason, loss.count) for loss in losses.losses} == {
        ("annotations", "malformed line", 2),
        ("annotations", "coordinates that are not finite numbers", 1),
        ("attributes", "numbers that are not finite", 1),
    }


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    dataset(tmp_path, CAR)
    (tmp_path / "training/image_2/000001.png").unlink()
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["training/image_2/000001.png"]
    assert table.num_rows == 1
    assert reasons(losses) == {"not there; kept without a file"}


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a poem of fifteen words is no label of KITTI's, for its words are words")
    assert FORMAT.detect(tmp_path) is None
    with pytest.raises(FormatError, match="no KITTI annotation"):
        read(FORMAT, tmp_path)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.floats(-1e4, 1e4) for _ in range(4)]), min_size=1, max_size=5))
def test_boxes_are_kept_as_given(tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[float, ...]]) -> None:
    lines = [f"Car 0 0 0 {' '.join(map(repr, box))} 1 1 1 0 0 0 0" for box in boxes]
    _, table, losses = read(FORMAT, dataset(tmp_path_factory.mktemp("kitti"), *lines))
    expected = [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes]
    assert table["bbox"].to_pylist() == expected
    assert len(set(table["annotation_id"].to_pylist())) == len(boxes)
    assert losses.losses == []


# ------------------------------------------------------------------------------------------------- sequences and masks


def tracking(root: Path) -> Path:
    for sequence in ("0000", "0001"):
        for frame in range(2):
            write_image(root / f"training/image_02/{sequence}/{frame:06d}.png", (100, 50))
    (root / "training/label_02").mkdir()
    lines = [f"0 7 {CAR}", f"0 -1 {DONT_CARE}", f"1 7 {CAR}", f"1 -1 {DONT_CARE}", f"1 -1 {DONT_CARE}", f"5 7 {CAR}"]
    (root / "training/label_02/0001.txt").write_text("\n".join(lines))
    (root / "training/label_02/0000.txt").write_text("")
    return root


def test_tracks(tmp_path: Path) -> None:
    records, table, losses = read(FORMAT, tracking(tmp_path))
    found = by_location(records, table)
    assert {name: len(rows) for name, rows in found.items()} == {
        "training/image_02/0001/000000.png": 2, "training/image_02/0001/000001.png": 3, "training/image_02/0001/000005.png": 1,
        "training/image_02/0000/000000.png": 0, "training/image_02/0000/000001.png": 0,
    }  # fmt: skip
    images = {row["location"]: (row["group"], row["frame"]) for row in records.images.to_pylist()}
    assert images["training/image_02/0001/000001.png"] == ("training/0001", 1)
    assert images["training/image_02/0000/000001.png"] == ("training/0000", 1)
    car, region = found["training/image_02/0001/000000.png"]
    assert (car["source_id"], json.loads(car["attributes"])["track_id"]) == ("7", 7)
    assert (region["source_id"], region["attributes"], region["iscrowd"]) == (None, None, True)
    assert len(set(table["annotation_id"].to_pylist())) == 6
    assert reasons(losses) == {"not there; kept without a file"}


def test_a_track_keeps_its_id_when_lines_are_added(tmp_path: Path) -> None:
    tracking(tmp_path)
    path = tmp_path / "training/label_02/0001.txt"
    before = {row["annotation_id"] for row in read(FORMAT, tmp_path)[1].to_pylist() if row["source_id"]}
    path.write_text(f"0 3 {CAR}\n{path.read_text()}")
    after = {row["annotation_id"] for row in read(FORMAT, tmp_path)[1].to_pylist() if row["source_id"]}
    assert before < after


def test_masks_of_classes_and_of_things(tmp_path: Path) -> None:
    write_image(tmp_path / "training/image_2/a.png", (3, 2))
    write_image(tmp_path / "training/image_2/b.png", (3, 2))
    for folder in ("instance", "semantic"):
        (tmp_path / f"training/{folder}").mkdir()
    values = np.array([[0, 26 * 256, 26 * 256 + 1], [0, 7 * 256, 200 * 256]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "training/instance/a.png")
    Image.fromarray((values >> 8).astype(np.uint8)).save(tmp_path / "training/semantic/a.png")
    Image.fromarray(np.full((3, 3), 23, dtype=np.uint8)).save(tmp_path / "training/semantic/b.png")
    records, table, losses = read(FORMAT, tmp_path)
    rows = by_location(records, table)
    assert [(row["label"], row["iscrowd"]) for row in rows["training/image_2/a.png"]] == [
        ("road", None), ("car", True), ("car", None), ("200", None),
    ]  # fmt: skip
    assert [(row["label"], row["rle_size"]) for row in rows["training/image_2/b.png"]] == [("sky", [3, 3])]
    assert reasons(losses) == {"of another size than their image, which they keep"}


def test_a_broken_mask_is_reported(tmp_path: Path) -> None:
    write_image(tmp_path / "training/image_2/a.png", (3, 2))
    (tmp_path / "training/instance").mkdir()
    (tmp_path / "training/instance/a.png").write_bytes(b"\x89PNG")
    records, table, losses = read(FORMAT, tmp_path)
    assert (records.images.num_rows, table.num_rows) == (1, 0)
    assert reasons(losses) == {"the mask cannot be read"}
