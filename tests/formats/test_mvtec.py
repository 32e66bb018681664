"""MVTec AD: labels of defects, masks, several categories, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import by_location, read, reasons, write_image
from PIL import Image

from curate.errors import FormatError
from curate.formats.detect import detect_format
from curate.formats.mvtec import FORMAT
from curate.geometry import decode_rle


def truth(
    root: Path, values: Any = ((0, 255, 255), (0, 0, 0)), *, name: str = "ground_truth/crack/000_mask.png"
) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype=np.uint8)).save(root / name)
    return root


def category(root: Path) -> Path:
    for name in ("train/good/000.png", "test/good/000.png", "test/crack/000.png"):
        write_image(root / name, (3, 2))
    return truth(root)


@pytest.mark.parametrize(("folder", "prefix"), [("mvtec_dataset", "category_0/"), ("mvtec_dataset/category_0", "")])
def test_a_real_set(shared_data: Path, folder: str, prefix: str) -> None:
    source = shared_data / "formats/datumaro" / folder
    assert detect_format(source)[0].name == "mvtec"
    records, table, losses = read(FORMAT, source)
    found = by_location(records, table)
    assert {name: [(row["type"], row["label"], row["area"]) for row in rows] for name, rows in found.items()} == {
        f"{prefix}default/label_0/000.png": [("label", "label_0", None)],
        f"{prefix}default/label_1/000.png": [("label", "label_1", None), ("mask", "label_1", 16)],
        f"{prefix}default/label_2/000.png": [("label", "label_2", None), ("mask", "label_2", 16)],
    }
    assert found[f"{prefix}default/label_2/000.png"][1]["bbox"] == [4, 4, 4, 4]
    assert records.images["tags"].to_pylist() == [["category_0"]] * 3
    assert records.images["split"].to_pylist() == [None] * 3
    assert losses.losses == []


def test_categories_splits_and_masks(tmp_path: Path) -> None:
    category(tmp_path / "bottle")
    category(tmp_path / "cable")
    records, table, losses = read(FORMAT, tmp_path)
    assert detect_format(tmp_path)[0].name == "mvtec"
    images = {row["location"]: row for row in records.images.to_pylist()}
    assert len(images) == 6
    assert {name: row["split"] for name, row in images.items() if name.startswith("cable")} == {
        "cable/train/good/000.png": "train",
        "cable/test/good/000.png": "test",
        "cable/test/crack/000.png": "test",
    }
    assert images["cable/test/good/000.png"]["tags"] == ["cable"]
    assert json.loads(images["cable/test/good/000.png"]["metadata"]) == {"mvtec": {"category": "cable"}}
    label, mask = by_location(records, table)["bottle/test/crack/000.png"]
    assert (label["label"], label["bbox"], mask["label"], mask["bbox"]) == ("crack", None, "crack", [1, 0, 2, 1])
    assert decode_rle(mask["rle"], mask["rle_size"]).tolist() == [[0, 1, 1], [0, 0, 0]]
    assert (mask["area"], mask["source"]) == (2, "bottle/ground_truth/crack/000_mask.png")
    assert [row["label"] for row in by_location(records, table)["bottle/train/good/000.png"]] == ["good"]
    assert losses.losses == []


def test_a_mask_of_many_values_is_taken_above_zero(tmp_path: Path) -> None:
    truth(category(tmp_path), ((0, 9, 200), (255, 0, 0)))
    _, table, losses = read(FORMAT, tmp_path)
    counts = table["rle"].drop_null()[0].as_py()
    assert decode_rle(counts, [2, 3]).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert reasons(losses) == {"more than two values: all above 0 are the defect"}


def test_masks_that_cannot_be_used_are_reported_and_the_label_stays(tmp_path: Path) -> None:
    category(tmp_path)
    truth(tmp_path, ((0, 255), (0, 0)))
    truth(tmp_path, name="ground_truth/crack/007_mask.png")
    for number in ("001", "002"):
        write_image(tmp_path / f"test/crack/{number}.png", (3, 2))
    (tmp_path / "ground_truth/crack/001_mask.png").write_bytes(b"no image")
    truth(tmp_path, ((0, 0, 0), (0, 0, 0)), name="ground_truth/crack/002_mask.png")
    write_image(tmp_path / "preview.png", (3, 2))
    _, table, losses = read(FORMAT, tmp_path)
    assert table["type"].to_pylist() == ["label"] * 5
    assert {(loss.what, loss.reason, loss.count) for loss in losses.losses} == {
        ("masks", "of another size than the image", 1),
        ("masks", "the mask cannot be read", 1),
        ("masks", "empty", 1),
        ("masks", "there is no image of this name and defect", 1),
        ("image files", "not in <category>/<subset>/<defect>", 1),
    }


def test_ids_do_not_depend_on_whether_there_is_a_mask(tmp_path: Path) -> None:
    category(tmp_path)
    before = {row["source"]: row["annotation_id"] for row in read(FORMAT, tmp_path)[1].to_pylist()}
    (tmp_path / "ground_truth/crack/000_mask.png").unlink()
    after = {row["source"]: row["annotation_id"] for row in read(FORMAT, tmp_path)[1].to_pylist()}
    assert after == {name: before[name] for name in after}
    assert len(after) == len(before) - 1 == 3


def test_other_folders_are_not_mvtec(tmp_path: Path) -> None:
    write_image(tmp_path / "cats/1.png", (3, 2))
    assert FORMAT.detect(tmp_path) is None
    with pytest.raises(FormatError, match="no image"):
        read(FORMAT, tmp_path)
