"""Cityscapes: real sets, polygons, the images of ids and colors, and which of them is read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import by_location, read, reasons, write_image
from PIL import Image

from curate.errors import FormatError, UsageError
from curate.formats.base import ReadOptions, WriteOptions
from curate.formats.cityscapes import FORMAT
from curate.formats.cityscapes.labels import LABELS
from curate.formats.detect import detect_format
from curate.formats.losses import LossReport
from curate.geometry import decode_rle

NAME = "aachen_000007_000019"
SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]


def scene(root: Path, *, split: str = "train", size: tuple[int, int] = (6, 4), name: str = NAME) -> Path:
    write_image(root / f"leftImg8bit/{split}/aachen/{name}_leftImg8bit.png", size)
    return root


def polygons(root: Path, objects: Any, *, quality: str = "gtFine", split: str = "train") -> Path:
    path = root / f"{quality}/{split}/aachen/{NAME}_{quality}_polygons.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imgHeight": 4, "imgWidth": 6, "objects": objects}))
    return root


def ids(root: Path, kind: str, values: Any) -> Path:
    path = root / f"gtFine/train/aachen/{NAME}_gtFine_{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype=np.uint16 if np.max(values) > 255 else np.uint8)).save(path)
    return root


def grid(*row: int) -> list[list[int]]:
    """Four rows of six pixels."""
    return [list(row)] * 4


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("folder", "annotations", "crowds", "single"), [("dataset", 9, 3, 0), ("train_dataset", 10, 0, 4)]
)
def test_real_sets(shared_data: Path, folder: str, annotations: int, crowds: int, single: int) -> None:
    source = shared_data / "formats/datumaro/cityscapes_dataset" / folder
    assert detect_format(source)[0].name == "cityscapes"
    records, table, losses = read(FORMAT, source)
    masks = sorted(source.rglob("*_instanceIds.png"))
    values = [np.unique(np.asarray(Image.open(path))) for path in masks]
    assert (records.images.num_rows, table.num_rows) == (len(masks), sum(map(len, values)))
    assert Counter(records.images["split"].to_pylist()) == {"test": 2, "train": 1, "val": 1}
    assert table.num_rows == annotations
    assert Counter(table["iscrowd"].to_pylist())[True] == crowds
    assert Counter(table["iscrowd"].to_pylist())[False] == single
    assert losses.losses == []


def test_instances_of_a_real_set(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/datumaro/cityscapes_dataset/train_dataset")
    rows = by_location(records, table)["leftImg8bit/test/defaultcity/defaultcity_000001_000031_leftImg8bit.png"]
    assert [(row["label"], row["source_id"], row["area"], row["iscrowd"]) for row in rows] == [
        ("out of roi", "3", 2, None),
        ("truck", "27001", 1, False),
        ("truck", "27002", 2, False),
    ]
    first = records.images.select(["group", "frame", "metadata"]).to_pylist()[0]
    assert first == {"group": "defaultcity_000001", "frame": 31, "metadata": '{"cityscapes": {"city": "defaultcity"}}'}


def test_the_classes_are_those_of_the_label_definition() -> None:
    assert len(LABELS) == len({label.name for label in LABELS}) == 35
    assert sorted(label.id for label in LABELS) == list(range(-1, 34))
    assert sorted(label.train_id for label in LABELS if label.train_id not in {-1, 255}) == list(range(19))
    assert sum(label.has_instances for label in LABELS) == 10


# -------------------------------------------------------------------------------------------------------------- polygons


def test_polygons_in_their_order_with_groups(tmp_path: Path) -> None:
    objects = [
        {"label": "road", "polygon": SQUARE, "id": 4, "verified": 1},
        {"label": "cargroup", "polygon": [[1.5, 1], [4, 1], [4, 3]]},
        {"label": "polegroup", "polygon": SQUARE},
        {"label": "spaceship", "polygon": SQUARE},
    ]
    records, table, losses = read(FORMAT, polygons(scene(tmp_path), objects))
    rows = table.to_pylist()
    assert [(row["label"], row["iscrowd"]) for row in rows] == [
        ("road", None), ("car", True), ("polegroup", None), ("spaceship", None),
    ]  # fmt: skip
    assert rows[0]["polygons"] == [[1, 1, 4, 1, 4, 3, 1, 3]]
    assert rows[0]["bbox"] == [1, 1, 3, 2]
    assert json.loads(rows[0]["attributes"]) == {"order": 1, "id": 4, "verified": 1}
    assert json.loads(rows[3]["attributes"]) == {"order": 4}
    assert [info.name for info in records.classes[-2:]] == ["license plate", "spaceship"]
    road = records.classes[7]
    assert (road.name, road.source_id, road.supercategory, road.color) == ("road", 7, "flat", "#804080")
    assert losses.losses == []


def test_bad_objects_are_dropped_with_their_place(tmp_path: Path) -> None:
    objects: list[Any] = [
        {"label": "road", "polygon": SQUARE, "deleted": 1},
        {"label": "road", "polygon": [[1, 1], [2, 2]]},
        {"label": "road", "polygon": [[1, 1], "x", [2, 2]]},
        {"label": 7, "polygon": SQUARE},
        "road",
        {"label": "sky", "polygon": SQUARE},
    ]
    _, table, losses = read(FORMAT, polygons(scene(tmp_path), objects))
    assert table["label"].to_pylist() == ["sky"]
    assert {(loss.reason, loss.count) for loss in losses.losses} == {
        ("deleted in the source", 1),
        ("an outline of too few points", 1),
        ("without a label or a polygon of pairs of numbers", 3),
    }


def test_fine_before_coarse_and_polygons_before_ids(tmp_path: Path) -> None:
    scene(tmp_path)
    polygons(tmp_path, [{"label": "sky", "polygon": SQUARE}], quality="gtCoarse")
    ids(tmp_path, "labelIds", grid(7, 7, 0, 0, 0, 0))
    _, table, losses = read(FORMAT, tmp_path)
    assert table["label"].to_pylist() == ["road"]
    assert reasons(losses) == {"coarse labels of an image that has fine ones"}
    polygons(tmp_path, [{"label": "car", "polygon": SQUARE}])
    assert read(FORMAT, tmp_path)[1]["label"].to_pylist() == ["car"]


def test_a_broken_file_gives_way_to_the_next(tmp_path: Path) -> None:
    polygons(scene(tmp_path), [])
    (tmp_path / f"gtFine/train/aachen/{NAME}_gtFine_polygons.json").write_text('{"objects": [')
    ids(tmp_path, "labelIds", grid(7, 7, 0, 0, 0, 0))
    _, table, losses = read(FORMAT, tmp_path)
    assert table["label"].to_pylist() == ["road"]
    assert reasons(losses) == {"cannot be read; another of the image is, if any"}


# ------------------------------------------------------------------------------------------------------- images of ids


def test_instance_ids(tmp_path: Path) -> None:
    ids(scene(tmp_path), "instanceIds", grid(0, 7, 26, 26001, 26001, 26002))
    _, table, losses = read(FORMAT, tmp_path)
    assert [(row["label"], row["area"], row["iscrowd"]) for row in table.to_pylist()] == [
        ("road", 4, None), ("car", 4, True), ("car", 8, False), ("car", 4, False),
    ]  # fmt: skip
    assert decode_rle(table["rle"][2].as_py(), [4, 6]).tolist() == grid(0, 0, 0, 1, 1, 0)
    assert losses.losses == []


@pytest.mark.parametrize(
    ("kind", "values", "expected", "lost"),
    [
        ("labelIds", grid(0, 7, 7, 11, 99, 99), {"road": 8, "building": 4, "class_99": 8}, {"classes"}),
        ("labelTrainIds", grid(0, 0, 13, 255, 255, 19), {"road": 8, "car": 4}, {"mask pixels"}),
    ],
)
def test_semantic_ids(
    tmp_path: Path, kind: str, values: list[list[int]], expected: dict[str, int], lost: set[str]
) -> None:
    _, table, losses = read(FORMAT, ids(scene(tmp_path), kind, values))
    assert {row["label"]: row["area"] for row in table.to_pylist()} == expected
    assert {loss.what for loss in losses.losses} == lost
    assert sum(loss.count for loss in losses.losses if loss.what == "mask pixels") in {0, 12}


def test_colors_where_there_is_nothing_else(tmp_path: Path) -> None:
    colors = [[[0, 0, 0], [128, 64, 128], [0, 0, 142], [0, 0, 142], [128, 64, 128], [0, 0, 0]]] * 4
    _, table, _ = read(FORMAT, ids(scene(tmp_path), "color", colors))
    assert {row["label"]: row["area"] for row in table.to_pylist()} == {"road": 8, "car": 8}


def test_masks_of_another_size_are_dropped(tmp_path: Path) -> None:
    records, table, losses = read(FORMAT, ids(scene(tmp_path, size=(5, 4)), "labelIds", grid(7, 7, 7, 7, 7, 7)))
    assert (records.images.num_rows, table.num_rows) == (1, 0)
    assert "of another size than the image" in losses.losses[0].places[0]


def test_a_class_list_replaces_the_classes(tmp_path: Path) -> None:
    ids(scene(tmp_path), "labelIds", grid(0, 1, 1, 2, 2, 2))
    (tmp_path / "label_colors.txt").write_text("0 0 0 background\n1 1 1 lane\n2 2 2 kerb\n")
    records, table, losses = read(FORMAT, tmp_path)
    assert {row["label"]: row["area"] for row in table.to_pylist()} == {"lane": 8, "kerb": 12}
    assert [(info.name, info.source_id) for info in records.classes] == [("lane", 1), ("kerb", 2)]
    assert losses.losses == []


# ---------------------------------------------------------------------------------------------------------------- files


def test_images_that_are_not_there_or_elsewhere(tmp_path: Path) -> None:
    polygons(tmp_path / "in", [{"label": "sky", "polygon": SQUARE}], split="train_extra")
    records, table, losses = read(FORMAT, tmp_path / "in")
    assert records.images.select(["location", "path", "width", "split"]).to_pylist() == [
        {
            "location": f"leftImg8bit/train_extra/aachen/{NAME}_leftImg8bit.png",
            "path": None,
            "width": 6,
            "split": "train_extra",
        }
    ]
    assert table.num_rows == 1
    assert reasons(losses) == {"not there; kept without a file"}
    flat = write_image(tmp_path / f"flat/{NAME}_leftImg8bit.png", (6, 4))
    records, table, losses = read(FORMAT, tmp_path / "in", ReadOptions(images=tmp_path / "flat"))
    assert records.images["path"].to_pylist() == [str(flat)]
    assert table.num_rows == 1
    assert losses.losses == []


def test_images_without_labels_are_kept(tmp_path: Path) -> None:
    polygons(scene(tmp_path), [])
    scene(tmp_path, split="test", name="bonn_000001_000019")
    records, _, losses = read(FORMAT, tmp_path)
    assert records.images["split"].to_pylist() == ["test", "train"]
    assert losses.losses == []


def test_it_is_read_only(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="gtFine"):
        read(FORMAT, scene(tmp_path))
    records, table, _ = read(FORMAT, polygons(tmp_path, []))
    assert table.num_rows == 0
    with pytest.raises(UsageError):
        FORMAT.write(None, tmp_path, WriteOptions(), LossReport())  # type: ignore[arg-type]
    assert records.images.num_rows == 1
