"""Label Studio: percentages, rotation about the corner, brush strokes, annotators, predictions, and the way back."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from format_cases import CLASSES, Case, boxes, by_location, cases, make_export, read, reasons, write_image, written
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mutations import damage_folder
from PIL import Image

from curate.dataset.schema import ANNOTATIONS
from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Export, ReadOptions, Records, WriteOptions
from curate.formats.detect import detect_format
from curate.formats.importing import import_source
from curate.formats.label_studio import FORMAT
from curate.formats.label_studio.brush import decode_brush, encode_brush
from curate.formats.label_studio.config import Control, config_bytes, read_config
from curate.formats.label_studio.images import location_of
from curate.formats.locations import strip_layout
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS
from curate.geometry import decode_rle, encode_rle, rotated_box_corners

NOT_THERE = "not there; kept without a file"
PIXELS = 1e-9


def result(
    value: dict[str, Any], *, id: str | None = "r1", size: tuple[int, int] = (200, 100), **other: Any
) -> dict[str, Any]:
    """One result on an image of 200 x 100 pixels."""
    said = {"value": value, "to_name": "image", "from_name": "label", "type": "rectanglelabels", **other}
    said |= {"original_width": size[0], "original_height": size[1]}
    return said if id is None else {"id": id, **said}


def rectangle(*labels: str, rotation: float = 0, **other: Any) -> dict[str, Any]:
    """A box at x 20, y 30 of 40 x 50 pixels."""
    return result(
        {"x": 10, "y": 30, "width": 20, "height": 50, "rotation": rotation, "rectanglelabels": list(labels)}, **other
    )


def task(*results: dict[str, Any], image: str = "a.jpg", **other: Any) -> dict[str, Any]:
    """A task with one annotation."""
    return {
        "id": 1,
        "data": {"image": image},
        "annotations": [{"id": 5, "completed_by": 2, "result": list(results)}],
        **other,
    }


def save(folder: Path, *tasks: Any, name: str = "tasks.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(tasks)), encoding="utf-8")
    return path


def rows_of(folder: Path, *tasks: Any) -> tuple[list[dict[str, Any]], LossReport]:
    """What is read from tasks, beside an image 'a.jpg' of 200 x 100 pixels."""
    if not (folder / "a.jpg").exists():
        write_image(folder / "a.jpg", (200, 100))
    _, table, losses = read(FORMAT, save(folder, *tasks))
    return [row | {"attributes": json.loads(row["attributes"] or "{}")} for row in table.to_pylist()], losses


# ------------------------------------------------------------------------------------------------------------ real files


def exports(shared_data: Path) -> Path:
    return shared_data / "formats/label_studio"


def test_real_boxes(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, exports(shared_data) / "test_export_yolo/data.json")
    assert records.images.select(["location", "width", "height", "source_id", "source"]).to_pylist() == [
        {"location": "image1", "width": 2800, "height": 2800, "source_id": "1", "source": "project-1"},
        {"location": "image2", "width": 2800, "height": 2800, "source_id": "2", "source": "project-1"},
    ]
    assert Counter(table["label"].to_pylist()) == {"white": 4, "parasites": 2}
    first = table.to_pylist()[0]
    # 37.15846994535519 %, 70.67395264116576 %, 4.189435336976321 % and 4.735883424408015 % of 2800
    assert first["bbox"] == pytest.approx([1040.43715846994, 1978.87067395264, 117.30418943533, 132.60473588342])
    assert (first["type"], first["source_id"]) == ("box", "C7oHaRDVVC")
    assert json.loads(first["attributes"]) == {"annotator": 2, "annotation_id": 1}
    assert [json.loads(row)["annotator"] for row in table["attributes"].to_pylist()[:4]] == [2, 2, 1, 1]
    assert {(loss.reason.partition(";")[0], loss.count) for loss in losses.losses} == {
        ("not there", 2),
        ("annotated several times", 1),
    }


def test_real_rotated_boxes_turn_about_their_corner(shared_data: Path) -> None:
    _, table, _ = read(FORMAT, exports(shared_data) / "test_export_yolo/data_obb.json")
    assert Counter(table["type"].to_pylist()) == {"rotated_box": 25}
    row = table.to_pylist()[0]
    corners = rotated_box_corners([row["rotated_box"]])[0]
    # The corner given: 10.537066764905694 % of 597 and 79.55767690059092 % of 768. The next lies 19.045470024656689 % of 597
    # away from it, at 328.33240366032836 degrees.
    corner = np.array([62.906288586487, 611.002958596538])
    angle = math.radians(328.33240366032836)
    assert corners[0] == pytest.approx(corner)
    assert corners[1] == pytest.approx(corner + 113.701456047200 * np.array([math.cos(angle), math.sin(angle)]))
    assert np.linalg.norm(corners[3] - corners[0]) == pytest.approx(0.08132522043893883 * 768)


def test_real_polygon(shared_data: Path) -> None:
    _, table, _ = read(FORMAT, exports(shared_data) / "test_export_yolo/data_polygons.json")
    row = table.to_pylist()[0]
    assert (row["type"], row["label"]) == ("polygon", "Airplane")
    # [60, 19.55922865013774] % of 640 x 426
    assert row["polygons"][0][:2] == pytest.approx([384, 83.32231404958677])
    assert len(row["polygons"][0]) == 2 * len(_points(exports(shared_data) / "test_export_yolo/data_polygons.json"))


def _points(path: Path) -> list[Any]:
    points: list[Any] = json.loads(path.read_text())[0]["annotations"][0]["result"][0]["value"]["points"]
    return points


def test_real_keypoints_join_their_rectangle(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, exports(shared_data) / "test_export_yolo/data_keypoints.json")
    assert table.num_rows == 1
    row = table.to_pylist()[0]
    assert (row["type"], row["label"], row["source_id"]) == ("keypoints", "person", "hplPm0Szvc")
    assert row["bbox"] == pytest.approx([83.914893617, 13.327659574, 102.178723404, 88.604255319])
    # 64.44444444444444 % of 216 and 39.290780141843975 % of 174 is the nose
    assert row["keypoints"][:3] == pytest.approx([139.2, 68.365957446808, 2])
    assert [info.keypoints for info in records.classes] == [("nose", "left_eye", "right_eye")]
    said = json.loads(row["attributes"])
    assert {name: point["id"] for name, point in said["keypoints"].items()} == {
        "nose": "YuLAREYKpq", "left_eye": "gD9Q-39A_4", "right_eye": "qwGtX1L1Nm",
    }  # fmt: skip
    assert said["annotator"] == "sergei@heartex.test"
    metadata = json.loads(records.images["metadata"][0].as_py())["label_studio"]
    assert len(metadata["annotations"][0]["results"]) == 5  # relations
    assert reasons(losses) == {NOT_THERE}


def test_real_predictions_are_a_layer_of_their_own(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, exports(shared_data) / "test_export_csv/csv_test.json")
    assert Counter(table["layer"].to_pylist()) == {"ground_truth": 3, "predictions/model 0": 2}
    assert records.layers == {"ground_truth", "predictions/model 0"}
    predicted = [row for row in table.to_pylist() if row["layer"] != "ground_truth"]
    assert [row["score"] for row in predicted] == [0.23053804129850775, 0.2962464632651445]
    truth = [row for row in table.to_pylist() if row["layer"] == "ground_truth"]
    assert [row["score"] for row in truth] == [None, None, None]
    assert json.loads(truth[0]["attributes"])["score"] == 0.23053804129850775  # what the annotator began with


def test_real_pages_of_one_task(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, exports(shared_data) / "test_export_json_min/data_repeater.json")
    assert records.images["location"].to_pylist() == [f"example.org/example{number}.jpeg" for number in (1, 2, 3)]
    assert set(records.images["group"].to_pylist()) == {"task-86"}
    (row,) = table.to_pylist()
    assert row["image_id"] == records.images["image_id"][0].as_py()
    assert json.loads(row["attributes"])["categories_0"] == [["Archaea"]]


@pytest.mark.parametrize("name", ["test_export_csv/csv_test2.json", "test_export_json_min/chat_data.json"])
def test_projects_without_images_are_an_error(shared_data: Path, name: str) -> None:
    with pytest.raises(FormatError, match="no task has an image"):
        read(FORMAT, exports(shared_data) / name)


def test_real_exports_come_back_as_they_were(shared_data: Path, tmp_path: Path) -> None:
    names = ["test_export_yolo/data.json", "test_export_yolo/data_obb.json", "test_export_yolo/data_keypoints.json",
             "test_export_yolo/data_polygons.json", "test_export_csv/csv_test.json", "test_export_coco/data.json",
             "test_export_json_min/data_repeater.json"]  # fmt: skip
    for number, name in enumerate(names):
        records, table, _ = read(FORMAT, exports(shared_data) / name)
        target, losses = tmp_path / str(number), LossReport()
        target.mkdir()
        FORMAT.write(Export(records.images, table, records.classes, records.info), target, WriteOptions(), losses)
        again, back, _ = read(FORMAT, target)
        assert losses.losses == []
        assert again.images.equals(records.images), name
        assert back["annotation_id"].equals(table["annotation_id"]), name
        for given_row, row in zip(table.to_pylist(), back.to_pylist(), strict=True):
            assert_same(given_row, row)
        given_tasks = json.loads((exports(shared_data) / name).read_text())
        for before, after in zip(given_tasks, json.loads((target / "tasks.json").read_text()), strict=True):
            assert (after["id"], after["data"]) == (before["id"], before["data"])
            assert [each["id"] for each in after["annotations"]] == [each["id"] for each in before["annotations"]]


def assert_same(given_row: dict[str, Any], row: dict[str, Any]) -> None:
    """Two annotations are equal but for rounding."""
    for name in ANNOTATIONS.names:
        if name == "polygons" and row[name]:
            assert [pytest.approx(part, abs=PIXELS) for part in given_row[name]] == row[name]
        elif name in {"bbox", "rotated_box", "keypoints"} and row[name]:
            assert row[name] == pytest.approx(given_row[name], abs=1e-7)
        else:
            assert row[name] == given_row[name], name


# ---------------------------------------------------------------------------------------------------------------- brush


def painted() -> st.SearchStrategy[Any]:
    sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
    return arrays.arrays(np.bool_, sizes)


@settings(deadline=None, max_examples=60)
@given(painted())
def test_brush_round_trip(mask: Any) -> None:
    codes = encode_brush(mask)
    drawn = decode_brush(codes, mask.shape[1], mask.shape[0])
    assert drawn is not None
    assert (drawn == mask).all()
    assert all(0 <= code <= 255 for code in codes)


def bits(*fields: tuple[int, int]) -> list[int]:
    """Numbers of some bits each, as bytes."""
    text = "".join(f"{value:0{count}b}" for value, count in fields)
    return [int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8)]


HEADER = ((7, 5), (2, 4), (3, 4), (7, 4), (15, 4))
"""Values of 8 bits; counts of 3, 4, 8 or 16 bits."""


def test_brush_codes_by_hand() -> None:
    # Three pixels: transparent, painted, transparent: 4 zeros, 4 values written out, 4 zeros.
    values = [(value, 8) for value in (255, 0, 7, 100)]
    codes = bits(
        (12, 32),
        *HEADER,
        (1, 1),
        (0, 2),
        (3, 3),
        (0, 8),
        (0, 1),
        (1, 2),
        (3, 4),
        *values,
        (1, 1),
        (2, 2),
        (3, 8),
        (0, 8),
    )
    drawn = decode_brush(codes, 3, 1)
    assert drawn is not None
    assert drawn.tolist() == [[False, True, False]]
    # Painted where alpha, the last of the four, is above 0.
    see_through = bits((4, 32), *HEADER, (0, 1), (0, 2), (3, 3), (255, 8), (255, 8), (255, 8), (0, 8))
    assert decode_brush(see_through, 1, 1) == np.array([[False]])


def test_long_literal_and_long_runs() -> None:
    values = np.arange(4 * 5000) % 251
    codes = bits(
        (len(values), 32), *HEADER, (0, 1), (3, 2), (len(values) - 1, 16), *((int(value), 8) for value in values)
    )
    drawn = decode_brush(codes, 50, 100)
    assert drawn is not None
    assert (drawn.ravel() == (values[3::4] > 0)).all()
    large = np.ones((300, 500), dtype=np.bool_)  # 600,000 values: more than a count of 16 bits can say
    drawn = decode_brush(encode_brush(large), 500, 300)
    assert drawn is not None
    assert drawn.all()


@pytest.mark.parametrize(
    "codes",
    [
        [],
        [1, 2, 3],
        [300] * 20,
        [-1] * 20,
        ["a"] * 20,
        [None] * 20,
        [1.5] * 20,
        [255] * 20,
        bits((2**32 - 1, 32), *HEADER, (1, 1), (0, 2), (3, 3), (0, 8)),
        encode_brush(np.eye(4, 5))[:-2],
        encode_brush(np.eye(5, 5)),
    ],
)
def test_broken_brush_codes(codes: list[Any]) -> None:
    assert decode_brush(codes, 5, 4) is None


def test_a_real_picture_of_brush_strokes(shared_data: Path) -> None:
    with Image.open(exports(shared_data) / "test_brush/test.png") as image:
        mask = np.asarray(image.convert("L")) > 128
    codes = encode_brush(mask)
    drawn = decode_brush(codes, mask.shape[1], mask.shape[0])
    # The SDK's own image2rle makes 42,565 codes of it, with 86,802 pixels painted.
    assert (len(codes), int(mask.sum())) == (42565, 86802)
    assert drawn is not None
    assert (drawn == mask).all()


def test_brush_with_label_and_without(tmp_path: Path) -> None:
    mask = np.zeros((100, 200), dtype=np.bool_)
    mask[10:30, 50:90] = True
    value = {"format": "rle", "rle": encode_brush(mask)}
    first = result({**value, "brushlabels": ["x"]}, type="brushlabels")
    found, losses = rows_of(tmp_path, task(first, result(value, id="r2", type="brush")))
    assert [(row["type"], row["label"], row["bbox"]) for row in found] == [
        ("mask", "x", [50, 10, 40, 20]),
        ("mask", None, [50, 10, 40, 20]),
    ]
    assert (decode_rle(found[0]["rle"], found[0]["rle_size"]) == mask).all()
    assert losses.losses == []


# ---------------------------------------------------------------------------------------------------------------- shapes


def test_percentages_and_rotation(tmp_path: Path) -> None:
    found, losses = rows_of(tmp_path, task(rectangle("x"), rectangle("x", rotation=90, id="r2")))
    assert found[0]["bbox"] == [20, 30, 40, 50]
    # A quarter clockwise about (20, 30): 40 wide becomes 40 down, 50 high becomes 50 to the left.
    assert found[1]["rotated_box"] == pytest.approx([-5, 50, 40, 50, 90])
    assert found[1]["bbox"] == pytest.approx([-30, 30, 50, 40])
    assert losses.losses == []


def test_polygons_ellipses_and_polylines(tmp_path: Path) -> None:
    points = [[0, 0], [50, 0], [50, 50]]
    polygon = result({"points": points, "closed": True, "polygonlabels": ["p"]}, type="polygonlabels")
    line = result({"points": points, "closed": False, "polygonlabels": ["l"]}, type="polygonlabels", id="r2")
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "rotation": 0, "ellipselabels": ["e"]}
    found, losses = rows_of(tmp_path, task(polygon, line, result(ellipse, type="ellipselabels", id="r3")))
    assert [row["type"] for row in found] == ["polygon", "polyline", "polygon"]
    assert found[0]["polygons"] == [[0, 0, 100, 0, 100, 50]]
    assert found[2]["bbox"] == pytest.approx([80, 45, 40, 10], abs=0.3)
    assert reasons(losses) == {"an ellipse: kept as a polygon"}


def test_vectors(tmp_path: Path) -> None:
    places = [(0, 0), (50, 0), (50, 50)]
    vertices = [
        {"id": str(number), "x": x, "y": y, "isBezier": False, **({"prevPointId": str(number - 1)} if number else {})}
        for number, (x, y) in enumerate(places)
    ]
    kind: dict[str, Any] = {"type": "vectorlabels", "from_name": "lines"}
    line = result({"vertices": vertices, "closed": False, "vectorlabels": ["l"]}, **kind)
    area = result({"vertices": vertices, "closed": True, "vectorlabels": ["a"]}, id="r2", **kind)
    found, losses = rows_of(tmp_path, task(line, area))
    assert [(row["type"], row["label"], row["polygons"]) for row in found] == [
        ("polyline", "l", [[0, 0, 100, 0, 100, 50]]),
        ("polygon", "a", [[0, 0, 100, 0, 100, 50]]),
    ]
    assert losses.losses == []
    curved = [*vertices[:2], {**vertices[2], "isBezier": True, "prevPointId": "0"}]
    _, losses = rows_of(tmp_path, task(result({"vertices": curved, "closed": False, "vectorlabels": ["l"]}, **kind)))
    assert reasons(losses) == {
        "a curved line: kept as straight ones between its points",
        "a line with branches: kept as one through all of its points",
    }
    # A project with vectors gets its polylines back as such.
    records, table, _ = read(FORMAT, save(tmp_path, task(line)))
    target = tmp_path / "out"
    target.mkdir()
    export = Export(records.images, table, records.classes, records.info)
    FORMAT.write(export, target, WriteOptions(), LossReport())
    (written,) = json.loads((target / "tasks.json").read_text())[0]["annotations"][0]["result"]
    assert (written["type"], written["from_name"], written["value"]) == ("vectorlabels", "lines", line["value"])


def test_points_alone_are_annotations_of_their_own(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (200, 100))
    nose = result({"x": 50, "y": 50, "width": 0.5, "keypointlabels": ["nose"]}, type="keypointlabels")
    records, table, _ = read(FORMAT, save(tmp_path, task(nose)))
    (row,) = table.to_pylist()
    assert (row["type"], row["label"], row["keypoints"]) == ("keypoints", "nose", [100, 50, 2])
    assert [(info.name, info.keypoints) for info in records.classes] == [("nose", ("nose",))]


def test_all_annotations_of_a_class_have_all_its_keypoints(tmp_path: Path) -> None:
    def point(name: str, parent: str) -> dict[str, Any]:
        value = {"x": 50, "y": 50, "width": 0.5, "keypointlabels": [name]}
        return result(value, type="keypointlabels", id=f"{name}-{parent}", parentID=parent)

    write_image(tmp_path / "a.jpg", (200, 100))
    found = task(rectangle("p"), point("eye", "r1"), rectangle("p", id="r2"), point("ear", "r2"))
    records, table, _ = read(FORMAT, save(tmp_path, found))
    assert table["keypoints"].to_pylist() == [[100, 50, 2, 0, 0, 0], [0, 0, 0, 100, 50, 2]]
    assert records.classes[0].keypoints == ("eye", "ear")


def test_what_is_said_of_a_region_becomes_its_attributes(tmp_path: Path) -> None:
    shape = {"x": 10, "y": 30, "width": 20, "height": 50, "rotation": 0}
    found, losses = rows_of(
        tmp_path,
        task(
            result(shape, type="rectangle", from_name="rect"),
            result({**shape, "labels": ["car", "van"]}, type="labels", from_name="labels"),
            result({**shape, "choices": ["yes"]}, type="choices", from_name="occluded"),
            result({**shape, "text": ["a note"]}, type="textarea", from_name="note"),
            result({**shape, "rating": 4}, type="rating", from_name="quality"),
        ),
    )
    (row,) = found
    assert (row["label"], row["bbox"]) == ("car", [20, 30, 40, 50])
    assert row["attributes"] == {
        "occluded": "yes", "note": "a note", "quality": 4, "labels": ["car", "van"], "annotator": 2, "annotation_id": 5,
    }  # fmt: skip
    assert [(loss.what, loss.count) for loss in losses.losses] == [("annotations", 1)]


def test_choices_are_labels_of_the_image_and_other_answers_are_kept(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (200, 100))
    choices = result({"choices": ["day", "rain"]}, type="choices", from_name="scene")
    answer = result({"taxonomy": [["a", "b"]]}, type="taxonomy", from_name="kind", id="r2")
    records, table, losses = read(FORMAT, save(tmp_path, task(choices, answer)))
    assert [(row["type"], row["label"], row["source_id"]) for row in table.to_pylist()] == [
        ("label", "day", "r1"),
        ("label", "rain", "r1"),
    ]
    assert len(set(table["annotation_id"].to_pylist())) == 2
    kept = json.loads(records.images["metadata"][0].as_py())["label_studio"]["annotations"][0]["results"]
    assert kept == [answer]
    assert losses.losses == []


def test_a_region_without_a_label_is_kept(tmp_path: Path) -> None:
    found, _ = rows_of(tmp_path, task(rectangle(type="rectangle")))
    assert [(row["label"], row["bbox"]) for row in found] == [(None, [20, 30, 40, 50])]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    sound = result({"start": 1, "end": 2, "labels": ["x"]}, type="labels", to_name="audio", id="r2")
    video = result({"sequence": [], "labels": ["x"]}, type="videorectangle", id="r3")
    torn = result({"x": 1, "y": "?", "width": 3, "height": 4, "rectanglelabels": ["x"]}, id="r4")
    line = result({"points": [[1, 1], [2, 2]], "polygonlabels": ["x"]}, id="r5")
    infinite = result({"x": 1, "y": 1e999, "width": 3, "height": 4, "rectanglelabels": ["x"]}, id="r6")
    given_task = task(rectangle("x"), sound, video, torn, line, infinite)
    given_task["data"]["audio"] = "a.wav"
    found, losses = rows_of(tmp_path, given_task, {"nothing": 1}, 7)
    assert len(found) == 1
    assert {(loss.what, loss.reason) for loss in losses.losses} == {
        ("results", "of 'audio', which is not an image"),
        ("results", "of a kind that is not read: videorectangle"),
        ("annotations", "a rectangle that is not whole"),
        ("annotations", "an outline of too few points"),
        ("annotations", "coordinates that are not finite numbers"),
        ("tasks", "not a Label Studio task"),
    }
    assert any(loss.places == ["tasks.json: item 2", "tasks.json: item 3"] for loss in losses.losses)


# ------------------------------------------------------------------------------------------------------------- the people


def test_everybodys_annotations_are_kept(tmp_path: Path) -> None:
    people: list[Any] = [2, {"id": 3, "email": "b@example.com"}, {"id": 4}]
    both = [{"id": number, "completed_by": who, "result": [rectangle("x")]} for number, who in enumerate(people)]
    both.append({"id": 9, "was_cancelled": True, "result": [rectangle("x")]})
    found, losses = rows_of(tmp_path, {"id": 1, "data": {"image": "a.jpg"}, "annotations": both})
    assert [row["attributes"]["annotator"] for row in found] == [2, "b@example.com", 4]
    assert [row["source_id"] for row in found] == ["r1", "r1", "r1"]
    assert len({row["annotation_id"] for row in found}) == 3
    assert {(loss.outcome, loss.what, loss.count) for loss in losses.losses} == {
        ("dropped", "annotations", 1),
        ("converted", "images", 1),
    }


def test_predictions_never_become_ground_truth(tmp_path: Path) -> None:
    own = {"model_version": "v2", "score": 0.4, "result": [rectangle("x", score=0.9), rectangle("y", id="r2")]}
    unnamed = {"score": 0.1, "result": [rectangle("x")]}
    found, _ = rows_of(tmp_path, {"id": 1, "data": {"image": "a.jpg"}, "predictions": [own, unnamed]})
    assert [(row["layer"], row["score"]) for row in found] == [
        ("predictions/v2", 0.9),
        ("predictions/v2", 0.4),
        ("predictions/label_studio", 0.1),
    ]


def test_a_newer_export_replaces_the_older(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (200, 100))
    first = save(
        tmp_path, task(rectangle("x"), rectangle("x", id="r2"), project=3), name="project-3-at-2024-01-01.json"
    )
    second = save(
        tmp_path, task(rectangle("y"), rectangle("x", id="r3"), project=3), name="project-3-at-2024-02-01.json"
    )
    before = import_source("d", first, format="label_studio", command="import")
    assert before.counts["annotations added"] == 2
    after = import_source("d", second, format="label_studio", command="import")
    assert (after.counts["annotations added"], after.counts["annotations changed"]) == (1, 1)
    assert after.counts["annotations removed"] == 1
    # Both in one folder: the newest is right, and nothing is doubled.
    _, table, losses = read(FORMAT, tmp_path)
    assert sorted(table["source_id"].to_pylist()) == ["r1", "r3"]
    assert "the same annotation again, in an older export or another task; the first is kept" in reasons(losses)


# ---------------------------------------------------------------------------------------------------- references and sizes


@pytest.mark.parametrize(
    ("reference", "location"),
    [
        ("/data/upload/1/0a1b2c3d-name.jpg", "upload/1/0a1b2c3d-name.jpg"),
        ("/data/local-files/?d=folder%2Fmy%20name.jpg", "folder/my name.jpg"),
        ("https://host:80/a/b.jpg?token=1", "host:80/a/b.jpg"),
        ("https://host/view?id=7", "host/view?id=7"),
        ("s3://bucket/a/b.jpg", "bucket/a/b.jpg"),
        ("a/b.jpg", "a/b.jpg"),
        ("../../etc/passwd", "etc/passwd"),
        ("/data/local-files/?d=../../etc/passwd", "etc/passwd"),
        ("C:\\pictures\\a.jpg", "pictures/a.jpg"),
        ("http://[", "http:/["),
    ],
)
def test_locations(reference: str, location: str) -> None:
    assert location_of(reference) == location


@pytest.mark.parametrize(
    ("reference", "file"),
    [
        ("/data/upload/1/0a1b2c3d-name.jpg", "images/name.jpg"),
        ("/data/upload/1/0a1b2c3d-name.jpg", "images/0a1b2c3d-name.jpg"),
        ("/data/local-files/?d=other/images/name.jpg", "images/name.jpg"),
        ("https://host/deep/name.jpg?token=1", "name.jpg"),
    ],
)
def test_files_are_found(tmp_path: Path, reference: str, file: str) -> None:
    path = write_image(tmp_path / file, (200, 100))
    records, table, losses = read(FORMAT, save(tmp_path, task(rectangle("x"), image=reference)))
    assert records.images.select(["location", "path"]).to_pylist() == [{"location": file, "path": str(path)}]
    assert table.num_rows == 1
    assert losses.losses == []


def test_images_elsewhere(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere/name.jpg", (200, 100))
    source = save(tmp_path / "in", task(rectangle("x"), image="/data/upload/1/0a1b2c3d-name.jpg"))
    records, _, _ = read(FORMAT, source, ReadOptions(images=tmp_path / "elsewhere"))
    assert records.images["location"].to_pylist() == ["name.jpg"]


def test_without_a_stated_size_the_file_tells(tmp_path: Path) -> None:
    shape = rectangle("x")
    del shape["original_width"], shape["original_height"]
    found, losses = rows_of(tmp_path, task(shape))
    assert found[0]["bbox"] == [20, 30, 40, 50]
    assert losses.losses == []
    found, losses = rows_of(tmp_path, task(shape, image="gone.jpg"))
    assert found == []
    assert reasons(losses) == {NOT_THERE, "percentages of an image whose size nobody says"}


def test_percentages_are_of_the_image_that_is_there(tmp_path: Path) -> None:
    found, losses = rows_of(tmp_path, task(rectangle("x", size=(2000, 1000))))
    assert found[0]["bbox"] == [20, 30, 40, 50]
    assert reasons(losses) == {"the size stated is not the image's; percentages were taken of the image's"}


def test_percentages_of_an_image_as_stored_are_turned(tmp_path: Path) -> None:
    # Stored 200 x 100 and turned by a quarter clockwise (6): a stored point (x, y) lies at (100 - y, x).
    write_image(tmp_path / "a.jpg", (200, 100), orientation=6)
    found, losses = rows_of(tmp_path, task(rectangle("x")))
    assert found[0]["bbox"] == [20, 20, 50, 40]
    # Newer browsers show it turned, and say so by the size.
    upright, _ = rows_of(tmp_path, task(rectangle("x", size=(100, 200))))
    assert upright[0]["bbox"] == [10, 60, 20, 100]
    assert losses.losses == []


def test_several_images_of_a_task(tmp_path: Path) -> None:
    for name in ("l.jpg", "r.jpg"):
        write_image(tmp_path / name, (200, 100))
    config = '<View><Image name="one" value="$left"/><Image name="two" value="$right"/></View>'
    (tmp_path / "label_config.xml").write_text(config)
    other = rectangle("y", to_name="one", from_name="other", id="r2")
    found = task(rectangle("x", to_name="two"), other, rectangle("z", to_name="?", id="r3"))
    found["data"] = {"left": "l.jpg", "right": "r.jpg", "text": "hello"}
    records, table, losses = read(FORMAT, save(tmp_path, found))
    by = by_location(records, table)
    assert {name: [row["label"] for row in rows] for name, rows in by.items()} == {"l.jpg": ["y"], "r.jpg": ["x"]}
    assert reasons(losses) == {"on one of a task's images, and it is not said on which"}
    target = tmp_path / "out"
    target.mkdir()
    FORMAT.write(
        Export(records.images, table, records.classes, records.info), target, WriteOptions("copy"), LossReport()
    )
    (back,) = json.loads((target / "tasks.json").read_text())
    assert {each["to_name"] for each in back["annotations"][0]["result"]} == {"one", "two"}
    again, back_table, _ = read(FORMAT, target)
    assert {name: [row["label"] for row in rows] for name, rows in by_location(again, back_table).items()} == {
        "images/l.jpg": ["y"],
        "images/r.jpg": ["x"],
    }


# ------------------------------------------------------------------------------------------------------ kinds of files


def test_one_task_in_a_file_and_a_folder_of_them(tmp_path: Path) -> None:
    for number in (1, 2):
        write_image(tmp_path / f"{number}.jpg", (200, 100))
        (tmp_path / f"{number}.json").write_text(json.dumps(task(rectangle("x"), image=f"{number}.jpg")))
    records, table, losses = read(FORMAT, tmp_path)
    assert (records.images.num_rows, table.num_rows) == (2, 2)
    assert read(FORMAT, tmp_path / "1.json")[1].num_rows == 1
    assert losses.losses == []


def test_old_exports_and_target_storages(tmp_path: Path) -> None:
    old = task(rectangle("x"))
    old["completions"] = old.pop("annotations")
    found, _ = rows_of(tmp_path, old)
    assert len(found) == 1
    stored = {"id": 5, "result": [rectangle("x")], "completed_by": 2, "task": {"id": 1, "data": {"image": "a.jpg"}}}
    (tmp_path / "target").mkdir()
    write_image(tmp_path / "target/a.jpg", (200, 100))
    (tmp_path / "target/5").write_text(json.dumps(stored))
    _, table, _ = read(FORMAT, tmp_path / "target")
    assert table["annotation_id"].to_pylist() == [found[0]["annotation_id"]]


def test_json_min(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (200, 100))
    value = {**rectangle("x")["value"], "original_width": 200, "original_height": 100}
    row = {"id": 1, "image": "a.jpg", "label": [value], "annotator": 2, "annotation_id": 5, "note": "n", "scene": "day"}
    config = (
        '<View><Image name="i" value="$image"/><Choices name="scene" toName="i"><Choice value="day"/></Choices></View>'
    )
    (tmp_path / "label_config.xml").write_text(config)
    records, table, losses = read(FORMAT, save(tmp_path, row, {**row, "annotation_id": 6}))
    assert [(each["label"], each["bbox"]) for each in table.to_pylist()] == [("x", [20, 30, 40, 50]), ("day", None)] * 2
    assert json.loads(records.images["metadata"][0].as_py())["label_studio"]["data"] == {"image": "a.jpg", "note": "n"}
    assert {loss.reason.partition(":")[0] for loss in losses.losses} >= {"JSON_MIN"}


def test_a_broken_file_among_others_is_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (200, 100))
    save(tmp_path, task(rectangle("x")))
    (tmp_path / "b.json").write_text('[{"id": 1, "data": {')
    (tmp_path / "c.json").write_text("[" * 100000)
    (tmp_path / "d.json").write_text('{"other": 1}')
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert Counter(loss.what for loss in losses.losses)["files"] >= 2
    with pytest.raises(FormatError, match="truncated"):
        read(FORMAT, tmp_path / "b.json")


def test_classes_and_colors_of_the_configuration(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (200, 100))
    labels = '<Label value="z" background="#FF0000"/><Label value="x"/>'
    control = f'<RectangleLabels name="label" toName="image">{labels}</RectangleLabels>'
    (tmp_path / "label_config.xml").write_text(f'<View><Image name="image" value="$image"/>{control}</View>')
    records, _, _ = read(FORMAT, save(tmp_path, task(rectangle("x"))))
    assert [(info.name, info.color) for info in records.classes] == [("z", "#ff0000"), ("x", None)]


def test_keypoints_of_each_class_in_the_configuration(tmp_path: Path) -> None:
    """As the connector writes it: a class whose keypoints nobody has seen yet has them all, at their places."""
    classes = [ClassInfo("cat", keypoints=("eye", "tail")), ClassInfo("bird", keypoints=("tail", "beak", "eye"))]
    points = ("eye", "tail", "beak")
    controls = {
        "k": Control("keypointlabels", "image", points),
        "r": Control("rectanglelabels", "image", ("cat", "bird")),
    }
    write_image(tmp_path / "a.jpg", (200, 100))
    content = config_bytes(controls, {"image": "image"}, classes, of_classes=True)
    (tmp_path / "label_config.xml").write_bytes(content)
    tail = result(
        {"x": 1, "y": 2, "keypointlabels": ["tail"]}, id="k1", type="keypointlabels", parentID="r1", from_name="k"
    )
    records, table, _ = read(FORMAT, save(tmp_path, task(rectangle("bird"), tail)))
    assert table["keypoints"].to_pylist() == [[2, 2, 2, 0, 0, 0, 0, 0, 0]]
    assert {info.name: info.keypoints for info in records.classes} == {info.name: info.keypoints for info in classes}
    broken = content.replace(b"{&quot;bird&quot;: 1}", b"[")
    (tmp_path / "label_config.xml").write_bytes(broken)
    assert broken != content
    assert read_config(tmp_path / "label_config.xml").keypoints_of == {"cat": ("eye", "tail")}


def test_detection(shared_data: Path) -> None:
    for folder in ("test_export_yolo", "test_export_coco", "test_export_json_min"):
        assert detect_format(exports(shared_data) / folder)[0].name == "label_studio"
        assert detect_format(exports(shared_data) / folder / "data.json")[0].name == "label_studio"
    assert detect_format(exports(shared_data) / "test_import_coco")[0].name == "coco"


def test_other_formats_are_not_claimed(shared_data: Path) -> None:
    folders = [
        path for path in (shared_data / "formats").glob("*/*") if path.is_dir() and path.parent.name != "label_studio"
    ]
    assert len(folders) > 50
    assert [folder.name for folder in folders if FORMAT.detect(folder)] == []


def test_damaged_files_give_one_kind_of_error(shared_data: Path, tmp_path: Path) -> None:
    sources = [
        "test_export_yolo/data_keypoints.json",
        "test_export_json_min/data_repeater.json",
        "test_export_csv/csv_test.json",
    ]
    for seed in range(150):
        place = tmp_path / str(seed)
        place.mkdir()
        (place / "data.json").write_bytes((exports(shared_data) / sources[seed % 3]).read_bytes())
        damage_folder(place, random.Random(seed))
        try:
            records, table, _ = read(FORMAT, place)
        except CurateError:
            continue
        assert len(set(table["annotation_id"].to_pylist())) == table.num_rows
        target = tmp_path / f"out{seed}"
        target.mkdir()
        FORMAT.write(Export(records.images, table, records.classes, records.info), target, WriteOptions(), LossReport())


# ----------------------------------------------------------------------------------------------------------- round trips


@st.composite
def described(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    """Annotations of every kind, with attributes and ids."""
    label = draw(st.sampled_from(CLASSES))
    row: dict[str, Any] = {"label": label, "iscrowd": draw(st.sampled_from([None, True, False]))}
    said = draw(
        st.dictionaries(st.sampled_from(["occluded", "note", "größe"]), st.sampled_from([True, "no", 3, [1, "x"]]))
    )
    row["attributes"] = json.dumps(said) if said else None
    kind = draw(st.sampled_from(["box", "rotated_box", "polygon", "polyline", "mask", "label", "unlabelled"]))
    row["type"] = kind
    if kind == "unlabelled":
        row |= {"type": "box", "label": None, "bbox": draw(boxes(size))}
    elif kind == "box":
        row["bbox"] = draw(boxes(size))
    elif kind == "rotated_box":
        x, y, width, height = draw(boxes(size))
        row["rotated_box"] = [x, y, width, height, draw(st.floats(0.5, 359.5))]
        corners = rotated_box_corners([row["rotated_box"]])[0]
        row["bbox"] = [*corners.min(axis=0).tolist(), *np.ptp(corners, axis=0).tolist()]
    elif kind in {"polygon", "polyline"}:
        part = st.lists(st.tuples(st.floats(0, size[0]), st.floats(0, size[1])), min_size=3, max_size=6)
        count = 1 if kind == "polyline" else draw(st.integers(1, 3))
        row["polygons"] = [[side for point in draw(part) for side in point] for _ in range(count)]
        points = np.concatenate([np.reshape(each, (-1, 2)) for each in row["polygons"]])
        row["bbox"] = [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]
    elif kind == "mask":
        mask = draw(arrays.arrays(np.bool_, (size[1], size[0])))
        mask[0, 0] = True
        row |= {"rle": encode_rle(mask), "rle_size": [size[1], size[0]]}
        down, across = np.nonzero(mask)
        row["bbox"] = [float(across.min()), float(down.min()), float(np.ptp(across) + 1), float(np.ptp(down) + 1)]
    return row


@settings(deadline=None, max_examples=40)
@given(cases(described))
def test_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        assert {loss.what for loss in losses.losses} <= {"category ids and supercategories"}
        records, table, back_losses = read(FORMAT, target)
        assert back_losses.losses == []
        back = {strip_layout(name, None): rows for name, rows in by_location(records, table).items()}
        assert dict(zip(back, records.images["split"].to_pylist(), strict=True)) == {
            case.location: case.split for case in found
        }
        for case in found:
            # Labels of the whole image come after the shapes.
            given_rows = sorted(case.annotations, key=lambda row: row["type"] == "label")
            for given_row, row in zip(given_rows, back[case.location], strict=True):
                assert (row["type"], row["label"]) == (given_row["type"], given_row["label"])
                assert json.loads(row["attributes"] or "{}") == json.loads(given_row["attributes"] or "{}")
                assert row["iscrowd"] == given_row["iscrowd"]
                assert (row["rle"], row["rle_size"]) == (given_row.get("rle"), given_row.get("rle_size"))
                for name in ("bbox", "rotated_box"):
                    assert row[name] == (pytest.approx(given_row[name], abs=1e-6) if given_row.get(name) else None)
                for part, given_part in zip(row["polygons"] or [], given_row.get("polygons") or [], strict=True):
                    assert part == pytest.approx(given_part, abs=1e-6)


def test_keypoints_and_predictions_round_trip(tmp_path: Path) -> None:
    person = {
        "type": "keypoints", "label": CLASSES[0], "bbox": [1.0, 2.0, 30.0, 40.0], "source_id": "17", "area": 321.5,
        "keypoints": [5.0, 6.0, 2.0, 0.0, 0.0, 0.0, 7.0, 8.0, 1.0],
    }  # fmt: skip
    export = make_export(tmp_path, [Case("a.png", (60, 50), None, [person, {**person, "source_id": "18"}])])
    layers = pa.array(["ground_truth", "predictions/m"])
    annotations = export.annotations.set_column(2, ANNOTATIONS.field("layer"), layers)
    annotations = annotations.set_column(
        ANNOTATIONS.get_field_index("score"), ANNOTATIONS.field("score"), pa.array([None, 0.7])
    )
    classes = [type(info)(info.name, keypoints=("nose", "eye", "ear")) for info in export.classes[:1]]
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(Export(export.images, annotations, classes, {}), target, WriteOptions("copy"), losses)
    records, table, _ = read(FORMAT, target)
    assert [(loss.what, loss.count) for loss in losses.losses] == [("areas", 2)]
    assert records.classes[0].keypoints == ("nose", "eye", "ear")
    for row, layer, score in zip(table.to_pylist(), layers.to_pylist(), [None, 0.7], strict=True):
        assert (row["layer"], row["score"], row["type"]) == (layer, score, "keypoints")
        assert row["keypoints"] == pytest.approx(person["keypoints"])
        assert row["bbox"] == pytest.approx(person["bbox"])
    assert table["source_id"].to_pylist() == ["17", "18"]


def test_an_export_of_predictions_leaves_peoples_work_out(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", (200, 100))
    given_task = task(
        rectangle("x"), predictions=[{"id": 8, "model_version": "m", "result": [rectangle("x")], "score": 0.5}]
    )
    records, table, _ = read(FORMAT, save(tmp_path, given_task))
    predicted = table.filter(pa.compute.equal(table["layer"], "predictions/m"))
    target = tmp_path / "out"
    target.mkdir()
    FORMAT.write(Export(records.images, predicted, records.classes, records.info), target, WriteOptions(), LossReport())
    (back,) = json.loads((target / "tasks.json").read_text())
    assert back["annotations"] == []
    assert [(each["id"], each["model_version"], len(each["result"])) for each in back["predictions"]] == [(8, "m", 1)]


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    mask = {"rle": encode_rle(np.ones((9, 9))), "rle_size": [9, 9]}
    both = {"type": "mask", "label": "x", "bbox": [0.0, 0.0, 9.0, 9.0], "polygons": [[0.0, 0, 5, 0, 5, 5]], **mask}
    nothing = {"type": "label", "label": None}
    export = make_export(tmp_path, [Case("a.png", (9, 9), None, [both, nothing])], [])
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(export, target, WriteOptions(), losses)
    assert {loss.what: loss.count for loss in losses.losses} == {"polygons": 1, "annotations": 1}
    assert losses.carried_counts == {"images": 1, "annotations": 1}


# ------------------------------------------------------------------------------------- what other formats' data look like


def again(found: Records, table: pa.Table, target: Path) -> tuple[Records, pa.Table, LossReport]:
    """What is read of what is written of what was read; the losses are the writer's."""
    target.mkdir()
    losses = LossReport()
    FORMAT.write(Export(found.images, table, found.classes, found.info), target, WriteOptions("copy"), losses)
    records, rows, _ = read(FORMAT, target)
    return records, rows, losses


