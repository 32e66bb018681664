"""Changes in place: only the regions asked for, everything else to the byte."""

from __future__ import annotations

import copy
from typing import Any

from curate.connectors.base import Item, Row
from curate.connectors.label_studio.config import new_config, parse_config
from curate.connectors.label_studio.edits import Edit, edited
from curate.connectors.label_studio.results import ResultWriter
from curate.connectors.label_studio.tasks import TaskReader, regions_of
from curate.formats.label_studio.images import TaskImage
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from tests.connectors.label_studio.label_studio_samples import CLASSES, SIZE, every_kind, row, spec

CONFIG = parse_config(new_config(spec("m")))
TWO_CONTROLS = parse_config(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="cars" toName="image"><Label value="car"/></RectangleLabels>
    <RectangleLabels name="dogs" toName="image"><Label value="dog"/></RectangleLabels>
    <EllipseLabels name="e" toName="image"><Label value="car"/><Label value="dog"/></EllipseLabels>
    <Relations><Relation value="r"/></Relations></View>"""
)
IMAGE = TaskImage("image", None, "")


def written(rows: list[Row], config: Any = CONFIG) -> list[dict[str, Any]]:
    return ResultWriter(config, {info.name: info.keypoints for info in CLASSES}, LossReport()).results(
        rows, IMAGE, SIZE, "x"
    )


def task(results: list[Any], **fields: Any) -> dict[str, Any]:
    own = {"size": list(SIZE), "image_id": "0" * 16}
    annotation = {"id": 3, "result": results, "updated_at": "2026-01-01T00:00:00Z"}
    given = {"id": 5, "data": {"image": "/data/upload/1/a.png"}, "meta": {"curate": {"images": {"image": own}}}}
    return {**given, "annotations": [annotation], **fields}


def taken(results: list[Any], config: Any = CONFIG) -> tuple[Item, dict[str, Any]]:
    reader = TaskReader(config, {}, LossReport())
    apart = reader.taken_apart(task(results), work=True)
    assert apart.chosen is not None
    (item,) = reader.items([apart], work=True)
    return item, regions_of(apart.chosen, 0)


def change(
    results: list[Any],
    updated: dict[str, dict[str, Any]] | None = None,
    deleted: tuple[str, ...] = (),
    created: tuple[Row, ...] = (),
    config: Any = CONFIG,
    losses: LossReport | None = None,
) -> list[Any]:
    before = copy.deepcopy(results)
    item, regions = taken(results, config)
    rows = {each.remote_id.removeprefix("3:"): each.row for each in item.annotations or ()}
    new = {
        key: (rows[key], {**rows[key], "annotation_id": f"{place:016x}", **values})
        for place, (key, values) in enumerate((updated or {}).items())
    }
    writer = ResultWriter(config, {info.name: info.keypoints for info in CLASSES}, losses or LossReport())
    found = edited(results, regions, Edit(new, deleted, created), writer, IMAGE, SIZE, "x")
    assert results == before
    return found


def test_nothing_to_do_changes_nothing() -> None:
    results = written(every_kind(0))
    assert all(new is old for new, old in zip(change(results), results, strict=True))


def test_a_new_label_is_all_that_changes_of_a_region() -> None:
    results = written(every_kind(0))
    results[0] |= {"readonly": True, "value": {**results[0]["value"], "unknown": 1}}
    found = change(results, {results[0]["id"]: {"label": "dog"}})
    assert [each["value"].get("rectanglelabels") for each in found[:2]] == [["dog"], None]
    found[0]["value"]["rectanglelabels"] = ["car"]
    assert found == results


def test_a_region_of_several_results_is_changed_as_one() -> None:
    rows = every_kind(0)
    results = written(rows)
    parts = [each["id"] for each in results if each["id"].startswith(rows[4]["annotation_id"])]
    points = [each["id"] for each in results if each["id"].startswith(rows[6]["annotation_id"])]
    assert len(parts) == 2
    assert len(points) == 3
    found = change(results, {rows[4]["annotation_id"]: {"label": "car"}}, (rows[6]["annotation_id"],))
    assert [each["value"]["polygonlabels"] for each in found if each["id"] in parts] == [["car"], ["car"]]
    assert not [each for each in found if each["id"] in points]
    assert len(found) == len(results) - 3


def test_a_label_of_another_control_takes_that_control() -> None:
    results = written([row(0, Shape(bbox=[1, 2, 3, 4]), "car")], TWO_CONTROLS)
    (found,) = change(results, {results[0]["id"]: {"label": "dog"}}, config=TWO_CONTROLS)
    assert (results[0]["from_name"], found["from_name"]) == ("cars", "dogs")
    item, _ = taken([found], TWO_CONTROLS)
    assert [each.row["attributes"] for each in item.annotations or ()] == [{}]


def test_an_ellipse_stays_one_as_long_as_its_shape_does() -> None:
    value = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "rotation": 0, "ellipselabels": ["car"]}
    ellipse = {"id": "e1", "type": "ellipselabels", "from_name": "e", "to_name": "image", "value": value}
    losses = LossReport()
    (found,) = change([ellipse], {"e1": {"label": "dog"}}, config=TWO_CONTROLS, losses=losses)
    assert found == {**ellipse, "value": {**value, "ellipselabels": ["dog"]}}
    assert losses.losses == []
    (found,) = change([ellipse], {"e1": {"iscrowd": True}}, config=TWO_CONTROLS, losses=losses)
    assert (found["id"], found["type"]) == ("e1", "polygonlabels")
    assert [loss.reason for loss in losses.losses] == ["an ellipse: written back as a polygon"]


def test_relations_stay_unless_they_lose_an_end() -> None:
    results: list[Any] = written([row(place, Shape(bbox=[1, 2, 3, 4]), "car") for place in range(3)])
    ids = [each["id"] for each in results]
    relations = [
        {"type": "relation", "from_id": first, "to_id": second}
        for first, second in [(ids[0], ids[1]), (ids[1], ids[2])]
    ]
    losses = LossReport()
    found = change([*results, *relations], {ids[1]: {"label": "dog"}}, (ids[0],), losses=losses)
    assert [each for each in found if each.get("type") == "relation"] == relations[1:]
    assert [(loss.what, loss.count) for loss in losses.losses] == [("relations", 1)]


def test_answers_about_the_image_swap_and_go() -> None:
    results = written([row(place, Shape(), label) for place, label in enumerate(["car", "dog", "person"])])
    assert [each["value"] for each in results] == [{"choices": ["car", "dog", "person"]}]
    updated = {"choices/0": {"label": "dog"}, "choices/1": {"label": "car"}}
    (found,) = change(results, updated, ("choices/2",))
    assert found["value"]["choices"] == ["dog", "car"]
    assert found["meta"]["curate"]["ids"] == {"dog": f"{0:016x}", "car": f"{1:016x}"}
    assert change(results, {}, ("choices/0", "choices/1", "choices/2")) == []
    (found,) = change(results, {}, ("choices/0",), (row(9, Shape(), "truck"),))
    assert found["value"]["choices"] == ["dog", "person", "truck"]
    # With something else to say of it, a label is an answer of its own.
    found = change(results, {"choices/0": {"attributes": {"a": 1}}})
    assert [each["value"]["choices"] for each in found] == [["dog", "person"], ["car"]]


def test_regions_without_ids_can_be_changed() -> None:
    (result,) = written([row(0, Shape(bbox=[1, 2, 3, 4]), "car")])
    del result["id"], result["meta"]
    (found,) = change([result], {"#0": {"label": "dog"}})
    assert found["value"]["rectanglelabels"] == ["dog"]
    (found,) = change([result], {"#0": {"bbox": [1.0, 1.0, 2.0, 2.0]}})
    assert found["id"] == f"{0:016x}"
    assert change([result], deleted=("#0",)) == []
