"""Every real export comes in whole: images and labels of a folder against its own annotation files.

The files are counted here with nothing but the standard library, so that a reader is not held against itself.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from curate.dataset.store import open_dataset
from curate.formats.importing import ImportResult, import_source
from curate.imaging import IMAGE_SUFFIXES

Labels = Counter[tuple[str, str | None]]
"""How often an image, known by its name without an ending, has a label."""


# ------------------------------------------------------------------------------------------------------------ counting


def coco_labels(folder: Path) -> Labels:
    """Annotations and panoptic segments; the same id, class and box on an image in two files is one."""
    found: dict[Any, tuple[str, str | None]] = {}
    seen: set[bytes] = set()
    for path in sorted(folder.rglob("*.json")):
        if path.read_bytes() in seen:
            continue
        seen.add(path.read_bytes())
        content = json.loads(path.read_text())
        stems = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        for image, annotation in _coco_annotations(content):
            label = names.get(annotation["category_id"])
            key = (stems[image], annotation["id"], label, tuple(annotation.get("bbox", ())))
            assert (path, key) not in found
            found[key] = (stems[image], label)
    return Counter(found.values())


def _coco_annotations(content: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for annotation in content["annotations"]:
        for each in annotation.get("segments_info", [annotation]):
            yield annotation["image_id"], each


def yolo_labels(folder: Path) -> Labels:
    """Lines of the text files below `labels` or beside images, with the names of whichever file lists them."""
    lists = [*folder.glob("classes.txt"), *folder.glob("obj.names")]
    names = lists[0].read_text().split("\n") if lists else _yaml_names(folder)
    found: Labels = Counter()
    for path in folder.rglob("*.txt"):
        for line in path.read_text().splitlines() if path not in lists else []:
            if re.fullmatch(r"\d+( [-\d.e]+){4,}", line.strip()):
                number = int(line.split()[0])
                found[path.stem, names[number] if names else str(number)] += 1
    return found


def _yaml_names(folder: Path) -> list[str]:
    files = list(folder.glob("data.yaml"))
    match = re.search(r"names: \[(.*)\]", files[0].read_text()) if files else None
    return [name.strip(" '") for name in match[1].split(",")] if match else []


def voc_labels(folder: Path) -> Labels:
    """Objects of the XML files."""
    found: Labels = Counter()
    for path in folder.rglob("*.xml"):
        found.update((path.stem, each.findtext("name")) for each in ElementTree.parse(path).getroot().iter("object"))
    return found


def folder_labels(folder: Path) -> Labels:
    """The folders of images, the topmost that is no split."""
    found: Labels = Counter()
    for path in folder.rglob("*"):
        parts = [part for part in path.relative_to(folder).parts[:-1] if part not in {"train", "val", "test"}]
        if path.suffix.lower() in IMAGE_SUFFIXES and parts:
            found[path.stem, parts[0]] += 1
    return found


def box_rows(folder: Path) -> Labels:
    """Rows of CSV files with boxes, each once where several files have it."""
    rows = {
        tuple(row.values()) for path in folder.glob("*.csv") for row in csv.DictReader(path.read_text().splitlines())
    }
    return Counter((Path(row[0]).stem, row[3]) for row in rows)


def class_rows(folder: Path) -> Labels:
    """The ones in Roboflow's _classes.csv."""
    found: Labels = Counter()
    for path in folder.rglob("_classes.csv"):
        header, *rows = csv.reader(path.read_text().splitlines(), skipinitialspace=True)
        for row in rows:
            found.update(
                (Path(row[0]).stem, name) for name, flag in zip(header[1:], row[1:], strict=True) if flag == "1"
            )
    return found


def dota_labels(folder: Path) -> Labels:
    """Lines of eight coordinates, a class and a difficulty."""
    lines = [
        (path.stem, line.split()) for path in folder.rglob("labelTxt/*.txt") for line in path.read_text().splitlines()
    ]
    return Counter((stem, words[8]) for stem, words in lines if len(words) == 10)


def createml_labels(folder: Path) -> Labels:
    """Annotations in the lists of Create ML."""
    entries = [entry for path in folder.rglob("*.json") for entry in json.loads(path.read_text())]
    return Counter((Path(entry["image"]).stem, each["label"]) for entry in entries for each in entry["annotations"])


# ------------------------------------------------------------------------------------------------------------ imports

COCO = "formats/datumaro/coco_dataset"
ROBOFLOW = "formats/datumaro/roboflow_dataset"
TEN = "formats/same_images_ten_formats"

