"""COCO: real exports, every kind of annotation, bad input, EXIF, results files, and the round trip."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from curate.dataset.ids import image_ids
from curate.dataset.schema import ANNOTATIONS, IMAGES
from curate.errors import FormatError, UsageError
from curate.formats.base import ClassInfo, Export, ReadOptions, Records, WriteOptions
from curate.formats.coco import FORMAT
from curate.formats.losses import LossReport
from curate.geometry import decode_rle, encode_rle

Rows = list[dict[str, Any]]


class Read:
    """What was read, as Python objects."""

    def __init__(self, source: Path, options: ReadOptions | None = None) -> None:
        self.losses = LossReport()
        self.records: Records = FORMAT.read(source, options or ReadOptions(), self.losses)
        self.table = pa.concat_tables([ANNOTATIONS.empty_table(), *self.records.annotations])
        self.images: Rows = self.records.images.to_pylist()
        self.annotations: Rows = self.table.to_pylist()
        self.classes = self.records.classes
        assert self.records.images.schema == IMAGES
        assert self.table.schema == ANNOTATIONS
        assert len({row["annotation_id"] for row in self.annotations}) == len(self.annotations)
        assert len({row["location"] for row in self.images}) == len(self.images)

    @property
    def reasons(self) -> dict[str, int]:
        return {loss.reason: loss.count for loss in self.losses.losses if "not found" not in loss.reason}


def save(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def coco(
    annotations: Rows, images: Rows | None = None, categories: Rows | None = None, **more: object
) -> dict[str, object]:
    """A COCO file with one image (id 1) and two categories (ids 0 and 7), unless given."""
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}] if images is None else images,
        "categories": [{"id": 0, "name": "cat"}, {"id": 7, "name": "dog"}] if categories is None else categories,
        "annotations": annotations,
        **more,
    }


def box(number: object = 1, **more: object) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 0, "bbox": [1, 2, 30, 40]} | more


def picture(path: Path, size: tuple[int, int], orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (90, 120, 150)).save(path, exif=exif)
    return path


# ------------------------------------------------------------------------------------------------ real files


def test_roboflow_export(shared_data: Path) -> None:
    folder = shared_data / "detection" / "roboflow_wagon"
    found = Read(folder)
    for split in ("train", "val", "test"):
        content = json.loads((folder / split / "_annotations.coco.json").read_text())
        images = [row for row in found.images if row["split"] == split]
        assert len(images) == len(content["images"])
        assert all(row["location"].startswith(f"{split}/") and Path(row["path"]).is_file() for row in images)
        by_image = {row["image_id"]: row["source_id"] for row in images}
        read = Counter(by_image[row["image_id"]] for row in found.annotations if row["image_id"] in by_image)
        assert read == Counter(str(row["image_id"]) for row in content["annotations"])
        sources = {row["extra"]["name"] for row in content["images"]}
        assert {row["group"] for row in images} == sources
    assert [(info.name, info.source_id) for info in found.classes] == [("gunny_bag", 1), ("wire", 2)]
    assert found.reasons.pop("Roboflow's placeholder, which no annotation has") == 3
    assert found.records.info["licenses"] == [
        {"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}
    ]
    # The same three files lie in annotations/ as well: nothing is lost with a copy.
    assert list(found.reasons) == ["Roboflow's placeholder, which no annotation has"]
    single = Read(folder / "val" / "_annotations.coco.json")
    assert {row["image_id"] for row in single.images} < {row["image_id"] for row in found.images}


def test_real_export_counts(shared_data: Path) -> None:
    found = Read(shared_data / "formats" / "same_images_ten_formats" / "coco1.0")
    names = {row["image_id"]: Path(row["location"]).stem for row in found.images}
    assert all(Path(row["path"]).is_file() for row in found.images)
    assert Counter(names[row["image_id"]] for row in found.annotations) == {"birds": 2, "shapes": 4, "strawberry": 17}
    assert found.reasons == {}


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("coco_instances", ["box", "polygon", "mask"]),
        ("coco_labels", ["label", "label", "label"]),
        ("coco_captions", ["label", "label", "label"]),
        ("coco_person_keypoints", ["keypoints", "keypoints", "keypoints"]),
        ("coco_roboflow", ["box", "polygon", "mask"]),
        ("mmdet_coco", ["box", "polygon", "mask"]),
        ("coco_stuff", ["mask", "mask"]),
        ("coco_image_info", []),
        ("coco_panoptic", ["mask", "mask", "mask"]),
    ],
)
def test_datumaro_examples(shared_data: Path, kind: str, types: list[str]) -> None:
    found = Read(shared_data / "formats" / "datumaro" / "coco_dataset" / kind)
    assert [row["type"] for row in found.annotations] == types
    assert [(row["location"], row["split"], row["source_id"]) for row in found.images] == [
        ("train/a.jpg", "train", "5"),
        ("val/b.jpg", "val", "40"),
    ]
    assert found.reasons == {}


def test_several_files_of_one_image_set(shared_data: Path) -> None:
    found = Read(shared_data / "formats" / "datumaro" / "coco_dataset" / "coco")
    assert [row["location"] for row in found.images] == ["train/a.jpg", "val/b.jpg"]
    # The keypoints' three are the instances', and two of the panoptic segments are those of stuff.
    assert found.reasons == {"the same annotation is in two files; the first is kept": 5}
    assert Counter(row["type"] for row in found.annotations) == {"label": 6, "keypoints": 3, "mask": 3}


def test_an_outline_that_only_the_second_file_has_is_reported(tmp_path: Path) -> None:
    outline = [[1, 2, 31, 2, 31, 42]]
    with_points = box(keypoints=[5, 5, 2])
    save(tmp_path / "annotations" / "person_keypoints_train.json", coco([with_points, box(2)]))
    save(tmp_path / "annotations" / "instances_train.json", coco([box(segmentation=outline), box(2)]))
    found = Read(tmp_path)
    assert [row["type"] for row in found.annotations] == ["keypoints", "box"]
    assert found.reasons == {
        "the same annotation is in two files; the first is kept": 2,
        "the second of two files has an outline, the first, which is kept, has none": 1,
    }


@pytest.mark.parametrize("used", [False, True])
def test_roboflows_placeholder_is_a_class_only_if_an_annotation_has_it(tmp_path: Path, used: bool) -> None:
    categories = [
        {"id": 0, "name": "parts", "supercategory": "none"},
        {"id": 1, "name": "nut", "supercategory": "parts"},
    ]
    for split, number in (("train", 1), ("valid", 0 if used else 1)):
        images = [{"id": 1, "file_name": f"{split}.jpg"}]
        content = coco([box(category_id=number)], images, categories)
        save(tmp_path / split / "_annotations.coco.json", content)
    found = Read(tmp_path)
    assert [info.name for info in found.classes] == (["parts", "nut"] if used else ["nut"])
    assert {row["label"] for row in found.annotations} == ({"parts", "nut"} if used else {"nut"})
    assert found.reasons == ({} if used else {"Roboflow's placeholder, which no annotation has": 2})


def test_a_real_class_of_id_0_stays(tmp_path: Path) -> None:
    found = Read(save(tmp_path / "a.json", coco([box(category_id=7)])))
    assert [(info.name, info.source_id) for info in found.classes] == [("cat", 0), ("dog", 7)]


def test_nan_is_reported_wherever_it_stands_and_the_rest_comes_in(tmp_path: Path) -> None:
    nan = float("nan")
    annotations = [
        box(1, bbox=[nan, 2, 30, 40]),
        box(2, area=nan),
        box(3, attributes={"blur": nan, "seen": [1, nan]}, weight=float("inf")),
        box(4, segmentation=[[1, 1, nan, 2, 3, 3]]),
        box(5),
    ]
    content = coco(annotations, categories=[{"id": 0, "name": "cat", "mean": nan}], info={"version": nan})
    found = Read(save(tmp_path / "a.json", content))
    assert [row["source_id"] for row in found.annotations] == ["2", "3", "4", "5"]
    assert json.loads(found.annotations[1]["attributes"]) == {"blur": None, "seen": [1, None], "weight": None}
    assert found.records.info["info"] == {"version": None}
    assert found.records.info["category_fields"] == {"cat": {"mean": None}}
    assert found.reasons == {
        "bbox is not four finite numbers": 1,
        "area is not a finite number and was left out": 1,
        "polygons are not lists of finite numbers": 1,
        "NaN or infinity, which JSON does not have; null stands in its place": 4,
    }


def test_label_studio_example(shared_data: Path) -> None:
    path = shared_data / "formats" / "label_studio" / "test_import_coco" / "coco_import_input.json"
    found = Read(path)
    assert [row["source_id"] for row in found.images] == ["0", "1"]
    assert [row["iscrowd"] for row in found.annotations] == [False, False]  # written as the text "false"
    assert [info.color for info in found.classes] == ["#594b6f", "#2827e5"]
    assert FORMAT.detect(path.parent.parent / "test_export_coco" / "data.json") is None


# ------------------------------------------------------------------------------------------------ annotations


def test_every_kind_of_annotation(tmp_path: Path) -> None:
    mask = np.zeros((80, 100), np.uint8)
    mask[10:30, 20:50] = 1
    compressed = coco_mask.encode(np.asfortranarray(mask))
    runs = [20 * 80 + 10, 20, *[60, 20] * 29, 8000 - (20 * 80 + 30 + 29 * 80)]
    annotations: Rows = [
        box(5, area=7.5, iscrowd=1),
        box(6, segmentation=[[0, 0, 10, 0, 10, 5.5], [20, 20, 30, 20, 30, 40, 20, 40]]),
        box(7, segmentation={"size": [80, 100], "counts": compressed["counts"].decode()}, iscrowd=0),
        {"id": 8, "image_id": 1, "category_id": 7, "segmentation": {"size": [80, 100], "counts": runs}, "iscrowd": 1},
        {"id": 9, "image_id": 1, "category_id": 7, "segmentation": [[5, 6, 15, 6, 15, 30], [1, 9, 3, 9, 2, 8]]},
        box(10, keypoints=[3, 4, 2, 0, 0, 0], num_keypoints=1),
        {"id": 11, "image_id": 1, "category_id": 7},
        box(12, bbox=[-4, 5, 0, -3]),
    ]
    read = Read(save(tmp_path / "x.json", coco(annotations)))
    rows = read.annotations
    assert [row["type"] for row in rows] == ["box", "polygon", "mask", "mask", "polygon", "keypoints", "label", "box"]
    assert [row["source_id"] for row in rows] == ["5", "6", "7", "8", "9", "10", "11", "12"]
    assert [row["label"] for row in rows] == ["cat", "cat", "cat", "dog", "dog", "cat", "dog", "cat"]
    assert [row["iscrowd"] for row in rows] == [True, None, False, True, None, None, None, None]
    assert rows[0]["area"] == 7.5
    assert rows[1]["area"] is None
    assert rows[1]["polygons"] == [[0, 0, 10, 0, 10, 5.5], [20, 20, 30, 20, 30, 40, 20, 40]]
    assert rows[2]["rle"] == rows[3]["rle"] == compressed["counts"].decode()
    assert rows[3]["rle_size"] == [80, 100]
    assert rows[3]["bbox"] == [20, 10, 30, 20]
    assert rows[4]["bbox"] == [1, 6, 14, 24]
    assert rows[5]["keypoints"] == [3, 4, 2, 0, 0, 0]
    assert rows[6]["bbox"] is None
    assert rows[7]["bbox"] == [-4, 5, 0, -3]
    assert read.reasons == {}


def test_extra_fields_become_attributes(tmp_path: Path) -> None:
    annotations = [
        box(1, attributes={"occluded": True, "color": "red"}, ignore=1),
        box(2, score=0.5, **{"odd key": [1, None]}),
        box(3, attributes={"color": "red"}, color="#fff"),
        box(4, attributes=[1, 2]),
        box(5, attributes={}),
    ]
    read = Read(save(tmp_path / "x.json", coco(annotations)))
    found = [row["attributes"] and json.loads(row["attributes"]) for row in read.annotations]
    assert found == [
        {"occluded": True, "color": "red", "ignore": 1},
        {"odd key": [1, None], "score": 0.5},
        {"color": "red", "annotation.color": "#fff"},
        {"attributes": [1, 2]},
        None,
    ]
    assert [row["score"] for row in read.annotations] == [None] * 5
    predicted = Read(tmp_path / "x.json", ReadOptions(layer="predictions/net"))
    assert predicted.annotations[1]["score"] == 0.5
    assert {row["layer"] for row in predicted.annotations} == {"predictions/net"}


def test_keys_and_texts_that_are_hard_to_store(tmp_path: Path) -> None:
    annotations = [
        box(1, **{'a"b\\c\n': 1}),
        box(2, note="\ud800 half a pair", emoji="\U0001f600"),
        box(3, figure=float("nan"), big=10**30),
        box(10**30),
        box("id \ud800"),
    ]
    read = Read(save(tmp_path / "x.json", coco(annotations)))
    assert [row["attributes"] and json.loads(row["attributes"]) for row in read.annotations] == [
        {'a"b\\c\n': 1},
        {"note": "? half a pair", "emoji": "\U0001f600"},
        {"figure": None, "big": 10**30},
        None,
        None,
    ]
    assert [row["source_id"] for row in read.annotations] == ["1", "2", "3", str(10**30), "id ?"]


def test_categories_and_file_level_fields(tmp_path: Path) -> None:
    categories: Rows = [
        {"id": 9, "name": "person", "supercategory": "being", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]},
        {"id": 0, "name": "thing", "color": "#00ff00", "isthing": 1},
        {"id": 9, "name": "again"},
        {"name": "no id"},
        {"id": "x7", "name": "text id"},
        {"id": 30},
    ]
    content = coco(
        [box(1, category_id="x7")], categories=categories, info={"year": 2026}, licenses=[{"id": 3}], type="t"
    )
    read = Read(save(tmp_path / "x.json", content))
    assert read.classes == [
        ClassInfo("person", 9, "being", ("nose", "tail"), ((1, 2),)),
        ClassInfo("thing", 0, color="#00ff00"),
        ClassInfo("text id"),
        ClassInfo("30", 30),
    ]
    assert read.annotations[0]["label"] == "text id"
    assert read.records.info == {
        "info": {"year": 2026},
        "licenses": [{"id": 3}],
        "type": "t",
        "category_fields": {"thing": {"isthing": 1}},
    }
    assert read.reasons == {
        "category id used twice; the first is kept": 1,
        "a category without an id": 1,
        "a category without a name; called by its id": 1,
    }


def test_image_fields(tmp_path: Path) -> None:
    images: Rows = [
        {"id": 0, "file_name": "deep/er/a.jpg", "license": 3, "extra": {"k": 1}, "tags": ["night"], "frame": 4},
        {"id": "b", "file_name": "img_png.rf.0123abcd.jpg", "extra": {"name": "img.png"}},
        {"id": "17", "file_name": "car_jpg.rf.0123abcd.jpg", "tags": "not a list"},
    ]
    annotations = [box(1, image_id=0), box(2, image_id="b"), box(3, image_id=17)]
    read = Read(save(tmp_path / "x.json", coco(annotations, images)))
    assert [row["location"] for row in read.images] == [each["file_name"] for each in images]
    assert [row["source_id"] for row in read.images] == ["0", "b", "17"]
    assert [row["metadata"] for row in read.images] == [
        '{"license":3,"extra":{"k":1}}',
        '{"extra":{"name":"img.png"}}',
        '{"tags":"not a list"}',
    ]
    assert [row["group"] for row in read.images] == [None, "img.png", "car.jpg"]
    assert (read.images[0]["tags"], read.images[0]["frame"]) == (["night"], 4)
    assert [row["image_id"] for row in read.annotations] == [row["image_id"] for row in read.images]


# ------------------------------------------------------------------------------------------------ images


@pytest.mark.parametrize(
    ("annotation_file", "image", "name", "location", "split"),
    [
        ("annotations/instances_train2017.json", "train2017/a.jpg", "a.jpg", "train2017/a.jpg", "train"),
        ("annotations/instances_val.json", "images/val/a.jpg", "a.jpg", "val/a.jpg", "val"),
        ("annotations/instances_default.json", "images/s/a.jpg", "s/a.jpg", "s/a.jpg", None),
        ("annotations/night.json", "images/a.jpg", "a.jpg", "a.jpg", None),
        ("annotations/instances_night.json", "a.jpg", "a.jpg", "a.jpg", "night"),
        ("valid/_annotations.coco.json", "valid/a.jpg", "a.jpg", "valid/a.jpg", "val"),
        ("test/_annotations.coco.json", None, "a.jpg", "test/a.jpg", "test"),
        ("x.json", "images/a.jpg", "images/a.jpg", "images/a.jpg", None),
        ("x.json", "images/a.jpg", "/home/me/set/images/a.jpg", "images/a.jpg", None),
        ("x.json", "JPEGImages/a.jpg", "a.jpg", "JPEGImages/a.jpg", None),
        ("x.json", None, "../../etc/a.jpg", "etc/a.jpg", None),
        ("x.json", None, "C:\\set\\a.jpg", "set/a.jpg", None),
        ("x.json", None, "http://host/a.jpg", "host/a.jpg", None),
    ],
)
def test_where_images_lie(
    tmp_path: Path, annotation_file: str, image: str | None, name: str, location: str, split: str | None
) -> None:
    if image:
        picture(tmp_path / image, (100, 80))
    save(tmp_path / annotation_file, coco([box()], [{"id": 1, "file_name": name, "width": 100, "height": 80}]))
    for source in (tmp_path, tmp_path / annotation_file):
        read = Read(source)
        (row,) = read.images
        assert (row["location"], row["split"]) == (location, split)
        assert row["path"] == (str(tmp_path / image) if image else None)
        missing = [loss.count for loss in read.losses.losses if "not found" in loss.reason]
        assert missing == ([] if image else [1])


def test_named_folder_and_split(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "train" / "a.jpg", (100, 80))
    file = save(tmp_path / "set" / "train.json", coco([box()]))
    read = Read(file, ReadOptions(images=tmp_path / "elsewhere", split="night"))
    assert (read.images[0]["location"], read.images[0]["split"]) == ("a.jpg", "night") or read.images[0]["path"]
    read = Read(file, ReadOptions(images=tmp_path / "elsewhere"))
    assert (read.images[0]["location"], read.images[0]["split"]) == ("train/a.jpg", "train")
    with pytest.raises(UsageError, match="no such folder"):
        Read(file, ReadOptions(images=tmp_path / "nowhere"))


def test_absolute_names_that_mean_the_same_file_are_not_guessed(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.jpg", (100, 80))
    images: Rows = [{"id": 1, "file_name": "/x/cam1/1.jpg"}, {"id": 2, "file_name": "/x/cam2/1.jpg"}]
    read = Read(save(tmp_path / "x.json", coco([], images)))
    assert [(row["location"], row["path"]) for row in read.images] == [("x/cam1/1.jpg", None), ("x/cam2/1.jpg", None)]


def test_same_name_in_two_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        save(tmp_path / "annotations" / f"instances_{split}.json", coco([box(len(split))]))
    read = Read(tmp_path)
    assert [(row["location"], row["split"]) for row in read.images] == [("a.jpg", "train"), ("val/a.jpg", "val")]
    assert len(read.annotations) == 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """A block of the stored image must be found where Pillow shows it, where the sizes tell how it was labelled."""
    picture(tmp_path / "a.jpg", (100, 80), orientation)
    mask = np.zeros((80, 100), np.uint8)
    mask[10:30, 20:60] = 1
    encoded = coco_mask.encode(np.asfortranarray(mask))
    segmentation = {"size": [80, 100], "counts": encoded["counts"].decode()}
    outline = [[20, 10, 60, 10, 60, 30, 20, 30]]
    content = coco(
        [
            box(1, bbox=[20, 10, 40, 20], segmentation=segmentation),
            box(2, bbox=[20, 10, 40, 20], segmentation=outline, keypoints=[20, 10, 2, 0, 0, 0]),
            {"id": 3, "image_id": 1, "category_id": 0, "segmentation": outline},
        ]
    )
    read = Read(save(tmp_path / "x.json", content))
    with Image.open(tmp_path / "a.jpg") as image:
        stored = Image.fromarray(mask)
        turn = {
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_270,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90,
        }.get(orientation)
        shown = np.asarray(stored.transpose(turn) if turn is not None else stored)
        assert image.size == (100, 80)
    rows = read.annotations
    assert (read.images[0]["width"], read.images[0]["height"]) == shown.shape[::-1]
    assert rows[0]["rle_size"] == list(shown.shape)
    assert rows[0]["rle"] == coco_mask.encode(np.asfortranarray(shown))["counts"].decode()
    y, x = np.nonzero(shown)
    expected = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
    assert rows[0]["bbox"] == rows[1]["bbox"] == rows[2]["bbox"] == expected
    assert rows[1]["polygons"][0][:2] == rows[1]["keypoints"][:2]
    assert rows[1]["keypoints"][3:] == [0, 0, 0]
    assert ("labelled as stored" in str(read.reasons)) == (orientation >= 5)


def test_coordinates_already_oriented_are_kept(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", (80, 100), 6)
    read = Read(save(tmp_path / "x.json", coco([box()])))
    assert (read.images[0]["width"], read.images[0]["height"]) == (100, 80)
    assert read.annotations[0]["bbox"] == [1, 2, 30, 40]
    assert read.reasons == {}


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"hello", "not JSON"),
        (b'{"images": [{"id": 1}, {"id"', "truncated"),
        (b'{"images": [], "annotations": [], "info": {"a": ', "truncated"),
        (b'{"images": [{"id": 1 "file_name": "a.jpg"}], "annotations": []}', "not valid"),
        (b'{"images": [], "annotations": []} x', "after the end"),
        (b'{"images": [{"file_name": "\xe9.jpg"}], "annotations": []}', "not UTF-8"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b'{"shapes": [], "imagePath": "a.jpg"}', "not a COCO file"),
        (b'{"images": {}, "annotations": []}', "'images' is not an array"),
        (b'[{"id": 1, "annotations": []}]', "not a COCO file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    for source in (path, tmp_path):
        with pytest.raises(FormatError, match=words) as error:
            Read(source)
        assert error.value.where is not None
        assert error.value.where.startswith(str(path))
        assert error.value.remedy


def test_error_names_byte_and_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"annotations": [],\n"images": [\n{"id": 1},\n{"id": }]}')
    with pytest.raises(FormatError) as error:
        Read(path)
    assert error.value.where == f"{path}, byte {path.read_text().index('}]}')}, line 4"


def test_bad_annotations_are_reported_and_the_rest_comes_in(tmp_path: Path) -> None:
    nan = float("nan")
    annotations: list[Any] = [
        box(1),
        box(2, bbox=[1, nan, 3, 4]),
        box(3, bbox=[1, 2, 3]),
        box(4, bbox="1 2 3 4"),
        box(5, bbox=[1, 2, float("inf"), 4], segmentation=[[0, 0, 5, 0, 5, 5]]),
        box(6, image_id=99),
        box(7, category_id=99),
        {"id": 8, "image_id": 1},
        {"id": 9, "image_id": 1, "category_id": 99},
        box(10, segmentation=[[1, 2, 3]]),
        box(11, segmentation={"size": [80, 100], "counts": "04x"}),
        box(12, segmentation={"size": [80, 100], "counts": [5, 6]}),
        box(13, segmentation="polygon"),
        box(14, keypoints=[1, 2]),
        box(15, area="big", iscrowd=7),
        "text",
        {"id": 17, "image_id": 1, "category_id": 0, "segmentation": [[1, nan]]},
        box(1),
        {"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 1]},
        {"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 1]},
        box(nan),
        box(1),
    ]
    read = Read(save(tmp_path / "x.json", coco(annotations)))
    ids = [row["source_id"] for row in read.annotations]
    assert ids == ["1", "5", "7", "10", "11", "12", "13", "14", "15", "1", None, None, None, "1"]
    rows = {row["source_id"]: row for row in read.annotations}
    assert rows["5"]["bbox"] == [0, 0, 5, 5]
    assert (rows["7"]["label"], rows["7"]["attributes"]) == (None, '{"category_id":99}')
    assert all(rows[number]["type"] == "box" for number in ("10", "11", "12", "13", "14"))
    assert (rows["15"]["area"], rows["15"]["iscrowd"]) == (None, None)
    assert read.reasons == {
        "bbox is not four finite numbers": 3,
        "bbox is not four finite numbers; taken from the segmentation": 1,
        "image_id is not among the images": 1,
        "category_id is not among the categories; no label": 1,
        "neither a known category nor a geometry": 2,
        "a polygon has an odd number of coordinates": 1,
        "run lengths do not fill the mask's size": 2,
        "neither polygons nor run lengths": 1,
        "not triples of x, y and visibility": 1,
        "area is not a finite number and was left out": 1,
        "iscrowd is neither 0 nor 1 and was left out": 1,
        "not a JSON object": 1,
        "polygons are not lists of finite numbers": 1,
        "no usable geometry": 1,
        "annotation id used twice; both are kept": 2,
        "id is neither a whole number nor text and was left out": 1,
    }
    places = [place for loss in read.losses.losses for place in loss.places]
    assert "x.json: annotation 2" in places
    assert "x.json: annotation at index 15" in places
    assert "x.json: annotation 6 of image 99" in places


def test_bad_images_are_reported(tmp_path: Path) -> None:
    images: list[Any] = [
        {"id": 1, "file_name": "a.jpg", "width": 0, "height": "80"},
        {"id": 2, "file_name": "a.jpg"},
        {"id": 1, "file_name": "b.jpg"},
        {"id": 3},
        {"file_name": "c.jpg"},
        {"id": 4, "file_name": "/d.jpg", "width": 640.0, "height": 480},
        None,
    ]
    annotations = [box(1), box(2, image_id=2), box(3, image_id=3)]
    read = Read(save(tmp_path / "x.json", coco(annotations, images)))
    assert [row["location"] for row in read.images] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert (read.images[0]["width"], read.images[3]["width"]) == (None, 640)
    assert {row["image_id"] for row in read.annotations} == {read.images[0]["image_id"]}
    assert read.reasons == {
        "width or height is not a positive whole number and was left out": 1,
        "the same file is listed twice; taken for one image": 1,
        "image id used twice; annotations go to the first": 1,
        "no file_name": 1,
        "no id: no annotation can refer to it": 1,
        "file_name is not a plain relative path": 1,
        "not a JSON object": 1,
        "image_id is not among the images": 1,
    }


def test_strict_stops_and_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    save(tmp_path / "annotations" / "instances_train.json", coco([box(), box(2, image_id=5)]))
    (tmp_path / "annotations" / "broken.json").write_text('{"images": [')
    read = Read(tmp_path)
    assert len(read.annotations) == 1
    assert [loss.what for loss in read.losses.losses if loss.outcome == "dropped"] == ["files", "annotations"]
    with pytest.raises(FormatError, match="strict"):
        FORMAT.read(tmp_path, ReadOptions(), LossReport(strict=True))


def test_no_duplicate_ids_over_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that start again, or are missing, in a file read in many pieces; the pieces hold what cuts must not fall on."""
    monkeypatch.setattr("curate.formats.coco.files.index", _index_in_small_pieces)
    annotations = [box(number % 40, note='}, {"]\\', more=[{"a": 1}, {"b": []}]) for number in range(100)]
    annotations += [{**box(), "id": None} for _ in range(50)]
    read = Read(save(tmp_path / "x.json", coco(annotations)))
    assert len(read.annotations) == 150  # Read checks that annotation ids differ
    assert read.reasons == {"annotation id used twice; both are kept": 60}
    assert json.loads(read.annotations[99]["attributes"]) == {"note": '}, {"]\\', "more": [{"a": 1}, {"b": []}]}
    again = Read(tmp_path / "x.json")
    assert [row["annotation_id"] for row in again.annotations] == [row["annotation_id"] for row in read.annotations]


