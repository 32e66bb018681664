"""Masks whose run lengths are corrupt: every format's writer says so and goes on; none draws them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from format_cases import CLASSES, Case, by_location, make_export, read

from curate.formats.base import WriteOptions
from curate.formats.columns import broken_masks
from curate.formats.losses import LossReport
from curate.formats.registry import FORMATS
from curate.geometry import encode_rle

SIZE = (60, 40)
GOOD = encode_rle(np.pad(np.ones((20, 30), dtype=np.uint8), ((5, 15), (10, 20))))
CORRUPT = {
    "too long": "P" * 200,
    "too short": GOOD[:-2],
    "cut inside a number": GOOD + "o",
    "no digits": "\x01\x7f",
    "not ASCII": "€" * len(GOOD),
    "a number that overflows": "o" * 30 + "0",
    "empty": "",
}


def case(rle: str) -> Case:
    mask = {"type": "mask", "label": CLASSES[0], "bbox": [10.0, 5.0, 30.0, 20.0], "rle_size": [SIZE[1], SIZE[0]]}
    label = {"type": "label", "label": CLASSES[1]}
    return Case("a.png", SIZE, "train", [{**mask, "rle": GOOD}, {**mask, "rle": rle}, label])


@pytest.mark.parametrize("rle", CORRUPT.values(), ids=CORRUPT.keys())
@pytest.mark.parametrize(
    ("name", "variant"),
    [("yolo", "segment"), ("yolo", None), ("coco", None), ("coco", "results"), ("voc", None), ("csv", None),
     ("imagefolder", None)],
)  # fmt: skip
def test_a_corrupt_mask_is_a_loss(tmp_path: Path, name: str, variant: str | None, rle: str) -> None:
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    export = make_export(tmp_path / "in", [case(rle)])
    FORMATS.get(name).write(export, target, WriteOptions(images="copy", variant=variant), losses)
    dropped = {loss.reason: loss.count for loss in losses.losses if loss.outcome == "dropped"}
    if name in {"coco", "yolo"}:
        assert dropped["run lengths do not fill the mask's size"] == 1
    elif name != "imagefolder":  # these drop all masks, and this one all but labels
        assert dropped[f"{name.upper()} has no place for them"] >= 2


def test_yolo_writes_the_box_of_a_corrupt_mask(tmp_path: Path) -> None:
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    export = make_export(tmp_path / "in", [case(CORRUPT["too long"])])
    yolo = FORMATS.get("yolo")
    yolo.write(export, target, WriteOptions(images="copy"), losses)
    (rows,) = by_location(*read(yolo, target)[:2]).values()
    assert [row["type"] for row in rows] == ["polygon", "polygon"]
    for row in rows:
        assert np.allclose(row["bbox"], [10, 5, 30, 20], atol=0.25)
    assert len(rows[1]["polygons"][0]) == 8


def test_broken_masks() -> None:
    sizes = [[40, 60]] * (len(CORRUPT) + 1) + [None, None]
    table = pa.table(
        {
            "rle": pa.array([GOOD, *CORRUPT.values(), GOOD, None], pa.string()),
            "rle_size": pa.array(sizes, pa.list_(pa.int32(), 2)),
        }
    )
    assert broken_masks(table).tolist() == [False, *[True] * len(CORRUPT), True, False]
