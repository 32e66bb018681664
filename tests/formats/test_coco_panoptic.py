"""COCO panoptic: segments painted into PNG files become masks; what does not fit together is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from format_cases import read
from PIL import Image

from curate.formats.coco import FORMAT
from curate.geometry import decode_rle

SIZE = (7, 9)
"""Height and width of every image."""

THING = 26 + 256 * 3 + 65536 * 200
STUFF = 7


def painted() -> npt.NDArray[np.int64]:
    """A ring of THING with STUFF in its hole, and nothing around."""
    ids = np.zeros(SIZE, dtype=np.int64)
    ids[1:6, 2:8] = THING
    ids[2:4, 4:6] = STUFF
    return ids


def save_png(path: Path, ids: npt.NDArray[np.int64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    Image.fromarray(colors.astype(np.uint8)).save(path)


def save(root: Path, annotations: list[dict[str, Any]]) -> Path:
    """annotations/panoptic_train.json with the images 1 and 2."""
    images = [{"id": number, "file_name": f"{number}.jpg", "width": SIZE[1], "height": SIZE[0]} for number in (1, 2)]
    categories = [{"id": 1, "name": "car", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    path = root / "annotations" / "panoptic_train.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return root


def segment(identity: object, category: int = 1, **more: object) -> dict[str, Any]:
    return {"id": identity, "category_id": category, "area": 26, "bbox": [2, 1, 6, 5], "iscrowd": 0} | more


def annotation(image: int, *segments: dict[str, Any], name: str = "1.png") -> dict[str, Any]:
    return {"image_id": image, "file_name": name, "segments_info": list(segments)}


def found_in(root: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Annotations, and how often each thing was reported but for the images' absence."""
    _, table, losses = read(FORMAT, root)
    return table.to_pylist(), {loss.reason: loss.count for loss in losses.losses if "not found" not in loss.reason}


def test_segments_become_masks_with_holes(tmp_path: Path) -> None:
    save_png(tmp_path / "annotations/panoptic_train/1.png", painted())
    save(tmp_path, [annotation(1, segment(THING, iscrowd=1, note="x"), segment(STUFF, 2, area=4, bbox=[4, 2, 2, 2]))])
    rows, reasons = found_in(tmp_path)
    assert reasons == {}
    assert [(row["type"], row["label"], row["source_id"], row["iscrowd"]) for row in rows] == [
        ("mask", "car", str(THING), True),
        ("mask", "sky", str(STUFF), False),
    ]
    assert [row["area"] for row in rows] == [26, 4]
    assert rows[0]["bbox"] == [2, 1, 6, 5]
    assert json.loads(rows[0]["attributes"]) == {"note": "x"}
    for row, value in zip(rows, (THING, STUFF), strict=True):
        assert (decode_rle(row["rle"], row["rle_size"]) == (painted() == value)).all()


def test_ids_of_segments_are_an_images_own(tmp_path: Path) -> None:
    save_png(tmp_path / "annotations/panoptic_train/1.png", painted())
    save_png(tmp_path / "annotations/panoptic_train/2.png", painted())
    save(
        tmp_path,
        [
            annotation(1, segment(THING), segment(STUFF, 2)),
            annotation(2, segment(THING), segment(STUFF, 2), name="2.png"),
        ],
    )
    rows, reasons = found_in(tmp_path)
    assert reasons == {}
    assert len({row["annotation_id"] for row in rows}) == 4
    assert [row["annotation_id"] for row in found_in(tmp_path)[0]] == [row["annotation_id"] for row in rows]


def test_what_does_not_fit_together_is_reported(tmp_path: Path) -> None:
    save_png(tmp_path / "annotations/panoptic_train/1.png", painted())
    listed = [segment(THING), segment(99), segment("x")]
    save(tmp_path, [annotation(1, *listed) | {"reviewer": "me"}, annotation(2, segment(5), name="../2.png")])
    rows, reasons = found_in(tmp_path)
    assert [row["type"] for row in rows] == ["mask", "box", "box", "box"]
    assert reasons == {
        "no pixel of the PNG is this segment's; kept without a mask": 2,
        "pixels of a panoptic PNG whose id no segment has": 1,
        "the panoptic PNG is not there; kept without masks": 1,
        "of a whole panoptic annotation, not of a segment": 1,
    }


@pytest.mark.parametrize("segments", [{}, "x", [1, None], 7])
def test_segments_that_are_none_are_dropped(tmp_path: Path, segments: object) -> None:
    save_png(tmp_path / "annotations/panoptic_train/1.png", np.zeros(SIZE, dtype=np.int64))
    save(tmp_path, [{"image_id": 1, "file_name": "1.png", "segments_info": segments}])
    rows, reasons = found_in(tmp_path)
    assert rows == []
    assert reasons == {"panoptic segments that are not a list of objects": 1}


def test_a_png_that_cannot_be_read_leaves_the_boxes(tmp_path: Path) -> None:
    (tmp_path / "annotations/panoptic_train").mkdir(parents=True)
    (tmp_path / "annotations/panoptic_train/1.png").write_bytes(b"no image")
    save(tmp_path, [annotation(1, segment(THING))])
    rows, reasons = found_in(tmp_path)
    assert [row["type"] for row in rows] == ["box"]
    assert reasons == {"the panoptic PNG cannot be read; kept without masks": 1}


def test_many_segments_come_in_several_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.formats.coco.annotations.BLOCK_BYTES", 100)
    save_png(tmp_path / "annotations/panoptic_train/1.png", painted())
    save(tmp_path, [annotation(1, segment(THING), segment(STUFF, 2)), annotation(2, segment(THING), segment(STUFF, 2))])
    records, table, _ = read(FORMAT, tmp_path)
    assert table["image_id"].to_pylist() == [each for each in records.images["image_id"].to_pylist() for _ in range(2)]
    assert table["annotation_id"].type == pa.string()
