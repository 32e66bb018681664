"""LabelMe's XML of MIT: real files, both layouts, masks, deleted objects, attributes, and broken files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from format_cases import by_location, read, reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import CurateError, FormatError
from curate.formats.detect import detect_format
from curate.formats.labelme_xml import FORMAT
from curate.geometry import decode_rle

TRIANGLE = "<polygon><username>me</username>" + "".join(
    f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 2), (30, 4), (5, 40))
)


def thing(inner: str = TRIANGLE + "</polygon>", name: str = "x", **tags: str) -> str:
    return (
        f"<object><name>{name}</name>{''.join(f'<{tag}>{text}</{tag}>' for tag, text in tags.items())}{inner}</object>"
    )


def polygon(*points: tuple[float, float]) -> str:
    return f"<polygon>{''.join(f'<pt><x>{x}</x><y>{y}</y></pt>' for x, y in points)}</polygon>"


def segm(box: str = "<xmin>10</xmin><ymin>20</ymin><xmax>12</xmax><ymax>21</ymax>") -> str:
    return f"<segm><mask>a_mask_0.png</mask><box>{box}</box></segm>"


def dataset(root: Path, *things: str, image: str = "a.png", xml: str = "a.xml", filename: str = "a.png") -> Path:
    """A folder with one image of 100 x 50 pixels and its file."""
    write_image(root / image, (100, 50))
    (root / xml).parent.mkdir(parents=True, exist_ok=True)
    size = "<imagesize><nrows>50</nrows><ncols>100</ncols></imagesize>"
    text = f"<annotation><filename>\n{filename}\n</filename><folder>f</folder>{size}{''.join(things)}</annotation>"
    (root / xml).write_text(text, encoding="utf-8")
    return root


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize("folder", ["same_images_ten_formats/labelme3.0", "datumaro/labelme_dataset"])
def test_real_files_hold_what_is_read(shared_data: Path, folder: str) -> None:
    source = shared_data / "formats" / folder
    trees = {path.relative_to(source).as_posix(): ElementTree.parse(path) for path in source.rglob("*.xml")}
    counts = {name: len(tree.findall("object")) for name, tree in trees.items()}
    records, table, losses = read(FORMAT, source)
    assert Counter(table["source"].to_pylist()) == Counter(counts)
    assert Counter(table["label"].to_pylist()) == Counter(
        each.findtext("name") for tree in trees.values() for each in tree.findall("object")
    )
    assert table["type"].to_pylist().count("mask") == sum(len(tree.findall("object/segm")) for tree in trees.values())
    assert losses.losses == []
    assert None not in records.images["path"].to_pylist()
    assert records.images.num_rows == len(trees)
    assert detect_format(source)[0].name == "labelme_xml"


def test_the_objects_of_the_four_images(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/same_images_ten_formats/labelme3.0")
    counts = {name: len(rows) for name, rows in by_location(records, table).items()}
    assert counts == {"birds.jpg": 2, "crack.jpeg": 0, "shapes.jpg": 4, "strawberry.jpg": 17}
    triangle, rectangle, circle, ellipse = by_location(records, table)["shapes.jpg"]
    assert triangle["polygons"] == [[426.87, 30.53, 322.25, 201.59, 548.29, 198.54]]
    assert rectangle["bbox"] == pytest.approx([45.8, 45.8, 184.81, 140.52])
    assert [decode_rle(each["rle"], each["rle_size"]).sum() for each in (circle, ellipse)] == [21359, 26287]
    assert (circle["bbox"], ellipse["bbox"]) == ([366, 233, 165, 165], [41, 262, 219, 153])


def test_attributes_and_ids_of_a_real_file(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/datumaro/labelme_dataset")
    assert records.images.select(["location", "width", "height"]).to_pylist() == [
        {"location": "Images/subset1/img1.png", "width": 102, "height": 77}
    ]
    rows = {row["source_id"]: row for row in table.to_pylist()}
    assert sorted(rows) == [str(number) for number in range(7)]
    assert json.loads(rows["2"]["attributes"]) == {
        "date": "15-Nov-2019 14:38:51",
        "verified": False,
        "occluded": True,
        "has_parts": ["3", "4"],
        "attributes": "a1",
        "username": "anonymous",
    }
    assert json.loads(rows["3"]["attributes"])["part_of"] == "2"
    assert json.loads(rows["5"]["attributes"])["scribbles"] == ["img1_scribble_5.png"]
    assert (rows["4"]["type"], rows["4"]["bbox"]) == ("box", [13, 19, 10, 11])


# --------------------------------------------------------------------------------------------------------------- objects


def test_deleted_objects_are_left_out_and_reported(tmp_path: Path) -> None:
    _, table, losses = read(
        FORMAT, dataset(tmp_path, thing(deleted="1"), thing(deleted="0", verified="1", occluded="no"))
    )
    assert [(loss.outcome, loss.reason, loss.places) for loss in losses.losses] == [
        ("dropped", "marked as deleted", ["a.xml: object 1"])
    ]
    assert json.loads(table["attributes"].to_pylist()[0]) == {"verified": True, "occluded": False, "username": "me"}


def test_boxes_turned_boxes_points_and_lines(tmp_path: Path) -> None:
    corners = polygon((10, 5), (30, 5), (30, 25), (10, 25))
    _, table, losses = read(
        FORMAT,
        dataset(
            tmp_path,
            thing(corners, type="bounding_box"),
            thing(corners, type="bounding_box", attributes="rotation=30.5, color=red, far away"),
            thing(polygon((7, 8))),
            thing(polygon((7, 8), (9, 10))),
        ),
    )
    box, turned, point, line = table.to_pylist()
    assert (box["type"], box["bbox"]) == ("box", [10, 5, 20, 20])
    assert (turned["type"], turned["rotated_box"]) == ("rotated_box", [20, 15, 20, 20, 30.5])
    assert json.loads(turned["attributes"]) == {"color": "red", "attributes": "far away"}
    assert (point["keypoints"], line["polygons"], line["type"]) == ([7, 8, 2], [[7, 8, 9, 10]], "polyline")
    assert losses.losses == []


@pytest.mark.parametrize(
    ("xml", "image", "mask"),
    [
        ("a.xml", "a.png", "Masks/a_mask_0.png"),
        ("Annotations/s/a.xml", "Images/s/a.png", "Masks/s/a_mask_0.png"),
        ("set/Annotations/a.xml", "set/Images/a.png", "set/Masks/a_mask_0.png"),
    ],
)
def test_masks_of_both_layouts(tmp_path: Path, xml: str, image: str, mask: str) -> None:
    pixels = np.zeros((50, 100, 4), dtype=np.uint8)
    pixels[20:22, 10:13] = (0, 203, 255, 153)
    (tmp_path / mask).parent.mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / mask)
    records, table, losses = read(FORMAT, dataset(tmp_path, thing(segm()), xml=xml, image=image))
    assert image in records.images["location"].to_pylist()
    row = table.to_pylist()[0]
    assert (row["bbox"], row["rle_size"]) == ([10, 20, 3, 2], [50, 100])
    assert decode_rle(row["rle"], row["rle_size"]).sum() == 6
    assert losses.losses == []


def test_a_mask_that_is_not_there_leaves_its_box(tmp_path: Path) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, thing(segm()), thing(segm(box="<xmin>1</xmin>"))))
    assert table.select(["type", "bbox"]).to_pylist() == [{"type": "box", "bbox": [10, 20, 3, 2]}]
    assert [(loss.outcome, loss.count) for loss in losses.losses] == [("dropped", 1), ("converted", 1)]


def test_ids_that_are_given_twice_do_not_make_one_annotation(tmp_path: Path) -> None:
    _, table, _ = read(FORMAT, dataset(tmp_path, thing(id="1"), thing(id="1"), thing(id="2"), thing()))
    assert len(set(table["annotation_id"].to_pylist())) == 4
    assert table["source_id"].to_pylist() == ["1", "1", "2", None]


# ---------------------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    "bad",
    [
        *("<object/>", thing(""), thing("<polygon/>"), thing(polygon(("a", 1), (1, 1), (2, 2)))),  # type: ignore[arg-type]
        *(thing(polygon((float("nan"), 1), (1, 1), (2, 2))), thing("<polygon><pt><x>1</x></pt></polygon>")),
    ],
)
def test_bad_objects_are_dropped_and_the_rest_read(tmp_path: Path, bad: str) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, bad, thing()))
    assert table["type"].to_pylist() == ["polygon"]
    assert [(loss.outcome, loss.count, loss.places) for loss in losses.losses] == [("dropped", 1, ["a.xml: object 1"])]


BOMB = '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    "text", ["<annotation><object>", "", "\x00", BOMB, "<other/>", "<annotation><size/></annotation>"]
)
def test_broken_files_are_left_out_and_the_rest_read(tmp_path: Path, text: str) -> None:
    dataset(tmp_path, thing())
    (tmp_path / "bad.xml").write_text(text)
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert [(loss.what, loss.places) for loss in losses.losses] == [("annotation files", ["bad.xml"])]
    with pytest.raises(FormatError):
        read(FORMAT, tmp_path / "bad.xml")


def test_names_from_a_file_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png", (100, 50))
    write_image(tmp_path / "m.png", (100, 50))
    out = "<segm><mask>../m.png</mask><box/></segm>"
    dataset(tmp_path / "set", thing(out), filename="../b.png")
    (tmp_path / "set/a.png").unlink()
    records, table, losses = read(FORMAT, tmp_path / "set")
    assert records.images.select(["location", "path"]).to_pylist() == [{"location": "b.png", "path": None}]
    assert table.num_rows == 0
    assert reasons(losses) == {
        "without box, and the mask cannot be read: the file is not there",
        "not there; kept without a file",
    }


_TEXT = st.sampled_from(
    ["", "1", "-1", "nan", "1e999", "x", "a.png", "../../b", "yes", "bounding_box", "é", "1=2,=,a="]
)
_TAGS = st.sampled_from(
    [*("annotation", "object", "name", "id", "deleted", "polygon", "pt", "x", "y", "type", "attributes", "segm", "mask"),
     *("box", "xmin", "ymin", "xmax", "ymax", "imagesize", "nrows", "ncols", "filename", "folder", "parts", "hasparts")]
)  # fmt: skip
_TREES = st.recursive(
    st.builds(lambda tag, text: f"<{tag}>{text}</{tag}>", _TAGS, _TEXT),
    lambda inner: st.builds(lambda tag, parts: f"<{tag}>{''.join(parts)}</{tag}>", _TAGS, st.lists(inner, max_size=4)),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.lists(_TREES | st.just(thing()), max_size=4))
def test_any_tree_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, parts: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.xml").write_text(f"<annotation>{''.join(parts)}</annotation>", encoding="utf-8")
    try:
        _, table, _ = read(FORMAT, folder)
    except CurateError:
        pytest.fail("an annotation of any content has at least its image")
    assert table.num_rows >= parts.count(thing())
