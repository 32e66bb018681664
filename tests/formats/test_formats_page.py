"""`docs/formats.md` holds two tables that are made here: what a round trip keeps, and what real exports hold.

A value that does not come back as it was must be in a loss report, or the test fails. `CURATE_WRITE_DOCS=1` writes the
tables into the page; without it the page must hold them already.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import Case, read, written

from curate.formats.base import Format, ReadOptions, WriteOptions
from curate.formats.detect import detect_format
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS
from curate.geometry import boxes_around, decode_rle, encode_rle, rotated_box_corners

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
SIZE = (40, 30)
HOLE = np.zeros((30, 40), dtype=np.uint8)
HOLE[5:20, 10:30] = 1
HOLE[8:12, 15:20] = 0
SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 20.0, 10.0, 20.0]
OTHER = [2.0, 22.0, 8.0, 22.0, 8.0, 28.0]
BOX = [10.0, 5.0, 20.0, 15.0]
TURNED = [20.0, 12.5, 18.0, 12.0, 30.0]
AROUND = boxes_around(rotated_box_corners([TURNED])[0], [0])[0].tolist()

KINDS: dict[str, dict[str, Any]] = {
    "label": {"type": "label"},
    "box": {"type": "box", "bbox": BOX},
    "rotated box": {
        "type": "rotated_box",
        "bbox": AROUND,
        "rotated_box": TURNED,
    },
    "polygon": {"type": "polygon", "bbox": BOX, "polygons": [SQUARE]},
    "polygon, two parts": {"type": "polygon", "bbox": [2.0, 5.0, 28.0, 23.0], "polygons": [SQUARE, OTHER]},
    "mask with a hole": {"type": "mask", "bbox": BOX, "rle": encode_rle(HOLE), "rle_size": [30, 40]},
    "keypoints": {"type": "keypoints", "bbox": BOX, "keypoints": [12.0, 7.0, 2.0, 28.0, 18.0, 1.0, 0.0, 0.0, 0.0]},
    "polyline": {"type": "polyline", "bbox": BOX, "polygons": [[10.0, 5.0, 30.0, 5.0, 30.0, 20.0]]},
    "attributes": {"type": "box", "bbox": BOX, "attributes": '{"occluded": true, "colour": "red", "row": 3}'},
}

REAL = [
    *(f"same_images_ten_formats/{name}" for name in (
        "cvat1.1", "coco1.0", "yolo", "yolo1.1", "voc1.1", "labelImg", "labelme", "labelme3.0", "via", "CreateML",
    )),
    *(f"datumaro/{name}" for name in (
        "cityscapes_dataset/dataset", "cityscapes_dataset/train_dataset", "coco_dataset/coco", "coco_dataset/coco_captions",
        "coco_dataset/coco_image_info", "coco_dataset/coco_instances", "coco_dataset/coco_labels",
        "coco_dataset/coco_panoptic", "coco_dataset/coco_person_keypoints", "coco_dataset/coco_roboflow",
        "coco_dataset/coco_stuff", "coco_dataset/mmdet_coco", "common_semantic_segmentation_dataset/dataset",
        "common_semantic_segmentation_dataset/non_standard_dataset", "camvid_dataset", "cvat_dataset/for_images/export_project",
        "cvat_dataset/for_images/export_task", "cvat_dataset/for_video", "datumaro_dataset", "datumaro_dataset/legacy",
        "dota_dataset", "imagenet_dataset", "imagenet_subsets_dataset", "kitti_dataset/kitti_detection",
        "kitti_dataset/kitti_segmentation", "labelme_dataset", "mvtec_dataset", "open_images_dataset/v5",
        "open_images_dataset/v6", "roboflow_dataset/coco", "roboflow_dataset/createml", "roboflow_dataset/multiclass",
        "roboflow_dataset/voc", "roboflow_dataset/yolo", "roboflow_dataset/yolo_obb", "video_dataset",
        "voc_dataset/voc_dataset1", "voc_dataset/voc_dataset2", "voc_dataset/voc_dataset3", "yolo_dataset/annotations",
        "yolo_dataset/labels", "yolo_dataset/strict",
    )),
    *(f"label_studio/{name}" for name in (
        "test_export_yolo/data.json", "test_export_yolo/data_keypoints.json", "test_export_yolo/data_obb.json",
        "test_export_yolo/data_polygons.json", "test_export_csv/csv_test.json",
        "test_import_coco", "test_import_yolo_data", "test_import_yolo_data_unif_dims",
    )),
]  # fmt: skip
"""Exports made by other tools."""

TEN = {"cvat1.1": (2, 1, 5, 17), "coco1.0": (2, 0, 4, 17)}
"""Objects on birds, crack, shapes and strawberry, as counted in the files of one and the same set."""


@pytest.mark.parametrize("name", sorted(TEN))
def test_ten_formats_have_the_objects_that_their_files_hold(name: str, shared_data: Path) -> None:
    source = shared_data / "formats" / "same_images_ten_formats" / name
    records, annotations, _ = read(detect_format(source)[0], source)
    stems = {row["image_id"]: Path(row["location"]).stem for row in records.images.to_pylist()}
    counts = Counter(stems[image] for image in annotations["image_id"].to_pylist())
    assert tuple(counts[stem] for stem in ("birds", "crack", "shapes", "strawberry")) == TEN[name]


def test_round_trips_are_as_the_page_says(tmp_path: Path) -> None:
    writers = [known for _, known in FORMATS if known.is_written]
    outcomes = {known.name: _round_trips(known, tmp_path / known.name) for known in writers}
    rows = [[kind, *(outcomes[known.name][kind] for known in writers)] for kind in outcomes[writers[0].name]]
    _compare("round trips", _table(["", *(f"`{known.name}`" for known in writers)], rows))


@pytest.mark.parametrize("name", [name for name, known in FORMATS if known.is_written])
def test_mixed_kinds_are_written_or_reported_one_by_one(name: str, tmp_path: Path) -> None:
    known = FORMATS.get(name)
    annotations = [{"label": "bolt", **annotation} for annotation in KINDS.values()]
    found = [Case("set/part.png", SIZE, "train", annotations), Case("set/empty.png", SIZE, "train", [])]
    with written(known, found, WriteOptions(images="copy")) as (target, losses):
        records, back, _ = read(known, target, ReadOptions(files=tmp_path))
    dropped = sum(loss.count for loss in losses.losses if (loss.outcome, loss.what) == ("dropped", "annotations"))
    assert losses.carried_counts["annotations"] + dropped == len(annotations)
    # A mask holds one annotation for each class, which is reported as a conversion.
    kept = 1 if name == "masks" else losses.carried_counts["annotations"]
    assert back.num_rows == kept
    assert records.images.num_rows == 2
    images = dict(zip(records.images["image_id"].to_pylist(), records.images["location"].to_pylist(), strict=True))
    assert not any("empty" in images[row["image_id"]] for row in back.to_pylist())


def test_real_exports_are_as_the_page_says(shared_data: Path, tmp_path: Path) -> None:
    rows = []
    for number, name in enumerate(REAL):
        source = shared_data / "formats" / name
        reader, _ = detect_format(source)
        losses = LossReport()
        records = reader.read(source, ReadOptions(files=tmp_path / str(number)), losses)
        kinds = Counter(kind for table in records.annotations for kind in table["type"].to_pylist())
        found = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in sorted(kinds.items()))
        rows.append([name, f"`{reader.name}`", f"{records.images.num_rows:,}", found or "-", _told(losses)])
    _compare("real exports", _table(["export", "read as", "images", "annotations", "reported"], rows))


def _round_trips(format: Format, folder: Path) -> dict[str, str]:
    found = {kind: _round_trip(format, annotation, folder / kind) for kind, annotation in KINDS.items()}
    return found | {"image without labels": _background(format, folder / "background")}


def _round_trip(format: Format, annotation: dict[str, Any], folder: Path) -> str:
    """What became of one annotation: 'yes', 'as box', 'no'."""
    case = Case("part.png", SIZE, "train", [{"label": "bolt", **annotation}])
    with written(format, [case], WriteOptions(images="copy")) as (target, losses):
        _, back, more = read(format, target, ReadOptions(files=folder))
    rows = back.to_pylist()
    if any(_same(row, case.annotations[0]) for row in rows):
        return "yes"
    told = (_reported(losses) | _reported(more)) - _always_told(format, folder)
    assert told, f"{format.name} lost a {annotation['type']} in silence: {rows}"
    kinds = sorted({row["type"].replace("_", " ") for row in rows})
    if not kinds:
        return "no"
    same_type = kinds == [annotation["type"].replace("_", " ")]
    return "in part" if same_type else f"as {', '.join(kinds)}"


def _reported(losses: LossReport) -> set[tuple[str, str]]:
    return {(loss.what, loss.reason) for loss in losses.losses}


def _always_told(format: Format, folder: Path) -> set[tuple[str, str]]:
    """What is reported of a set without any annotation: of ids, classes, names."""
    with written(format, [Case("part.png", SIZE, "train", [])], WriteOptions(images="copy")) as (target, losses):
        _, _, more = read(format, target, ReadOptions(files=folder / "plain"))
    return _reported(losses) | _reported(more)


def _background(format: Format, folder: Path) -> str:
    labelled = Case("part.png", SIZE, "train", [{"label": "bolt", "type": "box", "bbox": BOX}])
    with written(format, [labelled, Case("empty.png", SIZE, "train", [])], WriteOptions(images="copy")) as (target, _):
        records, _, _ = read(format, target, ReadOptions(files=folder))
    return "yes" if records.images.num_rows == 2 else "no"


def _same(row: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether an annotation came back: the same kind and class, coordinates within a hundredth of a pixel."""
    if row["type"] != given["type"] or row["label"] != given["label"]:
        return False
    if given["type"] == "mask":
        return np.array_equal(decode_rle(row["rle"], row["rle_size"]), HOLE)
    if given.get("attributes") and not _holds(row["attributes"], given["attributes"]):
        return False
    for name in ("bbox", "rotated_box", "keypoints"):
        if given.get(name) is not None and not _close(row[name], given[name]):
            return False
    parts = given.get("polygons")
    if parts is None:
        return True
    back = row["polygons"] or []
    return len(back) == len(parts) and all(_close(*pair) for pair in zip(back, parts, strict=True))


def _holds(text: str | None, given: str) -> bool:
    """Whether attributes came back; a number or a truth value may have become text."""
    back = json.loads(text or "{}")
    return all(str(back.get(name)).lower() == str(value).lower() for name, value in json.loads(given).items())


def _close(back: Sequence[float] | None, given: Sequence[float]) -> bool:
    return back is not None and len(back) == len(given) and bool(np.allclose(back, given, atol=0.01))


def _told(losses: LossReport) -> str:
    said = [f"{loss.count:,} {loss.what} {loss.outcome}: {loss.reason}" for loss in losses.losses]
    return "; ".join(said).replace("|", "/") or "-"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def _compare(name: str, table: str) -> None:
    """Hold the page to a table, or write it there."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    wanted = f"{before}{begin}{table}{end}{after}"
    if os.environ.get("CURATE_WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted, "the page is behind: run with CURATE_WRITE_DOCS=1"
