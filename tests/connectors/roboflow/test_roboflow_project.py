"""A live project: pulled, made, pushed to, changed; and what a person does there in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.connectors.base import Change, ProjectSpec
from curate.connectors.registry import connect as connect_registered
from curate.errors import InputError, UnavailableError, UsageError
from curate.formats.base import ClassInfo
from curate.formats.losses import LossReport
from curate.geometry import encode_rle
from tests.connectors.roboflow.conftest import Connect, box_row, jpeg, listing, new_item, note, shown
from tests.servers.roboflow import Failure, Project, Service
from tests.servers.roboflow_files import box_at

CUT: list[Failure] = ["cut"] * 30
SPEC = ProjectSpec("dataset parts, round 1", "Parts", [ClassInfo("bolt")], frozenset({"box"}))


@pytest.fixture
def parts(service: Service) -> Service:
    service.add_project("parts")
    return service


@pytest.fixture
def labeled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody gets the annotation jobs."""
    monkeypatch.setenv("CURATE_ROBOFLOW_LABELER", "ann@example.com")


def reasons(losses: LossReport) -> list[tuple[str, str]]:
    return [(loss.outcome, loss.what) for loss in losses.losses]


class TestPull:
    def test_boxes_outlines_and_images_come_back(self, parts: Service, connect: Connect) -> None:
        outline = {"type": "polygon", "points": [[1, 2], [9, 2], [9.5, 12]]}
        boxes = [box_at("bolt", 10.1, 5.3, 20.7, 8.2), box_at("nut", 1, 2, 8.5, 10) | outline]
        parts.put("parts", "a.jpg", jpeg(1), boxes=boxes, tags=["night"], split="valid", metadata={"camera": "c1"})
        parts.put("parts", "b.jpg", jpeg(2))

        items = listing(connect())

        first, second = items["a.jpg"], items["b.jpg"]
        assert (first.size, first.split, first.tags, first.work) == ((64, 48), "val", ["night"], "")
        assert first.metadata["camera"] == "c1"
        assert shown(first) == [(None, "bolt", [10.1, 5.3, 20.7, 8.2]), (None, "nut", [1, 2, 8.5, 10])]
        assert first.annotations is not None
        assert [each.row["type"] for each in first.annotations] == ["box", "polygon"]
        assert first.annotations[1].row["polygons"] == [[1, 2, 9, 2, 9.5, 12]]
        assert second.annotations == []
        assert connect().download(first) == jpeg(1)

    def test_the_key_never_goes_to_the_host_of_the_files(self, parts: Service, connect: Connect) -> None:
        parts.put("parts", "a.jpg", jpeg(1))
        connector = connect()
        connector.download(listing(connector)["a.jpg"])
        assert len(parts.file_requests) == 1
        assert "api_key" not in parts.file_requests[0]

    def test_only_what_changed_is_moved_again(self, parts: Service, connect: Connect) -> None:
        image = parts.put("parts", "a.jpg", jpeg(1), boxes=[box_at("bolt", 1, 1, 9, 9)])
        parts.put("parts", "b.jpg", jpeg(2), boxes=[box_at("bolt", 1, 1, 9, 9)])
        versions = {item.remote_id: item.version for item in listing(connect()).values()}
        image.boxes = [box_at("bolt", 2, 1, 9, 9)]

        items = listing(connect(), versions)

        assert shown(items["a.jpg"]) == [(None, "bolt", [2, 1, 9, 9])]
        assert items["b.jpg"].annotations is None

    def test_a_search_that_leaves_images_out_is_repeated(self, parts: Service, connect: Connect) -> None:
        for number in range(5):
            parts.put("parts", f"{number}.jpg", jpeg(number))
        parts.unsteady = 3
        assert list(listing(connect())) == [f"{number}.jpg" for number in range(5)]

    def test_a_search_that_never_lists_all_is_no_answer(self, parts: Service, connect: Connect) -> None:
        for number in range(5):
            parts.put("parts", f"{number}.jpg", jpeg(number))
        parts.unsteady = 10_000
        with pytest.raises(UnavailableError, match="lists 4 of 5 images"):
            listing(connect())

    def test_more_images_than_a_page(self, parts: Service, connect: Connect) -> None:
        content = jpeg(1)
        for number in range(260):
            parts.put("parts", f"{number}.jpg", content)
        assert len(listing(connect())) == 260

    def test_work_is_what_was_accepted(self, parts: Service, connect: Connect) -> None:
        image = parts.put("parts", "a.jpg", jpeg(1), boxes=[])
        assert listing(connect())["a.jpg"].work == ""
        image.accepted = True
        assert listing(connect())["a.jpg"].work != ""

    def test_what_cannot_be_read_is_told(self, parts: Service, connect: Connect) -> None:
        boxes = [{"label": "man", "x": 1}, box_at("man", 1, 1, 9, 9) | {"keypoints": [{"x": 1}]}]
        parts.put("parts", "a.jpg", jpeg(1), boxes=boxes)
        losses = LossReport()
        (item,) = connect().items(unless={}, losses=losses)
        assert item.annotations == []
        assert sum(loss.count for loss in losses.losses) == 2

    def test_classes_of_whole_images(self, service: Service, connect: Connect) -> None:
        service.add_project("parts", "classification")
        service.put("parts", "a.jpg", jpeg(1), labels=["bolt"])
        item = listing(connect())["a.jpg"]
        assert [(each.row["type"], each.row["label"]) for each in item.annotations or ()] == [("label", "bolt")]


