"""CVAT for images and for video: real exports, every kind of shape, tracks, broken files, and round trips."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from format_cases import CLASSES, Case, box_annotations, by_location, cases, make_export, read, reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import CurateError, FormatError, UsageError
from curate.formats.base import ClassInfo, Export, ReadOptions, Records, WriteOptions
from curate.formats.cvat import FORMAT
from curate.formats.cvat.document import read_elements
from curate.formats.cvat.masks import mask_from_box, mask_to_box
from curate.formats.cvat.meta import LABELS
from curate.formats.losses import LossReport
from curate.geometry import decode_rle, encode_rle

PIXELS = 1e-5
"""What a round trip may change: corners are written with six decimals."""

IMAGE = '<image id="0" name="a.png" width="100" height="50">{}</image>'
TASK = "<meta><task><id>7</id><name>doors</name><mode>{}</mode>{}<labels>{}</labels></task></meta>"
PERSON = """
<label><name>person</name><color>#ff0011</color><type>skeleton</type><attributes></attributes>
  <svg>&lt;line data-node-from="2" data-node-to="1"&gt;&lt;/line&gt;
  &lt;circle data-node-id="1" data-label-name="head"&gt;&lt;/circle&gt;
  &lt;circle data-node-id="2" data-label-name="foot"&gt;&lt;/circle&gt;</svg></label>
<label><name>head</name><type>points</type><attributes></attributes><parent>person</parent></label>
<label><name>foot</name><type>points</type><attributes><attribute><name>shoe</name><input_type>checkbox</input_type>
  </attribute></attributes><parent>person</parent></label>"""


def export(root: Path, *parts: str, name: str = "annotations.xml") -> Path:
    """An export with one image and what the parts say."""
    write_image(root / "images/a.png", (100, 50))
    text = f"<annotations><version>1.1</version>{''.join(parts)}</annotations>"
    (root / name).write_text(text, encoding="utf-8")
    return root


def shapes(tmp_path: Path, *inner: str, meta: str = "") -> tuple[Records, list[dict[str, Any]], LossReport]:
    """What is read of an image with some shapes."""
    records, table, losses = read(FORMAT, export(tmp_path, meta, IMAGE.format("".join(inner))))
    return records, by_location(records, table)["a.png"], losses


def write_again(
    records: Records, table: pa.Table, target: Path, variant: str | None = None
) -> tuple[Records, pa.Table, LossReport]:
    """What is read of what is written of what was read; the losses are the writer's."""
    target.mkdir()
    losses = LossReport()
    FORMAT.write(
        Export(records.images, table, records.classes, records.info), target, WriteOptions("copy", variant), losses
    )
    again, rows, _ = read(FORMAT, target)
    return again, rows, losses


def attributes(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(row["attributes"] or "{}")
    return found


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("folder", "images", "types", "splits"),
    [
        (
            "datumaro/cvat_dataset/for_images/export_task",
            2,
            {"box": 1, "polyline": 1, "polygon": 1, "keypoints": 1},
            {"train"},
        ),
        (
            "datumaro/cvat_dataset/for_images/export_project",
            6,
            {"box": 3, "polyline": 3, "polygon": 3, "keypoints": 3},
            {"train", "test", "val"},
        ),
        ("datumaro/cvat_dataset/for_video", 3, {"box": 1, "keypoints": 1, "polyline": 1}, {None}),
        ("same_images_ten_formats/cvat1.1", 4, {"box": 18, "polygon": 5, "polyline": 2}, {"test"}),
    ],
)
def test_real_exports(
    shared_data: Path, folder: str, images: int, types: dict[str, int], splits: set[str | None]
) -> None:
    source = shared_data / "formats" / folder
    records, table, _ = read(FORMAT, source)
    claim = FORMAT.detect(source)
    assert claim is not None
    assert claim.confidence == 0.95
    assert records.images.num_rows == images
    assert Counter(table["type"].to_pylist()) == types
    assert set(records.images["split"].to_pylist()) == splits
    assert None not in records.images["path"].to_pylist()


