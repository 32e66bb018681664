"""Hugging Face: tables as the library writes them, metadata files of image folders, broken input, and round trips."""

from __future__ import annotations

import io
import json
import string
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from format_cases import CLASSES, Case, boxes, by_location, cases, make_export, read, reasons, write_image, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.dataset.schema import ANNOTATIONS
from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Export, ReadOptions, WriteOptions
from curate.formats.detect import detect_format
from curate.formats.huggingface import FORMAT
from curate.formats.losses import LossReport
from curate.geometry import encode_rle

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BOX = {"feature": {"dtype": "float32", "_type": "Value"}, "length": 4, "_type": "List"}
NAMES = {"names": ["x", "y"], "_type": "ClassLabel"}
NUMBER = {"dtype": "int64", "_type": "Value"}


def png(size: tuple[int, int] = (20, 10), *, orientation: int = 1, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image = Image.new("L", size)
    exif = image.getexif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(buffer, kind, exif=exif)
    return buffer.getvalue()


def table(path: Path, columns: dict[str, Any], features: dict[str, Any] | None, types: dict[str, pa.DataType]) -> Path:
    """A Parquet (or Arrow) file with the library's metadata."""
    metadata = None if features is None else {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([(name, types[name]) for name in columns], metadata)
    content = pa.Table.from_pydict(columns, schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(content, path)
    else:
        with pa.ipc.new_stream(path, schema) as writer:
            writer.write_table(content)
    return path


def images(*names: str | None, data: bytes | None = None) -> list[dict[str, Any]]:
    return [{"bytes": png() if data is None else data, "path": name} for name in names]


def structs_of_lists(path: Path) -> Path:
    """What version 5.2 of the library writes for `Sequence({...})`: a struct of lists."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        "objects": {
            "id": {"feature": NUMBER, "_type": "List"},
            "bbox": {"feature": BOX, "_type": "List"},
            "category": {"feature": NAMES, "_type": "List"},
        },
    }
    box = pa.list_(pa.float32(), 4)
    fields = [("id", pa.list_(pa.int64())), ("bbox", pa.list_(box)), ("category", pa.list_(pa.int64()))]
    types = {"image": IMAGE, "label": pa.int64(), "objects": pa.struct(fields)}
    columns = {
        "image": images("a.png", "b.png"),
        "label": [0, 1],
        "objects": [
            {"id": [1, 2], "bbox": [[0, 0, 5, 5], [1, 1, 2, 2]], "category": [0, 1]},
            {"id": [], "bbox": [], "category": []},
        ],
    }
    return table(path, columns, features, types)


def lists_of_structs(path: Path, sequence: str = "List") -> Path:
    features = {
        "image": {"_type": "Image"},
        "objects": {"feature": {"bbox": {**BOX, "_type": sequence}, "category": NAMES}, "_type": sequence},
    }
    fields = [("bbox", pa.list_(pa.float32(), 4)), ("category", pa.int64())]
    types = {"image": IMAGE, "objects": pa.list_(pa.struct(fields))}
    columns = {"image": images(None, None), "objects": [[{"bbox": [0, 0, 5, 5], "category": 1}], []]}
    return table(path, columns, features, types)


# ----------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "train/data-00000-of-00001.arrow"])
def test_structs_of_lists(tmp_path: Path, name: str) -> None:
    structs_of_lists(tmp_path / "in" / name)
    records, found, losses = read(FORMAT, tmp_path / "in", ReadOptions(files=tmp_path / "files"))
    assert records.images.select(["location", "path", "width", "height", "split"]).to_pylist() == [
        {"location": f"train/{each}", "path": str(tmp_path / "files/train" / each), "width": 20, "height": 10, "split": "train"}
        for each in ("a.png", "b.png")
    ]  # fmt: skip
    assert (tmp_path / "files/train/a.png").read_bytes() == png()
    rows = by_location(records, found)
    assert [(row["type"], row["label"], row["bbox"], row["source_id"]) for row in rows["train/a.png"]] == [
        ("label", "cat", None, None), ("box", "x", [0, 0, 5, 5], "1"), ("box", "y", [1, 1, 2, 2], "2"),
    ]  # fmt: skip
    assert [row["label"] for row in rows["train/b.png"]] == ["dog"]
    assert [info.name for info in records.classes] == ["x", "y", "cat", "dog"]
    assert {loss.what for loss in losses.losses} == {"classes"}  # 0 and 1 are two classes each


@pytest.mark.parametrize("sequence", ["List", "LargeList", "Sequence"])
def test_lists_of_structs_and_images_without_a_name(tmp_path: Path, sequence: str) -> None:
    lists_of_structs(tmp_path / "in/test/0000.parquet", sequence)
    records, found, losses = read(FORMAT, tmp_path / "in", ReadOptions(files=tmp_path / "files"))
    assert records.images["location"].to_pylist() == ["test/000000.png", "test/000001.png"]
    assert records.images["split"].to_pylist() == ["test", "test"]
    assert found.select(["label", "bbox"]).to_pylist() == [{"label": "y", "bbox": [0, 0, 5, 5]}]
    assert records.classes == [ClassInfo("x", 0), ClassInfo("y", 1)]
    assert losses.losses == []


def test_without_a_place_for_files_images_are_kept_without_one(tmp_path: Path) -> None:
    jpeg = png((20, 10), orientation=6, kind="JPEG")
    path = table(tmp_path / "a.parquet", {"image": images("a.jpg", data=jpeg)}, None, {"image": IMAGE})
    records, _, losses = read(FORMAT, path)
    assert records.images.select(["path", "width", "height"]).to_pylist() == [{"path": None, "width": 10, "height": 20}]
    assert reasons(losses) == {"not there; kept without a file"}
    assert [each.name for each in tmp_path.iterdir()] == ["a.parquet"]


def test_files_that_are_there_are_not_written_again(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"image": images("a.png")}, None, {"image": IMAGE})
    options = ReadOptions(files=tmp_path / "files")
    read(FORMAT, path, options)
    before = (tmp_path / "files/a.png").stat().st_mtime_ns
    assert read(FORMAT, path, options)[0].images["path"].to_pylist() == [str(tmp_path / "files/a.png")]
    assert (tmp_path / "files/a.png").stat().st_mtime_ns == before


def test_names_never_leave_the_folder_and_differ(tmp_path: Path) -> None:
    names = ["../../x.png", "/etc/x.png", "C:\\x.png", "x" * 300, "a\0:?.png", "X.png", "."]
    path = table(tmp_path / "in/a.parquet", {"image": images(*names)}, None, {"image": IMAGE})
    records, _, losses = read(FORMAT, path, ReadOptions(files=tmp_path / "files"))
    assert records.images["location"].to_pylist() == [
        "x.png", "etc/x.png", "x_2.png", "000003.png", "a___.png", "X_3.png", "000006.png",
    ]  # fmt: skip
    assert len({name.lower() for name in records.images["location"].to_pylist()}) == 7
    written_files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.is_relative_to(tmp_path / "files") for path in written_files - {tmp_path / "in/a.parquet"})
    assert len(written_files) == 8
    assert reasons(losses) == {"renamed: another image has the same name"}


def test_columns_that_are_known_and_the_rest(tmp_path: Path) -> None:
    columns = {
        "image_id": [7], "image": [png()], "width": [20], "height": [10], "camera": ["left"], "fine": [1],
        "mask": images("m.png"), "label": ["a cat"],
    }  # fmt: skip
    types = {
        "image_id": pa.int64(), "image": pa.binary(), "width": pa.int64(), "height": pa.int64(), "camera": pa.string(),
        "fine": pa.int64(), "mask": IMAGE, "label": pa.string(),
    }  # fmt: skip
    text = {"dtype": "string", "_type": "Value"}
    features = dict.fromkeys(columns, NUMBER) | {
        "image": {"_type": "Image"}, "mask": {"_type": "Image"}, "label": text, "camera": text, "fine": NAMES,
    }  # fmt: skip
    path = table(tmp_path / "a.parquet", columns, features, types)
    records, found, losses = read(FORMAT, path, ReadOptions(files=tmp_path / "files"))
    (image,) = records.images.to_pylist()
    assert (image["source_id"], image["location"]) == ("7", "000000.png")
    assert json.loads(image["metadata"]) == {"camera": "left", "fine": "y"}
    assert found.select(["type", "label"]).to_pylist() == [{"type": "label", "label": "a cat"}]
    assert [(loss.what, loss.count) for loss in losses.losses] == [("columns of bytes", 1)]


def test_boxes_in_columns_of_their_own(tmp_path: Path) -> None:
    columns = {"image": images("a.png"), "bboxes": [[[1, 2, 3, 4], [5, 6, 7, 8]]], "labels": [[1, 0]]}
    types = {"image": IMAGE, "bboxes": pa.list_(pa.list_(pa.float64())), "labels": pa.list_(pa.int64())}
    features = {"image": {"_type": "Image"}, "labels": {"feature": NAMES, "_type": "Sequence"}}
    path = table(tmp_path / "a.parquet", columns, features, types)
    _, found, _ = read(FORMAT, path, ReadOptions(files=tmp_path / "files"))
    assert found.select(["label", "bbox"]).to_pylist() == [
        {"label": "y", "bbox": [1, 2, 3, 4]},
        {"label": "x", "bbox": [5, 6, 7, 8]},
    ]


def test_every_geometry_that_cocos_columns_have(tmp_path: Path) -> None:
    objects = [
        {"bbox": [0.0, 0.0, 9.0, 9.0], "category_id": 3, "segmentation": [[0.0, 0.0, 4.0, 0.0, 4.0, 4.0]], "area": 8.0},
        {"segmentation": {"counts": [0, 4, 196], "size": [10, 20]}, "iscrowd": 1, "category_id": 3},
        {"keypoints": [[1.0, 2.0, 0.0], [3.0, 4.0, 2.0]], "score": 0.5, "colour": "red"},
    ]
    rows = [json.dumps({"file_name": "a.png", "objects": objects})]
    write_image(tmp_path / "a.png", (20, 10))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    _, found, losses = read(FORMAT, tmp_path)
    first, second, third = found.to_pylist()
    assert (first["type"], first["label"], first["area"], first["bbox"]) == ("polygon", "3", 8, [0, 0, 9, 9])
    assert (second["type"], second["iscrowd"], second["bbox"]) == ("mask", True, [0, 0, 1, 4])
    assert (third["keypoints"], third["bbox"]) == ([1, 2, 0, 3, 4, 2], [3, 4, 0, 0])
    assert json.loads(third["attributes"]) == {"colour": "red", "score": 0.5}
    assert losses.losses == []


INFO = {"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}
CARD = """---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
---
# A set
"""


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("dataset_info.json", json.dumps(INFO)),
        ("dataset_infos.json", json.dumps({"default": INFO})),
        ("README.md", CARD),
    ],
)
def test_names_of_classes_beside_the_table(tmp_path: Path, file: str, content: str) -> None:
    columns = {"image": images("a.png", "b.png"), "label": [1, -1]}
    table(tmp_path / "in/train.parquet", columns, None, {"image": IMAGE, "label": pa.int64()})
    (tmp_path / "in" / file).write_text(content)
    records, found, losses = read(FORMAT, tmp_path / "in", ReadOptions(files=tmp_path / "files"))
    assert found["label"].to_pylist() == ["dog"]
    assert records.classes == [ClassInfo("cat", 0), ClassInfo("dog", 1)]
    assert losses.losses == []


def test_an_image_that_the_table_only_names(tmp_path: Path) -> None:
    write_image(tmp_path / "set/pictures/a.png", (20, 10))
    columns = {"image": [{"bytes": None, "path": name} for name in ("pictures/a.png", "/etc/hostname.png")]}
    path = table(tmp_path / "set/a.parquet", columns, None, {"image": IMAGE})
    records, _, losses = read(FORMAT, path)
    assert records.images["path"].to_pylist() == [str(tmp_path / "set/pictures/a.png"), None]
    assert reasons(losses) == {"not there; kept without a file"}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/validation-00001-of-00002-0123456789abcdef.parquet", "val"),
        ("test.parquet", "test"),
        ("default/test/0000.parquet", "test"),
        ("coco_dev.parquet", "val"),
        ("data/night-00000-of-00001.parquet", "night"),
        ("0000.parquet", None),
        ("data/unsplit-00000-of-00001.parquet", None),
        ("night/data-00000-of-00001.arrow", "night"),
    ],
)
def test_splits(tmp_path: Path, name: str, split: str | None) -> None:
    table(tmp_path / name, {"image": images("a.png")}, None, {"image": IMAGE})
    assert read(FORMAT, tmp_path)[0].images["split"].to_pylist() == [split]


# ---------------------------------------------------------------------------------------------------------------- folders


def test_a_metadata_file_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_image(tmp_path / split / "a.png", (20, 10))
        write_image(tmp_path / split / "b.png", (20, 10))
        objects = {"bbox": [[1, 2, 3, 4]], "categories": [0], "id": [9], "area": [12]}
        row = {"file_name": "a.png", "objects": objects, "text": split}
        (tmp_path / split / "metadata.jsonl").write_text(f"{json.dumps(row)}\n\n")
    records, found, losses = read(FORMAT, tmp_path)
    assert Counter(records.images["split"].to_pylist()) == {"train": 2, "test": 2}
    assert [json.loads(text)["text"] for text in records.images["metadata"].to_pylist() if text] == ["test", "train"]
    assert (
        found.select(["bbox", "label", "source_id", "area"]).to_pylist()
        == [{"bbox": [1, 2, 3, 4], "label": "0", "source_id": "9", "area": 12}] * 2
    )
    assert losses.losses == []
    assert detect_format(tmp_path)[0].name == "huggingface"


def test_csv(tmp_path: Path) -> None:
    write_image(tmp_path / "images/ä b.png", (20, 10))
    text = (
        'file_name,label,note,objects\nimages/ä b.png,007,"[1, 2]","{""bbox"": [[1, 2, 3, 4]]}"\ngone.png,x,,,extra\n'
    )
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    records, found, losses = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["images/ä b.png", "gone.png"]
    assert json.loads(records.images["metadata"][0].as_py()) == {"note": [1, 2]}
    assert found.select(["type", "label"]).to_pylist() == [
        {"type": "label", "label": "007"}, {"type": "box", "label": None}, {"type": "label", "label": "x"},
    ]  # fmt: skip
    assert reasons(losses) == {"not there; kept without a file", "more than there are columns"}
    assert detect_format(tmp_path)[0].name == "huggingface"


def test_a_parquet_file_of_metadata(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (20, 10))
    columns = {"file_name": ["a.png"], "label": [1]}
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table(tmp_path / "metadata.parquet", columns, features, {"file_name": pa.string(), "label": pa.int64()})
    _, found, losses = read(FORMAT, tmp_path)
    assert found["label"].to_pylist() == ["dog"]
    assert losses.losses == []


# -------------------------------------------------------------------------------------------------------------- bad input


def test_other_formats_are_not_claimed(shared_data: Path) -> None:
    folders = [path for path in (shared_data / "formats").glob("*/*") if path.is_dir()]
    assert [path.name for path in folders if FORMAT.detect(path) is not None] == []


def test_a_table_without_images(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"x": [1]}, None, {"x": pa.int64()})
    assert FORMAT.detect(path) is None
    with pytest.raises(FormatError, match="no column of images"):
        read(FORMAT, tmp_path)
    with pytest.raises(FormatError, match="no table with images"):
        read(FORMAT, write_image(tmp_path / "b/a.png", (2, 2)).parent)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "metadata.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff" * 500, b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_no_table(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert FORMAT.detect(tmp_path) is None
    with pytest.raises(FormatError):
        read(FORMAT, tmp_path / name)


def test_a_broken_table_among_others(tmp_path: Path) -> None:
    structs_of_lists(tmp_path / "train-00000-of-00002.parquet")
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(b"PAR1")
    records, _, losses = read(FORMAT, tmp_path)
    assert records.images.num_rows == 2
    assert "files" in {loss.what for loss in losses.losses if loss.outcome == "dropped"}


def test_bad_lines_and_objects(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (20, 10))
    bad = [
        {"bbox": [1, 2, 3]},
        {"bbox": "x"},
        {"category": 1},
        {"bbox": [1, 2, float("nan"), 4]},
        3,
        {"bbox": [1, 2, 3, 4]},
    ]
    lines = ["{", "[1]", '{"x": 1}', json.dumps({"file_name": "a.png", "objects": bad}), '{"a":' * 5000]
    (tmp_path / "metadata.jsonl").write_text("\n".join([lines[3], *lines[:3], lines[4]]))
    _, found, losses = read(FORMAT, tmp_path)
    assert found["bbox"].to_pylist() == [[1, 2, 3, 4]]
    assert {loss.reason: loss.count for loss in losses.losses} == {
        "not valid JSON": 2,
        "not a JSON object of values": 1,
        "without the name of an image": 1,
        "without four numbers for a box": 3,
        "coordinates that are not finite numbers": 1,
        "not a struct": 1,
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["bbox", "category", "segmentation", "keypoints", "rle", "rle_size", "rotated_box", "type", "id", "iscrowd", "area",
     "score", "attributes", "x"]
)  # fmt: skip
OBJECTS = st.dictionaries(KEYS, VALUES | st.lists(st.integers(0, 9), min_size=4, max_size=6))


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["label", "width", "image_id", "tags", "frame", "timestamp", "bbox", "metadata"]), VALUES
    ),
    st.lists(OBJECTS, max_size=3) | OBJECTS | VALUES,
)
def test_whatever_the_values_are(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any], objects: Any) -> None:
    root = tmp_path_factory.mktemp("any")
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "objects": objects, **row}))
    try:
        _, found, _ = read(FORMAT, root / "metadata.jsonl")
    except CurateError:
        return
    assert found.schema == ANNOTATIONS


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4), st.sampled_from([".parquet", ".arrow"]))
def test_tables_with_broken_bytes(tmp_path_factory: pytest.TempPathFactory, at: int, patch: bytes, suffix: str) -> None:
    root = tmp_path_factory.mktemp("bytes")
    path = structs_of_lists(root / f"a{suffix}")
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(patch)] = patch
    path.write_bytes(data)
    try:
        read(FORMAT, path, ReadOptions(files=root / "files"))
    except CurateError:
        return


# ----------------------------------------------------------------------------------------------------------- round trips


@st.composite
def any_annotations(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    kind: str = draw(st.sampled_from(["box", "rotated_box", "polygon", "mask", "keypoints", "polyline"]))
    point = st.tuples(st.floats(0, size[0]), st.floats(0, size[1]))
    row: dict[str, Any] = {"type": kind, "bbox": draw(boxes(size))}
    if kind == "rotated_box":
        row["rotated_box"] = [*draw(boxes(size)), draw(st.floats(-180, 180))]
    if kind in {"polygon", "polyline"}:
        parts = 1 if kind == "polyline" else draw(st.integers(1, 2))
        outlines = [draw(st.lists(point, min_size=3, max_size=4)) for _ in range(parts)]
        row["polygons"] = [[float(side) for end in outline for side in end] for outline in outlines]
    if kind == "mask":
        mask = np.zeros((size[1], size[0]), dtype=np.uint8)
        mask.ravel()[draw(st.lists(st.integers(0, mask.size - 1), min_size=1, max_size=9))] = 1
        row["rle"], row["rle_size"] = encode_rle(mask), [size[1], size[0]]
    if kind == "keypoints":
        row["keypoints"] = [float(each) for end in draw(st.lists(point, min_size=1, max_size=3)) for each in (*end, 2)]
    row["label"] = draw(st.sampled_from([None, *CLASSES]))
    row["area"] = draw(st.none() | st.floats(0, 1000))
    row["iscrowd"] = draw(st.sampled_from([None, True, False]))
    row["attributes"] = draw(st.sampled_from([None, '{"occluded": true}', '{"note": "é", "colour": [1, null]}']))
    row["source_id"] = draw(st.none() | st.integers(0, 10**15).map(str) | st.sampled_from(["a7", "007"]))
    return row


COLUMNS = (
    "type",
    "label",
    "bbox",
    "rotated_box",
    "polygons",
    "rle",
    "rle_size",
    "keypoints",
    "area",
    "iscrowd",
    "source_id",
)


@settings(deadline=None, max_examples=40)
@given(cases(any_annotations))
def test_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        assert losses.losses == []
        records, back_table, back_losses = read(FORMAT, target, ReadOptions(files=target / "files"))
        assert back_losses.losses == []
        assert [info.name for info in records.classes] == CLASSES
        back = by_location(records, back_table)
        assert None not in records.images["path"].to_pylist()
        for case in found:
            for given_row, row in zip(case.annotations, back[f"{case.split}/{case.location}"], strict=True):
                assert {key: row[key] for key in COLUMNS} == {key: given_row.get(key) for key in COLUMNS}
                assert json.loads(row["attributes"] or "{}") == json.loads(given_row["attributes"] or "{}")


def written_export(folder: Path, found: Sequence[Case], options: WriteOptions) -> tuple[Path, Export, LossReport]:
    target, losses, export = folder / "out", LossReport(), make_export(folder / "in", found)
    target.mkdir()
    FORMAT.write(export, target, options, losses)
    return target, export, losses


def test_what_is_written_is_what_the_library_writes(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"type": "label", "label": CLASSES[1]},
        {"type": "box", "label": CLASSES[2], "bbox": [1.0, 2.0, 3.0, 4.0], "source_id": "5"},
    ]
    target, _, losses = written_export(tmp_path, [Case("a.png", (9, 8), "val", rows)], WriteOptions("copy"))
    path = target / "data/validation-00000-of-00001.parquet"
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": CLASSES, "_type": "ClassLabel"}
    assert features["objects"]["category"] == {"feature": features["label"], "_type": "Sequence"}
    assert features["objects"]["id"] == {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "Sequence"}
    (row,) = pq.read_table(path).to_pylist()
    assert row["image"] == {"bytes": (tmp_path / "in/a.png").read_bytes(), "path": "a.png"}
    assert (row["width"], row["height"], row["label"]) == (9, 8, 1)
    assert row["objects"] == {"id": [5], "bbox": [[1, 2, 3, 4]], "category": [2]}
    assert (
        (target / "README.md")
        .read_text()
        .startswith("---\nconfigs:\n- config_name: default\n  data_files:\n  - split: validation")
    )
    assert losses.losses == []


def test_images_of_no_split_and_only_their_names(tmp_path: Path) -> None:
    target, _, losses = written_export(tmp_path, [Case("b/a.png", (9, 8), None, [])], WriteOptions("none"))
    (path,) = (target / "data").iterdir()
    assert path.name == "unsplit-00000-of-00001.parquet"
    assert pq.read_table(path)["image"].to_pylist() == [{"bytes": None, "path": "b/a.png"}]
    assert losses.losses == []
    records, _, _ = read(FORMAT, target, ReadOptions(images=tmp_path / "in"))
    assert records.images.select(["split", "path"]).to_pylist() == [
        {"split": None, "path": str(tmp_path / "in/b/a.png")}
    ]


def test_files_are_cut_at_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Case(f"{number}.png", (9, 8), "train", []) for number in range(5)]
    size = len(png((9, 8)))
    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules["curate.formats.huggingface.write"], "SHARD_BYTES", 2 * size + 20)
    target, _, _ = written_export(tmp_path, found, WriteOptions("copy"))
    names = sorted(path.name for path in (target / "data").iterdir())
    assert names == [f"train-{number:05d}-of-00003.parquet" for number in range(3)]
    records, _, losses = read(FORMAT, target, ReadOptions(files=tmp_path / "files"))
    assert records.images["location"].to_pylist() == [f"train/{number}.png" for number in range(5)]
    assert losses.losses == []


def test_what_a_table_cannot_say_is_reported(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"type": "label", "label": CLASSES[0], "attributes": '{"a": 1}'},
        {"type": "label", "label": None},
        {"type": "box", "label": CLASSES[0], "bbox": [0.0, 0.0, 1.0, 1.0], "probabilities": [0.5]},
    ]
    found = [Case("a.png", (9, 9), "a b", rows)]
    target, _, losses = written_export(tmp_path, found, WriteOptions("link"))
    assert {loss.what: loss.count for loss in losses.losses} == {
        "attributes": 1, "annotations": 1, "class probabilities": 1, "image files": 1, "splits": 1,
    }  # fmt: skip
    assert (target / "data/a_b-00000-of-00001.parquet").is_file()


def test_ids_of_labels_are_told(tmp_path: Path) -> None:
    label = {"type": "label", "label": CLASSES[0], "source_id": "3"}
    shape = {"type": "box", "label": CLASSES[0], "bbox": [1.0, 2.0, 3.0, 4.0], "area": 5.0, "source_id": "3"}
    with written(FORMAT, [Case("a.png", (9, 9), None, [label, shape])], WriteOptions()) as (target, losses):
        assert {(loss.what, loss.count) for loss in losses.losses} == {("annotation ids", 1)}
        _, back, _ = read(FORMAT, target)
        assert {(row["type"], row["source_id"], row["area"]) for row in back.to_pylist()} == {
            ("label", None, None), ("box", "3", 5.0),
        }  # fmt: skip
