"""LabelMe's JSON: real files, every shape, groups, flags, pictures inside, broken files, and round trips."""

from __future__ import annotations

import base64
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import CLASSES, Case, boxes, by_location, cases, make_export, read, reasons, write_image, written
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.errors import CurateError, FormatError
from curate.formats.base import ClassInfo, Export, ReadOptions, WriteOptions
from curate.formats.detect import detect_format
from curate.formats.labelme import FORMAT
from curate.formats.losses import LossReport
from curate.formats.shapes import ellipse_outline
from curate.geometry import decode_rle, encode_rle, rotated_box_corners

PIXELS = 1e-6


def shape(kind: str, points: Any, label: str = "x", **others: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **others}


def dataset(root: Path, *shapes: Any, name: str = "a", **others: Any) -> Path:
    """A folder with one image of 100 x 50 pixels and its file."""
    write_image(root / f"{name}.png", (100, 50))
    tree: dict[str, Any] = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{name}.png",
        "imageData": None,
    }
    (root / f"{name}.json").write_text(json.dumps(tree | {"imageHeight": 50, "imageWidth": 100} | others))
    return root


def png(values: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.array(values, dtype=np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


# ------------------------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize("folder", ["labelme", "grapes"])
def test_real_files_hold_what_is_read(shared_data: Path, folder: str) -> None:
    source = shared_data / "formats/same_images_ten_formats" / folder
    listed = {path.name: json.loads(path.read_bytes())["shapes"] for path in source.glob("*.json")}
    records, table, losses = read(FORMAT, source)
    assert Counter(table["source"].to_pylist()) == {name: len(shapes) for name, shapes in listed.items() if shapes}
    labels = Counter(each["label"] for shapes in listed.values() for each in shapes)
    assert Counter(table["label"].to_pylist()) == labels
    assert records.images.num_rows == len(listed)
    assert None not in records.images["path"].to_pylist()
    circles = sum(each["shape_type"] == "circle" for shapes in listed.values() for each in shapes)
    assert [(loss.outcome, loss.count) for loss in losses.losses] == [("converted", circles)] * bool(circles)
    assert detect_format(source)[0].name == "labelme"


def test_the_objects_of_the_four_images(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/same_images_ten_formats/labelme")
    counts = {name: len(rows) for name, rows in by_location(records, table).items()}
    assert counts == {"birds.jpg": 2, "crack.jpeg": 1, "shapes.jpg": 5, "strawberry.jpg": 17}
    rectangle, triangle, circle, line, _ = by_location(records, table)["shapes.jpg"]
    assert rectangle["bbox"] == pytest.approx([46.985074, 45.753731, 183.582090, 141.791045])
    assert triangle["polygons"][0][:2] == [426.8358208955224, 31.574626865671647]
    assert (circle["type"], line["type"]) == ("polygon", "polyline")
    radius = math.hypot(57.462686, 57.462686)
    assert json.loads(circle["attributes"])["ellipse"] == pytest.approx(
        {"cx": 448.477612, "cy": 314.410448, "rx": radius, "ry": radius, "rotation": 0}
    )


def test_a_single_file(shared_data: Path) -> None:
    source = shared_data / "formats/same_images_ten_formats/labelme/birds.json"
    records, table, _ = read(FORMAT, source)
    assert records.images["location"].to_pylist() == ["birds.jpg"]
    assert table.num_rows == 2
    assert detect_format(source)[0].name == "labelme"


# ---------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("corners", [[[10, 5], [30, 25]], [[30, 25], [10, 5]], [[30, 5], [10, 25]]])
def test_corners_of_a_rectangle_come_in_any_order(tmp_path: Path, corners: list[list[float]]) -> None:
    assert read(FORMAT, dataset(tmp_path, shape("rectangle", corners)))[1]["bbox"].to_pylist() == [[10, 5, 20, 20]]


@pytest.mark.parametrize("kind", ["oriented_rectangle", "rotation"])
def test_rotated_boxes(tmp_path: Path, kind: str) -> None:
    corners = rotated_box_corners([[40, 20, 20, 10, 30]])[0].tolist()
    row = read(FORMAT, dataset(tmp_path, shape(kind, corners)))[1].to_pylist()[0]
    assert (row["type"], row["rotated_box"]) == ("rotated_box", pytest.approx([40, 20, 20, 10, 30]))


def test_four_corners_that_are_no_rectangle_stay_a_polygon(tmp_path: Path) -> None:
    _, table, losses = read(
        FORMAT, dataset(tmp_path, shape("oriented_rectangle", [[0, 0], [40, 0], [20, 20], [0, 20]]))
    )
    assert table["polygons"].to_pylist() == [[[0, 0, 40, 0, 20, 20, 0, 20]]]
    assert reasons(losses) == {"four corners that are not a rectangle's: kept as a polygon"}


def test_lines_and_points(tmp_path: Path) -> None:
    line, strip = shape("line", [[1, 2], [3, 4]]), shape("linestrip", [[1, 2], [3, 4], [5, 4]])
    point, points = shape("point", [[7, 8]]), shape("points", [[7, 8], [9, 10]])
    rows = read(FORMAT, dataset(tmp_path, line, strip, point, points))[1].to_pylist()
    assert [row["type"] for row in rows] == ["polyline", "polyline", "keypoints", "keypoints"]
    assert [row["polygons"] for row in rows[:2]] == [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 4]]]
    assert [row["keypoints"] for row in rows[2:]] == [[7, 8, 2], [7, 8, 2, 9, 10, 2]]


def test_a_circle_becomes_a_polygon_of_its_area(tmp_path: Path) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, shape("circle", [[50, 25], [50, 45]])))
    points = np.reshape(table["polygons"].to_pylist()[0][0], (-1, 2))
    assert np.hypot(*(points - [50, 25]).T) == pytest.approx(20, abs=0.1)
    assert [(loss.outcome, loss.count) for loss in losses.losses] == [("converted", 1)]


