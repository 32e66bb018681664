"""VIA: real exports, every shape, regions listed twice, JSON beside CSV, which attribute is the class, and broken files."""

from __future__ import annotations

import base64
import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_cases import by_location, read, reasons, write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import CurateError, FormatError
from curate.formats.base import ReadOptions
from curate.formats.detect import detect_format
from curate.formats.via import FORMAT

RECT = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}
TWICE = "the same region is there already"


def region(shape: Any = RECT, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes or {"label": "x"}}


def export(*regions: Any, filename: str = "a.png", **others: Any) -> dict[str, Any]:
    said = {"filename": filename, "size": 12, "regions": list(regions), "file_attributes": {}}
    return {f"{filename}12": said | others}


def dataset(root: Path, *regions: Any, name: str = "via.json", **others: Any) -> Path:
    write_image(root / "a.png", (100, 50))
    (root / name).write_text(json.dumps(export(*regions, **others)))
    return root


def write_csv(path: Path, rows: list[tuple[str, dict[str, Any], dict[str, Any]]], mark: str = "") -> None:
    header = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([mark + header[0], *header[1:], "region_shape_attributes", "region_attributes"])
        for number, (name, shape, attributes) in enumerate(rows):
            writer.writerow([name, 12, "{}", len(rows), number, json.dumps(shape), json.dumps(attributes)])


# ------------------------------------------------------------------------------------------------------------ real files


def test_every_region_of_a_real_export_is_there_once(shared_data: Path) -> None:
    source = shared_data / "formats/same_images_ten_formats/via"
    listed = json.loads((source / "via_region_data.json").read_bytes()).values()
    regions = {entry["filename"]: [json.dumps(each) for each in entry["regions"]] for entry in listed}
    records, table, losses = read(FORMAT, source)
    counts = {name: len(rows) for name, rows in by_location(records, table).items()}
    assert counts == {name: len(set(each)) for name, each in regions.items()}
    assert counts == {"birds.jpg": 2, "crack.jpeg": 1, "shapes.jpg": 5, "strawberry.jpg": 17}
    assert {(loss.outcome, loss.reason): loss.count for loss in losses.losses} == {
        ("dropped", TWICE): sum(map(len, regions.values())) - sum(counts.values()),
        ("converted", "a CSV file says the same of an image as a JSON file, which is taken"): 4,
        ("converted", "circles and ellipses become polygons; what they were stays in the attributes"): 2,
    }
    assert set(table["source"].to_pylist()) == {"via_region_data.json"}
    assert detect_format(source)[0].name == "via"


def test_a_real_csv_says_the_same_as_the_json(shared_data: Path) -> None:
    source = shared_data / "formats/same_images_ten_formats/via"
    columns = ["type", "label", "bbox", "polygons", "attributes"]
    found = []
    for name in ("via_region_data.csv", "via_region_data.json"):
        records, table, _ = read(FORMAT, source / name)
        rows = by_location(records, table)
        found.append({image: [{key: row[key] for key in columns} for row in each] for image, each in rows.items()})
        assert detect_format(source / name)[0].name == "via"
    assert found[0] == found[1]


def test_shapes_of_the_real_export(shared_data: Path) -> None:
    records, table, _ = read(FORMAT, shared_data / "formats/same_images_ten_formats/via")
    rectangle, triangle, ellipse, circle, line = by_location(records, table)["shapes.jpg"]
    assert (rectangle["type"], rectangle["bbox"]) == ("box", [47, 45, 183, 141])
    assert triangle["polygons"] == [[428, 33, 324, 199, 548, 199]]
    assert (line["type"], len(line["polygons"][0])) == ("polyline", 22)
    assert json.loads(ellipse["attributes"]) == {"ellipse": {"cx": 149, "cy": 339, "rx": 111, "ry": 76, "rotation": 0}}
    points = np.reshape(circle["polygons"][0], (-1, 2))
    assert np.hypot(*(points - [448, 315]).T) == pytest.approx(83, abs=0.1)


# ---------------------------------------------------------------------------------------------------------------- shapes


def test_ellipses_turn_clockwise(tmp_path: Path) -> None:
    shape = {"name": "ellipse", "cx": 50, "cy": 25, "rx": 20, "ry": 5, "theta": math.pi / 6}
    row = read(FORMAT, dataset(tmp_path, region(shape)))[1].to_pylist()[0]
    assert json.loads(row["attributes"])["ellipse"]["rotation"] == pytest.approx(30)
    points = np.reshape(row["polygons"][0], (-1, 2))
    furthest = points[np.argmax(points[:, 0])] - [50, 25]
    assert furthest[1] > 5  # the right end lies lower


def test_points(tmp_path: Path) -> None:
    row = read(FORMAT, dataset(tmp_path, region({"name": "point", "cx": 7, "cy": 8})))[1].to_pylist()[0]
    assert (row["type"], row["keypoints"]) == ("keypoints", [7, 8, 2])


# ------------------------------------------------------------------------------------------------------- files and twins


