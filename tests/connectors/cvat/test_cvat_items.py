"""Listing: only what changed is moved, every annotator has a layer, and people's work is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.base import Connector
from curate.connectors.cvat import server
from curate.connectors.cvat.jobs import parse_frames, parse_task
from curate.formats.losses import LossReport
from tests.connectors.cvat.cvat_cases import Site, box, contents, listed, new_item, note
from tests.connectors.cvat.test_cvat_shapes import draw
from tests.servers import cvat as servers


def filled(cvat: Site, folder: Path, count: int = 2) -> Connector:
    """A project with one task, and a box on each image."""
    connector = cvat.made()
    items = [new_item(folder, f"{index}.png", [box(x=float(index))], priority=1 - index / 99) for index in range(count)]
    connector.create(items, losses=LossReport())
    return connector


def project_of(connector: Connector) -> int:
    return int(connector.address.path.partition("/")[2])


def task_of(annotator: Any, connector: Connector, folder: Path, names: Sequence[str], **spec: Any) -> Any:
    """A task that a person has made, of images that curate does not know."""
    from cvat_sdk import models

    paths = [new_item(folder, name).path.rename(folder / name) for name in names]
    request = models.TaskWriteRequest(name="by hand", project_id=project_of(connector), **spec)
    return annotator.tasks.create_from_data(request, paths)


def label_of(thing: Any, name: str = "bolt") -> int:
    return int(next(each.id for each in thing.get_labels() if each.name == name))


def a_box(frame: int, label: int, left: float = 1.0) -> dict[str, Any]:
    return {"type": "rectangle", "frame": frame, "label_id": label, "points": [left, 1.0, left + 5, 6.0]}


def test_what_is_known_is_not_asked_for_again(cvat: Site, stand_in: servers.Cvat, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path)
    first = listed(connector)
    stand_in.seen.clear()
    again = listed(connector, {item.remote_id: item.version for item in first})
    assert [(item.remote_id, item.version, item.annotations) for item in again] == [
        (item.remote_id, item.version, None) for item in first
    ]
    assert not [each for each in stand_in.seen if "annotations" in each]


def test_what_changed_comes_with_its_annotations(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path)
    before = listed(connector)
    other = task_of(annotator, connector, tmp_path, ["x.png"])
    known = {item.remote_id: item.version for item in listed(connector)}
    job = other.get_jobs()[0]
    draw(job, shapes=[a_box(0, label_of(job))])
    now = listed(connector, known)
    assert [item.annotations is None for item in now] == [True, True, False]
    assert [item.version for item in now[:2]] == [item.version for item in before]
    assert now[2].version != known[now[2].remote_id]


def test_items_made_by_people_have_their_names_split_and_ids(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = cvat.made()
    task = task_of(annotator, connector, tmp_path, ["b.png", "a.png"], subset="Validation")
    job = task.get_jobs()[0]
    draw(job, shapes=[a_box(1, label_of(job))], tags=[{"frame": 0, "label_id": label_of(job, "nut")}])
    found = listed(connector)
    assert [(item.remote_id, item.location, item.split, item.image_id) for item in found] == [
        (f"{task.id}:0", "a.png", "val", None),
        (f"{task.id}:1", "b.png", "val", None),
    ]
    data = job.get_annotations()
    assert [item.annotations[0].remote_id for item in found] == [  # type: ignore[index]
        f"tag:{data.tags[0].id}",
        f"shape:{data.shapes[0].id}",
    ]
    assert found[0].annotations[0].row["bbox"] is None  # type: ignore[index]
    for path in (f"tasks/{task.id}", f"jobs/{job.id}"):
        assert [item.remote_id for item in listed(cvat.connector(path))] == [f"{task.id}:0", f"{task.id}:1"]
    assert connector.link_of(found[1]) == f"{cvat.url}/tasks/{task.id}/jobs/{job.id}?frame=1"


def test_frames_that_were_taken_out_are_left_out(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = cvat.made()
    task = task_of(annotator, connector, tmp_path, ["a.png", "b.png", "c.png"])
    task.remove_frames_by_ids([1])
    assert [item.remote_id for item in listed(connector)] == [f"{task.id}:0", f"{task.id}:2"]


def test_replicas_and_ground_truth_are_layers_of_their_own(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    from cvat_sdk import models

    connector = cvat.made()
    task = task_of(annotator, connector, tmp_path, ["a.png", "b.png"], consensus_replicas=2)
    request = models.JobWriteRequest(type="ground_truth", task_id=task.id, frame_selection_method="manual", frames=[1])
    annotator.api_client.jobs_api.create(request)
    jobs = sorted(task.get_jobs(), key=lambda job: int(job.id))
    assert [str(job.type) for job in jobs] == ["annotation", "replica", "replica", "ground_truth"]
    me = annotator.users.retrieve_current_user() if cvat.stand_in is None else None
    jobs[1].update({"assignee": 1 if me is None else me.id})
    for left, job in enumerate(jobs):
        draw(job, shapes=[a_box(1, label_of(job), float(left))])
    first, second = listed(connector)
    name = "admin" if me is None else me.username
    assert contents(first) == []
    assert [(layer, bbox[0]) for layer, _, bbox in contents(second)] == [
        ("ground_truth", 0.0),
        (f"annotators/{name}", 1.0),
        (f"annotators/replica-{jobs[2].id}", 2.0),
        ("annotators/ground_truth", 3.0),
    ]
    (only,) = listed(cvat.connector(f"jobs/{jobs[3].id}"))
    assert only.remote_id == second.remote_id


def test_honeypots_are_left_out_and_told(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    from cvat_sdk import models

    connector = cvat.made()
    names = [f"{letter}.png" for letter in "abcdef"]
    paths = [new_item(tmp_path, name).path.rename(tmp_path / name) for name in names]
    request = models.TaskWriteRequest(name="pool", project_id=project_of(connector), segment_size=2)
    pool = {"mode": "gt_pool", "frame_selection_method": "manual", "frames": names[4:], "frames_per_job_count": 1}
    params = {"sorting_method": "random", "validation_params": pool}
    task = annotator.tasks.create_from_data(request, paths, data_params=params)
    layout, _ = annotator.api_client.tasks_api.retrieve_validation_layout(task.id)
    assert len(layout.honeypot_frames) == 2
    jobs = [job for job in task.get_jobs() if str(job.type) == "annotation"]
    for job in jobs:
        label = label_of(job)
        draw(job, shapes=[a_box(frame, label) for frame in range(job.start_frame, job.stop_frame + 1)])
    losses = LossReport()
    items = listed(connector, losses=losses)
    assert sorted(item.location for item in items) == names
    assert not {int(item.remote_id.partition(":")[2]) for item in items} & set(layout.honeypot_frames)
    assert {item.location: len(item.annotations or ()) for item in items} == {
        **dict.fromkeys(names[:4], 1), **dict.fromkeys(names[4:], 0),
    }  # fmt: skip
    assert [(loss.what, loss.count) for loss in losses.losses] == [("frames", 2)]


def test_where_jobs_overlap_the_first_one_holds_and_the_rest_is_told(
    cvat: Site, annotator: Any, tmp_path: Path
) -> None:
    connector = cvat.made()
    names = [f"{letter}.png" for letter in "abcd"]
    task = task_of(annotator, connector, tmp_path, names, segment_size=3, overlap=1)
    first, second = sorted(task.get_jobs(), key=lambda job: int(job.id))
    assert (first.stop_frame, second.start_frame) == (2, 2)
    label = label_of(task)
    draw(first, shapes=[a_box(2, label)])
    draw(second, shapes=[a_box(2, label), a_box(2, label, 30.0), a_box(3, label)])
    losses = LossReport()
    items = listed(connector, losses=losses)
    assert [len(item.annotations or ()) for item in items] == [0, 0, 1, 1]
    assert [(loss.what, loss.count) for loss in losses.losses] == [("annotations", 1)]


def test_lists_of_several_pages_are_read_to_their_end(
    cvat: Site, annotator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = cvat.made()
    made = [task_of(annotator, connector, tmp_path, [f"{index}.png"]).id for index in range(5)]
    monkeypatch.setattr(server, "_PAGE", 2)
    seen: list[tuple[int, int]] = []
    items = list(
        connector.items(unless={}, losses=LossReport(), progress=lambda done, total: seen.append((done, total)))
    )
    assert [item.remote_id for item in items] == [f"{task}:0" for task in sorted(made)]
    assert seen == [(index, 5) for index in range(1, 6)]


def test_work_is_seen_when_it_is_handed_in(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path, 1)
    (item,) = listed(connector)
    job = annotator.jobs.retrieve(item.metadata["job"])
    works = [item.work]
    for change in ({"state": "in progress"}, {"state": "completed"}, {"stage": "validation"}, {"state": "completed"}):
        job.update(change)
        (found,) = listed(connector, {item.remote_id: item.version})
        works.append(found.work)
    assert works == ["", "", "annotation completed", "", "validation completed"]
    assert (found.metadata["stage"], found.metadata["state"]) == ("validation", "completed")


@pytest.mark.parametrize(
    ("stage", "state", "work"),
    [
        ("annotation", "rejected", ""),
        ("validation", "rejected", ""),
        ("acceptance", "rejected", ""),
        ("acceptance", "new", "acceptance new"),
        ("acceptance", "completed", "acceptance completed"),
    ],
)
def test_what_is_to_be_done_again_is_not_handed_in(
    stage: str, state: str, work: str, cvat: Site, annotator: Any, tmp_path: Path
) -> None:
    connector = filled(cvat, tmp_path, 1)
    (item,) = listed(connector)
    annotator.jobs.retrieve(item.metadata["job"]).update({"stage": stage, "state": state})
    (found,) = listed(connector, {item.remote_id: item.version})
    assert (found.work, found.metadata["state"]) == (work, state)


def test_an_issue_that_was_settled_is_told_by_the_finding(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = cvat.made()
    item = new_item(tmp_path, "a.png", [box()])
    told = note(item, [4, 6, 10, 8])
    connector.create([new_item(tmp_path, "a.png", [box()], notes=[told])], losses=LossReport())
    (before,) = listed(connector)
    job = annotator.jobs.retrieve(before.metadata["job"])
    (issue,) = job.get_issues()
    issue.update({"resolved": True})
    (after,) = listed(connector, {before.remote_id: before.version})
    assert (before.resolved, after.resolved) == (frozenset(), frozenset({told.finding.id}))
    assert after.work == f"issue {issue.id}"
    assert after.version != before.version


def test_an_issue_of_a_person_is_metadata(cvat: Site, annotator: Any, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path, 1)
    (item,) = listed(connector)
    job = item.metadata["job"]
    issue = annotator.issues.create({"job": job, "frame": 0, "position": [1.0, 2, 3, 4], "message": "is this a bolt?"})
    annotator.comments.create({"issue": issue.id, "message": "it is"})
    (item,) = listed(connector)
    assert item.metadata["issues"] == [
        {"id": issue.id, "resolved": False, "position": [1.0, 2.0, 3.0, 4.0], "messages": ["is this a bolt?", "it is"]}
    ]
    assert item.resolved == frozenset()


def test_the_project_says_what_is_in_it(cvat: Site, tmp_path: Path) -> None:
    connector = filled(cvat, tmp_path)
    project = connector.project()
    assert [(info.name, info.color, info.keypoints, info.skeleton) for info in project.classes] == [
        ("bolt", "#ff0000", (), ()),
        ("nut", "#00ff00", (), ()),
        ("person", "#0000ff", ("head", "hip", "foot"), ((1, 2), (2, 3))),
    ]
    assert project.title.startswith("parts")
    assert {name: project.details[name] for name in ("tasks", "images", "jobs")} == {
        "tasks": 1, "images": 2, "jobs": {"annotation: new": 1}
    }  # fmt: skip


def test_the_frames_of_a_video_are_named_after_it() -> None:
    task = parse_task({"id": 3, "name": "drive", "size": 3, "mode": "interpolation", "dimension": "2d"})
    meta = {"size": 3, "frames": [{"name": "cam/drive.mp4", "width": 64, "height": 48}], "deleted_frames": [1]}
    frames = parse_frames(meta, task)
    assert dict(frames.names) == {0: "cam/drive/frame_000000.png", 2: "cam/drive/frame_000002.png"}
    assert dict(frames.sizes) == {0: (64, 48), 2: (64, 48)}
    assert frames.group == "cam/drive.mp4"
