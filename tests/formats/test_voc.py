"""Pascal VOC: real sets, both pixel conventions, stale names and sizes, EXIF, broken files, and round trips."""

from __future__ import annotations

import json
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
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import FormatError
from curate.formats.base import Export, ReadOptions, WriteOptions
from curate.formats.detect import detect_format
from curate.formats.locations import strip_layout
from curate.formats.losses import LossReport
from curate.formats.mask_images import paint as paint_objects
from curate.formats.mask_images import voc_colors
from curate.formats.voc import FORMAT
from curate.geometry import decode_rle, encode_rle
from curate.imaging import load_labels

PIXELS = 1.5e-6
"""What a round trip may change: corners are written with six decimals."""


def annotation(
    *objects: str,
    filename: str = "a.png",
    size: str = "<width>100</width><height>50</height>",
    database: str = "Unknown",
) -> str:
    return (
        f"<annotation><filename>{filename}</filename><source><database>{database}</database></source>"
        f"<size>{size}<depth>3</depth></size><segmented>0</segmented>{''.join(objects)}</annotation>"
    )


def box(label: str = "x", corners: tuple[float, ...] = (10, 20, 30, 40), extra: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{label}</name>{extra}<bndbox>{inner}</bndbox></object>"


def dataset(root: Path, text: str, *, name: str = "a", orientation: int = 1) -> Path:
    write_image(root / f"JPEGImages/{name}.jpg", (100, 50), orientation=orientation)
    (root / "Annotations").mkdir(exist_ok=True)
    (root / f"Annotations/{name}.xml").write_text(text, encoding="utf-8")
    return root


# ------------------------------------------------------------------------------------------------------------ real files


def test_bccd(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "detection/bccd")
    assert records.images.num_rows == 364
    assert Counter(table["label"].to_pylist()) == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert Counter(records.images["split"].to_pylist()) == {"train": 205, "val": 87, "test": 72}
    degenerate = [row for row in table["bbox"].to_pylist() if row[2] <= 0 or row[3] <= 0]
    assert len(degenerate) == 2
    assert losses.losses == []
    first = by_location(records, table)["JPEGImages/BloodImage_00000.jpg"][0]
    assert first["bbox"] == [260, 177, 231, 199]
    assert json.loads(first["attributes"]) == {"truncated": False, "difficult": False}


def test_raccoon(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "detection/raccoon")
    assert (records.images.num_rows, table.num_rows) == (200, 217)
    assert None not in records.images["path"].to_pylist()
    assert losses.losses == []


@pytest.mark.parametrize(
    ("folder", "images", "annotations", "splits"),
    [
        ("same_images_ten_formats/voc1.1", 4, 20, {None}),
        ("same_images_ten_formats/labelImg", 4, 25, {None}),
        ("datumaro/voc_dataset/voc_dataset1", 2, 3, {"train", "test"}),
        ("datumaro/voc_dataset/voc_dataset2", 5, 4, {"trainval"}),
        ("datumaro/voc_dataset/voc_dataset3", 1, 1, {"train"}),
        ("datumaro/roboflow_dataset/voc", 3, 4, {"train", "val"}),
        ("datumaro/kaggle_dataset/relaxed_voc1", 2, 2, {None}),
        ("datumaro/kaggle_dataset/relaxed_voc2", 2, 2, {None}),
    ],
)
def test_real_exports(shared_data: Path, folder: str, images: int, annotations: int, splits: set[str | None]) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats" / folder)
    assert (records.images.num_rows, table.num_rows) == (images, annotations)
    assert set(records.images["split"].to_pylist()) == splits


def test_parts_and_actions_are_kept(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/datumaro/voc_dataset/voc_dataset1")
    person = by_location(records, table)["JPEGImages/2007_000001.jpg"][1]
    attributes = json.loads(person["attributes"])
    assert attributes["parts"] == [{"name": "head", "bbox": [5.5, 6.0, 2.0, 2.0]}]
    assert attributes["actions"]["ridinghorse"] is True
    assert attributes["actions"]["walking"] is True
    assert attributes["actions"]["running"] is False


@pytest.mark.parametrize(
    ("folder", "image", "expected"),
    [
        # The object image has one thing, of the class bicycle; the XML file a cat and a person.
        ("datumaro/voc_dataset/voc_dataset1", "2007_000001.jpg", [("bicycle", [0, 0, 20, 10], 200)]),
        # CVAT's: two ellipses in blue, beside a rectangle in the XML file.
        (
            "same_images_ten_formats/voc1.1",
            "shapes.jpg",
            [("ellipse", [366, 233, 165, 165], 21359), ("ellipse", [41, 262, 219, 153], 26287)],
        ),
    ],
)
def test_real_masks_that_are_not_the_objects(
    shared_data: Path, folder: str, image: str, expected: list[tuple[str, list[float], float]]
) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats" / folder)
    rows = by_location(records, table)[f"JPEGImages/{image}"]
    masks = [(row["label"], row["bbox"], row["area"]) for row in rows if row["rle"] is not None]
    assert masks == expected
    assert {(loss.outcome, loss.what, loss.count) for loss in losses.losses} == {("converted", "masks", len(expected))}


# ---------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("Unknown", [10, 20, 20, 20]),
        ("roboflow.ai", [10, 20, 20, 20]),
        ("The VOC2007 Database", [9, 19, 21, 21]),
        ("The PASCAL Visual Object Classes Challenge 2009", [9, 19, 21, 21]),
    ],
)
def test_the_challenges_own_files_count_from_one(tmp_path: Path, database: str, expected: list[float]) -> None:
    dataset(tmp_path, annotation(box(), database=database))
    assert read(FORMAT, tmp_path)[1]["bbox"].to_pylist() == [expected]


