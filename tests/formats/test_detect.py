"""Which format a folder is in, over real folders of each, and what is said where it cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_cases import write_image

from curate.errors import FormatError
from curate.formats.detect import MIN_CONFIDENCE, detect_format
from curate.formats.registry import FORMATS


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("detection/bccd", "voc"),
        ("detection/raccoon", "voc"),
        ("detection/raccoon/data", "csv"),
        ("detection/raccoon/data/train_labels.csv", "csv"),
        ("detection/roboflow_wagon", "coco"),
        ("formats/same_images_ten_formats/coco1.0", "coco"),
        ("formats/same_images_ten_formats/yolo", "yolo"),
        ("formats/same_images_ten_formats/yolo1.1", "yolo"),
        ("formats/same_images_ten_formats/voc1.1", "voc"),
        ("formats/same_images_ten_formats/labelImg", "voc"),
        ("formats/datumaro/yolo_dataset/strict", "yolo"),
        ("formats/datumaro/yolo_dataset/labels", "yolo"),
        ("formats/datumaro/roboflow_dataset/yolo", "yolo"),
        ("formats/datumaro/roboflow_dataset/yolo/data.yaml", "yolo"),
        ("formats/datumaro/roboflow_dataset/yolo_obb", "yolo"),
        ("formats/datumaro/roboflow_dataset/voc", "voc"),
        ("formats/datumaro/roboflow_dataset/coco", "coco"),
        ("formats/datumaro/voc_dataset/voc_dataset1", "voc"),
        ("formats/datumaro/voc_dataset/voc_dataset2", "voc"),
        ("formats/datumaro/imagenet_dataset", "imagefolder"),
        ("formats/datumaro/imagenet_subsets_dataset", "imagefolder"),
        ("formats/datumaro/image_dir_dataset", "imagefolder"),
        ("formats/datumaro/kaggle_dataset/image_csv", "csv"),
        ("formats/datumaro/kaggle_dataset/relaxed_yolo", "yolo"),
        ("formats/datumaro/kaggle_dataset/relaxed_voc2", "voc"),
        ("formats/label_studio/test_import_yolo_data", "yolo"),
        ("images/imagededup", "imagefolder"),
    ],
)
def test_real_folders(shared_data: Path, folder: str, expected: str) -> None:
    found, claim = detect_format(shared_data / folder)
    assert found.name == expected
    assert claim.confidence > MIN_CONFIDENCE
    assert claim.reason


@pytest.mark.parametrize("folder", ["cvat1.1", "labelme", "via", "grapes", "LICENSE"])
def test_formats_that_are_not_known_are_not_guessed(shared_data: Path, folder: str) -> None:
    with pytest.raises(FormatError, match=r"no format recognises this.*--format.*coco, yolo, voc, imagefolder, csv"):
        detect_format(shared_data / "formats/same_images_ten_formats" / folder)


def test_a_tie_names_both_and_why(shared_data: Path) -> None:
    with pytest.raises(FormatError) as caught:
        detect_format(shared_data / "formats/same_images_ten_formats/phones")
    text = str(caught.value)
    assert "this may be yolo or voc" in text
    assert "2 label files" in text
    assert "2 VOC annotations" in text
    assert "--format yolo or voc" in text


def test_no_format_claims_or_fails_on_rubbish(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_bytes(b"\xff\xfe\x00names:")
    (tmp_path / "a.xml").write_bytes(b"<annotation" * 500)
    (tmp_path / "a.csv").write_bytes(b"\x00\x00")
    (tmp_path / "a.json").write_text('{"images": [')
    (tmp_path / "loop").symlink_to(tmp_path)
    for _, known in FORMATS:
        for source in (tmp_path, tmp_path / "missing", *tmp_path.iterdir()):
            claim = known.detect(source)
            assert claim is None or 0 <= claim.confidence <= 1


def test_folders_of_masks_are_no_classes(tmp_path: Path) -> None:
    for name in ("images/a.png", "masks/a.png"):
        write_image(tmp_path / name, (4, 4))
    with pytest.raises(FormatError, match="'images' is not the name of a class"):
        detect_format(tmp_path)
