"""Push and pull against a server in memory: what reaches the other side, and what is never lost or doubled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.checks.findings import Finding
from curate.checks.measures.content import content_hash
from curate.checks.store import replace_findings, stored_findings
from curate.connectors.base import RemoteAnnotation, Row
from curate.connectors.sync.content import rows_of, table_of
from curate.connectors.sync.pull import pull
from curate.connectors.sync.push import PushPlan, PushResult, push
from curate.dataset import begin, open_dataset
from curate.formats.importing import import_source
from tests.connectors.memory_connector import Cut, Memory, box, png


def dataset(folder: Path, images: int = 3) -> str:
    """A dataset of images with two boxes each."""
    folder.mkdir()
    annotations = []
    for number in range(images):
        (folder / f"{number}.png").write_bytes(png(number))
        for place in range(2):
            said = {"id": 10 * number + place, "image_id": number, "category_id": 1 + place, "iscrowd": 0}
            annotations.append({**said, "bbox": [3.0 + 20 * place, 4.0, 10.0, 12.0], "area": 120.0})
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "width": 48, "height": 32} for k in range(images)],
        "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}],
        "annotations": annotations,
    }
    (folder / "labels.json").write_text(json.dumps(content))
    import_source("parts", folder / "labels.json", command="test")
    return "parts"


def rows(name: str = "parts") -> list[Row]:
    return rows_of(open_dataset(name).table("annotations"))


def ids(name: str = "parts") -> list[str]:
    return [str(each) for each in open_dataset(name).table("images")["image_id"].to_pylist()]


def edit(annotation_id: str, **changes: Any) -> None:
    with begin("parts", command="edit") as transaction:
        table = transaction.base.table("annotations", where=f"annotation_id = '{annotation_id}'")
        transaction.upsert("annotations", table_of([{**rows_of(table)[0], **changes}]), "annotation_id")


def send(server: Memory, *, prefer: Any = None, **plan: Any) -> PushResult:
    return push("parts", server, PushPlan(**plan), prefer=prefer, command="curate push")


def content(row: Row) -> tuple[Any, ...]:
    return row["label"], tuple(row["bbox"]), tuple(sorted(row["attributes"].items()))


def test_a_pull_makes_a_dataset_and_a_second_one_changes_nothing() -> None:
    server = Memory()
    server.add("a.png", png(1), [box("bolt", 3)])
    server.add("b.png", png(2), [box("nut", 8, worn=True)])
    first = pull("parts", server, create=True, command="curate import")
    assert sorted(map(content, rows())) == [("bolt", (3, 5, 10, 12), ()), ("nut", (8, 5, 10, 12), (("worn", True),))]
    assert first.counts["images added"] == 2
    second = pull("parts", server, command="curate pull")
    assert second.counts == {}
    assert (second.moved, server.downloads) == (0, 2)
    assert second.commit == first.commit


def test_images_that_are_here_already_are_matched_by_content_and_their_boxes_by_what_they_say(tmp_path: Path) -> None:
    name = dataset(tmp_path / "set")
    server = Memory()
    server.add("renamed.png", png(1), [box("bolt", 3, 4.0), box("screw", 30)])
    pull(name, server, command="curate pull")
    assert len(ids()) == 3
    assert len(rows()) == 7
    assert {row["label"] for row in rows()} == {"bolt", "nut", "screw"}


def test_a_push_puts_images_there_and_a_second_one_nothing(tmp_path: Path) -> None:
    dataset(tmp_path / "set")
    server = Memory()
    first = send(server, images=ids())
    assert (first.created, first.annotations) == (3, 6)
    again = send(server, images=ids())
    assert (again.created, again.changed, again.unchanged) == (0, 0, 3)
    assert len(server.tasks) == 3
    assert pull("parts", server, command="curate pull").counts == {}


@pytest.mark.parametrize("carries_ids", [True, False])
@pytest.mark.parametrize("step", [f"{when} create {k}" for when in ("before", "after") for k in range(3)])
def test_whatever_breaks_a_push_the_next_one_completes_it_and_doubles_nothing(
    tmp_path: Path, step: str, carries_ids: bool
) -> None:
    dataset(tmp_path / "set")
    server = Memory(carries_ids=carries_ids)

    with pytest.raises(Cut):
        _cut_after(server, step)
    server.fault = lambda _: None
    send(server, images=ids())
    assert sorted(task.location for task in server.tasks.values()) == ["0.png", "1.png", "2.png"]
    assert all(len(task.rows) == 2 for task in server.tasks.values())
    assert pull("parts", server, command="curate pull").counts == {}


def _cut_after(server: Memory, step: str) -> None:
    def cut(now: str) -> None:
        if now == step:
            server.fault = _always
            raise Cut("cut")

    server.fault = cut
    send(server, images=ids())


def _always(step: str) -> None:
    raise Cut("still down")


def test_what_changed_on_one_side_goes_to_the_other_and_what_a_service_cannot_hold_stays(tmp_path: Path) -> None:
    dataset(tmp_path / "set")
    first = rows()[0]
    edit(first["annotation_id"], attributes={"worn": True})
    server = Memory()
    send(server, images=ids())
    task = next(task for task in server.tasks.values() if task.image_id == first["image_id"])
    key = next(key for key, own in task.own_ids.items() if own == first["annotation_id"])
    task.rows[key]["label"] = "screw"
    task.rows[key]["attributes"] = {}
    server_losing = {**task.rows[key]}
    result = pull("parts", server, command="curate pull")
    assert result.counts["annotations changed"] == 1
    now = next(row for row in rows() if row["annotation_id"] == first["annotation_id"])
    assert (now["label"], now["attributes"], now["source_id"]) == ("screw", {}, first["source_id"])
    edit(first["annotation_id"], bbox=[1.0, 2.0, 3.0, 4.0])
    assert send(server).changed == 1
    assert task.rows[key]["bbox"] == [1.0, 2.0, 3.0, 4.0]
    assert task.rows[key]["label"] == server_losing["label"]
    assert pull("parts", server, command="curate pull").counts == {}


@pytest.mark.parametrize("prefer", [None, "theirs", "ours"])
def test_a_conflict_is_told_every_time_and_left_alone_until_somebody_decides(tmp_path: Path, prefer: Any) -> None:
    dataset(tmp_path / "set", 1)
    server = Memory()
    send(server, images=ids())
    (task,) = server.tasks.values()
    key, own = next(iter(task.own_ids.items()))
    task.rows[key]["label"] = "theirs"
    edit(own, label="ours")
    for _ in range(2):
        result = pull("parts", server, command="curate pull")
        assert [conflict.local_id for _, conflict in result.conflicts] == [own]
    assert len(send(server).conflicts) == 1
    labels = {row["annotation_id"]: row["label"] for row in rows()}
    assert (labels[own], task.rows[key]["label"]) == ("ours", "theirs")
    if prefer == "theirs":
        assert not pull("parts", server, prefer="theirs", command="curate pull").conflicts
    elif prefer == "ours":
        assert not send(server, prefer="ours").conflicts
    else:
        return
    labels = {row["annotation_id"]: row["label"] for row in rows()}
    assert labels[own] == task.rows[key]["label"] == prefer
    assert not pull("parts", server, command="curate pull").conflicts


def mislabeled(row: Row, suggested: str = "nut") -> Finding:
    image = open_dataset("parts").table("images", where=f"image_id = '{row['image_id']}'").to_pylist()[0]
    return Finding(
        "mislabeled", 0.9, image["location"], row["image_id"], "mistakes", row["annotation_id"],
        bbox=row["bbox"], given=row["label"], suggested=suggested, evidence={"why": "its neighbours say so"},
    )  # fmt: skip


def test_findings_are_queued_and_close_when_somebody_has_answered(tmp_path: Path) -> None:
    dataset(tmp_path / "set")
    bolts = [row for row in rows() if row["label"] == "bolt"]
    findings = [mislabeled(row) for row in bolts]
    with begin("parts", command="check") as transaction:
        replace_findings(transaction, "mistakes", findings)
    server = Memory()
    result = send(server, images=[row["image_id"] for row in bolts], findings=stored_findings(open_dataset("parts")))
    assert result.findings == 3
    assert {finding.status for finding in stored_findings(open_dataset("parts"))} == {"queued"}
    assert sum(len(task.notes) for task in server.tasks.values()) == 3
    tasks = {task.image_id: task for task in server.tasks.values()}
    fixed, rejected, waiting = (tasks[row["image_id"]] for row in bolts)
    key = next(key for key, own in fixed.own_ids.items() if own == bolts[0]["annotation_id"])
    fixed.rows[key]["label"] = "nut"
    rejected.work = "handed in"
    pulled = pull("parts", server, command="curate pull")
    status = {f.annotation_id: f for f in stored_findings(open_dataset("parts"))}
    assert [status[row["annotation_id"]].status for row in bolts] == ["fixed", "rejected", "queued"]
    assert status[bolts[0]["annotation_id"]].evidence["verdict"]["how"] == "changed as suggested"
    assert pulled.waiting == 1
    assert not waiting.work
    again = send(server, images=[bolts[2]["image_id"]], findings=[status[bolts[2]["annotation_id"]]])
    assert (again.created, again.changed) == (0, 0)


def finding_on(row: Row) -> Finding:
    with begin("parts", command="check") as transaction:
        replace_findings(transaction, "mistakes", [mislabeled(row)])
    return stored_findings(open_dataset("parts"))[0]


def test_a_hand_in_between_two_pushes_is_an_answer_and_our_own_write_is_none(tmp_path: Path) -> None:
    dataset(tmp_path / "set", 1)
    first, other = sorted(rows(), key=lambda row: row["label"])
    finding = finding_on(first)
    server = Memory()
    send(server, images=ids(), findings=[finding])
    (task,) = server.tasks.values()
    task.work = "before"
    edit(other["annotation_id"], label="screw")
    send(server)
    assert pull("parts", server, command="curate pull").waiting == 0
    assert stored_findings(open_dataset("parts"))[0].status == "rejected"


def test_writing_back_is_no_answer(tmp_path: Path) -> None:
    dataset(tmp_path / "set", 1)
    first, other = sorted(rows(), key=lambda row: row["label"])
    finding = finding_on(first)
    server = Memory()
    send(server, images=ids())
    (task,) = server.tasks.values()
    task.work = "an old hand-in"
    pull("parts", server, command="curate pull")
    send(server, images=ids(), findings=[finding])
    edit(other["annotation_id"], label="screw")
    send(server)
    assert task.work.endswith("curate")
    assert pull("parts", server, command="curate pull").waiting == 1
    assert stored_findings(open_dataset("parts"))[0].status == "queued"


def test_a_verdict_outlasts_the_next_run_of_the_check(tmp_path: Path) -> None:
    dataset(tmp_path / "set", 1)
    row = rows()[0]
    finding = finding_on(row)
    server = Memory()
    send(server, images=ids(), findings=[finding])
    (task,) = server.tasks.values()
    task.work = "handed in"
    pull("parts", server, command="curate pull")
    again = finding_on(row)
    assert again.status == "rejected"
    assert again.evidence["verdict"]["how"] == "looked at, and left as it was"


def test_skipped_work_takes_nothing_away_and_answers_nothing(tmp_path: Path) -> None:
    dataset(tmp_path / "set", 1)
    finding = finding_on(rows()[0])
    server = Memory()
    send(server, images=ids(), findings=[finding])
    (task,) = server.tasks.values()
    kept, task.rows, task.unlabelled, task.work = task.rows, {}, True, "skipped"
    pull("parts", server, command="curate pull")
    assert len(rows()) == 2
    assert stored_findings(open_dataset("parts"))[0].status == "queued"
    task.rows, task.unlabelled = kept, False
    pull("parts", server, command="curate pull")
    assert len(rows()) == 2
    assert stored_findings(open_dataset("parts"))[0].status == "rejected"


@pytest.mark.parametrize("carries_ids", [True, False])
def test_what_was_deleted_there_is_put_there_once_and_is_the_same_image(tmp_path: Path, carries_ids: bool) -> None:
    dataset(tmp_path / "set")
    server = Memory(carries_ids=carries_ids)
    send(server, images=ids())
    del server.tasks[next(iter(server.tasks))]
    result = send(server, images=ids())
    assert (result.created, result.unchanged) == (1, 2)
    assert send(server, images=ids()).created == 0
    assert len(server.tasks) == 3
    pull("parts", server, command="curate pull")
    assert (len(ids()), len(rows())) == (3, 6)


def test_an_image_that_was_put_there_anew_is_no_new_image_here(tmp_path: Path) -> None:
    dataset(tmp_path / "set")
    server = Memory()
    send(server, images=ids())
    key, task = next(iter(server.tasks.items()))
    del server.tasks[key]
    server.add(task.location, task.content, list(task.rows.values()))
    result = pull("parts", server, command="curate pull")
    assert (result.gone, len(ids()), len(rows())) == (1, 3, 6)


@pytest.mark.parametrize("carries_ids", [True, False])
def test_what_a_service_converts_or_cannot_hold_is_sent_once(tmp_path: Path, carries_ids: bool) -> None:
    dataset(tmp_path / "set")

    def holds(row: Row) -> Row | None:
        if row["label"] == "nut":
            return None
        x, y, width, height = row["bbox"]
        return {**row, "type": "polygon", "bbox": [x - 2, y - 2, width + 3, height + 3], "attributes": {}}

    server = Memory(carries_ids=carries_ids, holds=holds)
    send(server, images=ids())
    before = {row["annotation_id"]: content(row) for row in rows()}
    for _ in range(2):
        assert pull("parts", server, command="curate pull").to_push == 0
        result = send(server, images=ids())
        assert (result.created, result.changed, result.annotations) == (0, 0, 0)
    assert {row["annotation_id"]: content(row) for row in rows()} == before
    assert [len(task.rows) for task in server.tasks.values()] == [1, 1, 1]
    nut = next(row for row in rows() if row["label"] == "nut")
    edit(nut["annotation_id"], label="bolt")
    assert send(server).changed == 1
    assert sorted(len(task.rows) for task in server.tasks.values()) == [1, 1, 2]


def test_another_version_of_the_same_annotations_is_not_another_set(tmp_path: Path) -> None:
    dataset(tmp_path / "set", 1)
    first = sorted(rows(), key=lambda row: row["label"])[0]
    finding = finding_on(first)
    server = Memory(carries_ids=False)
    send(server, images=ids(), findings=[finding])
    (task,) = server.tasks.values()
    task.rows = {f"second:{key}": {**row} for key, row in task.rows.items()}
    key = next(key for key, row in task.rows.items() if row["label"] == "bolt")
    task.rows[key]["label"] = "nut"
    task.work = "handed in"
    result = pull("parts", server, command="curate pull")
    assert first["annotation_id"] in {row["annotation_id"] for row in rows()}
    assert result.counts["annotations changed"] == 1
    assert "annotations added" not in result.counts
    now = stored_findings(open_dataset("parts"))[0]
    assert (now.status, now.evidence["verdict"]["how"]) == ("fixed", "changed as suggested")


def test_an_image_whose_content_the_server_tells_is_not_downloaded(tmp_path: Path) -> None:
    dataset(tmp_path / "set", 2)
    server = Memory()
    path = open_dataset("parts").table("images", where="location = '1.png'").to_pylist()[0]["path"]
    server.add("known.png", png(1), content_hash=content_hash(path))
    server.add("same-bytes.png", png(0))
    pull("parts", server, command="curate pull")
    assert server.downloads == 1
    assert len(ids()) == 2
    assert not list((open_dataset("parts").path / "files").rglob("*.png"))


def test_several_annotators_have_a_layer_each_and_their_agreement_is_told() -> None:
    server = Memory()
    key = server.add("a.png", png(1), [box("bolt", 3)])
    said = [("ann", box("bolt", 3)), ("bob", box("bolt", 4)), ("bob", box("nut", 30))]
    server.tasks[key].other = [
        RemoteAnnotation(f"{who}:{n}", row, f"annotators/{who}") for n, (who, row) in enumerate(said)
    ]
    result = pull("parts", server, create=True, command="curate import")
    assert result.agreement is not None
    assert (result.agreement.annotators, result.agreement.images) == (2, 1)
    assert result.agreement.f1 == pytest.approx(2 / 3)
    assert sorted(row["layer"] for row in rows()) == [
        "annotators/ann",
        "annotators/bob",
        "annotators/bob",
        "ground_truth",
    ]
    server.tasks[key].other = server.tasks[key].other[:2]
    pull("parts", server, command="curate pull")
    assert sorted(row["layer"] for row in rows()) == ["annotators/ann", "annotators/bob", "ground_truth"]


def test_an_image_that_is_gone_there_stays_here_and_its_findings_are_open_again(tmp_path: Path) -> None:
    dataset(tmp_path / "set", 1)
    row = rows()[0]
    with begin("parts", command="check") as transaction:
        replace_findings(transaction, "mistakes", [mislabeled(row)])
    server = Memory()
    send(server, images=ids(), findings=stored_findings(open_dataset("parts")))
    server.tasks.clear()
    result = pull("parts", server, command="curate pull")
    assert result.gone == 1
    assert len(ids()) == 1
    assert len(rows()) == 2
    assert [finding.status for finding in stored_findings(open_dataset("parts"))] == ["open"]