def _index_in_small_pieces(path: Path) -> Any:
    from curate.formats.coco.pieces import index

    return index(path, block_bytes=700)


# ------------------------------------------------------------------------------------------------ results files


def test_results_file(tmp_path: Path) -> None:
    ground_truth = Read(save(tmp_path / "gt.json", coco([box()])))
    results = [
        {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 0.75},
        {"image_id": 2, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5},
    ]
    path = save(tmp_path / "results.json", results)
    with pytest.raises(FormatError, match="by id only") as error:
        Read(path)
    assert "--layer" in str(error.value.remedy)
    options = ReadOptions(
        layer="predictions/net", known_images=ground_truth.records.images, known_classes=ground_truth.classes
    )
    read = Read(path, options)
    assert read.images == []
    assert [(row["label"], row["score"], row["layer"]) for row in read.annotations] == [
        ("dog", 0.25, "predictions/net"),
        ("dog", 0.75, "predictions/net"),
    ]
    assert {row["image_id"] for row in read.annotations} == {ground_truth.images[0]["image_id"]}
    assert read.reasons == {"image_id is not among the images": 1}


def test_detection(tmp_path: Path) -> None:
    full = FORMAT.detect(save(tmp_path / "a" / "x.json", coco([box()])))
    assert full is not None
    assert full.confidence == 1.0
    folder = FORMAT.detect(tmp_path / "a")
    assert folder is not None
    assert "x.json" in folder.reason
    results = FORMAT.detect(save(tmp_path / "r.json", [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]))
    assert results is not None
    assert FORMAT.detect(save(tmp_path / "b" / "y.json", {"shapes": []})) is None
    assert FORMAT.detect(tmp_path / "nowhere") is None