@pytest.mark.parametrize("database", ["Unknown", "The VOC2012 Database"])
def test_both_conventions_go_round_unchanged(tmp_path: Path, database: str) -> None:
    dataset(tmp_path / "in", annotation(box(corners=(1, 1, 100, 50)), database=database))
    records, table, _ = read(FORMAT, tmp_path / "in")
    target = tmp_path / "out"
    target.mkdir()
    FORMAT.write(Export(records.images, table, records.classes, {}), target, WriteOptions("copy"), LossReport())
    written_text = (target / "Annotations/a.xml").read_text()
    for tag, value in (("xmin", 1), ("ymin", 1), ("xmax", 100), ("ymax", 50)):
        assert f"<{tag}>{value}</{tag}>" in written_text
    assert f"<database>{database}</database>" in written_text
    assert read(FORMAT, target)[1]["bbox"].to_pylist() == table["bbox"].to_pylist()


def test_a_size_the_other_way_round_means_coordinates_before_exif(tmp_path: Path) -> None:
    # Stored 100 x 50 and turned by a quarter clockwise (6): a stored point (x, y) lies at (50 - y, x).
    dataset(tmp_path, annotation(box(corners=(10, 20, 30, 25))), orientation=6)
    records, table, losses = read(FORMAT, tmp_path)
    assert (records.images["width"].to_pylist(), records.images["height"].to_pylist()) == ([50], [100])
    assert table["bbox"].to_pylist() == [[25, 10, 5, 20]]
    assert losses.losses == []


def test_a_size_of_the_oriented_image_means_coordinates_after_exif(tmp_path: Path) -> None:
    size = "<width>50</width><height>100</height>"
    dataset(tmp_path, annotation(box(), size=size), orientation=6)
    assert read(FORMAT, tmp_path)[1]["bbox"].to_pylist() == [[10, 20, 20, 20]]


@pytest.mark.parametrize("size", ["", "<width>0</width><height>0</height>", "<width>?</width><height/>"])
def test_without_a_size_the_image_tells(tmp_path: Path, size: str) -> None:
    records, _, losses = read(FORMAT, dataset(tmp_path, annotation(box(), size=size)))
    assert (records.images["width"].to_pylist(), records.images["height"].to_pylist()) == ([100], [50])
    assert losses.losses == []


