"""Annotators and curate on the same tasks of a real Label Studio server: whose work holds, and what they are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from curate.checks.findings import Finding
from curate.connectors.base import Change, Note
from curate.connectors.label_studio.connector import LabelStudio
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from tests.connectors.label_studio.label_studio_samples import (
    SIZE,
    annotation_of,
    differences,
    new_item,
    pushed,
    read,
    remote_ids,
    result_of,
    row,
    versions,
)
from tests.servers import label_studio as servers

pytestmark = pytest.mark.slow


def test_two_annotators_and_one_who_skips(connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path) -> None:
    second = f"Token {server.annotator('second@example.com')}"
    third = f"Token {server.annotator('third@example.com')}"
    item = pushed(connector, new_item(0, tmp_path, [row(7, Shape(bbox=[1, 2, 3, 4]), "car")]))[f"{1:016x}"]
    result = result_of(server, annotation_of(item))
    path = f"/api/tasks/{item.remote_id}/annotations/"
    other = [{**result[0], "value": {**result[0]["value"], "rectanglelabels": ["dog"]}}]
    theirs = server.request("POST", path, {"result": other}, authorization=second)["id"]
    server.request("POST", path, {"result": [], "was_cancelled": True}, authorization=third)
    (now,) = read(connector)
    said = {(each.layer, each.row["label"], each.remote_id, each.annotation_id) for each in now.annotations or ()}
    region, first = result[0]["id"], annotation_of(item)
    # Who pushes is no annotator; the first who answers is right, as long as nobody says otherwise.
    assert said == {("ground_truth", "dog", f"{theirs}:{region}", f"{7:016x}")}
    metadata = now.metadata["label_studio"]
    assert [each["completed_by"]["email"] for each in metadata["skipped"]] == ["third@example.com"]
    server.request("POST", path, {"result": result}, authorization=third)
    (after,) = read(connector)
    assert [each for each in after.annotations or () if each.layer == "ground_truth"] == list(now.annotations or ())
    assert {(each.layer, each.row["label"]) for each in after.annotations or ()} == {
        ("ground_truth", "dog"),
        ("annotators/second@example.com", "dog"),
        ("annotators/third@example.com", "car"),
    }
    server.request("PATCH", f"/api/annotations/{first}/", {"ground_truth": True})
    (marked,) = read(connector)
    assert [each.row["label"] for each in marked.annotations or () if each.layer == "ground_truth"] == ["car"]
    assert set(connector.project().details["annotators"]) == {
        f"{name}@example.com" for name in ("admin", "second", "third")
    }


def test_what_is_skipped_or_deleted_is_not_taken_away(
    connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path
) -> None:
    rows = [row(number, Shape(bbox=[1, 2, 3, 4]), "car") for number in range(3)]
    there = pushed(connector, *(new_item(number, tmp_path, [rows[number]]) for number in range(3)))
    skipped, deleted, other = (there[f"{number:016x}"] for number in (1, 2, 3))
    # As the editor skips: the annotation is saved as one that does not count.
    result = result_of(server, annotation_of(skipped))
    server.request("PATCH", f"/api/annotations/{annotation_of(skipped)}/", {"result": result, "was_cancelled": True})
    server.request("DELETE", f"/api/annotations/{annotation_of(deleted)}/")
    server.request("POST", f"/api/tasks/{other.remote_id}/annotations/", {"result": [], "was_cancelled": True})
    now = {item.remote_id: item for item in read(connector, versions(list(there.values())))}
    assert {key for key, item in now.items() if item.unlabelled} == {skipped.remote_id, deleted.remote_id}
    assert now[skipped.remote_id].work == now[deleted.remote_id].work == ""
    # Another annotator's skipping is no answer to what is asked.
    assert now[other.remote_id].work == other.work
    assert now[other.remote_id].annotations == other.annotations
    # It is handed in after all.
    server.request("PATCH", f"/api/annotations/{annotation_of(skipped)}/", {"result": result, "was_cancelled": False})
    (again,) = (item for item in read(connector) if item.remote_id == skipped.remote_id)
    assert (again.unlabelled, again.annotations) == (False, skipped.annotations)
    assert again.work not in ("", skipped.work)


def test_what_curate_saves_is_nobodys_work(connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path) -> None:
    rows = [row(number, Shape(bbox=[1, 2, 3, 4]), "car") for number in range(2)]
    there = pushed(connector, new_item(0, tmp_path, rows[:1]), new_item(1, tmp_path))
    first, second = there[f"{1:016x}"], there[f"{2:016x}"]
    (remote,) = remote_ids(first).values()
    changes = [
        Change(first, first.image_id or "", SIZE, updated={remote: {**rows[0], "label": "dog"}}),
        Change(second, second.image_id or "", SIZE, created=rows[1:]),
    ]
    assert connector.change(changes, losses=LossReport()) == set()
    person = f"Token {server.annotator('person@example.com')}"
    curates = {}
    for item in (first, second):
        (own,) = server.request("GET", f"/api/tasks/{item.remote_id}/")["annotations"]
        curates[own["id"]] = own["result"]
        path = f"/api/tasks/{item.remote_id}/annotations/"
        server.request("POST", path, {"result": own["result"]}, authorization=person)
    assert [{each.layer for each in item.annotations or ()} for item in read(connector)] == [{"ground_truth"}] * 2
    assert {annotation_of(item) for item in read(connector)}.isdisjoint(curates)
    # A person saves what curate has saved: it is somebody's now.
    for number, result in curates.items():
        server.request("PATCH", f"/api/annotations/{number}/", {"result": result}, authorization=person)
    layers = {"ground_truth", "annotators/admin@example.com", "annotators/person@example.com"}
    assert [{each.layer for each in item.annotations or ()} for item in read(connector)] == [layers] * 2


def test_findings_are_columns_and_a_tab(connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path) -> None:
    def note(number: int, text: str) -> Note:
        image = f"{number + 1:016x}"
        return Note(
            Finding("mislabeled", 0.9, f"{number}.png", image, f"check {text}", given="car", suggested="dog"), text
        )

    items = [
        new_item(0, tmp_path, priority=0.00004),
        new_item(1, tmp_path, notes=[note(1, "probably dog")], priority=0.9),
        new_item(2, tmp_path, priority=0.5),
    ]
    there = pushed(connector, *items)
    # The most urgent is served first.
    assert sorted(there, key=lambda image: int(there[image].remote_id)) == [
        items[place].image_id for place in (1, 2, 0)
    ]
    item = there[items[1].image_id]
    change = Change(item, item.image_id or "", SIZE, notes=[note(1, "too dark")], priority=0.95)
    connector.change([change], losses=LossReport())
    before = server.request("GET", f"/api/tasks/{item.remote_id}/")
    connector.change([change], losses=LossReport())
    task = server.request("GET", f"/api/tasks/{item.remote_id}/")
    assert task["updated_at"] == before["updated_at"]  # what is there is not sent again
    assert task["data"]["curate_finding"] == "probably dog; too dark"
    assert [each["text"] for each in task["meta"]["curate"]["findings"]] == ["probably dog", "too dark"]
    project = connector.address.path.removeprefix("projects/")
    views = server.request("GET", f"/api/dm/views?project={project}")
    (tab,) = [view for view in views if view["data"]["title"] == "curate"]
    listed = server.request("GET", f"/api/tasks?view={tab['id']}&project={project}")["tasks"]
    assert [task["data"]["curate_score"] for task in listed] == [0.95, 0.5, 0.0]
    now = {each.image_id: each for each in read(connector)}[item.image_id]
    assert (now.location, now.content_hash, now.work) == (item.location, item.content_hash, item.work)


def test_annotators_see_the_finding_where_they_work(
    connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path
) -> None:
    def note(number: int, text: str, remote: str | None = None) -> Note:
        found = Finding("mislabeled", 0.9, "x", f"{number + 1:016x}", text, annotation_id=f"{100 + number:016x}")
        return Note(found, text, remote)

    items = [
        new_item(number, tmp_path, [row(100 + number, Shape(bbox=[1, 2, 3, 4]), "car")], notes=notes, priority=0.5)
        for number, notes in enumerate([[note(0, "a dog")], []])
    ]
    there = pushed(connector, *items)
    first, second = (there[item.image_id] for item in items)
    changes = [
        Change(item, item.image_id or "", SIZE, notes=[note(number, "too dark", *remote_ids(item).values())])
        for number, item in enumerate([first, second])
    ]
    for _ in range(2):
        connector.change(changes, losses=LossReport())
        now = {item.image_id: item for item in read(connector)}
        changes = [replace(change, item=now[change.image_id]) for change in changes]
    # The tab has the tasks although they are labelled, and anybody can open and save what they show.
    project = connector.address.path.removeprefix("projects/")
    (tab,) = server.request("GET", f"/api/dm/views?project={project}")
    listed = server.request("GET", f"/api/tasks?view={tab['id']}&project={project}")["tasks"]
    assert {str(task["id"]) for task in listed} == {first.remote_id, second.remote_id}
    person = f"Token {server.annotator('opens@example.com')}"
    for item, text in ((first, "a dog\ntoo dark"), (second, "too dark")):
        task = server.request("GET", f"/api/tasks/{item.remote_id}/?project={project}", authorization=person)
        (annotation,) = task["annotations"]
        assert [region["meta"]["text"] for region in annotation["result"]] == [[text]]
        changed = {"result": annotation["result"]}
        server.request("PATCH", f"/api/annotations/{annotation['id']}/", changed, authorization=person)
    # What was told is not what is said.
    for sent in items:
        assert differences(now[sent.image_id], sent.rows) == []


def test_change_leaves_alone_what_somebody_changed(
    connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path
) -> None:
    rows = [row(number, Shape(bbox=[1, 2, 3, 4]), "car") for number in range(2)]
    there = pushed(connector, new_item(0, tmp_path, rows[:1]), new_item(1, tmp_path, rows[1:]), new_item(2, tmp_path))
    items = [there[f"{number:016x}"] for number in (1, 2, 3)]
    theirs = result_of(server, annotation_of(items[0]))
    server.request("PATCH", f"/api/annotations/{annotation_of(items[0])}/", {"result": theirs})
    draft = {"result": theirs, "annotation": annotation_of(items[1])}
    server.request("POST", f"/api/tasks/{items[1].remote_id}/annotations/{annotation_of(items[1])}/drafts", draft)
    server.request("POST", f"/api/tasks/{items[2].remote_id}/annotations/", {"result": theirs})
    before = {item.remote_id: item.work for item in read(connector)}
    changes = [
        Change(
            item, item.image_id or "", SIZE, updated={remote_ids(item)[each["annotation_id"]]: {**each, "label": "dog"}}
        )
        for item, each in zip(items[:2], rows, strict=True)
    ]
    changes.append(Change(items[2], items[2].image_id or "", SIZE, created=[row(9, Shape(bbox=[1, 2, 3, 4]), "car")]))
    losses = LossReport()
    left_alone = connector.change(changes, losses=losses)
    assert left_alone == {item.image_id for item in items}
    assert {item.remote_id: item.work for item in read(connector)} == before
    assert {(loss.what, loss.reason.partition(";")[0], loss.count) for loss in losses.losses} == {
        ("changes", "changed there meanwhile", 2),
        ("changes", "somebody is at work on it there and has not handed it in", 1),
    }