class TestProject:
    def test_is_made_once_whatever_is_lost(self, service: Service, connect: Connect) -> None:
        service.fail("POST /acme/projects", "lost", "500")
        connector = connect("roboflow://acme")
        project = connector.ensure_project(SPEC, LossReport())
        assert str(project.address) == "roboflow://acme/parts" == str(connector.address)
        again = connect("roboflow://acme").ensure_project(SPEC, LossReport())
        assert again.address == project.address
        assert list(service.projects) == ["parts"]

    def test_says_its_classes(self, parts: Service, connect: Connect) -> None:
        parts.put("parts", "a.jpg", jpeg(1), boxes=[box_at("bolt", 1, 1, 9, 9)])
        project = connect().project()
        assert [info.name for info in project.classes] == ["bolt"]
        assert project.details["type"] == "object-detection"

    def test_outlines_need_a_project_of_their_kind(self, service: Service, connect: Connect) -> None:
        spec = ProjectSpec("m", "Masks", [], frozenset({"box", "mask"}))
        connect("roboflow://acme").ensure_project(spec, LossReport())
        assert service.projects["masks"].type == "instance-segmentation"

    def test_a_missing_project_is_named(self, service: Service, connect: Connect) -> None:
        for ask in (
            lambda: connect("roboflow://acme/nothing").project(),
            lambda: listing(connect("roboflow://acme/nothing")),
        ):
            with pytest.raises(
                InputError, match=r"roboflow://acme/nothing: there is no such project \(check the address"
            ):
                ask()
        with pytest.raises(InputError, match="there is no such workspace"):
            connect("roboflow://nobody").ensure_project(SPEC, LossReport())

    def test_the_registry_connects(self, parts: Service) -> None:
        assert connect_registered("roboflow://acme/parts").project().title == "Parts"

    def test_plain_http_to_other_machines_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("API_URL", "http://api.example.com")
        with pytest.raises(UsageError, match="TLS"):
            connect_registered("roboflow://acme/parts")