def test_a_wrong_size_is_reported(tmp_path: Path) -> None:
    dataset(tmp_path, annotation(box(), size="<width>7</width><height>9</height>"))
    records, _, losses = read(FORMAT, tmp_path)
    assert records.images["width"].to_pylist() == [100]
    assert "7 x 9 stated, 100 x 50 found" in losses.losses[0].places[0]


# --------------------------------------------------------------------------------------------------- files and what is in


def test_the_files_own_name_finds_the_image_before_the_name_inside(tmp_path: Path) -> None:
    write_image(tmp_path / "JPEGImages/stale.jpg", (9, 9))
    records, table, losses = read(FORMAT, dataset(tmp_path, annotation(box(), filename="stale.jpg"), name="real"))
    assert len(by_location(records, table)["JPEGImages/real.jpg"]) == 1
    assert by_location(records, table)["JPEGImages/stale.jpg"] == []
    assert losses.losses == []


def test_the_name_inside_finds_the_image_otherwise(tmp_path: Path) -> None:
    dataset(tmp_path, annotation(box(), filename="b.jpg"), name="b")
    (tmp_path / "Annotations/b.xml").rename(tmp_path / "Annotations/0001.xml")
    records, _, losses = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["JPEGImages/b.jpg"]
    assert losses.losses == []


def test_an_image_that_is_not_there_keeps_its_annotations(tmp_path: Path) -> None:
    dataset(tmp_path, annotation(box(), filename="../../gone.jpg"))
    (tmp_path / "JPEGImages/a.jpg").unlink()
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images.select(["location", "path", "width"]).to_pylist() == [
        {"location": "JPEGImages/gone.jpg", "path": None, "width": 100}
    ]
    assert table.num_rows == 1
    assert reasons(losses) == {"not there; kept without a file"}


def test_images_elsewhere(tmp_path: Path) -> None:
    dataset(tmp_path, annotation(box(), filename="a.jpg"))
    records, _, losses = read(FORMAT, tmp_path / "Annotations", ReadOptions(images=tmp_path / "JPEGImages"))
    assert records.images["path"].to_pylist() == [str(tmp_path / "JPEGImages/a.jpg")]
    assert losses.losses == []


def test_rotated_boxes_polygons_and_attributes(tmp_path: Path) -> None:
    turned = "<cx>20</cx><cy>20</cy><w>10</w><h>4</h><angle>1.5707963267948966</angle>"
    rotated = f"<object><name>r</name><robndbox>{turned}</robndbox></object>"
    polygon = "<polygon><x1>10</x1><y1>20</y1><x2>30</x2><y2>20</y2><x3>30</x3><y3>40</y3></polygon>"
    age = "<attributes><attribute><name>age</name><value>3</value></attribute></attributes>"
    extra = f"<pose>Left</pose><difficult>1</difficult>{age}"
    dataset(tmp_path, annotation(rotated, box(extra=polygon + extra)))
    _, table, losses = read(FORMAT, tmp_path)
    first, second = table.to_pylist()
    assert (first["type"], second["type"]) == ("rotated_box", "polygon")
    assert first["rotated_box"] == pytest.approx([20, 20, 10, 4, 90])
    assert first["bbox"] == pytest.approx([18, 15, 4, 10])
    assert second["polygons"] == [[10, 20, 30, 20, 30, 40]]
    assert json.loads(second["attributes"]) == {"pose": "Left", "difficult": True, "age": 3}
    assert losses.losses == []


def test_bad_objects_are_dropped_with_their_place(tmp_path: Path) -> None:
    dataset(
        tmp_path,
        annotation(box(label=""), box(), "<object><name>x</name></object>", box(corners=(1, 2, float("nan"), 4))),
    )
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert {(loss.reason, loss.count) for loss in losses.losses} == {
        ("without a name", 1),
        ("without four numbers for a box", 2),
    }
    assert losses.losses[0].places[0] == "Annotations/a.xml: object 3"


BOMB = '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize("text", ["<annotation><object>", "", "\x00", BOMB])
def test_broken_xml_is_left_out_and_the_rest_read(tmp_path: Path, text: str) -> None:
    dataset(tmp_path, annotation(box()))
    (tmp_path / "Annotations/bad.xml").write_text(text)
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert reasons(losses) == {"declares XML entities, which are refused" if text == BOMB else "not valid XML"}