def test_a_mask_is_put_where_its_box_is(tmp_path: Path) -> None:
    pixels = np.array([[255, 0, 255], [0, 255, 0]])
    _, table, losses = read(FORMAT, dataset(tmp_path, shape("mask", [[10, 20], [12, 21]], mask=png(pixels))))
    row = table.to_pylist()[0]
    mask = decode_rle(row["rle"], row["rle_size"])
    assert mask.shape == (50, 100)
    assert (mask[20:22, 10:13] == (pixels > 0)).all()
    assert mask.sum() == 3
    assert (row["bbox"], losses.losses) == ([10, 20, 3, 2], [])


@pytest.mark.parametrize(
    ("corner", "kept"), [([-1, -1], 4), ([98, 48], 4), ([98, -2], 2), ([200, 10], 0), ([-9, -9], 0)]
)
def test_a_mask_is_cut_at_the_edges(tmp_path: Path, corner: list[int], kept: int) -> None:
    end = [corner[0] + 2, corner[1] + 2]
    _, table, losses = read(FORMAT, dataset(tmp_path, shape("mask", [corner, end], mask=png(np.full((3, 3), 255)))))
    row = table.to_pylist()[0]
    assert decode_rle(row["rle"], row["rle_size"]).sum() == kept
    assert reasons(losses) == {"masks are cut at the image's edges"}


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-12, 12), st.integers(-12, 12), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_masks_placed_by_columns_are_what_drawing_them_gives(w: int, h: int, left: int, top: int, seed: int) -> None:
    from curate.formats.labelme.masks import read_mask

    pixels = np.random.default_rng(seed).integers(0, 2, (h, w))
    drawn = np.zeros((40, 40), dtype=np.uint8)
    drawn[15 + top : 15 + top + h, 15 + left : 15 + left + w] = pixels
    mask = read_mask(base64.b64decode(png(pixels)), (left, top), (10, 10))
    assert mask.counts == encode_rle(drawn[15:25, 15:25])
    assert mask.cut_off == pixels.sum() - drawn[15:25, 15:25].sum()


# ------------------------------------------------------------------------------------------- groups, flags and the like


def test_polygons_of_one_label_and_group_are_one_object(tmp_path: Path) -> None:
    first, second = [[0, 0], [4, 0], [4, 4]], [[10, 10], [14, 10], [14, 14]]
    parts = [shape("polygon", each, group_id=1) for each in (first, second)]
    other = shape("polygon", first, label="y", group_id=1)
    _, table, losses = read(FORMAT, dataset(tmp_path, parts[0], other, parts[1], shape("point", [[1, 1]], group_id=2)))
    rows = table.to_pylist()
    assert [row["label"] for row in rows] == ["x", "y", "x"]
    assert [len(row["polygons"] or ()) for row in rows] == [2, 1, 0]
    # The group says more than that the parts are one where other shapes are in it.
    assert [json.loads(row["attributes"] or "{}").get("group_id") for row in rows] == [1, 1, 2]
    assert losses.losses == []


