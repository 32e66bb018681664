"""Projects: made once, found again by their marker, given the labels and attributes that they lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.base import Connector, ProjectSpec
from curate.connectors.cvat.labels import missing_labels, parse_labels
from curate.errors import CurateError, UsageError
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from tests.connectors.cvat.cvat_cases import CLASSES, Site, listed, new_item
from tests.connectors.cvat.test_cvat_create import at
from tests.servers import cvat as servers
from tests.servers.cvat_model import Model


def label(connector: Connector, annotator: Any, name: str) -> Any:
    project = annotator.projects.retrieve(int(connector.address.path.partition("/")[2]))
    return next(each for each in project.get_labels() if each.name == name)


def test_a_project_is_made_once_and_found_again(cvat: Site) -> None:
    spec = cvat.spec()
    first, second = cvat.connector(), cvat.connector()
    made, found = first.ensure_project(spec, LossReport()), second.ensure_project(spec, LossReport())
    assert made.address == found.address == first.address == second.address
    assert made.address.path.startswith("projects/")
    assert spec.marker in made.title


def test_a_renamed_project_is_found_by_its_tracker(cvat: Site, annotator: Any) -> None:
    spec = cvat.spec()
    connector = cvat.connector()
    connector.ensure_project(spec, LossReport())
    project = annotator.projects.retrieve(int(connector.address.path.partition("/")[2]))
    try:
        project.update({"name": "another name", "bug_tracker": f"https://example.com/{spec.marker}"})
        other = cvat.connector()
        other.ensure_project(spec, LossReport())
        assert other.address == connector.address
    finally:
        project.update({"name": spec.marker})


def test_labels_have_types_that_take_the_values_seen(cvat: Site, annotator: Any) -> None:
    connector = cvat.made()
    made = label(connector, annotator, "bolt")
    found = {each.name: each for each in made.attributes}
    assert {name: (str(each.input_type), each.values, each.default_value) for name, each in found.items()} == {
        "rusty": ("checkbox", found["rusty"].values, "false"),
        "length": ("number", ["3", "13", "0.1"], "3"),
        "maker": ("select", ["", "acme", "bolts inc"], ""),
    }
    assert made.color == "#ff0000"
    person = label(connector, annotator, "person")
    assert (str(person.type), [point.name for point in person.sublabels]) == ("skeleton", ["head", "hip", "foot"])


def test_an_existing_project_keeps_its_labels_and_gets_what_it_lacks(cvat: Site, annotator: Any) -> None:
    connector = cvat.made()
    before = {name: label(connector, annotator, name).id for name in ("bolt", "nut", "person")}
    classes = [*CLASSES, ClassInfo("washer", color="#123456")]
    attributes = {"bolt": {"head": ["flat", "round"], "rusty": [True]}, "washer": {"inner": [1, 2]}}
    for _ in range(2):
        losses = LossReport()
        project = connector.ensure_project(cvat.spec(classes=classes, attributes=attributes), losses)
        assert losses.losses == []
    assert [info.name for info in project.classes] == ["bolt", "nut", "person", "washer"]
    assert {name: label(connector, annotator, name).id for name in before} == before
    names = [each.name for each in label(connector, annotator, "bolt").attributes]
    assert sorted(names) == ["head", "length", "maker", "rusty"]
    assert [info.color for info in project.classes] == ["#ff0000", "#00ff00", "#0000ff", "#123456"]


def test_a_label_that_is_no_skeleton_is_told(cvat: Site) -> None:
    connector = cvat.made()
    classes = [ClassInfo("bolt", keypoints=("tip", "head"))]
    losses = LossReport()
    connector.ensure_project(cvat.spec(classes=classes), losses)
    assert [(loss.what, loss.places) for loss in losses.losses] == [("classes", ["bolt"])]


def test_a_task_of_its_own_gets_labels_too(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    from cvat_sdk import models

    connector = cvat.made()
    item = new_item(tmp_path, "a.png")
    own = {"name": "bolt", "attributes": []}
    request = models.TaskWriteRequest(name="alone", labels=[models.PatchedLabelRequest(**own)])
    task = annotator.tasks.create_from_data(request, [item.path])
    try:
        for path in (f"tasks/{task.id}", f"jobs/{task.get_jobs()[0].id}"):
            alone = cvat.connector(path)
            project = alone.ensure_project(cvat.spec(classes=CLASSES[:2], attributes={}), LossReport())
            assert [info.name for info in project.classes] == ["bolt", "nut"]
            assert project.title == "alone"
            assert len(listed(alone)) == 1
    finally:
        task.remove()
    assert listed(connector) == []


@pytest.mark.parametrize("fault", ["before", "after", 500])
def test_a_fault_at_any_request_makes_one_project(fault: servers.Fault, cvat: Site, stand_in: servers.Cvat) -> None:
    spec = cvat.spec()
    sent, number = 1, 0
    while number < sent:
        stand_in.model = Model(stand_in.url)
        before = len(stand_in.seen)
        stand_in.fault = at(number, fault)
        try:
            cvat.connector().ensure_project(spec, LossReport())
        except CurateError:
            stand_in.fault = lambda method, path: None
            cvat.connector().ensure_project(spec, LossReport())
        sent = len(stand_in.seen) - before
        stand_in.fault = lambda method, path: None
        assert len(stand_in.model.projects) == 1
        assert len(stand_in.model.labels) == len(CLASSES)
        number += 1
    assert number > 5


def test_the_kinds_of_attributes() -> None:
    values: dict[str, list[Any]] = {
        "a": [True],
        "b": [1, 2.25],
        "c": [1, "x"],
        "d": [f"text {number}" for number in range(30)],
        "e": [[1]],
        "occluded": [True],
        "score": [0.5],
    }
    wanted = ProjectSpec("m", "t", [ClassInfo("bolt")], frozenset(), {"bolt": values})
    (made,) = missing_labels(wanted, parse_labels([]), LossReport())
    assert {each["name"]: (each["input_type"], each["values"]) for each in made["attributes"]} == {
        "a": ("checkbox", []),
        "b": ("number", ["1", "3", "0.01"]),
        "c": ("select", ["", "1", "x"]),
        "d": ("text", []),
        "e": ("select", ["", "[1]"]),
    }


@pytest.mark.parametrize("path", ["projects", "projects/x", "projects/0", "issues/3", "projects/3/tasks"])
def test_an_address_of_something_else_is_told(path: str, cvat: Site) -> None:
    with pytest.raises(UsageError, match="not an address of CVAT's"):
        cvat.connector(path)


def test_without_a_project_there_is_nothing_to_list(cvat: Site) -> None:
    connector = cvat.connector()
    assert connector.address == replace(connector.address, path="")
    with pytest.raises(UsageError, match="no project is named"):
        listed(connector)
