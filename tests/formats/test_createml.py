"""Create ML: real files, the names of their keys, labels of whole images, split folders, and broken files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from format_cases import by_location, read, reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import CurateError, FormatError
from curate.formats.base import ReadOptions
from curate.formats.createml import FORMAT
from curate.formats.detect import detect_format

BOX = {"label": "x", "coordinates": {"x": 20, "y": 10, "width": 8, "height": 6}}


def dataset(root: Path, *entries: Any, name: str = "annotations.json") -> Path:
    write_image(root / "a.png", (100, 50))
    (root / name).write_text(json.dumps(entries))
    return root


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize("folder", ["same_images_ten_formats/CreateML", "datumaro/roboflow_dataset/createml"])
def test_real_files_hold_what_is_read(shared_data: Path, folder: str) -> None:
    source = shared_data / "formats" / folder
    listed = [entry for path in source.rglob("*.json") for entry in json.loads(path.read_bytes())]
    records, table, losses = read(FORMAT, source)
    counts = {name.rpartition("/")[2]: len(rows) for name, rows in by_location(records, table).items()}
    assert counts == {entry["image"]: len(entry["annotations"]) for entry in listed}
    assert Counter(table["label"].to_pylist()) == Counter(
        each["label"] for entry in listed for each in entry["annotations"]
    )
    assert losses.losses == []
    assert detect_format(source)[0].name == "createml"


def test_the_objects_of_the_four_images(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/same_images_ten_formats/CreateML")
    found = by_location(records, table)
    counts = {name: len(rows) for name, rows in found.items()}
    assert counts == {"birds.jpg": 2, "crack.jpeg": 1, "shapes.jpg": 5, "strawberry.jpg": 17}
    assert found["birds.jpg"][0]["bbox"] == pytest.approx([368.8992248 - 145, 342.5310078 - 294.5, 290, 589])


def test_splits_are_folders(shared_data: Path) -> None:
    records, _, _ = read(FORMAT, shared_data / "formats/datumaro/roboflow_dataset/createml")
    splits = dict(zip(records.images["location"].to_pylist(), records.images["split"].to_pylist(), strict=True))
    assert splits == {"train/train_001.jpg": "train", "train/train_002.jpg": "train", "val/val_001.jpg": "val"}


def test_the_images_of_a_split_are_not_looked_for_in_another(tmp_path: Path) -> None:
    for split in ("train", "val"):
        dataset(tmp_path / split, {"image": "a.png", "annotations": [BOX]}, name="_annotations.createml.json")
    (tmp_path / "val/a.png").unlink()
    records, table, losses = read(FORMAT, tmp_path)
    assert {name: len(rows) for name, rows in by_location(records, table).items()} == {"train/a.png": 1, "val/a.png": 1}
    assert reasons(losses) == {"not there; kept without a file"}


# ------------------------------------------------------------------------------------------------------------------ keys


@pytest.mark.parametrize("image", ["image", "imagefilename", "filename", "imageURL"])
@pytest.mark.parametrize("objects", ["annotations", "annotation"])
def test_names_of_keys(tmp_path: Path, image: str, objects: str) -> None:
    records, table, losses = read(FORMAT, dataset(tmp_path, {image: "a.png", objects: [BOX], "verified": True}))
    assert records.images["location"].to_pylist() == ["a.png"]
    assert json.loads(records.images["metadata"].to_pylist()[0]) == {"verified": True}
    assert table["bbox"].to_pylist() == [[16, 7, 8, 6]]
    assert losses.losses == []
    assert detect_format(tmp_path)[0].name == "createml"


def test_addresses_find_the_image_beside_the_file(tmp_path: Path) -> None:
    url = "file:///Users/me/set/a.png"
    records, _, losses = read(FORMAT, dataset(tmp_path, {"imageURL": url, "annotations": [BOX]}))
    assert records.images["location"].to_pylist() == ["a.png"]
    assert json.loads(records.images["metadata"].to_pylist()[0]) == {"url": url}
    assert losses.losses == []


@pytest.mark.parametrize("said", [{"annotations": ["x", "y"]}, {"annotations": [{"label": "x"}, {"label": "y"}]},
                                  {"annotations": ["x"], "label": "y"}, {"annotation": "x", "label": "y"}])  # fmt: skip
def test_labels_of_the_whole_image(tmp_path: Path, said: dict[str, Any]) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, {"image": "a.png", **said}))
    assert table.select(["type", "label"]).to_pylist() == [{"type": "label", "label": name} for name in "xy"]
    assert losses.losses == []


def test_other_members_and_confidences(tmp_path: Path) -> None:
    entry = {"image": "a.png", "annotations": [BOX | {"confidence": 0.5, "truncated": True}]}
    _, table, _ = read(FORMAT, dataset(tmp_path, entry), ReadOptions(layer="predictions/m"))
    assert table.select(["score", "attributes"]).to_pylist() == [{"score": 0.5, "attributes": '{"truncated": true}'}]
    assert read(FORMAT, tmp_path)[2].losses[0].what == "scores"


def test_an_image_listed_twice_keeps_all_its_objects(tmp_path: Path) -> None:
    entry = {"image": "a.png", "annotations": [BOX]}
    _, table, losses = read(FORMAT, dataset(tmp_path, entry, entry))
    assert len(set(table["annotation_id"].to_pylist())) == 2
    assert reasons(losses) == {"listed more than once: all their objects are kept"}


def test_images_that_are_not_listed(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png", (9, 9))
    records, _, _ = read(FORMAT, dataset(tmp_path, {"image": "a.png", "annotations": []}))
    assert records.images["location"].to_pylist() == ["a.png", "b.png"]


@pytest.mark.parametrize("tree", [
    [{"id": 1, "annotations": [{"result": []}], "data": {"image": "a.png"}}],
    [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
    [{"image": "a.png", "label": [{"x": 1}], "id": 3}],
    {"images": [], "annotations": []},
])  # fmt: skip
def test_lists_of_other_formats_are_not_claimed(tmp_path: Path, tree: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(tree))
    assert FORMAT.detect(tmp_path) is None


# ---------------------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    "bad",
    [
        *(1, None, {}, {"label": ""}, {"label": "x", "coordinates": {}}, {"label": "x", "coordinates": 3}),
        *(BOX | {"coordinates": {"x": "1", "y": 1, "width": 1, "height": 1}}, {"label": ["x"]}),
        BOX | {"coordinates": {"x": float("nan"), "y": 1, "width": 1, "height": 1}},
    ],
)
def test_bad_objects_are_dropped_and_the_rest_read(tmp_path: Path, bad: Any) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, {"image": "a.png", "annotations": [bad, BOX]}))
    assert table["type"].to_pylist() == ["box"]
    assert [(loss.outcome, loss.count) for loss in losses.losses] == [("dropped", 1)]
    assert losses.losses[0].places == ["annotations.json: a.png: object 1"]


@pytest.mark.parametrize("content", [b'[{"image": "a.png", "annotations": [', b"{}", b"3", b'[{"a": 1}]', b""])
def test_broken_files_are_left_out_and_the_rest_read(tmp_path: Path, content: bytes) -> None:
    dataset(tmp_path, {"image": "a.png", "annotations": [BOX]}, 7)
    (tmp_path / "bad.json").write_bytes(content)
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert {loss.what: loss.places for loss in losses.losses} == {
        "annotation files": ["bad.json"],
        "images": ["annotations.json"],
    }
    with pytest.raises(FormatError):
        read(FORMAT, tmp_path / "bad.json")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_SIDES = st.dictionaries(st.sampled_from(["x", "y", "width", "height"]), st.just(1e308) | _JSON)
_OBJECTS = st.fixed_dictionaries(
    {}, optional={"label": _JSON, "coordinates": _SIDES | _JSON, "confidence": _JSON, "z": _JSON}
)
_ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "image": st.just("a.png") | _JSON,
        "imageURL": _JSON,
        "annotations": st.lists(_OBJECTS) | _JSON,
        "label": _JSON,
    },
)


@settings(deadline=None, max_examples=150)
@given(st.lists(_ENTRIES | _JSON, max_size=4))
def test_any_list_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.json").write_text(json.dumps([*tree, {"image": "b.png", "annotations": [BOX]}]))
    try:
        _, table, _ = read(FORMAT, folder)
    except CurateError:
        pytest.fail("one entry is right")
    assert table["bbox"].to_pylist()[-1] == [16, 7, 8, 6]
