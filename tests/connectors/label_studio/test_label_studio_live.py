"""The connector against a real Label Studio server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.addresses import parse_address
from curate.connectors.base import Change
from curate.connectors.http import Http, Part, UncertainError
from curate.connectors.label_studio.config import parse_config
from curate.connectors.label_studio.connector import TOKEN, LabelStudio
from curate.connectors.label_studio.login import Login
from curate.connectors.registry import connect
from curate.connectors.sync.content import digest
from curate.errors import InputError, UnavailableError
from curate.formats.losses import LossReport
from curate.formats.shape_columns import Shape
from tests.connectors.label_studio.label_studio_samples import (
    CLASSES,
    SIZE,
    address,
    annotation_of,
    differences,
    every_kind,
    new_item,
    pushed,
    read,
    remote_ids,
    result_of,
    row,
    spec,
    versions,
)
from tests.servers import label_studio as servers

pytestmark = pytest.mark.slow


class LosesReplies(Http):
    """The server, whose replies to some POSTs never arrive although it has carried them out."""

    def __init__(self, server: servers.LabelStudio, loses: Callable[[int, str, Any], bool]) -> None:
        super().__init__(server.url, headers=Login(server.url, server.token).headers)
        self.loses = loses
        self.posts = itertools.count()

    def post(
        self, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None, parts: Sequence[Part] = ()
    ) -> Any:
        number = next(self.posts)
        reply = super().post(path, query=query, body=body, parts=parts)
        if self.loses(number, path, parts):
            raise UncertainError("the reply was lost", where=path, remedy="")
        return reply


def test_round_trip_of_every_kind(connector: LabelStudio, tmp_path: Path) -> None:
    items = [
        new_item(0, tmp_path, every_kind(100), predictions=every_kind(200, "predictions/m")),
        new_item(1, tmp_path, every_kind(300)),
        new_item(2, tmp_path),
    ]
    there = pushed(connector, *items)
    for sent in items:
        item = there[sent.image_id]
        assert (item.location, item.size, item.content_hash) == (sent.location, sent.size, sent.content_hash)
        assert differences(item, [*sent.rows, *sent.predictions]) == []
        assert len(item.annotations or ()) == len(sent.rows) + len(sent.predictions)
        assert connector.download(item) == sent.path.read_bytes()
    assert there[items[2].image_id].work == ""


def test_project_is_made_once_and_found_again(server: servers.LabelStudio) -> None:
    made = [LabelStudio(parse_address(address(server)), server.token) for _ in range(2)]
    projects = [each.ensure_project(spec("curate:again"), LossReport()) for each in made]
    assert projects[0] == projects[1]
    assert str(made[0].address) == str(projects[0].address) == address(server, f"/{made[0].address.path}")
    assert list(projects[0].classes) == CLASSES
    lossy = LosesReplies(server, lambda number, path, _: path == "/api/projects/")
    third = LabelStudio(parse_address(address(server)), server.token, lossy)
    third.ensure_project(spec("curate:lost reply"), LossReport())
    other = LabelStudio(parse_address(address(server)), server.token)
    other.ensure_project(spec("curate:lost reply"), LossReport())
    assert third.address == other.address != made[0].address


def test_existing_config_gets_what_it_lacks(server: servers.LabelStudio, tmp_path: Path) -> None:
    config = (
        '<View><!-- ours --><Style>.a > .b {}</Style><Image name="img" value="$photo"/>'
        '<RectangleLabels name="boxes" toName="img"><Label value="tree" background="green"/></RectangleLabels></View>'
    )
    project = server.request("POST", "/api/projects/", {"title": "theirs", "label_config": config})["id"]
    connector = LabelStudio(parse_address(address(server, f"/projects/{project}")), server.token)
    found = connector.ensure_project(spec("unused"), LossReport())
    pushed(connector, new_item(0, tmp_path))
    assert [info.name for info in found.classes] == ["tree"]
    assert server.request("GET", f"/api/projects/{project}/")["label_config"] == config
    # A label goes to the control of its type that is there; what is not used with boxes is not added to it.
    pushed(connector, new_item(1, tmp_path, [row(80, Shape(bbox=[1, 2, 3, 4]), "car")]))
    now = server.request("GET", f"/api/projects/{project}/")["label_config"]
    assert parse_config(now).controls["boxes"].labels == ("tree", "car")
    assert list(parse_config(now).controls) == ["boxes"]
    before, _, after = config.partition("</RectangleLabels>")
    assert now.startswith(before)
    assert after.removesuffix("</View>") in now
    rows = [*every_kind(100), row(90, Shape(bbox=[1, 2, 3, 4]), "unforeseen")]
    there = pushed(connector, new_item(2, tmp_path, rows))
    assert differences(there[f"{3:016x}"], rows) == []
    now = server.request("GET", f"/api/projects/{project}/")["label_config"]
    assert parse_config(now).controls["boxes"].labels == ("tree", "car", "dog", "person", "unforeseen")
    assert "dog" not in parse_config(now).controls["keypointlabels"].labels


def test_a_project_that_is_not_there(server: servers.LabelStudio) -> None:
    connector = LabelStudio(parse_address(address(server, "/projects/987654")), server.token)
    calls: list[Callable[[], Any]] = [
        connector.project,
        lambda: read(connector),
        lambda: connector.ensure_project(spec("m"), LossReport()),
    ]
    for call in calls:
        with pytest.raises(InputError, match="there is no such project") as caught:
            call()
        assert caught.value.where == f"{server.url}/projects/987654"
        assert "check the number" in str(caught.value.remedy)


def test_only_what_changed_is_moved(connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path) -> None:
    pushed(
        connector, *(new_item(number, tmp_path, [row(number, Shape(bbox=[1, 2, 3, 4]), "car")]) for number in range(4))
    )
    items = read(connector)
    again = read(connector, versions(items))
    assert [item.annotations for item in again] == [None] * 4
    assert [replace(item, annotations=None, work="", metadata={}) for item in items] == [
        replace(item, metadata={}) for item in again
    ]
    annotation = annotation_of(items[2])
    result = result_of(server, annotation)
    result[0]["value"]["rectanglelabels"] = ["dog"]
    server.request("PATCH", f"/api/annotations/{annotation}/", {"result": result})
    moved = [item for item in read(connector, versions(items)) if item.annotations is not None]
    assert [item.remote_id for item in moved] == [items[2].remote_id]
    assert [each.row["label"] for each in moved[0].annotations or ()] == ["dog"]
    assert moved[0].annotations[0].annotation_id == items[2].annotations[0].annotation_id  # type: ignore[index]
    assert moved[0].work != items[2].work
    # A prediction changes no time of the task's.
    prediction = {"task": int(items[0].remote_id), "result": result, "model_version": "late", "score": 0.5}
    server.request(
        "POST", f"/api/projects/{connector.address.path.removeprefix('projects/')}/import/predictions", [prediction]
    )
    moved = [item for item in read(connector, versions(items)) if item.annotations is not None]
    assert [item.remote_id for item in moved] == [items[0].remote_id, items[2].remote_id]
    assert {each.layer for each in moved[0].annotations or ()} == {"ground_truth", "predictions/late"}
    server.request("DELETE", f"/api/tasks/{items[1].remote_id}/")
    assert [item.remote_id for item in read(connector)] == [items[place].remote_id for place in (0, 2, 3)]


def test_change_in_place(connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path) -> None:
    rows = every_kind(100)
    item = pushed(connector, new_item(0, tmp_path, rows))[f"{1:016x}"]
    annotation = annotation_of(item)
    ids = remote_ids(item)
    before = result_of(server, annotation)
    relation = {
        "type": "relation",
        "from_id": rows[2]["annotation_id"],
        "to_id": rows[3]["annotation_id"],
        "direction": "right",
    }
    server.request("PATCH", f"/api/annotations/{annotation}/", {"result": [*before, relation]})
    (item,) = read(connector)
    new = row(500, Shape(bbox=[5, 6, 7, 8]), "dog", attributes={"occluded": False})
    changed = [
        {**rows[0], "label": "dog"},
        {**rows[4], **row(104, Shape(polygons=[[2.0, 2.0, 9.0, 2.0, 9.0, 9.0]]), "dog")},
        {**rows[6], **row(106, Shape(bbox=[1.0, 1.0, 2.0, 2.0], keypoints=[1.0, 1.0, 2.0] * 3), "person")},
        {**rows[10], "label": "dog"},
        {**rows[11], "label": "car"},
    ]
    gone = [rows[5], rows[8]]
    change = Change(
        item,
        item.image_id or "",
        SIZE,
        created=[new],
        updated={ids[each["annotation_id"]]: each for each in changed},
        deleted=[ids[each["annotation_id"]] for each in gone],
    )
    losses = LossReport()
    connector.change([change], losses=losses)
    assert losses.losses == []
    (now,) = read(connector)
    kept = {each["annotation_id"]: each for each in [*rows, *changed, new]}
    for each in gone:
        del kept[each["annotation_id"]]
    assert differences(now, list(kept.values())) == []
    assert len(now.annotations or ()) == len(kept)
    assert {key: value for key, value in remote_ids(now).items() if key in ids} == {
        key: value for key, value in ids.items() if key in kept
    }
    after = result_of(server, annotation)
    touched = {each["annotation_id"] for each in [*changed, *gone]}
    untouched = [each for each in before if each["id"].partition("-")[0] not in touched]
    assert [each for each in after if each in untouched] == untouched
    assert relation in after
    assert now.work != item.work


def test_change_makes_an_annotation_where_there_is_none(
    connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path
) -> None:
    item = pushed(connector, new_item(0, tmp_path))[f"{1:016x}"]
    rows = every_kind(100)
    lossy = LosesReplies(server, lambda number, path, _: path.endswith("/annotations/"))
    other = LabelStudio(connector.address, server.token, lossy)
    other.ensure_project(spec("unused"), LossReport())
    other.change([Change(item, item.image_id or "", SIZE, created=rows)], losses=LossReport())
    (now,) = read(connector)
    assert differences(now, rows) == []
    assert len(now.annotations or ()) == len(rows)


@pytest.mark.parametrize("lost", ["uploads", "imports", "all"])
def test_a_lost_reply_doubles_nothing(
    connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path, lost: str
) -> None:
    seen: list[int] = []

    def loses(number: int, path: str, parts: Sequence[Part]) -> bool:
        wanted = lost == "all" or (lost == "uploads") == bool(parts)
        if path.endswith("/import") and wanted:
            seen.append(number)
        return path.endswith("/import") and wanted

    lossy = LabelStudio(connector.address, server.token, LosesReplies(server, loses))
    items = [new_item(number, tmp_path, [row(number, Shape(bbox=[1, 2, 3, 4]), "car")]) for number in range(103)]
    lossy.create(items, losses=LossReport())
    assert len(seen) >= 2
    there = read(connector)
    assert sorted(item.image_id or "" for item in there) == sorted(item.image_id for item in items)
    project = connector.address.path.removeprefix("projects/")
    files = server.request("GET", f"/api/projects/{project}/file-uploads?all=true")
    assert len(files) == len(items)


def test_work_that_the_server_drops_is_added(
    connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path
) -> None:
    """What it does when its database is locked: the tasks are made, and what they came with is forgotten."""

    class Forgets(Http):
        def post(
            self, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None, parts: Sequence[Part] = ()
        ) -> Any:
            if path.endswith("/import") and not parts:
                body = [{key: value for key, value in task.items() if key in ("data", "meta")} for task in body]
            return super().post(path, query=query, body=body, parts=parts)

    forgetful = Forgets(server.url, headers=Login(server.url, server.token).headers)
    items = [
        new_item(0, tmp_path, every_kind(100), predictions=every_kind(200, "predictions/m")),
        new_item(1, tmp_path, every_kind(300)),
        new_item(2, tmp_path),
    ]
    LabelStudio(connector.address, server.token, forgetful).create(items, losses=LossReport())
    there = {item.image_id: item for item in read(connector)}
    for sent in items:
        assert differences(there[sent.image_id], [*sent.rows, *sent.predictions]) == []
        assert len(there[sent.image_id].annotations or ()) == len(sent.rows) + len(sent.predictions)


def test_a_thousand_tasks(connector: LabelStudio, tmp_path: Path) -> None:
    items = [
        new_item(
            number,
            tmp_path,
            [row(8 * number + place, Shape(bbox=[1, 2, 3, 4 + place]), "car") for place in range(3)],
            predictions=[row(8 * number + 7, Shape(bbox=[1, 2, 3, 4]), "dog", layer="predictions/m", score=0.5)],
        )
        for number in range(1000)
    ]
    there = pushed(connector, *items)
    assert [difference for item in items for difference in differences(there[item.image_id], item.rows)] == []
    assert sum(len(item.annotations or ()) for item in there.values()) == 4000
    assert all(item.annotations is None for item in read(connector, versions(list(there.values()))))


def test_uploads_of_a_killed_client_are_used(
    connector: LabelStudio, server: servers.LabelStudio, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def kill(number: int, path: str, parts: Sequence[Part]) -> bool:
        if path.endswith("/import") and parts:
            raise KilledError
        return False

    items = [new_item(number, tmp_path, priority=0.5) for number in range(5)]
    killed = LabelStudio(connector.address, server.token, LosesReplies(server, kill))
    with pytest.raises(KilledError):
        killed.create(items, losses=LossReport())
    assert read(connector) == []
    project = connector.address.path.removeprefix("projects/")
    # Once all tasks are there a push has nothing to send, and would not make the tab.
    views = server.request("GET", f"/api/dm/views?project={project}")
    assert [view["data"]["title"] for view in views] == ["curate"]
    pushed(connector, *items)
    assert len(server.request("GET", f"/api/projects/{project}/file-uploads?all=true")) == len(items)


def test_both_kinds_of_tokens(
    server: servers.LabelStudio, connector: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, server.personal_token())
    personal = connect(str(connector.address))
    assert personal.project().title == "parts"
    monkeypatch.setenv(TOKEN, "0" * 40)
    with pytest.raises(UnavailableError, match="refuses the token") as caught:
        connect(str(connector.address)).project()
    assert "0" * 40 not in str(caught.value)


def test_images_that_others_serve(server: servers.LabelStudio, connector: LabelStudio, tmp_path: Path) -> None:
    """Tasks of somebody else's: images on the server's disk, at addresses, in a cloud; two in one task."""
    folder = server.folder / "files" / "theirs"
    folder.mkdir()
    on_disk = new_item(0, folder)
    project = connector.address.path.removeprefix("projects/")
    storage = {"path": str(folder), "project": int(project), "use_blob_urls": True}
    server.request("POST", "/api/storages/localfiles", storage)
    there = pushed(connector, new_item(1, tmp_path))[f"{2:016x}"]
    tasks = [
        {"data": {"image": "/data/local-files/?d=theirs/0.png"}},
        {"data": {"image": f"{server.url}/static/images/heidi-404.svg"}, "meta": {"theirs": 1}},
        {"data": {"image": "s3://bucket/folder/x.jpg"}},
        {"data": {"image": ["http://127.0.0.1:9/a.jpg", "http://127.0.0.1:9/b.jpg"]}},
    ]
    server.request("POST", f"/api/projects/{project}/import", tasks)
    local, svg, cloud, first, second = [item for item in read(connector) if item.remote_id != there.remote_id]
    assert connector.download(local) == on_disk.path.read_bytes()
    assert svg.metadata["label_studio"]["meta"] == {"theirs": 1}
    assert b"<svg" in connector.download(svg)
    assert cloud.location == "bucket/folder/x.jpg"
    with pytest.raises(InputError, match="only the server can read"):
        connector.download(cloud)
    assert [item.remote_id.partition("/")[2] for item in (first, second)] == ["image.0", "image.1"]
    assert first.group == second.group
    (server.folder / "media" / there.metadata["label_studio"]["data"]["image"].removeprefix("/data/")).unlink()
    with pytest.raises(InputError):
        connector.download(there)


def test_same_content_has_the_same_digest(connector: LabelStudio, tmp_path: Path) -> None:
    """Reading twice gives the same rows: nothing depends on the order of reading, or on which tasks are read."""
    pushed(connector, *(new_item(number, tmp_path, every_kind(1000 * number)) for number in range(3)))
    first, second = read(connector), read(connector)
    digests = [[digest(each.row) for each in item.annotations or ()] for item in first]
    assert digests == [[digest(each.row) for each in item.annotations or ()] for item in second]
    some = read(connector, {first[0].remote_id: first[0].version, first[1].remote_id: first[1].version})
    assert [digest(each.row) for each in some[2].annotations or ()] == digests[2]
    assert [item.metadata for item in first] == [item.metadata for item in second]
