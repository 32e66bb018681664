"""A dataset in FiftyOne's database and back, with the real package and the real database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.checks.findings import Finding, to_table
from curate.checks.shift.stored import Slice, store_slices
from curate.checks.store import set_status, stored_findings
from curate.connectors.fiftyone.labels import SOURCE, label_id, mark
from curate.connectors.fiftyone.sync import Link
from curate.connectors.sync.content import rows_of, table_of
from curate.dataset import begin, open_dataset, undo
from curate.dataset.home import dataset_path
from curate.errors import DatasetLocked, UsageError
from tests.connectors.fiftyone_app.app_sets import (
    LOCATIONS,
    NAME,
    ODD,
    SIZE,
    annotation_id,
    findings,
    image_id,
    make,
    row,
    vectors,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # FiftyOne's, and of the packages that it imports


@pytest.fixture
def link(fiftyone: Any, tmp_path: Path) -> Link:
    """The small dataset, in the App."""
    make(tmp_path)
    link = Link(fiftyone, NAME, "curate app")
    synced = link.sync()
    assert (synced.published.added, synced.taken, synced.losses.losses) == (4, {}, [])
    return link


def dataset(link: Link) -> Any:
    """FiftyOne's dataset, as it is now."""
    assert link.target is not None
    link.target.dataset.reload()
    return link.target.dataset


def sample(link: Link, place: int) -> Any:
    """The sample of an image."""
    return dataset(link)[mark(image_id(place))]


def label(
    link: Link, field: str, finding: Finding | None = None, *, annotation: int = 0, place: int = 0
) -> tuple[Any, Any]:
    """A sample, and one of its labels."""
    found = sample(link, place)
    wanted = mark(finding.id if finding else annotation_id(annotation))
    value = found[field]
    labels = value[{"Detections": "detections", "Classifications": "classifications", "Polylines": "polylines",
                    "Keypoints": "keypoints"}[type(value).__name__]]  # fmt: skip
    return found, next(each for each in labels if str(each.id) == wanted)


def labels_of() -> dict[str, dict[str, Any]]:
    """The dataset's annotations by id."""
    return {each["annotation_id"]: each for each in rows_of(open_dataset(NAME).table("annotations"))}


def statuses() -> dict[str, str]:
    """Status of the findings by kind."""
    return {each.kind: each.status for each in stored_findings(open_dataset(NAME))}


def finding(kind: str) -> Finding:
    """The finding of a kind."""
    return next(each for each in findings() if each.kind == kind)


def test_everything_is_there(link: Link) -> None:
    shown = dataset(link)
    assert shown.persistent
    assert shown.media_type == "image"
    first = sample(link, 0)
    assert Path(first.filepath).name == "a.jpg"
    assert (first.location, first.split, first.metadata.width) == (LOCATIONS[0], "train", SIZE[0])
    assert first.tags == ["night", ODD, "finding:mislabeled", "finding:missing"]
    assert [each.label for each in first.ground_truth.detections] == ["bolt", "nut"]
    assert first.ground_truth.detections[0].tags == ["finding:mislabeled"]
    assert first.ground_truth.detections[1].mask.sum() == 550
    assert first.predictions_yolo.detections[0].confidence == 0.75
    assert first.scores.mislabeled == 0.9
    assert [(each.label, each.why) for each in first.findings.detections] == [
        ("mislabeled", f"looks like a nut {ODD}"),
        ("missing", None),
    ]
    second = sample(link, 1)
    assert [each.label for each in second.image_findings.classifications] == ["dark", "shifted"]
    assert second.slices == [f"warm {ODD}"]
    assert second.details == '{"camera": "c1"}'
    assert {each.label for each in second.ground_truth_polylines.polylines} == {ODD, "bolt"}
    assert sample(link, 2).ground_truth_keypoints.keypoints[0].label == "person"
    assert sample(link, 3).ground_truth_classifications.classifications[0].label == "good"