def test_the_same_images(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats/same_images_ten_formats/cvat1.1")
    found = by_location(records, table)
    assert {name: len(rows) for name, rows in found.items()} == {
        "birds.jpg": 2,
        "crack.jpeg": 1,
        "shapes.jpg": 5,
        "strawberry.jpg": 17,
    }
    assert [(loss.outcome, loss.what, loss.count) for loss in losses.losses] == [("converted", "annotations", 2)]
    assert found["shapes.jpg"][2]["bbox"] == pytest.approx([45.8, 45.8, 184.81, 140.52])
    assert records.classes[0] == ClassInfo("rectangle", color="#832364")


def test_a_projects_subsets_and_attributes(shared_data: Path) -> None:
    records, table, losses = read(FORMAT, shared_data / "formats/datumaro/cvat_dataset/for_images/export_project")
    assert losses.losses == []
    first = records.images.to_pylist()[0]
    assert (first["location"], first["split"], first["source_id"]) == ("Test/img0.jpg", "test", "0")
    assert json.loads(first["metadata"]) == {"cvat": {"task_id": "39", "subset": "Test"}}
    box = by_location(records, table)["Test/img0.jpg"][0]
    assert attributes(box) == {"occluded": True, "z_order": 1, "a1": True, "a2": "v3", "a3": "0003", "a4": 2.4}


@pytest.mark.parametrize(
    ("folder", "variant"),
    [
        ("datumaro/cvat_dataset/for_images/export_project", None),
        ("datumaro/cvat_dataset/for_images/export_task", None),
        ("datumaro/cvat_dataset/for_video", "video"),
        ("same_images_ten_formats/cvat1.1", None),
    ],
)
def test_real_exports_go_round(shared_data: Path, tmp_path: Path, folder: str, variant: str | None) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats" / folder)
    again, rows, _ = write_again(records, table, tmp_path / "out", variant)
    kept = ["location", "width", "height", "split", "group", "frame", "metadata", "source_id"]
    assert again.images.select(kept).equals(records.images.select(kept))
    assert again.classes == records.classes
    assert again.info.get(LABELS) == records.info.get(LABELS)
    same = [name for name in table.column_names if name not in {"annotation_id", "source"}]
    assert rows.select(same).to_pylist() == table.select(same).to_pylist()


def test_masks_and_skeletons_as_a_server_stores_them(shared_data: Path, tmp_path: Path) -> None:
    stored = json.loads((shared_data / "formats/cvat/server/shared/assets/annotations.json").read_text())
    masks = [each for task in stored["task"].values() for each in task["shapes"] if each["type"] == "mask"]
    inner = []
    for mask in masks:
        *runs, left, top, right, bottom = map(int, mask["points"])
        inner.append(
            f'<mask label="x" occluded="0" rle="{", ".join(map(str, runs))}" left="{left}" top="{top}" '
            f'width="{right - left + 1}" height="{bottom - top + 1}" z_order="0"></mask>'
        )
    image = f'<image id="0" name="b.png" width="1000" height="700">{"".join(inner)}</image>'
    records, table, losses = read(FORMAT, export(tmp_path, image))
    rows = by_location(records, table)["b.png"]
    assert [row["type"] for row in rows] == ["mask"] * len(masks) == ["mask"] * 3
    for row, mask in zip(rows, masks, strict=True):
        *runs, left, top, right, bottom = map(int, mask["points"])
        drawn = decode_rle(row["rle"], row["rle_size"])
        expected = np.repeat(np.arange(len(runs)) % 2, runs).reshape(bottom - top + 1, right - left + 1)
        assert drawn.shape == (700, 1000)
        assert (drawn[top : bottom + 1, left : right + 1] == expected).all()
        assert drawn.sum() == expected.sum()
    assert reasons(losses) == {"not there; kept without a file"}


# ---------------------------------------------------------------------------------------------------------------- shapes


def test_a_rotated_box(tmp_path: Path) -> None:
    _, rows, losses = shapes(tmp_path, '<box label="x" xtl="10" ytl="20" xbr="30" ybr="30" rotation="90.00"/>')
    assert rows[0]["type"] == "rotated_box"
    assert rows[0]["rotated_box"] == [20, 25, 20, 10, 90]
    assert rows[0]["bbox"] == pytest.approx([15, 15, 10, 20])
    assert losses.losses == []


def test_an_ellipse_is_a_polygon_that_is_written_as_an_ellipse(tmp_path: Path) -> None:
    records, table, losses = read(
        FORMAT,
        export(tmp_path / "in", IMAGE.format('<ellipse label="x" cx="40" cy="20" rx="10" ry="5" rotation="30"/>')),
    )
    points = np.array(table["polygons"].to_pylist()[0][0]).reshape(-1, 2) - [40, 20]
    turn = np.deg2rad(30)
    along = points @ [np.cos(turn), np.sin(turn)]
    across = points @ [-np.sin(turn), np.cos(turn)]
    assert (along / 10) ** 2 + (across / 5) ** 2 == pytest.approx(1)
    assert [(loss.outcome, loss.count) for loss in losses.losses] == [("converted", 1)]
    write_again(records, table, tmp_path / "out")
    ellipse = ElementTree.parse(tmp_path / "out/annotations.xml").find("image/ellipse")
    assert ellipse is not None
    assert {name: ellipse.get(name) for name in ("cx", "cy", "rx", "ry", "rotation")} == {
        "cx": "40",
        "cy": "20",
        "rx": "10",
        "ry": "5",
        "rotation": "30",
    }


def test_an_ellipse_whose_outline_was_changed_is_a_polygon(tmp_path: Path) -> None:
    records, table, _ = read(
        FORMAT, export(tmp_path / "in", IMAGE.format('<ellipse label="x" cx="40" cy="20" rx="10" ry="5"/>'))
    )
    moved = pa.array([[[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]], table.schema.field("polygons").type)
    table = table.set_column(table.schema.get_field_index("polygons"), "polygons", moved)
    _, rows, _ = write_again(records, table, tmp_path / "out")
    assert rows["polygons"].to_pylist() == [[[1, 1, 9, 1, 9, 9]]]


def test_a_cuboid_is_the_outline_of_its_corners(tmp_path: Path) -> None:
    front = {"xtl1": 10, "ytl1": 10, "xbl1": 10, "ybl1": 20, "xtr1": 20, "ytr1": 10, "xbr1": 20, "ybr1": 20}
    back = {"xtl2": 25, "ytl2": 5, "xbl2": 25, "ybl2": 15, "xtr2": 15, "ytr2": 5, "xbr2": 15, "ybr2": 15}
    corners = " ".join(f'{name}="{value}"' for name, value in {**front, **back}.items())
    records, table, losses = read(FORMAT, export(tmp_path / "in", IMAGE.format(f'<cuboid label="x" {corners}/>')))
    assert table["polygons"].to_pylist() == [[[10, 10, 15, 5, 25, 5, 25, 15, 20, 20, 10, 20]]]
    assert len(losses.losses) == 1
    write_again(records, table, tmp_path / "out")
    cuboid = ElementTree.parse(tmp_path / "out/annotations.xml").find("image/cuboid")
    assert cuboid is not None
    assert {name: cuboid.get(name) for name in front | back} == {name: str(v) for name, v in (front | back).items()}


def test_points_and_tags(tmp_path: Path) -> None:
    _, rows, losses = shapes(tmp_path, '<points label="x" points="1,2;3,4.5"/>', '<tag label="y" source="manual"/>')
    assert [(row["type"], row["keypoints"], row["bbox"]) for row in rows] == [
        ("keypoints", [1, 2, 2, 3, 4.5, 2], [1, 2, 2, 2.5]),
        ("label", None, None),
    ]
    assert losses.losses == []


def test_a_skeletons_points_are_in_their_declared_order(tmp_path: Path) -> None:
    skeleton = (
        '<skeleton label="person" source="manual" z_order="3">'
        '<points label="foot" source="manual" outside="0" occluded="1" points="5,6">'
        '<attribute name="shoe">true</attribute></points>'
        '<points label="head" source="manual" outside="1" occluded="0" points="1,2"></points></skeleton>'
    )
    meta = TASK.format("annotation", "", PERSON)
    records, table, losses = read(FORMAT, export(tmp_path / "in", meta, IMAGE.format(skeleton)))
    assert records.classes == [
        ClassInfo("person", keypoints=("head", "foot"), skeleton=((2, 1),), color="#ff0011"),
    ]
    row = table.to_pylist()[0]
    assert (row["type"], row["keypoints"], row["bbox"]) == ("keypoints", [0, 0, 0, 5, 6, 1], [5, 6, 0, 0])
    assert attributes(row) == {
        "source": "manual",
        "z_order": 3,
        "elements": {"head": {"outside": [1, 2]}, "foot": {"shoe": True}},
    }
    assert losses.losses == []
    again, rows, losses = write_again(records, table, tmp_path / "out")
    assert again.classes == records.classes
    assert again.info[LABELS] == records.info[LABELS]
    assert rows.select(["keypoints", "attributes"]).to_pylist() == table.select(["keypoints", "attributes"]).to_pylist()
    assert losses.losses == []


def test_a_skeleton_that_nobody_declared_is_as_its_first_example(tmp_path: Path) -> None:
    point = '<points label="{}" outside="0" occluded="0" points="{}"/>'
    records, rows, losses = shapes(
        tmp_path,
        f'<skeleton label="p">{point.format("a", "1,1")}{point.format("b", "2,2")}</skeleton>',
        f'<skeleton label="p">{point.format("c", "3,3")}{point.format("b", "4,4")}{point.format("b", "5,5")}</skeleton>',
        '<skeleton label="empty"></skeleton>',
    )
    assert records.classes == [ClassInfo("p", keypoints=("a", "b"))]
    assert [row["keypoints"] for row in rows] == [[1, 1, 2, 2, 2, 2], [0, 0, 0, 4, 4, 2]]
    assert reasons(losses) == {
        "a point that its skeleton does not have",
        "a point given twice",
        "a skeleton without points",
    }


def test_an_attribute_with_a_name_of_cvats_own(tmp_path: Path) -> None:
    inner = '<box label="x" occluded="1" xtl="1" ytl="1" xbr="9" ybr="9"><attribute name="occluded">partly</attribute></box>'
    records, table, _ = read(FORMAT, export(tmp_path / "in", IMAGE.format(inner)))
    expected = [{"occluded": True, "cvat_attributes": {"occluded": "partly"}}]
    assert [attributes(row) for row in table.to_pylist()] == expected
    _, rows, _ = write_again(records, table, tmp_path / "out")
    assert [attributes(row) for row in rows.to_pylist()] == expected


def test_what_cannot_be_read_of_an_image_is_reported_and_the_rest_kept(tmp_path: Path) -> None:
    _, rows, losses = shapes(
        tmp_path,
        '<box label="x" xtl="1" ytl="1" xbr="9"/>',
        '<box label="x" xtl="nan" ytl="1" xbr="9" ybr="9"/>',
        '<box label="x" xtl="-5" ytl="1" xbr="-9" ybr="9"/>',
        '<ellipse label="x" cx="1e308" cy="0" rx="1e308" ry="inf"/>',
        '<polygon label="x" points="1,2;3,4"/>',
        '<polygon label="x" points="1,2;3"/>',
        '<mask label="x" rle="1, 2" left="0" top="0" width="2" height="2"/>',
        '<mask label="x" rle="99999999999999999999" left="0" top="0" width="2" height="2"/>',
        '<mask label="x" rle="0, 4" left="400" top="0" width="2" height="2"/>',
        '<hexagon label="x"/>',
    )
    assert [row["bbox"] for row in rows] == [[-5, 1, -4, 8]]
    assert sum(loss.count for loss in losses.losses) == 9
    assert reasons(losses) == {
        "coordinates that are missing or not numbers",
        "coordinates that are not finite numbers",
        "an outline of too few points",
        "run lengths do not fill the mask's box",
        "a mask or image of too many pixels",
        "a mask that lies outside its image",
        "<hexagon> is not a shape that is known",
    }


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_masks_go_round(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits, dtype=np.uint8).reshape(height, width)
    found = mask_to_box(encode_rle(mask), [height, width])
    if not mask.any():
        assert found is None
        return
    assert found is not None
    runs, box = found
    assert sum(runs) == box[2] * box[3]
    assert mask_from_box(np.array(runs), box, (width, height)) == (encode_rle(mask), [height, width])


def test_a_mask_that_reaches_out_of_its_image_is_cut() -> None:
    found = mask_from_box(np.array([0, 9]), [-1, 3, 3, 3], (4, 5))
    assert not isinstance(found, str)
    expected = np.zeros((5, 4), dtype=np.uint8)
    expected[3:, :2] = 1
    assert (decode_rle(*found) == expected).all()


# ---------------------------------------------------------------------------------------------------------------- images


def test_coordinates_before_exif_are_turned(tmp_path: Path) -> None:
    # Stored 100 x 50 and turned by a quarter clockwise (6): a stored point (x, y) lies at (50 - y, x).
    image = (
        '<image id="0" name="a.jpg" width="{}" height="{}"><box label="x" xtl="10" ytl="20" xbr="30" ybr="25"/></image>'
    )
    for size, expected in (((100, 50), [25, 10, 5, 20]), ((50, 100), [10, 20, 20, 5])):
        folder = tmp_path / str(size[0])
        write_image(folder / "images/a.jpg", (100, 50), orientation=6)
        records, table, losses = read(FORMAT, export(folder, image.format(*size)))
        assert records.images.select(["width", "height"]).to_pylist() == [{"width": 50, "height": 100}]
        assert table["bbox"].to_pylist() == [expected]
        assert losses.losses == []


def test_names_with_folders_and_of_other_scripts(tmp_path: Path) -> None:
    write_image(tmp_path / "images/Straße/车 1.png", (9, 9))
    image = '<image id="3" name="Straße/车 1.png" width="9" height="9"/>'
    records, _, losses = read(FORMAT, export(tmp_path, image))
    row = records.images.to_pylist()[0]
    assert (row["location"], row["source_id"]) == ("Straße/车 1.png", "3")
    assert Path(row["path"]) == tmp_path / "images/Straße/车 1.png"
    assert losses.losses == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.png", "/etc/passwd.png", "C:\\etc\\passwd.png", "x" * 5000 + ".png"]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    records, _, losses = read(FORMAT, export(tmp_path, f'<image id="0" name="{name}" width="9" height="9"/>'))
    assert records.images["path"].to_pylist() == [None]
    assert not records.images["location"].to_pylist()[0].startswith(("/", "."))
    assert reasons(losses) == {"not there; kept without a file"}


def test_images_in_a_folder_elsewhere(tmp_path: Path) -> None:
    write_image(tmp_path / "pictures/deep/only.png", (9, 9))
    source = export(tmp_path / "in", '<image id="0" name="only.png" width="9" height="9"/>')
    records, _, losses = read(FORMAT, source, ReadOptions(images=tmp_path / "pictures"))
    assert records.images["path"].to_pylist() == [str(tmp_path / "pictures/deep/only.png")]
    assert records.images["location"].to_pylist() == ["only.png"]
    assert losses.losses == []
    with pytest.raises(UsageError, match="no such folder"):
        read(FORMAT, source, ReadOptions(images=tmp_path / "nowhere"))


def test_scores_of_predictions(tmp_path: Path) -> None:
    box = '<box label="x" xtl="1" ytl="1" xbr="9" ybr="9"><attribute name="score">0.25</attribute></box>'
    source = export(tmp_path, IMAGE.format(box))
    assert read(FORMAT, source, ReadOptions("predictions/m"))[1]["score"].to_pylist() == [0.25]
    _, table, _ = read(FORMAT, source)
    assert (table["score"].to_pylist(), attributes(table.to_pylist()[0])) == ([None], {"score": "0.25"})


def test_ids_stay_when_an_image_is_added(tmp_path: Path) -> None:
    box = '<box label="x" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    track = '<track id="4" label="x"><box frame="0" outside="0" keyframe="1" xtl="1" ytl="1" xbr="9" ybr="9"/></track>'
    before = read(FORMAT, export(tmp_path / "1", IMAGE.format(box), track))[1]
    other = '<image id="9" name="b.png" width="5" height="5"><box label="y" xtl="1" ytl="1" xbr="2" ybr="2"/></image>'
    after = read(FORMAT, export(tmp_path / "2", other, IMAGE.format(box), track))[1]
    assert len(set(after["annotation_id"].to_pylist())) == 3
    assert set(before["annotation_id"].to_pylist()) < set(after["annotation_id"].to_pylist())


# ---------------------------------------------------------------------------------------------------------------- tracks

BOX = '<box frame="{}" outside="{}" occluded="0" keyframe="{}" xtl="{}" ytl="1" xbr="9" ybr="9" z_order="0"></box>'


def test_a_track_keeps_its_id_its_keyframes_and_where_it_is_outside(tmp_path: Path) -> None:
    inner = "".join(
        BOX.format(*each) for each in ((0, 1, 1, 0), (1, 0, 1, 1), (2, 0, 0, 2), (3, 1, 1, 3), (5, 0, 1, 5))
    )
    track = f'<track id="12" label="x" source="auto" group_id="2">{inner}</track>'
    meta = TASK.format("interpolation", "<source>drive.mp4</source>", "<label><name>x</name></label>")
    records, table, losses = read(FORMAT, export(tmp_path / "in", meta, track))
    assert records.images.select(["location", "group", "frame", "source_id"]).to_pylist() == [
        {"location": f"frame_{frame:06d}", "group": "drive.mp4", "frame": frame, "source_id": str(frame)}
        for frame in (1, 2, 5)
    ]
    rows = [attributes(row) for row in table.to_pylist()]
    assert [(row["track_id"], row["keyframe"], row["source"], row["group_id"]) for row in rows] == [
        (12, True, "auto", 2),
        (12, False, "auto", 2),
        (12, True, "auto", 2),
    ]
    assert [[shape["frame"] for shape in row.get("outside", [])] for row in rows] == [["0"], ["3"], []]
    assert reasons(losses) == {"not there; kept without a file"}
    write_again(records, table, tmp_path / "out", "video")
    written = ElementTree.parse(tmp_path / "out/annotations.xml").find("track")
    expected = ElementTree.fromstring(track)
    assert written is not None
    assert written.attrib == expected.attrib
    assert [shape.attrib for shape in written] == [shape.attrib for shape in expected]


def test_a_tracks_skeleton_is_outside_if_all_its_points_are(tmp_path: Path) -> None:
    point = '<points label="{}" keyframe="1" outside="{}" occluded="0" points="1,2"></points>'
    skeletons = "".join(
        f'<skeleton frame="{frame}" keyframe="1" z_order="0">{point.format("head", head)}{point.format("foot", foot)}</skeleton>'
        for frame, head, foot in ((0, 0, 1), (1, 1, 1))
    )
    meta = TASK.format("interpolation", "", PERSON)
    track = f'<track id="0" label="person" source="manual">{skeletons}</track>'
    records, table, _ = read(FORMAT, export(tmp_path / "in", meta, track))
    assert table["keypoints"].to_pylist() == [[1, 2, 2, 0, 0, 0]]
    again, rows, losses = write_again(records, table, tmp_path / "out", "video")
    assert again.classes == records.classes
    assert rows["attributes"].to_pylist() == table["attributes"].to_pylist()
    assert reasons(losses) == {"the file is not there or cannot be copied"}


def test_odd_tracks(tmp_path: Path) -> None:
    never = f'<track id="1" label="x">{BOX.format(0, 1, 1, 1)}</track>'
    nowhere = '<track id="2" label="x"><box xtl="1" ytl="1" xbr="2" ybr="2"/><box frame="99999999999"/></track>'
    twice = f'<track id="3" label="x">{BOX.format(7, 0, 1, 1) * 2}</track>' * 2
    meta = TASK.format("interpolation", "<start_frame>0</start_frame><stop_frame>999999999</stop_frame>", "")
    records, table, losses = read(FORMAT, export(tmp_path, meta, never, nowhere, twice))
    assert (records.images.num_rows, table.num_rows) == (1, 4)
    assert len(set(table["annotation_id"].to_pylist())) == 4
    assert {(loss.reason, loss.count) for loss in losses.losses} == {
        ("outside the picture on every frame of their track", 1),
        ("without a frame's number", 2),
        ("frames of a video that have neither an annotation nor a file", 10**9 - 1),
        ("not there; kept without a file", 1),
    }


def test_shapes_of_images_become_tracks_that_end(tmp_path: Path) -> None:
    second = IMAGE.replace('id="0"', 'id="1"').replace("a.png", "b.png")
    box = '<box label="x" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    source = export(tmp_path / "in", IMAGE.format(box), second.format(box + '<tag label="y"/>'))
    records, table, _ = read(FORMAT, source)
    _, rows, losses = write_again(records, table, tmp_path / "out", "video")
    tracks = ElementTree.parse(tmp_path / "out/annotations.xml").findall("track")
    assert [[(shape.get("frame"), shape.get("outside")) for shape in track] for track in tracks] == [
        [("0", "0"), ("1", "1")],
        [("1", "0")],
    ]
    assert rows["bbox"].to_pylist() == [[1, 1, 8, 8]] * 2
    assert "labels of the whole image have no place in CVAT for video" in reasons(losses)


@pytest.mark.parametrize("place", ["beside", "--images"])
def test_annotated_frames_are_cut_out_of_the_video(shared_data: Path, tmp_path: Path, place: str) -> None:
    video = shared_data / "formats/cvat/share/videos/video_with_chapters.mp4"
    task = "<source>video_with_chapters.mp4</source><start_frame>0</start_frame><stop_frame>49</stop_frame>"
    track = (
        f'<track id="0" label="x">{BOX.format(3, 0, 1, 1)}{BOX.format(17, 0, 1, 1)}{BOX.format(60, 0, 1, 1)}</track>'
    )
    source = export(tmp_path / "in", TASK.format("interpolation", task, ""), track)
    options = ReadOptions(files=tmp_path / "files")
    if place == "beside":
        (source / video.name).symlink_to(video)
    else:
        options = ReadOptions(files=tmp_path / "files", images=video)
    records, table, losses = read(FORMAT, source, options)
    found = records.images.select(["location", "frame", "timestamp", "width"]).to_pylist()
    assert found == [
        {"location": "video_with_chapters/frame_000003.jpg", "frame": 3, "timestamp": 0.3, "width": 320},
        {"location": "video_with_chapters/frame_000017.jpg", "frame": 17, "timestamp": 1.7, "width": 320},
        {"location": "frame_000060", "frame": 60, "timestamp": None, "width": None},
    ]
    assert table.num_rows == 3
    assert {loss.what: loss.count for loss in losses.losses} == {"frames": 1, "images": 48} or {
        (loss.what, loss.reason): loss.count for loss in losses.losses
    } == {
        ("frames", "the video does not have them, or they cannot be decoded"): 1,
        ("images", "frames of a video that have neither an annotation nor a file"): 48,
        ("images", "not there; kept without a file"): 1,
    }


# ---------------------------------------------------------------------------------------------------------- broken files


def test_a_file_that_was_cut_short_gives_what_came_before(tmp_path: Path) -> None:
    box = '<box label="x" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    source = export(tmp_path, IMAGE.format(box), IMAGE.replace("a.png", "b.png").format(box))
    text = (source / "annotations.xml").read_text()
    (source / "annotations.xml").write_text(text[: text.rindex("<box")])
    records, table, losses = read(FORMAT, source)
    assert (records.images["location"].to_pylist(), table.num_rows) == (["a.png"], 1)
    assert [(loss.outcome, loss.what) for loss in losses.losses] == [("dropped", "files")]
    assert "what came before is kept" in losses.losses[0].reason
    with pytest.raises(FormatError):
        FORMAT.read(source, ReadOptions(), LossReport(strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<annotations>",
        "<annotations><version>1.1</version><image ",
        "<annotation></annotation>",
        '<!DOCTYPE a [<!ENTITY b "bb">]><annotations><version>&b;</version></annotations>',
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations><meta>&b;</meta></annotations>',
        "<annotations>" + "<a>" * 100_000,
        '<?xml version="1.0" encoding="klingon"?><annotations></annotations>',
        "\x00\x01\x02",
    ],
)
def test_what_is_no_cvat_file_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(FormatError) as error:
        read(FORMAT, path)
    assert str(path) in str(error.value)


def test_a_broken_file_among_others_is_reported(tmp_path: Path) -> None:
    source = export(tmp_path, IMAGE.format(""))
    (source / "second.xml").write_text("<annotations><version>1.1</version><")
    records, _, losses = read(FORMAT, source)
    assert records.images.num_rows == 1
    assert [(loss.what, loss.places) for loss in losses.losses] == [("files", ["second.xml"])]


def test_folders_of_other_formats_are_not_claimed(shared_data: Path) -> None:
    claimed = []
    for folder in sorted((shared_data / "formats").glob("*/*")):
        claim = FORMAT.detect(folder)
        if claim is not None:
            claimed.append(f"{folder.parent.name}/{folder.name}")
    assert claimed == ["datumaro/cvat_dataset", "same_images_ten_formats/cvat1.1"]


TEXTS = ["0", "1", "-3", "nan", "1e400", "", "x", "5,5;6,6;7,8", "a.png", "99999999999999999999", "true", "\u00e4"]
NAMES = [
    "id",
    "name",
    "label",
    "frame",
    "outside",
    "keyframe",
    "points",
    "xtl",
    "ytl",
    "xbr",
    "ybr",
    "rle",
    "left",
    "top",
]
NAMES += ["width", "height", "subset", "task_id", "rotation", "occluded", "z_order", "group_id", "cx", "cy", "rx", "ry"]
TAGS = [
    "meta",
    "task",
    "labels",
    "label",
    "attribute",
    "name",
    "parent",
    "svg",
    "image",
    "track",
    "box",
    "points",
    "mask",
]
TAGS += [
    "skeleton",
    "polygon",
    "tag",
    "ellipse",
    "cuboid",
    "id",
    "mode",
    "stop_frame",
    "start_frame",
    "source",
    "project",
]


@st.composite
def trees(draw: st.DrawFn, depth: int = 4) -> str:
    """Anything made of the words that CVAT files are made of."""
    tag = draw(st.sampled_from(TAGS))
    given_names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=8))
    said = " ".join(f'{name}="{draw(st.sampled_from(TEXTS))}"' for name in given_names)
    inner = "".join(draw(st.lists(trees(depth - 1), max_size=3))) if depth else draw(st.sampled_from(TEXTS))
    return f"<{tag} {said}>{inner}</{tag}>"