def test_a_folder_without_annotations_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<other/>")
    with pytest.raises(FormatError, match="no VOC annotation"):
        read(FORMAT, tmp_path)


# ---------------------------------------------------------------------------------------------------------------- masks

THINGS = [[0, 1, 1, 0], [0, 1, 255, 2], [0, 255, 2, 2]]
KINDS = [[0, 12, 12, 0], [0, 12, 255, 15], [0, 255, 15, 15]]


def paint(path: Path, values: Any, *, colors: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, dtype=np.uint8))
    image.putpalette(voc_colors(256).ravel().tolist())
    (image.convert("RGB") if colors else image).save(path)


def segmented(root: Path, *objects: str, colors: bool = False, things: Any = THINGS, kinds: Any = KINDS) -> Path:
    write_image(root / "JPEGImages/a.jpg", (4, 3))
    if objects:
        (root / "Annotations").mkdir()
        text = annotation(*objects, size="<width>4</width><height>3</height>")
        (root / "Annotations/a.xml").write_text(text, encoding="utf-8")
    if things is not None:
        paint(root / "SegmentationObject/a.png", things, colors=colors)
    if kinds is not None:
        paint(root / "SegmentationClass/a.png", kinds, colors=colors)
    return root


DOG = box("dog", (1, 0, 3, 2))
PERSON = box("person", (2, 1, 4, 3))


@pytest.mark.parametrize("colors", [False, True])
def test_the_objects_of_the_file_get_their_masks(tmp_path: Path, colors: bool) -> None:
    records, table, losses = read(FORMAT, segmented(tmp_path, DOG, PERSON, colors=colors))
    dog, person = table.to_pylist()
    assert (dog["type"], dog["label"], dog["bbox"], dog["area"]) == ("mask", "dog", [1, 0, 2, 2], 3)
    assert (person["type"], person["label"], person["bbox"], person["area"]) == ("mask", "person", [2, 1, 2, 2], 3)
    assert decode_rle(dog["rle"], dog["rle_size"]).tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    void = json.loads(records.images["metadata"][0].as_py())["voc"]["void"]
    assert decode_rle(void, [3, 4]).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    assert losses.losses == []


def test_masks_of_some_objects_are_found_by_class_and_place(tmp_path: Path) -> None:
    far = box("dog", (0, 0, 1, 1))
    _, table, losses = read(FORMAT, segmented(tmp_path, DOG, PERSON, far))
    assert [row["rle"] is not None for row in table.to_pylist()] == [True, True, False]
    assert losses.losses == []


def test_masks_that_do_not_agree_stand_alone(tmp_path: Path) -> None:
    _, table, losses = read(FORMAT, segmented(tmp_path, PERSON, DOG))
    assert [(row["type"], row["label"]) for row in table.to_pylist()] == [
        ("box", "person"), ("box", "dog"), ("mask", "dog"), ("mask", "person"),
    ]  # fmt: skip
    assert {(loss.what, loss.count) for loss in losses.losses} == {("masks", 2)}


def test_masks_without_annotation_files(tmp_path: Path) -> None:
    root = segmented(tmp_path)
    (root / "labelmap.txt").write_text("# x\nbackground:0,0,0::\nbolt:64,0,128::\nnut:192,128,128::\n")
    assert detect_format(root)[0].name == "voc"
    records, table, losses = read(FORMAT, root)
    assert [(row["type"], row["label"], row["area"]) for row in table.to_pylist()] == [
        ("mask", "bolt", 3), ("mask", "nut", 3),
    ]  # fmt: skip
    assert [info.name for info in records.classes] == ["bolt", "nut"]
    assert losses.losses == []


@pytest.mark.parametrize(
    ("things", "kinds", "expected"), [(THINGS, None, [None, None]), (None, KINDS, ["dog", "person"])]
)
def test_one_of_the_two_images_is_enough(tmp_path: Path, things: Any, kinds: Any, expected: list[str | None]) -> None:
    _, table, losses = read(FORMAT, segmented(tmp_path, things=things, kinds=kinds))
    assert table["label"].to_pylist() == expected
    assert losses.losses == []