def results_of(target: Path) -> list[dict[str, Any]]:
    tasks = json.loads((target / "tasks.json").read_text())
    return [each for given_task in tasks for work in given_task["annotations"] for each in work["result"]]


def test_ids_that_several_annotations_have_are_told_apart_and_come_back(tmp_path: Path) -> None:
    box: dict[str, Any] = {"type": "box", "label": CLASSES[0], "bbox": [1.0, 2.0, 30.0, 40.0], "source_id": "1"}
    same: dict[str, Any] = {"type": "label", "label": CLASSES[0], "source_id": "1"}
    rows = [
        box,
        {**box, "bbox": [5.0, 6.0, 7.0, 8.0]},
        same,
        same,
        {**same, "label": CLASSES[1]},
        {**box, "label": None},
    ]
    export = make_export(tmp_path, [Case("a.png", (60, 50), None, rows)])
    found = Records(export.images, [], export.classes)
    _, table, losses = again(found, export.annotations, tmp_path / "out")
    ids = [result["id"] for result in results_of(tmp_path / "out")]
    assert len(set(ids)) == len(ids) == 5  # two labels are choices of one result
    assert losses.carried_counts["annotations"] == len(rows)
    assert len(set(table["annotation_id"].to_pylist())) == len(rows)
    told = [(row["type"], row["label"], row["source_id"], row["attributes"]) for row in table.to_pylist()]
    assert Counter(told) == Counter((row["type"], row["label"], "1", None) for row in rows)
    assert [row["bbox"] and row["bbox"][2] for row in table.to_pylist()[:3]] == pytest.approx([30, 7, 30])