FOLDERS: list[tuple[str, str, Callable[[Path], Labels], int]] = [
    (f"{COCO}/coco", "coco", coco_labels, 12),
    (f"{COCO}/coco_captions", "coco", coco_labels, 3),
    (f"{COCO}/coco_image_info", "coco", coco_labels, 0),
    (f"{COCO}/coco_instances", "coco", coco_labels, 3),
    (f"{COCO}/coco_labels", "coco", coco_labels, 3),
    (f"{COCO}/coco_panoptic", "coco", coco_labels, 3),
    (f"{COCO}/coco_person_keypoints", "coco", coco_labels, 3),
    (f"{COCO}/coco_roboflow", "coco", coco_labels, 3),
    (f"{COCO}/coco_stuff", "coco", coco_labels, 2),
    (f"{COCO}/mmdet_coco", "coco", coco_labels, 3),
    (f"{ROBOFLOW}/coco", "coco", coco_labels, 4),
    (f"{ROBOFLOW}/createml", "createml", createml_labels, 4),
    (f"{ROBOFLOW}/multiclass", "csv", class_rows, 4),
    (f"{ROBOFLOW}/voc", "voc", voc_labels, 4),
    (f"{ROBOFLOW}/yolo", "yolo", yolo_labels, 4),
    (f"{ROBOFLOW}/yolo_obb", "dota", dota_labels, 4),
    ("formats/label_studio/test_import_coco", "coco", coco_labels, 2),
    ("formats/label_studio/test_import_yolo_data", "yolo", yolo_labels, 25),
    ("formats/label_studio/test_import_yolo_data_unif_dims", "yolo", yolo_labels, 19),
    ("formats/datumaro/yolo_dataset", "yolo", yolo_labels, 8),
    ("formats/datumaro/yolo_dataset/annotations", "yolo", yolo_labels, 2),
    ("formats/datumaro/yolo_dataset/labels", "yolo", yolo_labels, 4),
    ("formats/datumaro/yolo_dataset/strict", "yolo", yolo_labels, 2),
    ("formats/datumaro/imagenet_dataset", "imagefolder", folder_labels, 3),
    ("formats/datumaro/imagenet_subsets_dataset", "imagefolder", folder_labels, 9),
    ("formats/datumaro/image_dir_dataset", "imagefolder", folder_labels, 0),
    ("formats/datumaro/explore_dataset", "imagefolder", folder_labels, 24),
    (f"{TEN}/coco1.0", "coco", coco_labels, 23),
    (f"{TEN}/yolo", "yolo", yolo_labels, 25),
    (f"{TEN}/yolo1.1", "yolo", yolo_labels, 18),
    (f"{TEN}/labelImg", "voc", voc_labels, 25),
    ("detection/roboflow_wagon", "coco", coco_labels, 1151),
    ("detection/raccoon", "voc", voc_labels, 217),
    ("detection/raccoon/data", "csv", box_rows, 217),
]


def stored_labels(dataset: str) -> Labels:
    images = open_dataset(dataset).table("images", columns=["image_id", "location"]).to_pylist()
    stems = {row["image_id"]: Path(row["location"]).stem for row in images}
    rows = open_dataset(dataset).table("annotations", columns=["image_id", "label"]).to_pylist()
    return Counter((stems[row["image_id"]], row["label"]) for row in rows)


def dropped(result: ImportResult) -> set[str]:
    return {loss.what for loss in result.losses.losses if loss.outcome == "dropped"}


@pytest.mark.parametrize("asked", ["auto", "named"])
@pytest.mark.parametrize(("folder", "format", "count", "total"), FOLDERS, ids=[folder for folder, *_ in FOLDERS])
def test_everything_comes_in(
    shared_data: Path, folder: str, format: str, count: Callable[[Path], Labels], total: int, asked: str
) -> None:
    source = shared_data / folder
    result = import_source("set", source, format=format if asked == "named" else "auto", command="import")
    assert result.format == format
    expected = count(source)
    assert expected.total() == total
    assert stored_labels("set") == expected
    assert dropped(result) <= {"classes"}  # Roboflow's placeholder


@pytest.mark.parametrize(("format", "count"), [("yolo", yolo_labels), ("voc", voc_labels)])
def test_a_folder_of_two_formats_is_read_as_asked(
    shared_data: Path, format: str, count: Callable[[Path], Labels]
) -> None:
    source = shared_data / TEN / "phones"
    import_source("phones", source, format=format, command="import")
    assert stored_labels("phones") == count(source)
    assert count(source).total() > 0


def test_images_without_labels_come_in_too(shared_data: Path) -> None:
    for name in ("coco_image_info", "coco_captions"):
        import_source(name, shared_data / COCO / name, command="import")
        assert open_dataset(name).count("images") == 2
    captions = open_dataset("coco_captions").table("annotations")["attributes"].to_pylist()
    assert sorted(json.loads(text)["caption"] for text in captions) == ["hello", "text", "world"]