def test_masks_of_the_image_as_stored_are_turned_with_the_boxes(tmp_path: Path) -> None:
    segmented(tmp_path, DOG, PERSON)
    write_image(tmp_path / "JPEGImages/a.jpg", (4, 3), orientation=6)
    records, table, losses = read(FORMAT, tmp_path)
    dog = table.to_pylist()[0]
    # Stored 4 x 3 and turned by a quarter clockwise: (x, y) comes to (3 - y, x).
    assert dog["bbox"] == [1, 1, 2, 2]
    assert decode_rle(dog["rle"], dog["rle_size"]).tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]
    void = json.loads(records.images["metadata"][0].as_py())["voc"]["void"]
    assert decode_rle(void, [4, 3]).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert losses.losses == []


def test_masks_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    segmented(tmp_path, DOG, things=[[1, 1]], kinds=KINDS)
    (tmp_path / "SegmentationObject/b.png").write_bytes(b"no image")
    paint(tmp_path / "SegmentationClass/c.png", KINDS)
    records, table, losses = read(FORMAT, tmp_path)
    assert [(row["type"], row["label"]) for row in table.to_pylist()] == [
        ("box", "dog"), ("mask", "dog"), ("mask", "person"), ("mask", "dog"), ("mask", "person"),
    ]  # fmt: skip
    assert records.images["location"].to_pylist() == ["JPEGImages/a.jpg", "JPEGImages/c.jpg"]
    assert reasons(losses) == {
        "of another size than the image",
        "the mask cannot be read",
        "not there; kept without a file",
    }


def test_masks_of_another_size_are_dropped_once(tmp_path: Path) -> None:
    records, table, losses = read(FORMAT, segmented(tmp_path, DOG, things=[[1, 1]], kinds=[[12, 12]]))
    assert records.images["location"].to_pylist() == ["JPEGImages/a.jpg"]
    assert table["type"].to_pylist() == ["box"]
    assert {(loss.reason, loss.count) for loss in losses.losses} == {("of another size than the image", 2)}


def test_masks_go_round_with_their_void_border(tmp_path: Path) -> None:
    records, table, losses = read(FORMAT, segmented(tmp_path / "in", DOG, PERSON))
    target = tmp_path / "out"
    target.mkdir()
    FORMAT.write(Export(records.images, table, records.classes, {}), target, WriteOptions("copy"), losses)
    assert losses.losses == []
    assert load_labels(target / "SegmentationObject/a.png").values.tolist() == THINGS
    assert load_labels(target / "SegmentationClass/a.png").values.tolist() == [
        [0, 1, 1, 0], [0, 1, 255, 2], [0, 255, 2, 2],
    ]  # fmt: skip
    assert "<segmented>1</segmented>" in (target / "Annotations/a.xml").read_text()
    again, back, losses = read(FORMAT, target)
    columns = ["annotation_id", "type", "label", "bbox", "rle", "rle_size", "area"]
    assert back.select(columns).to_pylist() == table.select(columns).to_pylist()
    assert again.images["metadata"].to_pylist() == records.images["metadata"].to_pylist()
    assert losses.losses == []


# ----------------------------------------------------------------------------------------------------------- round trips


def described_annotations(size: tuple[int, int]) -> st.SearchStrategy[dict[str, Any]]:
    attributes = st.dictionaries(
        st.sampled_from(["truncated", "difficult", "occluded"]), st.booleans(), min_size=1, max_size=3
    )
    return st.builds(lambda row, said: {**row, "attributes": json.dumps(said)}, box_annotations(size), attributes)


@settings(deadline=None, max_examples=25)
@given(cases(described_annotations))
def test_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        renamed = [loss for loss in losses.losses if loss.what != "category ids"]
        records, table, back_losses = read(FORMAT, target)
        back = {strip_layout(name, None): rows for name, rows in by_location(records, table).items()}
        splits = dict(zip(back, records.images["split"].to_pylist(), strict=True))
        assert renamed == []
        assert back_losses.losses == []
        assert splits == {case.location: case.split for case in found}
        for case in found:
            for given_row, row in zip(case.annotations, back[case.location], strict=True):
                assert row["label"] == given_row["label"]
                assert row["bbox"] == pytest.approx(given_row["bbox"], abs=PIXELS)
                assert json.loads(row["attributes"]) == json.loads(given_row["attributes"])


