"""Every reader on damaged exports: a `CurateError` or a loss report, never another error, a hang, or a file outside.

The exports are real ones where there are any, else what curate writes itself. The damage is random with fixed seeds; the
failing seed and what was damaged are in the failure's message. `CURATE_FUZZ=N` runs N times as many.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from format_cases import Case, make_export
from mutations import damage_folder

from curate.errors import CurateError
from curate.formats.base import Format, ReadOptions, WriteOptions
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS
from curate.geometry import encode_rle

SECONDS = 20
ROUNDS = 12 * int(os.environ.get("CURATE_FUZZ", "1"))

REAL = {
    "coco": [
        "formats/datumaro/coco_dataset/coco",
        "formats/datumaro/coco_dataset/coco_panoptic",
        "formats/datumaro/coco_dataset/coco_person_keypoints",
        "formats/datumaro/coco_dataset/coco_captions",
        "formats/same_images_ten_formats/coco1.0",
    ],
    "yolo": [
        "formats/datumaro/yolo_dataset/strict",
        "formats/datumaro/yolo_dataset/labels",
        "formats/same_images_ten_formats/yolo",
        "formats/datumaro/roboflow_dataset/yolo_obb",
    ],
    "voc": [
        "formats/datumaro/voc_dataset/voc_dataset1",
        "formats/same_images_ten_formats/voc1.1",
        "formats/same_images_ten_formats/labelImg",
    ],
    "csv": ["detection/raccoon/data", "formats/datumaro/roboflow_dataset/multiclass"],
    "imagefolder": ["formats/datumaro/imagenet_subsets_dataset"],
    "cvat": [
        "formats/datumaro/cvat_dataset/for_images",
        "formats/datumaro/cvat_dataset/for_video",
        "formats/same_images_ten_formats/cvat1.1",
    ],
    "video": ["formats/datumaro/video_dataset"],
    "label_studio": [
        "formats/label_studio/test_export_yolo",
        "formats/label_studio/test_export_csv",
    ],
    "datumaro": ["formats/datumaro/datumaro_dataset", "formats/datumaro/datumaro_dataset/legacy"],
    "huggingface": [],
    "labelme": ["formats/same_images_ten_formats/labelme", "formats/same_images_ten_formats/grapes"],
    "labelme_xml": ["formats/same_images_ten_formats/labelme3.0", "formats/datumaro/labelme_dataset"],
    "via": ["formats/same_images_ten_formats/via"],
    "createml": ["formats/same_images_ten_formats/CreateML", "formats/datumaro/roboflow_dataset/createml"],
    "open_images": ["formats/datumaro/open_images_dataset/v5", "formats/datumaro/open_images_dataset/v6"],
    "kitti": [
        "formats/datumaro/kitti_dataset/kitti_detection",
        "formats/datumaro/kitti_dataset/kitti_segmentation",
    ],
    "bdd100k": [],
    "dota": ["formats/datumaro/dota_dataset"],
    "masks": [
        "formats/datumaro/common_semantic_segmentation_dataset/dataset",
        "formats/datumaro/camvid_dataset",
    ],
    "cityscapes": [
        "formats/datumaro/cityscapes_dataset/dataset",
        "formats/datumaro/cityscapes_dataset/train_dataset",
    ],
    "mvtec": ["formats/datumaro/mvtec_dataset"],
}
"""Real exports of each format, in the test data."""

OWN = [
    Case(
        "a.png",
        (30, 20),
        "train",
        [
            {"type": "box", "label": "bolt", "bbox": [1.0, 2.0, 10.0, 8.0], "attributes": '{"occluded": true}'},
            {"type": "polygon", "label": "no", "bbox": [1.0, 1.0, 9.0, 9.0], "polygons": [[1.0, 1, 10, 1, 10, 10]]},
            {
                "type": "mask",
                "label": "no",
                "bbox": [0.0, 0, 30, 20],
                "rle": encode_rle(np.eye(20, 30)),
                "rle_size": [20, 30],
            },
        ],
    ),
    Case("b.png", (20, 30), "val", [{"type": "label", "label": "no"}]),
]
"""What a format that is written is damaged in, too."""


MADE = {
    "bdd100k": {
        "labels/det_train.json": [
            {
                "name": "a.jpg",
                "videoName": "v",
                "timestamp": 10000,
                "attributes": {"weather": "clear"},
                "labels": [
                    {"id": "1", "category": "car", "box2d": {"x1": 1, "y1": 2, "x2": 9, "y2": 8}, "score": 0.5},
                    {"id": "2", "category": "lane", "poly2d": [{"vertices": [[0, 0], [4, 4], [9, 2]], "types": "LCC"}]},
                    {"id": "3", "category": "car", "rle": {"counts": "04", "size": [2, 2]}},
                ],
            }
        ]
    }
}
"""What stands in for a real export where the test data has none: files by name, as documented."""

COVERAGE_GUIDED = {
    "coco": "formats/datumaro/coco_dataset/coco_person_keypoints/annotations/person_keypoints_train.json",
    "cvat": "formats/datumaro/cvat_dataset/for_video/annotations.xml",
    "label_studio": "formats/label_studio/test_export_yolo/data_obb.json",
}
"""Readers with a parser of their own, and what they are seeded with."""


def test_every_format_is_tried() -> None:
    assert {name for name, _ in FORMATS} == set(REAL)


@pytest.mark.parametrize("name", sorted(REAL))
def test_damaged_exports_give_one_kind_of_error(name: str, shared_data: Path, tmp_path: Path) -> None:
    sources = [shared_data / folder for folder in REAL[name]]
    reader = FORMATS.get(name)
    if reader.is_written:
        sources.append(_write(reader, tmp_path / "written"))
    if name in MADE:
        sources.append(_make(MADE[name], tmp_path / "made"))
    assert sources
    for source in sources:
        for seed in range(ROUNDS):
            place = tmp_path / "outer" / "inner"
            shutil.copytree(source, place / "export")
            what = damage_folder(place / "export", random.Random(f"{name} {source.name} {seed}"))
            _try_reading(reader, place / "export", f"{name}, {source.name}, seed {seed}: {what}")
            assert {path.name for path in (tmp_path / "outer").iterdir()} == {"inner"}
            assert {path.name for path in place.iterdir()} <= {"export", "files"}, what
            shutil.rmtree(place)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COVERAGE_GUIDED))
def test_coverage_guided(name: str, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: it is not made for every system")
    target = Path(__file__).with_name("fuzz_target.py")
    seconds = 8 * int(os.environ.get("CURATE_FUZZ", "1"))
    options = [f"-max_total_time={seconds}", f"-timeout={SECONDS}", "-rss_limit_mb=3000", "-seed=1"]
    command = [sys.executable, str(target), name, str(shared_data / COVERAGE_GUIDED[name]), *options]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert run.returncode == 0, f"{run.stdout[-2000:]}\n{run.stderr[-3000:]}"
    assert "Done " in run.stderr


def _make(files: Mapping[str, object], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def _try_reading(reader: Format, source: Path, what: str) -> None:
    before = sorted(source.rglob("*"))
    try:
        with _at_most(SECONDS):
            reader.detect(source)
            records = reader.read(source, ReadOptions(files=source.with_name("files")), LossReport())
            rows = sum(table.num_rows for table in records.annotations)
            assert rows >= 0
            assert len(set(records.images["image_id"].to_pylist())) == records.images.num_rows
    except CurateError:
        pass
    except BaseException as error:
        error.add_note(what)
        raise
    assert sorted(source.rglob("*")) == before, what


def _write(writer: Format, folder: Path) -> Path:
    target = folder / "export"
    target.mkdir(parents=True)
    writer.write(make_export(folder / "images", OWN), target, WriteOptions(images="copy"), LossReport())
    return target


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still reading after {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