# ------------------------------------------------------------------------------------------------ writing


def export(
    images: Rows, annotations: Rows, classes: list[ClassInfo], info: Mapping[str, object] | None = None
) -> Export:
    """An export whose rows name the columns that are not null."""
    ids = image_ids(each["location"] for each in images).to_pylist()
    of_location = {each["location"]: identity for each, identity in zip(images, ids, strict=True)}
    image_rows = [{"image_id": of_location[each["location"]], **each} for each in images]
    rows = [
        {
            "annotation_id": f"{number:016x}",
            "image_id": of_location[each["image"]],
            "layer": "ground_truth",
            "type": "box",
            **{key: value for key, value in each.items() if key != "image"},
        }
        for number, each in enumerate(annotations)
    ]
    return Export(
        pa.Table.from_pylist(image_rows, IMAGES), pa.Table.from_pylist(rows, ANNOTATIONS), classes, dict(info or {})
    )


def test_write_ids_splits_and_files(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.jpg", (10, 10))
    written = export(
        [
            {
                "location": "train/a.jpg",
                "split": "train",
                "source_id": "0",
                "path": str(file),
                "width": 10,
                "height": 10,
            },
            {"location": "b.jpg", "split": "train", "source_id": "x9"},
            {"location": "c.jpg", "split": "train", "source_id": "0"},
            {"location": "d.jpg", "split": None, "metadata": '{"license":3}', "tags": ["night"], "group": "g"},
        ],
        [
            {"image": "train/a.jpg", "label": "cat", "bbox": [1.0, 2.5, 3.0, 4.0], "source_id": "70"},
            {"image": "b.jpg", "label": "dog", "bbox": [1.0, 2.0, 3.0, 4.0]},
            {"image": "d.jpg", "label": "cat", "bbox": [1.0, 2.0, 3.0, 4.0], "attributes": '{"caption":"c","k":1}'},
        ],
        [ClassInfo("cat", 0), ClassInfo("dog"), ClassInfo("bird", 1, "animal")],
        {"info": {"year": 1}, "licenses": [{"id": 3}], "category_fields": {"dog": {"isthing": 1}}, "type": "t"},
    )
    losses = LossReport()
    target = tmp_path / "out"
    target.mkdir()
    FORMAT.write(written, target, WriteOptions(images="link"), losses)
    assert sorted(path.name for path in (target / "annotations").iterdir()) == [
        "instances.json",
        "instances_train.json",
    ]
    train = json.loads((target / "annotations" / "instances_train.json").read_text())
    assert [(each["id"], each["file_name"]) for each in train["images"]] == [
        (0, "train/a.jpg"),
        (1, "b.jpg"),
        (2, "c.jpg"),
    ]
    assert [(each["id"], each["category_id"]) for each in train["annotations"]] == [(70, 0), (71, 2)]
    assert train["categories"] == [
        {"id": 0, "name": "cat"},
        {"id": 2, "name": "dog", "isthing": 1},
        {"id": 1, "name": "bird", "supercategory": "animal"},
    ]
    text = (target / "annotations" / "instances_train.json").read_text()
    assert '"bbox":[1,2.5,3,4]' in text
    assert train["annotations"][0]["area"] == 12
    rest = json.loads((target / "annotations" / "instances.json").read_text())
    assert rest["images"] == [{"id": 1, "file_name": "d.jpg", "tags": ["night"], "group": "g", "license": 3}]
    assert (rest["annotations"][0]["caption"], rest["annotations"][0]["attributes"]) == ("c", {"k": 1})
    assert (rest["info"], rest["licenses"], rest["type"]) == ({"year": 1}, [{"id": 3}], "t")
    assert (target / "images" / "train" / "a.jpg").samefile(file)
    assert [(loss.what, loss.count) for loss in losses.losses] == [("image files", 3), ("ids", 1), ("ids", 1)]
    assert losses.carried_counts == {"images": 4, "annotations": 3, "classes": 3}
    assert [row["location"] for row in Read(target).images] == ["d.jpg", "train/a.jpg", "b.jpg", "c.jpg"]


def test_write_what_coco_cannot_say(tmp_path: Path) -> None:
    annotations: Rows = [
        {"image": "a.jpg", "label": "cat", "type": "polyline", "polygons": [[0.0, 0.0, 5.0, 5.0]], "bbox": [0.0] * 4},
        {
            "image": "a.jpg",
            "label": "cat",
            "type": "rotated_box",
            "rotated_box": [10.0, 10.0, 8.0, 4.0, 90.0],
            "bbox": [8.0, 6.0, 4.0, 8.0],
        },
        {"image": "a.jpg", "label": "cat", "bbox": [float("nan"), 1.0, 2.0, 3.0]},
        {
            "image": "a.jpg",
            "label": "cat",
            "type": "mask",
            "rle": "zzz",
            "rle_size": [4, 4],
            "bbox": [0.0, 0.0, 1.0, 1.0],
        },
        {"image": "a.jpg", "bbox": [0.0, 0.0, 1.0, 1.0], "probabilities": [1.0]},
    ]
    losses = LossReport()
    FORMAT.write(export([{"location": "a.jpg"}], annotations, [ClassInfo("cat")]), tmp_path, WriteOptions(), losses)
    content = json.loads((tmp_path / "annotations" / "instances.json").read_text())
    corners = np.array(content["annotations"][0]["segmentation"][0]).reshape(4, 2)
    assert np.allclose(corners, [[12, 6], [12, 14], [8, 14], [8, 6]])
    assert content["annotations"][0]["area"] == pytest.approx(32)
    assert content["annotations"][1]["category_id"] is None
    assert losses.carried_counts["annotations"] == 2
    assert {loss.reason: (loss.outcome, loss.count) for loss in losses.losses} == {
        "COCO has no open lines": ("dropped", 1),
        "bbox is not finite": ("dropped", 1),
        "run lengths do not fill the mask's size": ("dropped", 1),
        "COCO has no place for them": ("dropped", 1),
        "rotated box written as a polygon": ("converted", 1),
        "no label: category_id is null": ("converted", 1),
    }
    with pytest.raises(UsageError, match="no variant"):
        FORMAT.write(export([{"location": "a.jpg"}], [], []), tmp_path, WriteOptions(variant="x"), losses)


def test_a_category_that_is_not_there_is_written_as_reported(tmp_path: Path) -> None:
    read = Read(save(tmp_path / "in" / "x.json", coco([box(1), box(2, category_id=99)])))
    losses = LossReport()
    target = tmp_path / "out"
    target.mkdir()
    written = Export(read.records.images, read.table, read.classes, read.records.info)
    FORMAT.write(written, target, WriteOptions(), losses)
    annotation = json.loads((target / "annotations" / "instances.json").read_text())["annotations"][1]
    assert (annotation["category_id"], annotation["attributes"]) == (None, {"category_id": 99})
    assert {loss.reason: loss.count for loss in losses.losses} == {"no label: category_id is null": 1}
    assert Read(target).annotations[1]["attributes"] == read.annotations[1]["attributes"]


def test_write_nothing(tmp_path: Path) -> None:
    FORMAT.write(export([], [], [ClassInfo("cat", 4)]), tmp_path, WriteOptions(), LossReport())
    content = json.loads((tmp_path / "annotations" / "instances.json").read_text())
    assert (content["images"], content["annotations"], content["categories"]) == ([], [], [{"id": 4, "name": "cat"}])
    assert Read(tmp_path).classes == [ClassInfo("cat", 4)]


def mask_of(content: COCO, identity: int) -> npt.NDArray[np.uint8]:
    annotation = content.anns[identity]
    if not annotation.get("segmentation"):
        return np.zeros((0, 0), np.uint8)
    encoded = content.annToRLE(annotation)
    counts = encoded["counts"]
    return decode_rle(counts if isinstance(counts, str) else counts.decode(), encoded["size"])


def test_written_files_load_in_pycocotools(tmp_path: Path, shared_data: Path) -> None:
    read = Read(shared_data / "formats" / "same_images_ten_formats" / "coco1.0")
    FORMAT.write(
        Export(read.records.images, read.table, read.classes, read.records.info), tmp_path, WriteOptions(), LossReport()
    )
    original = (
        shared_data / "formats" / "same_images_ten_formats" / "coco1.0" / "annotations" / "instances_default.json"
    )
    ours, theirs = COCO(tmp_path / "annotations" / "instances.json"), COCO(original)
    assert ours.cats == theirs.cats
    assert ours.imgs == theirs.imgs
    for identity, annotation in theirs.anns.items():
        for key in ("image_id", "category_id", "area", "iscrowd", "attributes", "bbox"):
            assert ours.anns[identity].get(key) == annotation[key] or (key == "bbox" and annotation[key] == [])
        assert np.array_equal(mask_of(ours, identity), mask_of(theirs, identity))
    assert ours.dataset["info"] == theirs.dataset["info"]


def test_results_variant(tmp_path: Path) -> None:
    ground_truth = Read(save(tmp_path / "gt.json", coco([box()])))
    results = [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3.5, 4], "score": 0.25}]
    options = ReadOptions(
        layer="predictions/net", known_images=ground_truth.records.images, known_classes=ground_truth.classes
    )
    read = Read(save(tmp_path / "results.json", results), options)
    target = tmp_path / "out"
    target.mkdir()
    FORMAT.write(
        Export(ground_truth.records.images, read.table, ground_truth.classes, {}),
        target,
        WriteOptions(variant="results"),
        LossReport(),
    )
    assert json.loads((target / "results.json").read_text()) == results