def test_views(link: Link) -> None:
    shown = dataset(link)
    views = shown.list_saved_views()
    worst = shown.load_saved_view("mislabeled, worst first")
    assert [each.location for each in worst] == [LOCATIONS[0]]
    one = shown.load_saved_view("missing, one by one").first()
    assert one.findings.label == "missing"
    groups = shown.load_saved_view("copies, group by group")
    assert [[each.location for each in group] for group in groups.iter_dynamic_groups()] == [
        [LOCATIONS[3], LOCATIONS[2]]
    ]
    (of_slice,) = [name for name in views if name.startswith("slice: warm")]
    assert [each.location for each in shown.load_saved_view(of_slice)] == [LOCATIONS[1]]
    assert shown.get_saved_view_info(of_slice)["description"].endswith(
        "1 image, 50% wrong and 10% elsewhere: more than chance allows"
    )
    cold = shown.load_saved_view("slice: cold (tint <= -0.1)")
    assert {each.location for each in cold} == set(LOCATIONS[2:])
    assert "shifted, worst first" in views


def test_one_by_one_only_what_waits_is_shown(link: Link) -> None:
    name = "missing, one by one"
    assert len(dataset(link).load_saved_view(name)) == 1
    set_status(NAME, "confirmed", where="kind = 'missing'", command="test")
    link.poll()
    assert len(dataset(link).load_saved_view(name)) == 0
    undo(NAME, command="undo")
    link.poll()
    assert len(dataset(link).load_saved_view(name)) == 1
    set_status(NAME, "queued", where="kind = 'missing'", command="test")
    with begin(NAME, command="test") as transaction:
        transaction.append("findings", [to_table([replace(finding("missing"), bbox=[1, 1, 5, 5])])])
    link.poll()
    assert link.open().losses.losses == []
    assert len(dataset(link).load_saved_view(name)) == 2  # a copy of the new one too


def test_copies_that_no_view_shows_are_deleted(link: Link) -> None:
    assert link.target is not None
    database = link.target.samples.database

    def copies() -> int:
        return len([each for each in database.list_collection_names() if each.startswith("patches.")])

    before = copies()  # those of tests before among them
    set_status(NAME, "rejected", where="kind = 'missing'", command="test")
    link.poll()
    link.open()
    assert copies() == before - 1
    link.open()
    assert copies() == before - 1
    link.open(anew=True)
    assert copies() == before - 1


def test_slices_that_are_the_end_of_an_axis_leave_room_for_others(link: Link) -> None:
    ids = pa.array([image_id(0)])
    axes = [Slice(f"axis {number}", "axis", ids, fails=number == 29) for number in range(30)]
    with begin(NAME, command="test") as transaction:
        store_slices(transaction, [*axes, Slice("warm", "light", ids), Slice("a bolt", "content", ids)])
    link.poll()
    link.open()
    names = [name for name in dataset(link).list_saved_views() if name.startswith("slice: ")]
    few = [f"slice: axis {number}" for number in range(10)]
    assert set(names) == {"slice: axis 29", "slice: warm", "slice: a bolt", *few}


def test_slices_that_change_are_shown_anew(link: Link) -> None:
    with begin(NAME, command="test") as transaction:
        store_slices(transaction, [Slice("cold (tint <= -0.1)", "axis", pa.array([image_id(3)]))])
    synced = link.poll()
    assert synced is not None
    assert synced.published.changed == 2  # one was in both, one was in the slice that is gone
    assert [sample(link, place).slices for place in range(4)] == [[], [], [], ["cold (tint <= -0.1)"]]