def test_via_1_numbers_its_regions(tmp_path: Path) -> None:
    shapes = {str(number): region(RECT | {"x": number}) for number in (10, 9, 2)}
    picture = write_image(tmp_path / "p.png", (100, 50)).read_bytes()
    inside = "data:image/png;base64," + base64.b64encode(picture).decode()
    dataset(tmp_path / "set", regions=shapes, base64_img_data=inside, fileref="")
    (tmp_path / "set/a.png").unlink()
    records, table, losses = read(FORMAT, tmp_path / "set", ReadOptions(files=tmp_path / "files"))
    assert [box[0] for box in table["bbox"].to_pylist()] == [2, 9, 10]
    assert records.images["path"].to_pylist() == [str(tmp_path / "files/a.png")]
    assert losses.losses == []


def test_projects_and_their_definitions(tmp_path: Path) -> None:
    write_image(tmp_path / "pictures/a.png", (100, 50))
    kinds = {"sort": {"type": "dropdown", "options": {"y": "", "x": ""}}, "note": {"type": "text"}}
    project = {
        "_via_settings": {"core": {"default_filepath": "./pictures/"}},
        "_via_img_metadata": export(region(sort="x", note="n1"), region(RECT | {"x": 2}, sort="x", note="n2")),
        "_via_attributes": {"region": kinds, "file": {}},
        "_via_image_id_list": ["a.png12"],
    }
    (tmp_path / "project.json").write_text(json.dumps(project))
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images["location"].to_pylist() == ["pictures/a.png"]
    assert [info.name for info in records.classes] == ["y", "x"]
    assert table.select(["label", "attributes"]).to_pylist() == [
        {"label": "x", "attributes": '{"note": "n1"}'},
        {"label": "x", "attributes": '{"note": "n2"}'},
    ]
    assert records.info == {"via": {"region_attributes": kinds}}
    assert [(loss.what, loss.places) for loss in losses.losses] == [("classes", ["sort, not note"])]
    assert detect_format(tmp_path)[0].name == "via"


def test_one_image_under_two_keys(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (100, 50))
    first, second = export(region()), export(region(), region(label="y"))
    (tmp_path / "via.json").write_text(json.dumps({**first, "a.png-1": second["a.png12"]}))
    records, table, losses = read(FORMAT, tmp_path)
    assert (records.images.num_rows, table["label"].to_pylist()) == (1, ["x", "y"])
    assert len(set(table["annotation_id"].to_pylist())) == 2
    assert reasons(losses) == {TWICE}


def test_a_csv_that_says_something_else_is_reported(tmp_path: Path) -> None:
    dataset(tmp_path, region())
    write_image(tmp_path / "b.png", (9, 9))
    other = RECT | {"x": 9}
    write_csv(
        tmp_path / "v.csv",
        [("a.png", RECT, {"label": "x"}), ("a.png", other, {"label": "x"}), ("b.png", RECT, {"label": "x"})],
    )
    records, table, losses = read(FORMAT, tmp_path)
    assert {name: len(rows) for name, rows in by_location(records, table).items()} == {"a.png": 1, "b.png": 1}
    assert [(loss.outcome, loss.count, loss.reason) for loss in losses.losses] == [
        ("dropped", 1, "in a CSV file, but not in the JSON file of the same image")
    ]


def test_csv_files_of_via_1_long_outlines_and_images_without_regions(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (100, 50))
    write_image(tmp_path / "b.png", (100, 50))
    side = [number % 90 for number in range(60_000)]
    outline = {"name": "polygon", "all_points_x": side, "all_points_y": side}
    write_csv(tmp_path / "via.csv", [("a.png", outline, {"label": "x"}), ("b.png", {}, {})], mark="#")
    records, table, losses = read(FORMAT, tmp_path)
    assert {name: len(rows) for name, rows in by_location(records, table).items()} == {"a.png": 1, "b.png": 0}
    assert len(table["polygons"].to_pylist()[0][0]) == 120_000
    assert losses.losses == []


def test_addresses_and_attributes_of_images(tmp_path: Path) -> None:
    said = {"caption": "hm", "empty": ""}
    dataset(tmp_path, region(), filename="https://host.org/set/far.png?size=2", file_attributes=said)
    (tmp_path / "a.png").unlink()
    records, table, losses = read(FORMAT, tmp_path)
    assert records.images.select(["location", "path"]).to_pylist() == [
        {"location": "host.org/set/far.png", "path": None}
    ]
    assert json.loads(records.images["metadata"].to_pylist()[0]) == {
        "caption": "hm",
        "url": "https://host.org/set/far.png?size=2",
    }
    assert (table.num_rows, reasons(losses)) == (1, {"not there; kept without a file"})


# ----------------------------------------------------------------------------------------------------------------- class