def test_a_group_that_only_joins_parts_is_no_attribute(tmp_path: Path) -> None:
    parts = [shape("polygon", [[0, 0], [4, 0], [4, n]], group_id=7) for n in (4, 5)]
    assert read(FORMAT, dataset(tmp_path, *parts))[1]["attributes"].to_pylist() == [None]


def test_parts_that_say_different_things_are_reported(tmp_path: Path) -> None:
    parts = [shape("polygon", [[0, 0], [4, 0], [4, 4]], group_id=7, description=text) for text in ("a", "b")]
    _, table, losses = read(FORMAT, dataset(tmp_path, *parts))
    assert json.loads(table["attributes"].to_pylist()[0]) == {"description": "a"}
    assert reasons(losses) == {"parts of one object differ in them: the first's are kept"}


def test_true_flags_of_an_image_are_labels_and_the_others_metadata(tmp_path: Path) -> None:
    dataset(tmp_path, flags={"cat": True, "dog": False}, otherKey=[1])
    records, table, losses = read(FORMAT, tmp_path)
    assert table.select(["type", "label"]).to_pylist() == [{"type": "label", "label": "cat"}]
    assert json.loads(records.images["metadata"].to_pylist()[0]) == {
        "labelme": {"otherKey": [1], "flags": {"dog": False}}
    }
    assert losses.losses == []


def test_flags_descriptions_and_unknown_members_of_shapes_are_attributes(tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "flags": {"occluded": True},
        "description": "hm",
        "difficult": False,
        "kie_linking": [],
        "score": None,
    }
    _, table, losses = read(FORMAT, dataset(tmp_path, shape("rectangle", [[1, 1], [2, 2]], **said)))
    assert json.loads(table["attributes"].to_pylist()[0]) == {"difficult": False, "occluded": True, "description": "hm"}
    assert losses.losses == []


def test_scores_of_predictions(tmp_path: Path) -> None:
    dataset(tmp_path, shape("rectangle", [[1, 1], [2, 2]], score=0.5))
    assert read(FORMAT, tmp_path, ReadOptions(layer="predictions/m"))[1]["score"].to_pylist() == [0.5]
    _, table, losses = read(FORMAT, tmp_path)
    assert table["score"].to_pylist() == [None]
    assert [loss.what for loss in losses.losses] == ["scores"]


def test_the_first_versions_have_no_shape_type(tmp_path: Path) -> None:
    old = {"label": "x", "points": [[0, 0], [4, 0], [4, 4]], "line_color": None, "fill_color": None}
    dataset(tmp_path, old, version="3.2.0", lineColor=[0, 255, 0, 128])
    _, table, _ = read(FORMAT, tmp_path)
    assert table.select(["type", "attributes"]).to_pylist() == [{"type": "polygon", "attributes": None}]


# ---------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(
    "path", ["..\\images\\b.png", "../images/b.png", "C:\\old\\images\\b.png", "/old/images/b.png"]
)
def test_image_paths_of_any_system(tmp_path: Path, path: str) -> None:
    dataset(tmp_path / "labels", shape("point", [[1, 1]]), imagePath=path)
    (tmp_path / "labels/a.png").unlink()
    write_image(tmp_path / "images/b.png", (100, 50))
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["images/b.png"]
    assert (table.num_rows, losses.losses) == (1, [])


def test_nothing_outside_the_folder_is_an_image(tmp_path: Path) -> None:
    write_image(tmp_path / "secret.png", (100, 50))
    dataset(tmp_path / "set", shape("point", [[1, 1]]), imagePath="../secret.png")
    (tmp_path / "set/a.png").unlink()
    records, table, losses = read(FORMAT, tmp_path / "set")
    assert records.images.select(["location", "path"]).to_pylist() == [{"location": "secret.png", "path": None}]
    assert (table.num_rows, reasons(losses)) == (1, {"not there; kept without a file"})


def test_an_image_is_not_taken_from_another_split(tmp_path: Path) -> None:
    dataset(tmp_path / "train", shape("point", [[1, 1]]))
    (tmp_path / "train/a.png").rename(tmp_path / "moved.png")
    (tmp_path / "val").mkdir()
    (tmp_path / "moved.png").rename(tmp_path / "val/a.png")
    records, table, _ = read(FORMAT, tmp_path)
    assert {name: len(rows) for name, rows in by_location(records, table).items()} == {"train/a.png": 1, "val/a.png": 0}
    assert records.images["split"].to_pylist() == ["train", "val"]