def test_coco_files_with_the_same_ids_come_back_whole(shared_data: Path, tmp_path: Path) -> None:
    found, table, _ = read(FORMATS.get("coco"), shared_data / "formats/datumaro/coco_dataset/coco")
    _, back, losses = again(found, table, tmp_path / "out")
    captions = table.filter(pa.compute.is_null(table["label"]))
    assert {loss.reason: loss.count for loss in losses.losses}["without a class and a place"] == captions.num_rows == 3
    names = ["label", "type", "source_id"]
    given = table.filter(pa.compute.is_valid(table["label"])).select(names).to_pylist()
    assert sorted(back.select(names).to_pylist(), key=str) == sorted(given, key=str)
    assert len(set(back["annotation_id"].to_pylist())) == len(given) == 9
    points = [
        Counter(tuple(np.round(row["keypoints"], 6)) for row in rows.to_pylist() if row["type"] == "keypoints")
        for rows in (table, back)
    ]
    assert points[0] == points[1]
    assert points[0].total() == 3


def test_ids_are_unique_over_the_images_of_a_task(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / name, (200, 100))
    two = task(rectangle("x", id="r1", to_name="one"), rectangle("y", id="r2", to_name="two"))
    two["data"] = {"one": "a.jpg", "two": "b.jpg"}
    config = '<View><Image name="one" value="$one"/><Image name="two" value="$two"/></View>'
    (tmp_path / "label_config.xml").write_text(config)
    records, table, _ = read(FORMAT, save(tmp_path, two).parent)
    place = table.schema.get_field_index("source_id")
    table = table.set_column(place, ANNOTATIONS.field("source_id"), pa.array(["r1", "r1"]))
    _, back, _ = again(records, table, tmp_path / "out")
    assert sorted(zip(back["label"].to_pylist(), back["source_id"].to_pylist(), strict=True)) == [
        ("x", "r1"),
        ("y", "r1"),
    ]
    assert len({each["id"] for each in results_of(tmp_path / "out")}) == 2


