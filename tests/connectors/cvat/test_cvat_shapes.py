"""Every kind of annotation: sent and read back, drawn by an annotator and read, and any shape through the API's form of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.connectors.base import Change, Row
from curate.connectors.cvat.labels import parse_labels
from curate.connectors.cvat.read import read_annotations
from curate.connectors.cvat.write import RowWriter
from curate.connectors.sync.content import SHAPE_COLUMNS
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from curate.geometry import encode_rle
from tests.connectors.cvat.cvat_cases import Site, box, listed, new_item, row

MASK = np.zeros((48, 64), dtype=bool)
MASK[5:20, 7:30] = True
MASK[8:12, 10:14] = False
MASK[40, 60] = True

SHAPES = {
    "box": row("bolt", Shape(bbox=[3.25, 4.5, 10.125, 8.0])),
    "box outside the image": row("bolt", Shape(bbox=[-30.0, 40.0, 200.0, 30.5])),
    "rotated box": row("bolt", Shape(rotated_box=[30.0, 20.0, 20.0, 10.0, 33.5])),
    "polygon": row("bolt", Shape(polygons=[[1.5, 2.0, 20.0, 3.25, 12.0, 30.0]])),
    "polyline": row("bolt", Shape(polygons=[[1.5, 2.0, 20.0, 3.25, 12.0, 30.0]], is_open=True)),
    "mask": row("bolt", Shape(rle=(encode_rle(MASK), [48, 64]))),
    "keypoints": row("person", Shape(keypoints=[10.0, 5.0, 2.0, 12.0, 20.5, 1.0, 0.0, 0.0, 0.0])),
    "points": row("bolt", Shape(keypoints=[10.0, 5.0, 2.0, 12.0, 20.5, 2.0])),
    "label": row("bolt", WHOLE_IMAGE),
}
DRAWN: list[dict[str, Any]] = [
    {"type": "ellipse", "points": [30.0, 20.0, 45.0, 10.0], "rotation": 15.0},
    {"type": "cuboid", "points": [10.0, 10, 10, 30, 30, 10, 30, 30, 15, 5, 15, 25, 35, 5, 35, 25]},
    {
        "type": "rectangle",
        "points": [1.0, 2.0, 11.0, 22.0],
        "rotation": 350.0,
        "occluded": True,
        "z_order": 3,
        "group": 7,
    },
]


@pytest.mark.parametrize("name", SHAPES)
def test_each_kind_comes_back_as_it_was_sent(name: str, cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    sent = {**SHAPES[name], "attributes": {"occluded": True, "length": 4} if SHAPES[name]["label"] == "bolt" else {}}
    losses = LossReport()
    connector.create([new_item(tmp_path, "a.png", [sent])], losses=losses)
    (item,) = listed(connector)
    (found,) = item.annotations or ()
    assert same(found.row, sent)
    of_shape = {"occluded": bool(sent["attributes"]), "z_order": 0}
    assert found.row["attributes"] == (
        ({} if name == "label" else of_shape) | {"source": "manual"} | ({"length": 4} if sent["attributes"] else {})
    )
    assert [(loss.what, loss.count) for loss in losses.losses] == ([("attributes", 1)] if name == "label" else [])


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: drawn["type"])
def test_what_an_annotator_draws_is_read_and_written_again(
    drawn: dict[str, Any], cvat: Site, tmp_path: Path, annotator: Any
) -> None:
    connector = cvat.made()
    connector.create([new_item(tmp_path, "a.png")], losses=LossReport())
    (item,) = listed(connector)
    job = annotator.jobs.retrieve(item.metadata["job"])
    label = next(each.id for each in job.get_labels() if each.name == "bolt")
    draw(job, shapes=[{**drawn, "frame": 0, "label_id": label}])
    (item,) = listed(connector)
    (found,) = item.annotations or ()
    assert found.remote_id == f"shape:{job.get_annotations().shapes[0].id}"
    labels = parse_labels(each.to_dict() | {"type": str(each.type)} for each in job.get_labels())
    written = RowWriter(labels, LossReport()).write(found.row, "")
    assert written is not None
    assert {name: written.data[name] for name in drawn} == {name: pytest.approx(value) for name, value in drawn.items()}
    if drawn["type"] == "rectangle":
        said = found.row["attributes"]
        assert (said["occluded"], said["z_order"], said["group_id"], said["source"]) == (True, 3, 7, "manual")


def draw(job: Any, **data: Any) -> None:
    """Save annotations as CVAT's own editor does."""
    from cvat_sdk import models
    from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction

    kinds = {
        "tags": models.LabeledImageRequest,
        "shapes": models.LabeledShapeRequest,
        "tracks": models.LabeledTrackRequest,
    }
    request = {name: [kinds[name]._from_openapi_data(**each) for each in given] for name, given in data.items()}
    job.update_annotations(models.PatchedLabeledDataRequest(**request), action=AnnotationUpdateAction.CREATE)