def test_an_image_inside_the_file_is_kept(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "p.png", (100, 50)).read_bytes()
    dataset(tmp_path / "set", shape("point", [[1, 1]]), imageData=base64.b64encode(picture).decode())
    (tmp_path / "set/a.png").unlink()
    records, _, losses = read(FORMAT, tmp_path / "set", ReadOptions(files=tmp_path / "files"))
    assert records.images["path"].to_pylist() == [str(tmp_path / "files/a.png")]
    assert (tmp_path / "files/a.png").read_bytes() == picture
    assert losses.losses == []


@pytest.mark.parametrize("inside", ["no image", 7, "AAAA"])
def test_what_is_inside_but_no_image_is_reported(tmp_path: Path, inside: Any) -> None:
    dataset(tmp_path / "set", imageData=inside, imagePath="b.png")
    (tmp_path / "set/a.png").unlink()
    records, _, losses = read(FORMAT, tmp_path / "set", ReadOptions(files=tmp_path / "files"))
    assert records.images["path"].to_pylist() == [None]
    assert "the image inside the annotation file cannot be read or kept" in reasons(losses)
    assert not list(tmp_path.glob("files/*"))


def test_images_without_a_file_and_the_class_list(tmp_path: Path) -> None:
    dataset(tmp_path, shape("point", [[1, 1]], label="b"))
    write_image(tmp_path / "z.png", (9, 9))
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nc\nb\n")
    records, _, _ = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["a.png", "z.png"]
    assert [info.name for info in records.classes] == ["c", "b"]


# ---------------------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    "bad",
    [
        *("x", None, [], {}, {"points": 1}, shape("heart", [[1, 1]]), shape("polygon", [[1, 1], [2, 2]])),
        *(shape("circle", [[1, 1]]), shape("circle", [[1e308, 1], [-1e308, 1]]), shape("rectangle", [[1, 1]])),
        *(shape("polygon", [[1, "1"], [2, 2], [3, 1]]), shape("polygon", [[1, float("nan")], [2, 2], [3, 1]])),
        *(shape("mask", [[1, 1], [2, 2]]), shape("mask", [[1, 1], [2, 2]], mask="AAAA"), shape(3, [[1, 1]])),  # type: ignore[arg-type]
        *(shape("point", []), shape("point", [[10**400, 1]]), shape("oriented_rectangle", [[1, 1], [2, 2]])),
    ],
)
def test_bad_shapes_are_dropped_and_the_rest_read(tmp_path: Path, bad: Any) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, bad, shape("rectangle", [[1, 1], [2, 2]])))
    assert table["type"].to_pylist() == ["box"]
    assert [(loss.outcome, loss.count, loss.places) for loss in losses.losses] == [("dropped", 1, ["a.json: shape 1"])]


@pytest.mark.parametrize("content", [b"", b'{"shapes": [', b"[]", b'{"other": 1}', b'{"shapes": 1, "imagePath": "a"}'])
def test_broken_files_are_left_out_and_the_rest_read(tmp_path: Path, content: bytes) -> None:
    dataset(tmp_path, shape("rectangle", [[1, 1], [2, 2]]))
    (tmp_path / "bad.json").write_bytes(content)
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert [(loss.what, loss.places) for loss in losses.losses] == [("annotation files", ["bad.json"])]
    with pytest.raises(FormatError):
        read(FORMAT, tmp_path / "bad.json")


def test_a_folder_without_annotations_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no LabelMe annotation"):
        read(FORMAT, tmp_path)