def test_the_editor_knows_the_classes_and_no_field_that_is_not_to_be_edited(link: Link) -> None:
    assert set(dataset(link).active_label_schemas) == {
        "ground_truth", "ground_truth_polylines", "ground_truth_classifications"
    }  # fmt: skip
    schemas = dataset(link).label_schemas
    assert schemas["ground_truth"] == {"type": "detections", "component": "dropdown", "classes": ["bolt", "nut", ODD]}
    dataset(link).update_label_schema("ground_truth", {**schemas["ground_truth"], "classes": ["nut", "mine"]})
    set_status(NAME, "rejected", where="kind = 'dark'", command="test")
    link.poll()
    assert dataset(link).label_schemas["ground_truth"]["classes"] == ["nut", "mine", "bolt", ODD]


def test_masks_lie_row_by_row(link: Link) -> None:
    """FiftyOne's editor reads no other order."""
    mask = sample(link, 0).ground_truth.detections[1].mask
    assert mask.flags.c_contiguous
    assert mask.shape == (20, 30)


def test_map_and_similarity_need_no_model(link: Link) -> None:
    shown = dataset(link)
    assert set(shown.list_brain_runs()) == {"map", "similarity"}
    points = shown.load_brain_results("map")
    assert dict(zip(points.sample_ids, points.points[:, 0].tolist(), strict=True)) == {
        mark(image_id(place)): x for place, x in enumerate([0, 0.5, 1, -1])
    }
    near = shown.sort_by_similarity(mark(image_id(3)), brain_key="similarity", k=2)
    assert [each.location for each in near] == [LOCATIONS[3], LOCATIONS[2]]


@pytest.mark.parametrize(("tag", "status"), [("confirm", "confirmed"), ("Reject", "rejected")])
def test_a_tag_on_a_finding_decides_on_it_alone(link: Link, tag: str, status: str) -> None:
    edited, shown = label(link, "findings", finding("missing"))
    shown.tags.append(tag)
    edited.save()
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {f"findings {status}": 1}
    assert statuses() == {**dict.fromkeys(statuses(), "open"), "missing": status}
    assert open_dataset(NAME).commit.command == "curate app"
    after = sample(link, 0)
    assert f"{status}:missing" in after.tags
    assert label(link, "findings", finding("missing"))[1].tags == [status]
    assert link.poll() is None


def test_a_tag_on_a_sample_decides_on_all_that_waits_and_goes(link: Link) -> None:
    set_status(NAME, "rejected", ids=[finding("missing").id], command="test")
    link.poll()
    dataset(link).match_tags("finding:mislabeled").tag_samples("confirm")
    link.poll()
    assert (statuses()["mislabeled"], statuses()["missing"]) == ("confirmed", "rejected")
    assert sample(link, 0).tags == ["night", ODD, "confirmed:mislabeled", "rejected:missing"]
    dataset(link).match(link.fiftyone.ViewField("location") == LOCATIONS[0]).tag_samples("reopen:missing")
    link.poll()
    assert (statuses()["mislabeled"], statuses()["missing"]) == ("confirmed", "open")


def test_a_tag_on_a_label_decides_on_its_findings(link: Link) -> None:
    edited, shown = label(link, "ground_truth", annotation=8, place=3)
    shown.tags.append("reject")
    edited.save()
    link.poll()
    assert statuses() == {**dict.fromkeys(statuses(), "open"), "mislocated": "rejected"}


def test_a_tag_under_patches_decides_as_one_under_labels(link: Link) -> None:
    """FiftyOne puts it on its view's copy of the label, and nowhere else."""
    view = dataset(link).load_saved_view("missing, one by one")
    view.tag_samples("Confirm")
    synced = link.poll()
    assert synced is not None
    assert (synced.taken, synced.losses.losses) == ({"findings confirmed": 1}, [])
    assert statuses() == {**dict.fromkeys(statuses(), "open"), "missing": "confirmed"}
    assert len(view) == 0
    assert link.poll() is None
    set_status(NAME, "open", where="kind = 'missing'", command="test")
    link.poll()
    (copy,) = view
    assert (copy.tags, copy.findings.tags) == (["night", ODD, "finding:mislabeled", "finding:missing"], [])
    view.tag_samples("reject:missing")
    assert Link(link.fiftyone, NAME, "curate app --pull").pull().taken == {"findings rejected": 1}