@given(st.lists(trees(), max_size=4))
@settings(deadline=None, max_examples=50)
def test_any_tree_gives_records_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    source = export(tmp_path_factory.mktemp("fuzz"), *parts)
    try:
        records, table, _ = read(FORMAT, source)
    except CurateError:
        return
    ids = table["annotation_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert set(table["image_id"].to_pylist()) <= set(records.images["image_id"].to_pylist())
    write_again(records, table, source / "out")
    write_again(records, table, source / "video", "video")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    box = '<box label="x" xtl="1" ytl="1" xbr="9" ybr="9"><attribute name="a">b</attribute></box>' * 20
    with (tmp_path / "annotations.xml").open("w") as file:
        file.write("<annotations><version>1.1</version>")
        for number in range(2000):
            file.write(f'<image id="{number}" name="{number}.png" width="9" height="9">{box}</image>')
        file.write("</annotations>")
    tracemalloc.start()
    images = sum(element.tag == "image" for element in read_elements(tmp_path / "annotations.xml"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images == 2000
    assert peak < 1_000_000  # the file has 3.6 MB; a tree of it would take more than 20


# ----------------------------------------------------------------------------------------------------------- round trips


@st.composite
def any_annotations(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    """Annotations of every kind that CVAT holds."""
    x, y = (st.floats(0, side).map(lambda value: round(value, 4)) for side in size)
    points = [value for _ in range(draw(st.integers(3, 6))) for value in (draw(x), draw(y))]
    said = {"label": draw(st.sampled_from(CLASSES)), "attributes": draw(attribute_texts())}
    kind = draw(st.sampled_from(["box", "rotated_box", "polygon", "polyline", "mask", "keypoints", "label"]))
    if kind == "box":
        return {**draw(box_annotations(size)), **said}
    if kind == "rotated_box":
        turned = [draw(x), draw(y), draw(st.floats(1, 9)), draw(st.floats(1, 9)), draw(st.floats(1, 359))]
        return {"type": kind, "rotated_box": turned, "bbox": [0.0, 0.0, 1.0, 1.0], **said}
    if kind in {"polygon", "polyline"}:
        return {"type": kind, "polygons": [points], **said}
    if kind == "mask":
        cells = draw(st.lists(st.booleans(), min_size=size[0] * size[1], max_size=size[0] * size[1]))
        mask = np.array(cells).reshape(size[1], size[0])
        mask[0, 0] = True
        return {"type": kind, "rle": encode_rle(mask), "rle_size": [size[1], size[0]], **said}
    if kind == "keypoints":
        triples = [value for i in range(0, len(points), 2) for value in (*points[i : i + 2], 2.0)]
        return {"type": kind, "keypoints": triples, **said}
    return {"type": kind, **said}


def attribute_texts() -> st.SearchStrategy[str | None]:
    """Attributes, each name with values of one kind."""
    of_name = {
        "occluded": st.booleans(),
        "z_order": st.integers(-3, 3),
        "source": st.sampled_from(["manual", "auto"]),
        "crowded": st.booleans(),
        "weight": st.floats(-9, 9) | st.integers(-9, 9),
        'mäterial "x" <y>': st.sampled_from(["steel", " ", "a\nb", "<&>\t", "", "true", "1"]),
    }
    return st.none() | st.fixed_dictionaries({}, optional=of_name).map(
        lambda values: json.dumps(values, ensure_ascii=False) if values else None
    )


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert (found["type"], found["label"]) == (expected["type"], expected["label"])
    assert attributes(found) == json.loads(expected["attributes"] or "{}")
    assert (found["rle"], found["rle_size"]) == (expected.get("rle"), expected.get("rle_size"))
    for name in ("rotated_box", "keypoints"):
        assert (found[name] is None) == (expected.get(name) is None)
        assert found[name] == pytest.approx(expected.get(name), abs=PIXELS)
    if expected["type"] == "box":
        assert found["bbox"] == pytest.approx(expected["bbox"], abs=PIXELS)
    assert [len(part) for part in found["polygons"] or ()] == [len(part) for part in expected.get("polygons") or ()]
    for part, given_part in zip(found["polygons"] or (), expected.get("polygons") or (), strict=True):
        assert part == pytest.approx(given_part, abs=PIXELS)


def small(annotation: Any) -> Any:
    """Images of at most 12 pixels a side, so that masks are drawn fast."""
    return lambda size: annotation((min(size[0], 12), min(size[1], 12)))


@given(cases(any_annotations))
@settings(deadline=None, max_examples=25)
def test_round_trip_by_images(tmp_path_factory: pytest.TempPathFactory, found: list[Case]) -> None:
    folder = tmp_path_factory.mktemp("round")
    given_export = make_export(folder / "in", found)
    (folder / "out").mkdir()
    FORMAT.write(given_export, folder / "out", WriteOptions("copy"), LossReport())
    records, table, losses = read(FORMAT, folder / "out")
    assert losses.losses == []
    assert [info.name for info in records.classes] == CLASSES
    images = records.images.to_pylist()
    assert [(row["split"], row["width"], row["height"]) for row in images] == [
        (each.split, *each.size) for each in found
    ]
    assert all(row["location"].endswith(each.location) for row, each in zip(images, found, strict=True))
    rows = by_location(records, table)
    for row, each in zip(images, found, strict=True):
        assert len(rows[row["location"]]) == len(each.annotations)
        for got, expected in zip(rows[row["location"]], each.annotations, strict=True):
            assert_same(got, expected)


@given(cases(any_annotations))
@settings(deadline=None, max_examples=30)
def test_round_trip_by_tracks(tmp_path_factory: pytest.TempPathFactory, found: list[Case]) -> None:
    folder = tmp_path_factory.mktemp("round")
    given_export = make_export(folder / "in", found)
    (folder / "out").mkdir()
    FORMAT.write(given_export, folder / "out", WriteOptions("copy", "video"), LossReport())
    records, table, losses = read(FORMAT, folder / "out")
    assert losses.losses == []
    frames = records.images["frame"].to_pylist()
    rows = list(by_location(records, table).values())
    order = sorted(range(len(found)), key=lambda number: found[number].location)
    assert sorted(frames) == list(range(len(found)))
    for frame, got in zip(frames, rows, strict=True):
        expected = [each for each in found[order[frame]].annotations if each["type"] != "label"]
        assert len(got) == len(expected)
        for row, each in zip(got, expected, strict=True):
            said = attributes(row)
            for name in ("track_id", "keyframe", "outside"):
                said.pop(name, None)
            assert_same({**row, "attributes": json.dumps(said)}, each)


def test_what_cvat_has_no_place_for_is_reported(tmp_path: Path) -> None:
    square, other = [1.0, 1.0, 5.0, 1.0, 5.0, 5.0], [7.0, 7.0, 9.0, 7.0, 9.0, 9.0]
    rows: list[dict[str, Any]] = [
        {"type": "polygon", "label": "no", "bbox": [1.0, 1.0, 8.0, 8.0], "polygons": [square, other]},
        {
            "type": "keypoints",
            "label": "no",
            "bbox": [0.0, 0, 10, 10],
            "keypoints": [1.0, 1, 1, 0, 0, 0],
            "polygons": [square],
        },
        {"type": "mask", "label": "no", "rle": encode_rle(np.zeros((10, 10))), "rle_size": [10, 10]},
        {"type": "mask", "label": "no", "rle": "99", "rle_size": [10, 10]},
        {"type": "box", "label": None, "bbox": [1.0, 1, 2, 2], "iscrowd": True, "attributes": '{"deep": {"a": [1]}}'},
    ]
    target = tmp_path / "out"
    target.mkdir()
    losses = LossReport()
    FORMAT.write(
        make_export(tmp_path / "in", [Case("a.png", (10, 10), None, rows)]), target, WriteOptions("copy"), losses
    )
    assert reasons(losses) >= {
        "parts are joined by bridges of no width",
        "points without names have no visibility in CVAT",
        "points that are not labelled, without names",
        "a shape has one geometry in CVAT; the most specific is written",
        "CVAT has the box around a shape, not one of its own",
        "a mask without a pixel",
        "run lengths do not fill the mask's size",
        "without a class, which CVAT does not take",
        "written as JSON text",
        "CVAT has no place for them",
    }
    assert read(FORMAT, target)[1].num_rows == losses.carried_counts["annotations"] == 3


def test_keypoints_with_names_are_skeletons(tmp_path: Path) -> None:
    row = {"type": "keypoints", "label": "bolt", "keypoints": [1.0, 2, 2, 0, 0, 0, 3, 4, 1], "bbox": [1.0, 2, 2, 2]}
    made = make_export(tmp_path / "in", [Case("a.png", (10, 10), None, [row])], ["bolt"])
    info = ClassInfo("bolt", keypoints=("head", '"neck"', "tip"), skeleton=((1, 2), (2, 3)), color="#123456")
    target = tmp_path / "out"
    target.mkdir()
    losses = LossReport()
    FORMAT.write(Export(made.images, made.annotations, [info], {}), target, WriteOptions("copy"), losses)
    assert losses.losses == []
    records, table, _ = read(FORMAT, target)
    assert records.classes == [info]
    assert table["keypoints"].to_pylist() == [row["keypoints"]]


def test_what_cvats_own_loader_asks_for_is_there(tmp_path: Path) -> None:
    """The keys that CVAT's importer takes without a default."""
    row = {"type": "keypoints", "label": "bolt", "keypoints": [1.0, 2, 2, 0, 0, 0], "bbox": [1.0, 2, 0, 0]}
    box = {"type": "box", "label": "no", "bbox": [1.0, 2, 3, 4]}
    made = make_export(tmp_path / "in", [Case("a.png", (10, 10), None, [row, box])], ["bolt", "no"])
    classes = [ClassInfo("bolt", keypoints=("head", "tip")), ClassInfo("no")]
    for variant in ("images", "video"):
        target = tmp_path / variant
        target.mkdir()
        FORMAT.write(
            Export(made.images, made.annotations, classes, {}), target, WriteOptions("copy", variant), LossReport()
        )
        root = ElementTree.parse(target / "annotations.xml").getroot()
        assert root.findtext("meta/task/labels/label/name") == "bolt"
        for part in root.iter("points"):
            assert {"label", "occluded", "outside", "points"} <= set(part.attrib)
            assert variant == "images" or "keyframe" in part.attrib
        boxes = [each.attrib for each in root.iter("box")]
        assert all({"xtl", "ytl", "xbr", "ybr"} <= set(each) for each in boxes)
        needed = {"label"} if variant == "images" else {"frame", "keyframe", "outside"}
        assert all(needed <= set(each) for each in boxes)
        assert variant == "images" or all({"id", "label"} <= set(each.attrib) for each in root.iter("track"))


def test_there_is_no_other_variant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no variant 'tracks'"):
        FORMAT.write(make_export(tmp_path, []), tmp_path, WriteOptions("none", "tracks"), LossReport())


def test_ids_and_areas_of_annotations_are_told(tmp_path: Path) -> None:
    row = {"type": "box", "label": CLASSES[0], "bbox": [1.0, 2.0, 3.0, 4.0], "area": 5.0, "source_id": "9"}
    export_ = make_export(tmp_path / "in", [Case("a.png", (9, 9), None, [row, {**row, "source_id": None}])])
    for variant in ("images", "video"):
        target, losses = tmp_path / variant, LossReport()
        target.mkdir()
        FORMAT.write(export_, target, WriteOptions(variant=variant), losses)
        told = {loss.what: loss.count for loss in losses.losses if loss.outcome == "dropped"}
        assert (told["annotation ids"], told["areas"]) == (1, 2)
        assert losses.carried_counts["annotations"] == 2


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["0", "7", "9999999999999"], "CVAT's are numbers of at most 9 digits"),
        (["0", "7", "x"], "not whole numbers"),
        (["0", "7", "7"], "two images have the same"),
        (["0", "7", None], "not every image has one"),
    ],
)
def test_why_images_are_numbered_anew(tmp_path: Path, ids: list[str | None], reason: str) -> None:
    export_ = make_export(tmp_path / "in", [Case(f"{name}.png", (9, 9), None, []) for name in "abc"])
    place = export_.images.schema.get_field_index("source_id")
    images = export_.images.set_column(place, "source_id", pa.array(ids, pa.string()))
    target, losses = tmp_path / "out", LossReport()
    target.mkdir()
    FORMAT.write(Export(images, export_.annotations, export_.classes, {}), target, WriteOptions(), losses)
    assert [loss.reason for loss in losses.losses if loss.what == "image ids"] == [f"{reason}; all are numbered anew"]
    assert [element.get("id") for element in read_elements(target / "annotations.xml") if element.tag == "image"] == [
        "0", "1", "2",
    ]  # fmt: skip


def test_entities_are_refused_in_words(tmp_path: Path) -> None:
    text = '<!DOCTYPE annotations [<!ENTITY a "b">]><annotations><version>1.1</version></annotations>'
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(FormatError, match=r"^\S*annotations.xml: declares XML entities, which are refused"):
        read(FORMAT, tmp_path / "annotations.xml")