def test_two_files_of_one_image_are_both_kept(tmp_path: Path) -> None:
    dataset(tmp_path, shape("point", [[1, 1]]))
    (tmp_path / "b.json").write_bytes((tmp_path / "a.json").read_bytes())
    _, table, losses = read(FORMAT, tmp_path)
    assert len(set(table["annotation_id"].to_pylist())) == 2
    assert reasons(losses) == {"another file describes the same image: both are kept"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_ANY_SHAPE = st.dictionaries(
    st.sampled_from(
        ["label", "points", "shape_type", "group_id", "flags", "mask", "attributes", "score", "bbox", "id", "z"]
    ),
    _JSON
    | st.sampled_from(["polygon", "circle", "mask", "points", [[1, 2], [3, 4]], [[1, 2], [3, 4], [9, 9]], png([[1]])]),
)


_MEMBERS = ["imagePath", "imageData", "imageWidth", "imageHeight", "flags", "version", "curate", "a"]
_ANY_TREE = st.fixed_dictionaries({"shapes": st.lists(_ANY_SHAPE, max_size=4)}, optional=dict.fromkeys(_MEMBERS, _JSON))


@settings(deadline=None, max_examples=150)
@given(_ANY_TREE)
def test_any_tree_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.json").write_text(json.dumps(tree))
    try:
        read(FORMAT, folder, ReadOptions(files=folder / "files"))
    except CurateError:
        assert tree.keys().isdisjoint({"imagePath", "imageData", "imageHeight"})


# ----------------------------------------------------------------------------------------------------------- round trips


def outlines(size: tuple[int, int]) -> st.SearchStrategy[list[float]]:
    point = st.tuples(st.floats(0, size[0]), st.floats(0, size[1]))
    return st.lists(point, min_size=3, max_size=6).map(lambda points: [side for point in points for side in point])


@st.composite
def geometries(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    """One of the kinds, as columns."""
    kind = draw(st.sampled_from(["box", "rotated_box", "polygon", "circle", "polyline", "mask", "keypoints"]))
    if kind == "box":
        return {"type": kind, "bbox": draw(boxes(size))}
    if kind == "rotated_box":
        x, y, w, h = draw(boxes(size))
        return {"type": kind, "rotated_box": [x + w / 2, y + h / 2, w, h, draw(st.floats(-89, 89))]}
    if kind == "polygon":
        return {"type": kind, "polygons": draw(st.lists(outlines(size), min_size=1, max_size=3))}
    if kind == "circle":
        sides = [10.0, 10.0, radius := draw(st.floats(0.5, 9)), radius, 0.0]
        said = dict(zip(("cx", "cy", "rx", "ry", "rotation"), sides, strict=True))
        return {"type": "polygon", "polygons": [ellipse_outline(*sides)], "attributes": {"ellipse": said}}
    if kind == "polyline":
        return {"type": kind, "polygons": [draw(outlines(size))]}
    if kind == "mask":
        pixels = np.random.default_rng(draw(st.integers(0, 999))).integers(0, 2, size[::-1])
        pixels[draw(st.integers(0, size[1] - 1)), draw(st.integers(0, size[0] - 1))] = 1
        return {"type": kind, "rle": encode_rle(pixels), "rle_size": list(pixels.shape)}
    count = draw(st.integers(1, 3))
    triples = [
        [draw(st.floats(0, size[0])), draw(st.floats(0, size[1])), draw(st.sampled_from([1, 2]))] for _ in range(count)
    ]
    return {"type": kind, "keypoints": [float(side) for triple in triples for side in triple]}


@st.composite
def described(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    row = draw(geometries(size))
    names = st.sampled_from(["occluded", "group_id", "description", "color", "label"])
    said = draw(st.dictionaries(names, st.booleans() | st.integers(0, 2) | st.text(min_size=1, max_size=4)))
    attributes = row.pop("attributes", {}) | said
    iscrowd, source_id = draw(st.sampled_from([None, True])), draw(st.sampled_from([None, "7", "b"]))
    label = draw(st.sampled_from(CLASSES))
    return {**row, "label": label, "iscrowd": iscrowd, "source_id": source_id, "attributes": json.dumps(attributes)}


@settings(deadline=None, max_examples=60)
@given(cases(described))
def test_round_trip(found: list[Case]) -> None:
    with written(FORMAT, found, WriteOptions(images="copy")) as (target, losses):
        assert {loss.what for loss in losses.losses} <= {"category ids"}
        records, table, back_losses = read(FORMAT, target)
        back = by_location(records, table)
        assert {loss.outcome for loss in back_losses.losses} <= {"converted"}  # circles
        assert dict(zip(back, records.images["split"].to_pylist(), strict=True)) == {
            case.location: case.split for case in found
        }
        assert [info.name for info in records.classes] == CLASSES
        for case in found:
            assert len(back[case.location]) == len(case.annotations)
            for before, after in zip(case.annotations, back[case.location], strict=True):
                for name in ("type", "label", "rle", "rle_size", "iscrowd", "source_id"):
                    assert after[name] == before.get(name)
                for name in ("bbox", "rotated_box", "keypoints"):
                    if before.get(name) is not None:
                        assert after[name] == pytest.approx(before[name], abs=PIXELS)
                assert len(after["polygons"] or ()) == len(before.get("polygons") or ())
                for part, part_before in zip(after["polygons"] or (), before.get("polygons") or (), strict=True):
                    assert part == pytest.approx(part_before, abs=PIXELS)
                said, said_before = json.loads(after["attributes"] or "{}"), json.loads(before["attributes"])
                assert said.pop("ellipse", None) == pytest.approx(said_before.pop("ellipse", None))
                assert said == said_before


def test_what_is_known_of_images_goes_round(tmp_path: Path) -> None:
    flags = {"type": "label", "label": "cat"}
    export = make_export(tmp_path / "in", [Case("sub/a.png", (9, 9), "fold1", [flags])], ["cat", "dog"])
    said = {"tags": ["night"], "group": "g", "frame": 3, "timestamp": 0.5, "source_id": "77"}
    images = export.images
    for name, value in {**said, "metadata": '{"labelme": {"flags": {"dog": false}}, "iso": 100}'}.items():
        field = images.schema.field(name)
        images = images.set_column(images.schema.get_field_index(name), field, [[value]])
    (tmp_path / "out").mkdir()
    losses = LossReport()
    FORMAT.write(
        Export(images, export.annotations, [ClassInfo("cat"), ClassInfo("dog")], {}),
        tmp_path / "out",
        WriteOptions("copy"),
        losses,
    )
    assert losses.losses == []
    assert json.loads((tmp_path / "out/sub/a.json").read_text())["flags"] == {"dog": False, "cat": True}
    records, table, back = read(FORMAT, tmp_path / "out")
    row = records.images.to_pylist()[0]
    assert {name: row[name] for name in said} == said
    assert (row["location"], row["split"]) == ("sub/a.png", "fold1")
    assert json.loads(row["metadata"]) == {"iso": 100, "labelme": {"flags": {"dog": False}}}
    assert table.select(["type", "label"]).to_pylist() == [flags]
    assert ([info.name for info in records.classes], back.losses) == (["cat", "dog"], [])
    assert detect_format(tmp_path / "out")[0].name == "labelme"


def test_what_labelme_cannot_say_is_reported(tmp_path: Path) -> None:
    empty = {"type": "mask", "label": "no", "rle": encode_rle(np.zeros((9, 9))), "rle_size": [9, 9]}
    broken = {"type": "mask", "label": "no", "rle": "0", "rle_size": [9, 9]}
    person = {
        "type": "keypoints",
        "label": "no",
        "keypoints": [1.0, 1, 2],
        "bbox": [0.0, 0, 5, 5],
        "polygons": [[0.0, 0, 5, 0, 5, 5]],
    }
    twice = [{"type": "label", "label": "no"}] * 2
    with written(FORMAT, [Case("a.png", (9, 9), None, [empty, broken, person, *twice])], WriteOptions()) as (
        target,
        losses,
    ):
        assert {(loss.what, loss.reason): loss.count for loss in losses.losses if loss.what != "category ids"} == {
            ("annotations", "a mask without pixels"): 1,
            ("annotations", "run lengths do not fill the mask's size"): 1,
            ("annotations", "a label that the image has already"): 1,
            ("polygons", "LabelMe has no place for a second geometry of one object"): 1,
        }
        assert not list(target.glob("*.png"))
        rows = read(FORMAT, target)[1].to_pylist()
    assert [(row["type"], row["bbox"]) for row in rows] == [("label", None), ("keypoints", [0, 0, 5, 5])]
    assert losses.carried_counts["annotations"] == 2


@pytest.mark.parametrize("points", [[[1, 1], [math.nan, 5]], [[math.nan, 1], [3, 5]], [[1, math.inf], [3, 5]]])
@pytest.mark.parametrize("kind", ["rectangle", "circle", "polygon", "line", "point"])
def test_numbers_that_are_not_finite_are_dropped(tmp_path: Path, kind: str, points: Any) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, shape(kind, points if kind != "polygon" else [*points, [0, 0]])))
    assert table.num_rows == 0
    assert [(loss.outcome, loss.what, loss.count) for loss in losses.losses] == [("dropped", "annotations", 1)]