def test_a_tag_under_patches_of_a_view_that_nobody_has_saved(link: Link) -> None:
    patches = dataset(link).match_tags("finding:mislabeled").to_patches("ground_truth")
    patches.tag_samples(["reject", "mine"])  # both labels, and of one of them there is a finding
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {"findings rejected": 1}
    assert statuses()["mislabeled"] == "rejected"
    assert {tag for copy in patches for tag in copy.tags if tag in ("reject", "mine")} == {"mine"}


def test_a_tag_under_patches_on_an_image_of_two_datasets_is_told(link: Link, tmp_path: Path) -> None:
    make(tmp_path, name="other")
    Link(link.fiftyone, "other", "curate app").sync()
    dataset(link).load_saved_view("missing, one by one").tag_samples("confirm")
    dataset(link).filter_labels("findings", link.fiftyone.ViewField("label") == "mislabeled").to_patches(
        "findings"
    ).tag_samples("confirm")
    synced = link.poll()
    assert synced is not None
    (loss,) = synced.losses.losses
    assert (loss.what, loss.count) == ("decisions", 1)
    assert "use the tab 'Labels'" in loss.reason
    assert synced.taken == {"findings confirmed": 1}
    assert statuses() == {**dict.fromkeys(statuses(), "open"), "missing": "confirmed"}
    assert {each.status for each in stored_findings(open_dataset("other"))} == {"open"}
    assert link.poll() is None


def test_an_images_own_tag_is_no_decision_on_its_patches(link: Link) -> None:
    with begin(NAME, command="test") as transaction:
        images = transaction.read("images")
        tags = pa.array([["rejected"]] * images.num_rows, pa.list_(pa.string()))
        place = images.schema.get_field_index("tags")
        transaction.upsert("images", images.set_column(place, images.schema.field(place), tags), "image_id")
    link.poll()
    dataset(link).to_patches("findings")
    assert link.poll() is None
    assert set(statuses().values()) == {"open"}


def test_relabel_takes_what_was_suggested(link: Link) -> None:
    edited, shown = label(link, "ground_truth", annotation=1)
    shown.tags.append("relabel")
    edited.save()
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {"annotations changed": 1, "findings fixed": 1}
    assert labels_of()[annotation_id(1)]["label"] == "nut"
    (fixed,) = stored_findings(open_dataset(NAME), status="fixed")
    assert fixed.evidence["verdict"] == {"how": "changed as suggested", "by": SOURCE}


def test_relabel_without_a_suggestion_asks_for_a_person(link: Link) -> None:
    edited, shown = label(link, "ground_truth", annotation=8, place=3)
    shown.tags.append("relabel")
    edited.save()
    link.poll()
    assert statuses()["mislocated"] == "confirmed"
    assert open_dataset(NAME).count("images", where="array_has(tags, 'relabel')") == 1
    assert "relabel" in sample(link, 3).tags