@pytest.mark.parametrize("names", [(), ("nose", "eye", "ear")])
@pytest.mark.parametrize("labelled", [(0, 2, 1), (2, 0, 0), (0, 0, 2), (0, 2, 0)])
def test_keypoints_stay_at_their_places(tmp_path: Path, names: tuple[str, ...], labelled: tuple[int, ...]) -> None:
    places = [(float(x), x + 1.0) if seen else (0.0, 0.0) for x, seen in zip((5, 9, 11), labelled, strict=True)]
    points = [value for point, seen in zip(places, labelled, strict=True) for value in (*point, float(seen))]
    row = {"type": "keypoints", "label": CLASSES[0], "bbox": [5.0, 6.0, 10.0, 10.0], "keypoints": points}
    export = make_export(tmp_path, [Case("a.png", (60, 50), None, [row])])
    classes = [type(info)(info.name, keypoints=names) for info in export.classes[:1]]
    records, table, losses = again(Records(export.images, [], classes), export.annotations, tmp_path / "out")
    assert table["keypoints"].to_pylist()[0] == pytest.approx(points)
    assert ("without names: called by their numbers" in reasons(losses)) == (not names)
    assert records.classes[0].keypoints == names or not names


def test_keypoints_of_several_classes_stay_their_own(tmp_path: Path) -> None:
    rows = [
        {"type": "keypoints", "label": label, "bbox": [5.0, 6.0, 4.0, 4.0], "keypoints": points}
        for label, points in ((CLASSES[0], [5.0, 6, 2, 9, 10, 2]), (CLASSES[1], [9.0, 10, 2, 0, 0, 0, 5, 6, 1]))
    ]
    export = make_export(tmp_path, [Case("a.png", (60, 50), None, rows)])
    names = [("head", "tail"), ("front", "middle", "back")]
    classes = [ClassInfo(info.name, keypoints=own) for info, own in zip(export.classes[:2], names, strict=True)]
    records, table, _ = again(Records(export.images, [], classes), export.annotations, tmp_path / "out")
    assert [info.keypoints for info in records.classes[:2]] == names
    assert [row["keypoints"] for row in table.to_pylist()] == [pytest.approx(row["keypoints"]) for row in rows]