def test_results_variant_reports_what_results_cannot_say(tmp_path: Path) -> None:
    annotations = [box(area=9, iscrowd=1, attributes={"blur": 1}), box(2, iscrowd=0)]
    found = Read(save(tmp_path / "gt.json", coco(annotations)))
    losses = LossReport()
    export = Export(found.records.images, found.table, found.classes, {})
    (tmp_path / "out").mkdir()
    FORMAT.write(export, tmp_path / "out", WriteOptions(variant="results"), losses)
    assert {(loss.outcome, loss.what): loss.count for loss in losses.losses} == {
        ("dropped", "attributes"): 1,
        ("dropped", "areas"): 1,
        ("dropped", "crowd flags"): 1,
        ("dropped", "annotation ids"): 2,
        ("converted", "annotations"): 2,
    }


def test_pieces_make_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80} for number in range(1, 6)]
    annotations = [box(number, image_id=1 + number * 3 % 5, area=number) for number in range(1, 40)]
    for split, own in (("train", images[:3]), ("val", images[3:])):
        ids = {image["id"] for image in own}
        content = coco([row for row in annotations if row["image_id"] in ids], own)
        save(tmp_path / "in" / "annotations" / f"instances_{split}.json", content)
    found = Read(tmp_path / "in")
    export = Export(found.records.images, found.table, found.classes, {})
    texts = []
    for rows in (7, 20_000):
        monkeypatch.setattr(import_module("curate.formats.coco.write"), "PIECE_ROWS", rows)
        target = tmp_path / f"out{rows}"
        target.mkdir()
        FORMAT.write(export, target, WriteOptions(), LossReport())
        texts.append([path.read_text() for path in sorted(target.rglob("*.json"))])
    assert texts[0] == texts[1]
    written = [row for text in texts[0] for row in json.loads(text)["annotations"]]
    assert sorted((row["id"], row["image_id"], row["area"]) for row in written) == [
        (row["id"], row["image_id"], row["area"]) for row in annotations
    ]


