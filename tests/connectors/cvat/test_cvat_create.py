"""New images: as tasks, in order, with their annotations and issues, and once, whatever happens on the way."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from curate.connectors.base import Connector, NewItem
from curate.connectors.cvat import upload
from curate.errors import CurateError, FormatError, InputError, UnavailableError, UsageError
from curate.formats.losses import LossReport
from tests.connectors.cvat.cvat_cases import ATTRIBUTES, Site, box, contents, listed, new_item, note
from tests.servers import cvat as servers
from tests.servers.cvat_model import Model


def send(connector: Connector, items: Sequence[NewItem]) -> None:
    """Push what the server lacks, as `curate push` does."""
    there = {item.image_id for item in listed(connector)}
    connector.create([item for item in items if item.image_id not in there], losses=LossReport())


def two(folder: Path) -> list[NewItem]:
    """Two images with an annotation each, and a finding on the first."""
    first, second = new_item(folder, "a/1.png", [box()], priority=0.5), new_item(folder, "b/1.png", [box("nut")])
    return [NewItem(**{**vars(first), "notes": [note(first, [4, 6, 10, 8])]}), second]


def test_images_come_back_with_their_ids_sizes_and_annotations_the_hardest_first(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    rows = [box(attributes={"rusty": True, "length": 4, "maker": "acme"}), box("nut", 30)]
    items = [
        new_item(tmp_path, f"a/{name}.png", rows, priority=score)
        for name, score in (("x", 0.1), ("y", 0.9), ("z", 0.5))
    ]
    losses, seen = LossReport(), list[tuple[int, int]]()
    connector.create(items, losses=losses, progress=lambda done, total: seen.append((done, total)))
    found = listed(connector)
    assert [item.image_id for item in found] == [items[1].image_id, items[2].image_id, items[0].image_id]
    assert {item.size for item in found} == {(64, 48)}
    assert [contents(item) for item in found] == [
        [("ground_truth", "bolt", [4.0, 6.5, 10.0, 8.0]), ("ground_truth", "nut", [30.0, 6.5, 10.0, 8.0])]
    ] * 3
    attributes = found[0].annotations[0].row["attributes"]  # type: ignore[index]
    assert {name: attributes[name] for name in ATTRIBUTES["bolt"]} == {"rusty": True, "length": 4, "maker": "acme"}
    assert seen == [(3, 3)]
    assert losses.carried_counts == {"annotations": 6, "images": 3}


def test_the_original_bytes_come_back(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    item = new_item(tmp_path, "photos/ü odd name?.png")
    connector.create([item], losses=LossReport())
    (found,) = listed(connector)
    assert found.image_id == item.image_id
    assert connector.download(found) == item.path.read_bytes()


def test_images_of_one_name_and_many_of_them_are_kept_apart(
    cvat: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "IMAGES_OF_TASK", 2)
    monkeypatch.setattr(upload, "IMAGES_OF_JOB", 1)
    connector = cvat.made()
    items = [new_item(tmp_path, f"{folder}/same.png", [box(x=index)]) for index, folder in enumerate("abcde")]
    connector.create(items, losses=LossReport())
    found = listed(connector)
    assert {item.image_id: contents(item)[0][2][0] for item in found} == {
        item.image_id: float(index) for index, item in enumerate(items)
    }
    assert connector.project().details == {
        **connector.project().details, "tasks": 3, "images": 5, "jobs": {"annotation: new": 5}
    }  # fmt: skip


def test_a_large_file_is_sent_in_pieces(cvat: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.connectors.cvat import server

    monkeypatch.setattr(server, "_LARGEST_REQUEST", 100)
    connector = cvat.made()
    items = [new_item(tmp_path, f"{name}.png") for name in ("a", "größe", "写真")]
    connector.create(items, losses=LossReport())
    found = {item.image_id: connector.download(item) for item in listed(connector)}
    assert found == {item.image_id: item.path.read_bytes() for item in items}


def test_predictions_are_annotations_only_where_there_are_none(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    guess = box("nut", score=0.75)
    items = [
        new_item(tmp_path, "a.png", [box(attributes={"length": 3})], predictions=[guess], priority=1),
        new_item(tmp_path, "b.png", predictions=[guess]),
    ]
    losses = LossReport()
    connector.create(items, losses=losses)
    first, second = listed(connector)
    assert [each.row["label"] for each in first.annotations or ()] == ["bolt"]
    assert [each.row["attributes"]["source"] for each in second.annotations or ()] == ["auto"]
    assert [each.row["attributes"]["score"] for each in second.annotations or ()] == [0.75]
    assert [(loss.what, loss.count) for loss in losses.losses] == [("predictions", 1)]


def test_what_cvat_cannot_hold_is_told(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    rows = [box("unknown"), box(None), box(iscrowd=True, attributes={"odd": 1, "track_id": 3})]  # type: ignore[arg-type]
    losses = LossReport()
    connector.create([new_item(tmp_path, "a.png", rows)], losses=losses)
    assert {(loss.outcome, loss.what, loss.count) for loss in losses.losses} == {
        ("dropped", "annotations", 2),
        ("dropped", "crowd flags", 1),
        ("dropped", "attributes", 1),
        ("converted", "track ids", 1),
    }
    assert [contents(item) for item in listed(connector)] == [[("ground_truth", "bolt", [4.0, 6.5, 10.0, 8.0])]]


def test_a_finding_is_an_issue_at_its_place_and_its_job_is_to_be_validated(
    cvat: Site, tmp_path: Path, annotator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "IMAGES_OF_JOB", 2)
    connector = cvat.made()
    items = [*two(tmp_path), new_item(tmp_path, "c/1.png")]
    items[1] = NewItem(**{**vars(items[1]), "notes": [note(items[1])], "priority": 0.2})
    connector.create(items, losses=LossReport())
    first, second, third = listed(connector)
    for item, position in ((first, [4.0, 6.0, 14.0, 14.0]), (second, [0.0, 0.0, 64.0, 48.0])):
        (issue,) = item.metadata["issues"]
        assert issue["position"] == position
        assert issue["messages"][0].startswith("mislabeled: bolt, probably nut (90%)")
        assert (item.resolved, item.work) == (frozenset(), "")
    jobs = [annotator.jobs.retrieve(item.metadata["job"]) for item in (second, third)]
    assert [(job.stage, job.state) for job in jobs] == [("validation", "new"), ("annotation", "new")]


def test_images_of_a_split_are_a_task_in_its_subset(cvat: Site, tmp_path: Path, annotator: Any) -> None:
    connector = cvat.made()
    splits = {"a": "train", "b": "val", "c": "test", "d": None, "e": "holdout", "f": "train"}
    items = [
        new_item(tmp_path, f"{name}.png", split=split, priority=1 - i / 9)
        for i, (name, split) in enumerate(splits.items())
    ]
    losses = LossReport()
    connector.create(items, losses=losses)
    found = listed(connector)
    assert {item.image_id: item.split for item in found} == {item.image_id: item.split for item in items}
    tasks = {item.metadata["task_id"]: item.metadata.get("subset") for item in found}
    assert list(tasks.values()) == ["train", "validation", "test", None, "holdout"]
    assert losses.losses == []


def test_what_cvat_cannot_hold_of_an_image_is_told_before_it_is_sent(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    items = [
        new_item(tmp_path, "a.png", tags=["night", "wet"], group="drive", frame=4, split="default"),
        new_item(tmp_path, "b.png", split="valid"),
        new_item(tmp_path, "c.png", split="x" * 65),
    ]
    losses = LossReport()
    connector.create(items, losses=losses)
    assert {(loss.outcome, loss.what, loss.count) for loss in losses.losses} == {
        ("dropped", "tags", 2), ("dropped", "groups", 1), ("dropped", "splits", 3),
    }  # fmt: skip
    assert [item.split for item in listed(connector)] == [None] * 3
    other = cvat.made()
    with pytest.raises(FormatError):
        other.create(items, losses=LossReport(strict=True))
    assert other.project().details["tasks"] == 0


def test_a_turned_image_has_its_upright_size_and_other_bytes(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    item = new_item(tmp_path, "a.png", [box()])
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.effect_noise((64, 48), 90).save(path, exif=exif)
    item = NewItem(**{**vars(item), "path": path, "size": (48, 64)})
    connector.create([item], losses=LossReport())
    (found,) = listed(connector)
    assert (found.image_id, found.size, found.content_hash) == (item.image_id, (48, 64), None)
    content = connector.download(found)
    assert content != path.read_bytes()
    with Image.open(io.BytesIO(content)) as shown, Image.open(path) as sent:
        assert shown.size == (48, 64)
        upright = np.asarray(ImageOps.exif_transpose(sent).convert("L"), dtype=float)
        assert np.abs(np.asarray(shown.convert("L"), dtype=float) - upright).mean() < 3


def test_names_are_readable_and_unique(cvat: Site, tmp_path: Path, annotator: Any) -> None:
    connector = cvat.made()
    locations = ["linie 1/größe?.png", "データ/写真 1.png", "हिन्दी/चित्र.png", "x" * 300 + "/" + "y" * 120 + ".png"]
    items = [new_item(tmp_path, location, priority=1 - i / 9) for i, location in enumerate(locations)]
    connector.create(items, losses=LossReport())
    found = listed(connector)
    assert [item.image_id for item in found] == [item.image_id for item in items]
    starts = ["linie 1_größe_", "データ_写真 1", "हिन्दी_चित्र"]
    assert [item.location for item in found[:3]] == [
        f"{start}.curate-{item.image_id}.png" for start, item in zip(starts, items, strict=False)
    ]
    assert max(len(item.location.encode()) for item in found) < 200
    assert found[3].location.startswith("x" * 39 + "_" + "y" * 120)
    (task,) = annotator.tasks.list()
    assert re.fullmatch(r"linie 1/größe\?\.png and 3 more \[curate [0-9a-f]{16}\]", task.name)


@pytest.mark.parametrize("location", ["a\nb\x00c.png", "\udcff.png", "d" * 400 + "/e.png"])
def test_titles_of_odd_names_are_taken(location: str, cvat: Site, tmp_path: Path, annotator: Any) -> None:
    connector = cvat.made()
    item = new_item(tmp_path, "a.png")
    connector.create([NewItem(**{**vars(item), "location": location})], losses=LossReport())
    (task,) = annotator.tasks.list()
    assert task.name.isprintable()
    assert len(task.name) < 200
    assert [each.image_id for each in listed(connector)] == [item.image_id]


def test_an_image_that_the_server_cannot_read_is_told_and_leaves_nothing(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    item = new_item(tmp_path, "a.png", [box()])
    item.path.write_bytes(b"this is no image at all")
    with pytest.raises(InputError, match=r"curate-[0-9a-f]{16}\.png"):
        connector.create([item], losses=LossReport())
    assert connector.project().details["tasks"] == 0


def test_a_file_that_is_gone_is_told(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    item = new_item(tmp_path, "a.png")
    item.path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        connector.create([item], losses=LossReport())


def test_a_task_takes_no_images(cvat: Site, tmp_path: Path) -> None:
    connector = cvat.made()
    connector.create(two(tmp_path), losses=LossReport())
    task = listed(connector)[0].metadata["task_id"]
    with pytest.raises(UsageError, match="cannot be added to a task"):
        cvat.connector(f"tasks/{task}").create([new_item(tmp_path, "c.png")], losses=LossReport())


# ---------------------------------------------------------------------------------------------------- faults on the way


def check(connector: Connector, stand_in: servers.Cvat, items: Sequence[NewItem]) -> None:
    """Both images are there once, whole, with their annotations and the one issue, and nothing else is."""
    found = listed(connector)
    assert {item.image_id: [each[1] for each in contents(item)] for item in found} == {
        item.image_id: [row["label"] for row in item.rows] for item in items
    }
    assert {item.image_id: connector.download(item) for item in found} == {
        item.image_id: item.path.read_bytes() for item in items
    }
    assert len(found) == len(items)
    assert len(stand_in.model.tasks) == 1
    assert len(stand_in.model.issues) == 1
    assert [len(item.metadata["issues"]) for item in found] == [1, 0]


def requests_of(folder: Path, site: Site, stand_in: servers.Cvat) -> int:
    """How many requests a push takes when all goes well."""
    connector = site.made()
    before = len(stand_in.seen)
    send(connector, two(folder))
    sent = len(stand_in.seen) - before
    assert sent > 15, "a push takes more requests than that"
    return sent


def at(number: int, fault: servers.Fault, *, on: bool = False) -> Callable[[str, str], servers.Fault | None]:
    """A fault at one request, counted from 0; with `on`, at all that follow too."""
    count = iter(range(10**9))

    def asked(method: str, path: str) -> servers.Fault | None:
        now = next(count)
        return fault if now == number or (on and now > number) else None

    return asked


@pytest.mark.parametrize("fault", ["before", "after", 500, 503])
def test_a_fault_at_any_request_doubles_nothing(
    fault: servers.Fault, cvat: Site, stand_in: servers.Cvat, tmp_path: Path
) -> None:
    items = two(tmp_path)
    for number in range(requests_of(tmp_path, cvat, stand_in)):
        stand_in.model = Model(stand_in.url)
        connector = cvat.made()
        stand_in.fault = at(number, fault)
        told = ""
        try:
            send(connector, items)
        except CurateError as error:
            told = f"{error}{error!r}"
            stand_in.fault = lambda method, path: None
            send(connector, items)
        assert stand_in.token not in told
        check(connector, stand_in, items)


def test_a_client_killed_at_any_request_goes_on(cvat: Site, stand_in: servers.Cvat, tmp_path: Path) -> None:
    items = two(tmp_path)
    for number in range(requests_of(tmp_path, cvat, stand_in)):
        stand_in.model = Model(stand_in.url)
        connector = cvat.made()
        stand_in.fault = at(number, "after", on=True)
        with pytest.raises(UnavailableError):
            send(connector, items)
        stand_in.fault = lambda method, path: None
        send(cvat.connector(connector.address.path), items)
        check(connector, stand_in, items)


def test_a_killed_push_goes_on_with_another_choice_of_images(
    cvat: Site, stand_in: servers.Cvat, tmp_path: Path
) -> None:
    connector = cvat.made()
    items = two(tmp_path)
    stand_in.fault = lambda method, path: "before" if method == "PUT" else None
    with pytest.raises(UnavailableError):
        send(connector, items)
    stand_in.fault = lambda method, path: None
    assert listed(connector) == []
    items.append(new_item(tmp_path, "c/1.png", [box()], priority=1.0))
    send(connector, items)
    found = listed(connector)
    assert {item.image_id for item in found} == {item.image_id for item in items}
    assert len(found) == 3