SAID: dict[str, Any] = {
    "rusty": False,
    "teeth": 12,
    "offset": -3,
    "length": 12.5,
    "ratio": 1e-05,
    "whole": 4.0,
    "maker": 'bolts & sons, "größe"\n2',
    "code": "007",
    "version": "1.5",
    "answer": "true",
    "grade": "b",
    "occluded": True,
    "z_order": -2,
    "group_id": 5,
    "source": "semi-auto",
}
SEEN: dict[str, list[Any]] = {
    **{name: [value] for name, value in SAID.items()},
    "grade": ["a", "b", "c"] * 3,
    "length": [12.5, 3],
    "whole": [4.0, 0.5],
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_attribute_comes_back_as_it_was_sent(name: str, cvat: Site, tmp_path: Path) -> None:
    connector = cvat.connector()
    connector.ensure_project(cvat.spec(attributes={"bolt": SEEN, "person": SEEN}), LossReport())
    held = {key: value for key, value in SAID.items() if name != "label" or key not in {"occluded", "z_order"}}
    some = {key: value for key, value in held.items() if key in {"teeth", "offset", "source"}}
    rows = [{**SHAPES[name], "attributes": held}, {**SHAPES[name], "attributes": some}]
    losses = LossReport()
    connector.create([new_item(tmp_path, "a.png", rows)], losses=losses)
    (item,) = listed(connector)
    full, less = item.annotations or ()
    assert same(full.row, rows[0])
    assert typed(full.row["attributes"]) == typed(held)
    extra = {} if name == "label" else {"occluded": False, "z_order": 0}
    assert typed(less.row["attributes"]) == typed({**extra, **some})
    assert losses.losses == []
    change = Change(item, "0" * 16, item.size, updated={less.remote_id: rows[0], full.remote_id: rows[1]})
    assert connector.change([change], losses=losses) == set()
    (item,) = listed(connector)
    now = {each.remote_id: typed(each.row["attributes"]) for each in item.annotations or ()}
    assert now == {less.remote_id: typed(held), full.remote_id: typed({**extra, **some})}
    assert losses.losses == []


@pytest.mark.parametrize(
    ("value", "back", "what"),
    [
        ("", None, ("dropped", 1)),
        ("  ", None, ("dropped", 1)),
        (" a ", "a", ("converted", 1)),
        (3, "3", ("converted", 1)),
        (True, "true", ("converted", 1)),
        ([1, 2], "[1, 2]", ("converted", 1)),
        ("x" * 5000, "x" * 4096, ("converted", 1)),
    ],
)
def test_values_that_cvat_alters_are_told(
    value: Any, back: str | None, what: tuple[str, int], cvat: Site, tmp_path: Path
) -> None:
    connector = cvat.made()
    losses = LossReport()
    connector.create([new_item(tmp_path, "a.png", [box(attributes={"maker": value})])], losses=losses)
    (item,) = listed(connector)
    (found,) = item.annotations or ()
    assert found.row["attributes"].get("maker") == back
    assert [(loss.outcome, loss.count) for loss in losses.losses] == [what]


def test_a_source_that_cvat_does_not_know_is_told(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    losses = LossReport()
    connector.create([new_item(tmp_path, "a.png", [box(attributes={"source": "line 7"})])], losses=losses)
    (item,) = listed(connector)
    assert [each.row["attributes"]["source"] for each in item.annotations or ()] == ["manual"]
    assert [(loss.outcome, loss.what) for loss in losses.losses] == [("dropped", "attributes")]


def typed(attributes: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """Values with their types: 1 is not 1.0, and not True."""
    return {name: (type(value), value) for name, value in attributes.items()}


# ------------------------------------------------------------------------------------------------- any shape, no server

LABELS = parse_labels(
    [
        {"id": 1, "name": "bolt", "type": "any", "attributes": [
            {"id": 7, "name": "size", "input_type": "number", "mutable": False, "values": ["0", "9", "1"]},
            {"id": 8, "name": "maker", "input_type": "text", "mutable": False, "values": []},
            {"id": 9, "name": "rusty", "input_type": "checkbox", "mutable": False, "values": []},
            {"id": 10, "name": "length", "input_type": "text", "mutable": False, "values": ["0.0"]},
        ]},
        {"id": 2, "name": "person", "type": "skeleton", "attributes": [], "svg": "", "sublabels": [
            {"id": 3, "name": "head", "type": "points"}, {"id": 4, "name": "hip", "type": "points"},
        ]},
    ]
)  # fmt: skip

numbers = st.floats(-1e4, 1e4).map(lambda value: round(value, 3))
lengths = st.floats(0.5, 1e4).map(lambda value: round(value, 3))
points = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8).map(
    lambda pairs: [v for pair in pairs for v in pair]
)
declared = st.fixed_dictionaries(
    {"occluded": st.booleans(), "z_order": st.integers(-5, 5), "size": st.integers(-99, 99)},
    optional={
        "maker": st.text("abc ,;\"'<>é", min_size=1).map(str.strip).filter(bool),
        "length": st.floats(allow_nan=False, allow_infinity=False),
        "rusty": st.booleans(),
        "group_id": st.integers(1, 9),
    },
)


@st.composite
def masks(draw: st.DrawFn) -> Shape:
    mask = np.array(draw(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=5, max_size=5)))
    mask[draw(st.integers(0, 4)), draw(st.integers(0, 6))] = True
    return Shape(rle=(encode_rle(mask), [5, 7]))


visible = st.tuples(numbers, numbers, st.sampled_from([1.0, 2.0]))
keypoints = st.tuples(visible, st.one_of(visible, st.just((0.0, 0.0, 0.0)))).map(
    lambda two: Shape(keypoints=[*two[0], *two[1]])
)
shapes = st.one_of(
    st.tuples(numbers, numbers, lengths, lengths).map(lambda box: Shape(bbox=box)),
    st.tuples(numbers, numbers, lengths, lengths, st.floats(1, 359).map(round)).map(lambda box: Shape(rotated_box=box)),
    points.map(lambda found: Shape(polygons=[found])),
    points.map(lambda found: Shape(polygons=[found], is_open=True)),
    masks(),
)


@given(st.one_of(st.tuples(st.just("bolt"), shapes), st.tuples(st.just("person"), keypoints)), declared)
def test_any_row_is_the_same_after_the_api(found: tuple[str, Shape], attributes: dict[str, Any]) -> None:
    label, shape = found
    if label == "person":
        attributes = {name: attributes[name] for name in ("occluded", "z_order")}
    sent = row(label, shape, attributes=attributes)
    losses = LossReport()
    written = RowWriter(LABELS, losses).write(sent, "place")
    assert written is not None
    data: dict[str, Any] = {written.kind: [{**written.on(4), "id": 5}]}
    back = read_annotations(data, {4: (7, 5)}, LABELS, last=9, place="", losses=losses)[4]
    assert [each.remote_id for each in back] == ["shape:5"]
    assert same(back[0].row, sent)
    assert back[0].row["attributes"] == attributes
    assert losses.losses == []


def same(found: Row, sent: Row) -> bool:
    """Whether two rows have the same label and shape."""
    return found["label"] == sent["label"] and all(
        found[name] == sent[name]
        if isinstance(sent[name], str) or sent[name] is None
        else near(found[name], sent[name])
        for name in SHAPE_COLUMNS
    )


def near(found: Any, sent: Any) -> bool:
    return np.shape(found) == np.shape(sent) and bool(np.allclose(found, sent, rtol=0, atol=2e-6))
