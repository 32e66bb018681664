"""From tasks to items: whose work holds, what is known by which id, and what changes when."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from curate.connectors.base import Item
from curate.connectors.label_studio.config import parse_config
from curate.connectors.label_studio.tasks import TaskReader, stamps_of, work_of
from curate.formats.losses import LossReport

CONFIG = parse_config(
    '<View><Image name="image" value="$image"/><RectangleLabels name="rectanglelabels" toName="image"><Label value="car"/>'
    '<Label value="dog"/></RectangleLabels><Choices name="fog" toName="image" perRegion="true"><Choice value="true"/>'
    '<Choice value="false"/></Choices></View>'
)
USERS = {1: "one@example.com", 2: "two@example.com"}


@pytest.fixture
def recorded() -> dict[str, Any]:
    """A task as release 1.23.2 gives it, with what the connector asks for."""
    content: dict[str, Any] = json.loads((Path(__file__).parent / "task.json").read_text())
    return content


def items(*tasks: dict[str, Any], work: bool = True, losses: LossReport | None = None) -> list[Item]:
    reader = TaskReader(CONFIG, USERS, losses or LossReport())
    return reader.items([reader.taken_apart(each, work=work) for each in tasks], work=work)


def labels(item: Item) -> list[tuple[str, str | None]]:
    return [(each.layer, each.row["label"]) for each in item.annotations or ()]


def test_a_task_as_the_server_gives_it(recorded: dict[str, Any]) -> None:
    (item,) = items(recorded)
    assert item.image_id == recorded["meta"]["curate"]["images"]["image"]["image_id"]
    assert labels(item) == [("ground_truth", "car"), ("predictions/m", "car")]
    first, prediction = item.annotations or ()
    assert first.remote_id == f"{recorded['annotations'][0]['id']}:{first.annotation_id}"
    assert prediction.remote_id.startswith("prediction-")
    assert prediction.row["score"] == 0.25
    said = json.dumps(item.metadata)
    assert "ago" not in said
    assert "updated_at" not in said
    assert "curate_" not in said
    assert item.metadata["label_studio"]["annotations"][0]["completed_by"]["id"] == 1
    (listed,) = items({key: value for key, value in recorded.items() if key != "annotations"}, work=False)
    assert (listed.version, listed.annotations) == (item.version, None)


def test_the_version_and_the_work_change_with_what_people_do(recorded: dict[str, Any]) -> None:
    def changed(**annotation: Any) -> dict[str, Any]:
        task = copy.deepcopy(recorded)
        task["annotations"][0] |= annotation
        return task

    assert work_of(changed(updated_at="2030-01-01T00:00:00Z")) != work_of(recorded)
    assert work_of({"annotations": []}) == work_of(changed(was_cancelled=True)) == ""
    number = str(recorded["annotations"][0]["id"])
    assert stamps_of(work_of(recorded)) == {number: recorded["annotations"][0]["updated_at"]}
    assert items({**recorded, "total_predictions": 2})[0].version != items(recorded)[0].version


def by(recorded: dict[str, Any], number: int, who: int, label: str, **changes: Any) -> dict[str, Any]:
    """The annotation of a task, saved by somebody with another label."""
    given = copy.deepcopy(recorded["annotations"][0])
    given["result"][0]["value"]["rectanglelabels"] = [label]
    return {**given, "id": number, "completed_by": who, "updated_by": who, **changes}


def test_the_first_work_holds_or_what_is_marked(recorded: dict[str, Any]) -> None:
    several = {"annotations": [by(recorded, 1, 1, "car"), by(recorded, 2, 2, "dog")], "predictions": []}
    losses = LossReport()
    (item,) = items({**recorded, **several}, losses=losses)
    assert labels(item) == [
        ("ground_truth", "car"),
        ("annotators/one@example.com", "car"),
        ("annotators/two@example.com", "dog"),
    ]
    assert [each.annotation_id is None for each in item.annotations or ()] == [False, True, True]
    assert [loss.what for loss in losses.losses] == ["images"]
    several["annotations"][1]["ground_truth"] = True
    (item,) = items({**recorded, **several})
    assert labels(item)[0] == ("ground_truth", "dog")
    skipped = by(recorded, 1, 1, "car", was_cancelled=True)
    several["annotations"] = [skipped, by(recorded, 2, 9, "dog"), by(recorded, 3, 9, "car")]
    (item,) = items({**recorded, **several})
    assert labels(item) == [("ground_truth", "dog"), ("annotators/user-9", "dog"), ("annotators/user-9/2", "car")]
    assert item.metadata["label_studio"]["skipped"] == [{"id": 1, "completed_by": {"id": 1, "email": USERS[1]}}]
    assert not item.unlabelled


def test_what_curate_has_put_there_is_nobodys_version(recorded: dict[str, Any]) -> None:
    own, theirs = recorded["annotations"][0], by(recorded, 99999, 2, "dog")
    recorded["predictions"] = []
    # Beside the one answer of a person, it is not a second annotator.
    assert labels(items({**recorded, "annotations": [own, theirs]})[0]) == [("ground_truth", "dog")]
    # Once somebody has saved it, it is: one that was made in one's own name, or that others have corrected.
    several = {"annotations": [{**own, "updated_at": "2030-01-01T00:00:00Z", "updated_by": 1}, theirs]}
    assert labels(items({**recorded, **several})[0]) == [
        ("ground_truth", "car"),
        ("annotators/one@example.com", "car"),
        ("annotators/two@example.com", "dog"),
    ]
    # Unless it was curate.
    recorded["meta"]["curate"]["written"] = {str(own["id"]): "2030-01-01T00:00:00Z"}
    assert labels(items({**recorded, **several})[0]) == [("ground_truth", "dog")]
    # What is marked holds; a person's version that does not is beside it all the same.
    several["annotations"][0]["ground_truth"] = True
    assert labels(items({**recorded, **several})[0]) == [("ground_truth", "car"), ("annotators/two@example.com", "dog")]
    # A region that somebody has drawn makes it theirs, and so does another tool's import.
    del own["result"][0]["meta"]
    assert ("annotators/one@example.com", "car") in labels(items({**recorded, "annotations": [own, theirs]})[0])


def test_a_task_that_lost_its_work_says_so(recorded: dict[str, Any]) -> None:
    own = recorded["annotations"][0]
    touched = {**recorded, "updated_at": "2030-01-01T00:00:00Z"}
    skipped = {**own, "was_cancelled": True}
    for task in ({**recorded, "annotations": [skipped]}, {**touched, "annotations": []}):
        (item,) = items(task)
        assert item.unlabelled
        assert item.work == ""
        assert [each for each in item.annotations or () if each.layer == "ground_truth"] == []
        assert item.metadata["label_studio"]["unlabelled"] is True
    # Neither does one that never had any, nor one where somebody has handed in that there is nothing.
    never, nothing = {**recorded, "annotations": []}, {**touched, "annotations": [{**own, "result": []}]}
    assert [item.unlabelled for item in items(recorded, never, nothing)] == [False, False, False]


def test_a_finding_shown_with_a_region_is_no_attribute(recorded: dict[str, Any]) -> None:
    region = recorded["annotations"][0]["result"][0]
    (before,) = items(recorded)
    region["meta"] |= {"text": ["probably dog"], "curate": {**region["meta"]["curate"], "note": "probably dog"}}
    assert items(recorded) == [before]
    # What an annotator has made of it is.
    region["meta"]["text"] = ["no, a cat"]
    attributes = (items(recorded)[0].annotations or ())[0].row["attributes"]
    assert attributes == {"meta": {"text": ["no, a cat"]}}


def test_a_copy_of_a_region_is_not_the_region(recorded: dict[str, Any]) -> None:
    """The editor keeps ``meta`` in a copy, and ids as well where an annotation begins with a prediction."""
    result = recorded["annotations"][0]["result"]
    result.append({**result[0], "id": "a1b2c3d4e5"})
    result += recorded["predictions"][0]["result"]
    (item,) = items(recorded)
    own = [each.annotation_id for each in item.annotations or () if each.layer == "ground_truth"]
    assert own[0] == result[0]["id"]
    assert own[1:] == [None, None]


def test_yes_and_no_are_that(recorded: dict[str, Any]) -> None:
    drawn = recorded["annotations"][0]["result"][0]
    value = {key: each for key, each in drawn["value"].items() if key != "rectanglelabels"}
    answer = {**drawn, "type": "choices", "from_name": "fog", "value": {**value, "choices": ["false"]}}
    recorded["annotations"][0]["result"].append(answer)
    assert (items(recorded)[0].annotations or ())[0].row["attributes"]["fog"] is False


def test_several_images_in_a_task_are_several_items(recorded: dict[str, Any]) -> None:
    result = recorded["annotations"][0]["result"]
    result.append({**result[0], "id": "other", "item_index": 1})
    result[0]["item_index"] = 0
    task = {**recorded, "data": {"image": ["/data/upload/1/a.png", "/data/upload/1/b.png"]}, "meta": {}}
    first, second = items(task)
    assert [first.remote_id, second.remote_id] == [f"{task['id']}/image.0", f"{task['id']}/image.1"]
    assert [len(each.annotations or ()) for each in (first, second)] == [2, 1]
    assert second.metadata["label_studio"]["image"] == ["image", 1]
    assert first.group == second.group


def test_what_has_no_image_or_is_not_handed_in_is_told(recorded: dict[str, Any]) -> None:
    losses = LossReport()
    assert items({**recorded, "data": {"text": "no image"}}, losses=losses) == []
    items({**recorded, "drafts": [{"id": 1}]}, losses=losses)
    assert {(loss.what, loss.count) for loss in losses.losses} == {("tasks", 1), ("drafts", 1)}