@st.composite
def masked_annotations(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    row = draw(box_annotations(size))
    if not draw(st.booleans()):
        return row
    x, y = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    width, height = draw(st.integers(1, size[0] - x)), draw(st.integers(1, size[1] - y))
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[y : y + height, x : x + width] = 1
    bbox = [float(side) for side in (x, y, width, height)]
    return {**row, "type": "mask", "bbox": bbox, "rle": encode_rle(pixels), "rle_size": [size[1], size[0]]}


@settings(deadline=None, max_examples=25)
@given(cases(masked_annotations))
def test_round_trip_of_masks(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        records, table, back_losses = read(FORMAT, target)
        back = {strip_layout(name, None): rows for name, rows in by_location(records, table).items()}
        hidden = 0
        assert back_losses.losses == []
        for case in found:
            things = [(number, row["rle"]) for number, row in enumerate(case.annotations, 1) if "rle" in row]
            canvas, lost = paint_objects(things, (case.size[1], case.size[0]), 0)
            hidden += lost
            for number, (given_row, row) in enumerate(zip(case.annotations, back[case.location], strict=True), 1):
                assert row["label"] == given_row["label"]
                assert row["bbox"] == pytest.approx(given_row["bbox"], abs=PIXELS)
                assert row["rle"] == (encode_rle(canvas == number) if (canvas == number).any() else None)
        assert sum(loss.count for loss in losses.losses if loss.what == "mask pixels") == hidden


def test_what_voc_cannot_say_is_reported(tmp_path: Path) -> None:
    parts = [[0.0, 0.0, 4.0, 0.0, 4.0, 4.0], [5.0, 5.0, 9.0, 5.0, 9.0, 9.0]]
    row = {"type": "polygon", "label": CLASSES[0], "bbox": [0.0, 0.0, 9.0, 9.0], "polygons": parts, "iscrowd": True}
    label = {"type": "label", "label": CLASSES[0]}
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(make_export(tmp_path, [Case("a.png", (9, 9), None, [row, label])]), target, WriteOptions(), losses)
    assert {loss.what: loss.count for loss in losses.losses} == {
        "polygons": 1, "crowd flags": 1, "annotations": 1, "category ids": len(CLASSES),
    }  # fmt: skip
    assert not (target / "JPEGImages").exists()


def test_a_polyline_is_written_as_its_box_and_reported(tmp_path: Path) -> None:
    line = {
        "type": "polyline",
        "label": CLASSES[0],
        "bbox": [1.0, 1.0, 6.0, 6.0],
        "polygons": [[1.0, 1.0, 7.0, 7.0, 7.0, 1.0]],
    }
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    export = make_export(tmp_path, [Case("a.png", (9, 9), None, [{**line, "area": 5.0}])], CLASSES[:1])
    FORMAT.write(export, target, WriteOptions("copy"), losses)
    assert {(loss.outcome, loss.what, loss.count, *loss.places) for loss in losses.losses} == {
        ("converted", "polylines", 1, "a.png"),
        ("dropped", "areas", 1, "a.png"),
        ("dropped", "category ids", 1, CLASSES[0]),
    }
    _, table, _ = read(FORMAT, target)
    assert (table["type"].to_pylist(), table["polygons"].to_pylist()) == (["box"], [None])


def test_the_objects_of_a_second_file_for_an_image_are_counted(tmp_path: Path) -> None:
    dataset(tmp_path, annotation(box(), filename="a.jpg"))
    (tmp_path / "Annotations/b.xml").write_text(annotation(box(), box(), filename="a.jpg"))
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert {(loss.outcome, loss.what, loss.count) for loss in losses.losses} == {
        ("dropped", "annotation files", 1),
        ("dropped", "annotations", 2),
    }