# ------------------------------------------------------------------------------------------------ round trip

LABELS = ["cat", "dog", "Größe 5"]
numbers = st.floats(-50, 500).map(lambda value: round(value, 3))
positive = st.floats(0.5, 400).map(lambda value: round(value, 3))
json_values = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.lists(st.integers(0, 9), max_size=2)
)
attributes = st.dictionaries(st.text("abcxyz .", min_size=1, max_size=5), json_values, max_size=3)
polygons = st.lists(
    st.lists(numbers, min_size=6, max_size=12).filter(lambda part: len(part) % 2 == 0), min_size=1, max_size=3
)


@st.composite
def masks(draw: st.DrawFn) -> dict[str, Any]:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits, dtype=np.uint8).reshape(height, width)
    return {"type": "mask", "rle": encode_rle(mask), "rle_size": [height, width]}


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Rows, Rows]:
    """Images and annotations as rows that name the columns that are not null, ids unique within a split."""
    names = draw(st.lists(st.text("ab/é", min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    locations = list(dict.fromkeys(f"{name.strip('/').replace('//', '/')}.jpg" for name in names))
    locations = [location for location in locations if "//" not in location and not location.startswith(".")]
    image_numbers = draw(st.permutations(range(len(locations))))
    images: Rows = [
        {
            "location": location,
            "split": draw(
                st.sampled_from([None, "train", "val", "night", "dusk_test", "valid", "all", "v1.2", "a/b", "a_b"])
            ),
            "source_id": str(number),
            "width": draw(st.none() | st.integers(1, 5000)),
            "metadata": draw(st.none() | st.just('{"license":1,"x":[null,{"a":"b"}]}')),
        }
        for location, number in zip(locations, image_numbers, strict=True)
    ]
    rows: Rows = []
    for number in draw(st.lists(st.integers(0, 10**15), max_size=12, unique=True)) if images else []:
        shape = draw(
            st.sampled_from([{"type": "box"}])
            | polygons.map(lambda parts: {"type": "polygon", "polygons": parts})
            | masks()
            | st.lists(numbers, min_size=4, max_size=4).map(
                lambda v: {"type": "keypoints", "keypoints": [v[0], v[1], 2.0, v[2], v[3], 1.0]}
            )
        )
        more = draw(attributes)
        rows.append(
            {
                "image": draw(st.sampled_from(images))["location"],
                "label": draw(st.sampled_from(LABELS)),
                "bbox": [draw(numbers), draw(numbers), draw(positive), draw(positive)],
                "area": draw(positive),
                "iscrowd": draw(st.booleans()),
                "attributes": json.dumps(more, separators=(",", ":"), ensure_ascii=False) if more else None,
                "source_id": str(number),
                **shape,
            }
        )
        if draw(st.integers(0, 5)) == 0:
            for key in ("bbox", "area", "iscrowd", "polygons", "rle", "rle_size", "keypoints"):
                rows[-1].pop(key, None)
            rows[-1]["type"] = "label"
    return images, rows


@settings(deadline=None, max_examples=60)
@given(datasets())
def test_round_trip(dataset: tuple[Rows, Rows]) -> None:
    images, annotations = dataset
    classes = [ClassInfo("cat", 0), ClassInfo("dog", 90, "animal", ("nose",), ((1, 1),)), ClassInfo("Größe 5", 7)]
    info = {"info": {"year": 2026}, "licenses": [{"id": 1}]}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        losses = LossReport()
        written = export(images, annotations, classes, info)
        FORMAT.write(written, target, WriteOptions(), losses)
        assert losses.losses == []
        read = Read(target) if images else None
        if read is None:
            return
        assert read.reasons == {}
        assert read.classes == classes
        assert read.records.info == info
        columns = ["image_id", "location", "width", "height", "split", "metadata", "source_id"]
        assert _by(read.records.images, columns, "image_id") == _by(written.images, columns, "image_id")
        columns = [name for name in ANNOTATIONS.names if name not in {"annotation_id", "source", "attributes"}]
        assert _by(read.table, columns, "source_id") == _by(written.annotations, columns, "source_id")
        decoded = [
            {row["source_id"]: json.loads(row["attributes"] or "null") for row in table.to_pylist()}
            for table in (read.table, written.annotations)
        ]
        assert decoded[0] == decoded[1]
        # Writing what was read gives the same bytes, and reading it again the same ids.
        again = target / "again"
        again.mkdir()
        FORMAT.write(
            Export(read.records.images, read.table, read.classes, read.records.info), again, WriteOptions(), losses
        )
        for path in (target / "annotations").iterdir():
            assert (again / "annotations" / path.name).read_bytes() == path.read_bytes()
        assert Read(again).table["annotation_id"].equals(read.table["annotation_id"])


def _by(table: pa.Table, columns: list[str], key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in table.select(columns).to_pylist()}


def test_ids_of_64_bits_are_written_and_others_told_why(tmp_path: Path) -> None:
    ids = [str(2**60), "-3", str(2**63), "x", "-3", None]
    rows: Rows = [{"image": "a.jpg", "bbox": [1.0, 2, 3, 4], "label": "cat", "source_id": each} for each in ids]
    losses = LossReport()
    FORMAT.write(export([{"location": "a.jpg"}], rows, [ClassInfo("cat")]), tmp_path, WriteOptions(), losses)
    content = json.loads((tmp_path / "annotations/instances.json").read_text())
    assert [each["id"] for each in content["annotations"]] == [2**60, -3, 1, 2, 3, 4]
    assert {loss.reason: loss.count for loss in losses.losses if loss.what == "ids"} == {
        "annotation id is another's too; a new one was given": 1,
        "annotation id does not fit into 64 bits; a new one was given": 1,
        "annotation id is not a whole number; a new one was given": 1,
    }


def test_large_boxes_are_kept_and_masks_too_large_are_told(tmp_path: Path) -> None:
    mask = {"counts": [10**12], "size": [10**6, 10**6]}
    rows = [box(1, bbox=[1e308] * 4, area=math.nan), {**box(2, segmentation=mask), "bbox": None}]
    found, losses = FORMAT, LossReport()
    records = found.read(save(tmp_path / "a.json", coco(rows)), ReadOptions(), losses)
    table = pa.concat_tables(records.annotations)
    assert table["bbox"].to_pylist() == [[1e308] * 4]
    assert "a mask of 2^32 pixels or more" in {loss.reason for loss in losses.losses}