def test_labels_that_were_edited_come_back(link: Link) -> None:
    edited = sample(link, 0)
    first, mask = edited.ground_truth.detections
    first.label, first.bounding_box = "brand new", [0.1, 0.1, 0.2, 0.3]
    first["occluded"] = False
    edited.ground_truth.detections.append(link.fiftyone.Detection(label="gear", bounding_box=[0.5, 0.5, 0.1, 0.2]))
    edited.ground_truth.detections.remove(mask)
    edited.save()
    polygon, outline = label(link, "ground_truth_polylines", annotation=3, place=1)
    outline.points = [[[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]]
    polygon.save()
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {
        "annotations added": 1,
        "annotations changed": 2,
        "annotations removed": 1,
        "classes added": 2,
        "findings fixed": 1,
    }
    now = labels_of()
    assert annotation_id(2) not in now
    assert now[annotation_id(1)] | {"label": "brand new", "bbox": [20, 10, 40, 30]} == now[annotation_id(1)]
    assert now[annotation_id(1)]["attributes"]["occluded"] is False
    assert now[annotation_id(1)]["attributes"]["weight.kg"] == 2.5
    assert now[annotation_id(3)]["polygons"] == [[20, 10, 100, 10, 100, 50]]
    assert now[annotation_id(3)]["bbox"] == [20, 10, 80, 40]
    (drawn,) = [each for each in now.values() if each["source"] == SOURCE]
    assert (drawn["label"], drawn["bbox"], drawn["layer"]) == ("gear", [100, 50, 20, 20], "ground_truth")
    assert statuses() == {**dict.fromkeys(statuses(), "open"), "mislabeled": "fixed"}
    assert link.poll() is None
    assert {str(each.id) for each in sample(link, 0).ground_truth.detections} == {
        mark(annotation_id(1)),
        label_id(drawn),
    }
    assert label_id(drawn) == drawn["source_id"]


def test_tags_of_images_come_back(link: Link) -> None:
    edited = sample(link, 0)
    edited.tags.remove("night")
    edited.tags.append(f"{ODD} too")
    edited.save()
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {"tags added": 1, "tags removed": 1}
    tags = open_dataset(NAME).table("images", where=f"image_id = '{image_id(0)}'")["tags"][0].as_py()
    assert tags == [ODD, f"{ODD} too"]


def test_what_only_findings_may_say_cannot_be_said_by_hand(link: Link) -> None:
    edited = sample(link, 0)
    edited.tags.remove("finding:missing")
    edited.tags.append("finding:dark")
    edited.save()
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {}
    assert sample(link, 0).tags == ["night", ODD, "finding:mislabeled", "finding:missing"]


def test_predictions_stay_as_the_model_made_them(link: Link) -> None:
    edited = sample(link, 0)
    edited.predictions_yolo.detections[0].label = "other"
    edited.save()
    synced = link.poll()
    assert synced is not None
    assert [loss.what for loss in synced.losses.losses] == ["edits"]
    assert sample(link, 0).predictions_yolo.detections[0].label == "bolt"
    assert labels_of()[annotation_id(9)]["label"] == "bolt"


def test_only_what_changed_here_goes_to_the_app(link: Link) -> None:
    before = {place: sample(link, place).last_modified_at for place in range(4)}
    with begin(NAME, command="test") as transaction:
        transaction.upsert("annotations", table_of([row(8, 3, "box", "cog", bbox=[1.0, 1, 10, 10])]), "annotation_id")
        transaction.append(
            "annotations",
            [table_of([row(10, 1, "box", "new", layer="predictions/other", bbox=[1, 1, 5, 5], score=0.5)])],
        )
    synced = link.poll()
    assert synced is not None
    assert (synced.published.added, synced.published.changed, synced.published.removed) == (0, 2, 0)
    assert sample(link, 3).ground_truth.detections[0].label == "cog"
    assert sample(link, 1).predictions_other.detections[0].label == "new"
    assert [place for place in range(4) if sample(link, place).last_modified_at != before[place]] == [1, 3]


def test_new_and_removed_images_vectors_and_findings(link: Link, tmp_path: Path) -> None:
    gone = image_id(3)
    with begin(NAME, command="test") as transaction:
        transaction.delete("images", "image_id", pa.array([gone]))
        transaction.delete("annotations", "image_id", pa.array([gone]))
        transaction.overwrite("findings", [to_table([each for each in findings() if each.image_id != gone])])
        transaction.upsert(
            "embeddings/tiny-images", vectors([image_id(0)]).set_column(1, "fingerprint", pa.array(["new"])), "id"
        )
    synced = link.poll()
    assert synced is not None
    assert synced.published.removed == 1
    assert len(dataset(link)) == 3
    assert sample(link, 2).copies is None
    link.open()
    assert not any("copies" in name for name in dataset(link).list_saved_views())
    undo(NAME, command="undo")
    synced = link.poll()
    assert synced is not None
    assert synced.published.added == 1
    assert sample(link, 2).copies == LOCATIONS[3]


def test_opening_again_changes_nothing(link: Link) -> None:
    again = Link(link.fiftyone, NAME, "curate app")
    synced = again.sync()
    assert not synced
    assert len(dataset(again)) == 4


def test_an_edit_of_what_changed_here_too_is_told_and_not_taken(link: Link) -> None:
    edited, shown = label(link, "ground_truth", annotation=8, place=3)
    shown.label = "theirs"
    with begin(NAME, command="test") as transaction:
        transaction.upsert("annotations", table_of([row(8, 3, "box", "ours", bbox=[1.0, 1, 10, 10])]), "annotation_id")
    edited.save()
    synced = link.poll()
    assert synced is not None
    assert [loss.count for loss in synced.losses.losses] == [1]
    assert labels_of()[annotation_id(8)]["label"] == "ours"
    assert sample(link, 3).ground_truth.detections[0].label == "ours"


def test_an_edit_between_the_look_and_the_write_is_kept_for_the_next_time(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample that a person edits while curate writes is not written over."""
    set_status(NAME, "confirmed", ids=[finding("missing").id], command="test")
    target = link.target
    assert target is not None
    look = type(target).modified

    def look_and_edit(self: Any, ids: Sequence[str]) -> Any:
        found = look(self, ids)
        monkeypatch.setattr(type(target), "modified", look)
        dataset(link).match_tags("finding:mislabeled").tag_samples("mine")
        return found

    monkeypatch.setattr(type(target), "modified", look_and_edit)
    time.sleep(0.01)
    link.poll()
    assert "mine" in sample(link, 0).tags
    link.poll()
    assert sample(link, 0).tags == ["night", ODD, "mine", "confirmed:missing", "finding:mislabeled"]
    assert open_dataset(NAME).count("images", where="array_has(tags, 'mine')") == 1


def test_a_second_writer_is_waited_for_and_nothing_is_lost(link: Link) -> None:
    dataset(link).match_tags("finding:dark").tag_samples("reject")
    with begin(NAME, command="other"), pytest.raises(DatasetLocked):
        link.poll()
    link.poll()
    assert statuses()["dark"] == "rejected"


def test_samples_deleted_in_the_app_are_told_of_and_come_back(link: Link) -> None:
    dataset(link).delete_samples([mark(image_id(1)), mark(image_id(3))])
    synced = link.poll()
    assert synced is not None
    (loss,) = synced.losses.losses
    assert (loss.what, loss.count, list(loss.places)) == ("deletions", 2, [LOCATIONS[1], LOCATIONS[3]])
    assert (synced.taken, synced.published.added) == ({}, 2)
    assert open_dataset(NAME).count("images") == 4
    assert sample(link, 3).ground_truth.detections[0].label == "gear"
    assert link.poll() is None


def test_what_was_taken_by_a_process_that_was_killed_before_it_said_so_is_not_taken_again(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_status(NAME, "confirmed", ids=[finding("missing").id], command="test")
    link.poll()
    edited = sample(link, 0)
    edited.tags.append("reject")
    edited.ground_truth.detections[0].bounding_box = [0.1, 0.1, 0.2, 0.3]
    edited.ground_truth.detections.append(link.fiftyone.Detection(label="nut", bounding_box=[0.8, 0.5, 0.1, 0.2]))
    edited.save()
    with monkeypatch.context() as patch:
        patch.setattr("curate.connectors.fiftyone.sync.publish_changes", _killed)
        with pytest.raises(KeyboardInterrupt):
            link.poll()
    taken = open_dataset(NAME).commit.number
    after = statuses()
    assert (after["mislabeled"], after["missing"]) == ("rejected", "confirmed")
    synced = Link(link.fiftyone, NAME, "curate app").sync()
    assert (synced.taken, synced.losses.losses) == ({}, [])
    assert open_dataset(NAME).commit.number == taken
    assert statuses() == after
    assert sample(link, 0).tags == ["night", ODD, "confirmed:missing", "rejected:mislabeled"]


def _killed(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def test_a_sample_that_is_as_it_should_be_is_left_as_it_is(link: Link) -> None:
    """A page in which it is open goes on editing it; one that was written anew it would have to load again."""
    set_status(NAME, "rejected", where="kind = 'mislocated'", command="test")
    link.poll()
    edited = sample(link, 3)
    edited.ground_truth.detections[0].label = "nut"
    edited.ground_truth.detections.append(link.fiftyone.Detection(label="bolt", bounding_box=[0.5, 0.5, 0.1, 0.2]))
    edited.save()
    when = sample(link, 3).last_modified_at
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {"annotations added": 1, "annotations changed": 1}
    assert not synced.published
    assert sample(link, 3).last_modified_at == when
    edited, first = label(link, "ground_truth_polylines", annotation=3, place=1)
    first.label = "nut"
    edited.save()
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {"annotations changed": 1}
    assert not synced.published  # though the dataset's order is another now
    assert link.poll() is None


def test_samples_put_into_the_app_are_told_of(link: Link, tmp_path: Path) -> None:
    dataset(link).add_sample(link.fiftyone.Sample(str(tmp_path / "new.jpg")))
    synced = link.poll()
    assert synced is not None
    assert [loss.what for loss in synced.losses.losses] == ["images"]
    assert open_dataset(NAME).count("images") == 4


def test_a_dataset_made_anew_under_the_same_name_is_shown_whole(link: Link, tmp_path: Path) -> None:
    from curate.dataset.store import remove

    remove(NAME)
    time.sleep(1.1)  # commits know their time to the second
    make(tmp_path / "again")
    synced = Link(link.fiftyone, NAME, "curate app").sync()
    assert synced.published.added == 4


def test_anothers_dataset_of_that_name_is_left_alone(fiftyone: Any, tmp_path: Path) -> None:
    make(tmp_path)
    fiftyone.Dataset(NAME, persistent=True)
    with pytest.raises(UsageError, match="is not curate's"):
        Link(fiftyone, NAME, "curate app").sync()
    assert fiftyone.load_dataset(NAME).info == {}


def test_pull_without_an_app(fiftyone: Any, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UsageError, match="has not been in the App"):
        Link(fiftyone, NAME, "curate app --pull").pull()


def test_views_of_the_users_own_stay_and_empty_ones_go_when_nobody_looks(link: Link) -> None:
    shown = dataset(link)
    shown.save_view("mine", shown.limit(1))
    set_status(NAME, "rejected", where="kind = 'dark'", command="test")
    link.poll()
    views = dataset(link).list_saved_views()
    assert "mine" in views
    assert "dark, worst first" in views  # somebody may be looking at it
    link.open()
    views = dataset(link).list_saved_views()
    assert "mine" in views
    assert "dark, worst first" not in views


def test_numbers_are_kept_to_a_hundredth_of_a_pixel(link: Link) -> None:
    """Saving a sample in the App without a change is no change."""
    for shown in dataset(link):
        shown.save()
        shown.ground_truth.detections = [each.copy() for each in shown.ground_truth.detections]
    before = open_dataset(NAME).commit.number
    for shown in dataset(link):
        for field in ("ground_truth", "ground_truth_polylines", "ground_truth_keypoints"):
            shown[field] = shown[field]
        shown["why"] = "touched"
        shown.save()
    synced = link.poll()
    assert synced is not None
    assert synced.taken == {}
    assert open_dataset(NAME).commit.number == before
    assert dataset_path(NAME).is_dir()
    assert np.isfinite(sample(link, 2).ground_truth_keypoints.keypoints[0].points[0]).all()
