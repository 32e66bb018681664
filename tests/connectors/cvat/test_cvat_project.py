"""Projects: made once, found again by their marker, given the labels and attributes that they lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.base import Connector, ProjectSpec
from curate.connectors.cvat.labels import missing_labels, parse_labels
from curate.errors import CurateError, InputError, UsageError
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from tests.connectors.cvat.cvat_cases import CLASSES, Site, box, listed, new_item, note
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
        "length": ("text", ["0.0"], ""),
        "maker": ("text", [], ""),
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
        "flag": [True],
        "count": [3, 4.0],
        "large": [-12_345_678],
        "length": [1, 2.25],
        "mixed": [1, "x"] * 5,
        "notes": [f"text {number}" for number in range(30)] * 5,
        "rare": ["red", "green", "green", "green"],
        "one": ["red"] * 9,
        "lines": ["a\nb", "c"] * 5,
        "color": ["red", "green", ""] * 3,
        "json": [[1], {"a": 2}] * 5,
        "occluded": [True],
        "score": [0.5],
    }
    wanted = ProjectSpec("m", "t", [ClassInfo("bolt")], frozenset(), attributes={"bolt": values})
    (made,) = missing_labels(wanted, parse_labels([]), LossReport())
    found = {each["name"]: (each["input_type"], each["values"], each["default_value"]) for each in made["attributes"]}
    assert found == {
        "flag": ("checkbox", [], "false"),
        "count": ("number", ["-1000000", "1000000", "1"], "0"),
        "large": ("number", ["-100000000", "100000000", "1"], "0"),
        "length": ("text", ["0.0"], ""),
        "color": ("select", ["", "green", "red"], ""),
        **dict.fromkeys(("mixed", "notes", "rare", "one", "lines", "json"), ("text", [], "")),
    }


@pytest.fixture
def acme(stand_in: servers.Cvat) -> None:
    """An organization on the server."""
    stand_in.model.organizations["acme"] = 77


def test_an_organization_that_the_address_names_is_told_to_the_server(
    acme: None, cvat: Site, stand_in: servers.Cvat, tmp_path: Path
) -> None:
    spec = cvat.spec()
    connector = cvat.connector("orgs/acme")
    project = connector.ensure_project(spec, LossReport())
    number = next(iter(stand_in.model.projects))
    assert str(project.address).endswith(f"/orgs/acme/projects/{number}")
    assert stand_in.model.projects[number]["organization"] == 77
    item = new_item(tmp_path, "a.png", [box()], notes=[note(new_item(tmp_path, "a.png"))])
    connector.create([item], losses=LossReport())
    assert {each["organization"] for each in stand_in.model.tasks.values()} == {77}
    for path in (project.address.path, f"projects/{number}"):
        again = cvat.connector(path)
        (found,) = listed(again)
        assert (found.image_id, len(found.metadata["issues"])) == (item.image_id, 1)
        assert again.download(found) == item.path.read_bytes()
    again.create([new_item(tmp_path, "b.png")], losses=LossReport())
    assert [each["organization"] for each in stand_in.model.tasks.values()] == [77, 77]
    assert cvat.connector("orgs/acme").ensure_project(spec, LossReport()).address == project.address


def test_what_is_in_no_organization_is_not_looked_for_in_one(acme: None, cvat: Site, stand_in: servers.Cvat) -> None:
    spec = cvat.spec()
    own = cvat.connector().ensure_project(spec, LossReport())
    of_acme = cvat.connector("orgs/acme").ensure_project(spec, LossReport())
    assert own.address.path.rpartition("/")[2] != of_acme.address.path.rpartition("/")[2]
    assert len(stand_in.model.projects) == 2


def test_an_organization_that_is_not_there_is_told(cvat: Site, stand_in: servers.Cvat) -> None:
    with pytest.raises(InputError, match="there is no such organization"):
        cvat.connector("orgs/nobody").ensure_project(cvat.spec(), LossReport())


def test_a_long_title_keeps_its_marker(cvat: Site) -> None:
    spec = cvat.spec(title="parts of machines " * 30)
    made = cvat.connector().ensure_project(spec, LossReport())
    assert made.title.startswith("parts of machines")
    assert spec.marker in made.title
    assert cvat.connector().ensure_project(spec, LossReport()).address == made.address


@pytest.mark.parametrize(
    "path",
    [
        "projects",
        "projects/x",
        "projects/0",
        "issues/3",
        "projects/3/tasks",
        "orgs",
        "orgs/a b",
        "orgs/a/projects",
        "a/orgs/b",
    ],
)
def test_an_address_of_something_else_is_told(path: str, cvat: Site) -> None:
    with pytest.raises(UsageError, match="not an address of CVAT's"):
        cvat.connector(path)


def test_without_a_project_there_is_nothing_to_list(cvat: Site) -> None:
    connector = cvat.connector()
    assert connector.address == replace(connector.address, path="")
    with pytest.raises(UsageError, match="no project is named"):
        listed(connector)
