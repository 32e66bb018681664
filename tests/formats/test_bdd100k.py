"""BDD100K and Scalabel. There is no real export in the test data: the files here follow the format pages of both."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from format_cases import by_location, read, reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import damage_folder

from curate.errors import CurateError, FormatError
from curate.formats.base import ReadOptions
from curate.formats.bdd100k import FORMAT
from curate.formats.bdd100k.labels import JOINTS
from curate.formats.detect import detect_format
from curate.geometry import encode_rle

CAR: dict[str, Any] = {
    "id": "17",
    "category": "car",
    "attributes": {"occluded": True, "truncated": False, "trafficLightColor": "none"},
    "manualShape": True,
    "box2d": {"x1": 10.5, "y1": 20, "x2": 29.5, "y2": 39},
}


def outline(*vertices: list[float], types: str | None = None, closed: bool = True) -> dict[str, Any]:
    return {"vertices": list(vertices), "types": types or "L" * len(vertices), "closed": closed}


def frame(*labels: Any, name: str = "a.jpg", **said: Any) -> dict[str, Any]:
    return {"name": name, **said, "labels": list(labels)}


def dataset(
    root: Path, content: Any, *, file: str = "labels/det_20/det_train.json", image: str = "100k/train/a.jpg"
) -> Path:
    write_image(root / "images" / image, (100, 50))
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def only(root: Path) -> dict[str, Any]:
    _, table, losses = read(FORMAT, root)
    assert losses.losses == []
    assert table.num_rows == 1
    row: dict[str, Any] = table.to_pylist()[0]
    return row


# ---------------------------------------------------------------------------------------------------------------- labels


def test_box_corners_are_pixels_that_it_covers(tmp_path: Path) -> None:
    row = only(dataset(tmp_path, [frame(CAR)]))
    assert (row["type"], row["label"], row["bbox"]) == ("box", "car", [10.5, 20, 20, 20])
    assert row["source_id"] == "17"
    assert json.loads(row["attributes"]) == {
        "occluded": True, "truncated": False, "trafficLightColor": "none", "manualShape": True,
    }  # fmt: skip


def test_drivable_areas_and_lanes(tmp_path: Path) -> None:
    area = {
        "category": "drivable area",
        "attributes": {"areaType": "direct"},
        "poly2d": [outline([0, 0], [9, 0], [9, 9])],
    }
    lane = {"category": "lane", "attributes": {"laneStyle": "solid"}, "poly2d": [outline([0, 0], [9, 5], closed=False)]}
    _, table, losses = read(FORMAT, dataset(tmp_path, [frame(area, lane)]))
    first, second = table.to_pylist()
    assert (first["type"], first["polygons"], first["bbox"]) == ("polygon", [[0, 0, 9, 0, 9, 9]], [0, 0, 9, 9])
    assert (second["type"], second["polygons"], second["bbox"]) == ("polyline", [[0, 0, 9, 5]], [0, 0, 9, 5])
    assert json.loads(second["attributes"]) == {"laneStyle": "solid"}
    assert losses.losses == []


@pytest.mark.parametrize("types", ["LCCCL", "LCCLL"])
def test_curves_pass_through_their_middle(tmp_path: Path, types: str) -> None:
    lane = {"category": "lane", "poly2d": [outline([0, 0], [0, 8], [8, 8], [8, 0], [20, 0], types=types, closed=False)]}
    _, table, losses = read(FORMAT, dataset(tmp_path, [frame(lane)]))
    row = table.to_pylist()[0]
    points = list(zip(row["polygons"][0][::2], row["polygons"][0][1::2], strict=True))
    assert (points[0], points[-1]) == ((0, 0), (20, 0))
    assert points[-2] == pytest.approx((8, 0))
    assert points[6] == pytest.approx((4, 6))  # at t = 1/2: (p0 + 3 p1 + 3 p2 + p3) / 8
    assert json.loads(row["attributes"])["poly2d"] == lane["poly2d"]
    assert reasons(losses) == {"Bezier curves became lines of short pieces"}


def test_a_closed_curve_may_end_where_it_began(tmp_path: Path) -> None:
    area = {"category": "area", "poly2d": [outline([0, 0], [9, 0], [9, 9], [5, 9], types="LLCC")]}
    _, table, _ = read(FORMAT, dataset(tmp_path, [frame(area)]))
    polygon = table["polygons"][0].as_py()[0]
    assert len(polygon) == 2 * (2 + 11)
    assert polygon[-2:] != [0, 0]


def test_several_parts_and_several_lines(tmp_path: Path) -> None:
    square, triangle = outline([0, 0], [9, 0], [9, 9], [0, 9]), outline([20, 20], [30, 20], [30, 30])
    lines = [outline([0, 0], [5, 5], closed=False), outline([9, 9], [12, 9], closed=False)]
    content = [
        frame({"category": "sky", "poly2d": [square, triangle]}, {"id": "1", "category": "lane", "poly2d": lines})
    ]
    _, table, losses = read(FORMAT, dataset(tmp_path, content))
    sky, *lanes = table.to_pylist()
    assert [len(part) for part in sky["polygons"]] == [8, 6]
    assert [row["polygons"] for row in lanes] == [[[0, 0, 5, 5]], [[9, 9, 12, 9]]]
    assert [row["source_id"] for row in lanes] == ["1", "1"]
    assert len({row["annotation_id"] for row in table.to_pylist()}) == 3
    assert reasons(losses) == {"a label of several open lines: an annotation for each"}


def test_masks_crowds_and_scores(tmp_path: Path) -> None:
    rle = {"counts": encode_rle([[0, 1], [1, 1]]), "size": [2, 2]}
    label = {"id": 3, "category": "car", "score": 0.5, "attributes": {"crowd": True}, "rle": rle}
    dataset(tmp_path, [frame(label)])
    _, table, _ = read(FORMAT, tmp_path, ReadOptions(layer="predictions/x"))
    row = table.to_pylist()[0]
    assert (row["type"], row["rle_size"], row["iscrowd"], row["score"]) == ("mask", [2, 2], True, 0.5)
    assert (row["attributes"], row["source_id"], row["bbox"]) == (None, "3", [0, 0, 2, 2])


def test_poses(tmp_path: Path) -> None:
    nodes = [
        {"id": "a", "location": [3, 4], "category": "head", "visibility": "V"},
        {"id": "b", "location": [5, 6], "category": "neck", "visibility": "H"},
    ]
    label = {"category": "person", "graph": {"nodes": nodes, "edges": []}}
    records, table, losses = read(FORMAT, dataset(tmp_path, [frame(label)], file="labels/pose_21/pose_train.json"))
    row = table.to_pylist()[0]
    assert row["type"] == "keypoints"
    assert row["keypoints"][:9] == [3, 4, 2, 5, 6, 1, 0, 0, 0]
    assert len(row["keypoints"]) == 3 * len(JOINTS) == 54
    assert [(info.name, info.keypoints) for info in records.classes] == [("person", JOINTS)]
    assert losses.losses == []


def test_labels_of_the_whole_image_and_3d_boxes(tmp_path: Path) -> None:
    content = [frame({"category": "night"}, {"category": "car", "box3d": {"alpha": 1}})]
    _, table, losses = read(FORMAT, dataset(tmp_path, content, file="a_timeofday.json"), ReadOptions(images=tmp_path))
    assert [(row["type"], row["label"]) for row in table.to_pylist()] == [("label", "night")]
    assert reasons(losses) == {"a 3-D box without one in the image"}


def test_bad_labels_are_dropped_with_their_place(tmp_path: Path) -> None:
    bad = [
        {"category": "car", "box2d": {"x1": "1", "y1": 2, "x2": 3, "y2": 4}},
        {"category": "car", "poly2d": [outline([0, 0], [9, 0])]},
        {"category": "car", "poly2d": "x"},
        {"category": "car", "rle": {"counts": "0", "size": [9, 9]}},
        {"category": "car", "rle": {"counts": 3, "size": [9]}},
        "car",
        None,
    ]
    _, table, losses = read(FORMAT, dataset(tmp_path, [frame(*bad, CAR, {**CAR, "category": 7, "id": None})]))
    assert table["label"].to_pylist() == ["car", None]
    dropped = sum(loss.count for loss in losses.losses if loss.what == "annotations" and loss.outcome == "dropped")
    assert dropped == len(bad)
    assert "labels/det_20/det_train.json: frame 1: label 1" in losses.losses[0].places


# ---------------------------------------------------------------------------------------------------------------- frames


def test_what_a_frame_says(tmp_path: Path) -> None:
    said = {"weather": "rainy", "scene": "highway", "timeofday": "night"}
    content = [frame(CAR, attributes=said, videoName="v1", frameIndex=3, timestamp=1500, url="http://x/a.jpg")]
    records, table, losses = read(FORMAT, dataset(tmp_path, content))
    image = records.images.to_pylist()[0]
    assert (image["location"], image["split"]) == ("images/100k/train/a.jpg", "train")
    assert (image["group"], image["frame"], image["timestamp"]) == ("v1", 3, 1.5)
    assert json.loads(image["metadata"]) == {**said, "url": "http://x/a.jpg"}
    assert json.loads(table["attributes"][0].as_py())["track_id"] == "17"
    assert losses.losses == []


def test_an_object_with_frames_and_a_config(tmp_path: Path) -> None:
    vehicles = {"name": "vehicle", "subcategories": [{"name": "car"}, {"name": "truck"}]}
    config = {"imageSize": {"width": 100, "height": 50}, "categories": [vehicles, {"name": "sky"}]}
    records, table, losses = read(FORMAT, dataset(tmp_path, {"frames": [frame(CAR)], "config": config}))
    assert [(info.name, info.supercategory) for info in records.classes] == [
        ("car", "vehicle"), ("truck", "vehicle"), ("sky", None),
    ]  # fmt: skip
    assert records.info == {"scalabel": {"labels/det_20/det_train.json": config}}
    assert table.num_rows == 1
    assert losses.losses == []


def test_a_file_for_each_image_as_before_2020(tmp_path: Path) -> None:
    lane = {
        "id": 2,
        "category": "lane/single white",
        "attributes": {"direction": "parallel"},
        "poly2d": [[0, 0, "L"], [5, 9, "L"]],
    }
    area = {"id": 3, "category": "area/drivable", "poly2d": [[0, 0, "L"], [5, 0, "L"], [5, 9, "L"], [0, 0, "L"]]}
    content = {
        "name": "a",
        "frames": [{"timestamp": 10000, "objects": [{**CAR, "id": 1}, lane, area]}],
        "attributes": {"weather": "clear", "scene": "highway", "timeofday": "night"},
    }
    records, table, losses = read(FORMAT, dataset(tmp_path, content, file="labels/100k/train/a.json"))
    image = records.images.to_pylist()[0]
    assert (image["location"], image["timestamp"]) == ("images/100k/train/a.jpg", 10)
    assert json.loads(image["metadata"])["weather"] == "clear"
    assert table["type"].to_pylist() == ["box", "polyline", "polygon"]
    assert losses.losses == []


def test_a_flat_list_of_detections(tmp_path: Path) -> None:
    rows = [
        {"name": "a.jpg", "timestamp": 1000, "category": "car", "bbox": [1, 2, 3, 5], "score": score}
        for score in (0.5, 0.25)
    ]
    dataset(tmp_path, rows, file="detections.json")
    assert detect_format(tmp_path / "detections.json")[0].name == "bdd100k"
    records, table, losses = read(FORMAT, tmp_path, ReadOptions(layer="predictions/x"))
    assert records.images.num_rows == 1
    assert [(row["bbox"], row["score"]) for row in table.to_pylist()] == [([1, 2, 3, 4], 0.5), ([1, 2, 3, 4], 0.25)]
    assert len(set(table["annotation_id"].to_pylist())) == 2
    assert losses.losses == []


def test_folders_tell_images_of_one_name_apart(tmp_path: Path) -> None:
    dataset(tmp_path, [frame(CAR)])
    dataset(tmp_path, [frame(CAR)], file="labels/ins_seg/polygons/ins_seg_val.json", image="10k/val/a.jpg")
    write_image(tmp_path / "images/track/train/v1/a.jpg", (9, 9))
    write_image(tmp_path / "images/100k/test/b.jpg", (9, 9))
    content = [frame(CAR, videoName="v1", frameIndex=0)]
    dataset(tmp_path, content, file="labels/box_track_20/train/v1.json")
    records, table, losses = read(FORMAT, tmp_path)
    assert {name: len(rows) for name, rows in by_location(records, table).items()} == {
        "images/track/train/v1/a.jpg": 1, "images/100k/train/a.jpg": 1, "images/10k/val/a.jpg": 1, "images/100k/test/b.jpg": 0,
    }  # fmt: skip
    assert len(set(table["annotation_id"].to_pylist())) == 3
    assert losses.losses == []


def test_a_file_alone_finds_its_images(tmp_path: Path) -> None:
    dataset(tmp_path, [frame(CAR), frame(name="gone.jpg")])
    records, _, losses = read(FORMAT, tmp_path / "labels/det_20/det_train.json")
    assert records.images["path"].to_pylist() == [str(tmp_path / "images/100k/train/a.jpg"), None]
    assert reasons(losses) == {"not there; kept without a file"}


def test_mask_images_are_mentioned(tmp_path: Path) -> None:
    dataset(tmp_path, [frame(CAR)])
    write_image(tmp_path / "labels/sem_seg/masks/train/a.png", (9, 9))
    records, _, losses = read(FORMAT, tmp_path)
    assert records.images.num_rows == 1
    assert [(loss.what, loss.count) for loss in losses.losses] == [("files", 1)]


# ------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("text", ["", "[", "7", '{"frames": 3}', "[" * 100_000, '[{"name": "a.jpg", "labels": ['])
def test_a_broken_file_is_one_error(tmp_path: Path, text: str) -> None:
    dataset(tmp_path, text)
    with pytest.raises(FormatError):
        read(FORMAT, tmp_path / "labels/det_20/det_train.json")


def test_a_broken_file_among_others(tmp_path: Path) -> None:
    dataset(tmp_path, [frame(CAR)])
    dataset(tmp_path, '[{"name": "a.jpg", "labels": [{"box2d": {', file="labels/det_20/det_val.json")
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert [loss.what for loss in losses.losses] == ["annotation files"]


def test_values_that_are_not_quite_json(tmp_path: Path) -> None:
    car = {**CAR, "attributes": {"x": float("nan"), "y": "\ud800"}}
    row = only(dataset(tmp_path, [frame(car), frame({**CAR, "box2d": {"x1": float("inf")}}, name="../b.jpg")][:1]))
    assert json.loads(row["attributes"]) == {"x": None, "y": "?", "manualShape": True}


def test_names_never_leave_the_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "secret.jpg", (9, 9))
    dataset(tmp_path / "set", [frame(CAR, name="../../secret.jpg"), frame(CAR, name="/etc/passwd")])
    records, _, _ = read(FORMAT, tmp_path / "set")
    assert records.images["location"].to_pylist()[:2] == ["secret.jpg", "etc/passwd.jpg"]
    assert records.images["path"].to_pylist()[:2] == [None, None]


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["name", "id", "category", "box2d", "x1", "y1", "x2", "y2", "poly2d", "vertices", "types", "rle",
                         "graph", "nodes", "location", "attributes", "size", "counts", "bbox", "timestamp", "labels"]),
        inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(ANYTHING, ANYTHING)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, labels: Any, said: Any) -> None:
    root = tmp_path_factory.mktemp("bdd")
    more = said if isinstance(said, dict) else {"attributes": said}
    text = json.dumps([{**more, "name": "a.jpg", "labels": labels}, said, {"name": "b.jpg", "labels": [labels, said]}])
    (root / "a.json").write_text(text, encoding="utf-8")
    records, table, _ = read(FORMAT, root / "a.json")
    assert records.images.num_rows >= 1
    assert set(table["image_id"].to_pylist()) <= set(records.images["image_id"].to_pylist())


def test_damaged_files(tmp_path: Path) -> None:
    labels = [
        CAR,
        {"category": "lane", "poly2d": [outline([0, 0], [5, 5], [6, 6], [7, 7], types="LCCC", closed=False)]},
    ]
    for seed in range(60):
        root = dataset(
            tmp_path / str(seed), [frame(*labels, attributes={"weather": "clear"}, videoName="v", frameIndex=1)]
        )
        damage_folder(root, random.Random(seed))
        try:
            read(FORMAT, root)
        except CurateError:
            continue