def test_keypoints_and_skeletons_that_have_no_place_are_told(tmp_path: Path) -> None:
    row = {"type": "keypoints", "label": CLASSES[0], "bbox": [5.0, 6, 4, 4], "keypoints": [5.0, 6, 2, 7, 8, 0]}
    export = make_export(tmp_path, [Case("a.png", (60, 50), None, [row])])
    classes = [
        ClassInfo(CLASSES[0], keypoints=("head", "tail"), skeleton=((1, 2),)),
        ClassInfo(CLASSES[1], keypoints=("front",)),
    ]
    *_, losses = again(Records(export.images, [], classes), export.annotations, tmp_path / "out")
    assert {(loss.what, loss.count) for loss in losses.losses} == {
        ("skeletons", 1),
        ("names of keypoints", 1),
        ("keypoints", 1),
    }


def test_what_is_dropped_is_not_converted_too(tmp_path: Path) -> None:
    broken = rectangle("x", "y", id="r2")
    broken["value"]["x"] = math.nan
    ellipse = result({"x": 1e308, "y": 5, "radiusX": 1e308, "radiusY": 5, "ellipselabels": ["x"]}, size=(1000, 1000))
    rows, losses = rows_of(tmp_path, task(rectangle("x", id="r1"), broken, {**ellipse, "id": "r3"}))
    assert len(rows) == 1
    assert [(loss.outcome, loss.reason, loss.count) for loss in losses.losses] == [
        ("dropped", "coordinates that are not finite numbers", 1),
        ("dropped", "a ellipse that is not whole", 1),
    ]


def test_an_export_without_annotations_is_recognised(tmp_path: Path) -> None:
    export = make_export(tmp_path, [Case("a.png", (6, 5), None, []), Case("b.png", (6, 5), None, [])])
    again(Records(export.images, [], export.classes), export.annotations, tmp_path / "out")
    assert detect_format(tmp_path / "out")[0].name == "label_studio"
    assert detect_format(tmp_path / "out/tasks.json")[0].name == "label_studio"


@pytest.mark.parametrize("name", ["labelme", "datumaro", "label_studio", "coco"])
def test_exports_of_its_data_are_of_the_format_written(shared_data: Path, tmp_path: Path, name: str) -> None:
    records, table, _ = read(FORMAT, exports(shared_data) / "test_export_yolo/data_obb.json")
    found = Export(records.images, table, records.classes, records.info)
    FORMATS.get(name).write(found, tmp_path, WriteOptions(), LossReport())
    assert detect_format(tmp_path)[0].name == name
