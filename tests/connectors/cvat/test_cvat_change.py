"""Changes in place: the very shapes, only if they are still what they were, issues once; whatever happens on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.base import Change, Connector, Item, Note, Row
from curate.errors import CurateError, UnavailableError
from curate.formats.losses import LossReport
from curate.formats.shape_columns import WHOLE_IMAGE, Shape
from tests.connectors.cvat.cvat_cases import Site, box, contents, listed, new_item, note, row
from tests.connectors.cvat.test_cvat_create import at
from tests.connectors.cvat.test_cvat_items import a_box, filled, label_of, task_of
from tests.connectors.cvat.test_cvat_shapes import draw, same
from tests.servers import cvat as servers
from tests.servers.cvat_model import Model


def changed(connector: Connector, item: Item, **what: Any) -> LossReport:
    losses = LossReport()
    connector.change([Change(item, item.image_id or "", item.size, **what)], losses=losses)
    return losses


def only(item: Item) -> tuple[str, Row]:
    """Id and row of an item's only annotation."""
    (found,) = item.annotations or ()
    return found.remote_id, found.row


def test_a_shape_is_changed_and_stays_that_shape(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = cvat.made()
    task = task_of(annotator, connector, tmp_path, ["a.png"])
    job = task.get_jobs()[0]
    draw(job, shapes=[a_box(0, label_of(job)) | {"group": 4, "z_order": 2}])
    (item,) = listed(connector)
    remote_id, before = only(item)
    losses = changed(connector, item, updated={remote_id: {**before, "label": "nut", "bbox": [2.0, 3.0, 4.0, 5.0]}})
    (item,) = listed(connector)
    now_id, now = only(item)
    assert (now_id, now["label"], now["bbox"]) == (remote_id, "nut", [2.0, 3.0, 4.0, 5.0])
    assert (now["attributes"]["group_id"], now["attributes"]["z_order"]) == (4, 2)
    assert {loss.reason for loss in losses.losses} <= {"the project's label has no such attribute"}


def test_annotations_are_made_and_taken_away(cvat: Site, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path)
    first, second = listed(connector)
    mask = row("nut", Shape(polygons=[[1.0, 1, 20, 1, 9, 30]]))
    connector.change(
        [
            Change(first, first.image_id or "", first.size, created=[mask, row("nut", WHOLE_IMAGE)]),
            Change(second, second.image_id or "", second.size, deleted=[only(second)[0]]),
        ],
        losses=LossReport(strict=True),
    )
    one, two = listed(connector)
    assert [each.remote_id.partition(":")[0] for each in one.annotations or ()] == ["tag", "shape", "shape"]
    assert any(same(each.row, mask) for each in one.annotations or ())
    assert contents(two) == []


def test_a_shape_becomes_a_label_of_the_whole_image(cvat: Site, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path, 1)
    (item,) = listed(connector)
    changed(connector, item, updated={only(item)[0]: row("nut", WHOLE_IMAGE)})
    (item,) = listed(connector)
    assert only(item)[0].startswith("tag:")


def test_a_skeleton_keeps_its_points(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = cvat.made()
    sent = row("person", Shape(keypoints=[10.0, 5.0, 2.0, 12.0, 20.5, 1.0, 0.0, 0.0, 0.0]))
    connector.create([new_item(tmp_path, "a.png", [sent])], losses=LossReport())
    (item,) = listed(connector)
    remote_id, before = only(item)
    job = annotator.jobs.retrieve(item.metadata["job"])
    ids = [each.id for each in job.get_annotations().shapes[0].elements]
    moved = row(
        "person", Shape(keypoints=[11.0, 6.0, 2.0, 12.0, 20.5, 2.0, 30.0, 30.0, 2.0]), attributes=before["attributes"]
    )
    changed(connector, item, updated={remote_id: moved})
    (item,) = listed(connector)
    assert (only(item)[0], only(item)[1]["keypoints"]) == (remote_id, moved["keypoints"])
    assert [each.id for each in job.get_annotations().shapes[0].elements] == ids


def test_what_was_changed_meanwhile_is_left_alone(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path, 3)
    items = listed(connector)
    job = annotator.jobs.retrieve(items[0].metadata["job"])
    shape = next(each for each in job.get_annotations().shapes if each.frame == 0).to_dict()
    job.update_annotations({"shapes": [{**shape, "type": "rectangle", "points": [9.0, 9.0, 19.0, 19.0]}]})
    changes = [
        Change(item, item.image_id or "", item.size, updated={only(item)[0]: {**only(item)[1], "label": "nut"}})
        for item in items
    ]
    changes[0] = replace(changes[0], notes=[note(new_item(tmp_path, "0.png"))])
    assert connector.change(changes, losses=LossReport()) == {items[0].image_id}
    assert job.get_issues() == []
    assert [(only(item)[1]["label"], only(item)[1]["bbox"]) for item in listed(connector)] == [
        ("bolt", [9.0, 9.0, 10.0, 10.0]),
        ("nut", [1.0, 6.5, 10.0, 8.0]),
        ("nut", [2.0, 6.5, 10.0, 8.0]),
    ]


def test_a_finding_opens_one_issue_and_the_job_is_looked_at_again(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = cvat.made()
    task = task_of(annotator, connector, tmp_path, ["a.png", "b.png"])
    job = task.get_jobs()[0]
    job.update({"state": "completed"})
    item = listed(connector)[1]
    assert item.work == "annotation completed"
    told = note(new_item(tmp_path, "b.png"), [4, 6, 10, 8])
    for _ in range(2):
        changed(connector, listed(connector)[1], notes=[told])
    (issue,) = job.fetch().get_issues()
    assert (issue.frame, issue.position) == (1, [4.0, 6.0, 14.0, 14.0])
    assert (job.stage, job.state) == ("validation", "new")
    job.update({"state": "completed"})
    changed(connector, listed(connector)[1], notes=[told])
    assert job.fetch().state == "completed", "nothing was new, so that the work stays handed in"


def test_a_finding_without_a_place_is_where_its_annotation_is(cvat: Site, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path, 1)
    (item,) = listed(connector)
    told = replace(note(new_item(tmp_path, "0.png")), remote_annotation_id=only(item)[0])
    changed(connector, item, notes=[told])
    (item,) = listed(connector)
    assert [issue["position"] for issue in item.metadata["issues"]] == [[0.0, 6.5, 10.0, 14.5]]


def test_another_annotators_version_is_not_changed(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    from cvat_sdk import models

    connector = cvat.made()
    task = task_of(annotator, connector, tmp_path, ["a.png"])
    request = models.JobWriteRequest(type="ground_truth", task_id=task.id, frame_selection_method="manual", frames=[0])
    model, _ = annotator.api_client.jobs_api.create(request)
    draw(annotator.jobs.retrieve(model.id), shapes=[a_box(0, label_of(task))])
    (item,) = listed(connector)
    remote_id, before = only(item)
    change = Change(item, "0" * 16, item.size, updated={remote_id: {**before, "label": "nut"}})
    assert connector.change([change], losses=LossReport()) == {"0" * 16}
    assert listed(connector) == [item]


# ---------------------------------------------------------------------------------------------------- faults on the way


def prepared(cvat: Site, folder: Path) -> Connector:
    """A project with an image that has boxes 10 pixels apart, from 0 to 20."""
    connector = cvat.made()
    rows = [box(x=left, attributes={"length": 3}) for left in (0.0, 10.0, 20.0)]
    connector.create([new_item(folder, "a.png", rows)], losses=LossReport())
    return connector


def push(connector: Connector, told: Note) -> None:
    """Send what the server still lacks, as `curate push` does: the first box is a nut, the second goes, two are new."""
    (item,) = listed(connector)
    there = {each.row["bbox"][0]: each for each in item.annotations or ()}
    updated = {there[0.0].remote_id: {**there[0.0].row, "label": "nut"}} if there[0.0].row["label"] == "bolt" else {}
    change = Change(
        item,
        item.image_id or "",
        item.size,
        created=[box(x=left, attributes={"length": 3}) for left in (30.0, 40.0) if left not in there],
        updated=updated,
        deleted=[there[10.0].remote_id] if 10.0 in there else [],
        notes=[told],
    )
    connector.change([change], losses=LossReport())


def check(connector: Connector, stand_in: servers.Cvat) -> None:
    """The image has what it should have, once."""
    (item,) = listed(connector)
    labels = [(bbox[0], label) for _, label, bbox in contents(item)]
    assert sorted(labels) == [(0.0, "nut"), (20.0, "bolt"), (30.0, "bolt"), (40.0, "bolt")]
    assert len(stand_in.model.issues) == len(item.metadata["issues"]) == 1
    assert item.metadata["stage"] == "validation"


@pytest.mark.parametrize("fault", ["before", "after", 500, 503])
def test_a_fault_at_any_request_changes_everything_once(
    fault: servers.Fault, cvat: Site, stand_in: servers.Cvat, tmp_path: Path
) -> None:
    told = note(new_item(tmp_path, "a.png"), [4, 6, 10, 8])
    sent = 1
    number = 0
    while number < sent:
        stand_in.model = Model(stand_in.url)
        connector = prepared(cvat, tmp_path)
        before = len(stand_in.seen)
        stand_in.fault = at(number, fault)
        try:
            push(connector, told)
        except CurateError:
            stand_in.fault = lambda method, path: None
            push(connector, told)
        sent = len(stand_in.seen) - before
        stand_in.fault = lambda method, path: None
        check(connector, stand_in)
        number += 1
    assert number > 10


def test_a_client_killed_at_any_request_changes_everything_once(
    cvat: Site, stand_in: servers.Cvat, tmp_path: Path
) -> None:
    told = note(new_item(tmp_path, "a.png"), [4, 6, 10, 8])
    for number in range(14):
        stand_in.model = Model(stand_in.url)
        connector = prepared(cvat, tmp_path)
        stand_in.fault = at(number, "after", on=True)
        with pytest.raises(UnavailableError):
            push(connector, told)
        stand_in.fault = lambda method, path: None
        push(cvat.connector(connector.address.path), told)
        check(connector, stand_in)