class TestPush:
    def test_images_annotations_and_findings_arrive(
        self, parts: Service, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CURATE_ROBOFLOW_LABELER", "ann@example.com")
        losses = LossReport()
        low = new_item(tmp_path, 2, [box_row("b1", "nut", [1, 1, 5, 5])], priority=0.1)
        high = new_item(
            tmp_path,
            1,
            [box_row("a1", "bolt", [10.1, 5.3, 20.7, 8.2])],
            priority=0.9,
            notes=[note("1", annotation_id="a1")],
        )

        connect().create([low, high], losses=losses)

        project = parts.projects["parts"]
        images = {image.name: image for image in project.images.values()}
        assert set(images["1.jpg"].tags) == {"curate", "curate-p1", "curate-mislabeled"}
        assert images["1.jpg"].metadata["curate_mislabeled"] == "probably mislabeled: look at it"
        assert "curate-p3" in images["2.jpg"].tags
        assert not images["1.jpg"].accepted
        assert [batch["name"][:20] for batch in project.batches.values()] == ["curate 0.90 to 0.10 "]
        assert [(job["labeler"], job["reviewer"], job["numImages"]) for job in project.jobs] == [
            ("ann@example.com", "ann@example.com", 2)
        ]
        assert losses.losses == []
        items = listing(connect())
        assert items["line/1.jpg"].image_id == f"{1:016d}"
        assert items["line/1.jpg"].content_hash == f"{1:032d}"
        assert items["line/1.jpg"].tags == []
        assert shown(items["line/1.jpg"]) == [("a1", "bolt", [10.1, 5.3, 20.7, 8.2])]

    def test_pushed_again_nothing_is_doubled(
        self, parts: Service, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CURATE_ROBOFLOW_LABELER", "ann@example.com")
        batch = [new_item(tmp_path, number, [box_row(f"a{number}", "bolt", [1, 1, 9, 9])]) for number in range(5)]
        connect().create(batch, losses=LossReport())
        before = listing(connect())
        losses = LossReport()

        connect().create(batch, losses=losses)

        assert listing(connect()) == before
        assert len(parts.projects["parts"].jobs) == 1
        assert losses.losses == []

    @pytest.mark.parametrize("failure", ["429", "500", "cut", "lost", "truncated"])
    def test_a_fault_at_each_request_in_turn_doubles_nothing(
        self, parts: Service, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Failure
    ) -> None:
        monkeypatch.setenv("CURATE_ROBOFLOW_LABELER", "ann@example.com")
        batch = [new_item(tmp_path, number, [box_row(f"a{number}", "bolt", [1, 1, 9, 9])]) for number in range(2)]
        connect().create(batch, losses=LossReport())
        expected = sorted((item.image_id, shown(item)) for item in listing(connect()).values())
        requests = len(parts.requests)
        for number in range(requests):
            parts.projects["parts"] = Project("parts", "Parts", "object-detection", "group")
            parts.fail("", failure, failure, after=number)

            connect().create(batch, losses=LossReport())
            found = sorted((item.image_id, shown(item)) for item in listing(connect()).values())

            assert found == expected
            assert len(parts.projects["parts"].jobs) == 1
            assert parts.failures == []

    def test_a_push_that_was_cut_off_goes_on(self, parts: Service, connect: Connect, tmp_path: Path) -> None:
        batch = [new_item(tmp_path, number, [box_row(f"a{number}", "bolt", [1, 1, 9, 9])]) for number in range(6)]
        parts.fail("annotate", *CUT)
        with pytest.raises(UnavailableError):
            connect().create(batch, losses=LossReport())
        parts.failures.clear()
        connect().create(batch, losses=LossReport())
        items = listing(connect())
        assert len(items) == 6
        assert {shown(item)[0][1] for item in items.values()} == {"bolt"}

    def test_an_image_that_the_service_does_not_know_yet(
        self, parts: Service, connect: Connect, tmp_path: Path
    ) -> None:
        item = new_item(tmp_path, 1, [box_row("a1", "bolt", [1, 1, 9, 9])])
        parts.put("parts", "1.jpg", item.path.read_bytes(), unknown_for=2)
        connect().create([item], losses=LossReport())
        assert shown(listing(connect())["line/1.jpg"]) == [("a1", "bolt", [1, 1, 9, 9])]

    def test_what_was_annotated_there_is_left(self, parts: Service, connect: Connect, tmp_path: Path) -> None:
        item = new_item(tmp_path, 1, [box_row("a1", "bolt", [1, 1, 9, 9])])
        parts.put("parts", "mine.jpg", item.path.read_bytes(), boxes=[box_at("nut", 5, 5, 9, 9)])
        losses = LossReport()
        connect().create([item], losses=losses)
        assert reasons(losses)[0] == ("dropped", "annotations")
        assert [each[1] for each in shown(listing(connect())["line/1.jpg"])] == ["nut"]

    def test_equal_bytes_are_one_image(self, parts: Service, connect: Connect, tmp_path: Path) -> None:
        first, second = (new_item(tmp_path, number, []) for number in (1, 2))
        second.path.write_bytes(first.path.read_bytes())
        losses = LossReport()
        connect().create([first], losses=losses)
        connect().create([second], losses=losses)
        assert ("dropped", "images") in reasons(losses)
        assert list(listing(connect())) == ["line/1.jpg"]

    @pytest.mark.parametrize(
        ("split", "there"), [("train", "train"), ("val", "valid"), ("test", "test"), (None, "train")]
    )
    def test_an_image_keeps_its_split_tags_group_and_frame(
        self, parts: Service, connect: Connect, tmp_path: Path, labeled: None, split: str | None, there: str
    ) -> None:
        losses = LossReport()
        item = new_item(tmp_path, 1, [], split=split, tags=["night", "curated"], group="drive 7", frame=12)
        connect().create([item], losses=losses)
        (image,) = parts.projects["parts"].images.values()
        assert image.split == there
        assert image.tags == ["curate", "curate-p3", "night", "curated"]
        found = listing(connect())["line/1.jpg"]
        assert (found.split, found.tags, found.group, found.frame) == (split, ["night", "curated"], "drive 7", 12)
        assert losses.losses == []

    def test_a_split_that_it_lacks_is_told_and_remembered(
        self, parts: Service, connect: Connect, tmp_path: Path, labeled: None
    ) -> None:
        losses = LossReport()
        connect().create([new_item(tmp_path, 1, [], split="holdout")], losses=losses)
        assert reasons(losses) == [("converted", "splits")]
        assert listing(connect())["line/1.jpg"].split == "holdout"
        (image,) = parts.projects["parts"].images.values()
        assert image.split == "train"
        image.split = "valid"
        assert listing(connect())["line/1.jpg"].split == "val"

    def test_tags_that_it_cannot_hold_are_told(
        self, parts: Service, connect: Connect, tmp_path: Path, labeled: None
    ) -> None:
        losses = LossReport()
        item = new_item(
            tmp_path, 1, [], tags=["fine", "two words", "n\N{LATIN SMALL LETTER U WITH DIAERESIS}", "curate-p1"]
        )
        connect().create([item], losses=losses)
        assert [(loss.what, loss.count) for loss in losses.losses] == [("tags", 3)]
        assert listing(connect())["line/1.jpg"].tags == ["fine"]

    def test_an_image_that_was_there_keeps_its_split(
        self, parts: Service, connect: Connect, tmp_path: Path, labeled: None
    ) -> None:
        item = new_item(tmp_path, 1, [], split="test")
        parts.put("parts", "mine.jpg", item.path.read_bytes(), split="valid")
        losses = LossReport()
        connect().create([item], losses=losses)
        assert reasons(losses) == [("converted", "splits")]
        assert listing(connect())["line/1.jpg"].split == "val"

    def test_without_anybody_to_assign_to_it_is_said(self, parts: Service, connect: Connect, tmp_path: Path) -> None:
        losses = LossReport()
        connect().create([new_item(tmp_path, 1, [])], losses=losses)
        assert reasons(losses) == [("converted", "batches")]
        assert "CURATE_ROBOFLOW_LABELER" in losses.losses[0].reason
        assert parts.projects["parts"].jobs == []

    def test_shapes_that_it_lacks_are_converted_and_told(
        self, service: Service, connect: Connect, tmp_path: Path
    ) -> None:
        service.add_project("parts", "instance-segmentation")
        mask = np.zeros((48, 64), dtype=np.uint8)
        mask[10:20, 30:50] = 1
        rows = [
            box_row("m", "bolt", [30, 10, 20, 10], type="mask", rle=encode_rle(mask), rle_size=[48, 64]),
            box_row("r", "bolt", [5, 5, 10, 10], type="rotated_box", rotated_box=[10, 10, 10, 4, 30]),
            box_row("p", "bolt", [0, 0, 9, 9], type="polygon", polygons=[[0, 0, 4, 0, 4, 4], [6, 6, 9, 6, 9, 9]]),
            box_row("k", "man", [1, 1, 9, 9], type="keypoints", keypoints=[1, 1, 2], attributes={"pose": "up"}),
            box_row("l", "wire", [1, 1, 9, 9], type="polyline", polygons=[[0, 0, 4, 0]]),
            box_row("w", "day", [0, 0, 0, 0], type="label", bbox=None),
        ]
        losses = LossReport()
        connect().create([new_item(tmp_path, 1, rows)], losses=losses)
        item = listing(connect())["line/1.jpg"]
        types = {each.annotation_id: each.row["type"] for each in item.annotations or ()}
        assert types == {"m": "polygon", "r": "polygon", "p": "polygon", "k": "box"}
        assert ("dropped", "keypoints") in reasons(losses)
        assert ("dropped", "attributes") in reasons(losses)
        assert ("converted", "masks") in reasons(losses)
        assert ("converted", "rotated boxes") in reasons(losses)
        assert ("converted", "polygons") in reasons(losses)
        assert sum(loss.count for loss in losses.losses if (loss.outcome, loss.what) == ("dropped", "annotations")) == 2

    def test_predictions_are_no_ground_truth_until_accepted(
        self, parts: Service, connect: Connect, tmp_path: Path
    ) -> None:
        row = box_row("p1", "bolt", [1, 1, 9, 9], layer="predictions/yolo", score=0.8)
        connect().create([new_item(tmp_path, 1, [], predictions=[row])], losses=LossReport())
        (before,) = listing(connect())["line/1.jpg"].annotations or ()
        assert (before.layer, before.annotation_id) == ("predictions/yolo", "p1")
        next(iter(parts.projects["parts"].images.values())).accepted = True
        (after,) = listing(connect())["line/1.jpg"].annotations or ()
        assert (after.layer, after.annotation_id) == ("ground_truth", None)

    def test_classes_go_to_a_project_of_classes(self, service: Service, connect: Connect, tmp_path: Path) -> None:
        service.add_project("parts", "classification")
        row = box_row("c1", "bolt", [], type="label", bbox=None)
        losses = LossReport()
        item = new_item(tmp_path, 1, [row, box_row("b", "nut", [1, 1, 9, 9])])
        connect().create([item], losses=losses)
        (there,) = listing(connect())["line/1.jpg"].annotations or ()
        assert (there.annotation_id, there.row["label"]) == ("c1", "bolt")
        assert ("dropped", "annotations") in reasons(losses)


class TestChange:
    @pytest.fixture
    def pushed(self, parts: Service, connect: Connect, tmp_path: Path) -> Service:
        rows = [
            box_row("a", "bolt", [1, 1, 9, 9]),
            box_row("b", "nut", [20, 5, 9, 9]),
            box_row("c", "pin", [40, 5, 9, 9]),
        ]
        connect().create([new_item(tmp_path, 1, rows)], losses=LossReport())
        return parts

    def test_moved_and_renamed_boxes_keep_their_ids(self, pushed: Service, connect: Connect) -> None:
        (image,) = pushed.projects["parts"].images.values()
        image.boxes = [
            box_at("pin", 42, 6, 9, 9), box_at("screw", 1, 1, 9, 9), box_at("bolt", 30, 30, 5, 5), box_at("nut", 20, 5, 9, 9),
        ]  # fmt: skip
        item = listing(connect())["line/1.jpg"]
        assert [each[0] for each in shown(item)] == ["c", "a", None, "b"]

    def test_what_is_drawn_where_another_was_is_another(self, pushed: Service, connect: Connect) -> None:
        (image,) = pushed.projects["parts"].images.values()
        image.boxes = [box_at("clip", 2, 30, 8, 8)]
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        connector.change([Change(item, item.image_id or "", None, notes=[note("1")])], losses=LossReport())
        image.boxes = [box_at("clip", 2, 30, 8, 8), box_at("clip", 3, 31, 8, 8), box_at("clip", 2, 30, 8, 8)]
        ids = [each.remote_id for each in listing(connect())["line/1.jpg"].annotations or ()]
        assert ids[0] == (item.annotations or ())[0].remote_id
        assert len(set(ids)) == 3

    def test_the_rest_stays_as_it_is_there(self, pushed: Service, connect: Connect) -> None:
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        (image,) = pushed.projects["parts"].images.values()
        image.boxes = [*(image.boxes or []), box_at("drawn", 2, 30, 7, 7)]  # while curate was thinking
        change = Change(
            item,
            item.image_id or "",
            (64, 48),
            created=[box_row("d", "clip", [50, 30, 8, 8])],
            updated={"a": box_row("a", "screw", [1, 1, 9, 9])},
            deleted=["b"],
            notes=[note("1")],
            priority=0.5,
        )
        connector.change([change], losses=LossReport())
        expected = [
            ("c", "pin", [40.0, 5.0, 9.0, 9.0]),
            (None, "drawn", [2.0, 30.0, 7.0, 7.0]),
            ("a", "screw", [1.0, 1.0, 9.0, 9.0]),
            ("d", "clip", [50.0, 30.0, 8.0, 8.0]),
        ]
        assert shown(listing(connect())["line/1.jpg"]) == expected
        assert {"curate-p2", "curate-mislabeled"} <= set(image.tags)
        assert "curate-p3" not in image.tags
        connector.change([change], losses=LossReport())
        assert sorted(map(repr, shown(listing(connect())["line/1.jpg"]))) == sorted(map(repr, expected))

    @pytest.mark.parametrize("what", ["updated", "deleted"])
    def test_what_was_changed_meanwhile_is_left_alone(self, pushed: Service, connect: Connect, what: str) -> None:
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        (image,) = pushed.projects["parts"].images.values()
        image.boxes = [box_at("washer", 1, 1, 9, 9), *(image.boxes or [])[1:]]
        before = list(image.boxes)
        given = {"updated": {"a": box_row("a", "screw", [1, 1, 9, 9])}, "deleted": ["a"]}[what]
        change = Change(item, item.image_id or "", (64, 48), notes=[note("1")], **{what: given})  # type: ignore[arg-type]
        assert connector.change([change], losses=LossReport()) == {item.image_id}
        assert image.boxes == before
        assert "curate-mislabeled" not in image.tags
        other = Change(item, item.image_id or "", (64, 48), deleted=["b"])
        assert connector.change([other], losses=LossReport()) == set()
        assert [each[0] for each in shown(listing(connect())["line/1.jpg"])] == ["a", "c"]

    @pytest.mark.parametrize("failure", ["429", "500", "cut", "lost"])
    @pytest.mark.parametrize("request_", ["/metadata", "/annotate", "GET .*/images/"])
    def test_faults_change_nothing_twice(
        self, pushed: Service, connect: Connect, request_: str, failure: Failure
    ) -> None:
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        pushed.fail(request_, failure, failure)
        change = Change(item, item.image_id or "", None, created=[box_row("d", "clip", [50, 30, 8, 8])], deleted=["a"])
        connector.change([change], losses=LossReport())
        assert [each[0] for each in shown(listing(connect())["line/1.jpg"])] == ["b", "c", "d"]
        assert pushed.failures == []

    def test_the_last_annotation_can_be_taken_away(self, pushed: Service, connect: Connect) -> None:
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        change = Change(item, item.image_id or "", (64, 48), deleted=["a", "b", "c"])
        connector.change([change], losses=LossReport())
        assert shown(listing(connect())["line/1.jpg"]) == []

    def test_a_finding_is_settled_by_taking_its_tag_off(self, pushed: Service, connect: Connect) -> None:
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        wrong, missing = note("1"), note("1", "missing")
        connector.change([Change(item, item.image_id or "", None, notes=[wrong, missing])], losses=LossReport())
        assert listing(connect())["line/1.jpg"].resolved == frozenset()
        (image,) = pushed.projects["parts"].images.values()
        image.tags.remove("curate-mislabeled")
        assert listing(connect())["line/1.jpg"].resolved == {wrong.finding.id}
        again = note("2")
        connector.change([Change(item, item.image_id or "", None, notes=[again])], losses=LossReport())
        assert listing(connect())["line/1.jpg"].resolved == {wrong.finding.id}

    def test_what_it_does_not_tell_in_full_is_not_overwritten(self, pushed: Service, connect: Connect) -> None:
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        (image,) = pushed.projects["parts"].images.values()
        image.boxes = before = [box_at("man", 1, 1, 9, 9) | {"keypoints": [{"x": 1}]}]
        losses = LossReport()
        connector.change([Change(item, item.image_id or "", None, deleted=["b"])], losses=losses)
        assert image.boxes == before
        assert ("dropped", "changes") in reasons(losses)

    def test_an_image_that_is_gone_is_told(self, pushed: Service, connect: Connect) -> None:
        connector = connect()
        item = listing(connector)["line/1.jpg"]
        pushed.projects["parts"].images.clear()
        losses = LossReport()
        change = Change(item, item.image_id or "", None, deleted=["b"])
        assert connector.change([change], losses=losses) == {item.image_id}
        assert reasons(losses) == [("dropped", "images")]

    def test_the_link_is_the_images_page(self, pushed: Service, connect: Connect) -> None:
        item = listing(connect())["line/1.jpg"]
        assert connect().link_of(item) == f"https://app.roboflow.com/acme/parts/images/{item.remote_id}"
