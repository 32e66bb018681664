"""What an import from a folder leaves there unread: it is told, and is an error with --strict where labels are left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from format_cases import write_image
from import_cases import load, save
from typer.testing import CliRunner

from curate.cli import app
from curate.dataset import open_dataset
from curate.errors import FormatError

XML = (
    "<annotation><filename>b.jpg</filename><size><width>20</width><height>20</height><depth>3</depth></size><object>"
    "<name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
)


def coco(*names: str) -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": name, "width": 20, "height": 20} for n, name in enumerate(names, 1)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 3, 3]} for n in range(1, len(names) + 1)
        ],
    }


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder with a COCO file for a.jpg, a VOC file for b.jpg and a YOLO file for c.jpg."""
    folder = tmp_path / "three"
    for name in "abc":
        write_image(folder / f"{name}.jpg", (20, 20))
    save(folder / "coco.json", coco("a.jpg"))
    (folder / "b.xml").write_text(XML)
    (folder / "c.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return folder


def told(folder: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {each.what: (each.count, each.places) for each in load(folder).unread}


LEFT = {
    "annotation files of the format voc": (1, ("b.xml",)),
    "label files named as images": (1, ("c.txt",)),
    "images that nothing read refers to": (2, ("b.jpg", "c.jpg")),
}


@pytest.mark.parametrize("packed", [False, True])
def test_other_formats_and_their_images(three: Path, packed: bool) -> None:
    source = Path(shutil.make_archive(str(three), "zip", three)) if packed else three
    assert told(source) == LEFT


def test_it_is_printed_and_in_json(three: Path) -> None:
    shown = CliRunner().invoke(app, ["import", str(three), "-d", "parts"]).stdout
    assert "nothing was lost or changed" not in shown
    assert "not read: 2 images that nothing read refers to\n    at b.jpg, c.jpg\n" in shown
    assert "not read: 1 annotation file of the format voc\n    at b.xml\n" in shown
    printed = json.loads(CliRunner().invoke(app, ["import", str(three), "-d", "parts", "--json"]).stdout)
    assert {each["what"]: (each["count"], tuple(each["places"])) for each in printed["unread"]} == LEFT
    assert printed["losses"] == []


def test_strict_wants_images_with_labels_of_their_own(three: Path) -> None:
    with pytest.raises(FormatError, match="2 images with label files of another format would stay behind"):
        load(three, strict=True)
    (three / "b.xml").unlink()
    (three / "c.txt").unlink()
    assert [each.what for each in load(three, strict=True).unread] == ["images that nothing read refers to"]
    assert open_dataset("parts").count("images") == 1


def test_a_whole_folder_leaves_nothing(three: Path) -> None:
    (three / "b.xml").unlink()
    (three / "c.txt").unlink()
    save(three / "coco.json", coco("a.jpg", "b.jpg", "c.jpg"))
    shutil.copy(three / "coco.json", three / "copy.json")
    write_image(three / "masks" / "a.png", (20, 20))
    write_image(three / "masks" / "b_depth.png", (20, 20))
    (three / "classes.txt").write_text("cat\n")
    result = load(three, strict=True)
    assert result.unread == []
    assert result.losses.losses == []


def test_a_single_file_and_a_list_of_predictions_say_nothing(three: Path) -> None:
    assert load(three / "coco.json").unread == []


def test_many_are_counted_with_the_first_places(three: Path) -> None:
    for number in range(9):
        write_image(three / "more" / f"{number}.jpg", (20, 20))
    count, places = told(three)["images that nothing read refers to"]
    assert count == 11
    assert places == ("b.jpg", "c.jpg", "more/0.jpg", "more/1.jpg", "more/2.jpg")


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("detection/raccoon", {"annotation files of the format csv": 3}),
        ("detection/roboflow_wagon", {}),
        ("formats/datumaro/cityscapes_dataset", {}),
        ("formats/datumaro/mvtec_dataset", {}),
        ("formats/datumaro/kitti_dataset/kitti_detection", {}),
        ("formats/same_images_ten_formats/voc1.1", {}),
        ("formats/same_images_ten_formats/yolo1.1", {}),
    ],
)
def test_real_folders(shared_data: Path, folder: str, expected: dict[str, int]) -> None:
    assert {each.what: each.count for each in load(shared_data / folder).unread} == expected


def reasons(folder: Path) -> dict[str, list[str]]:
    return {loss.reason: loss.places for loss in load(folder).losses.losses}


def test_names_that_differ_in_case_are_found(tmp_path: Path) -> None:
    write_image(tmp_path / "img.jpg", (20, 20))
    save(tmp_path / "coco.json", coco("IMG.JPG"))
    assert reasons(tmp_path) == {
        "upper and lower case differ from the file's name; the file is taken": ["coco.json: IMG.JPG, img.jpg"]
    }
    (row,) = open_dataset("parts").table("images").to_pylist()
    assert (row["location"], row["path"]) == ("img.jpg", str(tmp_path / "img.jpg"))


def test_two_names_that_differ_in_case_stay_two_images(tmp_path: Path) -> None:
    write_image(tmp_path / "img.jpg", (20, 20))
    save(tmp_path / "coco.json", coco("IMG.JPG", "img.jpg"))
    load(tmp_path)
    rows = open_dataset("parts").table("images").to_pylist()
    assert {row["location"]: row["path"] is None for row in rows} == {"IMG.JPG": True, "img.jpg": False}


def test_a_name_in_several_folders_is_said(tmp_path: Path) -> None:
    for folder in "xy":
        write_image(tmp_path / folder / "img.jpg", (20, 20))
    save(tmp_path / "coco.json", coco("img.jpg"))
    assert reasons(tmp_path)["several folders have a file of this name; none is taken"] == ["coco.json: img.jpg"]


def test_images_too_large_to_decode_are_reported(tmp_path: Path) -> None:
    content = coco("a.jpg")
    content["images"][0] |= {"width": 200_000, "height": 200_000}
    save(tmp_path / "coco.json", content)
    (reason,) = (each for each in reasons(tmp_path) if "pixels" in each)
    assert reason.startswith("more pixels than the limit of 500,000,000")
