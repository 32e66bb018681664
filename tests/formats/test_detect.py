"""Which format a folder is in, over real folders of each, and what is said where it cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_cases import write_image

from curate.errors import FormatError
from curate.formats import files
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
        ("formats/datumaro/roboflow_dataset/yolo_obb", "dota"),  # Roboflow's OBB export has DOTA's label files
        ("formats/datumaro/roboflow_dataset/createml", "createml"),
        ("formats/datumaro/roboflow_dataset/multiclass", "csv"),
        ("formats/datumaro/datumaro_dataset/legacy", "datumaro"),
        ("formats/datumaro/cvat_dataset/for_video", "cvat"),
        ("formats/datumaro/labelme_dataset", "labelme_xml"),
        ("formats/datumaro/open_images_dataset/v6", "open_images"),
        ("formats/datumaro/kitti_dataset/kitti_detection", "kitti"),
        ("formats/datumaro/cityscapes_dataset", "cityscapes"),
        ("formats/datumaro/dota_dataset", "dota"),
        ("formats/datumaro/mvtec_dataset", "mvtec"),
        ("formats/datumaro/camvid_dataset", "masks"),
        ("formats/datumaro/video_dataset", "video"),
        ("formats/same_images_ten_formats/cvat1.1", "cvat"),
        ("formats/same_images_ten_formats/labelme", "labelme"),
        ("formats/same_images_ten_formats/labelme3.0", "labelme_xml"),
        ("formats/same_images_ten_formats/via", "via"),
        ("formats/same_images_ten_formats/CreateML", "createml"),
        ("formats/label_studio/test_export_coco", "label_studio"),
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


@pytest.mark.parametrize(
    "name", ["same_images_ten_formats/LICENSE", "datumaro/mnist_dataset", "datumaro/tf_detection_api_dataset"]
)
def test_formats_that_are_not_known_are_not_guessed(shared_data: Path, name: str) -> None:
    with pytest.raises(FormatError, match=r"no format recognises this.*--format.*coco, yolo, voc, imagefolder, csv"):
        detect_format(shared_data / "formats" / name)


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
    claim = FORMATS.get("imagefolder").detect(tmp_path)
    assert claim is not None
    assert claim.confidence < MIN_CONFIDENCE
    assert "'images' is not the name of a class" in claim.reason


def test_a_format_that_fails_does_not_keep_the_others_from_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS._builtins, "broken", "curate.formats.nowhere:FORMAT")
    with pytest.raises(FormatError, match=r"no format recognises this; broken failed to look: ModuleNotFoundError"):
        detect_format(tmp_path)
    write_image(tmp_path / "cat" / "a.png", (4, 4))
    write_image(tmp_path / "dog" / "b.png", (4, 4))
    assert detect_format(tmp_path)[0].name == "imagefolder"


def test_a_folder_of_archives_says_so(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"")
    with pytest.raises(FormatError) as error:
        detect_format(tmp_path)
    assert "import images.zip by itself, or unpack it" in str(error.value.remedy)


def test_each_folder_is_looked_at_once_for_all_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "cat" / "a.png", (4, 4))
    seen: list[Path] = []
    peek = files._peek

    def remembering(root: Path, per_folder: int, folders: int) -> list[str]:
        seen.append(root)
        return peek(root, per_folder, folders)

    monkeypatch.setattr(files, "_peek", remembering)
    detect_format(tmp_path)
    assert len(seen) == len(set(seen))
    assert tmp_path in seen
    before = len(seen)
    detect_format(tmp_path)
    assert len(seen) == 2 * before