@pytest.mark.parametrize(
    ("attributes", "label", "others", "reported"),
    [
        ({"anything": "x"}, "x", {}, False),
        ({"note": "far", "Class": "x"}, "x", {"note": "far"}, False),
        ({"type": "t", "label": "x"}, "x", {"type": "t"}, True),
        ({"kind": 7}, "7", {}, False),
        ({"kind": {"x": True}}, "x", {}, False),
        ({"kind": {"x": True, "y": False}}, "x", {"kind": {"x": True, "y": False}}, False),
        ({"kind": {"x": True, "y": True}}, "x", {"kind": {"x": True, "y": True}}, True),
        ({"label": "", "note": "far"}, "far", {}, False),
        ({"label": ""}, None, {}, True),
    ],
)
def test_which_attribute_is_the_class(
    tmp_path: Path, attributes: dict[str, Any], label: str | None, others: dict[str, Any], reported: bool
) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, region(**attributes)))
    row = table.to_pylist()[0]
    assert (row["label"], json.loads(row["attributes"] or "{}")) == (label, others)
    assert bool(losses.losses) is reported


def test_without_a_usual_name_the_values_that_come_again_are_the_class(tmp_path: Path) -> None:
    regions = [region(RECT | {"x": n}, serial=f"s{n}", sort="ab"[n % 2], rare="z" if n == 0 else "") for n in range(8)]
    _, table, losses = read(FORMAT, dataset(tmp_path, *regions))
    assert Counter(table["label"].to_pylist()) == {"a": 4, "b": 4}
    assert [(loss.outcome, loss.places) for loss in losses.losses] == [("converted", ["sort, not serial, rare"])]


# ---------------------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "x",
            None,
            {},
            region({}),
            region({"name": "heart"}),
            region({"name": ["rect"]}),
            region({"name": "rect", "x": "1"}),
        ),
        *(
            region({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1]}),
            region(RECT | {"x": float("inf")}),
        ),
        *(
            region({"name": "circle", "cx": 1, "cy": 1, "r": -1}),
            region({"name": "circle", "cx": 1, "cy": 1, "r": 1e300}),
        ),
        region({"name": "ellipse", "cx": 1, "cy": 1, "rx": 1, "ry": 1, "theta": 1e308}),
    ],
)
def test_bad_regions_are_dropped_and_the_rest_read(tmp_path: Path, bad: Any) -> None:
    _, table, losses = read(FORMAT, dataset(tmp_path, bad, region()))
    assert table["type"].to_pylist() == ["box"]
    dropped = [loss for loss in losses.losses if loss.outcome == "dropped"]
    assert [(loss.what, loss.count) for loss in dropped] == [("annotations", 1)]
    assert dropped[0].places == ["via.json: a.png12: region 0"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.json", b'{"a": {"regions": ['),
        ("bad.json", b"[]"),
        ("bad.json", b'{"a": 1}'),
        ("bad.json", b'{"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}'),
        ("bad.csv", b""),
        ("bad.csv", b"a,b\n1,2\n"),
        ("bad.csv", b'filename,"a\n'),
    ],
)
def test_broken_files_are_left_out_and_the_rest_read(tmp_path: Path, name: str, content: bytes) -> None:
    dataset(tmp_path, region())
    (tmp_path / name).write_bytes(content)
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert [(loss.what, loss.places) for loss in losses.losses] == [("annotation files", [name])]
    with pytest.raises(FormatError, match="VIA 3" if b"project" in content else None):
        read(FORMAT, tmp_path / name)


def test_rows_that_are_broken_are_reported(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (100, 50))
    write_csv(tmp_path / "via.csv", [("a.png", RECT, {"label": "x"})])
    with (tmp_path / "via.csv").open("a") as file:
        file.write('a.png,12,"{}",1,1,"{","{}"\na.png,12\n')
    _, table, losses = read(FORMAT, tmp_path)
    assert table.num_rows == 1
    assert [(loss.what, loss.count) for loss in losses.losses] == [("rows", 2)]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ["name", "x", "y", "width", "height", "cx", "cy", "r", "rx", "ry", "theta", "all_points_x", "all_points_y"]
_SHAPES = st.dictionaries(
    st.sampled_from(_KEYS), st.sampled_from(["rect", "circle", "polygon", "point", 3, 1e308, [1, 2, 3]]) | _JSON
)
_REGIONS = st.fixed_dictionaries({}, optional={"shape_attributes": _SHAPES | _JSON, "region_attributes": _JSON}) | _JSON
_ENTRIES = st.fixed_dictionaries(
    {"regions": st.lists(_REGIONS, max_size=4) | st.dictionaries(st.text(max_size=2), _REGIONS, max_size=3) | _JSON},
    optional={name: _JSON | st.just("a.png") for name in ("filename", "file_attributes", "base64_img_data", "fileref")},
)


@settings(deadline=None, max_examples=150)
@given(tree=st.dictionaries(st.text(max_size=3), _ENTRIES, min_size=1, max_size=3))
def test_any_tree_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "via.json").write_text(json.dumps(tree))
    rows = [("a.png", each, each) for entry in tree.values() if isinstance(each := entry["regions"], dict)]
    write_csv(folder / "via.csv", rows)
    try:
        read(FORMAT, folder, ReadOptions(files=folder / "files"))
    except CurateError:
        pytest.fail("each of these has the form of a VIA file")
