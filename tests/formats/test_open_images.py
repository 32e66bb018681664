"""Open Images: boxes, masks and labels from CSV files, real ones and large ones; what is missing, turned or broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from curate.formats.open_images import FORMAT, tables
from curate.geometry import decode_rle

BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
LABELS = "ImageID,Source,LabelName,Confidence"
MASKS = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
IMAGES = "ImageID,Subset,OriginalURL,Title,Rotation"
BOX = "a,xclick,/m/1,1,0.1,0.3,0.2,0.6,0,1,0,-1,0"


def table(root: Path, name: str, header: str, *rows: str) -> None:
    path = root / "annotations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def dataset(root: Path, *boxes: str, images: Sequence[str] = ("a",), header: str = BOXES) -> Path:
    for name in images:
        write_image(root / f"images/train/{name}.jpg", (100, 50))
    table(root, "class-descriptions-boxable.csv", "/m/1,Cat", "/m/2,Dog")
    table(root, "train-annotations-bbox.csv", header, *boxes)
    return root


# ------------------------------------------------------------------------------------------------------------ real files


def test_version_6(shared_data: Path) -> None:
    records, rows, losses = read(FORMAT, shared_data / "formats/datumaro/open_images_dataset/v6")
    found = by_location(records, rows)
    assert {name: [(row["type"], row["label"][-1]) for row in each] for name, each in found.items()} == {
        "images/train/a.jpg": [("label", "0")],
        "images/train/b.jpg": [("mask", "0")],
        "images/test/c.jpg": [("box", "3"), ("label", "1"), ("label", "3")],
        "images/validation/d.png": [],
    }
    assert dict(zip(found, records.images["split"].to_pylist(), strict=True))["images/validation/d.png"] == "val"
    mask = found["images/train/b.jpg"][0]
    assert mask["bbox"] == pytest.approx([1.6, 0.6, 6.4, 0.4])  # 0.2 to 1 of 8 pixels, 0.3 to 0.5 of 2
    drawn = np.asarray(
        Image.open(shared_data / "formats/datumaro/open_images_dataset/v6/masks/train/b_m0_01234567.png")
    )
    assert decode_rle(mask["rle"], mask["rle_size"]).astype(bool).tolist() == drawn.tolist()
    assert (mask["source_id"], json.loads(mask["attributes"])) == (
        "01234567",
        {"source": "xclick", "predicted_iou": 0.5},
    )
    box = found["images/test/c.jpg"][0]
    assert box["bbox"] == pytest.approx([3.5, 0, 0.5, 5])
    assert box["iscrowd"] is True
    assert json.loads(box["attributes"]) == {
        "occluded": True, "truncated": False, "depiction": False, "inside": False, "source": "xclick", "confidence": 0.7,
    }  # fmt: skip
    metadata = dict(zip(found, records.images["metadata"].to_pylist(), strict=True))
    assert json.loads(metadata["images/train/b.jpg"])["open_images"]["verified_absent"] == ["Generic label #0"]
    assert [(info.name, info.supercategory) for info in records.classes][:2] == [
        ("Generic label #0", None),
        ("Generic label #1", "Generic label #0"),
    ]
    assert {(loss.what, loss.count) for loss in losses.losses} == {("rows", 1), ("labels", 1)}
    assert losses.losses[0].places == ["annotations/image_ids_and_rotation.csv:5"]


def test_version_5_has_images_alone(shared_data: Path) -> None:
    records, rows, losses = read(FORMAT, shared_data / "formats/datumaro/open_images_dataset/v5")
    assert dict(zip(records.images["source_id"].to_pylist(), records.images["split"].to_pylist(), strict=True)) == {
        "aa": "train", "cc": "test",
    }  # fmt: skip
    assert rows.num_rows == 0
    assert losses.losses == []


@pytest.mark.parametrize("name", ["v5", "v6", "v6/annotations/test-annotations-bbox.csv"])
def test_detection(shared_data: Path, name: str) -> None:
    assert detect_format(shared_data / "formats/datumaro/open_images_dataset" / name)[0].name == "open_images"


def test_one_file_with_the_images_beside_its_folder(shared_data: Path) -> None:
    source = shared_data / "formats/datumaro/open_images_dataset/v6/annotations/test-annotations-bbox.csv"
    records, rows, _ = read(FORMAT, source)
    assert rows["label"].to_pylist() == ["Generic label #3"]
    assert "test/c.jpg" in records.images["location"].to_pylist()


# ----------------------------------------------------------------------------------------------------------------- boxes


def test_a_box_in_full(tmp_path: Path) -> None:
    records, rows, losses = read(FORMAT, dataset(tmp_path, BOX))
    row = rows.to_pylist()[0]
    assert (row["label"], row["type"], row["iscrowd"]) == ("Cat", "box", False)
    assert row["bbox"] == pytest.approx([10, 10, 20, 20])
    assert json.loads(row["attributes"]) == {"occluded": False, "truncated": True, "inside": False, "source": "xclick"}
    assert records.info == {"open_images": {"mids": {"Cat": "/m/1", "Dog": "/m/2"}}}
    assert losses.losses == []


def test_clicks_and_scores(tmp_path: Path) -> None:
    clicks = ",".join(f"XClick{number}{axis}" for axis in "XY" for number in range(1, 5))
    without = BOX.replace("/m/1,1,", "/m/2,0.5,")
    boxes = [f"{BOX},0.1,0.15,0.3,0.2,0.3,0.2,0.4,0.6", f"{without},-1,-1,-1,-1,-1,-1,-1,-1"]
    dataset(tmp_path, *boxes, header=f"{BOXES},{clicks}")
    _, rows, losses = read(FORMAT, tmp_path)
    first, second = (json.loads(text) for text in rows["attributes"].to_pylist())
    assert first["extreme_points"] == [0.1, 0.3, 0.15, 0.2, 0.3, 0.4, 0.2, 0.6]
    assert "extreme_points" not in second
    assert second["confidence"] == 0.5
    assert losses.losses == []
    _, rows, _ = read(FORMAT, tmp_path, ReadOptions(layer="predictions/x"))
    assert rows["score"].to_pylist() == [1, 0.5]
    assert "confidence" not in json.loads(rows["attributes"][1].as_py())


def test_bad_rows_are_dropped_with_their_place(tmp_path: Path) -> None:
    bad = [
        "a,xclick,/m/1,1,x,0.3,0.2,0.6,0,0,0,0,0",
        "a,xclick,/m/1,1,nan,0.3,0.2,0.6,0,0,0,0,0",
        "a,b,c",
        ",,/m/1" + "," * 10,
    ]
    _, rows, losses = read(FORMAT, dataset(tmp_path, BOX, *bad))
    assert rows.num_rows == 1
    assert {(loss.what, loss.reason, loss.count) for loss in losses.losses} == {
        ("annotations", "coordinates that are not finite numbers", 2),
        ("rows", "not as many columns as the header has", 1),
        ("annotations", "no image or no class is named", 1),
    }
    assert "annotations/train-annotations-bbox.csv:5" in [place for loss in losses.losses for place in loss.places]


def test_ids_go_on_over_the_files_and_are_the_same_again(tmp_path: Path) -> None:
    dataset(tmp_path, BOX, BOX)
    table(tmp_path, "more.csv", BOXES, BOX)
    first, second = (read(FORMAT, tmp_path)[1]["annotation_id"].to_pylist() for _ in range(2))
    assert first == second
    assert len(set(first)) == 3


def test_many_batches_come_in_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What each row says follows from its number.
    monkeypatch.setattr(tables, "_BLOCK", 1 << 14)
    count, names = 20_000, [f"i{number}" for number in range(50)]
    rows = [f"{names[row % 50]},s,/m/{row % 2 + 1},1,0,{(row % 100) / 100},0,1,0,0,0,0,0" for row in range(count)]
    dataset(tmp_path, *rows, images=names)
    records, found, losses = read(FORMAT, tmp_path)
    assert found.num_rows == count
    widths = [row[2] for row in found["bbox"].to_pylist()]
    assert widths == pytest.approx([float(row % 100) for row in range(count)])
    assert found["label"].to_pylist()[:4] == ["Cat", "Dog", "Cat", "Dog"]
    assert len(set(found["annotation_id"].to_pylist())) == count
    assert {len(each) for each in by_location(records, found).values()} == {count // 50}
    assert losses.losses == []


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.floats(-2, 2) for _ in range(4)]), min_size=1, max_size=6))
def test_boxes_are_kept_as_given(tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[float, ...]]) -> None:
    lines = [f"a,s,/m/1,1,{left!r},{right!r},{top!r},{bottom!r},0,0,0,0,0" for left, right, top, bottom in boxes]
    _, rows, losses = read(FORMAT, dataset(tmp_path_factory.mktemp("oid"), *lines))
    for row, (left, right, top, bottom) in zip(rows["bbox"].to_pylist(), boxes, strict=True):
        assert row == pytest.approx([100 * left, 50 * top, 100 * (right - left), 50 * (bottom - top)], abs=1e-9)
    assert losses.losses == []


# ---------------------------------------------------------------------------------------------------- labels and masks


def test_labels_by_people_and_machines(tmp_path: Path) -> None:
    dataset(tmp_path)
    table(tmp_path, "train-annotations-human-imagelabels.csv", LABELS, "a,verification,/m/1,1", "a,verification,/m/2,0")
    table(tmp_path, "train-annotations-machine-imagelabels.csv", LABELS, "a,machine,/m/2,0.8")
    records, rows, losses = read(FORMAT, tmp_path)
    assert [(row["layer"], row["type"], row["label"], row["score"], row["bbox"]) for row in rows.to_pylist()] == [
        ("ground_truth", "label", "Cat", None, None),
        ("predictions/open_images", "label", "Dog", 0.8, None),
    ]
    assert records.layers == {"ground_truth", "predictions/open_images"}
    assert json.loads(records.images["metadata"][0].as_py()) == {"open_images": {"verified_absent": ["Dog"]}}
    assert reasons(losses) == {"verified as absent: in the image's metadata"}


def mask(root: Path, name: str, size: tuple[int, int] = (100, 50)) -> None:
    values = np.zeros(size[::-1], dtype=np.uint8)
    values[: size[1] // 2, : size[0] // 2] = 255
    (root / "masks").mkdir(exist_ok=True)
    Image.fromarray(values).save(root / "masks" / name)


def test_masks_with_and_without_their_box(tmp_path: Path) -> None:
    dataset(tmp_path, BOX, BOX.replace("/m/1", "/m/2"))
    mask(tmp_path, "1.png")
    mask(tmp_path, "2.png", (20, 10))
    rows = [
        "1.png,a,/m/1,id1,0.100000,0.3,0.2,0.600000,0.9,",
        "2.png,a,/m/1,id2,,,,,,",
        "3.png,a,/m/2,id3,0.1,0.3,0.2,0.6,,",
    ]
    table(tmp_path, "train-annotations-object-segmentation.csv", MASKS, *rows)
    records, found, losses = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["images/train/a.jpg"]
    first, second, third = found.to_pylist()
    assert (first["type"], first["source_id"], first["bbox"]) == ("mask", "id1", pytest.approx([10, 10, 20, 20]))
    assert json.loads(first["attributes"])["predicted_iou"] == 0.9
    assert (second["type"], second["label"], second["rle"]) == ("box", "Dog", None)
    assert (third["type"], third["source_id"], third["bbox"]) == ("mask", "id2", [0, 0, 50, 25])
    assert first["rle"] == third["rle"]
    assert {(loss.reason, loss.count) for loss in losses.losses} == {
        ("drawn at another size than the image: scaled to it", 1),
        ("the mask's file is not there", 1),
    }


def test_what_has_no_place_is_reported(tmp_path: Path) -> None:
    dataset(tmp_path, BOX)
    relation = "ImageID,LabelName1,LabelName2,XMin1,XMax1,YMin1,YMax1,XMin2,XMax2,YMin2,YMax2,RelationshipLabel"
    table(
        tmp_path,
        "train-annotations-vrd.csv",
        relation,
        "a,/m/1,/m/2,0,1,0,1,0,1,0,1,on",
        "a,/m/1,/m/2,0,1,0,1,0,1,0,1,at",
    )
    table(tmp_path, "points.csv", "ImageId,X,Y,Label,EstimatedYesNo", "a,0.5,0.5,/m/1,yes")
    table(tmp_path, "other.csv", "name,value", "x,1")
    (tmp_path / "annotations/narratives.jsonl").write_text("{}\n")
    _, rows, losses = read(FORMAT, tmp_path)
    assert rows.num_rows == 1
    assert {(loss.what, loss.count) for loss in losses.losses} == {("relationships", 2), ("points", 1), ("files", 1)}
    assert len(losses.losses) == 4


# ---------------------------------------------------------------------------------------------------- images and classes


def test_a_part_of_the_download(tmp_path: Path) -> None:
    dataset(tmp_path, BOX, *(BOX.replace("a,", f"{name},", 1) for name in "bcd"))
    records, rows, losses = read(FORMAT, tmp_path)
    assert records.images["source_id"].to_pylist() == ["a"]
    assert rows.num_rows == 1
    assert {(loss.what, loss.count) for loss in losses.losses} == {("images", 3), ("annotations", 3)}


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    dataset(tmp_path, BOX, BOX.replace("a,", "b,", 1))
    table(tmp_path, "train-annotations-human-imagelabels.csv", LABELS, "b,verification,/m/1,1")
    records, rows, losses = read(FORMAT, tmp_path)
    found = by_location(records, rows)
    assert {name: [row["type"] for row in each] for name, each in found.items()} == {
        "images/train/a.jpg": ["box"], "images/train/b.jpg": ["label"],
    }  # fmt: skip
    assert reasons(losses) == {
        "not there; kept without a file",
        "the image's size is not known, and coordinates are parts of it",
    }


def test_sizes_from_images_meta(tmp_path: Path) -> None:
    dataset(tmp_path, BOX, images=())
    (tmp_path / "annotations/images.meta").write_text("# id height width\na 500 1000 # comment\nbroken\n")
    records, rows, _ = read(FORMAT, tmp_path)
    assert records.images.select(["location", "width", "height", "path"]).to_pylist() == [
        {"location": "images/train/a.jpg", "width": 1000, "height": 500, "path": None}
    ]
    assert rows["bbox"].to_pylist()[0] == pytest.approx([100, 100, 200, 200])


@pytest.mark.parametrize(("rotation", "expected"), [("0", [5, 20, 10, 40]), ("270.0", [20, 10, 20, 20])])
def test_rotation_with_an_exif_orientation(tmp_path: Path, rotation: str, expected: list[float]) -> None:
    # Stored 100 x 50, shown 50 x 100: a stored point (x, y) lies at (50 - y, x).
    dataset(tmp_path, BOX, images=())
    write_image(tmp_path / "images/train/a.jpg", (100, 50), orientation=6)
    table(tmp_path, "train-images.csv", IMAGES, f"a,train,http://x,Title,{rotation}")
    records, rows, _ = read(FORMAT, tmp_path)
    assert rows["bbox"].to_pylist()[0] == pytest.approx(expected)
    said = json.loads(records.images["metadata"][0].as_py())["open_images"]
    assert said == {"OriginalURL": "http://x", "Title": "Title", "Rotation": float(rotation)}


def test_classes_of_one_name_and_without_a_name(tmp_path: Path) -> None:
    dataset(tmp_path, BOX, BOX.replace("/m/1", "/m/9"))
    table(tmp_path, "class-descriptions-boxable.csv", "/m/1,Crane", "/m/2,Crane", '/m/3,"Bird, large"')
    records, rows, losses = read(FORMAT, tmp_path)
    assert [info.name for info in records.classes] == ["Crane", "Crane (/m/2)", "Bird, large", "/m/9"]
    assert rows["label"].to_pylist() == ["Crane", "/m/9"]
    assert len(losses.losses) == 2


def test_the_list_of_all_classes_is_cut_down(tmp_path: Path) -> None:
    dataset(tmp_path, BOX.replace("/m/1", "/m/700"))
    lines = [f"/m/{number},Class {number}" for number in range(2000)]
    table(tmp_path, "class-descriptions-boxable.csv", lines[0], *lines[1:])
    records, _, losses = read(FORMAT, tmp_path)
    assert [info.name for info in records.classes] == ["Class 700"]
    assert [(loss.what, loss.count) for loss in losses.losses] == [("classes", 1999)]


# ------------------------------------------------------------------------------------------------------------- bad input


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    dataset(tmp_path, BOX)
    rows = b"a,gr\xc3\xbcn,/m/1,1\na,\xff\xfe,/m/1,1\na,\xd3\n"
    (tmp_path / "annotations/bad.csv").write_bytes(f"{LABELS}\n".encode() + rows)
    _, found, losses = read(FORMAT, tmp_path)
    said = [json.loads(row["attributes"])["source"] for row in found.to_pylist()]
    assert said == ["xclick", "grün", "??"]
    assert {(loss.what, loss.reason) for loss in losses.losses} == {
        ("annotation files", "bytes that are not UTF-8 became question marks"),
        ("rows", "not as many columns as the header has"),
    }


@given(st.binary(max_size=40), st.integers(1, 9))
@settings(deadline=None)
def test_any_bytes_become_text(tmp_path_factory: pytest.TempPathFactory, data: bytes, size: int) -> None:
    path = tmp_path_factory.mktemp("bytes") / "a.csv"
    path.write_bytes(data)
    stream = tables._Utf8(path)
    pieces = []
    while piece := stream.read(size):
        assert len(piece) <= max(size, 4)
        pieces.append(piece)
    stream.close()
    assert b"".join(pieces).decode() == data.decode("utf-8", "replace").replace("\ufffd", "?")


def test_broken_hierarchy_and_header_alone(tmp_path: Path) -> None:
    dataset(tmp_path)
    (tmp_path / "annotations/bbox_labels_600_hierarchy.json").write_text('{"LabelName": ')
    records, rows, losses = read(FORMAT, tmp_path)
    assert (records.images.num_rows, rows.num_rows) == (1, 0)
    assert reasons(losses) == {"the hierarchy cannot be read"}


def test_nothing_of_open_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label\na.jpg,cat\n")
    assert FORMAT.detect(tmp_path) is None
    with pytest.raises(FormatError, match="no CSV file of Open Images"):
        read(FORMAT, tmp_path)
