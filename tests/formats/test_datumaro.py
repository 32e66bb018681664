"""Datumaro: real files of both versions, groups, every type of annotation, broken files, and round trips."""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import (
    CLASSES,
    Case,
    boxes,
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

from curate.dataset.schema import ANNOTATIONS
from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Export, ReadOptions, WriteOptions
from curate.formats.columns import annotations_table
from curate.formats.datumaro import FORMAT
from curate.formats.detect import detect_format
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape, shape_columns
from curate.geometry import decode_rle, encode_rle

LABELS: dict[str, Any] = {
    "label": {"labels": [{"name": name, "parent": "", "attributes": []} for name in ("cat", "dog")]}
}


def item(*annotations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "a", "annotations": list(annotations), "image": {"path": "a.png", "size": [50, 100]}, **fields}


def annotation(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": 0, "type": kind, "attributes": {}, "group": 0, "label_id": 0, **fields}


def box(*corners: float, **fields: Any) -> dict[str, Any]:
    return annotation("bbox", bbox=list(corners or (10, 20, 30, 10)), **fields)


def dataset(root: Path, *items: Any, subset: str = "train", **top: Any) -> Path:
    write_image(root / f"images/{subset}/a.png", (100, 50))
    (root / "annotations").mkdir(exist_ok=True)
    content = {"dm_format_version": "1.0", "infos": {}, "categories": LABELS, "items": list(items), **top}
    (root / f"annotations/{subset}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def only(root: Path, *annotations: dict[str, Any]) -> tuple[list[dict[str, Any]], LossReport]:
    """The annotations of one image, as they are read."""
    _, table, losses = read(FORMAT, dataset(root, item(*annotations)))
    return table.to_pylist(), losses


# ------------------------------------------------------------------------------------------------------------ real files


def test_the_older_version(shared_data: Path) -> None:
    source = shared_data / "formats/datumaro/datumaro_dataset/legacy"
    records, table, losses = read(FORMAT, source)
    given = [entry for path in source.glob("annotations/*.json") for entry in json.loads(path.read_text())["items"]]
    assert sorted(records.images["location"].to_pylist()) == [
        "images/test/c.jpg", "images/train/a.jpg", "images/train/b.jpg", "images/validation/d.jpg",
    ]  # fmt: skip
    assert table.num_rows == sum(len(entry["annotations"]) for entry in given) == 7
    assert dict(zip(records.images["source_id"].to_pylist(), records.images["split"].to_pylist(), strict=True)) == {
        "a": "train", "b": "train", "c": "test", "d": "val",
    }  # fmt: skip
    assert None not in records.images["path"].to_pylist()
    labels = [row["label"] for row in by_location(records, table)["images/train/b.jpg"]]
    assert labels == ["car", "bicycle", "tom", "mary"]
    assert [known.name for known in records.classes] == ["car", "bicycle", "tom", "mary"]
    info: Any = records.info["datumaro"]
    assert info["infos"] == {"task": "classification", "author": "anonymous"}
    assert info["label_groups"][0]["labels"] == ["car", "bicycle"]
    assert losses.losses == []


def test_version_1_0(shared_data: Path) -> None:
    source = shared_data / "formats/datumaro/algorithms/noisy_label_detection_det"
    records, table, losses = read(FORMAT, source)
    given = json.loads((source / "annotations/train.json").read_text())["items"]
    assert records.images.num_rows == len(given)
    assert table.num_rows == sum(len(entry["annotations"]) for entry in given)
    first = given[0]["annotations"][0]
    row = table.slice(0, 1).to_pylist()[0]
    assert row["bbox"] == pytest.approx(first["bbox"])
    attributes = json.loads(row["attributes"])
    assert {key: attributes[key] for key in first["attributes"]} == first["attributes"]
    assert reasons(losses) == {"not there; kept without a file"}


@pytest.mark.parametrize(
    "folder", ["datumaro_dataset/legacy", "algorithms/noisy_label_detection_cls", "compat/v0.1/project/dataset"]
)
def test_recognised(shared_data: Path, folder: str) -> None:
    found, claim = detect_format(shared_data / "formats/datumaro" / folder)
    assert found.name == "datumaro"
    assert "annotations/" in claim.reason


def test_other_formats_are_not_claimed(shared_data: Path) -> None:
    folders = [path for path in (shared_data / "formats").glob("*/*") if path.is_dir()]
    claimed = {path.name for path in folders if FORMAT.detect(path) is not None}
    assert claimed == {"datumaro_dataset", "algorithms", "compat"}


# ------------------------------------------------------------------------------------------------------------------ types


def test_boxes_rotation_and_both_kinds_of_rotated_box(tmp_path: Path) -> None:
    plain = box(1, 2, 30, 10, attributes={"rotation": 0.0, "occluded": True}, z_order=3, object_id=7)
    turned = box(10, 15, 20, 10, attributes={"rotation": 90})
    rotated = annotation("rotated_bbox", points=[20, 20, 20, 10, 90])
    rows, losses = only(tmp_path, plain, turned, rotated)
    assert [row["type"] for row in rows] == ["box", "rotated_box", "rotated_box"]
    assert rows[0]["bbox"] == [1, 2, 30, 10]
    assert json.loads(rows[0]["attributes"]) == {"rotation": 0.0, "occluded": True, "z_order": 3, "object_id": 7}
    assert rows[1]["rotated_box"] == rows[2]["rotated_box"] == [20, 20, 20, 10, 90]
    assert rows[1]["bbox"] == pytest.approx([15, 10, 10, 20])
    assert losses.losses == []


def test_points_have_a_visibility(tmp_path: Path) -> None:
    points = annotation("points", points=[1, 2, 3, 4, 5, 6], visibility=[0, 1, 2])
    rows, losses = only(tmp_path, points, annotation("points", points=[7, 8]))
    assert rows[0]["keypoints"] == [1, 2, 0, 3, 4, 1, 5, 6, 2]
    assert rows[0]["bbox"] == [3, 4, 2, 2]
    assert rows[1]["keypoints"] == [7, 8, 2]
    assert losses.losses == []


@pytest.mark.parametrize("compressed", [True, False])
def test_masks(tmp_path: Path, compressed: bool) -> None:
    mask = np.zeros((50, 100), dtype=np.uint8)
    mask[10:20, 30:35] = 1
    runs = [30 * 50 + 10] + [10, 40] * 4 + [10, 50 * 100 - (34 * 50 + 20)]
    counts: Any = encode_rle(mask) if compressed else runs
    rows, losses = only(tmp_path, annotation("mask", rle={"counts": counts, "size": [50, 100]}))
    assert (decode_rle(rows[0]["rle"], rows[0]["rle_size"]) == mask).all()
    assert rows[0]["bbox"] == [30, 10, 5, 10]
    assert losses.losses == []


def test_lines_labels_and_crowds(tmp_path: Path) -> None:
    line = annotation("polyline", points=[1, 2, 3, 4], label_id=None)
    rows, losses = only(tmp_path, line, annotation("label", label_id=1), box(attributes={"is_crowd": True}))
    assert [(row["type"], row["label"], row["iscrowd"]) for row in rows] == [
        ("polyline", None, None), ("label", "dog", None), ("box", "cat", True),
    ]  # fmt: skip
    assert losses.losses == []


def test_ellipses_and_cuboids_become_what_can_be_kept(tmp_path: Path) -> None:
    corners = [[10, 10], [12, 8], [22, 8], [20, 10], [12, 18], [22, 18], [20, 20], [10, 20]]
    rows, losses = only(
        tmp_path, annotation("ellipse", points=[10, 10, 50, 30]), annotation("cuboid_2d", points=corners)
    )
    assert [row["type"] for row in rows] == ["polygon", "box"]
    assert rows[0]["bbox"] == pytest.approx([10, 10, 40, 20], abs=0.2)
    assert rows[1]["bbox"] == [10, 8, 12, 12]
    assert json.loads(rows[0]["attributes"]) == {"ellipse": [10, 10, 50, 30]}
    assert {loss.outcome for loss in losses.losses} == {"converted"}


def test_captions_and_attributes_of_an_image(tmp_path: Path) -> None:
    caption = {"id": 0, "type": "caption", "attributes": {}, "group": 0, "caption": "a cat"}
    source = dataset(tmp_path, item(caption, box(), attr={"camera": 3}))
    records, table, losses = read(FORMAT, source)
    assert json.loads(records.images["metadata"][0].as_py()) == {"camera": 3, "captions": ["a cat"]}
    assert table.num_rows == 1
    assert losses.losses == []


def test_what_has_no_place_is_reported(tmp_path: Path) -> None:
    space = annotation("cuboid_3d", position=[0, 0, 0], rotation=[0, 0, 0], scale=[1, 1, 1])
    rows, losses = only(tmp_path, space, annotation("hash_key"), annotation("?"), box())
    assert len(rows) == 1
    assert {loss.reason: loss.count for loss in losses.losses} == {
        "boxes in space have no place on an image": 1,
        "computed by Datumaro, not labelled": 1,
        "of an unknown type": 1,
    }
    assert losses.losses[0].places[0].startswith("annotations/train.json: a, annotation ")


def test_categories(tmp_path: Path) -> None:
    categories = {
        "label": {"labels": [{"name": "cat", "parent": "animal"}, {"name": "dog"}]},
        "mask": {"colormap": [{"label_id": 1, "r": 255, "g": 0, "b": 16}, {"label_id": 9, "r": 0, "g": 0, "b": 0}]},
        "points": {"items": [{"label_id": 0, "labels": ["nose", "tail"], "joints": [[1, 2]]}]},
    }
    records, _, losses = read(FORMAT, dataset(tmp_path, item(), categories=categories))
    assert records.classes == [
        ClassInfo("cat", 0, "animal", ("nose", "tail"), ((1, 2),)),
        ClassInfo("dog", 1, color="#ff0010"),
    ]
    assert [(loss.what, loss.count) for loss in losses.losses] == [("colors", 1)]


def test_scores_are_confidences_in_predictions_only(tmp_path: Path) -> None:
    source = dataset(tmp_path, item(box(attributes={"score": 0.5})))
    _, table, _ = read(FORMAT, source)
    assert (table["score"].to_pylist(), table["attributes"].to_pylist()) == ([None], ['{"score": 0.5}'])
    _, table, losses = read(FORMAT, source, ReadOptions(layer="predictions/m"))
    assert (table["score"].to_pylist(), table["attributes"].to_pylist()) == ([0.5], [None])
    assert losses.losses == []


# ----------------------------------------------------------------------------------------------------------------- groups


SQUARES = ([0.0, 0.0, 4.0, 0.0, 4.0, 4.0], [6.0, 6.0, 9.0, 6.0, 9.0, 9.0])


def test_a_group_of_one_label_is_one_object(tmp_path: Path) -> None:
    parts = [
        annotation("polygon", points=SQUARES[0], group=5, id=7),
        box(0, 0, 10, 10, group=5, id=7),
        annotation("polygon", points=SQUARES[1], group=5, id=7),
        annotation("points", points=[1, 1], group=5, id=7),
    ]
    rows, losses = only(tmp_path, box(group=0, id=6), *parts, box(group=5, label_id=1, id=8))
    assert [(row["type"], row["label"], row["source_id"]) for row in rows] == [
        ("box", "cat", "6"), ("keypoints", "cat", "7"), ("box", "dog", "8"),
    ]  # fmt: skip
    assert rows[1]["polygons"] == [list(square) for square in SQUARES]
    assert rows[1]["bbox"] == [0, 0, 10, 10]
    assert rows[1]["keypoints"] == [1, 1, 2]
    assert [json.loads(row["attributes"] or "{}") for row in rows] == [{}, {"group": 5}, {"group": 5}]
    assert losses.losses == []


@pytest.mark.parametrize(
    "parts",
    [
        [box(group=1), box(1, 2, 3, 4, group=1)],
        [box(group=1, attributes={"age": 1}), annotation("polygon", points=SQUARES[0], group=1, attributes={"age": 2})],
        [annotation("label", group=1), box(group=1)],
    ],
)
def test_a_group_of_several_objects_stays_one(tmp_path: Path, parts: Sequence[dict[str, Any]]) -> None:
    rows, losses = only(tmp_path, *parts)
    assert len(rows) == 2
    assert [json.loads(row["attributes"])["group"] for row in rows] == [1, 1]
    assert losses.losses == []


def test_ids_are_stable_and_differ(tmp_path: Path) -> None:
    first, _ = only(tmp_path / "1", box(id=3), box(id=0), box(id=0))
    second, _ = only(tmp_path / "2", box(id=4), box(id=3), box(id=0), box(id=0))
    assert len({row["annotation_id"] for row in second}) == 4
    assert {row["annotation_id"] for row in first} < {row["annotation_id"] for row in second}
    assert [row["source_id"] for row in second] == ["4", "3", None, None]


# -------------------------------------------------------------------------------------------------------------- bad input


def test_images_are_found_and_never_outside(tmp_path: Path) -> None:
    write_image(tmp_path / "secret.png", (9, 9))
    names = ["/home/me/a.png", "../../../secret.png", str(tmp_path / "secret.png"), "x" * 400, "train/a.png"]
    items = [item(box(), id=str(number), image={"path": name}) for number, name in enumerate(names)]
    records, table, losses = read(FORMAT, dataset(tmp_path / "set", *items))
    paths = {path for path in records.images["path"].to_pylist() if path is not None}
    assert paths == {str(tmp_path / "set/images/train/a.png")}
    assert table.num_rows == 5
    assert reasons(losses) == {"not there; kept without a file"}


def test_images_elsewhere(tmp_path: Path) -> None:
    dataset(tmp_path / "set", item(box()))
    (tmp_path / "set/images/train/a.png").rename(tmp_path / "a.png")
    records, _, losses = read(FORMAT, tmp_path / "set/annotations/train.json", ReadOptions(images=tmp_path))
    assert records.images.select(["location", "path", "split"]).to_pylist() == [
        {"location": "a.png", "path": str(tmp_path / "a.png"), "split": "train"}
    ]
    assert losses.losses == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (annotation("bbox", bbox=[1, 2, 3]), "without four numbers for a box"),
        (annotation("bbox", bbox="x"), "without four numbers for a box"),
        (annotation("bbox", bbox=[1, 2, float("nan"), 4]), "coordinates that are not finite numbers"),
        (annotation("polygon", points=[1, 2, 3, 4]), "an outline of too few points"),
        (annotation("polygon", points=[1, 2, 3, 4, 5, None]), "points that are not numbers"),
        (annotation("points", points=[1, 2], visibility=[3]), "points that do not have a visibility of 0, 1 or 2 each"),
        (annotation("mask", rle={"counts": "0", "size": [50, 100]}), "run lengths do not fill the mask's size"),
        (annotation("mask", rle={"counts": [1, 2], "size": [50, 100]}), "run lengths do not fill the mask's size"),
        (annotation("mask", rle={"counts": [4], "size": [2**40, 2**40]}), "a mask of 2^32 pixels or more"),
        (annotation("label", label_id=None), "a label without a class"),
        (annotation(["bbox"]), "without a type"),  # type: ignore[arg-type]
    ],
)
def test_bad_annotations_are_dropped(tmp_path: Path, bad: dict[str, Any], reason: str) -> None:
    rows, losses = only(tmp_path, bad, box())
    assert len(rows) == 1
    assert [(loss.outcome, loss.reason, loss.count) for loss in losses.losses] == [("dropped", reason, 1)]


def test_a_label_that_there_is_not_is_kept_as_an_attribute(tmp_path: Path) -> None:
    rows, losses = only(tmp_path, box(label_id=9))
    assert (rows[0]["label"], json.loads(rows[0]["attributes"])) == (None, {"label_id": 9})
    assert reasons(losses) == {"label_id is not among the labels; kept without a class"}


@pytest.mark.parametrize(
    "text", ["", "{", '{"categories": {}, "items": 3}', '{"categories": {"label": {}}, "items": [{']
)
def test_a_file_that_is_no_datumaro_file(tmp_path: Path, text: str) -> None:
    dataset(tmp_path, item(box()))
    (tmp_path / "annotations/bad.json").write_text('{"dm_format_version": "1.0", ' + text[1:])
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert [loss.what for loss in losses.losses] == ["files"]
    with pytest.raises(FormatError):
        read(FORMAT, tmp_path / "annotations/bad.json")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["path", "size", "x"]), inner),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good file with some values anywhere replaced."""
    good = [
        box(), box(attributes={"rotation": 3}), annotation("polygon", points=SQUARES[0], group=1),
        annotation("points", points=[1, 2, 3, 4], visibility=[1, 2]), annotation("ellipse", points=[1, 2, 3, 4]),
        annotation("mask", rle={"counts": [5000], "size": [50, 100]}), annotation("cuboid_2d", points=[[1, 2]] * 8),
        annotation("caption", caption="x"),
    ]  # fmt: skip
    top: dict[str, Any] = {"infos": {}, "items": [item(*good)]}
    top["categories"] = {
        **LABELS,
        "mask": {"colormap": [{"label_id": 0, "r": 1, "g": 2, "b": 3}]},
        "points": {"items": [{"label_id": 0, "labels": ["a"], "joints": [[1, 1]]}]},
    }
    tree = json.loads(json.dumps(top))
    for _ in range(draw(st.integers(1, 4))):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and draw(st.integers(0, 4)):
                node = node[key]
                continue
            node[key] = draw(VALUES)
            break
    return tree


@settings(deadline=None, max_examples=150)
@given(mutated())
def test_whatever_the_values_are(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    root = tmp_path_factory.mktemp("mutated")
    (root / "annotations").mkdir()
    (root / "annotations/x.json").write_text(json.dumps(tree))
    try:
        _, table, _ = read(FORMAT, root / "annotations/x.json")
    except CurateError:
        return
    assert table.schema == ANNOTATIONS


# ----------------------------------------------------------------------------------------------------------- round trips


@st.composite
def any_annotations(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    """An annotation of any type, with whatever geometry goes with it."""
    point = st.tuples(st.floats(0, size[0]), st.floats(0, size[1]))
    kind: str = draw(st.sampled_from(["label", "box", "rotated_box", "polygon", "mask", "keypoints", "polyline"]))
    shape: dict[str, Any] = {}
    if kind == "rotated_box":
        shape["rotated_box"] = [*draw(boxes(size)), draw(st.floats(-180, 180).filter(lambda angle: abs(angle) > 1e-9))]
    if kind == "polyline" or kind == "polygon" or (kind in {"mask", "keypoints"} and draw(st.booleans())):
        parts = draw(st.integers(1, 1 if kind == "polyline" else 3))
        ends = [draw(st.lists(point, min_size=3, max_size=5)) for _ in range(parts)]
        shape["polygons"] = [[float(side) for end in part for side in end] for part in ends]
    if kind == "mask" or (kind == "keypoints" and draw(st.booleans())):
        pixels = draw(st.lists(st.integers(0, size[0] * size[1] - 1), min_size=1, max_size=20))
        mask = np.zeros((size[1], size[0]), dtype=np.uint8)
        mask.ravel()[pixels] = 1
        shape["rle"], shape["rle_size"] = encode_rle(mask), [size[1], size[0]]
    if kind == "keypoints":
        triples = draw(st.lists(st.tuples(point, st.integers(0, 2)), min_size=1, max_size=4))
        triples[0] = (triples[0][0], 2)
        shape["keypoints"] = [float(value) for (x, y), seen in triples for value in (x, y, seen)]
    row: dict[str, Any] = {"type": kind, "label": CLASSES[0], **shape}
    if kind == "box" or (len(shape) > 0 and draw(st.booleans())):
        row["bbox"] = draw(boxes(size))
    elif shape:
        rle = (row["rle"], row["rle_size"]) if "rle" in row else None
        plain = {key: row[key] for key in ("rotated_box", "polygons", "keypoints") if key in row}
        row["bbox"] = shape_columns([Shape(**plain, rle=rle, is_open=kind == "polyline")])["bbox"][0].as_py()
    if kind != "label":
        row["label"] = draw(st.sampled_from([None, *CLASSES]))
    said: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {},
        optional={
            "occluded": st.booleans(), "note": st.text(max_size=3), "z_order": st.integers(-2, 2),
            "group": st.integers(0, 2), "object_id": st.integers(0, 3), "tags": st.just(["a", {"b": None}]),
        },
    )  # fmt: skip
    attributes: dict[str, Any] = draw(said)
    row["attributes"] = json.dumps(attributes) if attributes else None
    row["iscrowd"] = draw(st.sampled_from([None, True, False]))
    row["source_id"] = draw(st.none() | st.integers(1, 10**12).map(str))
    return row


COLUMNS = ("type", "label", "polygons", "rle", "rle_size", "keypoints", "iscrowd", "source_id")


@settings(deadline=None, max_examples=60)
@given(cases(any_annotations))
def test_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        assert losses.losses == []
        records, table, back_losses = read(FORMAT, target)
        assert back_losses.losses == []
        back = by_location(records, table)
        splits = dict(zip(records.images["location"].to_pylist(), records.images["split"].to_pylist(), strict=True))
        for case in found:
            location = f"images/{case.split}/{case.location}"
            assert splits[location] == case.split
            for given_row, row in zip(case.annotations, back[location], strict=True):
                assert {key: row[key] for key in COLUMNS} == {key: given_row.get(key) for key in COLUMNS}
                assert json.loads(row["attributes"] or "{}") == json.loads(given_row["attributes"] or "{}")
                for key in ("bbox", "rotated_box"):
                    assert (row[key] is None) == (given_row.get(key) is None)
                    assert row[key] is None or row[key] == pytest.approx(given_row[key], abs=1e-5)


def test_everything_of_a_file_comes_back(tmp_path: Path) -> None:
    corners = [[10, 10], [12, 8], [22, 8], [20, 10], [12, 18], [22, 18], [20, 20], [10, 20]]
    annotations = [
        annotation("ellipse", points=[10, 10, 50, 30], id=4, z_order=2),
        annotation("cuboid_2d", points=corners, id=5),
        {"id": 0, "type": "caption", "attributes": {}, "group": 0, "caption": "a cat"},
    ]
    categories = {
        "label": {
            "labels": [{"name": "cat", "parent": "animal", "attributes": ["age"]}, *LABELS["label"]["labels"][1:]],
            "label_groups": [{"name": "g", "group_type": "exclusive", "labels": ["cat"]}],
            "attributes": ["occluded"],
        },
        "mask": {"colormap": [{"label_id": 1, "r": 255, "g": 0, "b": 16}]},
        "points": {"items": [{"label_id": 0, "labels": ["nose", "tail"], "joints": [[1, 2]]}]},
    }
    source = dataset(
        tmp_path / "in", item(*annotations, attr={"camera": 3}, id="7"), categories=categories, infos={"author": "x"}
    )
    records, table, _ = read(FORMAT, source)
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(Export(records.images, table, records.classes, records.info), target, WriteOptions("copy"), losses)
    content = json.loads((target / "annotations/train.json").read_text())
    assert content["categories"] == categories
    assert content["infos"] == {"author": "x"}
    (back,) = content["items"]
    assert (back["id"], back["attr"], back["image"]) == ("7", {"camera": 3}, {"path": "a.png", "size": [50, 100]})
    assert [entry["type"] for entry in back["annotations"]] == ["ellipse", "cuboid_2d", "caption"]
    assert [entry.get("points") for entry in back["annotations"][:2]] == [[10, 10, 50, 30], corners]
    assert (back["annotations"][0]["id"], back["annotations"][0]["z_order"]) == (4, 2)
    assert losses.losses == []


def test_what_datumaro_cannot_say_is_reported(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"type": "box", "label": CLASSES[0], "bbox": [0.0, 0.0, 9.0, 9.0], "source_id": "x1", "probabilities": [0.5]},
        {"type": "box", "label": CLASSES[0], "bbox": [0.0, 0.0, 9.0, 9.0], "attributes": '{"rotation": 4}'},
        {"type": "label", "label": None},
    ]
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(make_export(tmp_path, [Case("a.png", (9, 9), None, rows)]), target, WriteOptions(), losses)
    assert {loss.what: loss.count for loss in losses.losses} == {
        "annotation ids": 1, "class probabilities": 1, "attributes": 1, "annotations": 1,
    }  # fmt: skip
    assert Counter(path.name for path in target.rglob("*") if path.is_file()) == {"default.json": 1}
    assert annotations_table(0, {}).schema == ANNOTATIONS


def test_a_cuboid_with_nan_is_dropped(tmp_path: Path) -> None:
    corners = [[1, 1], [float("nan"), 5], *[[x, x] for x in range(2, 8)]]
    rows, losses = only(tmp_path, annotation("cuboid_2d", points=corners))
    assert rows == []
    assert [(loss.outcome, loss.what, loss.count) for loss in losses.losses] == [("dropped", "annotations", 1)]


def test_what_is_written_and_what_is_dropped_add_up(tmp_path: Path) -> None:
    nothing = {"type": "label", "label": None}
    shape = {"type": "box", "label": CLASSES[0], "bbox": [1.0, 2.0, 3.0, 4.0], "area": 7.0}
    with written(FORMAT, [Case("a.png", (9, 9), None, [shape, nothing, shape])], WriteOptions()) as (_, losses):
        assert losses.carried_counts == {"images": 1, "annotations": 2}
        assert {loss.what: loss.count for loss in losses.losses} == {"annotations": 1, "areas": 2}


def test_objects_come_in_the_order_of_their_first_parts(tmp_path: Path) -> None:
    rows, _ = only(tmp_path, annotation("label", group=1), box(), annotation("label", group=1))
    assert [row["type"] for row in rows] == ["label", "box", "label"]
